//! The article's rule: the value over the last five minutes against a limit, every 30 s, and the first one over ends it.
//!
//! After `scripts/canary_deploy.py` (`monitor_canary_health`: 15 minutes, error rate ≤ 5 %, response time ≤ 5000 ms) and
//! `scripts/auto_rollback.py` (`monitor_and_rollback`: 5 minutes, ≤ 15 %, ≤ 10 000 ms, availability ≥ 95 %). A metric
//! without data is left out of the comparison, so that it counts as healthy. If the question itself fails, the first
//! script rolls back at once (its `except` does), and the second logs it and goes on.

use serde::{Deserialize, Serialize};

use super::{RivalAnswer, RivalEnd, RivalOutcome, RivalRule, RivalSource, SHORTEST, Why};
use bellwether_core::measure::metric::Limit;
use bellwether_core::measure::window::Arm;
use bellwether_core::time::{Span, Timestamp};

/// What the rule looks at, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArticleSettings {
    /// Between two looks.
    pub every: Span,
    /// For how long it looks.
    pub lasts: Span,
    /// The limits, by metric. (The window is the query's.)
    pub limits: Vec<(String, Limit)>,
    /// Whether a question that fails is passed over, as the second script does.
    pub forgives_errors: bool,
}

impl ArticleSettings {
    /// The canary script's.
    pub fn canary() -> ArticleSettings {
        ArticleSettings {
            every: Span::from_secs(30),
            lasts: Span::from_secs(900),
            limits: vec![("error-rate".into(), Limit::Max(0.05)), ("response-time".into(), Limit::Max(5000.0))],
            forgives_errors: false,
        }
    }

    /// The rollback script's, for the time after.
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

/// The rule at work.
#[derive(Debug, Clone)]
pub struct Article {
    settings: ArticleSettings,
    end: Timestamp,
    next: Timestamp,
    outcome: Option<RivalOutcome>,
}

impl Article {
    /// Begins to look at once.
    pub fn new(settings: ArticleSettings, start: Timestamp) -> Article {
        let end = settings.lasts.after(start);
        Article { settings, end, next: start, outcome: None }
    }

    fn reason_against(&self, at: Timestamp, source: &dyn RivalSource) -> Option<Why> {
        self.settings.limits.iter().find_map(|(metric, limit)| {
            let saw = source.ask(metric, Arm::Canary, at);
            let failed = match saw {
                RivalAnswer::Value(value) => limit.is_broken_by(value),
                RivalAnswer::Refused => !self.settings.forgives_errors,
                RivalAnswer::NotANumber | RivalAnswer::Empty => false,
            };
            failed.then(|| Why::Failed { metric: metric.clone(), saw, times: 1, allowed: 0 })
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
            self.outcome = end(RivalEnd::Promoted, Why::Done);
        } else if let Some(why) = self.reason_against(at, source) {
            self.outcome = end(RivalEnd::RolledBack, why);
        }
        self.next = self.settings.every.max(SHORTEST).after(at).min(self.end.max(at));
    }

    fn outcome(&self) -> Option<&RivalOutcome> {
        self.outcome.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scripted, minute, played};
    use super::*;

    fn end(settings: ArticleSettings, source: &dyn RivalSource) -> Option<(RivalEnd, i64)> {
        let outcome = played(&mut Article::new(settings, minute(0)), source, minute(60))?;
        Some((outcome.end, outcome.at.as_second() / 60))
    }

    #[test]
    fn the_first_value_over_the_limit_ends_it() {
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
    fn a_question_that_fails_rolls_the_canary_back_and_is_passed_over_by_the_guard() {
        let away = Scripted::away(minute(2), minute(3), RivalAnswer::Value(0.01));
        assert_eq!(end(ArticleSettings::canary(), &away), Some((RivalEnd::RolledBack, 2)));
        let guard =
            ArticleSettings { limits: vec![("error-rate".into(), Limit::Max(0.15))], ..ArticleSettings::guard() };
        assert_eq!(end(guard, &away), Some((RivalEnd::Promoted, 5)));
    }
}
