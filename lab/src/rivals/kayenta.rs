//! Kayenta: a standalone canary analysis (`kayenta-standalone-canary-analysis`, NetflixACAJudge-v1.0 at a69573b).
//!
//! Every metric is a row of values, one a minute, for the stable and for the canary. At each interval all rows so far (or
//! the last `lookback` of them) are judged by [`bellwether_core::stats::mann_whitney`] and scored from 0 to 100. A score below
//! `marginal` ends it at once; the last one must reach `pass`. Not obvious, and reproduced:
//!
//! - A value knows nothing of how many requests it stands for.
//! - The same rows are judged again and again as they grow, and nothing pays for that.
//! - A metric without data in either arm is not scored, unless it is critical or must have data; a judgement that can't be
//!   made is neither scored nor critical. Both let a canary pass that nobody has seen.
//!
//! Kayenta asks for all values when it judges; here each is asked for when its minute ends, so a Prometheus that is away
//! leaves a hole. If it is away at a judgement, Kayenta's stage fails, and what becomes of the canary is for the pipeline:
//! held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RivalAnswer, RivalEnd, RivalOutcome, RivalRule, RivalSource, Why};
use bellwether_core::measure::window::Arm;
use bellwether_core::stats::mann_whitney::{self, Grouped, judge, score};
use bellwether_core::time::{Span, Timestamp};

/// The step of a query.
const STEP: Span = Span::from_secs(60);

/// What an execution request says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KayentaSettings {
    /// `lifetimeDurationMins`.
    pub lifetime: Span,
    /// `analysisIntervalMins`.
    pub interval: Span,
    /// `beginCanaryAnalysisAfterMins`.
    pub begin_after: Span,
    /// `lookbackMins`; `None`: all that there is.
    pub lookback: Option<Span>,
    /// `scoreThresholds.pass`.
    pub pass: f64,
    /// `scoreThresholds.marginal`.
    pub marginal: f64,
    /// The metrics.
    pub metrics: Vec<KayentaMetric>,
    /// `classifier.groupWeights`.
    pub weights: BTreeMap<String, f64>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KayentaMetric {
    /// `name`.
    pub name: String,
    /// `groups`.
    pub groups: Vec<String>,
    /// `analysisConfigurations.canary`.
    pub settings: mann_whitney::MannWhitneySettings,
}

/// The values of one metric, oldest first; NaN where there is none.
#[derive(Debug, Clone, Default)]
struct Row {
    stable: Vec<f64>,
    canary: Vec<f64>,
}

/// An analysis.
#[derive(Debug, Clone)]
pub struct Kayenta {
    settings: KayentaSettings,
    rows: Vec<Row>,
    next: Timestamp,
    next_judgement: Timestamp,
    end: Timestamp,
    outcome: Option<RivalOutcome>,
}

impl Kayenta {
    /// Begins.
    pub fn new(settings: KayentaSettings, start: Timestamp) -> Kayenta {
        let begin = settings.begin_after.after(start);
        // An interval longer than the lifetime is the lifetime, and one of nothing too.
        let interval = if settings.interval < STEP { settings.lifetime } else { settings.interval };
        let end = settings.lifetime.after(begin);
        let rows = vec![Row::default(); settings.metrics.len()];
        let next_judgement = interval.after(begin).min(end);
        let settings = KayentaSettings { interval, ..settings };
        Kayenta { settings, rows, next: STEP.after(begin), next_judgement, end, outcome: None }
    }

    /// Whether it could see.
    fn collect(&mut self, at: Timestamp, source: &dyn RivalSource) -> bool {
        let mut is_away = false;
        for (metric, row) in self.settings.metrics.iter().zip(&mut self.rows) {
            let mut value = |side| {
                let answer = source.ask(&metric.name, side, at);
                is_away |= answer == RivalAnswer::Refused;
                answer.value().unwrap_or(f64::NAN)
            };
            row.stable.push(value(Arm::Stable));
            row.canary.push(value(Arm::Canary));
        }
        !is_away
    }

