//! The course of the rollouts, for charts: the newest details of each, and the numbers of its checks over time as this process has
//! seen them. They are kept in memory alone and begin anew with the process. Their number and their length are bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use bellwether_core::engine::detail::{ArmValue, CheckNumbers, RolloutDetail, RolloutLook};
use bellwether_core::measure::block::SmallMap;
use bellwether_core::time::{Span, Timestamp};

/// The most rollouts whose course is kept. Beyond it the one that ended first gives way; a further running one has no course.
const MOST_COURSES: usize = 1000;
/// The most looks of a series. Beyond it every second one is left out, and the next ones are as far apart.
const MOST_LOOKS: usize = 96;
/// The most series of a rollout. Further checks have none.
const MOST_SERIES: usize = 16;

/// The courses of the newest rollouts. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Courses(Arc<RwLock<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    courses: BTreeMap<String, Arc<Course>>,
    /// The ids of the ended rollouts with a course, the one that ended first in front.
    ended: VecDeque<String>,
}

/// The course of one rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// The newest details.
    pub detail: RolloutDetail,
    /// The canary's shares over time.
    pub shares: Series<SharesPoint>,
    /// The numbers of each check, by the check's name.
    pub checks: SmallMap<CheckCourse>,
    has_ended: bool,
}

/// The numbers of one check.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckCourse {
    /// Its newest numbers.
    pub numbers: CheckNumbers,
    /// Its numbers over time.
    pub series: Series<CheckPoint>,
}

/// The canary's shares of the traffic at one time, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharesPoint {
    /// The share that was asked for.
    pub asked: f32,
    /// The share in the route; `None` if no route names the canary.
    pub routed: Option<f32>,
    /// The share of the counted requests; `None` if none were counted.
    pub seen: Option<f32>,
}

/// The numbers of one check at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckPoint {
    /// The value of the judged arm; `None` if nothing was counted.
    pub subject: Option<ValuePoint>,
    /// The stable's value beside it; `None` if there is none.
    pub stable: Option<ValuePoint>,
    /// The limit.
    pub limit: f32,
    /// The part of the evidence against the version that is an alarm; `None` for a judge that weighs none.
    pub against: Option<f32>,
    /// The part of the evidence for the version that is a proof; `None` if no proof is asked for.
    pub toward: Option<f32>,
}

/// The value of one arm at one time, with the ends of its interval. Without an interval both are the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValuePoint {
    /// The value.
    pub value: f32,
    /// The lower end.
    pub lower: f32,
    /// The upper end.
    pub upper: f32,
}

/// Points over time, evenly thinned once there are more than [`MOST_LOOKS`].
#[derive(Debug, Clone, PartialEq)]
pub struct Series<P> {
    points: Vec<(Timestamp, P)>,
    /// The least time between two points, but for the newest one.
    apart: Span,
}

impl<P> Default for Series<P> {
    fn default() -> Series<P> {
        Series { points: Vec::new(), apart: Span::ZERO }
    }
}

impl<P: Copy> Series<P> {
    /// Returns the points, oldest first.
    pub fn points(&self) -> &[(Timestamp, P)] {
        &self.points
    }

    /// Returns the series of some points, for tests.
    #[cfg(test)]
    pub(crate) fn of(points: impl IntoIterator<Item = (Timestamp, P)>) -> Series<P> {
        let mut series = Series::default();
        points.into_iter().for_each(|(at, point)| series.push(at, point));
        series
    }

    /// Adds a point. One that is not newer than the last one is left out.
    fn push(&mut self, at: Timestamp, point: P) {
        match self.points.as_slice() {
            [.., (last, _)] if at <= *last => return,
            // The last point was only the newest one.
            [.., (before, _), _] if Span::between(*before, at) < self.apart => drop(self.points.pop()),
            _ => {}
        }
        self.points.push((at, point));
        if self.points.len() > MOST_LOOKS {
            self.thin();
        }
    }

    fn thin(&mut self) {
        let mut n = 0;
        self.points.retain(|_| {
            n += 1;
            n % 2 == 1
        });
        if let [(first, _), .., (last, _)] = self.points.as_slice() {
            let gaps = self.points.len() as u64 - 1;
            self.apart = Span::from_millis(Span::between(*first, *last).as_millis() / gaps);
        }
    }
}

impl Courses {
    /// Returns the course of a rollout; `None` if none is kept.
    pub fn of(&self, rollout: &str) -> Option<Arc<Course>> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.courses.get(rollout).cloned()
    }

    /// Returns whether details of a rollout would be kept.
    pub fn keeps(&self, rollout: &str) -> bool {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.courses.contains_key(rollout) || kept.courses.len() < MOST_COURSES || !kept.ended.is_empty()
    }

    /// Notes the present details of a rollout.
    pub fn note(&self, rollout: &str, has_ended: bool, detail: RolloutDetail) {
        // Poisoning is harmless: each change leaves the courses consistent.
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        if !kept.courses.contains_key(rollout) && kept.courses.len() >= MOST_COURSES {
            let Some(oldest) = kept.ended.pop_front() else { return };
            kept.courses.remove(&oldest);
        }
        let course = kept.courses.entry(rollout.to_owned()).or_insert_with(|| Arc::new(Course::new(detail.clone())));
        let course = Arc::make_mut(course);
        if has_ended && !course.has_ended {
            kept.ended.push_back(rollout.to_owned());
        }
        course.has_ended |= has_ended;
        course.note(detail);
    }
}

