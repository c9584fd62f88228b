//! The world of one rollout, and its run from event to event.

use std::collections::VecDeque;

use bellwether_core::dice::Random;
use bellwether_core::engine::Engine;
use bellwether_core::ids::{Weight, Workload};
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::measure::calibration::PAST;
use bellwether_core::rollout::phase::Phase;

use super::absence::Absences;
use super::acts::STABLE;
use super::agenda::{Agenda, Happening, MINUTE, Ms, SECOND};
use super::daemon::{LAG, NEVER, new_engine};
use super::defect::Defect;
use super::deployment::Deployment;
use super::disturbance::Disturbance;
use super::gateway::Gateway;
use super::oracle::Ledger;
use super::row::Row;
use super::scrape::{Counters, GRID, PHASES};
use super::setting::{Setting, When};
use super::version::{Fault, Version, versions};

/// The time at which the world begins, before the request: the past from which the judges learn, and a little more.
const DAWN: Ms = -(PAST.as_millis() as Ms) - 2 * MINUTE;
/// The time at which a rollout counts as one that never ends.
const HORIZON: Ms = 6 * 60 * MINUTE;
/// The time for which the world goes on after the end, so that the data plane has followed.
const DUSK: Ms = 9 * MINUTE;

/// Returns the workload of all worlds.
pub(super) fn workload() -> Workload {
    crate::story::workload()
}

/// The world of one rollout.
pub(super) struct World {
    pub(super) row: Row,
    pub(super) good: bool,
    pub(super) seed: u64,
    pub(super) setting: Setting,
    pub(super) dice: Random,
    pub(super) agenda: Agenda,
    pub(super) now: Ms,
    /// The stable's version, the candidate, and a hotfix by another hand.
    pub(super) versions: Vec<Version>,
    /// The index of the version that ran when the rollout was requested.
    pub(super) before: usize,
    /// The phase at whose entry the candidate's fault begins to show; `None` if it shows from the start, or from the
    /// daemon's end.
    pub(super) late_from: Option<Phase>,
    pub(super) stable: Deployment,
    pub(super) canary: Option<Deployment>,
    pub(super) gateway: Gateway,
    /// The number of the newest pod.
    pub(super) next_pod: u32,
    /// The time until which the quota refuses pods.
    pub(super) quota_until: Ms,
    /// The share of all requests that fail at present.
    pub(super) incident: f64,
    /// Whether the candidate's fault has made its pods unready.
    pub(super) unready: bool,
    /// The phase of the tide of requests, in hours.
    pub(super) tide: f64,
    /// The time until which requests have flowed.
    pub(super) settled: Ms,
    /// The planned time at which the rates change by themselves.
    pub(super) next_flow: Ms,
    /// The requests that fail at present beyond those that fail anyway, per second.
    pub(super) extra_rate: f64,
    /// The requests that reach no pod at present, per second.
    pub(super) unserved_rate: f64,
    /// Whether the present time counts as time without a ready pod.
    pub(super) counts_as_unready: bool,
    /// Whether time counts in which the canary has traffic and answers nothing.
    pub(super) counts_as_unanswered: bool,
    /// The autoscaler's wishes, with their times.
    pub(super) wishes: VecDeque<(Ms, u32)>,
    pub(super) readings: VecDeque<Counters>,
    pub(super) engine: Engine,
    /// The time by which the daemon's clock is fast.
    pub(super) fast: Ms,
    /// The planned time of the next wake-up.
    pub(super) wake: Option<Ms>,
    /// The status that the engine was told of last.
    pub(super) told: Option<WorkloadStatus>,
    /// The time at which the engine was told of a canary without a ready pod.
    pub(super) told_at: Ms,
    /// The planted defect.
    pub(super) defect: Option<Defect>,
    /// The time at which the engine was told of a block last.
    pub(super) measured_at: Ms,
    pub(super) absences: Absences,
    /// The phases that the rollout has entered.
    pub(super) entries: Vec<Phase>,
    pub(super) ended: Option<Ms>,
    pub(super) ledger: Ledger,
    pub(super) log: Option<Vec<String>>,
}

