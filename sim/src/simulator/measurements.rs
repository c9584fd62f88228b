//! The measurements: blocks of counts for the watched workloads, with gaps and repetitions.

use bellwether_core::input::event::Event;
use bellwether_core::measure::block::Gap;
use bellwether_core::time::Span;

use super::counters::gap;
use super::defect::Defect;
use super::world::{GRID, Simulator};

impl Simulator {
    /// Advances the counters, and tells the daemon of a block of each watched workload.
    pub(super) fn measure(&mut self) {
        if self.faults && self.dice.below(100) == 0 {
            self.away = Span::from_secs(self.dice.below(600)).after(self.now);
        }
        let watches = self.daemon.engine.watches();
        for watch in &watches {
            let status = self.api.model.status(&watch.workload, self.now);
            let traffic = (self.rps * GRID as u64, self.api.model.share(&watch.workload, self.now));
            self.counters.advance(&watch.workload, &status, traffic, self.now, &mut self.dice);
        }
        for watch in watches {
            if self.faults && self.dice.chance(10) {
                continue;
            }
            let status = self.api.model.status(&watch.workload, self.now);
            let mut from = watch.last.unwrap_or_else(|| Span::from_secs(GRID as u64).before(self.now));
            if self.recounts.remove(&watch.workload) && self.defect == Some(Defect::CountTwice) {
                from = Span::from_secs(GRID as u64).before(from);
            }
            let has_first_sample = self.counters.has(&watch.workload, from);
            let is_unanswered = self.now < self.away || (self.faults && self.dice.chance(5));
            let is_blind = is_unanswered || !has_first_sample;
            let is_guarding = watch.canary.is_none();
            let mut block = self.counters.block(&watch.workload, &status, (from, self.now), is_guarding);
            if is_unanswered {
                let error = "timeout".to_owned();
                block = gap(from, self.now, &Gap::Unanswered { error });
            }
            if is_blind && self.defect == Some(Defect::BlindPromotes) {
                block = self.counters.healthy(from, self.now);
            }
            let event = Event::Measured { workload: watch.workload.clone(), block };
            if is_blind {
                self.oracle.blind.insert(watch.workload.clone());
            } else {
                self.oracle.blind.remove(&watch.workload);
            }
            if self.faults && self.dice.chance(10) {
                self.tell(event.clone());
            }
            let now = self.told_time();
            // A successor may or may not know the block, and one from the future is dropped: no assertion about blindness is possible.
            if !self.turn(event, now, None) || now < self.now {
                self.oracle.blind.remove(&watch.workload);
            }
        }
    }
}
