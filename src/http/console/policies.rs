//! The page of the policies that apply to rollouts from now on: the workloads that each selects, its steps as a picture, and its checks.

use askama::Template;
use bellwether_core::judge::check::Check;
use bellwether_core::policy::{Mode, Policy, Strategy};
use bellwether_core::time::Span;

use super::Frame;
use super::chart::px;
use crate::show::verb::shell_word;

/// The left and right end of a picture's plot, and its upper and lower end.
const X: (f64, f64) = (4.0, 396.0);
const Y: (f64, f64) = (6.0, 62.0);
/// The most policies that are shown.
const MOST_SHOWN: usize = 200;

/// The steps of a policy as a picture of the weight over the least time.
struct StepsPicture {
    /// The points of the outline, from the start to the promotion.
    outline: String,
    /// The place and the words of each step.
    labels: Vec<(String, String, String)>,
    /// The picture in words.
    words: String,
}

/// A check of a policy, for all steps that have it.
struct PolicyCheckRow {
    name: String,
    metric: String,
    limit: String,
    judge: &'static str,
    window: String,
    /// The steps that it judges, such as `1, 2, 3` or `guard`.
    steps: String,
    warns: bool,
}

/// A policy as the page shows it.
struct PolicySection {
    name: String,
    hash: String,
    mode: &'static str,
    strategy: &'static str,
    /// The patterns of the namespaces, workloads and images.
    selects: [String; 3],
    takes: String,
    guard: Option<String>,
    approvals: String,
    suites: String,
    picture: Option<StepsPicture>,
    checks: Vec<PolicyCheckRow>,
    command: String,
}

/// The page of the policies.
#[derive(Template)]
#[template(path = "policies.html")]
pub(super) struct PoliciesPage {
    frame: Frame,
    all: usize,
    policies: Vec<PolicySection>,
}

impl PoliciesPage {
    /// Returns the page of these policies, in their order: the first one that selects a workload applies.
    pub(super) fn new(frame: Frame, policies: &[Policy]) -> PoliciesPage {
        let shown = policies.iter().take(MOST_SHOWN).map(PolicySection::of).collect();
        PoliciesPage { frame, all: policies.len(), policies: shown }
    }
}

impl PolicySection {
    fn of(policy: &Policy) -> PolicySection {
        let matches = &policy.matches;
        PolicySection {
            name: policy.name.clone(),
            hash: policy.hash.clone(),
            mode: match policy.mode {
                Mode::Enforce => "enforce",
                Mode::Observe => "observes only",
            },
            strategy: match policy.strategy {
                Strategy::Canary => "canary",
                Strategy::BlueGreen => "blue-green",
                Strategy::Ab => "A/B test",
            },
            selects: [&matches.namespaces, &matches.workloads, &matches.images].map(|patterns| patterns.join(", ")),
            takes: least_time(policy).to_string(),
            guard: policy.guard.as_ref().map(|guard| guard.length.to_string()),
            approvals: policy.approvals.iter().map(|approval| approval.name.as_str()).collect::<Vec<_>>().join(", "),
            suites: policy.require.join(", "),
            picture: StepsPicture::of(policy),
            checks: checks(policy),
            command: format!("bellwether plan --policy {} --rps 50 --share 0.1%", shell_word(&policy.name)),
        }
    }
}

/// Returns the time that the steps take if each of them passes at its first chance.
fn least_time(policy: &Policy) -> Span {
    policy.steps.iter().fold(Span::ZERO, |sum, step| sum + step.min_time + step.pause)
}

impl StepsPicture {
    /// Returns the picture of a policy; `None` if it has no steps that rise over time.
    fn of(policy: &Policy) -> Option<StepsPicture> {
        let total = least_time(policy).as_secs_f64();
        if policy.steps.is_empty() || policy.strategy != Strategy::Canary || total <= 0.0 {
            return None;
        }
        let x = |seconds: f64| X.0 + (X.1 - X.0) * (seconds / total).clamp(0.0, 1.0);
        let y = |share: f64| Y.1 - (Y.1 - Y.0) * share.clamp(0.0, 1.0);
        let (mut outline, mut labels, mut words, mut since) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
        outline.push((x(0.0), y(0.0)));
        for step in &policy.steps {
            let until = since + (step.min_time + step.pause).as_secs_f64();
            let share = f64::from(step.weight.as_basis_points()) / 10_000.0;
            outline.extend([(x(since), y(share)), (x(until), y(share))]);
            let (weight, least) = (step.weight.to_string(), step.min_time.to_string());
            words.push(format!("{weight} for at least {least}"));
            labels.push((px(x(since) + 2.0), px((y(share) - 3.0).max(Y.0 + 6.0)), weight));
            since = until;
        }
        outline.extend([(x(total), y(1.0)), (X.1, y(1.0)), (X.1, y(0.0))]);
        let outline: Vec<String> = outline.into_iter().map(|(x, y)| format!("{},{}", px(x), px(y))).collect();
        Some(StepsPicture { outline: outline.join(" "), labels, words: words.join(", then ") })
    }
}

/// Returns the checks, each once, with the steps that it judges.
fn checks(policy: &Policy) -> Vec<PolicyCheckRow> {
    let mut rows: Vec<(PolicyCheckRow, Vec<String>)> = Vec::new();
    let of_steps = policy
        .steps
        .iter()
        .zip(1_usize..)
        .flat_map(|(step, number)| step.checks.iter().map(move |check| (check, number.to_string())));
    let of_guard = policy.guard.iter().flat_map(|guard| &guard.checks).map(|check| (check, "guard".to_owned()));
    for (check, step) in of_steps.chain(of_guard) {
        let row = PolicyCheckRow::of(check, policy);
        match rows.iter_mut().find(|(known, _)| known.is_like(&row)) {
            Some((_, steps)) => steps.push(step),
            None => rows.push((row, vec![step])),
        }
    }
    rows.into_iter().map(|(row, steps)| PolicyCheckRow { steps: steps.join(", "), ..row }).collect()
}

impl PolicyCheckRow {
    fn of(check: &Check, policy: &Policy) -> PolicyCheckRow {
        let value = check.limit.value();
        let shown =
            policy.metrics.get(&check.metric).map_or_else(|| value.to_string(), |metric| metric.unit().show(value));
        PolicyCheckRow {
            name: check.name.clone(),
            metric: check.metric.clone(),
            limit: format!("{} {shown}", check.limit.kept()),
            judge: check.judge.kind().name(),
            window: check.judge.window().to_string(),
            steps: String::new(),
            warns: check.warns,
        }
    }

    /// Returns whether it differs from another at most in the steps.
    fn is_like(&self, other: &PolicyCheckRow) -> bool {
        let key = |row: &PolicyCheckRow| {
            (row.name.clone(), row.metric.clone(), row.limit.clone(), row.judge, row.window.clone(), row.warns)
        };
        key(self) == key(other)
    }
}
