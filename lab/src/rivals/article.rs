//! The article's rule: every 30 s the value over the last five minutes is compared with a limit, and the first value
//! above the limit rolls back.
//!
//! It follows `scripts/canary_deploy.py` (`monitor_canary_health`: 15 minutes, error rate ≤ 5 %, response time ≤ 5000
//! ms) and `scripts/auto_rollback.py` (`monitor_and_rollback`: 5 minutes, ≤ 15 %, ≤ 10 000 ms, availability ≥ 95 %). A
//! metric without data is not compared and thus counts as healthy. If the query itself fails, the first script rolls
//! back at once in its `except`, and the second logs the error and continues.

use serde::{Deserialize, Serialize};

use super::{MIN_INTERVAL, RivalAnswer, RivalEnd, RivalOutcome, RivalReason, RivalRule, RivalSource};
use bellwether_core::measure::metric::Limit;
use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

/// The settings of the article's rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArticleSettings {
    /// The time between two looks.
    pub every: Span,
    /// The time from the start to the promotion.
    pub lasts: Span,
    /// The names of the metrics and their limits, each in the metric's unit. The window is part of the query.
    pub limits: Vec<(String, Limit)>,
    /// Whether a failed query is ignored, as in the second script, instead of rolling back.
    pub forgives_errors: bool,
}

impl ArticleSettings {
    /// Returns the settings of the canary script.
    pub fn canary() -> ArticleSettings {
        ArticleSettings {
            every: Span::from_secs(30),
            lasts: Span::from_secs(900),
            limits: vec![("error-rate".into(), Limit::Max(0.05)), ("response-time".into(), Limit::Max(5000.0))],
            forgives_errors: false,
        }
    }

    /// Returns the settings of the rollback script, which watches after the promotion.
    pub fn guard() -> ArticleSettings {
        ArticleSettings {
            every: Span::from_secs(30),
            lasts: Span::from_secs(300),
            limits: vec![
                ("error-rate".into(), Limit::Max(0.15)),
                ("response-time-p95".into(), Limit::Max(10_000.0)),
                ("availability".into(), Limit::Min(0.95)),
            ],
            forgives_errors: true,
        }
    }
}

/// The article's rule.
#[derive(Debug, Clone)]
pub struct Article {
    settings: ArticleSettings,
    end: Timestamp,
    next: Timestamp,
    outcome: Option<RivalOutcome>,
}

impl Article {
    /// Starts the rule; its first look is at `start`.
    pub fn new(settings: ArticleSettings, start: Timestamp) -> Article {
        let end = settings.lasts.after(start);
        Article { settings, end, next: start, outcome: None }
    }

    /// Returns the reason for a rollback if a limit is broken or a query fails.
    fn failure(&self, at: Timestamp, source: &dyn RivalSource) -> Option<RivalReason> {
        self.settings.limits.iter().find_map(|(metric, limit)| {
            let saw = source.ask(metric, Arm::Canary, at);
            let failed = match saw {
                RivalAnswer::Value(value) => limit.is_broken_by(value),
                RivalAnswer::Refused => !self.settings.forgives_errors,
                RivalAnswer::NotANumber | RivalAnswer::Empty => false,
            };
            failed.then(|| RivalReason::Failed { metric: metric.clone(), saw, times: 1, allowed: 0 })
        })
    }
}

impl RivalRule for Article {
    fn next_look(&self) -> Option<Timestamp> {
        self.outcome.is_none().then_some(self.next)
    }

    fn look(&mut self, at: Timestamp, source: &dyn RivalSource) {
        let end = |end, why| Some(RivalOutcome { end, at, why });
        if at >= self.end {
            self.outcome = end(RivalEnd::Promoted, RivalReason::Done);
        } else if let Some(why) = self.failure(at, source) {
            self.outcome = end(RivalEnd::RolledBack, why);
        }
        self.next = self.settings.every.max(MIN_INTERVAL).after(at).min(self.end.max(at));
    }

    fn outcome(&self) -> Option<&RivalOutcome> {
        self.outcome.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scripted, minute, run_until};
    use super::*;

    fn end(settings: ArticleSettings, source: &dyn RivalSource) -> Option<(RivalEnd, i64)> {
        let outcome = run_until(&mut Article::new(settings, minute(0)), source, minute(60))?;
        Some((outcome.end, outcome.at.as_second() / 60))
    }

    #[test]
    fn the_first_value_above_the_limit_rolls_back_and_missing_values_pass() {
        let (good, bad) = (RivalAnswer::Value(0.05), RivalAnswer::Value(0.0501));
        for (answers, expected) in [
            (vec![good; 30], (RivalEnd::Promoted, 15)),
            ([vec![good; 9], vec![bad; 9]].concat(), (RivalEnd::RolledBack, 9)),
            ([vec![good; 15], vec![bad; 9]].concat(), (RivalEnd::Promoted, 15)),
            (vec![RivalAnswer::Empty; 30], (RivalEnd::Promoted, 15)),
            (vec![RivalAnswer::NotANumber; 30], (RivalEnd::Promoted, 15)),
        ] {
            assert_eq!(end(ArticleSettings::canary(), &Scripted::by_minute(&answers)), Some(expected), "{answers:?}");
        }
    }

    #[test]
    fn a_failed_query_rolls_the_canary_back_and_is_ignored_by_the_guard() {
        let outage = Scripted::with_outage(minute(2), minute(3), RivalAnswer::Value(0.01));
        assert_eq!(end(ArticleSettings::canary(), &outage), Some((RivalEnd::RolledBack, 2)));
        let guard =
            ArticleSettings { limits: vec![("error-rate".into(), Limit::Max(0.15))], ..ArticleSettings::guard() };
        assert_eq!(end(guard, &outage), Some((RivalEnd::Promoted, 5)));
    }
}
