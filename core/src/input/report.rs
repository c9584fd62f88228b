//! Suite reports: the results of the suites that a policy may require before a version gets its first traffic.
//!
//! A report names the tested images, the tested model, or both. It counts for a rollout that deploys one of the images
//! or the model. If both the report and the rollout name a model, the models must be equal: an image that passed with
//! another model counts as untested. Of several reports of a suite about the same images and model, the newest counts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Images;
use crate::time::Timestamp;

/// The number of reports that are kept for a workload. The oldest are removed first.
pub const MAX_REPORTS: usize = 32;

/// The report of one run of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SuiteReport {
    /// The suite's name.
    pub suite: String,
    /// The result of the run.
    pub result: SuiteResult,
    /// The references of the tested images; empty if only a model was tested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The tested model, as requests name it; `None` if only images were tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The result in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The address of the full report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The source of the report's event.
    pub by: String,
    /// The time of the report.
    pub at: Timestamp,
}

/// The result of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteResult {
    /// The suite's claims are shown to hold.
    Pass,
    /// At least one claim is shown not to hold.
    Fail,
    /// The evidence does not suffice for either.
    Inconclusive,
    /// The suite could not be run.
    Error,
    /// The suite was not run, or none of its gates decides.
    Skipped,
}

impl SuiteReport {
    /// Returns whether the report counts for a rollout that changes the images `changes` and deploys `model`.
    pub fn is_about(&self, changes: &Images, model: Option<&str>) -> bool {
        let other_model = matches!((self.model.as_deref(), model), (Some(tested), Some(asked)) if tested != asked);
        let tested = |image: &String| self.images.iter().any(|tested| is_same_image(tested, image));
        !other_model && (changes.values().any(tested) || (model.is_some() && self.model.as_deref() == model))
    }

    /// Appends the report to `reports`. An older report of the same suite about the same images and model is removed,
    /// and the oldest report if there are more than [`MAX_REPORTS`].
    pub fn append_to(self, reports: &mut Vec<SuiteReport>) {
        reports.retain(|other| (&other.suite, &other.images, &other.model) != (&self.suite, &self.images, &self.model));
        reports.push(self);
        if reports.len() > MAX_REPORTS {
            reports.remove(0);
        }
    }
}

/// Returns the newest report of `suite` that counts for a rollout that changes the images `changes` and deploys
/// `model`; `None` if there is none.
pub fn newest<'a>(
    reports: &'a [SuiteReport],
    suite: &str,
    changes: &Images,
    model: Option<&str>,
) -> Option<&'a SuiteReport> {
    reports.iter().rev().find(|report| report.suite == suite && report.is_about(changes, model))
}

/// Returns whether two image references are equal or have the same digest. Beside a digest, a tag has no meaning.
fn is_same_image(one: &str, other: &str) -> bool {
    let digest = |image: &str| image.rsplit_once('@').map(|(_, digest)| digest.to_owned());
    one == other || digest(one).is_some_and(|one| digest(other) == Some(one))
}

impl SuiteResult {
    /// Returns the combined result of several suites or claims: a failure outweighs an error, an error an inconclusive
    /// result, and that a pass. Skipped ones do not count; the result is [`SuiteResult::Skipped`] only if all are.
    pub fn of_all(results: impl Iterator<Item = SuiteResult> + Clone) -> SuiteResult {
        [SuiteResult::Fail, SuiteResult::Error, SuiteResult::Inconclusive, SuiteResult::Pass]
            .into_iter()
            .find(|result| results.clone().any(|other| other == *result))
            .unwrap_or(SuiteResult::Skipped)
    }
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SuiteReport { suite, result, summary, by, .. } = self;
        match summary {
            Some(summary) => write!(f, "{suite}: {result}, says {by}: {summary}")?,
            None => write!(f, "{suite}: {result}, says {by}")?,
        }
        self.link.iter().try_for_each(|link| write!(f, " ({link})"))
    }
}

impl fmt::Display for SuiteResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SuiteResult::Pass => "pass",
            SuiteResult::Fail => "fail",
            SuiteResult::Inconclusive => "inconclusive",
            SuiteResult::Error => "error",
            SuiteResult::Skipped => "skipped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(suite: &str, images: &[&str], model: Option<&str>) -> SuiteReport {
        SuiteReport {
            suite: suite.to_owned(),
            result: SuiteResult::Pass,
            images: images.iter().map(|image| (*image).to_owned()).collect(),
            model: model.map(str::to_owned),
            summary: None,
            link: None,
            by: "/ci".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_report_counts_for_the_tested_image_or_model_but_not_with_another_model() {
        let web = |image: &str| Images::from([("app".to_owned(), image.to_owned())]);
        for (images, model, changes, asked, about) in [
            (&["web:v2"][..], None, "web:v2", None, true),
            (&["web:v2"], None, "web:v3", None, false),
            (&["web:v2@sha256:ab"], None, "web@sha256:ab", None, true),
            (&["web:v2"], Some("chat@1.2.0"), "web:v2", Some("chat@1.2.0"), true),
            (&["web:v2"], Some("chat@1.2.0"), "web:v2", Some("chat@1.3.0"), false),
            (&["web:v2"], None, "web:v2", Some("chat@1.3.0"), true),
            (&[], Some("chat@1.2.0"), "web:v2", Some("chat@1.2.0"), true),
            (&[], None, "web:v2", None, false),
        ] {
            let found = report("safety", images, model).is_about(&web(changes), asked);
            assert_eq!(found, about, "{images:?} {model:?} for {changes} {asked:?}");
        }
    }

    #[test]
    fn a_newer_report_replaces_the_older_one_and_the_list_is_bounded() {
        let mut reports = Vec::new();
        report("safety", &["web:v2"], None).append_to(&mut reports);
        SuiteReport { result: SuiteResult::Fail, ..report("safety", &["web:v2"], None) }.append_to(&mut reports);
        assert_eq!(reports.len(), 1);
        let changes = Images::from([("app".to_owned(), "web:v2".to_owned())]);
        assert_eq!(newest(&reports, "safety", &changes, None).unwrap().result, SuiteResult::Fail);
        assert_eq!(newest(&reports, "quality", &changes, None), None);
        for n in 0..100 {
            report("safety", &[&format!("web:v{n}")], None).append_to(&mut reports);
        }
        assert_eq!(reports.len(), MAX_REPORTS);
    }
}
