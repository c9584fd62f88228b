//! The rule of Kayenta: a standalone canary analysis (`kayenta-standalone-canary-analysis`, NetflixACAJudge-v1.0 at
//! a69573b).
//!
//! Every metric has one value per minute for the stable and for the canary. At each interval all values so far (or
//! those of the last `lookback`) are judged by [`bellwether_core::stats::mann_whitney`] and scored from 0 to 100. A
//! score below `marginal` rolls back at once; the last score must reach `pass`. These less obvious properties are
//! reproduced:
//!
//! - A value has no weight by its number of requests.
//! - The same values are judged repeatedly as their number grows, without a correction for repeated looks.
//! - A metric without data in either arm is not scored unless it is critical or must have data, and a test with too few
//!   values is neither scored nor critical. Both pass a canary without any evidence.
//!
//! Kayenta queries all values at the time of a judgement. Here each value is queried at the end of its minute, so an
//! outage of Prometheus leaves a gap. During an outage at the time of a judgement Kayenta's stage fails and the
//! pipeline decides about the canary; this rule ends as held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RivalAnswer, RivalEnd, RivalOutcome, RivalReason, RivalRule, RivalSource};
use bellwether_core::measure::window::Arm;
use bellwether_core::stats::mann_whitney::{self, Grouped, judge, score};
use bellwether_core::time::{Span, Timestamp};

/// The time between two values of a metric.
const STEP: Span = Span::from_secs(60);

/// The settings of an execution request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KayentaSettings {
    /// The duration of the analysis (`lifetimeDurationMins`).
    pub lifetime: Span,
    /// The time between two judgements (`analysisIntervalMins`); below a minute it is the lifetime.
    pub interval: Span,
    /// The time from the start to the beginning of the analysis (`beginCanaryAnalysisAfterMins`).
    pub begin_after: Span,
    /// The length of the past that a judgement uses (`lookbackMins`); `None` for all of it.
    pub lookback: Option<Span>,
    /// The required last score, from 0 to 100 (`scoreThresholds.pass`).
    pub pass: f64,
    /// The required earlier scores, from 0 to 100 (`scoreThresholds.marginal`).
    pub marginal: f64,
    /// The metrics of the analysis.
    pub metrics: Vec<KayentaMetric>,
    /// The groups' weights in percent (`classifier.groupWeights`).
    pub weights: BTreeMap<String, f64>,
}

/// One metric and its groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KayentaMetric {
    /// The metric's name (`name`).
    pub name: String,
    /// The groups in which the metric is scored (`groups`).
    pub groups: Vec<String>,
    /// The settings of the metric's judgement (`analysisConfigurations.canary`).
    pub settings: mann_whitney::MannWhitneySettings,
}

/// The values of one metric, oldest first; NaN for a missing value.
#[derive(Debug, Clone, Default)]
struct Values {
    stable: Vec<f64>,
    canary: Vec<f64>,
}

/// The rule of a canary analysis.
#[derive(Debug, Clone)]
pub struct Kayenta {
    settings: KayentaSettings,
    /// The values of each metric, in the order of the settings.
    values: Vec<Values>,
    next: Timestamp,
    next_judgement: Timestamp,
    end: Timestamp,
    outcome: Option<RivalOutcome>,
}

impl Kayenta {
    /// Starts an analysis at `start`.
    pub fn new(settings: KayentaSettings, start: Timestamp) -> Kayenta {
        let begin = settings.begin_after.after(start);
        // An interval of less than a step means the lifetime.
        let interval = if settings.interval < STEP { settings.lifetime } else { settings.interval };
        let end = settings.lifetime.after(begin);
        let values = vec![Values::default(); settings.metrics.len()];
        let next_judgement = interval.after(begin).min(end);
        let settings = KayentaSettings { interval, ..settings };
        Kayenta { settings, values, next: STEP.after(begin), next_judgement, end, outcome: None }
    }

    /// Queries and stores the current values. Returns whether no query failed.
    fn collect(&mut self, at: Timestamp, source: &dyn RivalSource) -> bool {
        let mut has_failed = false;
        for (metric, values) in self.settings.metrics.iter().zip(&mut self.values) {
            let mut value = |side| {
                let answer = source.ask(&metric.name, side, at);
                has_failed |= answer == RivalAnswer::Refused;
                answer.value().unwrap_or(f64::NAN)
            };
            values.stable.push(value(Arm::Stable));
            values.canary.push(value(Arm::Canary));
        }
        !has_failed
    }

    fn score(&self) -> f64 {
        let depth = self.settings.lookback.map_or(usize::MAX, |lookback| {
            usize::try_from(lookback.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX).max(1)
        });
        let last = |values: &Vec<f64>| values.get(values.len().saturating_sub(depth)..).unwrap_or_default().to_vec();
        let judged = |(metric, values): (&KayentaMetric, &Values)| {
            let result = judge(&last(&values.stable), &last(&values.canary), &metric.settings);
            Grouped { groups: metric.groups.clone(), label: result.label, critical: result.critical }
        };
        let judged: Vec<Grouped> = self.settings.metrics.iter().zip(&self.values).map(judged).collect();
        score(&judged, &self.settings.weights)
    }

