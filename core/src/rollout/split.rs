//! The split of the requests between the arms, as an analysis counts it: the witness of the traffic beside the router's status.

use std::collections::BTreeSet;

use super::analysis::{AskedShare, StepAnalysis};
use crate::measure::block::Block;
use crate::measure::calibration::Traffic;
use crate::measure::window::{Arm, requests};
use crate::stats::share::{ShareTest, ShareVerdict};
use crate::time::Span;

/// The error rate of the test of the canary's share.
const SHARE_ALPHA: f64 = 0.001;
/// The time that a router has to follow a weight before the canary's share is tested.
const SETTLING: Span = Span::from_secs(30);
/// The number of requests whose absence tells that the canary answers none.
const MISSED_REQUESTS: f64 = 100.0;
/// The number of blocks that tell the canary's present share.
const RECENT_BLOCKS: usize = 4;
/// The difference of two numbers of requests that is no chance, in roots of their number: three standard deviations of requests
/// that come in sessions of four.
const CLEAR: f64 = 6.0;

/// The growth of the traffic since the time before the rollout up to which both are comparable.
const MOST_GROWTH: f64 = 1.25;

impl StepAnalysis {
    /// Returns the canary's share of the counted requests, 0 to 1, and their number; `None` unless both arms are counted.
    ///
    /// An arm without a reading is not an arm without requests: a canary's first scrape comes some blocks after its first
    /// request and brings all of them at once. So the other arm's counts of those blocks belong to it.
    pub fn share(&self) -> Option<(f64, u64)> {
        let names: BTreeSet<&String> = self.ring.blocks().flat_map(|block| block.metrics.keys()).collect();
        names.into_iter().find_map(|name| {
            let (canary, stable) = (self.requests(name, Arm::Canary)?, self.requests(name, Arm::Stable)?);
            let n = canary.saturating_add(stable);
            (n > 0).then(|| (canary as f64 / n as f64, n))
        })
    }

    /// Returns the requests that a metric has counted in one arm; `None` if the arm has no reading of it.
    fn requests(&self, metric: &str, side: Arm) -> Option<u64> {
        self.ring.blocks().filter_map(|block| requests(block, metric, side)).reduce(u64::saturating_add)
    }

    /// Returns the verdict on the canary's share of the requests; `None` if it is not tested.
    pub fn share_verdict(&self) -> Option<ShareVerdict> {
        self.share_test.as_ref().map(ShareTest::verdict)
    }

    /// Returns whether the canary has lately had less than a fifth of the asked share, from 0 to 1. Callers that don't come through the
    /// router lower the share as well, and are no fault.
    pub fn gets_hardly_any(&self, asked: f64) -> bool {
        let recent = self.ring.blocks().rev().take(RECENT_BLOCKS);
        let mut seen = (0_u64, 0_u64);
        for (canary, stable) in recent.filter_map(requests_of) {
            seen = (seen.0.saturating_add(canary), seen.1.saturating_add(stable));
        }
        let n = seen.0.saturating_add(seen.1);
        n > 0 && (seen.0 as f64) * 5.0 < asked * n as f64
    }

    /// Returns the requests that should have come in the newest blocks by the traffic before the rollout, and the time of the
    /// blocks, if no request came to either arm and at least [`MISSED_REQUESTS`] are missing.
    pub fn silence(&self, before: Traffic) -> Option<(u64, Span)> {
        let newest: Vec<&Block> = self.ring.blocks().rev().take(RECENT_BLOCKS).collect();
        let is_silent = |block: &&Block| requests_of(block) == Some((0, 0)) && block.from >= SETTLING.after(self.since);
        let (last, first) = (newest.first()?, newest.get(RECENT_BLOCKS - 1)?);
        let time = Span::between(first.from, last.to);
        let expected = before.within(time);
        (newest.iter().all(is_silent) && expected >= MISSED_REQUESTS).then_some((expected as u64, time))
    }

