//! The result of the preflight: whether the request can be carried out on the workload as it was found.

use std::collections::BTreeSet;

use super::cause::{EndCause, Fired};
use super::phase::Trigger;
use super::reason::Reason;
use super::state::{Basis, QuarantineEntry, Rollout, RolloutContext, Task};
use crate::ids::{Images, is_same_repository, runs};
use crate::input::event::Request;
use crate::input::status::{DeploymentStatus, Preflight};
use crate::policy::Mode;

impl Rollout {
    /// Takes the preflight's result in. `None`: a guard waits until a last good template is known.
    pub(super) fn preflight_done(&mut self, preflight: &Preflight, context: RolloutContext<'_>) -> Option<Fired> {
        let Some(stable) = &preflight.status.stable else {
            let message = "the API server has no such Deployment".to_owned();
            let reason = Reason::NoWorkload { workload: self.workload.clone(), message };
            return Some(Fired::ending(Trigger::Refused, EndCause::WorkloadMissing, reason));
        };
        let (fired, to) = match &self.task {
            Task::Guard { .. } => (guardable(stable, context), stable.images.clone()),
            Task::Roll { request } => match self.accept(request, stable, preflight, context) {
                Ok((to, reason)) => (Some(Fired::onward(Trigger::Accepted, reason)), to),
                Err(reason) => {
                    let end = if reason == Reason::Unchanged { EndCause::Unchanged } else { EndCause::Refused };
                    (Some(Fired::ending(Trigger::Refused, end, reason)), stable.images.clone())
                }
            },
        };
        let from = match (&self.task, context.last_good) {
            (Task::Guard { .. }, Some(good)) => good.images.clone(),
            (Task::Guard { .. } | Task::Roll { .. }, _) => stable.images.clone(),
        };
        self.basis = Some(Basis {
            stable_uid: stable.uid.clone(),
            template: stable.template.clone(),
            from,
            to,
            replicas: stable.replicas,
        });
        self.reason = fired.as_ref().map_or(Reason::NoLastGood, |fired| fired.reason.clone());
        fired
    }

    /// Returns the workload's images after the rollout.
    ///
    /// # Errors
    /// The reason why the request is refused.
    fn accept(
        &self,
        request: &Request,
        stable: &DeploymentStatus,
        preflight: &Preflight,
        context: RolloutContext<'_>,
    ) -> Result<(Images, Reason), Reason> {
        if stable.replicas == 0 {
            return Err(Reason::NoReplicas);
        }
        let to = requested_change(request, &stable.images, context.quarantine)?;
        if to == stable.images {
            return Err(Reason::Unchanged);
        }
        let enforces = self.policy.mode == Mode::Enforce;
        let open = preflight.issues.iter().filter(|issue| !issue.is_accepted(&self.policy.owned_by)).cloned();
        let (refusals, warnings): (Vec<_>, Vec<_>) = open.partition(|issue| enforces && issue.refuses());
        if !refusals.is_empty() {
            return Err(Reason::Obstructed { issues: refusals });
        }
        Ok((to.clone(), Reason::Accepted { from: stable.images.clone(), to, warnings }))
    }
}

/// Whether a deployed version can be guarded; `None`: no last good template is known.
fn guardable(stable: &DeploymentStatus, context: RolloutContext<'_>) -> Option<Fired> {
    let good = context.last_good?;
    if good.template == stable.template {
        return Some(Fired::ending(Trigger::Refused, EndCause::Unchanged, Reason::Unchanged));
    }
    Some(Fired::onward(Trigger::Guardable, Reason::Guardable { to: stable.images.clone() }))
}

/// Returns the images after a request to a workload that runs the images `running`.
///
/// # Errors
/// The workload does not run what the request expects or names, or runs it in a way that leaves the request ambiguous, or
/// the requested version is quarantined.
pub fn requested_change(request: &Request, running: &Images, quarantine: &[QuarantineEntry]) -> Result<Images, Reason> {
    for (container, expected) in request.expected_current.iter().flatten() {
        let found = running.get(container);
        if !found.is_some_and(|found| runs(found, expected)) {
            let found = found.cloned().unwrap_or_else(|| "nothing of that name".to_owned());
            return Err(Reason::Unexpected { container: container.clone(), expected: expected.clone(), found });
        }
    }
    let to = requested_images(request, running)?;
    match quarantine.iter().find(|failed| failed.bars(running, &to)) {
        Some(QuarantineEntry { images, since, rollout, why }) => Err(Reason::Quarantined {
            images: images.clone(),
            since: *since,
            rollout: rollout.clone(),
            why: why.clone(),
        }),
        None => Ok(to),
    }
}

/// Returns the running images with those that the request replaces. An image without a container is given to every
/// container of its repository, if all of them run the same reference.
///
/// # Errors
/// The request names a container that isn't there, or an image that fits no container or several with different references.
pub(super) fn requested_images(request: &Request, running: &Images) -> Result<Images, Reason> {
    let containers = || running.keys().cloned().collect::<Vec<_>>();
    let mut to = running.clone();
    for (container, image) in &request.images {
        match to.get_mut(container) {
            Some(slot) if runs(slot, image) => (),
            Some(slot) => slot.clone_from(image),
            None => return Err(Reason::NoContainer { container: container.clone(), containers: containers() }),
        }
    }
    if let Some(image) = &request.image {
        let fits = || running.iter().filter(|(_, running)| is_same_repository(running, image));
        let references: BTreeSet<&String> = fits().map(|(_, running)| running).collect();
        let [reference] = Vec::from_iter(references)[..] else {
            let fits = fits().map(|(container, _)| container.clone()).collect();
            return Err(Reason::AmbiguousImage { image: image.clone(), fits, containers: containers() });
        };
        if !runs(reference, image) {
            to.extend(fits().map(|(container, _)| (container.clone(), image.clone())));
        }
    }
    Ok(to)
}
