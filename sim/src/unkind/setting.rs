//! The setting of one world: the numbers that a row and a seed give it.

use bellwether_core::dice::Random;
use bellwether_core::rollout::phase::Phase;

use super::absence::Party;
use super::agenda::{MINUTE, Ms, SECOND};
use super::deployment::Rollover;
use super::disturbance::Disturbance;
use super::gateway::Manners;
use super::row::Row;

/// The time at which a disturbance begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum When {
    /// This long after the request.
    After(Ms),
    /// This long after the rollout enters a phase for the given time, counted from 0.
    Entering(Phase, u32, Ms),
}

/// The coldness of a process in its first minute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cold {
    /// The share of requests that are slow.
    pub slow: f64,
    /// The share of requests that fail.
    pub errors: f64,
}

/// The settings of an autoscaler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scaler {
    /// The share of a pod's capacity that it aims at; `None`: it only switches between none and all pods.
    pub target: Option<f64>,
    /// The fewest pods.
    pub least: u32,
}

/// The numbers of one world.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// The mean of all requests per second.
    pub rps: f64,
    /// The stable's pods at the start.
    pub pods: u32,
    /// The requests that one pod works on at the same time.
    pub workers: u32,
    /// The service time of a request in seconds.
    pub service: f64,
    /// The shortest and the longest time from a node to the first readiness.
    pub start: (Ms, Ms),
    /// The shortest and the longest wait for a node; `None` if there is one at once.
    pub node_wait: Option<(Ms, Ms)>,
    /// The way in which Deployments replace their pods.
    pub rollover: Rollover,
    /// The stable's autoscaler.
    pub scaler: Option<Scaler>,
    /// The gateway's behaviour.
    pub manners: Manners,
    /// The share of nodes of the slower type.
    pub slow_nodes: f64,
    /// The standard deviation of the logarithm of the pods' error rates.
    pub tenants: f64,
    /// The bursts of errors per hour.
    pub bursts: f64,
    /// The share of requests that never come by the gateway.
    pub direct: f64,
    /// The coldness of processes.
    pub cold: Cold,
    /// Whether admission adds digests.
    pub digests: bool,
    /// The OOM kills of a pod per hour.
    pub kills: f64,
    /// The disturbances, each with its time.
    pub disturbances: Vec<(When, Disturbance)>,
}

/// Returns a number between two, as the dice fall.
pub(super) fn between(dice: &mut Random, low: f64, high: f64) -> f64 {
    low + (high - low) * dice.uniform()
}

/// Returns a time between two, as the dice fall.
pub(super) fn time(dice: &mut Random, (low, high): (Ms, Ms)) -> Ms {
    low + ((high - low) as f64 * dice.uniform()) as Ms
}

/// Returns a time in one of the first two steps, as the dice fall.
fn in_a_step(dice: &mut Random) -> When {
    When::Entering(Phase::Stepping, dice.below(2) as u32, time(dice, (30 * SECOND, 4 * MINUTE)))
}

impl Setting {
    /// Returns the setting of a row.
    pub(super) fn of(row: Row, dice: &mut Random) -> Setting {
        let pods = 6 + dice.below(7) as u32;
        let rps = between(dice, 150.0, 400.0);
        let mut setting = Setting {
            rps,
            pods,
            workers: 4,
            service: 0.0,
            start: (5 * SECOND, 15 * SECOND),
            node_wait: None,
            rollover: Rollover { surge: 0.25, unavailable: 0.25, min_ready: 0, recreates: false },
            scaler: None,
            manners: Manners::Good,
            slow_nodes: 0.0,
            tenants: 0.0,
            bursts: 0.0,
            direct: 0.0,
            cold: Cold { slow: 0.0, errors: 0.0 },
            digests: false,
            kills: 0.0,
            disturbances: Vec::new(),
        };
        let load = setting.apply(row, dice);
        let workers = f64::from(setting.workers * setting.pods);
        if row == Row::Load {
            // Long requests on few workers, so that waiting shows: about 60 ms of work for each worker.
            setting.service = 0.06 * f64::from(setting.workers);
            setting.rps = load * workers / setting.service;
        } else {
            setting.service = load * workers / setting.rps;
        }
        setting
    }