    fn judge(&self, at: Timestamp) -> Option<(RivalEnd, RivalReason)> {
        let score = self.score();
        let is_last = at >= self.end;
        let least = if is_last { self.settings.pass } else { self.settings.marginal };
        match (score < least, is_last) {
            (true, _) => Some((RivalEnd::RolledBack, RivalReason::Scored { score, least })),
            (false, true) => Some((RivalEnd::Promoted, RivalReason::Scored { score, least })),
            (false, false) => None,
        }
    }
}

impl RivalRule for Kayenta {
    fn next_look(&self) -> Option<Timestamp> {
        self.outcome.is_none().then_some(self.next)
    }

    fn look(&mut self, at: Timestamp, source: &dyn RivalSource) {
        let is_complete = self.collect(at, source);
        if at >= self.next_judgement {
            let blind = || RivalReason::Blind { metric: "metrics".to_owned(), times: 1, allowed: 0 };
            let end = if is_complete { self.judge(at) } else { Some((RivalEnd::Held, blind())) };
            self.outcome = end.map(|(end, why)| RivalOutcome { end, at, why });
            self.next_judgement = self.settings.interval.after(at).min(self.end);
        }
        self.next = STEP.after(at);
    }

    fn outcome(&self) -> Option<&RivalOutcome> {
        self.outcome.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scripted, minute, run_until};
    use super::*;

    fn settings(lifetime: u64, interval: u64) -> KayentaSettings {
        let errors = KayentaMetric {
            name: "errors".into(),
            groups: vec!["errors".into()],
            settings: mann_whitney::MannWhitneySettings {
                direction: mann_whitney::Direction::Increase,
                ..mann_whitney::MannWhitneySettings::default()
            },
        };
        KayentaSettings {
            lifetime: Span::from_secs(60 * lifetime),
            interval: Span::from_secs(60 * interval),
            begin_after: Span::ZERO,
            lookback: None,
            pass: 95.0,
            marginal: 75.0,
            metrics: vec![errors],
            weights: BTreeMap::new(),
        }
    }

    /// Returns a source whose canary is worse by `worse` from a minute on.
    fn source(from: i64, worse: f64) -> impl RivalSource {
        struct Arms(i64, f64);
        impl RivalSource for Arms {
            fn ask(&self, _: &str, side: Arm, at: Timestamp) -> RivalAnswer {
                let minute = at.as_second() / 60;
                let noise = f64::from((minute * 7 % 11) as i32) / 10.0;
                let is_worse = side == Arm::Canary && minute >= self.0;
                RivalAnswer::Value(10.0 + noise + if is_worse { self.1 } else { 0.0 })
            }
        }
        Arms(from, worse)
    }

    fn end(settings: KayentaSettings, source: &dyn RivalSource) -> Option<(RivalEnd, i64)> {
        let outcome = run_until(&mut Kayenta::new(settings, minute(0)), source, minute(200))?;
        Some((outcome.end, outcome.at.as_second() / 60))
    }

    #[test]
    fn the_last_score_must_pass_and_earlier_ones_must_be_marginal() {
        assert_eq!(end(settings(180, 60), &source(999, 0.0)), Some((RivalEnd::Promoted, 180)));
        assert_eq!(end(settings(180, 60), &source(0, 5.0)), Some((RivalEnd::RolledBack, 60)));
        assert_eq!(end(settings(180, 10), &source(0, 5.0)), Some((RivalEnd::RolledBack, 10)));
        assert_eq!(
            end(settings(90, 60), &source(61, 50.0)),
            Some((RivalEnd::RolledBack, 90)),
            "the last interval is shorter"
        );
        let lenient = KayentaSettings { marginal: 0.0, ..settings(180, 60) };
        assert_eq!(end(lenient, &source(0, 5.0)), Some((RivalEnd::RolledBack, 180)));
    }

    #[test]
    fn a_lookback_finds_a_late_fault_that_older_values_hide() {
        let late = source(150, 5.0);
        assert_eq!(end(settings(180, 60), &late), Some((RivalEnd::Promoted, 180)), "150 good minutes hide 30 bad ones");
        let short = KayentaSettings { lookback: Some(Span::from_secs(1800)), ..settings(180, 60) };
        assert_eq!(end(short, &late), Some((RivalEnd::RolledBack, 180)));
    }

    #[test]
    fn an_outage_at_a_judgement_holds() {
        for (from, to, expected) in [
            (30, 40, Some((RivalEnd::Promoted, 180))),
            (55, 65, Some((RivalEnd::Held, 60))),
            (0, 200, Some((RivalEnd::Held, 60))),
        ] {
            let source = Scripted::with_outage(minute(from), minute(to), RivalAnswer::Value(1.0));
            assert_eq!(end(settings(180, 60), &source), expected, "{from} to {to}");
        }
    }
}
