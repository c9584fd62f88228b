//! Properties of the statistics that hold for any counts, including extreme ones.

use bellwether_core::stats::confidence;
use bellwether_core::stats::dispersion::Dispersion;
use bellwether_core::stats::harm::Harm;
use bellwether_core::stats::mixture::{Mixture, Onset};
use bellwether_core::stats::odds_grid::OddsGrid;
use bellwether_core::stats::shape::Shapes;
use bellwether_core::stats::slo::{BesideBlock, Ceiling, LimitGrid};
use bellwether_core::stats::special::ln_gamma;
use bellwether_core::stats::tally::{Pair, Phi, Tally, Worth};
use bellwether_core::stats::two_sample::non_inferior::NonInferior;
use bellwether_core::stats::two_sample::{Effects, EffectsState, Null, PlugIn, Shares};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Counts as from a faulty exporter: often zero, sometimes the largest that a float can count.
fn tally() -> impl Strategy<Value = Tally> {
    let size = prop_oneof![Just(0u64), 1..200u64, 1..1_000_000u64, Just(1u64 << 53)];
    (size, 0.0..=1.0f64, any::<bool>()).prop_map(|(n, part, rare)| {
        let part = if rare { part * 0.01 } else { part };
        Tally::of((n as f64 * part) as u64, n).unwrap()
    })
}

fn pair() -> impl Strategy<Value = Pair> {
    (tally(), tally()).prop_map(|(canary, stable)| Pair { canary, stable })
}

fn phi() -> impl Strategy<Value = Phi> {
    prop_oneof![Just(Phi::ONE), Just(Phi::ASSUMED), any::<f64>().prop_map(Phi::learned)]
}

fn blocks() -> impl Strategy<Value = Vec<(Pair, Phi)>> {
    prop::collection::vec((pair(), phi()), 1..12)
}

/// Alternatives for a canary that is better, as multiples of the odds at the margin.
const BETTER: [f64; 5] = [0.8, 0.6, 0.4, 0.2, 0.05];

/// One state of every statistic that a rollout may use.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
struct All {
    worse: Mixture,
    not_inferior: Mixture,
    above: Mixture,
    effects: EffectsState,
    plug_in: PlugIn,
    compliance: Worth,
    harm: Harm,
    shapes: Shapes,
    dispersion: Dispersion,
}

impl All {
    fn absorb(&mut self, pair: Pair, phi: Phi) {
        OddsGrid::worse(1.25, Onset::Planned(100)).unwrap().absorb(&mut self.worse, pair, phi).unwrap();
        NonInferior::new(2.0, 0.001).unwrap().absorb(&mut self.not_inferior, self.effects.stable(), pair, phi).unwrap();
        LimitGrid::above(0.01, Onset::Any).unwrap().absorb(&mut self.above, pair.canary, phi).unwrap();
        let effects = Effects::worse(Null::Difference(0.001), Onset::Any).unwrap();
        effects.absorb(&mut self.effects, pair, phi).unwrap();
        self.plug_in.absorb(Null::Ratio(1.25), pair, phi);
        self.compliance.absorb(pair.canary, phi);
        self.harm.absorb(pair, phi);
        let counts = |tally: Tally| [tally.misses() as u64, tally.hits() as u64];
        self.shapes.absorb(&counts(pair.canary), &counts(pair.stable), phi).unwrap();
        self.dispersion.absorb(&[pair.canary, pair.stable]);
    }

    /// Returns every result that the states can give.
    fn results(&self) -> Vec<f64> {
        let ceiling = Ceiling::new(0.001).unwrap();
        let interval = confidence::share(self.compliance, 0.05, 1000.0);
        vec![
            OddsGrid::worse(1.25, Onset::Planned(100)).unwrap().ln_e(&self.worse),
            NonInferior::new(2.0, 0.001).unwrap().ln_e(&self.not_inferior),
            LimitGrid::above(0.01, Onset::Any).unwrap().ln_e(&self.above),
            Effects::worse(Null::Difference(0.001), Onset::Any).unwrap().ln_e(&self.effects),
            self.plug_in.ln_e(),
            ceiling.ln_violation(self.compliance),
            ceiling.ln_compliance(self.compliance),
            interval.lower,
            interval.upper,
            self.harm.estimate(),
            self.harm.lower_bound(0.01).unwrap_or(0.0),
            self.shapes.ln_e(),
            self.dispersion.phi().value(),
        ]
    }
}

