//! Simulated rollouts, for the error rates that the tests hold and the comparison that `benches/judges` prints.
//!
//! A rollout here is an hour of polls every 15 s. Requests are Poisson; errors come alone or in clusters, each of which
//! hits one pod in one poll. The seeds are fixed, so the same rollout is the same for every judge, everywhere.

use bellwether_core::dice::Random;
use bellwether_core::stats::confidence::upper_part;
use bellwether_core::stats::dispersion::Dispersion;
use bellwether_core::stats::mixture::{Mixture, Onset};
use bellwether_core::stats::odds_grid::OddsGrid;
use bellwether_core::stats::tally::{Pair, Phi, Tally};

/// The error rate that is promised.
pub const ALPHA: f64 = 0.01;
/// Seconds between polls.
pub const POLL: f64 = 15.0;
/// Polls in an hour.
pub const HOUR: usize = 240;
/// φ is seeded from so many polls before the rollout: 20 minutes.
const HISTORY: usize = 80;
/// Pods of the stable.
const PODS: usize = 5;

/// One poll's weather.
pub struct Weather {
    /// Requests per second.
    canary: f64,
    stable: f64,
    /// Error rates.
    p_canary: f64,
    p_stable: f64,
}

/// By poll, from 0.
type Forecast = Box<dyn Fn(usize, &mut Random) -> Weather>;

/// What is simulated.
pub struct Row {
    pub name: String,
    weather: Forecast,
    /// Errors come so many at a time.
    pub cluster: u64,
    /// The fault begins with this poll.
    pub onset: usize,
    pub polls: usize,
}

fn steady(name: &str, canary: f64, p: f64) -> Row {
    let stable = 19.0 * canary;
    let weather = move |_: usize, _: &mut Random| Weather { canary, stable, p_canary: p, p_stable: p };
    Row { name: name.to_owned(), weather: Box::new(weather), cluster: 1, onset: 0, polls: HOUR }
}

/// Canary and stable are the same.
pub fn alike() -> Vec<Row> {
    let incidents = |_: usize, random: &mut Random| {
        let p = if random.uniform() < 0.1 { 0.05 } else { 0.005 };
        Weather { canary: 5.0, stable: 95.0, p_canary: p, p_stable: p }
    };
    let drift = |poll: usize, _: &mut Random| {
        let p = 0.001 + 0.009 * poll as f64 / HOUR as f64;
        Weather { canary: 50.0, stable: 950.0, p_canary: p, p_stable: p }
    };
    let ramp = |poll: usize, _: &mut Random| {
        let share = [0.05, 0.25, 0.5][(3 * poll / HOUR).min(2)];
        let p = 0.002 + 0.018 * poll as f64 / HOUR as f64;
        Weather { canary: 100.0 * share, stable: 100.0 * (1.0 - share), p_canary: p, p_stable: p }
    };
    let mut rows = vec![
        steady("5/95 rps, 0.1 %", 5.0, 0.001),
        steady("5/95 rps, 0.5 %", 5.0, 0.005),
        steady("50/950 rps, 0.5 %", 50.0, 0.005),
        Row { weather: Box::new(incidents), ..steady("5/95 rps, 0.5 %, a tenth of the polls x10 in both", 5.0, 0.005) },
        Row { weather: Box::new(drift), ..steady("50/950 rps, drift 0.1 → 1 % in both", 50.0, 0.0) },
        Row {
            weather: Box::new(ramp), ..steady("100 rps, share 5 → 25 → 50 %, drift 0.2 → 2 % in both", 5.0, 0.0)
        },
    ];
    for cluster in [2, 5, 20] {
        rows.push(Row { cluster, ..steady(&format!("50/950 rps, 0.5 %, errors by {cluster}"), 50.0, 0.005) });
    }
    for cluster in [2, 5, 20] {
        rows.push(Row { cluster, ..steady(&format!("5/95 rps, 0.5 %, errors by {cluster}"), 5.0, 0.005) });
    }
    rows
}

