//! What a check says, and the numbers that it says it from.
//!
//! There are four verdicts and no fifth. What can't be seen is `blind` and what is too little is `insufficient`; neither
//! is ever taken for a pass or for a regression.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::block::Gap;
use crate::measure::metric::{Limit, MetricKind, Unit};
use crate::measure::window::Measure;
use crate::time::Span;

mod drifted;
mod ranked;
mod weighed;

pub use drifted::DriftFinding;
pub(crate) use ranked::LEAST;
pub use ranked::RankFinding;
pub(crate) use weighed::odds;
pub use weighed::{Claim, SequentialFinding};

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Within its limit, on enough evidence.
    Pass,
    /// Over its limit, on enough evidence.
    Regressed,
    /// Not enough evidence yet.
    Insufficient,
    /// The evidence can't be seen.
    Blind,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::Regressed => "regressed",
            Verdict::Insufficient => "insufficient",
            Verdict::Blind => "blind",
        })
    }
}

/// A verdict and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evidence {
    /// The check's name.
    pub check: String,
    /// What sort of number its metric is.
    pub kind: MetricKind,
    /// The unit of all values here.
    pub unit: Unit,
    /// For a histogram: which quantile the value is.
    pub quantile: Option<f64>,
    /// The limit.
    pub limit: Limit,
    /// Over how long a time the values are taken.
    pub window: Span,
    /// With fewer requests nothing is said.
    pub need: u64,
    /// What is judged: the canary, or under guard the stable.
    pub subject: Option<Measure>,
    /// The stable beside it, for comparison.
    pub stable: Option<Measure>,
    /// So many looks in a row were over the limit …
    pub breaches: u32,
    /// … and so many are a regression.
    pub breaches_needed: u32,
    /// Why nothing could be seen at the last look.
    pub gap: Option<Gap>,
    /// What follows from all this.
    pub verdict: Verdict,
    /// Whose verdict it is.
    #[serde(default)]
    pub by: JudgeFinding,
}

/// The evidence of at least one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Evidence>")]
pub struct Findings(Vec<Evidence>);

impl Findings {
    /// Wraps a list of evidence; `None` if it is empty.
    pub fn new(evidence: Vec<Evidence>) -> Option<Findings> {
        (!evidence.is_empty()).then_some(Findings(evidence))
    }

    /// Returns the evidence, in the order of the policy's checks.
    pub fn iter(&self) -> impl Iterator<Item = &Evidence> {
        self.0.iter()
    }
}

impl TryFrom<Vec<Evidence>> for Findings {
    type Error = &'static str;

    fn try_from(evidence: Vec<Evidence>) -> Result<Findings, &'static str> {
        Findings::new(evidence).ok_or("a finding needs the evidence of at least one check")
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

/// By which judge, with what only that one has to say.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JudgeFinding {
    /// `threshold`: the value is all that there is.
    #[default]
    Threshold,
    /// `sequential`: how much evidence there is, and for what.
    Sequential(SequentialFinding),
    /// `mann-whitney`: what was compared.
    MannWhitney(RankFinding),
    /// A drift: what was compared.
    Drift(DriftFinding),
}

impl JudgeFinding {
    /// What the sequential judge has found, if it is its verdict.
    pub fn weighed(&self) -> Option<&SequentialFinding> {
        match self {
            JudgeFinding::Sequential(weighed) => Some(weighed),
            JudgeFinding::Threshold | JudgeFinding::MannWhitney(_) | JudgeFinding::Drift(_) => None,
        }
    }
}

impl Evidence {
    /// What is measured, as people call it: `error-rate`, or `response-time p95`.
    fn subject_name(&self) -> String {
        match self.quantile.map(|q| format!("p{}", trimmed(q * 100.0))) {
            Some(quantile) if !self.check.ends_with(&quantile) => format!("{} {quantile}", self.check),
            Some(_) | None => self.check.clone(),
        }
    }

    /// The limit as people read it: `≤ 5 %`.
    pub fn shown_limit(&self) -> String {
        format!("{} {}", self.limit.kept(), self.named().1)
    }

