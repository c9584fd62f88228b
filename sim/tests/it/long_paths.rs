//! The other tests over a whole hour of looks, each at the very edge of its null: shares of slow requests, limits, harm.
//!
//! `evidence.rs` shows block by block that no test expects to win; here it is counted that none does, when what it has
//! learnt in one block decides what it bets on in the next. `BELLWETHER_RUNS` sets the number of rollouts.

use bellwether_core::dice::Random;
use bellwether_core::stats::harm::Harm;
use bellwether_core::stats::mixture::{Mixture, Onset};
use bellwether_core::stats::slo::LimitGrid;
use bellwether_core::stats::tally::{Pair, Phi, Tally};
use bellwether_core::stats::two_sample::{Effects, EffectsState, Null};

use bellwether_sim::counting::is_above;
use bellwether_sim::polls::{ALPHA, HOUR, POLL, runs, share};

const ONSET: Onset = Onset::Planned(HOUR as u32);
/// The share that is hit, by poll from 0: of the stable's requests.
type Share = fn(usize) -> f64;
/// Requests per second, by poll: canary and stable.
type Rate = fn(usize) -> (f64, f64);

const SHARES: [(&str, Share); 3] = [
    ("5 %", |_| 0.05),
    ("drift 2 → 10 %", |poll| 0.02 + 0.08 * poll as f64 / HOUR as f64),
    ("5 %, for a tenth of the time 30 %", |poll| if poll % 100 >= 90 { 0.3 } else { 0.05 }),
];
const RATES: [(&str, Rate); 2] = [
    ("5/95 rps", |_| (5.0, 95.0)),
    ("20 rps, 5 → 25 → 50 %", |poll| {
        let share = [0.05, 0.25, 0.5][(3 * poll / HOUR).min(2)];
        (20.0 * share, 20.0 * (1.0 - share))
    }),
];

/// Whether a test rolls back, in one rollout whose canary has `worse` of the stable's share.
fn wins(
    rate: Rate,
    share: Share,
    worse: impl Fn(f64) -> f64,
    run: usize,
    mut look: impl FnMut(Pair, f64) -> bool,
) -> bool {
    let mut random = Random::new(1 + run as u64);
    (0..HOUR).any(|poll| {
        let (canary, stable) = rate(poll);
        let p = share(poll);
        let mut arm = |rps: f64, p: f64| {
            let n = random.poisson(rps * POLL);
            Tally::of(binomial(&mut random, n, p), n).unwrap()
        };
        let pair = Pair { canary: arm(canary, worse(p)), stable: arm(stable, p) };
        look(pair, pair.canary.n() * (worse(p) - p))
    })
}

/// By the gaps between hits.
fn binomial(random: &mut Random, n: u64, p: f64) -> u64 {
    let ln_miss = libm::log1p(-p);
    let (mut at, mut hits) = (0u64, 0);
    loop {
        at = at.saturating_add(1 + (libm::log(random.uniform()) / ln_miss) as u64);
        if at > n {
            return hits;
        }
        hits += 1;
    }
}

/// Counts, prints, and says which rows break the promise.
#[expect(clippy::print_stdout, reason = "the table is part of the test")]
fn promise(what: &str, count: impl Fn(usize) -> bool) -> Option<String> {
    let runs = runs();
    let count = (0..runs).filter(|run| count(*run)).count();
    println!("| {what} | {} |", share(count, runs));
    is_above(ALPHA, count, runs).then(|| format!("{what}: {}", share(count, runs)))
}

fn held(broken: impl Iterator<Item = Option<String>>) {
    let broken: Vec<String> = broken.flatten().collect();
    assert!(broken.is_empty(), "more often than 1 %:\n{}", broken.join("\n"));
}

fn weathers() -> impl Iterator<Item = (String, Rate, Share)> {
    let each = |(rates, rate): (&'static str, Rate)| {
        SHARES.into_iter().map(move |(shares, share)| (format!("{rates}, {shares}"), rate, share))
    };
    RATES.into_iter().flat_map(each)
}

#[test]
fn shares_at_their_margin_are_not_called_worse() {
    let nulls =
        [("as the stable", Null::Ratio(1.0)), ("1.25x", Null::Ratio(1.25)), ("one point more", Null::Difference(0.01))];
    held(weathers().flat_map(|(weather, rate, share)| {
        nulls.map(|(margin, null)| {
            let test = Effects::worse(null, ONSET).unwrap();
            let worst = |stable: f64| match null {
                Null::Ratio(ratio) => ratio * stable,
                Null::Difference(points) => stable + points,
            };
            promise(&format!("share, {weather}, {margin}"), |run| {
                let mut state = EffectsState::default();
                wins(rate, share, worst, run, |pair, _| {
                    test.absorb(&mut state, pair, Phi::ONE).unwrap();
                    test.ln_e(&state) >= -libm::log(ALPHA)
                })
            })
        })
    }));
}

#[test]
fn a_share_at_its_limit_is_not_called_above_it() {
    let limits: [(f64, Share); 3] =
        [(0.01, |_| 0.01), (0.05, |_| 0.05), (0.05, |poll| 0.05 * (poll + 1) as f64 / HOUR as f64)];
    held(RATES.into_iter().flat_map(|(rates, rate)| {
        limits.into_iter().enumerate().map(move |(index, (limit, share))| {
            let test = LimitGrid::above(limit, ONSET).unwrap();
            promise(&format!("limit {limit} ({index}), {rates}"), |run| {
                let mut state = Mixture::default();
                wins(
                    rate,
                    share,
                    |p| p,
                    run,
                    |pair, _| {
                        test.absorb(&mut state, pair.canary, Phi::ONE).unwrap();
                        test.ln_e(&state) >= -libm::log(ALPHA)
                    },
                )
            })
        })
    }));
}

/// Its lower bound is below what the canary has really cost, at every look of the hour.
#[test]
fn the_harm_is_not_overstated_in_an_hour() {
    held(weathers().flat_map(|(weather, rate, share)| {
        [1.0, 1.5, 0.5].map(|times| {
            promise(&format!("harm, {weather}, canary {times}x"), |run| {
                let (mut harm, mut cost) = (Harm::default(), 0.0);
                wins(
                    rate,
                    share,
                    |p| times * p,
                    run,
                    |pair, more| {
                        // Of an arm without requests there is nothing to compare, and nothing is counted.
                        if pair.canary.n() > 0.0 && pair.stable.n() > 0.0 {
                            harm.absorb(pair, Phi::ONE);
                            cost += more;
                        }
                        harm.exceeds(cost, ALPHA)
                    },
                )
            })
        })
    }));
}