    /// Tests the canary's share by a block. The router has [`SETTLING`] to follow, and longer as long as the requests show that it has
    /// not followed. A block in which an arm has no reading tells nothing of the share.
    pub(super) fn test_share(&mut self, block: &Block, asked: Option<&AskedShare>) {
        let Some(asked) = asked.filter(|_| block.from >= SETTLING.after(self.since)) else { return };
        let Some((canary, stable)) = requests_of(block) else { return };
        if block.to <= asked.follows_within.after(self.since) && self.router_lags(block, asked) {
            return;
        }
        let fresh = || ShareTest::new(asked.share, SHARE_ALPHA).ok();
        if self.share_test.is_none() {
            self.share_test = fresh();
        }
        // A state of another version of the test begins anew.
        if self.share_test.as_mut().is_some_and(|test| test.absorb(canary, stable).is_err()) {
            self.share_test = fresh();
        }
    }

    /// Returns whether the canary's share has not come in a block, and may come later: the router splits the requests as before, or
    /// the canary has none, which in little traffic tells nothing more.
    pub(super) fn awaits_share(&self, block: &Block, asked: &AskedShare) -> bool {
        let has_none = || self.follows_weight(block) && requests_of(block).is_some_and(|(canary, _)| canary == 0);
        self.router_lags(block, asked) || has_none()
    }

    /// Whether a block began long enough after the step's weight was written: the counters are read up to an interval late, so the first
    /// block may have requests from before.
    fn follows_weight(&self, block: &Block) -> bool {
        block.from >= Span::between(block.from, block.to).after(self.since)
    }

    /// Returns whether the router still splits the requests of a block as before the step. A canary that got none before gets none
    /// either if it answers none. Then the stable tells: it still has all of the requests, or it lacks those of the canary.
    fn router_lags(&self, block: &Block, asked: &AskedShare) -> bool {
        let Some((canary, stable)) = requests_of(block).filter(|_| self.follows_weight(block)) else { return false };
        let n = canary.saturating_add(stable);
        let seen = canary as f64 / n.max(1) as f64;
        if n == 0 || seen >= (asked.before + asked.share) / 2.0 {
            return false;
        }
        if asked.before > 0.0 { seen >= asked.before / 2.0 } else { self.stable_has_all(asked, Some(block)) }
    }

    /// Returns whether the stable still gets as many requests as before the rollout, in all blocks so far and `newest`: clearly more
    /// than are left of them without the canary's share, and not so many more that the traffic before tells nothing.
    pub fn stable_has_all(&self, asked: &AskedShare, newest: Option<&Block>) -> bool {
        let counted = self.ring.blocks().chain(newest).filter_map(|block| Some((block, requests_of(block)?.1)));
        let (seen, time) = counted.fold((0.0, Span::ZERO), |(seen, time), (block, stable)| {
            (seen + stable as f64, time + Span::between(block.from, block.to))
        });
        let expected = asked.traffic.within(time);
        let moved = asked.share * expected;
        let is_comparable = seen <= MOST_GROWTH * expected;
        is_comparable && seen - (expected - moved) > (moved / 2.0).max(CLEAR * libm::sqrt(expected))
    }
}

