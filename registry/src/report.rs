//! Gate reports: a suite's result for a version, attached to the version permanently under the digest of the report's
//! bytes.
//!
//! A report opens a gate only if its subject's digest is that of this version's files and its result is `pass`. If the version
//! is brought together with images, a prompt and tools, the report must be about the same combination ([`Brought`]). If a suite
//! was run several times on it, the last run counts, so that a failure can't be hidden behind an older success. The registry
//! may limit the age of a report, and name the test that must have been run by its pin. A report may be
//! attested, which is a signed envelope around it; with a key for reports (`registry.report-key`) only those count that it has
//! signed.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::attest;
use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::keys;
use crate::manifest::Manifest;
use crate::name::{ModelName, SuiteName, Version};
use crate::registry::Registry;
use crate::store::MAX_OBJECT_SIZE;

/// The schema of reports that this program reads.
const SCHEMA: &str = "bellwether.dev/gate-report/v1";

/// The fields of a report that the registry reads. The others are ignored here, and stored.
#[derive(Debug, Clone, Deserialize)]
struct ReportFields {
    schema: String,
    suite: SuiteName,
    verdict: ReportResult,
    subject: Subject,
    finished: Timestamp,
    #[serde(default)]
    pin: String,
}

/// The version that a report is about.
#[derive(Debug, Clone, Deserialize)]
struct Subject {
    model: ModelName,
    version: Version,
    digest: Digest,
    #[serde(flatten)]
    with: Brought,
}

/// The parts that were tested together with a version, or that a promotion brings with it. In a report's subject they are
/// beside the model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Brought {
    /// References of the images, by digest if possible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Digest of the prompt, `sha256:…`; empty if it is part of the images.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// Digest of the definitions of the tools, `sha256:…`; empty if they are part of the images.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tools: String,
}

impl Brought {
    /// Returns the first difference between these tested parts and those that are brought, as a clause; `None` if all of the
    /// brought images were tested with the brought prompt and tools.
    fn difference(&self, brought: &Brought) -> Option<String> {
        let is_tested = |image: &&String| self.images.iter().any(|tested| is_same_image(tested, image));
        if let Some(image) = brought.images.iter().find(|image| !is_tested(image)) {
            return Some(format!("it did not test {image}"));
        }
        let parts = [("prompt", &self.prompt, &brought.prompt), ("tools", &self.tools, &brought.tools)];
        parts.into_iter().find(|(_, tested, brought)| tested != brought).map(|(part, tested, brought)| {
            let named =
                |digest: &str| if digest.is_empty() { format!("no {part}") } else { format!("{part} {digest}") };
            format!("it names {}, and the promotion {}", named(tested), named(brought))
        })
    }
}

/// Returns whether two image references are equal or have the same digest. Beside a digest, a tag has no meaning.
fn is_same_image(one: &str, other: &str) -> bool {
    let digest = |image: &str| image.rsplit_once('@').map(|(_, digest)| digest.to_owned());
    one == other || digest(one).is_some_and(|one| digest(other) == Some(one))
}

/// The result of a suite, as the field `verdict` of its report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportResult {
    /// The suite's rules hold.
    Pass,
    /// At least one rule is shown not to hold.
    Fail,
    /// There is too little evidence to decide.
    Inconclusive,
    /// The suite could not be run.
    Error,
    /// The suite was not run.
    Skipped,
}

impl fmt::Display for ReportResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReportResult::Pass => "pass",
            ReportResult::Fail => "fail",
            ReportResult::Inconclusive => "inconclusive",
            ReportResult::Error => "error",
            ReportResult::Skipped => "skipped",
        })
    }
}

/// A report that is attached to a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttachedReport {
    /// Name of the suite that was run.
    pub suite: SuiteName,
    /// Result of the run.
    pub verdict: ReportResult,
    /// Time at which the run ended.
    pub finished: Timestamp,
    /// The parts that were tested with the version.
    pub with: Brought,
    /// Pin of the test that was run: its suite, error rates and cases; empty if the report names none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pin: String,
    /// Digest of the report's own bytes.
    pub digest: Digest,
    /// Whether the registry's key for reports has signed it; false without such a key.
    pub signed: bool,
}

impl Registry {
    /// Attaches a report, given as its bytes, to the version that it is about. Attaching it again changes nothing.
    ///
    /// # Errors
    /// The bytes are no gate report or too many, the report is about other files, or the store fails.
    pub async fn attach(&self, manifest: &Manifest, report: Vec<u8>) -> Result<AttachedReport> {
        let refused = |reason: String| RegistryError::Report {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            reason,
        };
        if report.len() > MAX_OBJECT_SIZE {
            return Err(refused(format!("it has {} bytes, and {MAX_OBJECT_SIZE} are allowed", report.len())));
        }
        let attached = self.read_report(manifest, &report).map_err(refused)?;
        if self.report_key.is_some() && !attached.signed {
            let reason = "it is not signed with the registry's key for reports (registry.report-key); sign it with `bellwether gate attest`";
            return Err(refused(reason.to_owned()));
        }
        let key = keys::report(&manifest.name, &manifest.version, &attached.suite, &attached.digest);
        // An existing object is as good as a new one: the key contains the digest of the content.
        self.store.create(&key, report).await?;
        Ok(attached)
    }