impl World {
    /// Returns the world of a row, whose version is good or bad, with a planted defect if one is given. It remembers its story
    /// if `tells`.
    pub(super) fn new(row: Row, good: bool, seed: u64, defect: Option<Defect>, tells: bool) -> World {
        let mut dice = Random::new(seed.wrapping_mul(1009).wrapping_add(row as u64 * 2 + u64::from(good)));
        let setting = Setting::of(row, &mut dice);
        let (versions, late_from) = versions(row, good, &mut dice);
        let tide = dice.uniform();
        let engine = new_engine(row, defect);
        let gateway = Gateway::new(setting.manners);
        let stable = Deployment::new(STABLE, 0, setting.pods);
        World {
            row,
            good,
            seed,
            setting,
            dice,
            agenda: Agenda::default(),
            now: DAWN,
            versions,
            before: 0,
            late_from,
            stable,
            canary: None,
            gateway,
            next_pod: 0,
            quota_until: Ms::MIN,
            incident: 0.0,
            unready: false,
            tide,
            settled: DAWN,
            next_flow: Ms::MIN,
            extra_rate: 0.0,
            unserved_rate: 0.0,
            counts_as_unready: false,
            counts_as_unanswered: false,
            wishes: VecDeque::new(),
            readings: VecDeque::new(),
            engine,
            fast: 0,
            wake: None,
            told: None,
            told_at: NEVER,
            defect,
            measured_at: DAWN,
            absences: Absences::default(),
            entries: Vec::new(),
            ended: None,
            ledger: Ledger::default(),
            log: tells.then(Vec::new),
        }
    }

    /// Runs the rollout until some minutes after its end, or to the horizon.
    pub(super) fn run(&mut self) {
        self.create_first_pods();
        self.agenda.plan(DAWN, Happening::Watch);
        self.agenda.plan(DAWN, Happening::Read);
        for phase in 0..PHASES {
            let at = DAWN + GRID * Ms::from(phase) / Ms::from(PHASES) + SECOND;
            self.agenda.plan(at, Happening::Scrape(phase));
        }
        self.agenda.plan(0, Happening::Request);
        if self.row == Row::Hotfix {
            self.agenda.plan(DAWN + MINUTE, Happening::Disturb(Disturbance::Hotfix));
        }
        for (when, disturbance) in self.setting.disturbances.clone() {
            if let When::After(after) = when {
                self.agenda.plan(after, Happening::Disturb(disturbance));
            }
        }
        self.flow();
        while let Some((at, happening)) = self.agenda.next() {
            if at > HORIZON || self.ended.is_some_and(|ended| at > ended + DUSK) {
                break;
            }
            self.settle(at);
            self.now = at;
            self.happen(happening);
            self.flow();
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Scrape(phase) => {
                self.scrape(phase);
                self.agenda.plan(self.now + self.grid(), Happening::Scrape(phase));
            }
            Happening::Read => {
                self.read_counters();
                self.autoscale();
                self.agenda.plan(self.now + self.grid(), Happening::Read);
                self.agenda.plan(self.now + LAG, Happening::Block(self.now));
                self.agenda.plan(self.now, Happening::Watch);
            }
            Happening::Block(to) => self.tell_blocks(to),
            Happening::Watch => self.watch(),
            Happening::Wake => self.wake(),
            Happening::Land(effect) => self.land(&effect),
            Happening::Pod { id, turn } => self.pod_goes_on(id, turn),
            Happening::Reconcile => self.reconcile(),
            Happening::Program(weight) => self.program(weight),
            Happening::Flow => {}
            Happening::Disturb(disturbance) => self.disturb(disturbance),
            Happening::Calm(disturbance) => self.calm(disturbance),
            Happening::Request => self.request(),
        }
    }

    /// Lets the data plane take a weight over.
    fn program(&mut self, weight: Weight) {
        self.gateway.share = weight.as_share();
        let shows = self.versions[1].fault == Some(Fault::Unready) && !self.unready;
        if shows && weight >= Weight::percent(50) {
            self.agenda.plan(self.now + 30 * SECOND, Happening::Disturb(Disturbance::Unready));
        }
    }
}
