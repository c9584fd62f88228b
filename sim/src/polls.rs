//! Simulated counts of rollouts, for the tests of error rates and for the benchmark `judges` of the lab.
//!
//! A rollout is an hour of polls, one every 15 s. The number of requests is Poisson-distributed. Errors are independent
//! or come in clusters, each of which hits one pod in one poll. The seeds are fixed, so every judge sees the same
//! rollouts on every machine.

use bellwether_core::dice::Random;
use bellwether_core::stats::confidence::upper_part;
use bellwether_core::stats::dispersion::Dispersion;
use bellwether_core::stats::mixture::{Mixture, Onset};
use bellwether_core::stats::odds_grid::OddsGrid;
use bellwether_core::stats::tally::{Pair, Phi, Tally};

/// The promised error rate of the judges: at most this share of good versions is rolled back.
pub const ALPHA: f64 = 0.01;
/// The time between two polls, in seconds.
pub const POLL: f64 = 15.0;
/// The number of polls in an hour.
pub const HOUR: usize = 240;
/// The number of polls before the rollout from which φ is learnt: 20 minutes.
const HISTORY: usize = 80;
/// The number of pods of the stable.
const PODS: usize = 5;

/// The rates of one poll.
struct PollRates {
    /// The canary's requests per second.
    canary: f64,
    /// The stable's requests per second.
    stable: f64,
    /// The probability that a request of the canary fails.
    p_canary: f64,
    /// The probability that a request of the stable fails.
    p_stable: f64,
}

/// The rates by poll, counted from 0.
type Rates = Box<dyn Fn(usize, &mut Random) -> PollRates>;

/// A kind of rollout, of which any number can be simulated: a row of the tables in `docs/figures-judges.md`.
pub struct Scenario {
    /// The scenario's name in the tables.
    pub name: String,
    rates: Rates,
    /// The number of errors per cluster, at least 1.
    pub cluster: u64,
    /// The index of the poll at which the fault begins.
    pub onset: usize,
    /// The number of polls.
    pub polls: usize,
}

/// Returns a scenario with constant rates, in which the canary has a twentieth of the traffic.
fn steady(name: &str, canary: f64, p: f64) -> Scenario {
    let stable = 19.0 * canary;
    let rates = move |_: usize, _: &mut Random| PollRates { canary, stable, p_canary: p, p_stable: p };
    Scenario { name: name.to_owned(), rates: Box::new(rates), cluster: 1, onset: 0, polls: HOUR }
}

/// Returns the scenarios in which canary and stable have the same error rate.
pub fn equal_arms() -> Vec<Scenario> {
    let incidents = |_: usize, random: &mut Random| {
        let p = if random.uniform() < 0.1 { 0.05 } else { 0.005 };
        PollRates { canary: 5.0, stable: 95.0, p_canary: p, p_stable: p }
    };
    let drift = |poll: usize, _: &mut Random| {
        let p = 0.001 + 0.009 * poll as f64 / HOUR as f64;
        PollRates { canary: 50.0, stable: 950.0, p_canary: p, p_stable: p }
    };
    let ramp = |poll: usize, _: &mut Random| {
        let share = [0.05, 0.25, 0.5][(3 * poll / HOUR).min(2)];
        let p = 0.002 + 0.018 * poll as f64 / HOUR as f64;
        PollRates { canary: 100.0 * share, stable: 100.0 * (1.0 - share), p_canary: p, p_stable: p }
    };
    let mut scenarios = vec![
        steady("5/95 rps, 0.1 %", 5.0, 0.001),
        steady("5/95 rps, 0.5 %", 5.0, 0.005),
        steady("50/950 rps, 0.5 %", 50.0, 0.005),
        Scenario {
            rates: Box::new(incidents),
            ..steady("5/95 rps, 0.5 %, a tenth of the polls x10 in both", 5.0, 0.005)
        },
        Scenario { rates: Box::new(drift), ..steady("50/950 rps, drift 0.1 → 1 % in both", 50.0, 0.0) },
        Scenario {
            rates: Box::new(ramp), ..steady("100 rps, share 5 → 25 → 50 %, drift 0.2 → 2 % in both", 5.0, 0.0)
        },
    ];
    for cluster in [2, 5, 20] {
        scenarios.push(Scenario { cluster, ..steady(&format!("50/950 rps, 0.5 %, errors by {cluster}"), 50.0, 0.005) });
    }
    for cluster in [2, 5, 20] {
        scenarios.push(Scenario { cluster, ..steady(&format!("5/95 rps, 0.5 %, errors by {cluster}"), 5.0, 0.005) });
    }
    scenarios
}