fn assert_survives_json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(state: &T) {
    let text = serde_json::to_string(state).unwrap();
    let back: T = serde_json::from_str(&text).unwrap();
    assert_eq!(&back, state);
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_result_is_finite_and_every_state_survives_json(blocks in blocks()) {
        let mut all = All::default();
        assert_survives_json(&all);
        for (pair, phi) in blocks {
            all.absorb(pair, phi);
            let results = all.results();
            prop_assert!(results.iter().all(|result| result.is_finite()), "{results:?} after {pair:?} {phi:?}");
            assert_survives_json(&all);
        }
    }

    #[test]
    fn a_replay_from_any_snapshot_gives_the_same_bytes(blocks in blocks(), at in any::<prop::sample::Index>()) {
        let at = at.index(blocks.len());
        let (mut straight, mut replayed) = (All::default(), All::default());
        for (index, (pair, phi)) in blocks.iter().enumerate() {
            if index == at {
                replayed = serde_json::from_str(&serde_json::to_string(&replayed).unwrap()).unwrap();
            }
            straight.absorb(*pair, *phi);
            replayed.absorb(*pair, *phi);
        }
        prop_assert_eq!(serde_json::to_vec(&straight).unwrap(), serde_json::to_vec(&replayed).unwrap());
    }

    #[test]
    fn any_two_numbers_make_a_valid_tally_or_are_refused(hits in any::<f64>(), n in any::<f64>()) {
        if let Ok(tally) = Tally::new(hits, n) {
            prop_assert!(tally.hits() >= 0.0 && tally.misses() >= 0.0 && tally.n().is_finite());
        }
    }

    /// One more error in the canary never makes it look better, and one more in the stable never makes the canary look
    /// worse.
    #[test]
    fn evidence_is_monotonic_in_the_errors(
        nc in 1..500u64, nb in 1..5000u64, xc in 0..20u64, xb in 0..20u64, margin in 0.5..3.0f64,
    ) {
        let (xc, xb) = (xc.min(nc - 1), xb.min(nb - 1));
        let ln_e = |xc: u64, xb: u64| {
            let pair = Pair { canary: Tally::of(xc, nc).unwrap(), stable: Tally::of(xb, nb).unwrap() };
            let evidence = |test: OddsGrid| {
                let mut state = Mixture::default();
                test.absorb(&mut state, pair, Phi::ONE).unwrap();
                test.ln_e(&state)
            };
            (evidence(OddsGrid::worse(margin, Onset::First).unwrap()), evidence(OddsGrid::with_grid(margin, Onset::First, &BETTER).unwrap()))
        };
        let (worse, better) = ln_e(xc, xb);
        prop_assert!(ln_e(xc + 1, xb).0 >= worse - 1e-12 && ln_e(xc + 1, xb).1 <= better + 1e-12);
        prop_assert!(ln_e(xc, xb + 1).0 <= worse + 1e-12 && ln_e(xc, xb + 1).1 >= better - 1e-12);
    }
}

