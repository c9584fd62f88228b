//! The page of one workload: its rollouts over time, as bars and as a list.

use std::sync::Arc;

use askama::Template;
use bellwether_core::engine::view::RolloutView;
use bellwether_core::time::{Span, Timestamp};

use super::Frame;
use super::headline::Headline;
use super::text::{Place, When, policy_name};
use crate::show::standing::{Badge, Standing};
use crate::show::verb::shell_word;

/// The most bars, and the most rows. Older rollouts are counted alone.
const MOST_BARS: usize = 60;
const MOST_ROWS: usize = 200;
/// The size of the picture of bars.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 56.0;
/// The widest bar with its gap, and the gap.
const WIDEST: f64 = 24.0;
const GAP: f64 = 2.0;
/// The height of the shortest bar.
const LOWEST: f64 = 4.0;

/// A rollout as a bar, whose height grows with its length.
struct HistoryBar {
    x: String,
    y: String,
    width: String,
    height: String,
    class: &'static str,
    title: String,
}

/// A row of the list.
struct HistoryRow {
    head: Headline,
    began: When,
    lasted: String,
    policy: String,
}

/// The rollouts of one standing.
struct StandingCount {
    label: &'static str,
    sign: &'static str,
    class: &'static str,
    count: usize,
}

/// The page of a workload.
#[derive(Template)]
#[template(path = "history.html")]
pub(super) struct HistoryPage {
    frame: Frame,
    workload: String,
    /// The workload as an argument of a command.
    word: String,
    name: String,
    all: usize,
    counts: Vec<StandingCount>,
    /// The part of the rollouts with a verdict that were promoted; `None` if none has a verdict.
    promoted: Option<String>,
    bars: Vec<HistoryBar>,
    rows: Vec<HistoryRow>,
}

impl HistoryPage {
    /// Returns the page of a workload with these rollouts, as it is seen at `now`.
    pub(super) fn new(
        frame: Frame,
        workload: String,
        mut rollouts: Vec<Arc<RolloutView>>,
        now: Timestamp,
    ) -> HistoryPage {
        rollouts.sort_by(|one, other| other.started.cmp(&one.started).then_with(|| one.id.cmp(&other.id)));
        let count = |standing| rollouts.iter().filter(|rollout| Standing::of(rollout) == standing).count();
        let (promoted, rolled_back) = (count(Standing::Promoted), count(Standing::RolledBack));
        let judged = promoted + rolled_back;
        let counts = Standing::ALL.map(|standing| StandingCount {
            label: standing.label(),
            sign: standing.sign(),
            class: standing.name(),
            count: count(standing),
        });
        HistoryPage {
            frame,
            name: Place::of(&workload).name.to_owned(),
            word: shell_word(&workload),
            workload,
            all: rollouts.len(),
            counts: counts.into_iter().filter(|count| count.count > 0).collect(),
            promoted: (judged > 0).then(|| format!("{promoted} of {judged}")),
            bars: bars(&rollouts, now),
            rows: rollouts.iter().take(MOST_ROWS).map(|rollout| HistoryRow::of(rollout, now)).collect(),
        }
    }
}

impl HistoryRow {
    fn of(rollout: &RolloutView, now: Timestamp) -> HistoryRow {
        HistoryRow {
            head: Headline::of(rollout),
            began: When::seen(rollout.started, now),
            lasted: length(rollout, now).to_string(),
            policy: policy_name(&rollout.policy).to_owned(),
        }
    }
}

/// Returns the time from the rollout's start to its end, or to the present while it goes on, in whole seconds.
fn length(rollout: &RolloutView, now: Timestamp) -> Span {
    Span::from_secs(Span::between(rollout.started, rollout.ended.unwrap_or(now)).as_millis() / 1000)
}

/// Returns the bars of the newest of these rollouts, which are in the order newest first. The newest is at the right end.
fn bars(rollouts: &[Arc<RolloutView>], now: Timestamp) -> Vec<HistoryBar> {
    let shown = &rollouts[..rollouts.len().min(MOST_BARS)];
    let seconds = |rollout: &RolloutView| length(rollout, now).as_secs_f64();
    let longest = shown.iter().map(|rollout| seconds(rollout)).fold(1.0, f64::max);
    let step = (WIDTH / shown.len().max(1) as f64).min(WIDEST);
    let bar = |(at, rollout): (usize, &Arc<RolloutView>)| {
        // By the square root, a rollout of minutes can be seen beside one of a day.
        let height = LOWEST + (HEIGHT - LOWEST) * (seconds(rollout) / longest).sqrt();
        let began = When::seen(rollout.started, now);
        let (versions, words) = (rollout.versions(), Badge::of(rollout).words);
        HistoryBar {
            x: format!("{:.1}", WIDTH - step * (at + 1) as f64),
            y: format!("{:.1}", HEIGHT - height),
            width: format!("{:.1}", step - GAP),
            height: format!("{height:.1}"),
            class: Standing::of(rollout).name(),
            title: format!("{}: {versions} {words}, {}", began.clock, length(rollout, now)),
        }
    };
    shown.iter().enumerate().map(bar).rev().collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::rollout;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_bars_are_within_the_picture_from_the_oldest_to_the_newest() {
        for count in [0, 1, 7, 60, 500] {
            let of = |n: i64| {
                rollout(|shown| {
                    shown.id = format!("web-{n}");
                    shown.started = at(n * 1000);
                    shown.ended = Some(at(n * 1000 + n * n));
                    shown.outcome = Some("promoted".to_owned());
                })
                .into()
            };
            let rollouts: Vec<Arc<RolloutView>> = (0..count).rev().map(of).collect();
            let bars = bars(&rollouts, at(1_000_000));
            assert_eq!(bars.len(), rollouts.len().min(MOST_BARS));
            let number = |text: &String| text.parse::<f64>().unwrap();
            let mut before = -0.1;
            for bar in &bars {
                let (x, right) = (number(&bar.x), number(&bar.x) + number(&bar.width));
                assert!(x > before && right <= WIDTH + 0.1, "{x} to {right} after {before}");
                let (top, height) = (number(&bar.y), number(&bar.height));
                assert!(top >= -0.1 && height >= LOWEST && top + height <= HEIGHT + 0.1, "{top} and {height}");
                before = x;
            }
            let newest = bars.last().map(|bar| bar.title.clone());
            let length = Span::from_secs((count - 1).max(0).pow(2) as u64).to_string();
            assert!(newest.is_none_or(|title| title.ends_with(&length)));
        }
    }
}
