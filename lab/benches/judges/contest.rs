//! All judges on the same simulated rollouts.

use bellwether_core::stats::tally::{Pair, Tally};
use bellwether_lab::rivals::{RivalEnd, RivalOutcome};

use crate::outage::Outage;
use crate::rivals;
use bellwether_sim::polls::{Delays, POLL, PhiSource, Poll, PollJudge, Scenario};

/// The results of one judge in the rollouts of one scenario.
#[derive(Default)]
pub struct JudgeScore {
    /// The number of rollouts.
    pub runs: usize,
    /// The times to the rollback.
    pub rolled_back: Delays,
    /// The number of promoted rollouts.
    pub promoted: usize,
    /// The number of held rollouts.
    pub held: usize,
}

/// The largest number of rollouts per scenario for the rules of other tools, which are slow to simulate.
pub const MAX_RIVAL_RUNS: usize = 4000;

/// The judges of the comparison.
pub struct Contest {
    /// Bellwether's judges with their names.
    ours: Vec<(&'static str, PollJudge)>,
}

impl Contest {
    /// Makes the comparison of Bellwether's judge, two variants of it and the rules of other tools.
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

    /// Returns the names of all judges: Bellwether's, then the other tools'.
    pub fn names(&self) -> Vec<&'static str> {
        self.ours.iter().map(|(name, _)| *name).chain(rivals::NAMES).collect()
    }

    /// Simulates rollouts of a scenario and returns each judge's score, in the order of [`Contest::names`].
    pub fn simulate(&self, scenario: &Scenario, runs: usize, outage: Option<Outage>) -> Vec<JudgeScore> {
        let mut scores: Vec<JudgeScore> = self.names().iter().map(|_| JudgeScore::default()).collect();
        for run in 0..runs {
            let polls = scenario.simulate(run);
            let (ours, others) = scores.split_at_mut(self.ours.len());
            let blocks = as_blocks(&polls, outage);
            for (score, (_, judge)) in ours.iter_mut().zip(&self.ours) {
                score.runs += 1;
                let poll_of_block = |block: usize| blocks.get(block).map(|(poll, _)| *poll);
                let counts: Vec<Poll> = blocks.iter().map(|(_, poll)| *poll).collect();
                let rollback = judge.rollback(&counts).and_then(poll_of_block);
                score.rolled_back.add(scenario, rollback.map(|poll| (poll + 1) as f64 * POLL));
            }
            if run < MAX_RIVAL_RUNS {
                let outcomes = rivals::outcomes(&polls, outage);
                others.iter_mut().zip(outcomes).for_each(|(score, outcome)| score.add(scenario, outcome));
            }
        }
        scores
    }
}

impl JudgeScore {
    fn add(&mut self, scenario: &Scenario, outcome: Option<RivalOutcome>) {
        let is = |end: RivalEnd| outcome.as_ref().is_some_and(|outcome| outcome.end == end);
        self.runs += 1;
        self.promoted += usize::from(is(RivalEnd::Promoted));
        self.held += usize::from(is(RivalEnd::Held));
        let rolled_back = outcome.as_ref().filter(|outcome| outcome.end == RivalEnd::RolledBack);
        self.rolled_back.add(scenario, rolled_back.map(|outcome| outcome.at.as_second() as f64));
    }
}

/// Returns the blocks that the daemon's sampling makes of the polls, each with the index of its last poll. Counters
/// continue during an outage, so the first block after it has the counts of the whole outage.
fn as_blocks(polls: &[Poll], outage: Option<Outage>) -> Vec<(usize, Poll)> {
    let mut blocks = Vec::with_capacity(polls.len());
    let mut missed: Option<Pair> = None;
    for (index, poll) in polls.iter().enumerate() {
        let pair = missed.take().map_or(poll.pair, |before| sum(before, poll.pair));
        if outage.is_some_and(|outage| outage.covers(index)) {
            missed = Some(pair);
        } else {
            blocks.push((index, Poll { pair, ..*poll }));
        }
    }
    blocks
}

fn sum(a: Pair, b: Pair) -> Pair {
    let add = |a: Tally, b: Tally| Tally::new(a.hits() + b.hits(), a.n() + b.n()).unwrap();
    Pair { canary: add(a.canary, b.canary), stable: add(a.stable, b.stable) }
}
