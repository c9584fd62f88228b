//! Recorded blocks, asked as if they were a Prometheus.
//!
//! A rule looks when it likes; blocks end on their grid. A look within a block sees what had ended before it, and it is
//! refused if nobody answered while that block was measured. After an outage a window has only what was scraped since.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RivalAnswer, RivalRule, RivalSource};
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::measure::window::{Arm, Ring};
use bellwether_core::time::{Span, Timestamp};

/// Which of the recorded metrics a rule's query stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RecordedQuery {
    /// The recorded metric.
    pub metric: String,
    /// Over how long a time: the `[1m]` of the rule's PromQL.
    pub window: Span,
    /// Which quantile of a histogram.
    #[serde(default = "p95")]
    pub quantile: f64,
    /// As what number the rule has it.
    #[serde(default)]
    pub form: Form,
}

fn p95() -> f64 {
    0.95
}

/// As what number a rule has what was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As it is.
    #[default]
    Plain,
    /// A share of errors as the share that succeeds.
    Success,
    /// A share of errors as the percentage that succeeds.
    SuccessPercent,
    /// Seconds as milliseconds.
    Milliseconds,
}

impl Form {
    fn of(self, value: f64) -> f64 {
        match self {
            Form::Plain => value,
            Form::Success => 1.0 - value,
            Form::SuccessPercent => 100.0 * (1.0 - value),
            Form::Milliseconds => 1000.0 * value,
        }
    }
}

/// The blocks that a rule may still ask about.
#[derive(Debug, Clone)]
pub struct Recording {
    queries: BTreeMap<String, RecordedQuery>,
    keep: Span,
    ring: Ring,
}

impl Recording {
    /// Of these queries, by the rules' own names for them.
    pub fn new(queries: BTreeMap<String, RecordedQuery>) -> Recording {
        let keep = queries.values().map(|query| query.window).max().unwrap_or(Span::ZERO);
        Recording { queries, keep, ring: Ring::default() }
    }

    /// Takes a block in, and lets every rule look as often as it wants to until the block's end.
    pub fn play(&mut self, block: Block, rules: &mut [&mut dyn RivalRule]) {
        let end = block.to;
        let within = Sight { recording: self, during: Some(&block) };
        rules.iter_mut().for_each(|rule| look_until(*rule, &within, |at| at < end));
        self.ring.push(block, self.keep);
        let sight = Sight { recording: self, during: self.ring.blocks().last() };
        rules.iter_mut().for_each(|rule| look_until(*rule, &sight, |at| at <= end));
    }
}

fn look_until(rule: &mut dyn RivalRule, source: &dyn RivalSource, is_due: impl Fn(Timestamp) -> bool) {
    while let Some(at) = rule.next_look().filter(|at| is_due(*at)) {
        rule.look(at, source);
    }
}

/// What can be seen at an instant.
struct Sight<'a> {
    recording: &'a Recording,
    /// The block that was being measured at that instant.
    during: Option<&'a Block>,
}

impl RivalSource for Sight<'_> {
    fn ask(&self, metric: &str, side: Arm, at: Timestamp) -> RivalAnswer {
        // Who asks for what isn't there gets what Prometheus gives: an answer with nothing in it.
        let Some(query) = self.recording.queries.get(metric) else { return RivalAnswer::Empty };
        let during = self.during.filter(|block| block.from < at).and_then(|block| block.metrics.get(&query.metric));
        if matches!(during, Some(Sample::Gap(Gap::Unanswered { .. }))) {
            return RivalAnswer::Refused;
        }
        match self.recording.ring.measure_at(&query.metric, side, query.window, query.quantile, at) {
            None => RivalAnswer::Empty,
            Some(measure) if measure.n == 0 && self.is_a_share(&query.metric) => RivalAnswer::NotANumber,
            Some(measure) => RivalAnswer::Value(query.form.of(measure.value)),
        }
    }
}

impl Sight<'_> {
    /// Whether the metric is a ratio or a quantile of what was counted; of nothing, either is NaN.
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

    /// Looks every ten seconds and writes down what it saw.
    #[derive(Default)]
    struct Diary(Vec<RivalAnswer>);

    impl RivalRule for Diary {
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
    fn a_look_sees_what_had_ended_before_it_and_an_outage_while_it_lasts() {
        let query =
            RecordedQuery { metric: "errors".into(), window: Span::from_secs(30), quantile: 0.95, form: Form::Plain };
        let mut recording = Recording::new(BTreeMap::from([("error-rate".to_owned(), query)]));
        let mut diary = Diary::default();
        let away = || Sample::Gap(Gap::Unanswered { error: "refused".to_owned() });
        for (n, sample) in
            [counted(1, 10), counted(0, 10), away(), away(), away(), counted(0, 0), counted(0, 0), counted(3, 10)]
                .into_iter()
                .enumerate()
        {
            recording.play(block(15 * n as i64, sample), &mut [&mut diary]);
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
            diary.0.iter().enumerate().map(|(n, answer)| (10 * (n + 1), *answer)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_rule_has_its_number_in_its_own_form() {
        for (form, value) in
            [(Form::Plain, 0.25), (Form::Success, 0.75), (Form::SuccessPercent, 75.0), (Form::Milliseconds, 250.0)]
        {
            assert_eq!(form.of(0.25), value, "{form:?}");
        }
    }
}
