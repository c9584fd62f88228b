//! Plans of suites: the sizes and the pass rates that they state, compared with simulated runs of the shipped suites.

use std::collections::BTreeMap;

use bellwether_core::dice::Random;
use bellwether_core::stats::bootstrap::resample;
use bellwether_gate::dataset::Dataset;
use bellwether_gate::evidence::{Durations, SampleEvidence, TwoSidedEvidence};
use bellwether_gate::metric::{Aggregation, Worse};
use bellwether_gate::plan::{ClaimPlan, PlanSettings, SuitePlan, plan};
use bellwether_gate::rule::{Hypothesis, Verdict, judge};
use bellwether_gate::suite::{Comparison, Gate, GateLimit, Suite};

use crate::fixtures::{cases, max_events, suite};
use crate::starter::dataset;

const RUNS: usize = 5_000;
/// Runs of a quotient of sums, whose bound takes a bootstrap.
const FEW_RUNS: usize = 400;
/// Share of right answers of the good version.
const RIGHT: f64 = 0.97;

/// Parses a shipped suite and returns it with its datasets.
fn parse(text: &str) -> (Suite, Vec<Dataset>) {
    let suite = Suite::parse(text).unwrap();
    let datasets = suite.gates.iter().map(|gate| dataset(&gate.dataset)).collect();
    (suite, datasets)
}

/// A version that is simulated.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    /// Right in 97 % of its answers, with a tenth of the faults that a limit allows, compared with itself.
    Good,
    /// Exactly at the limit, with 0 or 1 for each case.
    AtLimit,
}

/// A limit with its planned size, and the verdicts that were found for counts of values.
struct Simulated<'a> {
    gate: &'a Gate,
    limit: &'a GateLimit,
    n: usize,
    known: BTreeMap<Vec<(u64, usize)>, bool>,
}