impl Course {
    fn new(detail: RolloutDetail) -> Course {
        Course { detail, shares: Series::default(), checks: SmallMap::new(), has_ended: false }
    }

    fn note(&mut self, detail: RolloutDetail) {
        if let Some(look) = &detail.look {
            self.look(look);
        }
        // A rollout that has ended is looked at no more, and its last look stays.
        let look = detail.look.or_else(|| self.detail.look.take());
        self.detail = RolloutDetail { look, ..detail };
    }

    fn look(&mut self, look: &RolloutLook) {
        // The requests of the block were split by the weight before the look, which may have ended in another one.
        let shares = SharesPoint {
            asked: self.detail.asked as f32,
            routed: self.detail.routed.map(|share| share as f32),
            seen: look.seen.map(|share| share as f32),
        };
        self.shares.push(look.at, shares);
        for check in &look.checks {
            if self.checks.len() < MOST_SERIES || self.checks.contains_key(&check.check) {
                let begun = || CheckCourse { numbers: check.clone(), series: Series::default() };
                let course = self.checks.entry(check.check.clone()).or_insert_with(begun);
                course.series.push(look.at, CheckPoint::of(check));
                course.numbers = check.clone();
            }
        }
    }

    /// Returns the time from which on the course is known; `None` before the first block.
    pub fn since(&self) -> Option<Timestamp> {
        self.shares.points().first().map(|(at, _)| *at)
    }
}

impl CheckPoint {
    fn of(numbers: &CheckNumbers) -> CheckPoint {
        CheckPoint {
            subject: numbers.subject.map(ValuePoint::of),
            stable: numbers.stable.map(ValuePoint::of),
            limit: numbers.limit.value() as f32,
            against: numbers.against.map(|weighed| weighed.part() as f32),
            toward: numbers.toward.map(|weighed| weighed.part() as f32),
        }
    }
}

impl ValuePoint {
    fn of(arm: ArmValue) -> ValuePoint {
        let (lower, upper) = arm.between.unwrap_or((arm.value, arm.value));
        ValuePoint { value: arm.value as f32, lower: lower as f32, upper: upper as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn detail(second: i64) -> RolloutDetail {
        let look = Some(RolloutLook { at: at(second), seen: None, checks: Vec::new() });
        let (steps, arms, deadlines) = (Vec::new(), Vec::new(), Vec::new());
        RolloutDetail { steps, guard: None, arms, asked: 0.1, routed: None, route: None, deadlines, look }
    }

    #[test]
    fn a_long_series_keeps_its_ends_and_is_thinned_evenly() {
        let mut series = Series::default();
        for n in 0..5760 {
            series.push(at(n * 15), n);
            series.push(at(n * 15), -1);
            assert!(series.points().len() <= MOST_LOOKS);
        }
        let points = series.points();
        assert_eq!((points[0], points[points.len() - 1]), ((at(0), 0), (at(5759 * 15), 5759)));
        assert!(points.len() >= MOST_LOOKS / 2 - 1, "{}", points.len());
        let gaps: Vec<u64> =
            points.windows(2).rev().skip(1).map(|two| Span::between(two[0].0, two[1].0).as_millis()).collect();
        let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(*most <= 2 * *least, "{least} to {most} ms apart");
    }

    #[test]
    fn a_full_board_forgets_the_course_that_ended_first_and_takes_no_further_running_one() {
        let courses = Courses::default();
        for n in 0..MOST_COURSES {
            courses.note(&format!("r{n}"), false, detail(1));
        }
        assert!(courses.keeps("r7") && !courses.keeps("late"));
        courses.note("late", false, detail(1));
        assert_eq!(courses.of("late"), None, "all others run");
        courses.note("r7", true, detail(2));
        courses.note("r3", true, detail(2));
        assert!(courses.keeps("late"));
        courses.note("r7", true, detail(3));
        courses.note("late", false, detail(1));
        assert!(courses.of("late").is_some() && courses.of("r7").is_none() && courses.of("r3").is_some());
        courses.note("later", false, detail(1));
        assert!(courses.of("later").is_some() && courses.of("r3").is_none());
        assert_eq!(courses.0.read().unwrap().courses.len(), MOST_COURSES);
    }

    #[test]
    fn the_last_look_of_an_ended_rollout_stays() {
        let courses = Courses::default();
        courses.note("r", false, detail(5));
        courses.note("r", true, RolloutDetail { look: None, ..detail(9) });
        let course = courses.of("r").unwrap();
        assert_eq!((course.detail.look.as_ref().unwrap().at, course.since()), (at(5), Some(at(5))));
    }

    #[test]
    fn a_look_has_the_weight_by_which_its_requests_were_split() {
        let courses = Courses::default();
        courses.note("r", false, detail(5));
        courses.note("r", false, RolloutDetail { asked: 0.0, ..detail(20) });
        let asked: Vec<f32> = courses.of("r").unwrap().shares.points().iter().map(|(_, point)| point.asked).collect();
        assert_eq!(asked, [0.1, 0.1], "the second look has taken the weight back");
    }
}
