//! The Debian package that `deploy/deb.sh` makes: its files, its configuration and the systemd unit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;

use crate::lint::{root, stripped_program, succeeds, trial};

/// The largest exposure of the unit in tenths, as `systemd-analyze security` counts it: 0 is the least, 100 the most.
const MOST_EXPOSED: &str = "20";

/// Returns the trials. They need dpkg-deb and systemd-analyze, and not the plane.
pub fn trials() -> Vec<Trial> {
    vec![trial("package::the_debian_package_has_a_program_a_sandboxed_unit_and_a_valid_configuration", debian)]
}

fn debian() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let package = made(folder.path())?;
    let files = folder.path().join("root");
    succeeds(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&files))?;
    for file in [
        "usr/share/man/man1/bellwether.1.gz",
        "usr/share/man/man1/bellwether-emit.1.gz",
        "usr/share/bash-completion/completions/bellwether",
        "usr/share/doc/bellwether/copyright",
    ] {
        ensure!(files.join(file).is_file(), "{file} is missing");
    }
    let program = files.join("usr/bin/kubectl-bellwether");
    // Without the variables of the tests, which the program would read as settings.
    succeeds(Command::new(&program).args(["check", "--config"]).arg(files.join("etc/bellwether")).env_clear())?;
    sandboxed(&files)
}

/// Checks the unit as it is installed: that systemd knows each line, and that little is left for the daemon to do harm with.
fn sandboxed(files: &Path) -> Result<()> {
    let unit = files.join("usr/lib/systemd/system/bellwether.service");
    // The program lies in the package's folder, and not where the unit expects it.
    let text = fs::read_to_string(&unit)?;
    fs::write(&unit, text.replace("ExecStart=/usr/bin/", &format!("ExecStart={}/usr/bin/", files.display())))?;
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&unit);
    let output = verify.output()?;
    let problems = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && problems.is_empty(), "{problems}");
    let mut security = Command::new("systemd-analyze");
    succeeds(security.args(["security", "--offline=true", "--threshold", MOST_EXPOSED]).arg(&unit))
}

/// Makes the package of the tests' program without its debug information, and returns its path.
fn made(folder: &Path) -> Result<PathBuf> {
    let output = Command::new(root().join("deploy/deb.sh")).arg(stripped_program(folder)?).arg(folder).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}
