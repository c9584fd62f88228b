//! The finding of the sequential judge, and its sentence.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rule::{COLD_LIMIT, SequentialRule};
use crate::judge::numbers::{Numbers, Verdict};
use crate::judge::outlier::Outlier;
use crate::judge::rule::{Finding, Proof};
use crate::measure::metric::{Limit, MetricKind, Unit};
use crate::measure::window::Measure;
use crate::stats::confidence::{self, Interval};
use crate::stats::tally::{Phi, Tally, Worth};

/// The error rate of the confidence interval that people are shown.
const INTERVAL_ERROR: f64 = 0.05;
/// The number of requests for which that interval is narrowest.
const INTERVAL_TUNED_FOR: f64 = 1000.0;

/// The statement that the evidence is about. An alarm speaks against the version, a proof for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// The share is above (in a proof: below) the limit.
    Limit,
    /// The share is above `margin` times the stable's by more than `floor` (in a proof: below one of the two).
    Relative,
    /// With `either` set: the share breaks both the limit and the comparison (in a proof: keeps one of them).
    Both,
    /// More requests were bad than `harm` allows, compared with the stable's share.
    Harm,
}

/// The evidence against a version and for it. Each evidence is a natural logarithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SequentialFinding {
    /// The highest share of bad requests that the limit allows, from 0 to 1.
    pub allowed: f64,
    /// The check's settings of the judge.
    pub rule: SequentialRule,
    /// The proof that the step asks for.
    pub proof: Proof,
    /// The combined evidence against the version, with the claim that contributes most to it.
    pub alarm: (Claim, f64),
    /// The evidence for the version, with the claim that it is for: of limit and comparison the one with less evidence.
    /// `None` unless the step asks for a proof of non-inferiority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<(Claim, f64)>,
    /// The lower bound of the number of requests that were bad and would not have been at the stable's share; `None`
    /// without the setting `harm`, or if there is no such bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<f64>,
    /// The stable's recent share if it is shown to be above the limit, so that the comparison alone decides; without a stable
    /// beside the judged arm, the share of the version before if that one broke the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_breaks: Option<f64>,
    /// Whether the stable kept the limit before the rollout, and breaks it now. A proof waits for the end of such an incident, because
    /// the promoted version has no stable beside it that shows the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incident: bool,
    /// The dispersion of the errors, and whether it is calibrated.
    pub phi: Phi,
    /// The pod that may cause the regression instead of the version; `None` unless the verdict is a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier: Option<Outlier>,
    /// The stratum, such as a route, with most bad requests beyond the stable's share; `None` without strata, and unless the verdict
    /// is a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<WorstStratum>,
    /// The stable's share before the rollout, from 0 to 1, if a proof compares with it for want of a stable beside the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<f64>,
    /// The margin that the check states, if the lasting differences between the stable's pods make it wider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated_margin: Option<f64>,
    /// The requests of cold processes; `None` if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold: Option<Measure>,
}

/// The stratum in which a version is worst.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WorstStratum {
    /// The metric's label that divides it into strata.
    pub label: String,
    /// The label's value.
    pub name: String,
    /// The requests of the judged arm in it.
    pub subject: Measure,
    /// The stable's requests in it.
    pub stable: Measure,
}

impl fmt::Display for WorstStratum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WorstStratum { label, name, subject, stable } = self;
        let counted = |measure: &Measure| format!("{} of {}", measure.hits.unwrap_or(0), measure.n);
        write!(f, "worst in {label}={name:?}: {} against {}", counted(subject), counted(stable))
    }
}

impl SequentialFinding {
    /// Returns whether the evidence against the version reaches the check's level.
    pub(crate) fn alarms(&self) -> bool {
        let (ln_e, level) = self.alarm_beside_level();
        ln_e >= level
    }

    /// Returns whether the evidence for the version reaches `beta`, and no incident is going on; true if no proof is asked for.
    pub(crate) fn passes(&self) -> bool {
        self.proof_beside_level().is_none_or(|(ln_e, level)| ln_e >= level && !self.incident)
    }

    /// Returns an interval that holds the true share with 95 % confidence at every look; `None` if nothing was counted.
    pub(crate) fn between(&self, measure: &Measure) -> Option<Interval> {
        let tally = Tally::of(measure.hits?, measure.n).ok().filter(|tally| tally.n() > 0.0)?;
        let mut counts = Worth::default();
        counts.absorb(tally, self.phi);
        Some(confidence::share(counts, INTERVAL_ERROR, INTERVAL_TUNED_FOR))
    }

    /// Returns the name of the counted requests, such as `latency above 250 ms`.
    pub(crate) fn name(&self, numbers: &Numbers) -> String {
        if numbers.kind == MetricKind::Histogram {
            format!("{} above {}", numbers.check, numbers.unit.show(numbers.limit.value()))
        } else {
            numbers.check.clone()
        }
    }

