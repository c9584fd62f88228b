//! The run of a policy over a recording, by the engine itself in observe mode.
//!
//! The engine gets a healthy workload, a request and the recorded blocks, and decides as the daemon would have decided.
//! The parts of a policy for which a recording has no data (approvals, suites, models, the guard) are removed first.
//! The time is the end of each block, so decisions are made at the ends of blocks.

use std::collections::BTreeMap;

use super::judged::Judged;
use crate::rivals::RivalEnd;
use bellwether_core::engine::Engine;
use bellwether_core::ids::{EventId, Images, TemplateHash, Workload, WorkloadKind};
use bellwether_core::input::effect::{Act, ClusterAct, Effect};
use bellwether_core::input::event::{Event, Outcome, Request};
use bellwether_core::input::status::{DeploymentStatus, Preflight, WorkloadStatus};
use bellwether_core::measure::block::Block;
use bellwether_core::measure::calibration::Calibration;
use bellwether_core::policy::{Mode, Policy, PolicyMatch};
use bellwether_core::rollout::decision::DecisionKind;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::time::{Span, Timestamp};

/// Decides by `policy` about a rollout that begins with the first block, with the calibrations of the time before it.
/// Returns `None` without blocks.
pub(super) fn judge(policy: &Policy, blocks: &[Block], calibrations: &[Calibration]) -> Option<Judged> {
    let (start, end) = (blocks.first()?.from, blocks.last()?.to);
    let mut replay = Replay::begin(policy, calibrations, start);
    for block in blocks {
        if let Some((end, why)) = replay.measure(block) {
            return Some(Judged::new(&policy.name, Some(end), (start, block.to), why));
        }
    }
    let (held, why) = replay.standing();
    Some(Judged::new(&policy.name, held.then_some(RivalEnd::Held), (start, end), why))
}

/// An engine with one running rollout.
struct Replay<'a> {
    engine: Engine,
    workload: Workload,
    calibrations: &'a [Calibration],
}

impl<'a> Replay<'a> {
    /// Starts the engine and requests a rollout.
    fn begin(policy: &Policy, calibrations: &'a [Calibration], start: Timestamp) -> Replay<'a> {
        let workload = Workload {
            cluster: "recording".to_owned(),
            namespace: "recording".to_owned(),
            kind: WorkloadKind::Deployment,
            name: "workload".to_owned(),
        };
        let engine = Engine::new(workload.cluster.clone(), vec![recordable(policy)], Span::ZERO);
        let mut replay = Replay { engine, workload, calibrations };
        let workload = replay.workload.clone();
        let observed = Event::Observed { workload: workload.clone(), status: Box::new(status()) };
        replay.tell(observed, start);
        let request = Request {
            workload,
            images: images("new"),
            image: None,
            expected_current: None,
            policy: None,
            model: None,
            prompt: None,
            tools: None,
            traceparent: None,
            reason: None,
        };
        let id = EventId { source: "recording".to_owned(), id: "request".to_owned() };
        replay.tell(Event::Requested { id, time: None, request }, start);
        replay
    }

    /// Adds a block, and returns the end of the rollout with its reason if the block causes it.
    fn measure(&mut self, block: &Block) -> Option<(RivalEnd, String)> {
        self.tell(Event::Measured { workload: self.workload.clone(), block: block.clone() }, block.to)
    }

    /// Gives an event to the engine and answers the resulting effects. Returns the end of the rollout with its reason
    /// if the event causes it.
    fn tell(&mut self, event: Event, now: Timestamp) -> Option<(RivalEnd, String)> {
        let mut events = vec![event];
        self.engine.sighted(now);
        let mut end = None;
        while let Some(event) = events.pop() {
            for transition in self.engine.step(event, now) {
                events.extend(transition.effects.iter().filter_map(|effect| self.answer(effect)));
                let promoted = transition.decisions.iter().find(|decision| decision.kind == DecisionKind::Promote);
                let ended = transition.decisions.iter().find_map(|decision| decision.ending);
                end = end.or_else(|| match ended? {
                    Ending::Promoted => Some((RivalEnd::Promoted, promoted?.why.clone())),
                    Ending::RolledBack => Some((RivalEnd::RolledBack, self.conclusion()?)),
                    Ending::GivenUp | Ending::Aborted | Ending::Superseded | Ending::Refused | Ending::Unchanged => {
                        Some((RivalEnd::Held, format!("given up: {}", self.conclusion()?)))
                    }
                });
            }
        }
        end
    }

    /// Returns the outcome of an effect in a healthy cluster; `None` for effects that observe mode does not request.
    fn answer(&self, effect: &Effect) -> Option<Event> {
        let outcome = match &effect.act {
            Act::Cluster(ClusterAct::Preflight { .. }) => {
                Outcome::Preflight(Box::new(Preflight { status: status(), issues: Vec::new() }))
            }
            Act::Metrics(_) => Outcome::Probed {
                problems: Vec::new(),
                calibrations: self.calibrations.to_vec(),
                queries: BTreeMap::new(),
            },
            // Observe mode requests no writes, and the engine has no sinks.
            Act::Cluster(_) | Act::Registry(_) | Act::People(_) => return None,
        };
        Some(Event::Performed { workload: effect.workload.clone(), effect: effect.id.clone(), outcome })
    }

    /// Returns the reason for the end of the rollout, as one sentence.
    fn conclusion(&self) -> Option<String> {
        let rollout = self.engine.state(&self.workload)?.rollout.as_ref()?;
        rollout.conclusion.as_ref().map(|conclusion| conclusion.reason.to_string())
    }

    /// Returns whether the rollout is held at the end of the recording, and the reason for which it is undecided.
    fn standing(&self) -> (bool, String) {
        let rollout = self.engine.state(&self.workload).and_then(|state| state.rollout.as_ref());
        rollout.map_or_else(
            || (false, "the recording has no rollout".to_owned()),
            |rollout| {
                let hold = rollout.current.hold.as_ref();
                (hold.is_some(), hold.map_or(&rollout.reason, |hold| &hold.reason).to_string())
            },
        )
    }
}

/// Returns the policy in observe mode, without the parts for which a recording has no data.
fn recordable(policy: &Policy) -> Policy {
    let all = || vec!["*".to_owned()];
    Policy {
        matches: PolicyMatch { namespaces: all(), workloads: all(), images: all() },
        mode: Mode::Observe,
        require: Vec::new(),
        model: None,
        approvals: Vec::new(),
        window: None,
        guard: None,
        ..policy.clone()
    }
}

fn images(tag: &str) -> Images {
    Images::from_iter([("app".to_owned(), format!("recording/app:{tag}"))])
}

/// Returns the status of a healthy workload with one pod.
fn status() -> WorkloadStatus {
    let stable = DeploymentStatus {
        uid: "stable".to_owned(),
        template: TemplateHash("stable".to_owned()),
        pod_hash: None,
        images: images("old"),
        generation: 1,
        observed_generation: 1,
        replicas: 1,
        total: 1,
        updated: 1,
        ready: 1,
        available: 1,
        restarts: 0,
        pods_since: None,
        paused: false,
        problem: None,
        template_by: None,
        replicas_by: None,
    };
    WorkloadStatus { stable: Some(stable), ..WorkloadStatus::ABSENT }
}