/// Returns the requests of both arms in a block, by the first metric that counts them in both; `None` if none does.
fn requests_of(block: &Block) -> Option<(u64, u64)> {
    let of = |name: &str, arm| requests(block, name, arm);
    block.metrics.keys().find_map(|name| Some((of(name, Arm::Canary)?, of(name, Arm::Stable)?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::measure::block::{Reading, Sample};
    use crate::measure::window::Ring;
    use crate::rollout::analysis::Scope;
    use crate::rollout::answers::PodAnswers;
    use crate::time::Timestamp;

    /// The requests of the canary and of the stable in one block.
    type Requests = (Option<u64>, Option<u64>);

    type Row<'a> = (&'a [Requests], Option<(f64, u64)>);

    fn analysis(blocks: &[Requests]) -> StepAnalysis {
        let at = |n: usize| Timestamp::from_second(n as i64 * 10).unwrap();
        let mut analysis = StepAnalysis {
            scope: Scope::Step(0),
            since: at(0),
            unseen: Span::ZERO,
            share_test: None,
            answers: PodAnswers::default(),
            size: None,
            ring: Ring::default(),
            checks: Vec::new(),
            shortfall: None,
            passed: None,
        };
        for (n, (canary, stable)) in blocks.iter().enumerate() {
            let sample = Sample::Arms { canary: canary.map(Reading::Count), stable: stable.map(Reading::Count) };
            let metrics = BTreeMap::from([("requests".to_owned(), sample)]);
            analysis.ring.push(Block::new(at(n), at(n + 1), metrics), Span::from_secs(3600));
        }
        analysis
    }

    #[test]
    fn the_share_of_a_canary_whose_first_scrape_is_late_covers_all_blocks_since() {
        let rows: [Row<'_>; 5] = [
            (&[], None),
            (&[(None, Some(80)), (None, Some(80))], None),
            (&[(None, Some(80)), (None, Some(80)), (Some(60), Some(80))], Some((0.2, 300))),
            (&[(Some(10), None), (Some(10), Some(80))], Some((0.2, 100))),
            (&[(Some(0), Some(0))], None),
        ];
        for (blocks, expected) in rows {
            assert_eq!(analysis(blocks).share(), expected, "{blocks:?}");
        }
    }

    #[test]
    fn requests_that_no_longer_come_are_told_from_few_and_from_unknown_ones() {
        let traffic = |requests| Traffic { requests, time: Span::from_secs(300) };
        let none = (Some(0), Some(0));
        // Blocks of 10 s, of which the first three may still have requests of the earlier weight.
        let silent = [vec![(Some(5), Some(5)); 3], vec![none; 4]].concat();
        assert_eq!(analysis(&silent).silence(traffic(3000)), Some((400, Span::from_secs(40))));
        assert_eq!(analysis(&silent).silence(traffic(600)), None, "80 requests are missing");
        assert_eq!(analysis(&silent).silence(Traffic::default()), None, "the traffic before is not known");
        for other in [(Some(0), Some(1)), (Some(1), Some(0)), (None, Some(0))] {
            let mut blocks = silent.clone();
            blocks[5] = other;
            assert_eq!(analysis(&blocks).silence(traffic(3000)), None, "{other:?}");
        }
        assert_eq!(analysis(&silent[1..]).silence(traffic(3000)), None, "the router has its time");
    }

    #[test]
    fn a_router_that_follows_late_is_told_from_a_version_that_answers_nothing() {
        let traffic = Traffic { requests: 300_000, time: Span::from_secs(3000) };
        let at = |n: i64| Timestamp::from_second(n * 10).unwrap();
        // The verdict after the given blocks of 1000 requests, of which the arms answer these.
        let verdict = |before: f64, blocks: &[(u64, u64)]| {
            let mut state = analysis(&[]);
            let asked = AskedShare { share: 0.5, before, traffic, follows_within: Span::from_secs(120) };
            for (n, (canary, stable)) in (0..).zip(blocks) {
                let [canary, stable] = [canary, stable].map(|count| Some(Reading::Count(*count)));
                let metrics = BTreeMap::from([("requests".to_owned(), Sample::Arms { canary, stable })]);
                let block = Block::new(at(n), at(n + 1), metrics);
                state.test_share(&block, Some(&asked));
                state.ring.push(block, Span::from_secs(3600));
            }
            (state.share_verdict(), state.stable_has_all(&asked, None))
        };
        let late = [vec![(0, 1000); 10], vec![(500, 500); 20]].concat();
        assert_eq!(verdict(0.0, &late).0, Some(ShareVerdict::AsAsked), "it follows after 100 s");
        assert_eq!(verdict(0.0, &late[..10]), (None, true), "it has not followed yet");
        assert_eq!(verdict(0.0, &[(0, 1000); 20]), (Some(ShareVerdict::TooLittle), true), "it never follows");
        assert_eq!(
            verdict(0.0, &[(0, 500); 8]),
            (Some(ShareVerdict::TooLittle), false),
            "it follows, and nothing answers"
        );
        let late = [vec![(100, 900); 10], vec![(500, 500); 20]].concat();
        assert_eq!(verdict(0.1, &late).0, Some(ShareVerdict::AsAsked), "the second step follows after 100 s");
        assert_eq!(verdict(0.1, &[(100, 900); 20]).0, Some(ShareVerdict::TooLittle), "the second step never follows");
        assert_eq!(verdict(0.1, &[(0, 500); 8]).0, Some(ShareVerdict::TooLittle), "nothing answers in the second step");
    }
}