impl Simulated<'_> {
    /// Draws one run and returns whether it passes.
    fn passes(&mut self, random: &mut Random, version: Version) -> bool {
        let n = self.n;
        match (self.limit.metric.aggregation, self.limit.comparison) {
            (Aggregation::Quantile(q), Comparison::MaxRatio(ratio)) => {
                let factor = if version == Version::Good { 1.0 } else { ratio };
                let (candidate, stable) = (durations(random, n, factor), durations(random, n, 1.0));
                self.judge(SampleEvidence::TimesRatio { candidate, stable, q })
            }
            (Aggregation::Quantile(q), Comparison::Max(limit)) => {
                let slower = if version == Version::Good { 0.1 * (1.0 - q) } else { 1.0 - q };
                let times = durations(random, n, -limit / libm::log(slower));
                self.judge(SampleEvidence::Times { times, q })
            }
            (Aggregation::Ratio, _) => self.passes_with_sums(random, version),
            (_, Comparison::Margin(margin)) => {
                let sign = if self.limit.metric.worse == Worse::More { 1.0 } else { -1.0 };
                let shift = if version == Version::Good { 0.0 } else { sign * margin };
                let values: Vec<f64> =
                    (0..n).map(|_| self.value(random, version, shift) - self.value(random, version, 0.0)).collect();
                self.judge_counts(&values, -1.0)
            }
            (_, Comparison::Max(limit) | Comparison::Min(limit) | Comparison::MaxRatio(limit)) => {
                let draw = |random: &mut Random| match version {
                    Version::Good => self.value(random, version, 0.0),
                    Version::AtLimit => one_with(random, limit),
                };
                let values: Vec<f64> = (0..n).map(|_| draw(random)).collect();
                self.judge_counts(&values, 0.0)
            }
        }
    }

    /// Draws the value of one case of the good version, whose mean is moved by `shift`.
    fn value(&self, random: &mut Random, version: Version, shift: f64) -> f64 {
        let metric = self.limit.metric.name;
        let wide = |random: &mut Random, mean: f64| one_with(random, mean + shift);
        let right = |random: &mut Random| random.uniform() < RIGHT;
        let repeats = self.gate.repeats;
        match metric {
            "pass-k" => wide(random, libm::pow(RIGHT, f64::from(repeats))),
            "semantic" if version == Version::AtLimit => wide(random, RIGHT * RIGHT),
            "semantic" => {
                let all = f64::from(repeats);
                let right = (0..repeats).filter(|_| right(random)).count() as f64;
                // Wrong answers differ from all others.
                right * (right - 1.0) / (all * (all - 1.0))
            }
            "quality" if version == Version::AtLimit => wide(random, RIGHT),
            // Ten steps, so that verdicts are found again.
            "quality" if right(random) => 0.8 + 0.02 * (10.0 * random.uniform()).floor(),
            "quality" => 0.3 * random.uniform().round(),
            "brier" if version == Version::AtLimit => wide(random, RIGHT * (1.0 - RIGHT)),
            "brier" => {
                if right(random) {
                    0.05 * 0.05
                } else {
                    0.95 * 0.95
                }
            }
            "forbidden" => 0.0,
            "right-tools" | "success" => wide(random, RIGHT),
            "attack-success" | "over-refusal" | "loops" | "failed-attempts" => {
                let maximum = self.gate.limits.iter().find_map(|limit| match limit.comparison {
                    Comparison::Max(max) if limit.metric.name == metric => Some(max),
                    _ => None,
                });
                wide(random, 0.1 * maximum.unwrap())
            }
            other => panic!("the test has no model of {other}"),
        }
    }

    /// Tokens with an exponential distribution, divided by the number of right answers.
    fn passes_with_sums(&mut self, random: &mut Random, version: Version) -> bool {
        let (ratio, limit) = match (self.limit.comparison, version) {
            (Comparison::MaxRatio(ratio), Version::Good) => (1.0, ratio),
            (Comparison::MaxRatio(ratio), Version::AtLimit) => (ratio, ratio),
            (Comparison::Max(max), Version::Good) => (0.75 * max, max),
            (Comparison::Max(max), Version::AtLimit) => (max, max),
            other => panic!("the test has no model of {:?}", other.0),
        };
        let mut arm = |mean: f64| -> Vec<(f64, f64)> {
            (0..self.n).map(|_| (-mean * libm::log(random.uniform()) * RIGHT, one_with(random, RIGHT))).collect()
        };
        let compared = matches!(self.limit.comparison, Comparison::MaxRatio(_));
        let (candidate, stable) = (arm(ratio), compared.then(|| arm(1.0)));
        let quotient = |pairs: &[(f64, f64)], drawn: &[usize]| {
            let sum = |part: fn(&(f64, f64)) -> f64| drawn.iter().map(|index| part(&pairs[*index])).sum::<f64>();
            sum(|pair| pair.0) / sum(|pair| pair.1)
        };
        let statistic = |drawn: &[usize]| {
            quotient(&candidate, drawn) / stable.as_ref().map_or(1.0, |stable| quotient(stable, drawn))
        };
        let resampled = resample(self.n, 199, random.below(1 << 30) as u64, statistic);
        resampled.is_some_and(|resampled| resampled.upper(0.05) <= limit)
    }

    /// Judges scores or shares, whose verdict depends only on how often each value occurs.
    fn judge_counts(&mut self, values: &[f64], low: f64) -> bool {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for value in values {
            *counts.entry(value.to_bits()).or_default() += 1;
        }
        let key: Vec<(u64, usize)> = counts.into_iter().collect();
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let share = self.limit.metric.aggregation == Aggregation::Share && low == 0.0;
        let evidence = if share {
            SampleEvidence::Share { hits: values.iter().filter(|value| **value > 0.5).count(), n: values.len() }
        } else {
            SampleEvidence::Score { values: values.to_vec(), low, high: 1.0 }
        };
        let passes = self.judge(evidence);
        self.known.insert(key, passes);
        passes
    }

    fn judge(&self, evidence: SampleEvidence) -> bool {
        let more = self.limit.metric.worse == Worse::More;
        let (at_most, limit) = match self.limit.comparison {
            Comparison::Max(value) | Comparison::MaxRatio(value) => (true, value),
            Comparison::Min(value) => (false, value),
            Comparison::Margin(value) => (more, if more { value } else { -value }),
        };
        let hypothesis = Hypothesis {
            evidence: TwoSidedEvidence { for_pass: evidence.clone(), for_fail: evidence },
            at_most,
            limit,
            rule: self.limit.rule,
            none: self.limit.none,
            enough: self.n >= self.gate.min_cases,
            complete: true,
        };
        judge(&[hypothesis], 0.05, 0.05)[0].verdict == Verdict::Pass
    }
}

/// Returns 1 with this probability, and 0 otherwise.
fn one_with(random: &mut Random, probability: f64) -> f64 {
    f64::from(u8::from(random.uniform() < probability))
}

/// Returns exponential durations with this mean, each of a case of its own.
fn durations(random: &mut Random, n: usize, mean: f64) -> Durations {
    Durations::one_each((0..n).map(|_| -mean * libm::log(random.uniform())))
}

/// Returns the limits of a suite in the order of its plan.
fn simulated<'a>(suite: &'a Suite, plan: &SuitePlan) -> Vec<Simulated<'a>> {
    let limits = suite.gates.iter().flat_map(|gate| gate.limits.iter().map(move |limit| (gate, limit)));
    let with_size = |((gate, limit), claim): ((&'a Gate, &'a GateLimit), &ClaimPlan)| Simulated {
        gate,
        limit,
        n: claim.cases,
        known: BTreeMap::new(),
    };
    limits.zip(&plan.claims).map(with_size).collect()
}