    /// Returns a claim against the version as people read it, such as `> 1 %` or `> 1.25 times the stable's 0.5 %`.
    fn broken(&self, claim: Claim, numbers: &Numbers) -> String {
        let sign = numbers.limit.broken();
        let stable = Unit::Percent.show(numbers.stable.as_ref().map_or(0.0, |stable| stable.value));
        match claim {
            Claim::Limit => format!("{sign} {}", self.limit(numbers)),
            Claim::Relative => format!("{sign} {} times the stable's {stable}", self.rule.margin),
            Claim::Both => {
                format!("{} and {}", self.broken(Claim::Limit, numbers), self.broken(Claim::Relative, numbers))
            }
            Claim::Harm => format!(
                "has cost at least {:.0} requests that the stable's {stable} would not have, {sign} {:.0}",
                libm::floor(self.excess.unwrap_or(0.0)),
                self.rule.harm.unwrap_or(0.0)
            ),
        }
    }

    /// Returns the claims that are weighed against the version, without `harm`.
    fn all_claims(&self, numbers: &Numbers) -> String {
        let limit = self.broken(Claim::Limit, numbers);
        let relative = format!("{} {} times the stable's", numbers.limit.broken(), self.rule.margin);
        match (&numbers.stable, self.stable_breaks, self.rule.either) {
            (None, ..) => limit,
            (Some(_), Some(_), _) => relative,
            (Some(_), None, true) => format!("{limit} and {relative}"),
            (Some(_), None, false) => format!("{limit} or {relative}"),
        }
    }

    /// Returns a proven claim as people read it, such as `≤ 1 %` or `within 1.25 times or 0.1 points of the stable's 0.5 %`.
    fn proven(&self, claim: Claim, numbers: &Numbers) -> String {
        let stable = match self.past {
            Some(past) => format!("{} before the rollout", Unit::Percent.show(past)),
            None => Unit::Percent.show(numbers.stable.as_ref().map_or(0.0, |stable| stable.value)),
        };
        match claim {
            Claim::Relative if self.rule.floor > 0.0 => {
                let points = Unit::Number.show(100.0 * self.rule.floor);
                format!("within {} times or {points} points of the stable's {stable}", self.rule.margin)
            }
            Claim::Relative => format!("within {} times the stable's {stable}", self.rule.margin),
            Claim::Both => {
                format!("{} or {}", self.proven(Claim::Limit, numbers), self.proven(Claim::Relative, numbers))
            }
            Claim::Limit | Claim::Harm => format!("{} {}", numbers.limit.kept(), self.limit(numbers)),
        }
    }

    /// Returns everything that a passed proof has shown.
    fn all_proven(&self, numbers: &Numbers) -> String {
        match self.shown {
            Some((Claim::Both, _)) => self.proven(Claim::Both, numbers),
            _ if numbers.stable.is_none() && self.past.is_none() => self.proven(Claim::Limit, numbers),
            _ if self.stable_breaks.is_some() => self.proven(Claim::Relative, numbers),
            _ => format!("{} and {}", self.proven(Claim::Limit, numbers), self.proven(Claim::Relative, numbers)),
        }
    }

    /// Returns the end of a sentence about a stable, or a version before, that has this share and breaks the limit.
    fn about_stable(&self, share: f64, numbers: &Numbers) -> String {
        let share = Unit::Percent.show(share);
        match numbers.stable {
            Some(_) => format!(
                "; the stable breaks the limit of {} too ({share}), so the comparison alone decides{}",
                self.limit(numbers),
                if self.incident && self.shown.is_some() { ", after the incident" } else { "" }
            ),
            None => {
                format!(
                    "; the version before broke the limit too ({share}), so the limit is {} times its share",
                    self.rule.margin
                )
            }
        }
    }

    /// Returns the requests of cold processes if they broke the limit, and the compared ones did not.
    fn broken_by_cold(&self, numbers: &Numbers) -> Option<&Measure> {
        let counts_good = self.counts_good(numbers);
        let is_kept =
            |measure: &Measure, limit: f64| if counts_good { measure.value >= limit } else { measure.value <= limit };
        let compared = numbers.subject.as_ref().filter(|subject| subject.n > 0);
        let warm_limit = if counts_good { 1.0 - self.allowed } else { self.allowed };
        let keeps = compared.is_none_or(|compared| is_kept(compared, warm_limit));
        let cold = self.cold.as_ref().filter(|cold| !is_kept(cold, self.cold_limit(numbers)));
        cold.filter(|_| keeps && numbers.verdict == Verdict::Regressed && self.alarm.0 == Claim::Limit)
    }

    /// Whether the check counts good requests against a lower limit.
    fn counts_good(&self, numbers: &Numbers) -> bool {
        numbers.kind != MetricKind::Histogram && matches!(numbers.limit, Limit::Min(_))
    }

