//! Suite reports: the results of the suites that a policy may require before a version gets its first traffic.
//!
//! A report names the combination that was tested: the images, the model, and the digests of the prompt and of the tools.
//! It counts for a rollout that brings the same combination: each image that the rollout changes was tested, and the
//! model, the prompt and the tools are those of the report. A part that only one of them names is a difference: an image
//! that passed with another prompt counts as untested, and a report on a model alone opens no image. Of several reports of
//! a suite on the same combination, the one whose run ended last counts, in whichever order they arrive. If the policy names
//! the test that must have been run, by its pin, reports of other tests do not count.

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
    /// The digest of the tested prompt, `sha256:…`; `None` if it is part of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The digest of the definitions of the tested tools, `sha256:…`; `None` if they are part of the images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
    /// The pin of the test that was run: the SHA-256 of its suite, error rates and cases; `None` if the report names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// The result in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The address of the full report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The source of the report's event.
    pub by: String,
    /// The end of the run; of a report that does not give it, the time of the report's event.
    pub at: Timestamp,
}

/// The parts that a rollout brings together.
#[derive(Debug, Clone, Copy)]
pub struct Combination<'a> {
    /// The images that it changes, by container.
    pub images: &'a Images,
    /// The model.
    pub model: Option<&'a str>,
    /// The digest of the prompt.
    pub prompt: Option<&'a str>,
    /// The digest of the definitions of the tools.
    pub tools: Option<&'a str>,
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
    /// Returns the first difference between the tested combination and the one that a rollout brings, as the end of a
    /// sentence about the report; `None` if the report counts for the rollout.
    pub fn difference(&self, brought: Combination<'_>) -> Option<String> {
        let is_tested = |image: &&String| self.images.iter().any(|tested| is_same_image(tested, image));
        if brought.images.is_empty() {
            return Some("it is about images, and the rollout changes none".to_owned());
        }
        if let Some(image) = brought.images.values().find(|image| !is_tested(image)) {
            return Some(format!("it did not test {image}"));
        }
        let parts = [
            ("model", &self.model, brought.model),
            ("prompt", &self.prompt, brought.prompt),
            ("tools", &self.tools, brought.tools),
        ];
        parts.into_iter().find(|(_, tested, brought)| tested.as_deref() != *brought).map(|(part, tested, brought)| {
            let named =
                |value: Option<&str>| value.map_or_else(|| format!("no {part}"), |value| format!("{part} {value}"));
            format!("it names {}, and the request {}", named(tested.as_deref()), named(brought))
        })
    }

    fn is_on_the_same(&self, other: &SuiteReport) -> bool {
        let SuiteReport { suite, images, model, prompt, tools, pin, .. } = self;
        (suite, images, model, prompt, tools, pin)
            == (&other.suite, &other.images, &other.model, &other.prompt, &other.tools, &other.pin)
    }

    /// Returns whether the report is of the test with this pin; of any, if it is `None`.
    fn is_of_test(&self, pin: Option<&str>) -> bool {
        pin.is_none() || self.pin.as_deref() == pin
    }

    /// Adds the report to `reports`. Of two reports of the same test on the same combination the one whose run ended
    /// first is dropped, and the report that came first if there are more than [`MAX_REPORTS`].
    pub fn append_to(self, reports: &mut Vec<SuiteReport>) {
        if reports.iter().any(|other| other.is_on_the_same(&self) && other.at > self.at) {
            return;
        }
        reports.retain(|other| !other.is_on_the_same(&self));
        reports.push(self);
        if reports.len() > MAX_REPORTS {
            reports.remove(0);
        }
    }
}

/// A suite that a policy requires, and the test that it must be.
#[derive(Debug, Clone, Copy)]
pub struct RequiredSuite<'a> {
    /// The suite's name.
    pub name: &'a str,
    /// The pin of the test; `None` if any counts.
    pub pin: Option<&'a str>,
}

/// Returns the report of `suite` that counts for a rollout that brings this combination: the one whose run ended last, and
/// of several that ended at once the one that came last. `None` if there is none.
pub fn newest<'a>(
    reports: &'a [SuiteReport],
    suite: RequiredSuite<'_>,
    brought: Combination<'_>,
) -> Option<&'a SuiteReport> {
    let counts = |report: &&SuiteReport| {
        report.suite == suite.name && report.is_of_test(suite.pin) && report.difference(brought).is_none()
    };
    reports.iter().filter(counts).max_by_key(|report| report.at)
}

