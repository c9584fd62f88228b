//! The judging of one step, or of the guard: from when its weight was seen until the next one's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{Block, Reading, Sample};
use crate::ids::Weight;
use crate::judge::{CheckState, View};
use crate::metric::Metric;
use crate::policy::Check;
use crate::reason::Reason;
use crate::sighting::Arm;
use crate::time::{Span, Timestamp};
use crate::verdict::{Evidence, Verdict};
use crate::window::{Ring, Side};

/// With fewer requests in both arms together nothing is said about their shares.
const SHARE_NEEDS: u64 = 100;

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// It can't be seen.
    Sight,
    /// There is too little of it.
    Evidence,
}

/// What all checks together say: the worst of them decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// At least one has regressed; these.
    Regressed(Vec<Evidence>),
    /// At least one can't be seen; these.
    Blind(Vec<Evidence>),
    /// At least one says nothing yet; these.
    Insufficient(Vec<Evidence>),
    /// All pass.
    Pass(Vec<Evidence>),
}

/// The judging of one step, or of the guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Watching {
    /// Which step, from 0.
    pub step: usize,
    /// Or the guard.
    pub guards: bool,
    /// Since when.
    pub since: Timestamp,
    /// The counts.
    pub ring: Ring,
    /// Each check's memory, in the policy's order.
    pub checks: Vec<CheckState>,
    /// What is missing, and since when.
    pub lacking: Option<(Lack, Timestamp)>,
    /// When everything passed after the least time; not taken back by a later doubt, but a pass is asked for again.
    pub passed: Option<Timestamp>,
}

impl Watching {
    /// Begins now.
    pub fn new(step: usize, guards: bool, checks: usize, now: Timestamp) -> Watching {
        Watching {
            step,
            guards,
            since: now,
            ring: Ring::default(),
            checks: vec![CheckState::default(); checks],
            lacking: Some((Lack::Evidence, now)),
            passed: None,
        }
    }

    /// Takes a block in and lets every check look. A block that began before the watch did is left out: some of its
    /// requests were split by the weight before.
    pub fn absorb(
        &mut self,
        block: Block,
        checks: &[Check],
        metrics: &BTreeMap<String, Metric>,
        arm: Option<&Arm>,
        now: Timestamp,
    ) {
        if block.from < self.since {
            return;
        }
        let at = block.to;
        let keep = checks.iter().map(|check| check.window).max().unwrap_or(Span::ZERO);
        if !self.ring.push(block, keep) {
            return;
        }
        let view = View { ring: &self.ring, side: if self.guards { Side::Stable } else { Side::Canary }, arm };
        for (state, check) in self.checks.iter_mut().zip(checks) {
            if let Some(metric) = metrics.get(&check.metric) {
                state.look(check, metric, view, at);
            }
        }
        self.note_lack(now);
    }

    fn note_lack(&mut self, now: Timestamp) {
        let lack = match self.standing() {
            Standing::Blind(_) => Some(Lack::Sight),
            Standing::Insufficient(_) => Some(Lack::Evidence),
            Standing::Pass(_) | Standing::Regressed(_) => None,
        };
        self.lacking = match (lack, self.lacking) {
            (Some(lack), Some((before, since))) if lack == before => Some((lack, since)),
            (Some(lack), _) => Some((lack, now)),
            (None, _) => None,
        };
    }

    /// Time has passed: everything may have passed for long enough now.
    pub fn follow(&mut self, least: Span, now: Timestamp) {
        if self.passed.is_none() && now >= least.after(self.since) && matches!(self.standing(), Standing::Pass(_)) {
            self.passed = Some(now);
        }
    }

    /// What all checks together say.
    pub fn standing(&self) -> Standing {
        let with = |verdict: Verdict| -> Vec<Evidence> {
            self.evidence().filter(|evidence| evidence.verdict == verdict).cloned().collect()
        };
        for (verdict, standing) in [
            (Verdict::Regressed, Standing::Regressed as fn(Vec<Evidence>) -> Standing),
            (Verdict::Blind, Standing::Blind),
            (Verdict::Insufficient, Standing::Insufficient),
        ] {
            let evidence = with(verdict);
            if !evidence.is_empty() {
                return standing(evidence);
            }
        }
        // A check that has not looked yet says nothing.
        if self.checks.iter().any(|check| check.evidence.is_none()) {
            return Standing::Insufficient(Vec::new());
        }
        Standing::Pass(with(Verdict::Pass))
    }

    /// What each check last said.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.checks.iter().filter_map(|check| check.evidence.as_ref())
    }

    /// Why nothing is decided at present.
    pub fn reason(&self, least: Span) -> Reason {
        match self.standing() {
            Standing::Regressed(evidence) => Reason::Regressed { evidence },
            Standing::Blind(evidence) => {
                Reason::Blind { evidence, since: self.lacking.map_or(self.since, |(_, since)| since) }
            }
            Standing::Insufficient(evidence) if evidence.is_empty() => {
                Reason::Waiting { until: least.after(self.since), passing: false }
            }
            Standing::Insufficient(evidence) => Reason::Insufficient { evidence },
            Standing::Pass(_) => Reason::Waiting { until: least.after(self.since), passing: true },
        }
    }

    /// The canary's share of the requests that were counted, and their number; `None`: nothing is counted in both arms.
    pub fn share(&self) -> Option<(f64, u64)> {
        let (canary, stable) = self.ring.blocks().fold((0u64, 0u64), |(canary, stable), block| {
            let counted = block.metrics.values().find_map(|sample| match sample {
                Sample::Arms { canary, stable } => Some((requests(canary.as_ref())?, requests(stable.as_ref())?)),
                Sample::Gap(_) => None,
            });
            let (c, s) = counted.unwrap_or((0, 0));
            (canary.saturating_add(c), stable.saturating_add(s))
        });
        let n = canary.saturating_add(stable);
        (n > 0).then(|| (canary as f64 / n as f64, n))
    }

    /// The share and the number of requests, if the canary gets more than twice what was asked for.
    pub fn share_off(&self, asked: Weight) -> Option<(f64, u64)> {
        self.share().filter(|(seen, n)| *n >= SHARE_NEEDS && *seen > 2.0 * asked.as_share())
    }
}

fn requests(reading: Option<&Reading>) -> Option<u64> {
    match reading? {
        Reading::Ratio { total, .. } => Some(*total),
        Reading::Histogram { counts, .. } => Some(counts.iter().sum()),
        Reading::Count(n) => Some(*n),
        Reading::Value(_) => None,
    }
}
