//! The sequential judge in simulated rollouts: the proof that a step asks for, and the limit beside a stable that breaks it.

use bellwether_core::dice::Random;
use bellwether_core::judge::evidence::Evidence;
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::judge::rule::Proof;
use bellwether_core::judge::run::{CheckRun, Setting};
use bellwether_core::measure::block::{Reading, Sample};
use bellwether_core::measure::calibration::History;
use bellwether_core::measure::window::Arm;
use bellwether_core::policy::Policy;
use bellwether_core::stats::tally::{Pair, Tally};
use bellwether_core::time::{Span, Timestamp};
use serde_json::json;

use bellwether_sim::counting::is_above;
use bellwether_sim::judged::{ratio, sample, sequential, setting};
use bellwether_sim::polls::runs;
use bellwether_sim::story::policy;

/// The time between two blocks, in seconds.
const POLL: usize = 15;
/// The stable's pods.
const PODS: usize = 5;

/// The canary's share of the traffic, and the number of seconds for which it has it.
type Leg = (f64, usize);

/// README's policy: 10 % for 15 minutes.
const README: [Leg; 1] = [(0.1, 900)];
/// `config/policies/canary.toml`: 5 %, 25 % and 50 %.
const CANARY: [Leg; 3] = [(0.05, 300), (0.25, 300), (0.5, 600)];

/// A simulated rollout of independent requests.
struct Rollout<'a> {
    /// The policy; its first check is judged.
    policy: &'a Policy,
    /// The requests per second of both arms together.
    rps: f64,
    /// The steps, of which the last goes on.
    legs: &'a [Leg],
    /// The shares of bad requests of canary and stable, by the second since the start. Before it the stable has its share
    /// of second 0.
    shares: &'a dyn Fn(usize) -> (f64, f64),
    /// The length of the simulation, in seconds.
    lasts: usize,
}

impl Rollout<'_> {
    /// Returns the time in seconds and the evidence at the end: a regression, a pass after the steps, or the last look.
    fn run(&self, seed: usize) -> (usize, Evidence) {
        let random = &mut Random::new(seed as u64 + 1);
        let check = &self.policy.steps[0].checks[0];
        let mut history = History::default();
        for _ in 0..20 * 60 / POLL {
            history.absorb(&pods(self.rps, (self.shares)(0).1, random));
        }
        let steps: usize = self.legs.iter().map(|(_, seconds)| seconds).sum();
        let planned = Span::from_secs(steps as u64);
        let alone = setting(check, &self.policy.metrics["error-rate"]);
        let mut run = CheckRun::new(Setting { history, proof: Proof::NonInferior, planned, ..alone });
        let at = |second: usize| Timestamp::from_second(second as i64).unwrap();
        let mut last = None;
        for from in (0..self.lasts).step_by(POLL) {
            let (weight, (canary, stable)) = (self.weight(from), (self.shares)(from));
            let stable = pods(self.rps * (1.0 - weight), stable, random);
            let sum = |count: fn(Tally) -> f64| stable.iter().map(|pod| count(*pod)).sum::<f64>();
            let canary = tally(self.rps * weight, canary, random);
            let pair = Pair { canary, stable: Tally::new(sum(Tally::hits), sum(Tally::n)).unwrap() };
            let processes: Vec<_> = stable.iter().map(|pod| ratio(*pod)).collect();
            let to = from + POLL;
            let evidence = run.look((at(from), at(to)), sample(pair), &processes, None).unwrap();
            let ends = evidence.verdict == Verdict::Regressed || (to >= steps && evidence.verdict == Verdict::Pass);
            last = Some((to, evidence.clone()));
            if ends {
                break;
            }
        }
        last.unwrap()
    }

    fn weight(&self, second: usize) -> f64 {
        let mut end = 0;
        let ends = self.legs.iter().map(|(weight, seconds)| {
            end += seconds;
            (*weight, end)
        });
        let ends: Vec<(f64, usize)> = ends.collect();
        ends.iter().find(|(_, end)| second < *end).or(ends.last()).unwrap().0
    }

    /// Returns the number of rollouts of `runs` that end with a verdict, and the times of those, sorted.
    fn ended(&self, verdict: Verdict, runs: usize) -> Vec<usize> {
        let ends = (0..runs).map(|seed| self.run(seed));
        let mut times: Vec<usize> =
            ends.filter(|(_, evidence)| evidence.verdict == verdict).map(|(time, _)| time).collect();
        times.sort_unstable();
        times
    }
}

