//! The image that `deploy/image.sh` makes: its configuration, and the program in its root file system under the restricted
//! profile's terms: an unprivileged user, no capability, no file that it may change but those of its volumes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::lint::{program, root, stripped_program, succeeds, trial};

/// The user of the image.
const USER: &str = "65532";
/// The longest compressed image, in bytes.
const MOST_BYTES: u64 = 40_000_000;

/// Returns the trials. They need umoci, and not the plane.
pub fn trials() -> Vec<Trial> {
    vec![trial("image::the_program_runs_from_the_image_as_its_user", runs_from_the_image)]
}

fn runs_from_the_image() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let layout = made(folder.path())?;
    let size: u64 = blobs(&layout)?.iter().map(|blob| Ok(fs::metadata(blob)?.len())).sum::<Result<u64>>()?;
    ensure!(size <= MOST_BYTES, "the image has {size} bytes");
    println!("image: {} MB compressed", size / 1_000_000);

    let bundle = unpacked(&layout, folder.path())?;
    let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
    let process = &config["process"];
    ensure!(process["args"] == serde_json::json!(["/usr/local/bin/bellwether", "run"]), "{process}");
    let files = bundle.join("rootfs");
    ensure!(!files.join("bin").exists() && !files.join("usr/bin").exists(), "the image has a shell's folder");

    set_writable(&files, false)?;
    let version = in_image(&files, &["--version"])?;
    ensure!(version == format!("bellwether {}\n", env!("CARGO_PKG_VERSION")), "{version}");
    let settings = in_image(&files, &["config", "show", "--set", "cluster=test"])?;
    ensure!(settings.contains("cluster"), "{settings}");
    // The real engine, daemon and journal, with a journal file in /tmp.
    let demo = in_image(&files, &["demo"])?;
    ensure!(demo.contains("a good version is promoted"), "{demo}");
    set_writable(&files, true)
}

/// Makes the image, and unpacks it. Returns its root file system.
///
/// # Errors
/// It can't be made.
pub fn root_file_system(folder: &Path) -> Result<PathBuf> {
    Ok(unpacked(&made(folder)?, folder)?.join("rootfs"))
}

/// Forbids changes of a root file system, as in the chart, or permits them again for the removal.
///
/// # Errors
/// The permissions can't be changed.
pub fn set_writable(files: &Path, writable: bool) -> Result<()> {
    let mode = if writable { "u+w" } else { "a-w" };
    succeeds(Command::new("chmod").args(["-R", mode]).args(["etc", "usr"].map(|name| files.join(name))))
}

/// Returns the words that run the program in a root file system as the image's user, without capabilities.
pub fn words(files: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["setpriv", "--no-new-privs", "unshare", "--user"].map(OsString::from).into();
    words.push(format!("--map-user={USER}").into());
    words.push(format!("--map-group={USER}").into());
    words.push(format!("--root={}", files.display()).into());
    words.extend(["--wd=/", "/usr/local/bin/bellwether"].map(OsString::from));
    words
}

/// Unpacks an image as a bundle for a container runtime.
fn unpacked(layout: &Path, folder: &Path) -> Result<PathBuf> {
    let bundle = folder.join("bundle");
    let mut unpack = Command::new(program("umoci")?);
    // The test's namespace may map one user alone.
    unpack.args(["unpack", "--rootless", "--image"]).arg(format!("{}:test", layout.display())).arg(&bundle);
    succeeds(&mut unpack)?;
    Ok(bundle)
}

/// Makes the image of the tests' program without its debug information, and returns the folder of its layout.
fn made(folder: &Path) -> Result<PathBuf> {
    let layout = folder.join("layout");
    let tools = program("umoci")?;
    let tools = tools.parent().context("umoci is in no folder")?;
    let path = format!("{}:{}", tools.display(), std::env::var("PATH")?);
    let mut make = Command::new(root().join("deploy/image.sh"));
    make.arg("oci").arg(stripped_program(folder)?).arg(format!("{}:test", layout.display())).env("PATH", path);
    succeeds(&mut make)?;
    Ok(layout)
}

/// The files of a layout that an image consists of.
fn blobs(layout: &Path) -> Result<Vec<PathBuf>> {
    let blobs = fs::read_dir(layout.join("blobs/sha256"))?;
    Ok(blobs.map(|blob| blob.map(|blob| blob.path())).collect::<std::io::Result<_>>()?)
}

/// Runs the program in the image's root file system as its user, without capabilities. Returns its standard output.
fn in_image(files: &Path, arguments: &[&str]) -> Result<String> {
    let words = words(files);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(arguments);
    let output = command.env_clear().output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {}: {errors}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
