//! The turns of an interval: with many rollouts, a part of them is read at each of several instants of every interval.
//!
//! One instant for all would give all answers, blocks and snapshots at once: the memory would have to hold them, and the last verdict
//! would be as late as all of them take. Up to [`MOST_AT_ONCE`] rollouts share one instant, so that one query serves them.
//! (docs/decisions/0019-rollouts-take-turns.md)

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bellwether_core::ids::Workload;
use bellwether_core::time::{Span, Timestamp};

use super::grid;

/// The rollouts that are read at one instant, before a further turn is made.
const MOST_AT_ONCE: usize = 1000;
/// The most turns of an interval.
const MOST_TURNS: usize = 16;

/// A part of the workloads, by a digest of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Its number, from 0.
    number: usize,
    /// The number of turns of an interval.
    of: usize,
}

impl Turn {
    /// The turn of all workloads.
    pub const ALL: Turn = Turn { number: 0, of: 1 };

    /// Returns whether a workload is read in this turn.
    pub fn includes(self, workload: &Workload) -> bool {
        if self.of == 1 {
            return true;
        }
        let mut hasher = DefaultHasher::new();
        workload.hash(&mut hasher);
        hasher.finish() % self.of as u64 == self.number as u64
    }
}

/// The turns of the intervals, one after the other.
#[derive(Debug)]
pub struct Turns {
    interval: Span,
    /// The number of rollouts in each turn when it was last read.
    sizes: Vec<usize>,
    /// The last turn and its instant; `None` before the first one.
    last: Option<(Timestamp, Turn)>,
    /// The instant of the last turn before their number changed; `None` if it has not.
    changed: Option<Timestamp>,
}

impl Turns {
    /// Returns one turn in each interval.
    pub fn new(interval: Span) -> Turns {
        // With an interval of 0 the next instant would be the last one.
        Turns { interval: interval.max(Span::from_millis(1)), sizes: vec![0], last: None, changed: None }
    }

    /// Returns the next turn and its instant. With one turn that is a multiple of the interval since the Unix epoch. The turns follow each
    /// other in their order, so that none is left out for long. One that is late, because those before it took long, follows at once;
    /// of its instants of more than an interval ago the newest one counts. A clock that was turned back begins anew.
    pub fn next(&mut self, now: Timestamp) -> (Timestamp, Turn) {
        let (at, turn) = match self.last.filter(|(last, _)| *last <= now) {
            Some((last, turn)) if turn.of == self.sizes.len() => {
                let next = Turn { number: (turn.number + 1) % turn.of, of: turn.of };
                let at = self.first_after(last, next);
                let newest = self.first_after(self.interval.before(now), next);
                (at.max(newest), next)
            }
            other => {
                let after = other.map_or(now, |(last, _)| last.max(self.interval.before(now)));
                let of = self.sizes.len();
                let turns = (0..of).map(|number| Turn { number, of });
                let next = turns.map(|turn| (self.first_after(after, turn), turn)).min_by_key(|(at, _)| *at);
                next.unwrap_or((self.first_after(after, Turn::ALL), Turn::ALL))
            }
        };
        self.last = Some((at, turn));
        (at, turn)
    }

    /// Returns the first instant of a turn after a time.
    fn first_after(&self, after: Timestamp, turn: Turn) -> Timestamp {
        let place = Span::from_millis(self.interval.as_millis().saturating_mul(turn.number as u64) / turn.of as u64);
        let at = place.after(grid(after, self.interval, Span::ZERO).0);
        if at > after { at } else { self.interval.after(at) }
    }