fn tally(rps: f64, share: f64, random: &mut Random) -> Tally {
    let n = random.poisson(rps * POLL as f64);
    Tally::of(random.poisson(n as f64 * share).min(n), n).unwrap()
}

fn pods(rps: f64, share: f64, random: &mut Random) -> [Tally; PODS] {
    std::array::from_fn(|_| tally(rps / PODS as f64, share, random))
}

/// A canary with a multiple of the stable's errors, all below the limit, and beyond the floor.
#[test]
fn a_version_worse_than_its_stable_is_not_promoted_because_it_keeps_the_limit() {
    let (runs, policy) = (runs(200), sequential("1%"));
    for (name, legs, rps, canary) in
        [("README", &README[..], 100.0, 0.003), ("README", &README, 100.0, 0.004), ("canary", &CANARY, 20.0, 0.003)]
    {
        let shares = move |_| (canary, 0.001);
        let rollout = Rollout { policy: &policy, rps, legs, shares: &shares, lasts: 4 * 3600 };
        let promoted = rollout.ended(Verdict::Pass, runs).len();
        println!("{name}, 0.1 → {canary}: promoted {promoted} of {runs}");
        assert!(!is_above(0.05, promoted, runs), "{name} {canary}: {promoted} of {runs} promoted");
    }
}

/// At the boundary itself, a proof is wrong in at most `beta` of the rollouts.
#[test]
fn a_proof_at_the_boundary_is_wrong_no_more_often_than_beta() {
    let (runs, policy) = (runs(200), sequential("1%"));
    for (canary, stable) in [(0.002, 0.001), (0.01, 0.0095), (0.011, 0.0085), (0.0095, 0.0076)] {
        let shares = move |_| (canary, stable);
        let rollout = Rollout { policy: &policy, rps: 200.0, legs: &README, shares: &shares, lasts: 3600 };
        let promoted = rollout.ended(Verdict::Pass, runs).len();
        println!("{stable} → {canary}: promoted {promoted} of {runs}");
        assert!(!is_above(0.05, promoted, runs), "{stable} → {canary}: {promoted} of {runs} promoted");
    }
}

/// `within` is the time after which 95 % of the versions that are equal to their stable are promoted. The steps take 15
/// and 20 minutes; a share of 0.1 % needs more requests, because the floor of 0.1 points is as large.
#[test]
fn an_equal_version_is_promoted() {
    let (runs, policy) = (runs(40), sequential("1%"));
    for (name, legs, rps, share, within) in [
        ("README", &README[..], 100.0, 0.0, 900),
        ("README", &README, 100.0, 0.0005, 1800),
        ("README", &README, 100.0, 0.001, 3000),
        ("README", &README, 1000.0, 0.001, 900),
        ("README", &README, 1000.0, 0.005, 1200),
        ("canary", &CANARY, 20.0, 0.0, 1200),
        ("canary", &CANARY, 20.0, 0.001, 4800),
        ("canary", &CANARY, 200.0, 0.001, 1200),
        ("canary", &CANARY, 200.0, 0.005, 2400),
    ] {
        let shares = move |_| (share, share);
        let rollout = Rollout { policy: &policy, rps, legs, shares: &shares, lasts: 8 * 3600 };
        let times = rollout.ended(Verdict::Pass, runs);
        let quantile = |part: f64| times.get((part * runs as f64) as usize).copied().unwrap_or(usize::MAX);
        let steps: usize = legs.iter().map(|(_, seconds)| seconds).sum();
        let (at_once, median, most) = (times.partition_point(|time| *time <= steps), quantile(0.5), quantile(0.94));
        println!("| {name}, {rps} rps, {share} | {} | {at_once} | {median} | {most} |", times.len());
        // The others are rolled back, of which alpha allows 1 %.
        let promoted = times.len() as f64 / runs as f64;
        assert!(promoted >= 0.99 && most <= within, "{name} {rps} {share}: {} in {most} s", times.len());
        assert!(2 * median <= 3 * steps, "{name} {rps} {share}: {median} s");
    }
}
/// A share of both arms during an incident: when it begins, how long it lasts, in seconds, and the share.
type Incident = (usize, usize, f64);

