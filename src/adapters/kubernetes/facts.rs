//! The facts that are kept of workloads, revisions and pods, and the [`DeploymentStatus`] that they add up to.
//!
//! The watches see every object of the cluster, so they keep these few facts of each and not the object. The preflight
//! takes the same facts from fresh reads, so both compute a status in the same way.

use std::collections::BTreeMap;

use bellwether_core::ids::TemplateHash;
use bellwether_core::input::status::{DeploymentStatus, PodProblem, Release};
use bellwether_core::time::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::ports::{PodFacts, PodTemplate};

/// The waiting reasons of a container that does not start without a change by a person.
const STUCK: [&str; 8] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// The facts of a workload object: a stable, a canary or a baseline.
#[derive(Debug, Clone)]
pub struct WorkloadFacts {
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// Whether Bellwether created it.
    pub ours: bool,
    /// The uids of its owners.
    pub owners: Vec<String>,
    /// The order of a person that gave all traffic to the stable; `None` on other objects than canaries.
    pub released: Option<Release>,
    /// Whether its pods, if it is a canary, have a Service of their own.
    pub has_own_service: bool,
    /// Its pod template, which may hold secrets.
    pub template: PodTemplate,
    /// The labels of its pods.
    pub pod_labels: BTreeMap<String, String>,
    /// Its status without the facts of its revisions and pods.
    pub own_status: Box<DeploymentStatus>,
}

/// The facts of a revision: the object between a workload and the pods of one template.
#[derive(Debug, Clone)]
pub struct RevisionFacts {
    /// The uid that [`PodState::revision`] names.
    pub uid: String,
    /// The workload object that it belongs to.
    pub workload: Owner,
    /// The value of the revision label of its pods.
    pub pod_hash: String,
    /// The hash of its template.
    pub template: TemplateHash,
    /// Its number; of two with the same template, the higher one is current.
    pub number: u64,
    /// The reason why it can't create pods.
    pub failure: Option<PodProblem>,
}

/// The facts of a pod.
#[derive(Debug, Clone)]
pub struct PodState {
    /// The pod's name.
    pub name: String,
    /// The revision that it belongs to.
    pub revision: Owner,
    /// The value of its revision label.
    pub pod_hash: String,
    /// The time at which it was started; before that, the time at which it was created.
    pub started: Timestamp,
    /// The number of restarts by container.
    pub restarts: BTreeMap<String, u32>,
    /// The reason why it does not run.
    pub problem: Option<PodProblem>,
}

/// The owner of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The owner's name.
    pub name: String,
    /// The owner's uid. A kind whose pods do not name their revision's uid may use another value that both sides know.
    pub uid: String,
}

impl WorkloadFacts {
    /// Returns the object's status, with the facts of its revisions and pods. Others' revisions and pods are ignored.
    pub fn status<'a>(
        &self,
        revisions: impl IntoIterator<Item = &'a RevisionFacts>,
        pods: impl IntoIterator<Item = &'a PodState>,
    ) -> DeploymentStatus {
        let current = revisions
            .into_iter()
            .filter(|revision| revision.workload.uid == self.uid && revision.template == self.own_status.template)
            .max_by_key(|revision| revision.number);
        let Some(current) = current else { return (*self.own_status).clone() };
        let own: Vec<&PodState> = pods.into_iter().filter(|pod| pod.revision.uid == current.uid).collect();
        let failure = current.failure.as_ref().or(self.own_status.problem.as_ref());
        let missing = self.own_status.replicas.saturating_sub(self.own_status.total).max(1);
        let failed = failure.map(|failure| PodProblem { pods: missing, ..failure.clone() });
        DeploymentStatus {
            pod_hash: Some(current.pod_hash.clone()),
            problem: most_frequent(own.iter().filter_map(|pod| pod.problem.as_ref())).or(failed),
            pods_since: mean_start(&own),
            restarts: own.iter().flat_map(|pod| pod.restarts.values()).fold(0, |sum, count| sum.saturating_add(*count)),
            ..(*self.own_status).clone()
        }
    }
}