/// Returns the expectation `Σ_x P(x) e(x)` over all outcomes of two arms with `n` requests that fail with probabilities
/// `p`.
fn expectation(n: (u64, u64), p: (f64, f64), ln_e: impl Fn(Pair) -> f64) -> f64 {
    let of_arm = |n: u64, p: f64| {
        (0..=n).map(move |x| {
            let (k, m) = (x as f64, (n - x) as f64);
            let ways = ln_gamma(n as f64 + 1.0) - ln_gamma(k + 1.0) - ln_gamma(m + 1.0);
            let ln_p = |count: f64, p: f64| if count == 0.0 { 0.0 } else { count * libm::log(p) };
            (Tally::of(x, n).unwrap(), ways + ln_p(k, p) + ln_p(m, 1.0 - p))
        })
    };
    let mut sum = 0.0;
    for (canary, of_canary) in of_arm(n.0, p.0) {
        for (stable, of_stable) in of_arm(n.1, p.1) {
            sum += libm::exp(of_canary + of_stable + ln_e(Pair { canary, stable }));
        }
    }
    sum
}

const SIZES: [(u64, u64); 4] = [(1, 1), (3, 20), (12, 12), (25, 4)];
const SHARES: [f64; 7] = [0.0, 0.001, 0.02, 0.1, 0.3, 0.6, 0.9];

fn assert_at_most_one(case: &str, value: f64) {
    assert!(value <= 1.0 + 1e-9, "{case}: E = {value}");
}

/// Returns the evidence of a single block.
fn block(test: &OddsGrid, pair: Pair, phi: Phi) -> f64 {
    let mut state = Mixture::default();
    test.absorb(&mut state, pair, phi).unwrap();
    test.ln_e(&state)
}

/// The expectation is exact: every outcome, weighted by its probability.
#[test]
fn the_expected_evidence_of_one_block_is_at_most_one_under_the_null() {
    for n in SIZES {
        for stable in SHARES {
            for margin in [0.8, 1.0, 1.25, 2.0] {
                let worst = margin * stable;
                for part in [0.0, 0.5, 1.0] {
                    let p = (worst * part, stable);
                    if p.0 <= 1.0 {
                        for (onset, phi) in
                            [(Onset::First, Phi::ONE), (Onset::Planned(9), Phi::ONE), (Onset::First, Phi::learned(3.0))]
                        {
                            let test = OddsGrid::worse(margin, onset).unwrap();
                            assert_at_most_one(
                                &format!("worse {margin} {n:?} {p:?}"),
                                expectation(n, p, |pair| block(&test, pair, phi)),
                            );
                        }
                        let alt = Shares { canary: 0.4, stable: 0.1 };
                        assert_at_most_one(
                            &format!("ratio {margin} {n:?} {p:?}"),
                            expectation(n, p, |pair| Null::Ratio(margin).ln_e(alt, pair)),
                        );
                    }
                }
                for more in [1.0, 1.5, 4.0] {
                    let p = (worst * more, stable);
                    if p.0 <= 1.0 {
                        let test = OddsGrid::with_grid(margin, Onset::First, &BETTER).unwrap();
                        assert_at_most_one(
                            &format!("better {margin} {n:?} {p:?}"),
                            expectation(n, p, |pair| block(&test, pair, Phi::ONE)),
                        );
                    }
                }
            }
            for points in [0.0, 0.05, 0.2] {
                let p = ((stable + points).min(1.0), stable);
                let alt = Shares { canary: 0.5, stable: 0.1 };
                assert_at_most_one(
                    &format!("difference {points} {n:?} {p:?}"),
                    expectation(n, p, |pair| Null::Difference(points).ln_e(alt, pair)),
                );
            }
        }
    }
}