    /// Lists the reports that are attached to a version, the last run first.
    ///
    /// # Errors
    /// A report is damaged, or the store fails.
    pub async fn reports(&self, manifest: &Manifest) -> Result<Vec<AttachedReport>> {
        let mut reports = Vec::new();
        for object in self.store.list(&keys::reports(&manifest.name, &manifest.version)).await? {
            let key = object.location;
            let (Some(named), Some(bytes)) = (keys::digest_of(&key), self.store.read(&key).await?) else { continue };
            if Digest::of(&bytes) != named {
                return Err(RegistryError::damaged(&key, "its bytes do not have the digest in its name"));
            }
            reports.push(self.read_report(manifest, &bytes).map_err(|reason| RegistryError::damaged(&key, reason))?);
        }
        reports.sort_by_key(|report| (std::cmp::Reverse(report.finished), report.digest));
        Ok(reports)
    }

    /// Returns the bytes of an attached report, by their digest.
    ///
    /// # Errors
    /// No report with this digest is attached, one of the version's reports is damaged, or the store fails.
    pub async fn report(&self, manifest: &Manifest, digest: &Digest) -> Result<Bytes> {
        for report in self.reports(manifest).await?.iter().filter(|report| report.digest == *digest) {
            let key = keys::report(&manifest.name, &manifest.version, &report.suite, digest);
            if let Some(bytes) = self.store.read(&key).await? {
                return Ok(bytes);
            }
        }
        let thing = format!("report {digest} of {} {}", manifest.name, manifest.version);
        Err(RegistryError::Absent { thing, hint: "; attach it with `bellwether model attach`".to_owned() })
    }

    /// Returns the last report of each of these suites if all of them have passed. With `brought`, only the reports on this
    /// combination count; with `at`, the last one must not be too old at that time. `environment` is named in the error.
    ///
    /// # Errors
    /// A suite has no report that counts, or the last one is not a pass or too old; all such reasons are given. A report is
    /// damaged, or the store fails.
    pub(crate) async fn check_suites(
        &self,
        manifest: &Manifest,
        suites: &[SuiteName],
        (brought, at): (Option<&Brought>, Option<Timestamp>),
        environment: &str,
    ) -> Result<Vec<AttachedReport>> {
        let reports = if suites.is_empty() { Vec::new() } else { self.reports(manifest).await? };
        let (mut passed, mut reasons) = (Vec::new(), Vec::new());
        let difference = |report: &AttachedReport| brought.and_then(|brought| report.with.difference(brought));
        let too_old = |report: &AttachedReport| {
            self.max_age.as_ref().zip(at).filter(|(allowed, at)| allowed.is_exceeded(report.finished, *at))
        };
        for suite in suites {
            let is_of_suite =
                |report: &&AttachedReport| report.suite == *suite && (report.signed || self.report_key.is_none());
            let pin = self.pins.get(suite);
            let of_suite = || reports.iter().filter(is_of_suite);
            let of_test = || of_suite().filter(|report| pin.is_none_or(|pin| *pin == report.pin));
            match of_test().find(|report| difference(report).is_none()) {
                Some(report) if report.verdict != ReportResult::Pass => {
                    reasons.push(format!("the last {suite} report, of {}, says {}", report.finished, report.verdict));
                }
                Some(report) => match too_old(report) {
                    None => passed.push(report.clone()),
                    Some((allowed, _)) => reasons.push(format!(
                        "the last {suite} report, of {}, is older than {allowed} (registry.require-max-age); run the suite again",
                        report.finished
                    )),
                },
                None => reasons.push(match (of_test().next(), of_suite().next(), pin) {
                    (Some(last), ..) => format!(
                        "it has no {suite} report on this combination; of the last one, of {}: {}; run the suite on what is deployed",
                        last.finished,
                        difference(last).unwrap_or_default()
                    ),
                    (None, Some(last), Some(pin)) => format!(
                        "it has no {suite} report of the test {pin} (registry.require-pins); the last one, of {}, is of {}",
                        last.finished,
                        if last.pin.is_empty() { "no pinned test".to_owned() } else { format!("the test {}", last.pin) }
                    ),
                    (None, ..) => format!("it has no {suite} report; attach one with `bellwether model attach`"),
                }),
            }
        }
        if reasons.is_empty() {
            return Ok(passed);
        }
        let (name, version) = (manifest.name.clone(), manifest.version.clone());
        Err(RegistryError::Refused { name, version, environment: environment.to_owned(), reasons })
    }
}

impl Registry {
    /// Parses a report, attested or not, and checks that it is about this version's files.
    fn read_report(&self, manifest: &Manifest, bytes: &[u8]) -> Result<AttachedReport, String> {
        if !attest::is_envelope(bytes) {
            return read(manifest, bytes, bytes);
        }
        let signed = self.report_key.as_ref().and_then(|key| attest::attested_report(bytes, Some(key)).ok());
        match signed {
            Some(report) => Ok(AttachedReport { signed: true, ..read(manifest, &report, bytes)? }),
            None => read(manifest, &attest::attested_report(bytes, None)?, bytes),
        }
    }
}

/// Parses a report, and checks that it is about this version's files. `stored` are the bytes that are stored.
fn read(manifest: &Manifest, report: &[u8], stored: &[u8]) -> Result<AttachedReport, String> {
    let fields: ReportFields =
        serde_json::from_slice(report).map_err(|error| format!("it is no gate report: {error}"))?;
    if fields.schema != SCHEMA {
        return Err(format!("its schema is {:?} and should be {SCHEMA:?}", fields.schema));
    }
    let Subject { model, version, digest, with } = fields.subject;
    if (&model, &version) != (&manifest.name, &manifest.version) {
        return Err(format!("it is about {model} {version}"));
    }
    if digest != manifest.checksum {
        return Err(format!(
            "it is about files with {digest}, and this version has {}; run the suite on the registered files",
            manifest.checksum
        ));
    }
    let ReportFields { suite, verdict, finished, pin, .. } = fields;
    Ok(AttachedReport { suite, verdict, finished, with, pin, digest: Digest::of(stored), signed: false })
}
