//! `model get` and `model verify`.

use std::path::PathBuf;

use bellwether_registry::fetch::Fetched;
use bellwether_registry::report::Attached;
use bellwether_registry::signature::Key;
use bellwether_registry::{Environment, Manifest, Reference, Registry};
use clap::Args;
use serde::Serialize;

use super::words::{card, size};
use super::{Which, show};
use crate::cli::Output;
use crate::cli::table::{colours, paint};
use crate::exit;

/// What `model get` takes.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    which: Which,
    /// The version that is current there.
    #[arg(long, value_name = "ENVIRONMENT", conflicts_with = "version")]
    current: Option<Environment>,
    /// Where its files go; without it to models/NAME/VERSION.
    #[arg(long, value_name = "DIRECTORY")]
    to: Option<PathBuf>,
    /// Replace other files that are in their places.
    #[arg(long)]
    replace: bool,
    /// Only say what is known of it.
    #[arg(long, conflicts_with_all = ["to", "replace"])]
    manifest: bool,
}

#[derive(Debug, Serialize)]
struct Got {
    manifest: Manifest,
    directory: PathBuf,
    files: Vec<GotFile>,
}

#[derive(Debug, Serialize)]
struct GotFile {
    path: String,
    /// It was there already.
    kept: bool,
    /// The byte from which on it was downloaded.
    from: u64,
}

pub(super) async fn get(args: &GetArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let reference = args.current.clone().map_or_else(|| args.which.version.clone(), Reference::Current);
    let version = registry.resolve(&args.which.name, &reference).await?;
    let manifest = registry.manifest(&args.which.name, &version).await?;
    if args.manifest {
        show(output, &manifest, card)?;
        return Ok(exit::OK);
    }
    let usual = || PathBuf::from("models").join(manifest.name.to_string()).join(version.to_string());
    let directory = args.to.clone().unwrap_or_else(usual);
    let fetched = registry.fetch(&manifest, &directory, args.replace).await?;
    let files = manifest.files.iter().zip(fetched).map(|(file, fetched)| {
        let (kept, from) = match fetched {
            Fetched::Kept => (true, 0),
            Fetched::From(from) => (false, from),
        };
        GotFile { path: file.path.as_str().to_owned(), kept, from }
    });
    let files = files.collect();
    show(output, &Got { manifest, directory, files }, |got| {
        let lines = got.files.iter().zip(&got.manifest.files).map(|(got, file)| {
            let how = match (got.kept, got.from) {
                (true, _) => "was there".to_owned(),
                (false, 0) => "downloaded".to_owned(),
                (false, from) => format!("downloaded from byte {from} on"),
            };
            format!("{} ({}): {how}, verified\n", got.path, size(file.size))
        });
        let head = format!("{} {} is in {}\n", got.manifest.name, got.manifest.version, got.directory.display());
        head + &lines.collect::<String>()
    })?;
    Ok(exit::OK)
}

/// What `model verify` takes.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    which: Which,
    /// Its model.sig must be made with this public key (PEM, ECDSA P-256).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Verified {
    manifest: Manifest,
    /// Whether it was asked for, and holds.
    signed: bool,
    bad: Vec<Problem>,
    reports: Vec<Attached>,
}

#[derive(Debug, Serialize)]
struct Problem {
    path: String,
    error: String,
}

pub(super) async fn verify(args: &VerifyArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let version = registry.resolve(&args.which.name, &args.which.version).await?;
    let manifest = registry.manifest(&args.which.name, &version).await?;
    if let Some(key) = &args.key {
        registry.verify_signature(&manifest, &Key::read(key)?).await?;
    }
    let bad = registry.verify(&manifest).await?;
    let bad: Vec<Problem> =
        bad.into_iter().map(|bad| Problem { path: bad.path, error: bad.error.to_string() }).collect();
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
