//! A policy of ours, walked over a recording: the steps, the judges and the patience of the engine, without a cluster.
//!
//! The judging is the engine's own ([`Watching`]); the way from step to step is short enough to be told again here, since a
//! recording has no gates, people or gateways.

use std::collections::BTreeMap;

use super::Judged;
use crate::rivals::End;
use bellwether_core::judge::sequential::State;
use bellwether_core::judge::verdict::Evidence;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::calibration::Learnt;
use bellwether_core::policy::{Policy, Step, Then};
use bellwether_core::rollout::analysis::{Lack, Rules, Standing, Watching};
use bellwether_core::rollout::reason::Reason;
use bellwether_core::time::{Span, Timestamp};

/// What `policy` decides about a rollout that begins with the first block, with what the time before has taught.
pub(super) fn judge(policy: &Policy, blocks: &[Block], learnt: &[Learnt]) -> Option<Judged> {
    let (start, end) = (blocks.first()?.from, blocks.last()?.to);
    let mut walk = Walk::new(policy, learnt, start);
    for block in blocks {
        if let Some((end, why)) = walk.take(block) {
            return Some(Judged::new(&policy.name, Some(end), (start, block.to), why));
        }
    }
    let held = walk.held.map(|_| End::Held);
    Some(Judged::new(&policy.name, held, (start, end), walk.standing()))
}

/// Where the rollout stands.
struct Walk<'a> {
    policy: &'a Policy,
    learnt: &'a [Learnt],
    states: BTreeMap<String, State>,
    watching: Watching,
    /// On hold, since when.
    held: Option<Timestamp>,
}

impl<'a> Walk<'a> {
    fn new(policy: &'a Policy, learnt: &'a [Learnt], start: Timestamp) -> Walk<'a> {
        Walk { policy, learnt, states: BTreeMap::new(), watching: begin(policy, 0, start), held: None }
    }

    fn step(&self) -> Option<&'a Step> {
        self.policy.steps.get(self.watching.step)
    }

    /// Takes a block in; how that ends the rollout, if it does.
    fn take(&mut self, block: &Block) -> Option<(End, String)> {
        let (step, now) = (self.step()?, block.to);
        let rules = Rules {
            checks: &step.checks,
            metrics: &self.policy.metrics,
            proof: step.proof,
            planned: self.policy.planned(false),
            learnt: self.learnt,
        };
        self.watching.absorb(block.clone(), &rules, &mut self.states, None, now);
        self.watching.follow(step.min_time, now);
        match self.watching.standing() {
            Standing::Regressed(evidence) => Some((End::RolledBack, Reason::Regressed { evidence }.to_string())),
            Standing::Pass(evidence) => self.go_on(step, &evidence, now),
            Standing::Blind(_) | Standing::Insufficient(_) => self.wait(now),
        }
    }

    /// All checks pass: the next step, or the end, once the least time and the pause are over.
    fn go_on(&mut self, step: &Step, evidence: &[Evidence], now: Timestamp) -> Option<(End, String)> {
        self.held = None;
        if self.watching.passed.is_none_or(|passed| now < step.pause.after(passed)) {
            return None;
        }
        let next = self.watching.step + 1;
        if next < self.policy.steps.len() {
            self.watching = begin(self.policy, next, now);
            return None;
        }
        let said: Vec<String> = evidence.iter().map(ToString::to_string).collect();
        Some((End::Promoted, said.join("; ")))
    }

    /// Something is missing: for longer than the policy's patience, or than its longest hold, it matters.
    fn wait(&mut self, now: Timestamp) -> Option<(End, String)> {
        let (lack, since) = self.watching.lacking?;
        let patience = &self.policy.patience;
        let (limit, then) = match lack {
            Lack::Sight => (patience.blind, patience.on_blind),
            Lack::Evidence => (patience.insufficient, patience.on_insufficient),
        };
        if Span::between(since, now) < limit {
            return None;
        }
        let held = *self.held.get_or_insert(now);
        let why = self.standing();
        match then {
            Then::RollBack => Some((End::RolledBack, why)),
            Then::GiveUp => Some((End::Held, format!("given up: {why}"))),
            Then::Hold if Span::between(held, now) >= self.policy.max_hold => {
                Some((End::Held, format!("given up after {} on hold: {why}", self.policy.max_hold)))
            }
            Then::Hold => None,
        }
    }

    fn standing(&self) -> String {
        self.watching.reason(self.step().map_or(Span::ZERO, |step| step.min_time)).to_string()
    }
}

fn begin(policy: &Policy, step: usize, now: Timestamp) -> Watching {
    Watching::new(step, false, policy.steps.get(step).map_or(0, |step| step.checks.len()), now)
}