/// Returns the scenarios in which the canary is worse, from the start or after half an hour.
pub fn worse_canaries() -> Vec<Scenario> {
    let from = |canary: f64, before: f64, after: f64, onset: usize, name: &str| {
        let stable = 19.0 * canary;
        let rates = move |poll: usize, _: &mut Random| PollRates {
            canary,
            stable,
            p_canary: if poll < onset { before } else { after },
            p_stable: before,
        };
        Scenario { rates: Box::new(rates), onset, polls: onset + HOUR, ..steady(name, canary, before) }
    };
    let half = HOUR / 2;
    vec![
        from(5.0, 0.001, 0.01, 0, "5/95 rps, 0.1 → 1 %"),
        from(5.0, 0.001, 0.05, 0, "5/95 rps, 0.1 → 5 %"),
        from(50.0, 0.001, 0.005, 0, "50/950 rps, 0.1 → 0.5 %"),
        from(50.0, 0.005, 0.008, 0, "50/950 rps, 0.5 → 0.8 %"),
        from(50.0, 0.01, 0.02, 0, "50/950 rps, 1 → 2 %"),
        from(0.5, 0.001, 0.1, 0, "0.5/9.5 rps, 0.1 → 10 %"),
        from(5.0, 0.001, 0.002, 0, "5/95 rps, 0.1 → 0.2 % (hard)"),
        from(5.0, 0.001, 0.01, half, "5/95 rps, 0.1 → 1 % after 30 min"),
        from(50.0, 0.001, 0.005, half, "50/950 rps, 0.1 → 0.5 % after 30 min"),
        from(50.0, 0.005, 0.01, half, "50/950 rps, 0.5 → 1 % after 30 min"),
    ]
}

/// The counts of one poll.
#[derive(Clone, Copy)]
pub struct Poll {
    /// The requests and errors of both arms.
    pub pair: Pair,
    /// The dispersion learnt from the polls before this one.
    pub phi: Phi,
    /// The requests and errors of each of the stable's pods.
    pub pods: [Tally; PODS],
}

impl Scenario {
    /// Simulates one rollout and returns its polls. `run` selects the seed.
    pub fn simulate(&self, run: usize) -> Vec<Poll> {
        let random = &mut Random::new(run as u64 + 1);
        let mut dispersion = Dispersion::default();
        for pods in self.history(random) {
            dispersion.absorb(&pods);
        }
        (0..self.polls)
            .map(|poll| {
                let rates = (self.rates)(poll, random);
                let canary = self.tally(rates.canary, rates.p_canary, random);
                let pods = self.pods(rates.stable, rates.p_stable, random);
                let sum = |count: fn(Tally) -> f64| pods.iter().map(|pod| count(*pod)).sum::<f64>();
                let stable = Tally::new(sum(Tally::hits), sum(Tally::n)).unwrap();
                let phi = dispersion.phi();
                dispersion.absorb(&pods);
                Poll { pair: Pair { canary, stable }, phi, pods }
            })
            .collect()
    }

    /// Returns the counts of the stable's pods in the 80 polls before the rollout. `run` selects the seed.
    pub fn past(&self, run: usize) -> Vec<[Tally; PODS]> {
        self.history(&mut Random::new(run as u64 + 1))
    }

    fn history(&self, random: &mut Random) -> Vec<[Tally; PODS]> {
        let poll = |_| {
            // The rates before the rollout are those of its first poll, with all of the traffic on the stable.
            let rates = (self.rates)(0, random);
            self.pods(rates.canary + rates.stable, rates.p_stable, random)
        };
        (0..HISTORY).map(poll).collect()
    }

    fn pods(&self, rps: f64, p: f64, random: &mut Random) -> [Tally; PODS] {
        std::array::from_fn(|_| self.tally(rps / PODS as f64, p, random))
    }

