//! Recorded blocks that answer the queries of a rule as Prometheus would.
//!
//! A rule may look at any time, while blocks end on a grid. A look within a block uses the blocks that ended before it,
//! and is refused if Prometheus did not answer during that block. After an outage a window has only the blocks since.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RivalAnswer, RivalRule, RivalSource};
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::measure::window::{Arm, Ring};
use bellwether_core::time::{Span, Timestamp};

/// The recorded metric that a rule's query stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RecordedQuery {
    /// The name of the recorded metric.
    pub metric: String,
    /// The window of the query, the `[1m]` of the rule's PromQL.
    pub window: Span,
    /// The quantile of a histogram, from 0 to 1.
    #[serde(default = "p95")]
    pub quantile: f64,
    /// The form in which the rule expects the number.
    #[serde(default)]
    pub form: Form,
}

fn p95() -> f64 {
    0.95
}

/// The conversion from a recorded number to the number that a rule expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The recorded number itself.
    #[default]
    Plain,
    /// From a share of errors to the share of successes, from 0 to 1.
    Success,
    /// From a share of errors to the percentage of successes, from 0 to 100.
    SuccessPercent,
    /// From seconds to milliseconds.
    Milliseconds,
}

impl Form {
    fn convert(self, value: f64) -> f64 {
        match self {
            Form::Plain => value,
            Form::Success => 1.0 - value,
            Form::SuccessPercent => 100.0 * (1.0 - value),
            Form::Milliseconds => 1000.0 * value,
        }
    }
}

/// A replay of recorded blocks, which keeps as many of them as its queries need.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The queries by the rules' own names for them.
    queries: BTreeMap<String, RecordedQuery>,
    /// The longest window of the queries.
    keep: Span,
    ring: Ring,
}

impl Recording {
    /// Makes an empty recording that answers these queries, by the rules' own names for them.
    pub fn new(queries: BTreeMap<String, RecordedQuery>) -> Recording {
        let keep = queries.values().map(|query| query.window).max().unwrap_or(Span::ZERO);
        Recording { queries, keep, ring: Ring::default() }
    }

    /// Adds a block, and calls each rule's due looks up to the block's end.
    pub fn play(&mut self, block: Block, rules: &mut [&mut dyn RivalRule]) {
        let end = block.to;
        let within = SourceAt { recording: self, during: Some(&block) };
        rules.iter_mut().for_each(|rule| look_until(*rule, &within, |at| at < end));
        self.ring.push(block, self.keep);
        let at_end = SourceAt { recording: self, during: self.ring.blocks().last() };
        rules.iter_mut().for_each(|rule| look_until(*rule, &at_end, |at| at <= end));
    }
}

fn look_until(rule: &mut dyn RivalRule, source: &dyn RivalSource, is_due: impl Fn(Timestamp) -> bool) {
    while let Some(at) = rule.next_look().filter(|at| is_due(*at)) {
        rule.look(at, source);
    }
}

/// The source of answers at an instant.
struct SourceAt<'a> {
    recording: &'a Recording,
    /// The block that contains the instant.
    during: Option<&'a Block>,
}

impl RivalSource for SourceAt<'_> {
    fn ask(&self, metric: &str, side: Arm, at: Timestamp) -> RivalAnswer {
        // Like Prometheus, answer a query of an unknown metric without series.
        let Some(query) = self.recording.queries.get(metric) else { return RivalAnswer::Empty };
        let during = self.during.filter(|block| block.from < at).and_then(|block| block.metrics.get(&query.metric));
        if matches!(during, Some(Sample::Gap(Gap::Unanswered { .. }))) {
            return RivalAnswer::Refused;
        }
        match self.recording.ring.measure_at(&query.metric, side, query.window, query.quantile, at) {
            None => RivalAnswer::Empty,
            Some(measure) if measure.n == 0 && self.is_a_share(&query.metric) => RivalAnswer::NotANumber,
            Some(measure) => RivalAnswer::Value(query.form.convert(measure.value)),
        }
    }
}

impl SourceAt<'_> {
    /// Returns whether the metric is a ratio or a quantile of counts, which are NaN without counts.
    fn is_a_share(&self, metric: &str) -> bool {
        let samples = self.recording.ring.blocks().filter_map(|block| block.metrics.get(metric));
        samples
            .filter_map(
                |sample| if let Sample::Arms { canary, stable } = sample { Some([canary, stable]) } else { None },
            )
            .flatten()
            .flatten()
            .any(|reading| matches!(reading, Reading::Ratio { .. } | Reading::Histogram { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RivalOutcome, RivalRule};
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    fn block(from: i64, sample: Sample) -> Block {
        Block::new(at(from), at(from + 15), BTreeMap::from([("errors".to_owned(), sample)]))
    }

    fn counted(hits: u64, total: u64) -> Sample {
        Sample::Arms { canary: Some(Reading::Ratio { hits, total }), stable: None }
    }

    /// A rule that looks every ten seconds and stores the answers.
    #[derive(Default)]
    struct AnswerLog(Vec<RivalAnswer>);

    impl RivalRule for AnswerLog {
        fn next_look(&self) -> Option<Timestamp> {
            Some(at(10 * (self.0.len() as i64 + 1)))
        }

        fn look(&mut self, at: Timestamp, source: &dyn RivalSource) {
            self.0.push(source.ask("error-rate", Arm::Canary, at));
        }

        fn outcome(&self) -> Option<&RivalOutcome> {
            None
        }
    }

    #[test]
    fn a_look_uses_completed_blocks_and_is_refused_during_an_outage() {
        let query =
            RecordedQuery { metric: "errors".into(), window: Span::from_secs(30), quantile: 0.95, form: Form::Plain };
        let mut recording = Recording::new(BTreeMap::from([("error-rate".to_owned(), query)]));
        let mut log = AnswerLog::default();
        let outage = || Sample::Gap(Gap::Unanswered { error: "refused".to_owned() });
        for (n, sample) in
            [counted(1, 10), counted(0, 10), outage(), outage(), outage(), counted(0, 0), counted(0, 0), counted(3, 10)]
                .into_iter()
                .enumerate()
        {
            recording.play(block(15 * n as i64, sample), &mut [&mut log]);
        }
        let expected = [
            (10, RivalAnswer::Empty),
            (20, RivalAnswer::Value(0.1)),
            (30, RivalAnswer::Value(0.05)),
            (40, RivalAnswer::Refused),
            (50, RivalAnswer::Refused),
            (60, RivalAnswer::Refused),
            (70, RivalAnswer::Refused),
            (80, RivalAnswer::Empty),
            (90, RivalAnswer::NotANumber),
            (100, RivalAnswer::NotANumber),
            (110, RivalAnswer::NotANumber),
            (120, RivalAnswer::Value(0.3)),
        ];
        let seen: Vec<(usize, RivalAnswer)> =
            log.0.iter().enumerate().map(|(n, answer)| (10 * (n + 1), *answer)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn each_form_converts_the_recorded_number() {
        for (form, value) in
            [(Form::Plain, 0.25), (Form::Success, 0.75), (Form::SuccessPercent, 75.0), (Form::Milliseconds, 250.0)]
        {
            assert_eq!(form.convert(0.25), value, "{form:?}");
        }
    }
}
