//! The state that the sampler keeps of each watch between two ticks.
//!
//! It is the state of the last instant at which the watch could be read. While Prometheus does not answer or its
//! samples are stale, every tick gives a block of gaps and the state stays: the first block with counts then covers the
//! whole time with the right totals. Values that the state lacks, because the daemon was restarted, a metric is new or
//! one query alone failed, are queried again as of the start of the block; Prometheus still has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::measure::watch::Watch;
use bellwether_core::time::{Span, Timestamp};

use super::packed::PackedMemory;
use super::plan::{Family, SeriesRequest};

/// The age up to which an instant query finds a sample, by the server's default setting.
const LOOKBACK: Span = Span::from_secs(300);

/// The state of one watch.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerState {
    /// Start of the rollout that the state belongs to.
    pub since: Timestamp,
    /// The last instant that could be read, where the next block with counts starts.
    pub last_read: Timestamp,
    /// End of the last block that was returned. `None`: there was none.
    pub reported: Option<Timestamp>,
    /// The last reading of each counter family. The watches of a group share the families.
    pub families: BTreeMap<Arc<Family>, FamilyState>,
}

impl SamplerState {
    /// Returns whether the watch was read or reported at `since` or later.
    pub fn is_kept(&self, since: Timestamp) -> bool {
        self.last_read >= since || self.reported >= Some(since)
    }
}

/// The last reading of one family.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyState {
    /// The instant that was read.
    pub at: Timestamp,
    /// The class labels that the series were summed by.
    pub labels: Arc<[String]>,
    /// The values as of that instant.
    pub memory: PackedMemory,
}

/// The start of a watch's block, with the state at the beginning of a tick.
pub struct BlockStart {
    /// Start of the block. `None`: this tick is the first reading and gives no block.
    pub from: Option<Timestamp>,
    /// The state that the block is counted from.
    pub state: SamplerState,
}

/// The data that a family lacks at the start of a block and that have to be queried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingStart {
    /// Nothing is missing.
    Nothing,
    /// The values at the start of the block.
    Values,
    /// The values at the start of the block, and the processes and classes that existed before.
    ValuesAndPast,
}

impl BlockStart {
    /// Returns the start of the block that ends at `at`. `kept` is the sampler's state of the workload.
    ///
    /// # Errors
    /// The time up to `at` is already in a block; this is the state to keep.
    pub fn of(watch: &Watch, kept: Option<SamplerState>, at: Timestamp) -> Result<BlockStart, Option<SamplerState>> {
        let is_current = |state: &SamplerState| {
            // If another daemon owned the workload meanwhile, the events in its blocks must not be counted again.
            let agrees = watch.last.is_none_or(|last| Some(last) == state.reported || last == state.last_read);
            // A state after this tick comes from a clock that was turned back since.
            let is_past = Some(state.last_read).max(state.reported) <= Some(at);
            state.since == watch.since && agrees && is_past
        };
        let new_state =
            |last_read| SamplerState { since: watch.since, last_read, reported: watch.last, families: BTreeMap::new() };
        let is_kept = kept.as_ref().is_some_and(is_current);
        let (from, last_read, reported) = match (&kept, watch.last) {
            (Some(state), _) if is_kept => (Some(state.last_read), state.last_read, state.reported),
            (_, Some(last)) => (Some(last), last, watch.last),
            (_, None) => (None, at, watch.last),
        };
        if from.max(reported.filter(|_| from.is_some())).is_some_and(|reached| reached >= at) {
            return Err(kept);
        }
        let state = kept.filter(|_| is_kept).unwrap_or_else(|| new_state(last_read));
        Ok(BlockStart { from, state })
    }

    /// Returns the data that `family`, summed by `labels`, lacks at the start of the block.
    pub fn missing(&self, family: &Family, labels: &[String]) -> MissingStart {
        match self.state.families.get(family) {
            _ if self.from.is_none() => MissingStart::Nothing,
            Some(known) if *known.labels != *labels => MissingStart::ValuesAndPast,
            Some(known) if known.at == self.state.last_read => MissingStart::Nothing,
            Some(_) => MissingStart::Values,
            None => MissingStart::ValuesAndPast,
        }
    }

    /// Returns the requests for the missing data as of [`BlockStart::from`]. `requests` are the watch's requests of the
    /// tick.
    pub fn missing_requests<'a>(
        &self,
        requests: impl Iterator<Item = &'a SeriesRequest>,
        lag: Span,
    ) -> BTreeSet<SeriesRequest> {
        let mut missing_requests = BTreeSet::new();
        for request in requests {
            let SeriesRequest::Series(family, labels) = request else { continue };
            let missing = self.missing(family, labels);
            let targets = SeriesRequest::Targets(family.source.clone());
            let own = [request].into_iter().chain(family.source.has_targets().then_some(&targets));
            if !family.counter || missing == MissingStart::Nothing {
                continue;
            }
            let past = (missing == MissingStart::ValuesAndPast).then(|| self.past(lag));
            missing_requests.extend(own.flat_map(|request| request.with_past(past)));
        }
        missing_requests
    }

    /// Returns the span before the start of the block of which the processes and classes have to be known: the time
    /// since the start of the rollout, plus the time before that its first reading may have seen. It is rounded up to a
    /// power of two minutes, so that few queries serve all rollouts after a restart. A span that is too long is
    /// harmless: at worst there is one more gap when an old process comes back.
    pub fn past(&self, lag: Span) -> Span {
        let time = Span::between(self.state.since, self.state.last_read).as_millis();
        let time = time + lag.as_millis() + LOOKBACK.as_millis();
        Span::from_secs(time.div_ceil(60_000).next_power_of_two().saturating_mul(60))
    }
}
