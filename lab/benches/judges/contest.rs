//! Every judge on the same rollouts.

use bellwether_core::stats::tally::{Pair, Tally};
use bellwether_lab::rivals::{RivalEnd, RivalOutcome};

use crate::rivals;
use bellwether_sim::polls::{Delays, POLL, PhiSource, Poll, PollJudge, Scenario};

/// Prometheus is away for these polls.
#[derive(Clone, Copy)]
pub struct Outage {
    pub from: usize,
    pub polls: usize,
}

impl Outage {
    pub fn covers(self, poll: usize) -> bool {
        (self.from..self.from + self.polls).contains(&poll)
    }
}

/// What became of one row's rollouts under one judge.
#[derive(Default)]
pub struct Score {
    pub runs: usize,
    pub rolled_back: Delays,
    /// Promoted, of those that are counted in `rolled_back`.
    pub promoted: usize,
    pub held: usize,
}

/// The others are slow to simulate, and see so many rollouts of a row at most.
pub const MOST: usize = 4000;

/// Who judges.
pub struct Contest {
    ours: Vec<(&'static str, PollJudge)>,
}

impl Contest {
    pub fn new() -> Contest {
        let product = PollJudge::product(1.0);
        Contest {
            ours: vec![
                ("Bellwether, r0 = 1", product),
                ("Bellwether, r0 = 1.25 (default)", PollJudge::product(1.25)),
                ("r0 = 1 without φ", PollJudge { phi: PhiSource::Independent, ..product }),
            ],
        }
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.ours.iter().map(|(name, _)| *name).chain(rivals::NAMES).collect()
    }

    /// A score for each judge.
    pub fn play(&self, row: &Scenario, runs: usize, outage: Option<Outage>) -> Vec<Score> {
        let mut scores: Vec<Score> = self.names().iter().map(|_| Score::default()).collect();
        for run in 0..runs {
            let polls = row.simulate(run);
            let (ours, others) = scores.split_at_mut(self.ours.len());
            let seen = as_seen(&polls, outage);
            for (score, (_, judge)) in ours.iter_mut().zip(&self.ours) {
                score.runs += 1;
                // An outage is one block at its end.
                let place = |at: usize| seen.get(at).map(|(poll, _)| *poll);
                let rows: Vec<Poll> = seen.iter().map(|(_, poll)| *poll).collect();
                score.rolled_back.add(row, judge.rollback(&rows).and_then(place).map(|at| (at + 1) as f64 * POLL));
            }
            if run < MOST {
                let outcomes = rivals::outcomes(&polls, outage);
                others.iter_mut().zip(outcomes).for_each(|(score, outcome)| score.add(row, outcome));
            }
        }
        scores
    }
}

impl Score {
    fn add(&mut self, row: &Scenario, outcome: Option<RivalOutcome>) {
        let is = |end: RivalEnd| outcome.as_ref().is_some_and(|outcome| outcome.end == end);
        self.runs += 1;
        self.promoted += usize::from(is(RivalEnd::Promoted));
        self.held += usize::from(is(RivalEnd::Held));
        let rolled_back = outcome.as_ref().filter(|outcome| outcome.end == RivalEnd::RolledBack);
        self.rolled_back.add(row, rolled_back.map(|outcome| outcome.at.as_second() as f64));
    }
}

/// The blocks that our sampling makes of the polls, each with its poll: counters go on during an outage, so the first
/// block after it has all of its counts.
fn as_seen(polls: &[Poll], outage: Option<Outage>) -> Vec<(usize, Poll)> {
    let mut seen = Vec::with_capacity(polls.len());
    let mut missed: Option<Pair> = None;
    for (index, poll) in polls.iter().enumerate() {
        let pair = missed.take().map_or(poll.pair, |before| merged(before, poll.pair));
        if outage.is_some_and(|outage| outage.covers(index)) {
            missed = Some(pair);
        } else {
            seen.push((index, Poll { pair, ..*poll }));
        }
    }
    seen
}

fn merged(a: Pair, b: Pair) -> Pair {
    let add = |a: Tally, b: Tally| Tally::new(a.hits() + b.hits(), a.n() + b.n()).unwrap();
    Pair { canary: add(a.canary, b.canary), stable: add(a.stable, b.stable) }
}