/// Both arms share a dependency that fails for a while.
#[test]
fn a_shared_incident_does_not_roll_a_good_version_back() {
    let (runs, policy) = (runs(150), sequential("1%"));
    let incidents: [Incident; 4] = [(300, 30, 0.5), (300, 120, 0.2), (300, 300, 0.03), (0, 1800, 0.013)];
    for (from, lasts, incident) in incidents {
        for share in [0.0, 0.001, 0.005] {
            let shares = move |second: usize| {
                let share = if (from..from + lasts).contains(&second) { incident } else { share };
                (share, share)
            };
            let rollout = Rollout { policy: &policy, rps: 100.0, legs: &CANARY, shares: &shares, lasts: 3600 };
            let rolled_back = rollout.ended(Verdict::Regressed, runs).len();
            println!("{share}, {lasts} s at {incident}: rolled back {rolled_back} of {runs}");
            assert!(!is_above(0.01, rolled_back, runs), "{share}, {lasts} s at {incident}: {rolled_back} of {runs}");
        }
    }
}

/// In an incident a version that is worse by 0.4 points is hardly worse by a ratio, and after it the stable's share is another one.
#[test]
fn an_incident_of_both_arms_proves_nothing_and_delays_the_proof_by_its_length() {
    let (runs, policy) = (runs(60), sequential("1%"));
    for (worse_by, promotes) in [(0.0, true), (0.004, false)] {
        let shares = move |second: usize| {
            let incident = if (500..800).contains(&second) { 0.05 } else { 0.0 };
            (0.002 + worse_by + incident, 0.002 + incident)
        };
        let rollout = Rollout { policy: &policy, rps: 200.0, legs: &CANARY, shares: &shares, lasts: 3600 };
        let times = rollout.ended(Verdict::Pass, runs);
        println!("worse by {worse_by}: promoted {} of {runs}, in a median of {:?} s", times.len(), times.get(runs / 2));
        assert!(promotes || !is_above(0.05, times.len(), runs), "{} of {runs} bad ones", times.len());
        assert!(!promotes || times.len() == runs && times[runs / 2] < 2000, "{} good ones: {times:?}", times.len());
    }
}

/// The stable is broken, and the canary is the repair.
#[test]
fn a_better_version_is_promoted_beside_a_stable_that_breaks_the_limit() {
    let (runs, policy) = (runs(40), sequential("1%"));
    for (canary, stable) in [(0.02, 0.08), (0.05, 0.08), (0.03, 0.03), (0.0, 0.02)] {
        let shares = move |_| (canary, stable);
        let rollout = Rollout { policy: &policy, rps: 100.0, legs: &CANARY, shares: &shares, lasts: 3 * 3600 };
        let promoted = rollout.ended(Verdict::Pass, runs).len();
        let (time, evidence) = rollout.run(0);
        println!("{stable} → {canary}: promoted {promoted} of {runs}; {time} s: {evidence}");
        assert!(promoted == runs, "{stable} → {canary}: {promoted} of {runs}; {evidence}");
        assert!(evidence.to_string().contains("the stable breaks the limit of 1 % too ("), "{evidence}");
    }
}