#[test]
fn the_expected_evidence_against_a_limit_is_at_most_one_under_the_null() {
    for n in [1, 7, 60] {
        for limit in [0.01, 0.2, 0.7] {
            let ceiling = Ceiling::new(limit).unwrap();
            let grid = LimitGrid::above(limit, Onset::Any).unwrap();
            for part in [0.0, 0.5, 1.0] {
                let (below, above) = (limit * part, limit + (1.0 - limit) * part);
                let case = format!("{limit} {n} {part}");
                let alone =
                    |p: f64, ln_e: &dyn Fn(Tally) -> f64| expectation((n, 0), (p, 0.0), |pair| ln_e(pair.canary));
                assert_at_most_one(&case, alone(below, &|tally| ceiling.ln_violation(Worth::from(tally))));
                assert_at_most_one(&case, alone(above, &|tally| ceiling.ln_compliance(Worth::from(tally))));
                assert_at_most_one(
                    &case,
                    alone(below, &|tally| {
                        let mut state = Mixture::default();
                        grid.absorb(&mut state, tally, Phi::ONE).unwrap();
                        grid.ln_e(&state)
                    }),
                );
                // Requests of a second kind, with a higher limit.
                let higher = LimitGrid::above(limit + 0.2, Onset::Any).unwrap();
                let of_kinds = expectation((n.min(20), n.min(20)), (below, (limit + 0.2) * part), |pair| {
                    let kinds = &[(&grid, pair.canary), (&higher, pair.stable)];
                    let block = BesideBlock { kinds, stable: Tally::default(), by_strata: None, spared: None };
                    let mut state = Mixture::default();
                    LimitGrid::absorb_beside(block, &mut state, Phi::ONE).unwrap();
                    grid.ln_e(&state)
                });
                assert_at_most_one(&case, of_kinds);
            }
        }
    }
}

/// Two blocks, with another split and other rates in the second, whose stakes depend on the first.
#[test]
fn the_expected_evidence_of_two_blocks_with_different_rates_is_at_most_one() {
    let test = OddsGrid::worse(1.0, Onset::Any).unwrap();
    let effects = Effects::worse(Null::Difference(0.05), Onset::Any).unwrap();
    let grid = expectation((4, 8), (0.3, 0.3), |first| {
        let second = expectation((9, 3), (0.05, 0.05), |second| {
            let mut state = Mixture::default();
            test.absorb(&mut state, first, Phi::ONE).unwrap();
            test.absorb(&mut state, second, Phi::ONE).unwrap();
            test.ln_e(&state)
        });
        libm::log(second)
    });
    assert_at_most_one("odds grid", grid);
    let points = expectation((4, 8), (0.35, 0.3), |first| {
        let second = expectation((9, 3), (0.15, 0.1), |second| {
            let mut state = EffectsState::default();
            effects.absorb(&mut state, first, Phi::ONE).unwrap();
            effects.absorb(&mut state, second, Phi::ONE).unwrap();
            effects.ln_e(&state)
        });
        libm::log(second)
    });
    assert_at_most_one("effects", points);
}

/// Checks the supermartingale behind the harm bound at the true excess, for canaries that are worse, equal and better.
#[test]
fn the_expected_evidence_of_the_true_excess_is_at_most_one() {
    for n in SIZES {
        for stable in SHARES {
            for canary in SHARES {
                let excess = n.0 as f64 * (canary - stable);
                let value = expectation(n, (canary, stable), |pair| {
                    let mut harm = Harm::default();
                    harm.absorb(pair, Phi::ONE);
                    let ln_e = harm.ln_e(excess);
                    if ln_e.is_finite() { ln_e } else { -1e300 }
                });
                assert_at_most_one(&format!("{n:?} {canary} {stable}"), value);
            }
        }
    }
}

/// The state of a check must fit into its part of a journal entry.
#[test]
fn the_state_after_10_000_blocks_takes_less_than_1600_bytes_of_json() {
    let mut all = All::default();
    for block in 0..10_000u64 {
        let pair = Pair { canary: Tally::of(block % 7, 703).unwrap(), stable: Tally::of(block % 5, 9011).unwrap() };
        all.absorb(pair, Phi::learned(1.0 + (block % 3) as f64 / 7.0));
    }
    let size = |text: serde_json::Result<String>| text.unwrap().len();
    let (grid_size, total_size) = (size(serde_json::to_string(&all.worse)), size(serde_json::to_string(&all)));
    println!("odds grid {grid_size} bytes, all {total_size} bytes");
    assert!(grid_size < 256 && total_size < 1600, "{grid_size} {total_size}");
}