    /// What is held against which limit.
    fn named(&self) -> (String, String) {
        match self.by.weighed() {
            Some(weighed) => (weighed.name(self), weighed.limit(self)),
            None => (self.subject_name(), self.unit.show(self.limit.value())),
        }
    }

    fn show(&self, measure: &Measure) -> String {
        format!("{}{}", if measure.beyond { "> " } else { "" }, self.unit.show(measure.value))
    }

    /// `118 of 2418 requests in 5m; stable 0.44 %`
    fn basis(&self, subject: &Measure) -> String {
        let mut text = match (self.kind, subject.hits) {
            (MetricKind::Ratio, Some(hits)) => format!("{hits} of {} requests in {}", subject.n, self.window),
            (MetricKind::Availability, Some(hits)) => format!("{hits} of {} pods ready", subject.n),
            (MetricKind::Histogram | MetricKind::Drift | MetricKind::Throughput, _) => {
                format!("{} requests in {}", subject.n, self.window)
            }
            (MetricKind::Ratio | MetricKind::Availability | MetricKind::Gauge | MetricKind::Query, _) => {
                format!("over {}", self.window)
            }
        };
        if let Some(stable) = &self.stable {
            text.push_str("; stable ");
            text.push_str(&self.show(stable));
        }
        text
    }
}

/// A number without a trailing `.0`.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.subject.as_ref().map_or(0, |subject| subject.n);
        // What can't be seen, or is too little, is said alike of all.
        match &self.by {
            JudgeFinding::Threshold => {}
            _ if self.verdict == Verdict::Blind || self.subject.is_none() => {}
            JudgeFinding::Sequential(weighed) if n >= self.need || self.verdict == Verdict::Regressed => {
                return weighed.say(self, f);
            }
            JudgeFinding::MannWhitney(ranked) if n >= self.need => return ranked.say(self, f),
            JudgeFinding::Drift(drifted) if n.min(drifted.reference) >= self.need => return drifted.say(self, f),
            JudgeFinding::Sequential(_) | JudgeFinding::MannWhitney(_) | JudgeFinding::Drift(_) => {}
        }
        let (name, limit) = self.named();
        match (self.verdict, &self.subject) {
            (Verdict::Blind, _) => match &self.gap {
                Some(gap) => write!(f, "{name} can't be seen: {gap}"),
                None => write!(f, "{name} can't be seen"),
            },
            (Verdict::Pass, Some(subject)) => {
                let kept = self.limit.kept();
                write!(f, "{name} {} {kept} {limit} ({})", self.show(subject), self.basis(subject))
            }
            (Verdict::Regressed, Some(subject)) => {
                let broken = self.limit.broken();
                // A quantile beyond the last bucket already says `>`.
                let value = self.unit.show(subject.value);
                let looks = if self.breaches_needed > 1 {
                    format!(" at {} looks in a row", self.breaches)
                } else {
                    String::new()
                };
                let at_least = if subject.beyond { "at least " } else { "" };
                write!(f, "{name} {at_least}{value} {broken} {limit}{looks} ({})", self.basis(subject))
            }
            (Verdict::Insufficient, Some(subject)) if subject.n >= self.need => write!(
                f,
                "{name} {} {} {limit}, look {} of {} ({})",
                self.show(subject),
                self.limit.broken(),
                self.breaches,
                self.breaches_needed,
                self.basis(subject)
            ),
            (Verdict::Insufficient, subject) => {
                let n = subject.as_ref().map_or(0, |subject| subject.n);
                let limit = format!("limit {limit}");
                if self.kind.counts_requests() {
                    write!(
                        f,
                        "{name}: {n} requests in {}, need at least {} to judge it ({limit})",
                        self.window, self.need
                    )
                } else {
                    write!(f, "{name}: no value yet in {} ({limit})", self.window)
                }
            }
            (Verdict::Pass | Verdict::Regressed, None) => write!(f, "{name} {} (limit {limit})", self.verdict),
        }
    }
}
