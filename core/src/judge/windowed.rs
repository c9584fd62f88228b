//! The frame that the judges of sliding windows share: a look every so often, a verdict after so many breaches in a row.

use serde::{Deserialize, Serialize};

use super::numbers::{Numbers, Verdict};
use super::rule::{Look, RawSettings, SettingProblem, WINDOW};
use crate::measure::block::Gap;
use crate::measure::metric::MetricKind;
use crate::measure::window::{Arm, Measure};
use crate::time::{Span, Timestamp};

/// The time between two looks without `every`.
const EVERY: Span = Span::from_secs(30);

/// The keys of [`RawSettings`] that a judge of windows reads.
pub const KEYS: &[&str] = &["every", "window", "breaches"];

/// The settings of a judge of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WindowRule {
    /// The time between two looks.
    pub every: Span,
    /// The time over which the value is taken.
    pub window: Span,
    /// The looks over the limit in a row that are a regression, at least 1.
    pub breaches: u32,
}

impl WindowRule {
    /// Reads the settings.
    ///
    /// # Errors
    /// The window is shorter than the time between two looks, or no breach is asked for.
    pub fn read(raw: &RawSettings) -> Result<WindowRule, Vec<SettingProblem>> {
        let (every, window) = (raw.every.unwrap_or(EVERY), raw.window.unwrap_or(WINDOW));
        let mut problems = Vec::new();
        if raw.breaches == Some(0) {
            problems
                .push(("breaches", "at least one look over the limit is needed to say that it was over".to_owned()));
        }
        if every == Span::ZERO || window < every {
            let message = "the window must be at least as long as `every`, and `every` longer than nothing";
            problems.push(("window", message.to_owned()));
        }
        let breaches = raw.breaches.unwrap_or(1).max(1);
        if problems.is_empty() { Ok(WindowRule { every, window, breaches }) } else { Err(problems) }
    }
}

/// The memory of a judge of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WindowState {
    /// The looks over the limit in a row.
    breaches: u32,
    /// The end of the newest block at the last look.
    looked: Option<Timestamp>,
}

impl WindowState {
    /// Whether a look is due at the newest block: at the first one, and then every `rule.every`. Records the look.
    pub fn is_due(&mut self, rule: WindowRule, look: &Look<'_>) -> bool {
        let Some(at) = look.ring.last() else { return false };
        // A look that lies ahead was at a block of a clock that ran ahead.
        let due = self.looked.is_none_or(|before| at < before || Span::between(before, at) >= rule.every);
        if due {
            self.looked = Some(at);
        }
        due
    }

    /// Returns the numbers of a look at `subject`. `is_broken` tells whether the limit is broken; `None`: it can't be told.
    ///
    /// A look at a gap neither adds to the breaches nor ends their row. A look at too few requests ends it.
    pub fn numbers(
        &mut self,
        rule: WindowRule,
        look: &Look<'_>,
        subject: Option<Measure>,
        is_broken: impl Fn(&Measure) -> Option<bool>,
    ) -> Numbers {
        let kind = look.target.metric.kind;
        let gap = if kind == MetricKind::Availability { None } else { look.ring.gap(look.name).cloned() };
        let verdict = self.judge(rule, look.min_requests, subject.as_ref(), gap.as_ref(), is_broken);
        let compares = look.arm == Arm::Canary && !matches!(kind, MetricKind::Availability | MetricKind::Drift);
        let stable = if compares { measure(rule, look, Arm::Stable) } else { None };
        Numbers {
            check: look.check.to_owned(),
            kind,
            unit: look.target.metric.unit(),
            quantile: (kind == MetricKind::Histogram).then_some(look.target.quantile),
            limit: look.target.limit,
            window: rule.window,
            need: look.min_requests,
            subject,
            stable: stable.filter(|stable| stable.n > 0 || !kind.counts_requests()),
            breaches: self.breaches,
            breaches_needed: rule.breaches,
            gap,
            verdict,
        }
    }

    fn judge(
        &mut self,
        rule: WindowRule,
        min_requests: u64,
        subject: Option<&Measure>,
        gap: Option<&Gap>,
        is_broken: impl Fn(&Measure) -> Option<bool>,
    ) -> Verdict {
        if gap.is_some() {
            return Verdict::Blind;
        }
        let Some(subject) = subject.filter(|subject| subject.n >= min_requests) else {
            self.breaches = 0;
            return Verdict::Insufficient;
        };
        let Some(broken) = is_broken(subject) else { return Verdict::Insufficient };
        if !broken {
            self.breaches = 0;
            return Verdict::Pass;
        }
        self.breaches = self.breaches.saturating_add(1);
        if self.breaches >= rule.breaches { Verdict::Regressed } else { Verdict::Insufficient }
    }
}

/// Returns the value of an arm over the window; `None` if it has none.
pub fn measure(rule: WindowRule, look: &Look<'_>, arm: Arm) -> Option<Measure> {
    match look.target.metric.kind {
        MetricKind::Availability => look.availability.cloned(),
        // Without a distance a drift has no value, and its requests are compared with no limit.
        MetricKind::Drift => None,
        MetricKind::Ratio | MetricKind::Histogram | MetricKind::Throughput | MetricKind::Gauge | MetricKind::Query => {
            look.ring.measure(look.name, arm, rule.window, look.target.quantile)
        }
    }
}