/// Returns the first regression of an arm without a stable beside it, or the last look, after a version with the share
/// `before`.
fn guarded(share: f64, before: f64) -> Evidence {
    let random = &mut Random::new(3);
    let check = json!({ "metric": "error-rate", "max": "1%" });
    let policy = policy(json!({ "check": [check], "guard": { "for": "10m", "check": [check] } }));
    let mut history = History::default();
    (0..80).for_each(|_| history.absorb(&pods(100.0, before, random)));
    let alone = setting(&policy.guard.as_ref().unwrap().checks[0], &policy.metrics["error-rate"]);
    let mut run = CheckRun::new(Setting { history, arm: Arm::Stable, ..alone });
    let at = |poll: usize| Timestamp::from_second((poll * POLL) as i64).unwrap();
    let mut look = |poll| {
        let sample = Sample::Arms { canary: None, stable: Some(ratio(tally(100.0, share, random))) };
        run.look((at(poll), at(poll + 1)), sample, &[], None).unwrap().clone()
    };
    let mut evidence = look(0);
    for poll in 1..40 {
        if evidence.verdict == Verdict::Regressed {
            break;
        }
        evidence = look(poll);
    }
    evidence
}

/// A guard must not go back from a repair to a version that was worse.
#[test]
fn a_guard_does_not_hold_a_repair_to_a_limit_that_the_version_before_broke() {
    for (share, before, verdict) in [
        (0.02, 0.08, Verdict::Pass),
        (0.2, 0.08, Verdict::Regressed),
        (0.02, 0.001, Verdict::Regressed),
        (0.001, 0.08, Verdict::Pass),
    ] {
        let evidence = guarded(share, before);
        assert_eq!(evidence.verdict, verdict, "{before} → {share}: {evidence}");
        let is_told = evidence.to_string().contains("the version before broke the limit too (");
        assert_eq!(is_told, before > 0.01, "{evidence}");
    }
}

/// The limit still holds beside a stable that keeps it, and the comparison beside one that doesn't.
#[test]
fn a_bad_version_is_rolled_back_beside_a_stable_that_breaks_the_limit_and_one_that_keeps_it() {
    let runs = runs(40);
    let generous = json!({ "metric": "error-rate", "max": "1%", "margin": 4.0, "floor": "2%" });
    let generous = policy(json!({ "step": [{ "weight": "10%", "min-time": "10m" }], "check": [generous] }));
    let usual = sequential("1%");
    for (policy, canary, stable, within) in
        [(&usual, 0.06, 0.03, 180), (&usual, 0.02, 0.001, 300), (&generous, 0.02, 0.006, 900), (&usual, 0.5, 0.001, 15)]
    {
        let shares = move |_| (canary, stable);
        let rollout = Rollout { policy, rps: 100.0, legs: &README, shares: &shares, lasts: 3600 };
        let times = rollout.ended(Verdict::Regressed, runs);
        let median = times.get(runs / 2).copied().unwrap_or(usize::MAX);
        println!("{stable} → {canary}: rolled back {} of {runs}, median {median} s", times.len());
        assert!(times.len() == runs && median <= within, "{stable} → {canary}: {} of {runs}, {median} s", times.len());
    }
}

/// A version that is 8 % slower everywhere has half as many slow requests again, in much traffic: 0.36 → 0.53 % where 5 %
/// may be slow. Three times as many beyond the floor are still found.
#[test]
fn a_slightly_slower_version_is_not_rolled_back_in_much_traffic() {
    let policy_with = |floor: Option<&str>| {
        let mut check = json!({ "metric": "response-time", "quantile": 0.95, "max": "500ms" });
        floor.iter().for_each(|floor| check["floor"] = (*floor).into());
        policy(json!({ "step": [{ "weight": "10%", "min-time": "10m" }], "check": [check] }))
    };
    let at = |poll: usize| Timestamp::from_second((poll * POLL) as i64).unwrap();
    let regresses = |floor: Option<&str>, canary: f64, stable: f64| {
        let policy = policy_with(floor);
        let check = &policy.steps[0].checks[0];
        let random = &mut Random::new(7);
        let mut run = CheckRun::new(setting(check, &policy.metrics["response-time"]));
        let arm = |rps: f64, share: f64, random: &mut Random| {
            let tally = tally(rps, share, random);
            let counts = vec![tally.misses() as u64, tally.hits() as u64, 0];
            Some(Reading::Histogram { edges: vec![0.5, 1.0], counts })
        };
        (0..240).any(|poll| {
            let (canary, stable) = (arm(5_000.0, canary, random), arm(45_000.0, stable, random));
            let evidence = run.look((at(poll), at(poll + 1)), Sample::Arms { canary, stable }, &[], None).unwrap();
            evidence.verdict == Verdict::Regressed
        })
    };
    for (floor, canary, stable, wanted) in [
        (None, 0.0053, 0.0036, false),
        (Some("0.1%"), 0.0053, 0.0036, true),
        (None, 0.004, 0.004, false),
        (None, 0.015, 0.004, true),
        (None, 0.06, 0.05, true),
    ] {
        assert_eq!(regresses(floor, canary, stable), wanted, "{floor:?} {stable} → {canary}");
    }
}

