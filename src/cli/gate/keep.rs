//! Runs whose ledger is kept with the tested version in the model registry (`gate run --keep`). The kept ledger counts, and
//! not the file beside the suite, so a pipeline that starts the run anew gets the answers of the first one.

use std::path::Path;

use anyhow::{Context, bail};
use bellwether_gate::report::{GateReport, GateSubject};
use bellwether_registry::{Manifest, Registry};
use bellwether_tools::gate::load::LoadedSuite;
use bellwether_tools::gate::run::{RunOptions, run};

use crate::cli::Common;
use crate::config;

/// Continues the run from its kept ledger, and keeps the ledger again, also if the run fails.
pub(super) async fn run_kept(
    loaded: &mut LoadedSuite,
    options: &mut RunOptions<'_>,
    common: &Common,
) -> anyhow::Result<GateReport> {
    let config = config::load(&common.sources()).map_err(|report| anyhow::anyhow!("{report}"))?;
    let registry = Registry::open(&config.registry)?;
    let manifest = tested(&registry, &options.subject).await?;
    loaded.identify_by_version();
    let (name, default) = loaded.ledger_of(&options.subject);
    let path = options.ledger.get_or_insert(default).clone();
    let kept = registry.kept_ledger(&manifest, &name).await?;
    let before = kept.as_ref().map(|kept| kept.content.to_vec()).unwrap_or_default();
    take(&path, &before)?;
    let result = run(loaded, options).await;
    let after = std::fs::read(&path).unwrap_or_default();
    if after != before {
        registry.keep_ledger(&manifest, &name, kept.map_or(0, |kept| kept.number), after).await?;
    }
    Ok(result?)
}

/// Returns the manifest of the tested version.
async fn tested(registry: &Registry, subject: &GateSubject) -> anyhow::Result<Manifest> {
    if subject.version.is_empty() {
        bail!("a ledger is kept with a version; name it with --subject MODEL@VERSION");
    }
    let manifest = registry.manifest(&subject.model.parse()?, &subject.version.parse()?).await?;
    let checksum = manifest.checksum.to_string();
    if !subject.digest.is_empty() && subject.digest != checksum {
        bail!("--digest is {}, and {} {} has {checksum}", subject.digest, subject.model, subject.version);
    }
    Ok(manifest)
}

/// Replaces the file by the kept ledger, unless the file continues it.
fn take(path: &Path, kept: &[u8]) -> anyhow::Result<()> {
    if std::fs::read(path).is_ok_and(|found| found.starts_with(kept)) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("can't create {}", parent.display()))?;
    }
    std::fs::write(path, kept).with_context(|| format!("can't write {}", path.display()))
}
