//! `model export` and `model bom`: a version for other programs, as plain files in a bucket or as a bill of materials.

use anyhow::bail;
use bellwether_registry::export::ExportTarget;
use bellwether_registry::{Options, Registry, VersionReference};
use clap::Args;
use serde_json::json;

use super::args::VersionArgs;
use super::display::{show, size};
use crate::cli::table::counted;
use crate::cli::{Output, print};
use crate::exit;

/// The arguments of `model export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    model: VersionArgs,
    /// Bucket and empty prefix for the files, as in s3://served/chat/1.4.0. Endpoint, region and credentials are those of the
    /// registry.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Export a yanked version, which is named by its number.
    #[arg(long)]
    yanked: bool,
}

pub(super) async fn export(
    args: &ExportArgs,
    options: &Options,
    registry: &Registry,
    output: Output,
) -> anyhow::Result<u8> {
    check_yanked(args.yanked, &args.model.version)?;
    let version = registry.resolve(&args.model.name, &args.model.version).await?;
    let manifest = registry.manifest(&args.model.name, &version).await?;
    let target = ExportTarget::open(&Options { url: args.to.clone(), ..options.clone() })?;
    let files = Box::pin(registry.export(&manifest, &target, args.yanked)).await?;
    show(output, &json!({ "manifest": manifest, "url": args.to, "files": files }), |_| {
        let (name, count) = (&manifest.name, counted(files.len(), "file", "files"));
        format!("{name} {version} is at {}: {count}, {}, verified\n", args.to, size(manifest.size))
    })?;
    Ok(exit::OK)
}

/// Refuses `--yanked` with a pointer: a pointer never gives out a yanked version.
pub(super) fn check_yanked(yanked: bool, reference: &VersionReference) -> anyhow::Result<()> {
    if yanked && !matches!(reference, VersionReference::Version(_)) {
        bail!("--yanked needs the version's number, as in 1.4.0; a pointer gives out no yanked version");
    }
    Ok(())
}

/// The arguments of `model bom`.
#[derive(Debug, Args)]
pub(super) struct BomArgs {
    #[command(flatten)]
    model: VersionArgs,
}

pub(super) async fn bom(args: &BomArgs, registry: &Registry) -> anyhow::Result<u8> {
    let version = registry.resolve(&args.model.name, &args.model.version).await?;
    let manifest = registry.manifest(&args.model.name, &version).await?;
    print(&format!("{:#}\n", manifest.bom()));
    Ok(exit::OK)
}
