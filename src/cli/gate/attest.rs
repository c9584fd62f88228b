//! `gate attest` and `gate verify`: reports that are signed, and the checks of such a report.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use bellwether_core::time::{Span, Timestamp};
use bellwether_gate::report::GateReport;
use bellwether_registry::attest::{attest, attested_report, is_envelope};
use bellwether_registry::{SigningKey, VerifyingKey};
use clap::Args;

use crate::cli::{print, tell};
use crate::exit;

#[derive(Debug, Args)]
pub(super) struct AttestArgs {
    /// The JSON file that `--report` wrote
    report: PathBuf,
    /// The private key: ECDSA on P-256, in PKCS #8 as PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The file for the attestation (default: printed)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The file that `gate attest` wrote
    attestation: PathBuf,
    /// The public key (PEM, ECDSA P-256) that must have signed it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The version that must have been tested, as in support-agent@1.8.0
    #[arg(long, value_name = "MODEL@VERSION")]
    subject: Option<String>,
    /// An image that must have been tested; may be repeated
    #[arg(long = "image", value_name = "REF")]
    images: Vec<String>,
    /// The test that must have been run: the pin that `gate check` prints
    #[arg(long, value_name = "SHA256")]
    pin: Option<String>,
    /// The longest time since the end of the run, as in 30d
    #[arg(long, value_name = "SPAN")]
    max_age: Option<Span>,
}

/// Writes the attestation of a report.
pub(super) fn write(args: &AttestArgs) -> anyhow::Result<u8> {
    let report = read(&args.report)?;
    let text = std::str::from_utf8(&report).context("the report is not text")?;
    GateReport::parse(text).with_context(|| args.report.display().to_string())?;
    let key = SigningKey::read(&args.key)?;
    let attestation = attest(&report, &key).map_err(|reason| anyhow!("{}: {reason}", args.report.display()))?;
    match &args.out {
        Some(path) => std::fs::write(path, attestation).with_context(|| format!("can't write {}", path.display()))?,
        None => print(&attestation),
    }
    Ok(exit::OK)
}

/// Verifies an attestation and prints its report.
///
/// # Errors
/// The key has not signed it, or it is about something else or too old.
pub(super) fn verify(args: &VerifyArgs, now: Timestamp) -> anyhow::Result<GateReport> {
    let key = VerifyingKey::read(&args.key)?;
    let refused = |reason: String| anyhow!("{}: {reason}", args.attestation.display());
    let report = attested_report(&read(&args.attestation)?, Some(&key)).map_err(refused)?;
    let report = parse(&report)?;
    let subject = &report.subject;
    let tested = format!("{}@{}", subject.model, subject.version);
    if let Some(asked) = args.subject.as_ref().filter(|asked| **asked != tested) {
        bail!("the report is about {tested}, and not about {asked}");
    }
    if let Some(image) = args.images.iter().find(|image| !subject.images.contains(image)) {
        bail!("the report did not test {image}, but {}", subject.images.join(", "));
    }
    if let Some(pin) = args.pin.as_ref().filter(|pin| **pin != report.pin) {
        bail!("the report is of the test {}, and not of {pin}; see `gate check`", report.pin);
    }
    if let Some(allowed) = args.max_age.filter(|allowed| Span::between(report.finished, now) > *allowed) {
        bail!("the run ended at {}, which is longer ago than {allowed}; run the suite again", report.finished);
    }
    tell("the signature is valid\n");
    Ok(report)
}

/// Reads a report, attested or not. A signature is not verified.
pub(super) fn read_report(path: &Path) -> anyhow::Result<GateReport> {
    let bytes = read(path)?;
    if is_envelope(&bytes) {
        let report = attested_report(&bytes, None).map_err(|reason| anyhow!("{}: {reason}", path.display()))?;
        return parse(&report).with_context(|| path.display().to_string());
    }
    parse(&bytes).with_context(|| path.display().to_string())
}

fn parse(report: &[u8]) -> anyhow::Result<GateReport> {
    Ok(GateReport::parse(std::str::from_utf8(report).context("the report is not text")?)?)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("can't read {}", path.display()))
}
