//! From numbers to verdicts.
//!
//! The `threshold` judge is the article's rule, made honest: the value over a sliding window against a limit, so many
//! times in a row; below a minimum of requests it says `insufficient`, and where nothing can be seen it says `blind`.
//! (In the article a missing metric counts as healthy.) The `mann-whitney` judge asks the same question of ranks instead of
//! the limit ([`ranks`]); all else is alike.

use serde::{Deserialize, Serialize};

use crate::input::status::DeploymentStatus;
use crate::judge::verdict::{Evidence, JudgeFinding, Verdict};
use crate::judge::{drift, ranks};
use crate::measure::block::{Gap, Reading};
use crate::measure::metric::{Limit, Metric, MetricKind};
use crate::measure::window::{Arm, Measure, Ring};
use crate::policy::Check;
use crate::time::{Span, Timestamp};

/// What a check remembers from look to look.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CheckState {
    /// Looks over the limit in a row.
    breaches: u32,
    /// When it last looked.
    looked: Option<Timestamp>,
    /// What it last said.
    pub evidence: Option<Evidence>,
    /// It only warns, so nothing waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warns: bool,
}

/// All that a look may see.
#[derive(Debug, Clone, Copy)]
pub struct JudgeInput<'a> {
    /// The counts.
    pub ring: &'a Ring,
    /// Whose counts are judged.
    pub side: Arm,
    /// The Deployment that is judged, for its availability.
    pub arm: Option<&'a DeploymentStatus>,
    /// How the stable's requests were distributed before, where a drift is held against that.
    pub past: Option<&'a Reading>,
}

impl CheckState {
    /// Says what the sequential judge has found, or that the newest block could not be seen.
    pub fn take(&mut self, evidence: Option<Evidence>, gap: Option<&Gap>) {
        self.evidence = evidence.map(|evidence| match gap {
            Some(gap) if evidence.verdict != Verdict::Regressed => {
                Evidence { verdict: Verdict::Blind, gap: Some(gap.clone()), ..evidence }
            }
            Some(_) | None => evidence,
        });
    }

    /// Looks, if it is time to: at the first block, and then every `check.every`. `at` is the end of the newest block.
    pub fn look(&mut self, check: &Check, metric: &Metric, view: JudgeInput<'_>, at: Timestamp) {
        if self.looked.is_some_and(|before| Span::between(before, at) < check.every) {
            return;
        }
        self.looked = Some(at);
        let gap = if metric.kind == MetricKind::Availability { None } else { view.ring.gap(&check.metric).cloned() };
        let drifts = metric.kind == MetricKind::Drift;
        let drift = drifts.then(|| drift::measure(check, metric, view.ring, view.past)).flatten();
        let (subject, drifted) = match drift {
            Some((subject, drifted)) => (Some(subject), Some(drifted)),
            None => (measure(check, metric, view, view.side), None),
        };
        let ranked = check.ranks.as_ref().map(|settings| ranks::rank(check, metric, settings, view.ring));
        let is_broken = |subject: &Measure| match &ranked {
            Some(ranked) => ranked.is_broken(),
            None => is_broken(check.limit, subject)
                .map(|broken| broken && drifted.is_none_or(|drifted| drifted.is_more_than_chance())),
        };
        // A distance needs enough on both sides.
        let enough = drifted.is_none_or(|drifted| drifted.reference >= check.min_requests);
        let verdict = self.judge(check, subject.as_ref().filter(|_| enough), gap.as_ref(), is_broken);
        let stable = match view.side {
            Arm::Canary if !matches!(metric.kind, MetricKind::Availability | MetricKind::Drift) => {
                measure(check, metric, view, Arm::Stable)
            }
            Arm::Canary | Arm::Stable => None,
        };
        self.evidence = Some(Evidence {
            check: check.name.clone(),
            kind: metric.kind,
            unit: metric.unit(),
            quantile: (metric.kind == MetricKind::Histogram).then_some(check.quantile),
            limit: check.limit,
            window: check.window,
            need: check.min_requests,
            subject,
            stable: stable.filter(|stable| stable.n > 0 || !metric.kind.counts_requests()),
            breaches: self.breaches,
            breaches_needed: check.breaches,
            gap,
            verdict,
            by: match (ranked, drifted) {
                (Some(ranked), _) => JudgeFinding::MannWhitney(ranked),
                (None, Some(drifted)) => JudgeFinding::Drift(drifted),
                (None, None) => JudgeFinding::Threshold,
            },
        });
    }

    /// A look that can't see neither adds to the breaches nor ends their row; one on too few requests ends it.
    fn judge(
        &mut self,
        check: &Check,
        subject: Option<&Measure>,
        gap: Option<&Gap>,
        is_broken: impl Fn(&Measure) -> Option<bool>,
    ) -> Verdict {
        if gap.is_some() {
            return Verdict::Blind;
        }
        let Some(subject) = subject.filter(|subject| subject.n >= check.min_requests) else {
            self.breaches = 0;
            return Verdict::Insufficient;
        };
        let Some(broken) = is_broken(subject) else { return Verdict::Insufficient };
        if !broken {
            self.breaches = 0;
            return Verdict::Pass;
        }
        self.breaches = self.breaches.saturating_add(1);
        if self.breaches >= check.breaches { Verdict::Regressed } else { Verdict::Insufficient }
    }
}

/// Whether the limit is broken; `None`: the buckets can't tell, because the value lies somewhere above the last edge
/// and the limit does too.
fn is_broken(limit: Limit, subject: &Measure) -> Option<bool> {
    match limit {
        Limit::Max(max) if subject.beyond => (subject.value >= max).then_some(true),
        Limit::Min(min) if subject.beyond => (subject.value >= min).then_some(false),
        Limit::Max(_) | Limit::Min(_) => Some(limit.is_broken_by(subject.value)),
    }
}

fn measure(check: &Check, metric: &Metric, view: JudgeInput<'_>, side: Arm) -> Option<Measure> {
    match metric.kind {
        MetricKind::Availability => return view.arm.map(availability),
        // Without a distance there is no value; its requests are no limit's affair.
        MetricKind::Drift => return None,
        MetricKind::Ratio | MetricKind::Histogram | MetricKind::Throughput | MetricKind::Gauge | MetricKind::Query => {}
    }
    view.ring.measure(&check.metric, side, check.window, check.quantile)
}

/// The share of the pods asked for that are ready. A Deployment of none has nothing that could be missing.
fn availability(arm: &DeploymentStatus) -> Measure {
    let ready = arm.ready.min(arm.replicas);
    let value = if arm.replicas == 0 { 1.0 } else { f64::from(ready) / f64::from(arm.replicas) };
    Measure { value, hits: Some(u64::from(ready)), n: u64::from(arm.replicas), beyond: false }
}