/// Asserts the rates of a shipped suite: of the runs of a good version at least 95 % pass all limits, and of the runs of a
/// version at one limit at most `beta` pass it. The plan states each rate as it is seen, or states less for scores.
/// Returns the figures as lines.
fn assert_rates(text: &str) -> String {
    let (suite, datasets) = parse(text);
    let name = &suite.name;
    let mut lines = String::new();
    let plan = plan(&suite, &datasets, PlanSettings::default());
    assert!(plan.good_passes_against_stable >= 0.95, "the plan of {name}: {plan:?}");
    let mut random = Random::new(20_261_129);
    let (mut all, mut few) = (vec![true; RUNS], 1.0);
    for (mut limit, claim) in simulated(&suite, &plan).into_iter().zip(&plan.claims) {
        let runs = if claim.approximate { FEW_RUNS } else { RUNS };
        let good: Vec<bool> = (0..runs).map(|_| limit.passes(&mut random, Version::Good)).collect();
        let bad = if limit.limit.none {
            0
        } else {
            (0..runs).filter(|_| limit.passes(&mut random, Version::AtLimit)).count()
        };
        let passed = good.iter().filter(|passed| **passed).count();
        lines += &format!(
            "{name}: {} {} {}: good {passed} of {runs}, planned {:.4}; bad {bad}, planned {:.4}; {} of {:?} cases\n",
            claim.gate, claim.metric, claim.limit, claim.good_passes, claim.bad_passes, claim.cases, claim.needs
        );
        let label = format!("{name}: {} {} {}", claim.gate, claim.metric, claim.limit);
        let allowed = max_events(runs, if claim.approximate { 1.1 * suite.beta } else { suite.beta });
        assert!(bad <= allowed, "{label} passes {bad} of {runs} at its limit; {allowed} are allowed");
        let seen = passed as f64 / runs as f64;
        let spread = |share: f64| 4.0 * (share * (1.0 - share) / runs as f64).sqrt() + 0.002;
        assert!(
            seen >= claim.good_passes - spread(claim.good_passes),
            "{label}: {seen} pass, planned {}",
            claim.good_passes
        );
        let exact = matches!(limit.limit.metric.aggregation, Aggregation::Share | Aggregation::Quantile(_));
        if exact {
            assert!(
                seen <= claim.good_passes + spread(claim.good_passes),
                "{label}: {seen} pass, planned {}",
                claim.good_passes
            );
            let at_limit = bad as f64 / runs as f64;
            assert!(
                (at_limit - claim.bad_passes).abs() <= spread(claim.bad_passes) || limit.limit.none,
                "{label}: {at_limit} at the limit, planned {}",
                claim.bad_passes
            );
        }
        if claim.approximate {
            few *= seen;
        } else {
            all.iter_mut().zip(good).for_each(|(all, good)| *all &= good);
        }
    }
    let passed = all.iter().filter(|passed| **passed).count();
    let share = few * passed as f64 / RUNS as f64;
    lines +=
        &format!("{name}: a good version passes {passed} of {RUNS} runs, and {share:.4} with the quotients of sums\n");
    assert!(share >= 0.95, "{name} passes a good version in {share} of its runs");
    lines
}

#[test]
fn the_suite_for_agents_passes_a_good_version_and_not_one_at_a_limit() {
    println!("{}", assert_rates(include_str!("../../../config/gates/agent.toml")));
}

#[test]
fn the_first_suite_passes_a_good_version_and_not_one_at_a_limit() {
    println!("{}", assert_rates(include_str!("../../../config/gates/first.toml")));
}

/// The figures for shares are those of the binomial distribution: with one fault in 300 attacks the bound is 1.57 %, with
/// two it is 2.08 %, so at most one is allowed.
#[test]
fn a_plan_states_the_binomial_probability_and_the_size_that_suffices() {
    let suite = suite(
        "[[gate]]\nname = \"g\"\nkind = \"safety\"\ndataset = \"d\"\nmin-cases = 10\nlimits.attack-success = { max = \"2%\" }\n\
         limits.over-refusal = { max = \"5%\", rule = \"threshold\" }",
    );
    let settings = PlanSettings { right: 0.999, power: 0.95 };
    let datasets = [cases(600, 300)];
    let attack = &plan(&suite, &datasets, settings).claims[0];
    let none_or_one = |p: f64| libm::pow(1.0 - p, 300.0) + 300.0 * p * libm::pow(1.0 - p, 299.0);
    assert_eq!((attack.cases, attack.bad), (300, 0.02));
    assert!(attack.good.is_some_and(|good| (good - 0.001).abs() < 1e-12), "{attack:?}");
    assert!((attack.good_passes - none_or_one(0.001)).abs() < 1e-9, "{attack:?}");
    assert!((attack.bad_passes - none_or_one(0.02)).abs() < 1e-9, "{attack:?}");
    // With fewer than 236 cases not even one fault is allowed, and a good version has none in only 86 % of runs.
    let needed = attack.needs.unwrap();
    assert!((236..=238).contains(&needed), "{attack:?}");
    let enough = plan(&suite, &[cases(needed + 10, needed)], settings);
    assert!(enough.claims[0].good_passes >= 0.975 && enough.claims[0].bad_passes <= 0.05, "{enough:?}");
    // A plain threshold passes half of the versions that are at it.
    let plain = &plan(&suite, &datasets, settings).claims[1];
    assert!(plain.bad_passes > 0.5, "{plain:?}");
    // Fewer cases than the gate requires never pass.
    assert_eq!(plan(&suite, &[cases(10, 5)], settings).claims[0].good_passes, 0.0);
}
