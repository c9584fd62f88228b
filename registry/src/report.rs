//! Gate reports: what a suite has found of a version, attached to it for good, under the digest of its bytes.
//!
//! A report opens a gate only if it is of this version's very files, by their digest, and says `pass`. If a suite has been
//! run more than once the last run counts: nobody may go back to the one that he liked.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::name::{ModelName, Suite, Version};
use crate::store::{Created, LARGEST};
use crate::{Registry, Result, keys};

/// The form of reports that this program reads.
const SCHEMA: &str = "bellwether.dev/gate-report/v1";

/// What the registry reads of a report. The rest is for others, and kept.
#[derive(Debug, Clone, Deserialize)]
struct Written {
    schema: String,
    suite: Suite,
    verdict: Verdict,
    subject: Subject,
    finished: Timestamp,
}

#[derive(Debug, Clone, Deserialize)]
struct Subject {
    model: ModelName,
    version: Version,
    digest: Digest,
}

/// What a suite found.
pub use bellwether_core::input::report::SuiteResult as Verdict;

/// A report that is attached to a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// The suite.
    pub suite: Suite,
    /// What it found.
    pub verdict: Verdict,
    /// When.
    pub finished: Timestamp,
    /// The digest of the report's own bytes.
    pub digest: Digest,
}

impl Registry {
    /// Attaches a report to the version that it is about. To attach it again changes nothing.
    ///
    /// # Errors
    /// It is no report, or one about something else.
    pub async fn attach(&self, manifest: &Manifest, report: Vec<u8>) -> Result<Attached> {
        let refused =
            |why: String| Error::Report { name: manifest.name.clone(), version: manifest.version.clone(), why };
        if report.len() > LARGEST {
            return Err(refused(format!("it has {} bytes, and {LARGEST} are allowed", report.len())));
        }
        let attached = read(manifest, &report).map_err(refused)?;
        let key = keys::report(&manifest.name, &manifest.version, &attached.suite, &attached.digest);
        match self.store.create(&key, report).await? {
            // Its key is its content.
            Created::Yes | Created::Taken => Ok(attached),
        }
    }

    /// The reports that are attached to a version, the newest first.
    ///
    /// # Errors
    /// One is damaged, or the store fails.
    pub async fn reports(&self, manifest: &Manifest) -> Result<Vec<Attached>> {
        let mut reports = Vec::new();
        for object in self.store.list(&keys::reports(&manifest.name, &manifest.version)).await? {
            let key = object.location;
            let (Some(named), Some(bytes)) = (keys::digest_of(&key), self.store.read(&key).await?) else { continue };
            if Digest::of(&bytes) != named {
                return Err(Error::damaged(&key, "its bytes are not those of the digest in its name"));
            }
            reports.push(read(manifest, &bytes).map_err(|why| Error::damaged(&key, why))?);
        }
        reports.sort_by_key(|report| (std::cmp::Reverse(report.finished), report.digest));
        Ok(reports)
    }

    /// A report as it was attached.
    ///
    /// # Errors
    /// There is none with this digest.
    pub async fn report(&self, manifest: &Manifest, digest: &Digest) -> Result<Bytes> {
        for report in self.reports(manifest).await?.iter().filter(|report| report.digest == *digest) {
            let key = keys::report(&manifest.name, &manifest.version, &report.suite, digest);
            if let Some(bytes) = self.store.read(&key).await? {
                return Ok(bytes);
            }
        }
        let what = format!("report {digest} of {} {}", manifest.name, manifest.version);
        Err(Error::Absent { what, instead: "; attach it with `bellwether model attach`".to_owned() })
    }

    /// The reports by which these suites are passed.
    ///
    /// # Errors
    /// All that stands against it.
    pub(crate) async fn passed(&self, manifest: &Manifest, suites: &[Suite], place: &str) -> Result<Vec<Attached>> {
        let reports = if suites.is_empty() { Vec::new() } else { self.reports(manifest).await? };
        let (mut passed, mut reasons) = (Vec::new(), Vec::new());
        for suite in suites {
            match reports.iter().find(|report| report.suite == *suite) {
                Some(report) if report.verdict == Verdict::Pass => passed.push(report.clone()),
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
        Err(Error::Refused { name, version, environment: place.to_owned(), reasons })
    }
}

fn read(manifest: &Manifest, bytes: &[u8]) -> Result<Attached, String> {
    let written: Written = serde_json::from_slice(bytes).map_err(|error| format!("it is no gate report: {error}"))?;
    if written.schema != SCHEMA {
        return Err(format!("its schema is {:?} and should be {SCHEMA:?}", written.schema));
    }
    let Subject { model, version, digest } = written.subject;
    if (&model, &version) != (&manifest.name, &manifest.version) {
        return Err(format!("it is about {model} {version}"));
    }
    if digest != manifest.checksum {
        return Err(format!(
            "it is about files with {digest}, and this version has {}; run the suite on what is registered",
            manifest.checksum
        ));
    }
    let Written { suite, verdict, finished, .. } = written;
    Ok(Attached { suite, verdict, finished, digest: Digest::of(bytes) })
}
