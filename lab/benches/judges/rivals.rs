//! The rules of other tools with the settings of their documentation, for a check of the error rate.
//!
//! The limit is 1 % of errors over a minute, with a look every minute until the end of the simulated rollout. The
//! article's rule has its own limit (5 %), window (5 min) and end (15 min), and one of the Flagger rules has its own
//! end at `maxWeight`.

use std::collections::BTreeMap;

use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::measure::metric::Limit;
use bellwether_core::time::{Span, Timestamp};
use bellwether_lab::backtest::rival::kayenta_settings;
use bellwether_lab::rivals::argo::{self, Argo};
use bellwether_lab::rivals::article::{self, Article};
use bellwether_lab::rivals::flagger::{self, Flagger, Steps};
use bellwether_lab::rivals::kayenta::Kayenta;
use bellwether_lab::rivals::recording::{Form, RecordedQuery, Recording};
use bellwether_lab::rivals::{RivalOutcome, RivalRule};

use crate::outage::Outage;
use bellwether_sim::polls::{POLL, Poll};

/// The names of the rules, in the order of [`all`].
pub const NAMES: [&str; 7] = [
    "article",
    "Argo, failureLimit 0",
    "Argo, failureLimit 3",
    "Flagger, threshold 5",
    "Flagger, 10 % steps to 50 %",
    "Kayenta every 10 min",
    "Kayenta once an hour",
];

const MINUTE: Span = Span::from_secs(60);

fn start() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// Returns all rules for a rollout of a number of polls.
fn all(polls: usize) -> Vec<Box<dyn RivalRule>> {
    let lasts = Span::from_secs(polls as u64 * POLL as u64);
    vec![
        Box::new(article()),
        Box::new(argo(0, lasts)),
        Box::new(argo(3, lasts)),
        Box::new(flagger(Steps::Even { step: 1, most: 100 })),
        Box::new(flagger(Steps::Even { step: 10, most: 50 })),
        Box::new(kayenta(600, lasts)),
        Box::new(kayenta(3600, lasts)),
    ]
}

/// Returns the article's rule.
pub fn article() -> Article {
    let limits = vec![("error-rate".to_owned(), Limit::Max(0.05))];
    Article::new(article::ArticleSettings { limits, ..article::ArticleSettings::canary() }, start())
}

/// Returns the rule of Argo Rollouts with a `failureLimit`, for a rollout of the length `lasts`.
pub fn argo(failure_limit: u32, lasts: Span) -> Argo {
    let metric = argo::ArgoMetric {
        interval: Some(MINUTE),
        initial_delay: MINUTE,
        failure_limit: Some(failure_limit),
        success: Some("result[0] >= 0.99".parse().unwrap()),
        ..argo::ArgoMetric::new("success-rate")
    };
    Argo::new(argo::ArgoSettings { metrics: vec![metric], lasts: Some(lasts) }, start())
}

/// Returns the rule of Flagger with the given steps.
pub fn flagger(steps: Steps) -> Flagger {
    let rate = flagger::FlaggerMetric {
        name: "request-success-rate".to_owned(),
        template: None,
        window: MINUTE,
        min: Some(99.0),
        max: None,
    };
    Flagger::new(flagger::FlaggerSettings { interval: MINUTE, threshold: 5, steps, metrics: vec![rate] }, start())
}

/// Returns the rule of Kayenta with a judgement every `interval` seconds, for a rollout of the length `lasts`.
pub fn kayenta(interval: u64, lasts: Span) -> Kayenta {
    Kayenta::new(kayenta_settings(Span::from_secs(interval), lasts), start())
}

/// Returns an empty recording that answers the queries of all rules.
pub fn recording() -> Recording {
    let query = |window: Span, form: Form| RecordedQuery { metric: "errors".to_owned(), window, quantile: 0.95, form };
    Recording::new(BTreeMap::from([
        ("error-rate".to_owned(), query(Span::from_secs(300), Form::Plain)),
        ("success-rate".to_owned(), query(MINUTE, Form::Success)),
        ("request-success-rate".to_owned(), query(MINUTE, Form::SuccessPercent)),
    ]))
}

/// Returns the block of a poll, which is a gap during an outage.
pub fn block(index: usize, poll: &Poll, is_gap: bool) -> Block {
    let at = |index: usize| Span::from_secs(index as u64 * POLL as u64).after(start());
    let ratio = |tally: bellwether_core::stats::tally::Tally| {
        Some(Reading::Ratio { hits: tally.hits() as u64, total: tally.n() as u64 })
    };
    let sample = if is_gap {
        Sample::Gap(Gap::Unanswered { error: "connection refused".to_owned() })
    } else {
        Sample::Arms { canary: ratio(poll.pair.canary), stable: ratio(poll.pair.stable) }
    };
    Block::new(at(index), at(index + 1), BTreeMap::from([("errors".to_owned(), sample)]))
}

/// Runs all rules on the same polls and returns their outcomes; `None` for a rule that has not ended.
pub fn outcomes(polls: &[Poll], outage: Option<Outage>) -> Vec<Option<RivalOutcome>> {
    let mut rules = all(polls.len());
    let mut recording = recording();
    for (index, poll) in polls.iter().enumerate() {
        let mut open: Vec<&mut dyn RivalRule> = Vec::new();
        for rule in rules.iter_mut().filter(|rule| rule.outcome().is_none()) {
            open.push(rule.as_mut());
        }
        recording.play(block(index, poll, outage.is_some_and(|outage| outage.covers(index))), &mut open);
    }
    rules.iter().map(|rule| rule.outcome().cloned()).collect()
}
