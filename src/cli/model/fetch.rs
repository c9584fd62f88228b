//! `model get` and `model verify`: the download of a version, and the comparison of its files with their digests.

use std::path::PathBuf;

use bellwether_core::time::Span;
use bellwether_registry::fetch::{FetchOptions, Fetched};
use bellwether_registry::manifest::FilePath;
use bellwether_registry::report::AttachedReport;
use bellwether_registry::{Environment, InvalidValue, Manifest, Registry, VerifyingKey, VersionReference};
use clap::Args;
use serde::Serialize;

use super::args::VersionArgs;
use super::display::{describe, show, size};
use super::export::check_yanked;
use crate::cli::Output;
use crate::cli::table::{colours, paint};
use crate::exit;

/// The arguments of `model get`.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    model: VersionArgs,
    /// Get the version that is current in this environment.
    #[arg(long, value_name = "ENVIRONMENT", conflicts_with = "model-version")]
    current: Option<Environment>,
    /// Directory for the files; without it, models/NAME/VERSION.
    #[arg(long, value_name = "DIRECTORY")]
    to: Option<PathBuf>,
    /// Remove the version that is in the directory, and replace different files under the same paths. Files that no
    /// download put there are never removed.
    #[arg(long)]
    replace: bool,
    /// Get only this file; may be repeated.
    #[arg(long, value_name = "PATH", value_parser = file_path)]
    file: Vec<FilePath>,
    /// Get a yanked version, which is named by its number.
    #[arg(long)]
    yanked: bool,
    /// Maximum time to wait for another download into the directory.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    wait: Span,
    /// Print the manifest only; download nothing.
    #[arg(long, conflicts_with_all = ["to", "replace", "file", "yanked"])]
    manifest: bool,
}

fn file_path(text: &str) -> Result<FilePath, InvalidValue> {
    FilePath::try_from(text.to_owned())
}

/// The output of `model get`.
#[derive(Debug, Serialize)]
struct Download {
    manifest: Manifest,
    directory: PathBuf,
    files: Vec<DownloadedFile>,
}

#[derive(Debug, Serialize)]
struct DownloadedFile {
    path: String,
    /// Size in bytes.
    size: u64,
    /// Whether the file was there already.
    kept: bool,
    /// First byte that was downloaded; 0 if the file was there already.
    from: u64,
}

pub(super) async fn get(args: &GetArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let reference = args.current.clone().map_or_else(|| args.model.version.clone(), VersionReference::Current);
    check_yanked(args.yanked, &reference)?;
    let version = registry.resolve(&args.model.name, &reference).await?;
    let manifest = registry.manifest(&args.model.name, &version).await?;
    if args.manifest {
        show(output, &manifest, describe)?;
        return Ok(exit::OK);
    }
    let default = || PathBuf::from("models").join(manifest.name.to_string()).join(version.to_string());
    let directory = args.to.clone().unwrap_or_else(default);
    let (wait, files) = (args.wait.to_std(), args.file.clone());
    let options = FetchOptions { replace: args.replace, wait, files, yanked: args.yanked };
    let fetched = registry.fetch(&manifest, &directory, &options).await?;
    let selected = manifest.files.iter().filter(|file| options.selects(file));
    let files = selected.zip(fetched).map(|(file, fetched)| {
        let (kept, from) = match fetched {
            Fetched::Kept => (true, 0),
            Fetched::DownloadedFrom(from) => (false, from),
        };
        DownloadedFile { path: file.path.as_str().to_owned(), size: file.size, kept, from }
    });
    let files = files.collect();
    show(output, &Download { manifest, directory, files }, |download| {
        let lines = download.files.iter().map(|downloaded| {
            let how = match (downloaded.kept, downloaded.from) {
                (true, _) => "existed".to_owned(),
                (false, 0) => "downloaded".to_owned(),
                (false, from) => format!("downloaded from byte {from}"),
            };
            format!("{} ({}): {how}, verified\n", downloaded.path, size(downloaded.size))
        });
        let (manifest, directory) = (&download.manifest, download.directory.display());
        let head = format!("{} {} is in {directory}\n", manifest.name, manifest.version);
        head + &lines.collect::<String>()
    })?;
    Ok(exit::OK)
}

/// The arguments of `model verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    model: VersionArgs,
    /// Also verify model.sig with this public key (PEM, ECDSA P-256).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// The output of `model verify`.
#[derive(Debug, Serialize)]
struct Verified {
    manifest: Manifest,
    /// Whether the signature was verified; false if no key was given.
    signed: bool,
    /// Files that differ from the registered ones.
    bad: Vec<FileProblem>,
    reports: Vec<AttachedReport>,
}

#[derive(Debug, Serialize)]
struct FileProblem {
    path: String,
    error: String,
}

pub(super) async fn verify(args: &VerifyArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let version = registry.resolve(&args.model.name, &args.model.version).await?;
    let manifest = registry.manifest(&args.model.name, &version).await?;
    registry.check_given_out(&manifest.name, &version, true).await?;
    if let Some(key) = &args.key {
        registry.verify_signature(&manifest, &VerifyingKey::read(key)?).await?;
    }
    let bad = registry.verify(&manifest).await?;
    let bad: Vec<FileProblem> =
        bad.into_iter().map(|bad| FileProblem { path: bad.path, error: bad.error.to_string() }).collect();
    let reports = registry.reports(&manifest).await?;
    let code = if bad.is_empty() { exit::OK } else { exit::ERROR };
    let signed = args.key.is_some();
    show(output, &Verified { manifest, signed, bad, reports }, |found| {
        let colours = colours();
        let files =
            found.manifest.files.iter().map(|file| match found.bad.iter().find(|bad| bad.path == file.path.as_str()) {
                Some(bad) => format!("{} {}\n", paint("regressed", "✖", colours), bad.error),
                None => format!("{} {} {}\n", paint("pass", "✔", colours), file.path.as_str(), file.checksum),
            });
        let reports =
            found.reports.iter().map(|report| format!("  {}: {}, {}\n", report.suite, report.verdict, report.finished));
        let signed = if found.signed { ", signed" } else { "" };
        format!("{} {}{signed}\n", found.manifest.name, found.manifest.version)
            + &files.chain(reports).collect::<String>()
    })?;
    Ok(code)
}
