//! The cost of one block for one check by each judge, on this machine.

use std::hint::black_box;
use std::time::Instant;

use bellwether_core::judge::check::Check;
use bellwether_core::judge::judges::Judge;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::run::{CheckRun, Setting};
use bellwether_core::judge::sequential::SequentialRule;
use bellwether_core::measure::block::{Reading, Sample, SmallMap};
use bellwether_core::measure::calibration::History;
use bellwether_core::measure::metric::{Against, ArmSource, Distance, HistogramUnit, Hits, Limit, Metric, MetricKind};
use bellwether_core::measure::window::Arm;
use bellwether_core::stats::harm::Harm;
use bellwether_core::stats::mixture::{Mixture, Onset};
use bellwether_core::stats::odds_grid::OddsGrid;
use bellwether_core::stats::slo::LimitGrid;
use bellwether_core::stats::tally::{Phi, Tally};
use bellwether_core::stats::two_sample::{Effects, EffectsState, Null};
use bellwether_core::time::{Span, Timestamp};
use bellwether_lab::rivals::RivalRule;
use bellwether_lab::rivals::flagger::Steps;

use crate::rivals;
use bellwether_sim::polls::{Poll, equal_arms};

/// The number of measured rounds, of which the best counts.
const ROUNDS: usize = 30;

/// Prints the table of costs.
pub fn table() {
    println!("\n### Cost of one block for one check\n\nThe best of {ROUNDS} simulated hours.\n");
    println!("| judge | ns |\n| --- | --- |");
    let polls = equal_arms().get(2).unwrap().simulate(0);
    let size = ours(&polls);
    theirs(&polls);
    println!("\nThe state of one check after an hour: {size} bytes of JSON");
}

/// Prints the nanoseconds per block of the best round. `hour` runs a judge over all polls.
fn print(name: &str, polls: &[Poll], mut hour: impl FnMut()) {
    let round = |_| {
        let start = Instant::now();
        hour();
        start.elapsed().as_nanos() as f64 / polls.len() as f64
    };
    println!("| {name} | {:.0} |", (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min));
}

/// Returns a check with a limit of 3 % errors, and its metric.
fn check() -> (Check, Metric) {
    let limit = Limit::Max(0.03);
    let rule = SequentialRule {
        margin: 1.25,
        floor: 0.001,
        either: false,
        harm: None,
        alpha: 0.01,
        checks: 1,
        of_guard: 0,
        beta: 0.05,
    };
    let text = |text: &str| Some(text.to_owned());
    let check = Check {
        name: "error-rate".to_owned(),
        metric: "error-rate".to_owned(),
        limit,
        quantile: 0.95,
        min_requests: 100,
        warns: false,
        judge: Judge::Sequential(rule),
    };
    let hits = Hits { label: text("code"), matches: text("5.."), not: None, series: None };
    let metric = Metric {
        kind: MetricKind::Ratio,
        series: text("requests_total"),
        matching: None,
        hits: Some(hits),
        unit: HistogramUnit::Seconds,
        query: None,
        distance: Distance::Psi,
        against: Against::Stable,
        arms: ArmSource::Pods,
        pod_label: None,
        namespace_label: None,
        strata_label: None,
        process: Vec::new(),
        targets: None,
        native: false,
    };
    (check, metric)
}

/// Prints the costs of Bellwether's tests and of a whole judge. Returns the size of that judge's state, in bytes of
/// JSON.
fn ours(polls: &[Poll]) -> usize {
    let onset = Onset::Planned(240);
    let grid = OddsGrid::worse(1.25, onset).unwrap();
    print("Bellwether: errors against stable", polls, || {
        let mut state = Mixture::default();
        for poll in polls {
            grid.absorb(&mut state, poll.pair, poll.phi).unwrap();
            black_box(grid.ln_e(&state));
        }
    });
    let limit = LimitGrid::above(0.01, onset).unwrap();
    print("Bellwether: errors against a limit", polls, || {
        let mut state = Mixture::default();
        for poll in polls {
            limit.absorb(&mut state, poll.pair.canary, poll.phi).unwrap();
            black_box(limit.ln_e(&state));
        }
    });
    for (name, null) in [("ratio", Null::Ratio(1.25)), ("difference", Null::Difference(0.001))] {
        let effects = Effects::worse(null, onset).unwrap();
        print(&format!("Bellwether: shares against stable, {name}"), polls, || {
            let mut state = EffectsState::default();
            for poll in polls {
                effects.absorb(&mut state, poll.pair, poll.phi).unwrap();
                black_box(effects.ln_e(&state));
            }
        });
    }
    let (check, metric) = check();
    let (arm, proof, planned) = (Arm::Canary, Proof::NonInferior, Span::from_secs(3600));
    let setting = Setting { check: &check, metric: &metric, arm, proof, planned, history: History::default() };
    let at = |second: i64| Timestamp::from_second(15 * second).unwrap();
    let ratio = |tally: &Tally| Reading::Ratio { hits: tally.hits() as u64, total: tally.n() as u64 };
    // The canary has two pods with half of its requests each.
    let pods_of = |canary: &Tally| {
        let (bad, n) = (canary.hits() as u64, canary.n() as u64);
        let pods = [(bad / 2, n / 2), (bad - bad / 2, n - n / 2)].map(|(hits, total)| Reading::Ratio { hits, total });
        ["web-canary-6d5f7c9b8d-2xk4p", "web-canary-6d5f7c9b8d-9qw7z"]
            .map(str::to_owned)
            .into_iter()
            .zip(pods)
            .collect()
    };
    let blocks: Vec<(Sample, Vec<Reading>, SmallMap<Reading>)> = polls
        .iter()
        .map(|Poll { pair, pods, .. }| {
            let sample = Sample::Arms { canary: Some(ratio(&pair.canary)), stable: Some(ratio(&pair.stable)) };
            (sample, pods.iter().map(ratio).collect(), pods_of(&pair.canary))
        })
        .collect();
    let mut run = CheckRun::new(setting.clone());
    print("Bellwether: a whole look, both claims, both proofs, clusters, pods and evidence", polls, || {
        run = CheckRun::new(setting.clone());
        for (n, (sample, processes, pods)) in blocks.iter().enumerate() {
            let n = n as i64;
            black_box(run.look((at(n), at(n + 1)), sample.clone(), processes, Some(pods)));
        }
    });
    print("Bellwether: harm", polls, || {
        let mut harm = Harm::default();
        for poll in polls {
            harm.absorb(poll.pair, Phi::ONE);
            black_box(harm.exceeds(100.0, 0.001));
        }
    });
    serde_json::to_string(run.memory().unwrap()).unwrap().len()
}

/// Prints the costs of the other tools' rules, including the recording's, which rules share if they run together.
fn theirs(polls: &[Poll]) {
    let hour = Span::from_secs(3600);
    let blocks: Vec<_> = polls.iter().enumerate().map(|(index, poll)| rivals::block(index, poll, false)).collect();
    let print = |name: &str, rule: &dyn Fn() -> Box<dyn RivalRule>| {
        print(name, polls, || {
            let (mut recording, mut rule) = (rivals::recording(), rule());
            for block in &blocks {
                recording.play(block.clone(), &mut [rule.as_mut()]);
            }
            black_box(rule.outcome());
        });
    };
    print("article", &|| Box::new(rivals::article()));
    print("Argo", &|| Box::new(rivals::argo(1000, hour)));
    print("Flagger", &|| Box::new(rivals::flagger(Steps::Even { step: 1, most: 100 })));
    print("Kayenta every 10 min", &|| Box::new(rivals::kayenta(600, hour)));
}