/// Returns the mean of the times at which pods started; `None` if none has.
fn mean_start(pods: &[&PodState]) -> Option<Timestamp> {
    let starts = pods.iter().map(|pod| pod.started).filter(|started| *started > Timestamp::UNIX_EPOCH);
    let (sum, n) = starts.fold((0_i64, 0_i64), |(sum, n), at| (sum.saturating_add(at.as_millisecond()), n + 1));
    Timestamp::from_millisecond(sum.checked_div(n)?).ok()
}

/// Returns the problem that most pods have, with their number. Of several pods it names the first one, so that the status does
/// not alternate between them.
fn most_frequent<'a>(problems: impl Iterator<Item = &'a PodProblem>) -> Option<PodProblem> {
    let mut by_reason: BTreeMap<&str, (u32, &PodProblem)> = BTreeMap::new();
    for problem in problems {
        let (pods, first) = by_reason.entry(&problem.reason).or_insert((0, problem));
        *pods += 1;
        if problem.object < first.object {
            *first = problem;
        }
    }
    let (pods, problem) = by_reason.into_values().max_by_key(|(pods, _)| *pods)?;
    Some(PodProblem { pods, ..problem.clone() })
}

impl PodState {
    /// Returns the facts of a pod of `revision` whose revision label has the value `pod_hash`; `None` if it has no
    /// name.
    pub fn read(pod: &Pod, revision: Owner, pod_hash: &str) -> Option<PodState> {
        let metadata = &pod.metadata;
        let status = pod.status.as_ref();
        let started = status.and_then(|status| status.start_time.as_ref()).or(metadata.creation_timestamp.as_ref());
        let is_terminating = metadata.deletion_timestamp.is_some();
        Some(PodState {
            name: metadata.name.clone()?,
            revision,
            pod_hash: pod_hash.to_owned(),
            started: started.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            restarts: containers(pod)
                .map(|status| (status.name.clone(), u32::try_from(status.restart_count).unwrap_or(0)))
                .collect(),
            problem: if is_terminating { None } else { pod_problem(pod) },
        })
    }

    /// Returns the facts that the pod directory answers with; `revision` is the pod's.
    pub fn directory_entry(&self, revision: &RevisionFacts) -> PodFacts {
        PodFacts {
            deployment_uid: revision.workload.uid.clone(),
            pod_hash: self.pod_hash.clone(),
            started: self.started,
            restarts: self.restarts.clone(),
        }
    }
}

/// Returns the controller of an object if it is of this kind.
pub fn controller(metadata: &ObjectMeta, kind: &str) -> Option<Owner> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == kind && owner.controller == Some(true))
        .map(|owner| Owner { name: owner.name.clone(), uid: owner.uid.clone() })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(main).flatten()
}

fn pod_problem(pod: &Pod) -> Option<PodProblem> {
    let object = pod.metadata.name.clone()?;
    let stuck = containers(pod).find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| STUCK.contains(reason))?;
        Some((reason.to_owned(), container_message(status, waiting.message.as_deref().unwrap_or_default())))
    });
    let unschedulable = || {
        let conditions = pod.status.as_ref()?.conditions.as_ref()?;
        let condition = conditions.iter().find(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
        })?;
        Some(("Unschedulable".to_owned(), condition.message.clone().unwrap_or_default()))
    };
    let (reason, message) = stuck.or_else(unschedulable)?;
    Some(PodProblem { object, reason, message, pods: 1 })
}

/// Returns the kubelet's message with the container's last end, because "back-off 10s restarting failed container"
/// alone names no cause.
fn container_message(status: &ContainerStatus, message: &str) -> String {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    match last {
        Some(last) => format!(
            "container {} exited with {}{}; {message}",
            status.name,
            last.exit_code,
            last.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
        ),
        None => format!("container {}: {message}", status.name),
    }
}
