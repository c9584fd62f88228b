//! The error rates of the other tests (shares, limits, harm) over an hour of looks, each at the boundary of its null.
//!
//! `core/tests/it/evidence.rs` shows for single blocks that the expected evidence is at most one. Here the error rate
//! is counted over many blocks, in which the alternatives depend on the previous blocks. `BELLWETHER_RUNS` sets the
//! number of rollouts.

use bellwether_core::dice::Random;
use bellwether_core::stats::harm::Harm;
use bellwether_core::stats::mixture::{Mixture, Onset};
use bellwether_core::stats::slo::LimitGrid;
use bellwether_core::stats::tally::{Pair, Phi, Tally};
use bellwether_core::stats::two_sample::{Effects, EffectsState, Null};

use bellwether_sim::counting::is_above;
use bellwether_sim::polls::{ALPHA, HOUR, POLL, percent, runs};

/// The number of runs in a build with debug assertions.
const DEBUG_RUNS: usize = 100;

const ONSET: Onset = Onset::Planned(HOUR as u32);
/// The stable's share of hits, by poll from 0.
type Share = fn(usize) -> f64;
/// The requests per second of canary and stable, by poll from 0.
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

/// Returns whether a test rolls back in one rollout. `worse` gives the canary's share for the stable's share; `look`
/// gets the counts of a poll and the canary's true excess of hits in it, and returns whether the test rolls back.
fn rolls_back(
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

/// Draws a binomial number by the gaps between hits.
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

/// Counts and prints the runs that roll back. Returns the row if their share contradicts the promised error rate.
#[expect(clippy::print_stdout, reason = "the table is part of the test")]
fn check_rate(row: &str, rolls_back: impl Fn(usize) -> bool) -> Option<String> {
    let runs = runs(DEBUG_RUNS);
    let count = (0..runs).filter(|run| rolls_back(*run)).count();
    println!("| {row} | {} |", percent(count, runs));
    is_above(ALPHA, count, runs).then(|| format!("{row}: {}", percent(count, runs)))
}

fn assert_none(broken: impl Iterator<Item = Option<String>>) {
    let broken: Vec<String> = broken.flatten().collect();
    assert!(broken.is_empty(), "more often than 1 %:\n{}", broken.join("\n"));
}

/// Returns all combinations of rates and shares, with their names.
fn combinations() -> impl Iterator<Item = (String, Rate, Share)> {
    let each = |(rates, rate): (&'static str, Rate)| {
        SHARES.into_iter().map(move |(shares, share)| (format!("{rates}, {shares}"), rate, share))
    };
    RATES.into_iter().flat_map(each)
}

#[test]
fn shares_at_their_margin_are_rolled_back_in_at_most_1_percent() {
    let nulls =
        [("as the stable", Null::Ratio(1.0)), ("1.25x", Null::Ratio(1.25)), ("one point more", Null::Difference(0.01))];
    assert_none(combinations().flat_map(|(name, rate, share)| {
        nulls.map(|(margin, null)| {
            let test = Effects::worse(null, ONSET).unwrap();
            let worst = |stable: f64| match null {
                Null::Ratio(ratio) => ratio * stable,
                Null::Difference(points) => stable + points,
            };
            check_rate(&format!("share, {name}, {margin}"), |run| {
                let mut state = EffectsState::default();
                rolls_back(rate, share, worst, run, |pair, _| {
                    test.absorb(&mut state, pair, Phi::ONE).unwrap();
                    test.ln_e(&state) >= -libm::log(ALPHA)
                })
            })
        })
    }));
}

#[test]
fn a_share_at_its_limit_is_rolled_back_in_at_most_1_percent() {
    let limits: [(f64, Share); 3] =
        [(0.01, |_| 0.01), (0.05, |_| 0.05), (0.05, |poll| 0.05 * (poll + 1) as f64 / HOUR as f64)];
    assert_none(RATES.into_iter().flat_map(|(rates, rate)| {
        limits.into_iter().enumerate().map(move |(index, (limit, share))| {
            let test = LimitGrid::above(limit, ONSET).unwrap();
            check_rate(&format!("limit {limit} ({index}), {rates}"), |run| {
                let mut state = Mixture::default();
                rolls_back(
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

/// The lower bound of the harm must be below the true excess at every look of the hour.
#[test]
fn the_bound_of_the_harm_exceeds_the_true_excess_in_at_most_1_percent() {
    assert_none(combinations().flat_map(|(name, rate, share)| {
        [1.0, 1.5, 0.5].map(|times| {
            check_rate(&format!("harm, {name}, canary {times}x"), |run| {
                let (mut harm, mut true_excess) = (Harm::default(), 0.0);
                rolls_back(
                    rate,
                    share,
                    |p| times * p,
                    run,
                    |pair, excess| {
                        // A block without requests in one arm is ignored, and its excess is not counted.
                        if pair.canary.n() > 0.0 && pair.stable.n() > 0.0 {
                            harm.absorb(pair, Phi::ONE);
                            true_excess += excess;
                        }
                        harm.exceeds(true_excess, ALPHA)
                    },
                )
            })
        })
    }));
}