    /// Notes how many rollouts were read in a turn, and returns the number of all. There are more turns when they are too large, and fewer
    /// when a quarter of them is enough, so that their number stays while that of the rollouts varies a little. It changes once in two
    /// intervals at most: each change makes some rollouts wait for longer than an interval.
    pub fn note(&mut self, turn: Turn, rollouts: usize) -> usize {
        if let Some(size) = self.sizes.get_mut(turn.number) {
            *size = rollouts;
        }
        let (all, now) = (self.sizes.iter().sum::<usize>(), self.sizes.len());
        let wanted = all.div_ceil(MOST_AT_ONCE).max(1).next_power_of_two().min(MOST_TURNS);
        let (apart, last) = (self.interval + self.interval, self.last.map(|(last, _)| last));
        let is_settled = self.changed.zip(last).is_none_or(|(changed, last)| Span::between(changed, last) >= apart);
        if is_settled && (wanted > now || wanted * 4 <= now) {
            self.sizes = vec![all.div_ceil(wanted); wanted];
            self.changed = last;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::ids::WorkloadKind;

    use super::*;

    const INTERVAL: Span = Span::from_secs(30);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn workloads(many: usize) -> Vec<Workload> {
        let workload = |n| Workload {
            cluster: "prod".to_owned(),
            namespace: "shop".to_owned(),
            kind: WorkloadKind::Deployment,
            name: format!("web-{n}"),
        };
        (0..many).map(workload).collect()
    }

    /// Runs the turns for some intervals from `start` on. Returns the times at which each workload was read.
    fn read(turns: &mut Turns, workloads: &[Workload], start: i64, intervals: i64) -> Vec<Vec<i64>> {
        let mut times = vec![Vec::new(); workloads.len()];
        let mut now = start;
        loop {
            let (at, turn) = turns.next(self::at(now));
            now = at.as_millisecond();
            if now > start + intervals * 30_000 {
                return times;
            }
            let due: Vec<usize> = (0..workloads.len()).filter(|n| turn.includes(&workloads[*n])).collect();
            due.iter().for_each(|n| times[*n].push(now));
            turns.note(turn, due.len());
        }
    }

    #[test]
    fn a_thousand_rollouts_are_read_together_at_multiples_of_the_interval() {
        let mut turns = Turns::new(INTERVAL);
        let times = read(&mut turns, &workloads(1000), 0, 4);
        assert!(times.iter().all(|times| *times == [30_000, 60_000, 90_000, 120_000]), "{times:?}");
    }

    #[test]
    fn ten_thousand_rollouts_have_sixteen_turns_and_each_one_is_read_once_in_every_interval() {
        let workloads = workloads(10_000);
        let mut turns = Turns::new(INTERVAL);
        read(&mut turns, &workloads, 0, 2);
        let times = read(&mut turns, &workloads, 60_000, 5);
        for times in &times {
            assert_eq!(times.len(), 5, "{times:?}");
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 30_000), "{times:?}");
        }
        let mut places: Vec<i64> = times.iter().map(|times| times[0] % 30_000).collect();
        places.sort_unstable();
        let largest = places.chunk_by(|a, b| a == b).map(<[i64]>::len).max().unwrap();
        places.dedup();
        assert_eq!(places.len(), 16);
        assert!(largest <= 800, "{largest} of 10,000 in one turn");
    }

    #[test]
    fn no_rollout_waits_for_more_than_two_intervals_while_the_turns_become_more_and_fewer() {
        let all = workloads(20_000);
        let mut turns = Turns::new(INTERVAL);
        let mut last = vec![0; all.len()];
        let (mut now, mut before) = (0, 0);
        for many in [500, 1500, 20_000, 9000, 4000, 3000, 100, 1001, 1] {
            for (n, times) in read(&mut turns, &all[..many], now, 4).into_iter().enumerate() {
                // Those that are new, or come back, have no block before.
                let reached: Vec<i64> = (n < before).then_some(last[n]).into_iter().chain(times).collect();
                let longest = reached.windows(2).map(|pair| pair[1] - pair[0]).max();
                assert!(longest <= Some(60_000), "{many} rollouts: {reached:?}");
                last[n] = reached[reached.len() - 1];
            }
            (now, before) = (now + 120_000, many);
        }
    }

    #[test]
    fn a_late_turn_follows_at_once_and_of_its_old_instants_the_newest_one_counts() {
        let mut turns = Turns::new(INTERVAL);
        turns.note(Turn::ALL, 2000);
        let mut next = |now| {
            let (at, turn) = turns.next(at(now));
            (at.as_millisecond(), turn.number)
        };
        assert_eq!(next(30_000), (45_000, 1));
        assert_eq!(next(61_000), (60_000, 0), "it is late");
        assert_eq!(next(62_000), (75_000, 1));
        assert_eq!(next(200_000), (180_000, 0), "the daemon was suspended");
        assert_eq!(next(200_500), (195_000, 1));
        assert_eq!(next(201_000), (210_000, 0));
        assert_eq!(next(20_000), (30_000, 0), "the clock was turned back");
    }

    #[test]
    fn turns_that_take_longer_than_the_interval_have_their_rollouts_read_in_order() {
        let mut turns = Turns::new(INTERVAL);
        turns.note(Turn::ALL, 4000);
        let mut now = 1;
        let read: Vec<usize> = (0..40)
            .map(|_| {
                let (at, turn) = turns.next(self::at(now));
                now = at.as_millisecond().max(now) + 47_000;
                turn.number
            })
            .collect();
        assert!(read.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 4), "{read:?}");
    }

    #[test]
    fn an_interval_of_zero_goes_on() {
        let mut turns = Turns::new(Span::ZERO);
        let (first, _) = turns.next(at(5));
        assert!(turns.next(first).0 > first);
    }
}
