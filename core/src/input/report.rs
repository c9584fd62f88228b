//! What was tested elsewhere: the suites that a policy may require before a version gets its first traffic.
//!
//! A report is about something: images, a model, or both. It counts for a rollout that brings in one of the images, or the
//! model, and no other model than the one that was tested: an image that passed with another model has not been tested.
//! Of several reports of a suite about the same thing the newest counts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Images;
use crate::time::Timestamp;

/// So many reports of a workload are remembered; the oldest are forgotten first.
pub const MOST: usize = 32;

/// What came of a suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SuiteReport {
    /// The suite's name.
    pub suite: String,
    /// What came of it.
    pub result: SuiteResult,
    /// The images that were tested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The model that was tested, as the request names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// In one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Where all of it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Who says so: the event's source.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What can come of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteResult {
    /// It holds.
    Pass,
    /// It is shown not to hold.
    Fail,
    /// Too little to say.
    Inconclusive,
    /// It could not be run.
    Error,
    /// It was not run.
    Skipped,
}

impl SuiteReport {
    /// Whether it is about a rollout that changes these images and brings this model.
    pub fn is_about(&self, changes: &Images, model: Option<&str>) -> bool {
        let other_model = matches!((self.model.as_deref(), model), (Some(tested), Some(asked)) if tested != asked);
        let tested = |image: &String| self.images.iter().any(|tested| is_same(tested, image));
        !other_model && (changes.values().any(tested) || (model.is_some() && self.model.as_deref() == model))
    }

    /// Takes its place among `reports`, instead of an older one about the same.
    pub fn join(self, reports: &mut Vec<SuiteReport>) {
        reports.retain(|other| (&other.suite, &other.images, &other.model) != (&self.suite, &self.images, &self.model));
        reports.push(self);
        if reports.len() > MOST {
            reports.remove(0);
        }
    }
}

/// The newest report of a suite about this.
pub fn newest<'a>(
    reports: &'a [SuiteReport],
    suite: &str,
    changes: &Images,
    model: Option<&str>,
) -> Option<&'a SuiteReport> {
    reports.iter().rev().find(|report| report.suite == suite && report.is_about(changes, model))
}

/// The same reference, or the same digest: a tag beside it is for people.
fn is_same(one: &str, other: &str) -> bool {
    let digest = |image: &str| image.rsplit_once('@').map(|(_, digest)| digest.to_owned());
    one == other || digest(one).is_some_and(|one| digest(other) == Some(one))
}

impl SuiteResult {
    /// What several come to: what is refuted stays refuted whatever else went wrong, and what was skipped says nothing.
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
    fn it_is_about_the_image_or_the_model_that_was_tested_and_no_other_model() {
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
    fn the_newest_of_a_suite_counts_and_the_list_is_bounded() {
        let mut reports = Vec::new();
        report("safety", &["web:v2"], None).join(&mut reports);
        SuiteReport { result: SuiteResult::Fail, ..report("safety", &["web:v2"], None) }.join(&mut reports);
        assert_eq!(reports.len(), 1);
        let changes = Images::from([("app".to_owned(), "web:v2".to_owned())]);
        assert_eq!(newest(&reports, "safety", &changes, None).unwrap().result, SuiteResult::Fail);
        assert_eq!(newest(&reports, "quality", &changes, None), None);
        for n in 0..100 {
            report("safety", &[&format!("web:v{n}")], None).join(&mut reports);
        }
        assert_eq!(reports.len(), MOST);
    }
}