    fn tally(&self, rps: f64, p: f64, random: &mut Random) -> Tally {
        let n = random.poisson(rps * POLL);
        let clusters = random.poisson(n as f64 * p / self.cluster as f64);
        Tally::of((clusters * self.cluster).min(n), n).unwrap()
    }
}

/// The dispersion φ that a [`PollJudge`] uses.
#[derive(Clone, Copy)]
pub enum PhiSource {
    /// The φ learnt from the stable's pods.
    Pods,
    /// A φ of 1, for independent errors.
    Independent,
}

/// The odds-grid test alone, as a judge of simulated polls.
#[derive(Clone, Copy)]
pub struct PollJudge {
    /// The tolerated ratio of the canary's to the stable's error rate, above 0.
    pub margin: f64,
    /// The distribution of the stake over the polls.
    pub onset: Onset,
    /// The source of the dispersion φ.
    pub phi: PhiSource,
}

impl PollJudge {
    /// Returns the judge with the settings of the daemon and the given margin.
    pub fn product(margin: f64) -> PollJudge {
        PollJudge { margin, onset: Onset::Planned(HOUR as u32), phi: PhiSource::Pods }
    }

    /// Returns the index of the poll after which the judge rolls back at level [`ALPHA`]; `None` if it does not.
    pub fn rollback(&self, polls: &[Poll]) -> Option<usize> {
        let test = OddsGrid::worse(self.margin, self.onset).unwrap();
        let mut state = Mixture::default();
        polls.iter().position(|poll| {
            let phi = match self.phi {
                PhiSource::Pods => poll.phi,
                PhiSource::Independent => Phi::ONE,
            };
            test.absorb(&mut state, poll.pair, phi).unwrap();
            test.ln_e(&state) >= -libm::log(ALPHA)
        })
    }
}

/// The times that a judge took from the onset of a fault to the rollback.
#[derive(Clone, Default)]
pub struct Delays {
    /// The number of rollouts, without those that were rolled back before the onset.
    pub runs: usize,
    /// The times of the rollouts that were rolled back, in seconds from the onset, in ascending order.
    pub seconds: Vec<f64>,
}

impl Delays {
    /// Adds a rollout. `rollback` is the time of the rollback in seconds from the rollout's start, or `None`. A
    /// rollback before the onset is a false one, and the rollout is not counted.
    pub fn add(&mut self, scenario: &Scenario, rollback: Option<f64>) {
        let delay = rollback.map(|seconds| seconds - scenario.onset as f64 * POLL);
        if delay.is_none_or(|delay| delay > 0.0) {
            self.runs += 1;
            let place = |delay: f64, all: &[f64]| all.partition_point(|other| *other < delay);
            if let Some(delay) = delay {
                self.seconds.insert(place(delay, &self.seconds), delay);
            }
        }
    }

    /// Returns the `q`-quantile of the times in seconds, for `q` from 0 to 1; infinity without rollbacks.
    pub fn quantile(&self, q: f64) -> f64 {
        let index = (q * self.seconds.len() as f64) as usize;
        self.seconds.get(index.min(self.seconds.len().saturating_sub(1))).copied().unwrap_or(f64::INFINITY)
    }

    /// Returns the share of the rollouts that were rolled back, from 0 to 1.
    pub fn share(&self) -> f64 {
        self.seconds.len() as f64 / self.runs.max(1) as f64
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.seconds.len() {
            0 => f.write_str("–; 0 %"),
            _ => write!(f, "{} ({}); {:.1} %", self.quantile(0.5), self.quantile(0.9), 100.0 * self.share()),
        }
    }
}

/// Returns the number of rollouts to simulate: the environment variable `BELLWETHER_RUNS`, or `debug` in builds with
/// debug assertions, or 2,000.
pub fn runs(debug: usize) -> usize {
    let configured = std::env::var("BELLWETHER_RUNS").ok().and_then(|runs| runs.parse().ok());
    configured.unwrap_or(if cfg!(debug_assertions) { debug } else { 2000 })
}

/// Writes a share of the runs with its one-sided 99 % upper bound, as in `0.27 % (≤ 0.37 %)`.
pub fn percent(count: usize, runs: usize) -> String {
    format!("{:.2} % (≤ {:.2} %)", 100.0 * count as f64 / runs as f64, 100.0 * upper_part(count, runs, 0.01))
}
