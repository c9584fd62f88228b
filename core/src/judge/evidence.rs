//! The evidence of a check: a verdict with its numbers, and the sentence that explains it.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::judges::JudgeFinding;
use super::numbers::{Numbers, Verdict};
use super::rule::Finding as _;
use crate::measure::metric::MetricKind;
use crate::measure::window::Measure;

/// A verdict and the numbers that it rests on. It dereferences to its [`Numbers`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evidence {
    /// The numbers that every judge gives.
    pub numbers: Numbers,
    /// The finding that is specific to the judge.
    pub finding: JudgeFinding,
}

impl Deref for Evidence {
    type Target = Numbers;

    fn deref(&self) -> &Numbers {
        &self.numbers
    }
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

impl Evidence {
    /// Returns the check's name with its quantile, such as `error-rate` or `response-time p95`.
    fn subject_name(&self) -> String {
        match self.numbers.quantile.map(|q| format!("p{}", trimmed(q * 100.0))) {
            Some(quantile) if !self.numbers.check.ends_with(&quantile) => format!("{} {quantile}", self.numbers.check),
            Some(_) | None => self.numbers.check.clone(),
        }
    }

    /// Returns the name of the measured value, such as `response-time p95` or `response-time above 250 ms`.
    pub fn measured_name(&self) -> String {
        self.name_and_limit().0
    }

    /// Returns the limit with its sign and unit, such as `≤ 5 %`.
    pub fn shown_limit(&self) -> String {
        format!("{} {}", self.numbers.limit.kept(), self.name_and_limit().1)
    }

    /// Returns the name of the measured value and its limit, as people read them.
    fn name_and_limit(&self) -> (String, String) {
        match self.finding.sequential() {
            Some(sequential) => (sequential.name(&self.numbers), sequential.limit(&self.numbers)),
            None => (self.subject_name(), self.numbers.unit.show(self.numbers.limit.value())),
        }
    }

    fn show(&self, measure: &Measure) -> String {
        format!("{}{}", if measure.beyond { "> " } else { "" }, self.numbers.unit.show(measure.value))
    }

    /// Returns the counts behind a value, such as `118 of 2418 requests in 5m; stable 0.44 %`.
    fn basis(&self, subject: &Measure) -> String {
        let mut text = match (self.numbers.kind, subject.hits) {
            (MetricKind::Ratio, Some(hits)) => format!("{hits} of {} requests in {}", subject.n, self.numbers.window),
            (MetricKind::Availability, Some(hits)) => format!("{hits} of {} pods ready", subject.n),
            (MetricKind::Histogram | MetricKind::Drift | MetricKind::Throughput, _) => {
                format!("{} requests in {}", subject.n, self.numbers.window)
            }
            (MetricKind::Ratio | MetricKind::Availability | MetricKind::Gauge | MetricKind::Query, _) => {
                format!("over {}", self.numbers.window)
            }
        };
        if let Some(stable) = &self.numbers.stable {
            text.push_str("; stable ");
            text.push_str(&self.show(stable));
        }
        text
    }
}

/// Returns a number with at most two decimals and without trailing zeros.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sentence) = self.finding.sentence(&self.numbers) {
            return f.write_str(&sentence);
        }
        let (name, limit) = self.name_and_limit();
        match (self.numbers.verdict, &self.numbers.subject) {
            (Verdict::Blind, _) => match &self.numbers.gap {
                Some(gap) => write!(f, "{name} can't be seen: {gap}"),
                None => write!(f, "{name} can't be seen"),
            },
            (Verdict::Pass, Some(subject)) => {
                let kept = self.numbers.limit.kept();
                write!(f, "{name} {} {kept} {limit} ({})", self.show(subject), self.basis(subject))
            }
            (Verdict::Regressed, Some(subject)) => {
                let broken = self.numbers.limit.broken();
                // A quantile beyond the last bucket already says `>`.
                let value = self.numbers.unit.show(subject.value);
                let looks = if self.numbers.breaches_needed > 1 {
                    format!(" at {} looks in a row", self.numbers.breaches)
                } else {
                    String::new()
                };
                let at_least = if subject.beyond { "at least " } else { "" };
                write!(f, "{name} {at_least}{value} {broken} {limit}{looks} ({})", self.basis(subject))
            }
            (Verdict::Insufficient, Some(subject)) if subject.n >= self.numbers.need => write!(
                f,
                "{name} {} {} {limit}, look {} of {} ({})",
                self.show(subject),
                self.numbers.limit.broken(),
                self.numbers.breaches,
                self.numbers.breaches_needed,
                self.basis(subject)
            ),
            (Verdict::Insufficient, subject) => {
                let n = subject.as_ref().map_or(0, |subject| subject.n);
                let limit = format!("limit {limit}");
                if self.numbers.kind.counts_requests() {
                    write!(
                        f,
                        "{name}: {n} requests in {}, need at least {} to judge it ({limit})",
                        self.numbers.window, self.numbers.need
                    )
                } else {
                    write!(f, "{name}: no value yet in {} ({limit})", self.numbers.window)
                }
            }
            (Verdict::Pass | Verdict::Regressed, None) => write!(f, "{name} {} (limit {limit})", self.numbers.verdict),
        }
    }
}
