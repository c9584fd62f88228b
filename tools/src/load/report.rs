//! The report of a load test: JSON for programs, text and a table for people.

use std::collections::BTreeMap;
use std::time::Duration;

use bellwether_core::measure::metric::Unit;
use bellwether_core::time::Span;
use serde::Serialize;

use super::schedule::{Rate, Schedule};
use super::tally::{LoadTally, Quantile, RequestFailure, TimeFigure};
use super::verdict::{LoadOutcome, seconds, show};

/// The version of the JSON. Fields may be added; a field that changes its meaning makes a new version.
const SCHEMA: &str = "bellwether.dev/load/1";

/// The percentiles in every report, each with its share.
const SHARES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

/// The result of a load test. Its JSON form is a public interface.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LoadReport {
    schema: &'static str,
    url: String,
    rate: Rate,
    arrivals: String,
    warm_up: Span,
    duration: Span,
    counts: Counts,
    errors: BTreeMap<RequestFailure, u64>,
    good_per_second: f64,
    /// Good answers per second that keep the time limits of all thresholds.
    goodput_per_second: f64,
    /// Tokens of good streams per second; `None` without streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_second: Option<f64>,
    /// Cause of the first failure of each kind that has one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    first_causes: BTreeMap<RequestFailure, String>,
    /// Percentiles of the milliseconds from due to complete; `null` for "never".
    latency_ms: BTreeMap<&'static str, Option<f64>>,
    /// Percentiles of the milliseconds from due to the first event with content, or to the first byte; `null` for "never".
    first_event_ms: BTreeMap<&'static str, Option<f64>>,
    /// Percentiles of the mean milliseconds between two tokens of a stream; `None` without streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    inter_token_ms: Option<BTreeMap<&'static str, Option<f64>>>,
    /// Percentiles of the milliseconds from due to sent.
    lateness_ms: BTreeMap<&'static str, Option<f64>>,
    #[serde(flatten)]
    outcome: LoadOutcome,
    /// Longest latency of a good answer.
    #[serde(skip)]
    longest: Duration,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Counts {
    due: u64,
    sent: u64,
    not_sent: u64,
    good: u64,
    failed: u64,
}

impl LoadReport {
    /// Makes the report. The caller removes credentials from `url` first.
    pub fn new(url: String, schedule: &Schedule, tally: &LoadTally, outcome: LoadOutcome) -> LoadReport {
        let percentiles = |quantile: &dyn Fn(f64) -> Quantile| {
            SHARES.iter().map(|(name, share)| (*name, millis(quantile(*share)))).collect()
        };
        let streams = tally.has_streams();
        LoadReport {
            schema: SCHEMA,
            url,
            rate: schedule.rate,
            arrivals: schedule.arrivals.to_string(),
            warm_up: schedule.warm_up,
            duration: schedule.duration,
            counts: Counts {
                due: tally.due(),
                sent: tally.good() + tally.failed(),
                not_sent: tally.not_sent,
                good: tally.good(),
                failed: tally.failed(),
            },
            errors: tally.failures.clone(),
            good_per_second: tally.good_per_second(schedule.warm_up.to_std(), schedule.duration.to_std()),
            goodput_per_second: tally.goodput(schedule.warm_up.to_std(), schedule.duration.to_std()),
            tokens_per_second: streams
                .then(|| tally.tokens_per_second(schedule.warm_up.to_std(), schedule.duration.to_std())),
            first_causes: tally.causes.clone(),
            latency_ms: percentiles(&|share| tally.time(TimeFigure::Latency, share)),
            first_event_ms: percentiles(&|share| tally.time(TimeFigure::First, share)),
            inter_token_ms: streams.then(|| percentiles(&|share| tally.time(TimeFigure::InterToken, share))),
            lateness_ms: percentiles(&|share| Quantile::Within(tally.lateness(share))),
            outcome,
            longest: tally.longest(),
        }
    }

    /// Returns the verdicts.
    pub fn outcome(&self) -> &LoadOutcome {
        &self.outcome
    }

    /// Returns the conditions and the counts as two lines of text.
    pub fn lines(&self) -> String {
        let Counts { due, sent, not_sent, good, failed } = &self.counts;
        let failed_share = Unit::Percent.show(if *sent == 0 { 0.0 } else { *failed as f64 / *sent as f64 });
        let kinds: Vec<String> = self.errors.iter().map(|(failure, n)| format!("{n} {failure}")).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
        let mut text = format!(
            "{}: {} for {} ({}), after {} of warm-up\n\
             {due} due, {sent} sent, {not_sent} not sent; {good} good ({}), {failed} errors ({failed_share}){kinds}\n",
            self.url,
            self.rate,
            self.duration,
            self.arrivals,
            self.warm_up,
            Unit::PerSecond.show(self.good_per_second),
        );
        if let Some(tokens) = self.tokens_per_second {
            let goodput = Unit::PerSecond.show(self.goodput_per_second);
            text += &format!("{} of tokens; {goodput} good within all time limits\n", Unit::PerSecond.show(tokens));
        }
        for (failure, cause) in &self.first_causes {
            text += &format!("{failure}: {cause}\n");
        }
        text
    }

    /// Returns the percentiles as a table: the headings and the rows.
    pub fn percentiles(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let headings = std::iter::once("").chain(SHARES.iter().map(|(name, _)| *name)).chain(["LONGEST"]).collect();
        let row = |name: &str, of: &BTreeMap<&'static str, Option<f64>>, longest: String| {
            let cells = SHARES.iter().map(|(share, _)| text(of.get(share).copied().flatten()));
            std::iter::once(name.to_owned()).chain(cells).chain([longest]).collect()
        };
        let mut rows = vec![
            row("latency", &self.latency_ms, seconds(self.longest)),
            row(
                if self.inter_token_ms.is_some() { "first event" } else { "first byte" },
                &self.first_event_ms,
                "–".to_owned(),
            ),
        ];
        rows.extend(self.inter_token_ms.as_ref().map(|times| row("inter-token", times, "–".to_owned())));
        rows.push(row("sent late by", &self.lateness_ms, "–".to_owned()));
        (headings, rows)
    }
}

fn millis(quantile: Quantile) -> Option<f64> {
    match quantile {
        Quantile::Within(time) => Some(time.as_micros() as f64 / 1000.0),
        Quantile::Never => None,
    }
}

fn text(ms: Option<f64>) -> String {
    ms.map_or_else(|| show(Quantile::Never), |ms| Unit::Milliseconds.show(ms))
}