    fn score(&self) -> f64 {
        let depth = self.settings.lookback.map_or(usize::MAX, |lookback| {
            usize::try_from(lookback.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX).max(1)
        });
        let last = |row: &Vec<f64>| row.get(row.len().saturating_sub(depth)..).unwrap_or_default().to_vec();
        let judged = |(metric, row): (&KayentaMetric, &Row)| {
            let conclusion = judge(&last(&row.stable), &last(&row.canary), &metric.settings);
            Grouped { groups: metric.groups.clone(), label: conclusion.label, critical: conclusion.critical }
        };
        let judged: Vec<Grouped> = self.settings.metrics.iter().zip(&self.rows).map(judged).collect();
        score(&judged, &self.settings.weights)
    }

    fn judge(&self, at: Timestamp) -> Option<(RivalEnd, Why)> {
        let score = self.score();
        let is_last = at >= self.end;
        let least = if is_last { self.settings.pass } else { self.settings.marginal };
        match (score < least, is_last) {
            (true, _) => Some((RivalEnd::RolledBack, Why::Scored { score, least })),
            (false, true) => Some((RivalEnd::Promoted, Why::Scored { score, least })),
            (false, false) => None,
        }
    }
}

impl RivalRule for Kayenta {
    fn next_look(&self) -> Option<Timestamp> {
        self.outcome.is_none().then_some(self.next)
    }

    fn look(&mut self, at: Timestamp, source: &dyn RivalSource) {
        let sees = self.collect(at, source);
        if at >= self.next_judgement {
            let blind = || Why::Blind { metric: "metrics".to_owned(), times: 1, allowed: 0 };
            let end = if sees { self.judge(at) } else { Some((RivalEnd::Held, blind())) };
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
    use super::super::testing::{Scripted, minute, played};
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

    /// The canary is `worse` from a minute on.
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
        let outcome = played(&mut Kayenta::new(settings, minute(0)), source, minute(200))?;
        Some((outcome.end, outcome.at.as_second() / 60))
    }

    #[test]
    fn the_last_score_must_pass_and_the_others_may_be_marginal() {
        assert_eq!(end(settings(180, 60), &source(999, 0.0)), Some((RivalEnd::Promoted, 180)));
        assert_eq!(end(settings(180, 60), &source(0, 5.0)), Some((RivalEnd::RolledBack, 60)));
        assert_eq!(end(settings(180, 10), &source(0, 5.0)), Some((RivalEnd::RolledBack, 10)));
        assert_eq!(
            end(settings(90, 60), &source(61, 50.0)),
            Some((RivalEnd::RolledBack, 90)),
            "an interval that is cut off"
        );
        let lenient = KayentaSettings { marginal: 0.0, ..settings(180, 60) };
        assert_eq!(end(lenient, &source(0, 5.0)), Some((RivalEnd::RolledBack, 180)));
    }

    #[test]
    fn a_lookback_forgets_how_it_was_before() {
        let late = source(150, 5.0);
        assert_eq!(end(settings(180, 60), &late), Some((RivalEnd::Promoted, 180)), "150 good minutes hide 30 bad ones");
        let short = KayentaSettings { lookback: Some(Span::from_secs(1800)), ..settings(180, 60) };
        assert_eq!(end(short, &late), Some((RivalEnd::RolledBack, 180)));
    }

    #[test]
    fn a_prometheus_that_is_away_at_a_judgement_fails_the_stage() {
        for (from, to, expected) in [
            (30, 40, Some((RivalEnd::Promoted, 180))),
            (55, 65, Some((RivalEnd::Held, 60))),
            (0, 200, Some((RivalEnd::Held, 60))),
        ] {
            let source = Scripted::away(minute(from), minute(to), RivalAnswer::Value(1.0));
            assert_eq!(end(settings(180, 60), &source), expected, "{from} to {to}");
        }
    }
}