    /// Makes the setting unkind in the row's way. Returns the pods' load as a share of their capacity.
    fn apply(&mut self, row: Row, dice: &mut Random) -> f64 {
        let absence = |dice: &mut Random| time(dice, (15 * MINUTE, 40 * MINUTE));
        let blindness = |dice: &mut Random| time(dice, (8 * MINUTE, 20 * MINUTE));
        match row {
            Row::Kind | Row::Hotfix | Row::BrokenStable => {}
            Row::NodeWait => self.node_wait = Some((MINUTE, 10 * MINUTE)),
            Row::Quota => {
                let at = if dice.below(2) == 0 { When::After(0) } else { When::Entering(Phase::Promoting, 0, 0) };
                self.disturb(at, Disturbance::Quota(time(dice, (2 * MINUTE, 8 * MINUTE))));
            }
            Row::Evictions => self.disturb(When::After(time(dice, (0, 5 * MINUTE))), Disturbance::Eviction),
            Row::NodeLoss => self.disturb(in_a_step(dice), Disturbance::NodeLoss),
            Row::Restarts => self.kills = 2.0,
            Row::HungPod => self.disturb(in_a_step(dice), Disturbance::Hang),
            Row::SlowStart => self.start = (8 * MINUTE, 12 * MINUTE),
            Row::Cold => {
                let share = between(dice, 0.2, 0.4);
                let fails = dice.below(2) == 0;
                self.cold = Cold { slow: if fails { 0.0 } else { share }, errors: if fails { share } else { 0.0 } };
            }
            Row::Autoscaler => {
                self.scaler = Some(Scaler { target: Some(0.6), least: 2 });
                return 0.58;
            }
            Row::ScaleToZero => self.scaler = Some(Scaler { target: None, least: 0 }),
            Row::ScaleOut | Row::Availability => {
                self.scaler = Some(Scaler { target: Some(0.6), least: self.pods });
                let node_wait = Some((MINUTE, 4 * MINUTE)).filter(|_| row == Row::ScaleOut);
                let rush = Disturbance::Rush { node_wait };
                self.disturb(When::Entering(Phase::Guarding, 0, 2 * MINUTE), rush);
                return 0.5;
            }
            Row::Load => {
                self.workers = 1 + dice.below(2) as u32;
                return between(dice, 0.5, 0.58);
            }
            Row::NodeTypes => self.slow_nodes = 0.4,
            Row::HotTenants => self.tenants = 0.5,
            Row::Clusters => self.bursts = 6.0,
            Row::Incident => {
                let kinds = [(0.5, 30 * SECOND), (0.2, 2 * MINUTE), (0.03, 5 * MINUTE)];
                let (share, length) = kinds[dice.below(3)];
                self.disturb(in_a_step(dice), Disturbance::Incident { share, length });
            }
            Row::DirectCallers => self.direct = 0.5,
            Row::GatewayLate => self.manners = Manners::Late(time(dice, (2 * MINUTE, 8 * MINUTE))),
            Row::GatewayPartial => self.manners = Manners::Partial,
            Row::GatewayFrozen => self.manners = Manners::Frozen,
            Row::GatewaySilent => self.manners = Manners::Silent,
            Row::GatewaySlow => self.manners = Manners::Lying(Some(time(dice, (30 * SECOND, 100 * SECOND)))),
            Row::GatewayLying => {
                let late = Some(time(dice, (3 * MINUTE, 8 * MINUTE)));
                self.manners = Manners::Lying(late.filter(|_| dice.below(2) == 0));
            }
            Row::LargePromotion => {
                self.pods = 50;
                self.rps *= 5.0;
                self.start = (2 * MINUTE + 30 * SECOND, 3 * MINUTE + 30 * SECOND);
                self.rollover = Rollover { unavailable: 0.0, min_ready: 30 * SECOND, ..self.rollover };
            }
            Row::Digests => self.digests = true,
            Row::Recreate => self.rollover.recreates = true,
            Row::DaemonAway => self.disturb(in_a_step(dice), Disturbance::Away(Party::Daemon, absence(dice))),
            Row::DaemonAwayPromoting => {
                let killed = When::Entering(Phase::Promoting, 0, time(dice, (2 * SECOND, 6 * SECOND)));
                self.disturb(killed, Disturbance::Away(Party::Daemon, absence(dice)));
            }
            Row::ApiAway => {
                let preparing = When::Entering(Phase::Preparing, 0, time(dice, (0, 20 * SECOND)));
                let at = if dice.below(3) == 0 { preparing } else { in_a_step(dice) };
                self.disturb(at, Disturbance::Away(Party::Api, absence(dice)));
            }
            Row::KafkaAway => self.disturb(in_a_step(dice), Disturbance::Away(Party::Kafka, absence(dice))),
            Row::PrometheusAway => {
                self.disturb(in_a_step(dice), Disturbance::Away(Party::Prometheus, blindness(dice)));
            }
            Row::PrometheusAwayPreparing => {
                self.disturb(When::After(0), Disturbance::Away(Party::Prometheus, blindness(dice)));
            }
            Row::ClockJump => self.disturb(in_a_step(dice), Disturbance::ClockJump),
        }
        0.25
    }

    fn disturb(&mut self, when: When, disturbance: Disturbance) {
        self.disturbances.push((when, disturbance));
    }
}