    /// Returns the limit for the share of the requests of cold processes.
    fn cold_limit(&self, numbers: &Numbers) -> f64 {
        let bad = self.allowed.max(COLD_LIMIT);
        if self.counts_good(numbers) { 1.0 - bad } else { bad }
    }

    /// Returns the limit for the share of the counted requests, as people read it.
    pub(crate) fn limit(&self, numbers: &Numbers) -> String {
        Unit::Percent.show(self.limit_share(numbers))
    }

    /// Returns the limit for the share of the counted requests, from 0 to 1.
    pub(crate) fn limit_share(&self, numbers: &Numbers) -> f64 {
        let is_raised = self.stable_breaks.is_some() && numbers.stable.is_none();
        match (numbers.kind, numbers.limit) {
            (MetricKind::Histogram, _) => self.allowed,
            (_, Limit::Max(_)) if is_raised => self.allowed,
            (_, Limit::Min(_)) if is_raised => 1.0 - self.allowed,
            (_, limit) => limit.value(),
        }
    }

    /// Returns the natural logarithms of the evidence against the version and of the evidence that is an alarm.
    pub(crate) fn alarm_beside_level(&self) -> (f64, f64) {
        (self.alarm.1, -libm::log(self.rule.level()))
    }

    /// Returns the natural logarithms of the evidence for the version and of the evidence that is a proof; `None` if no proof is
    /// asked for.
    pub(crate) fn proof_beside_level(&self) -> Option<(f64, f64)> {
        self.shown.map(|(_, ln_e)| (ln_e, -libm::log(self.rule.beta)))
    }
}

impl Finding for SequentialFinding {
    fn sentence(&self, numbers: &Numbers) -> Option<String> {
        let subject = numbers.subject.as_ref().filter(|_| numbers.verdict != Verdict::Blind)?;
        if subject.n < numbers.need && numbers.verdict != Verdict::Regressed {
            return None;
        }
        let alarm = (self.alarm.1, self.rule.level(), self.rule.covers());
        let proof = |ln_e| (ln_e, self.rule.beta, format!(" at {}", Unit::Percent.show(self.rule.beta)));
        let cold = self.broken_by_cold(numbers);
        let subject = cold.unwrap_or(subject);
        let (text, (ln_e, needed, covers)) = match (numbers.verdict, self.shown) {
            (Verdict::Regressed, _) if cold.is_some() => {
                let limit = Unit::Percent.show(self.cold_limit(numbers));
                (format!("{} {limit} in cold processes", numbers.limit.broken()), alarm)
            }
            (Verdict::Regressed, _) => (self.broken(self.alarm.0, numbers), alarm),
            (Verdict::Pass, Some((_, ln_e))) => (format!("is shown to be {}", self.all_proven(numbers)), proof(ln_e)),
            (_, Some((claim, ln_e))) => {
                (format!("is not shown yet to be {}", self.proven(claim, numbers)), proof(ln_e))
            }
            (_, None) => (format!("is not shown to be {}", self.all_claims(numbers)), alarm),
        };
        let value = Unit::Percent.show(subject.value);
        let counted = format!("{} of {} requests in {}", subject.hits.unwrap_or(0), subject.n, numbers.window);
        let beside = numbers.stable.as_ref().map_or(String::new(), |stable| {
            if numbers.verdict == Verdict::Regressed && self.alarm.0 != Claim::Limit {
                format!(" against {} of {}", stable.hits.unwrap_or(0), stable.n)
            } else {
                format!("; stable {}", Unit::Percent.show(stable.value))
            }
        });
        let doubt = if self.phi.calibrated { "" } else { ", not calibrated" };
        let (has, needs) = (odds(ln_e), odds(-libm::log(needed)));
        let mut sentence = format!(
            "{} {value} {text} ({counted}{beside}; evidence {has}, needs {needs}{covers}{doubt})",
            self.name(numbers)
        );
        self.stable_breaks.iter().for_each(|share| sentence.push_str(&self.about_stable(*share, numbers)));
        if let (Some(stated), Some(_)) = (self.stated_margin, &numbers.stable) {
            let margin = self.rule.margin;
            sentence.push_str(&format!(
                "; pods of the stable differ lastingly, so {margin} times is allowed instead of {stated}"
            ));
        }
        self.worst.iter().for_each(|worst| sentence.push_str(&format!("; {worst}")));
        self.outlier.iter().for_each(|outlier| sentence.push_str(&format!("; {outlier}")));
        Some(sentence)
    }
}

/// Returns evidence as people read it, as the odds to one. `ln_e` is its natural logarithm.
pub fn odds(ln_e: f64) -> String {
    match libm::exp(ln_e) {
        e if e >= 1e6 => "over 1000000".to_owned(),
        e if e >= 10.0 => format!("{e:.0}"),
        e => format!("{e:.1}"),
    }
}