/// Returns the counts of one block of pods, of which the last `judged` are the canary's: 0.1 % of single errors in 100
/// requests a second, and six bursts of `burst` errors an hour, each on one pod.
fn clustered(weight: f64, burst: u64, random: &mut Random) -> (Tally, Vec<Tally>) {
    let mut canary = tally(100.0 * weight, 0.001, random);
    let mut stable = pods(100.0 * (1.0 - weight), 0.001, random).to_vec();
    let with = |pod: Tally| Tally::new((pod.hits() + burst as f64).min(pod.n()), pod.n()).unwrap();
    for _ in 0..random.poisson(6.0 / 240.0) {
        if random.uniform() < weight {
            canary = with(canary);
        } else {
            let pod = random.below(PODS);
            stable[pod] = with(stable[pod]);
        }
    }
    (canary, stable)
}

/// Returns how many of `runs` good versions are rolled back within an hour at a weight of 10 %, with so many hours of
/// history.
fn rolled_back_by_bursts(burst: u64, past: f64, runs: usize) -> usize {
    let policy = sequential("1%");
    let check = &policy.steps[0].checks[0];
    let alone = setting(check, &policy.metrics["error-rate"]);
    let at = |poll: usize| Timestamp::from_second((poll * POLL) as i64).unwrap();
    let is_rolled_back = |seed: &usize| {
        let random = &mut Random::new(*seed as u64 + 1);
        let mut history = History::default();
        (0..(past * 240.0) as usize).for_each(|_| history.absorb(&clustered(0.0, burst, random).1));
        let mut run = CheckRun::new(Setting { history, ..alone.clone() });
        (0..240).any(|poll| {
            let (canary, stable) = clustered(0.1, burst, random);
            let sum = |count: fn(Tally) -> f64| stable.iter().map(|pod| count(*pod)).sum::<f64>();
            let pair = Pair { canary, stable: Tally::new(sum(Tally::hits), sum(Tally::n)).unwrap() };
            let processes: Vec<_> = stable.iter().map(|pod| ratio(*pod)).collect();
            let evidence = run.look((at(poll), at(poll + 1)), sample(pair), &processes, None).unwrap();
            evidence.verdict == Verdict::Regressed
        })
    };
    (0..runs).filter(is_rolled_back).count()
}

/// Errors come singly and, rarely, in bursts on one pod. With more history the dispersion is known better. With the twenty minutes
/// that a rollout reads, 5.4 % of 2,000 good versions are rolled back, which is more than the promised 1 %; the bound keeps
/// that from growing.
#[test]
fn rare_bursts_do_not_roll_a_good_version_back() {
    let runs = runs(80);
    for (burst, past, most) in [(20, 1.0 / 3.0, 0.055), (20, 6.0, 0.015)] {
        let rolled_back = rolled_back_by_bursts(burst, past, runs);
        println!("bursts of {burst}, {past:.2} h of history: rolled back {rolled_back} of {runs}");
        assert!(!is_above(most, rolled_back, runs), "bursts of {burst}, {past} h: {rolled_back} of {runs}");
    }
}