/// Returns the reason why the newest report of `suite` does not count for a rollout that brings this combination, as the end
/// of a sentence about it; `None` if there is no report, or if it counts.
pub fn objection(reports: &[SuiteReport], suite: RequiredSuite<'_>, brought: Combination<'_>) -> Option<String> {
    let newest = reports.iter().filter(|report| report.suite == suite.name).max_by_key(|report| report.at)?;
    match suite.pin.filter(|_| !newest.is_of_test(suite.pin)) {
        Some(pin) => {
            let found =
                newest.pin.as_ref().map_or_else(|| "no pinned test".to_owned(), |pin| format!("the test {pin}"));
            Some(format!("it is of {found}, and the policy asks for {pin} (require-pins)"))
        }
        None => newest.difference(brought),
    }
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
    use crate::time::Span;

    fn report(suite: &str, images: &[&str], model: Option<&str>) -> SuiteReport {
        SuiteReport {
            suite: suite.to_owned(),
            result: SuiteResult::Pass,
            images: images.iter().map(|image| (*image).to_owned()).collect(),
            model: model.map(str::to_owned),
            prompt: None,
            tools: None,
            pin: None,
            summary: None,
            link: None,
            by: "/ci".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn any(name: &str) -> RequiredSuite<'_> {
        RequiredSuite { name, pin: None }
    }

    fn brings<'a>(images: &'a Images, parts: [Option<&'a str>; 3]) -> Combination<'a> {
        let [model, prompt, tools] = parts;
        Combination { images, model, prompt, tools }
    }

    /// Tested images and parts, changed images and brought parts, and the difference.
    type Row<'a> = (&'a [&'a str], [Option<&'a str>; 3], &'a [&'a str], [Option<&'a str>; 3], &'a str);

    #[test]
    fn a_report_counts_for_the_tested_combination_and_no_other() {
        let (old, new) = (Some("chat@1.2.0"), Some("chat@1.3.0"));
        let (p, q, t, u) = (Some("sha256:aa"), Some("sha256:bb"), Some("sha256:cc"), Some("sha256:dd"));
        let nothing = [None, None, None];
        let rows: [Row<'_>; 15] = [
            (&["web:v2"], nothing, &["web:v2"], nothing, ""),
            (&["web:v2"], nothing, &["web:v3"], nothing, "it did not test web:v3"),
            (&["web:v2@sha256:ab"], nothing, &["web@sha256:ab"], nothing, ""),
            (&["web:v2", "side:v1"], nothing, &["web:v2"], nothing, ""),
            (&["web:v2"], nothing, &["web:v2", "side:v9"], nothing, "it did not test side:v9"),
            (&["web:v2"], [old, None, None], &["web:v2"], [old, None, None], ""),
            (
                &["web:v2"],
                [old, None, None],
                &["web:v2"],
                [new, None, None],
                "it names model chat@1.2.0, and the request model chat@1.3.0",
            ),
            (
                &["web:v2"],
                nothing,
                &["web:v2"],
                [new, None, None],
                "it names no model, and the request model chat@1.3.0",
            ),
            (
                &["web:v2"],
                [old, None, None],
                &["web:v2"],
                nothing,
                "it names model chat@1.2.0, and the request no model",
            ),
            // A model alone, with any image.
            (&[], [old, None, None], &["web:v2"], [old, None, None], "it did not test web:v2"),
            (&["web:v2"], [old, p, t], &["web:v2"], [old, p, t], ""),
            (
                &["web:v2"],
                [old, p, t],
                &["web:v2"],
                [old, q, t],
                "it names prompt sha256:aa, and the request prompt sha256:bb",
            ),
            (
                &["web:v2"],
                [old, p, t],
                &["web:v2"],
                [old, p, u],
                "it names tools sha256:cc, and the request tools sha256:dd",
            ),
            (
                &["web:v2"],
                [old, None, t],
                &["web:v2"],
                [old, p, t],
                "it names no prompt, and the request prompt sha256:aa",
            ),
            (&[], nothing, &[], nothing, "it is about images, and the rollout changes none"),
        ];
        for (images, [model, prompt, tools], changes, parts, difference) in rows {
            let tested = SuiteReport {
                prompt: prompt.map(str::to_owned),
                tools: tools.map(str::to_owned),
                ..report("safety", images, model)
            };
            let changes: Images =
                changes.iter().enumerate().map(|(at, image)| (at.to_string(), (*image).to_owned())).collect();
            let found = tested.difference(brings(&changes, parts));
            assert_eq!(found.unwrap_or_default(), difference, "{tested:?} for {changes:?} {parts:?}");
        }
    }

    /// A failure must not be hidden by sending an older success once more.
    #[test]
    fn the_run_that_ended_last_counts_in_whichever_order_the_reports_arrive() {
        let changes = Images::from_iter([("app".to_owned(), "web:v2".to_owned())]);
        let at = |second: u64, result| SuiteReport {
            result,
            at: Span::from_secs(second).after(Timestamp::UNIX_EPOCH),
            ..report("safety", &["web:v2"], None)
        };
        for order in
            [[(1, SuiteResult::Pass), (2, SuiteResult::Fail)], [(2, SuiteResult::Fail), (1, SuiteResult::Pass)]]
        {
            let mut reports = Vec::new();
            for (second, result) in order {
                at(second, result).append_to(&mut reports);
            }
            let found = newest(&reports, any("safety"), brings(&changes, [None, None, None])).unwrap();
            assert_eq!((reports.len(), found.result), (1, SuiteResult::Fail));
        }
        // Two reports that name more images than are changed are on different combinations, and both count.
        let mut reports = Vec::new();
        at(2, SuiteResult::Fail).append_to(&mut reports);
        let images = ["web:v2", "side:v1"].map(str::to_owned).to_vec();
        SuiteReport { images, ..at(1, SuiteResult::Pass) }.append_to(&mut reports);
        let found = newest(&reports, any("safety"), brings(&changes, [None, None, None])).unwrap();
        assert_eq!((reports.len(), found.result), (2, SuiteResult::Fail));
    }

    #[test]
    fn a_newer_report_replaces_the_older_one_and_the_list_is_bounded() {
        let mut reports = Vec::new();
        report("safety", &["web:v2"], None).append_to(&mut reports);
        SuiteReport { result: SuiteResult::Fail, ..report("safety", &["web:v2"], None) }.append_to(&mut reports);
        assert_eq!(reports.len(), 1);
        let changes = Images::from_iter([("app".to_owned(), "web:v2".to_owned())]);
        let brought = brings(&changes, [None, None, None]);
        assert_eq!(newest(&reports, any("safety"), brought).unwrap().result, SuiteResult::Fail);
        assert_eq!(newest(&reports, any("quality"), brought), None);
        for n in 0..100 {
            report("safety", &[&format!("web:v{n}")], None).append_to(&mut reports);
        }
        assert_eq!(reports.len(), MAX_REPORTS);
    }

    #[test]
    fn a_report_of_another_test_does_not_count_where_one_is_pinned() {
        let of_test = |pin: Option<&str>, result| SuiteReport {
            pin: pin.map(str::to_owned),
            result,
            ..report("safety", &["web:v2"], None)
        };
        let mut reports = Vec::new();
        for (pin, result) in
            [(Some("ab"), SuiteResult::Fail), (Some("cd"), SuiteResult::Pass), (None, SuiteResult::Pass)]
        {
            of_test(pin, result).append_to(&mut reports);
        }
        assert_eq!(reports.len(), 3, "a report of another test replaces none");
        let changes = Images::from_iter([("web".to_owned(), "web:v2".to_owned())]);
        let brought = brings(&changes, [None, None, None]);
        let pinned = |pin| RequiredSuite { name: "safety", pin };
        assert_eq!(newest(&reports, pinned(Some("ab")), brought).unwrap().result, SuiteResult::Fail);
        assert_eq!(newest(&reports, pinned(Some("cd")), brought).unwrap().result, SuiteResult::Pass);
        assert_eq!(newest(&reports, pinned(Some("ef")), brought), None);
        let says = objection(&reports, pinned(Some("ef")), brought).unwrap();
        assert_eq!(says, "it is of no pinned test, and the policy asks for ef (require-pins)");
        assert_eq!(objection(&reports, pinned(None), brought), None);
    }
}