/// The canary is worse, from the start or after half an hour.
pub fn worse() -> Vec<Row> {
    let from = |canary: f64, before: f64, after: f64, onset: usize, name: &str| {
        let stable = 19.0 * canary;
        let weather = move |poll: usize, _: &mut Random| Weather {
            canary,
            stable,
            p_canary: if poll < onset { before } else { after },
            p_stable: before,
        };
        Row { weather: Box::new(weather), onset, polls: onset + HOUR, ..steady(name, canary, before) }
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

/// One poll, and the φ that was known before it.
#[derive(Clone, Copy)]
pub struct Poll {
    pub pair: Pair,
    pub phi: Phi,
    /// The stable's, one by one.
    pub pods: [Tally; PODS],
}

impl Row {
    /// One rollout, poll by poll.
    pub fn simulate(&self, run: usize) -> Vec<Poll> {
        let random = &mut Random::new(run as u64 + 1);
        let mut dispersion = Dispersion::default();
        for pods in self.history(random) {
            dispersion.absorb(&pods);
        }
        (0..self.polls)
            .map(|poll| {
                let weather = (self.weather)(poll, random);
                let canary = self.tally(weather.canary, weather.p_canary, random);
                let pods = self.pods(weather.stable, weather.p_stable, random);
                let sum = |of: fn(Tally) -> f64| pods.iter().map(|pod| of(*pod)).sum::<f64>();
                let stable = Tally::new(sum(Tally::hits), sum(Tally::n)).unwrap();
                let phi = dispersion.phi();
                dispersion.absorb(&pods);
                Poll { pair: Pair { canary, stable }, phi, pods }
            })
            .collect()
    }

    /// What the stable's pods had shown before it, poll by poll.
    pub fn past(&self, run: usize) -> Vec<[Tally; PODS]> {
        self.history(&mut Random::new(run as u64 + 1))
    }

    fn history(&self, random: &mut Random) -> Vec<[Tally; PODS]> {
        let poll = |_| {
            // The weather before the rollout is that of its beginning; all traffic goes to the stable.
            let weather = (self.weather)(0, random);
            self.pods(weather.canary + weather.stable, weather.p_stable, random)
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

/// Where φ comes from.
#[derive(Clone, Copy)]
pub enum Seed {
    /// Learnt from the stable's pods.
    Pods,
    /// Taken to be 1.
    Independent,
}

/// The sequential judge.
#[derive(Clone, Copy)]
pub struct PollJudge {
    pub margin: f64,
    pub onset: Onset,
    pub phi: Seed,
}

impl PollJudge {
    /// As the product has it.
    pub fn product(margin: f64) -> PollJudge {
        PollJudge { margin, onset: Onset::Planned(HOUR as u32), phi: Seed::Pods }
    }

    /// The poll at whose end it rolls back, from 0.
    pub fn rollback(&self, polls: &[Poll]) -> Option<usize> {
        let test = OddsGrid::worse(self.margin, self.onset).unwrap();
        let mut state = Mixture::default();
        polls.iter().position(|poll| {
            let phi = match self.phi {
                Seed::Pods => poll.phi,
                Seed::Independent => Phi::ONE,
            };
            test.absorb(&mut state, poll.pair, phi).unwrap();
            test.ln_e(&state) >= -libm::log(ALPHA)
        })
    }
}

/// How long some judge took in so many rollouts, in seconds from the onset.
#[derive(Clone, Default)]
pub struct Delays {
    /// Rollouts in which it had not rolled back before there was a fault.
    pub runs: usize,
    pub seconds: Vec<f64>,
}

impl Delays {
    /// Adds a rollout. A rollback before the onset is a false one, and the rollout is not counted.
    pub fn add(&mut self, row: &Row, rollback: Option<f64>) {
        let delay = rollback.map(|seconds| seconds - row.onset as f64 * POLL);
        if delay.is_none_or(|delay| delay > 0.0) {
            self.runs += 1;
            let place = |delay: f64, all: &[f64]| all.partition_point(|other| *other < delay);
            if let Some(delay) = delay {
                self.seconds.insert(place(delay, &self.seconds), delay);
            }
        }
    }

    /// Of those that end in a rollback, the delay of this part.
    pub fn at(&self, part: f64) -> f64 {
        let index = (part * self.seconds.len() as f64) as usize;
        self.seconds.get(index.min(self.seconds.len().saturating_sub(1))).copied().unwrap_or(f64::INFINITY)
    }

    /// The part that ends in a rollback.
    pub fn part(&self) -> f64 {
        self.seconds.len() as f64 / self.runs.max(1) as f64
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.seconds.len() {
            0 => f.write_str("–; 0 %"),
            _ => write!(f, "{} ({}); {:.1} %", self.at(0.5), self.at(0.9), 100.0 * self.part()),
        }
    }
}

/// How many rollouts are simulated: `BELLWETHER_RUNS`, or few.
pub fn runs() -> usize {
    let asked = std::env::var("BELLWETHER_RUNS").ok().and_then(|runs| runs.parse().ok());
    asked.unwrap_or(if cfg!(debug_assertions) { 100 } else { 2000 })
}

/// `0.27 % (≤ 0.37 %)`: a part, and the one-sided 99 % bound for it.
pub fn share(count: usize, runs: usize) -> String {
    format!("{:.2} % (≤ {:.2} %)", 100.0 * count as f64 / runs as f64, 100.0 * upper_part(count, runs, 0.01))
}
