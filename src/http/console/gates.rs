//! The page of the gates: the suites that policies require, and the newest report of each suite about each workload.

use askama::Template;
use bellwether_core::engine::view::{StatusView, short_workload};
use bellwether_core::ids::version;
use bellwether_core::input::report::{SuiteReport, SuiteResult};
use bellwether_core::policy::Policy;
use bellwether_core::time::Timestamp;

use super::Frame;
use super::text::When;
use crate::show::standing::Badge;

/// The most reports that are shown, the newest first.
const MOST_SHOWN: usize = 200;
/// The characters of a digest that are shown.
const SHOWN_OF_DIGEST: usize = 19;

/// A suite that a policy requires before the first traffic.
struct SuiteRow {
    suite: String,
    /// The names of the policies that require it.
    policies: String,
    /// The number of reports of it with each result, as in `3 pass, 1 fail`.
    reports: String,
}

/// A report as a row.
struct ReportRow {
    suite: String,
    result: Badge,
    workload: String,
    place: String,
    /// The parts that were tested, each with its kind.
    tested: Vec<(&'static str, String)>,
    summary: String,
    /// The address of the full report; `None` if it has none that a browser may follow.
    link: Option<String>,
    by: String,
    at: When,
}

/// The page of the gates.
#[derive(Template)]
#[template(path = "gates.html")]
pub(super) struct GatesPage {
    frame: Frame,
    suites: Vec<SuiteRow>,
    all: usize,
    reports: Vec<ReportRow>,
}

impl GatesPage {
    /// Returns the page of the suites of these policies and of all reports in a view, as it is seen at `now`.
    pub(super) fn new(frame: Frame, policies: &[Policy], view: &StatusView, now: Timestamp) -> GatesPage {
        let mut reports: Vec<(&String, &SuiteReport)> = view
            .reports
            .iter()
            .flat_map(|(workload, reports)| reports.iter().map(move |report| (workload, report)))
            .collect();
        reports.sort_by(|(one_key, one), (other_key, other)| {
            other.at.cmp(&one.at).then_with(|| (one_key, &one.suite).cmp(&(other_key, &other.suite)))
        });
        let shown = reports.iter().take(MOST_SHOWN).map(|(workload, report)| ReportRow::of(workload, report, now));
        GatesPage { frame, suites: suites(policies, &reports), all: reports.len(), reports: shown.collect() }
    }
}

/// Returns the suites that policies require, in the order of their names.
fn suites(policies: &[Policy], reports: &[(&String, &SuiteReport)]) -> Vec<SuiteRow> {
    let mut names: Vec<&String> = policies.iter().flat_map(|policy| &policy.require).collect();
    names.sort();
    names.dedup();
    let row = |name: &String| {
        let of = policies.iter().filter(|policy| policy.require.contains(name));
        let results =
            [SuiteResult::Pass, SuiteResult::Fail, SuiteResult::Inconclusive, SuiteResult::Error, SuiteResult::Skipped];
        let count = |result| {
            let count = reports.iter().filter(|(_, report)| report.suite == *name && report.result == result).count();
            (count > 0).then(|| format!("{count} {result}"))
        };
        SuiteRow {
            suite: name.clone(),
            policies: of.map(|policy| policy.name.as_str()).collect::<Vec<_>>().join(", "),
            reports: results.into_iter().filter_map(count).collect::<Vec<_>>().join(", "),
        }
    };
    names.into_iter().map(row).collect()
}

/// Returns the badge of a result.
fn badge(result: SuiteResult) -> Badge {
    let (sign, class) = match result {
        SuiteResult::Pass => ("✓", "promoted"),
        SuiteResult::Fail => ("✕", "rolled-back"),
        SuiteResult::Inconclusive => ("!", "held"),
        SuiteResult::Error => ("?", "unreadable"),
        SuiteResult::Skipped => ("–", "stopped"),
    };
    Badge { sign, words: result.to_string(), class }
}

impl ReportRow {
    fn of(workload: &str, report: &SuiteReport, now: Timestamp) -> ReportRow {
        let images = report.images.iter().map(|image| ("image", version(image).to_owned()));
        let parts = [
            ("model", report.model.as_deref()),
            ("prompt", report.prompt.as_deref().map(shortened)),
            ("tools", report.tools.as_deref().map(shortened)),
        ];
        let parts = parts.into_iter().filter_map(|(kind, part)| Some((kind, part?.to_owned())));
        let is_address = |link: &&String| link.starts_with("https://") || link.starts_with("http://");
        ReportRow {
            suite: report.suite.clone(),
            result: badge(report.result),
            workload: workload.to_owned(),
            place: short_workload(workload),
            tested: images.chain(parts).collect(),
            summary: report.summary.clone().unwrap_or_default(),
            link: report.link.as_ref().filter(is_address).cloned(),
            by: report.by.clone(),
            at: When::seen(report.at, now),
        }
    }
}

/// Returns the beginning of a digest.
fn shortened(digest: &str) -> &str {
    digest.char_indices().nth(SHOWN_OF_DIGEST).map_or(digest, |(end, _)| &digest[..end])
}
