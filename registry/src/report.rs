//! Gate reports: a suite's result for a version, attached to the version permanently under the digest of the report's
//! bytes.
//!
//! A report opens a gate only if its subject's digest is that of this version's files and its result is `pass`. If a suite
//! was run several times, the last run counts, so that a failure can't be hidden behind an older success.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
}

/// The version that a report is about.
#[derive(Debug, Clone, Deserialize)]
struct Subject {
    model: ModelName,
    version: Version,
    digest: Digest,
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
    /// Digest of the report's own bytes.
    pub digest: Digest,
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
        let attached = read(manifest, &report).map_err(refused)?;
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
            reports.push(read(manifest, &bytes).map_err(|reason| RegistryError::damaged(&key, reason))?);
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

    /// Returns the last report of each of these suites if all of them have passed. `environment` is named in the error.
    ///
    /// # Errors
    /// A suite has no report, or its last report is not a pass; all such reasons are given. A report is damaged, or the
    /// store fails.
    pub(crate) async fn check_suites(
        &self,
        manifest: &Manifest,
        suites: &[SuiteName],
        environment: &str,
    ) -> Result<Vec<AttachedReport>> {
        let reports = if suites.is_empty() { Vec::new() } else { self.reports(manifest).await? };
        let (mut passed, mut reasons) = (Vec::new(), Vec::new());
        for suite in suites {
            match reports.iter().find(|report| report.suite == *suite) {
                Some(report) if report.verdict == ReportResult::Pass => passed.push(report.clone()),
                Some(report) => {
                    reasons.push(format!("the last {suite} report, of {}, says {}", report.finished, report.verdict));
                }
                None => reasons.push(format!("it has no {suite} report; attach one with `bellwether model attach`")),
            }
        }
        if reasons.is_empty() {
            return Ok(passed);
        }
        let (name, version) = (manifest.name.clone(), manifest.version.clone());
        Err(RegistryError::Refused { name, version, environment: environment.to_owned(), reasons })
    }
}

/// Parses a report, and checks that it is about this version's files.
fn read(manifest: &Manifest, bytes: &[u8]) -> Result<AttachedReport, String> {
    let fields: ReportFields =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no gate report: {error}"))?;
    if fields.schema != SCHEMA {
        return Err(format!("its schema is {:?} and should be {SCHEMA:?}", fields.schema));
    }
    let Subject { model, version, digest } = fields.subject;
    if (&model, &version) != (&manifest.name, &manifest.version) {
        return Err(format!("it is about {model} {version}"));
    }
    if digest != manifest.checksum {
        return Err(format!(
            "it is about files with {digest}, and this version has {}; run the suite on the registered files",
            manifest.checksum
        ));
    }
    let ReportFields { suite, verdict, finished, .. } = fields;
    Ok(AttachedReport { suite, verdict, finished, digest: Digest::of(bytes) })
}
