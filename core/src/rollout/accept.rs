//! The survey: whether what is asked for can be done on the workload as it was found, and which images it is to have.

use super::{Basis, QuarantineEntry, Rollout, RolloutContext, Task};
use crate::ids::{Images, repository};
use crate::input::event::Request;
use crate::input::status::{DeploymentStatus, Preflight};
use crate::policy::Mode;
use crate::rollout::phase::Trigger;
use crate::rollout::reason::Reason;

impl Rollout {
    pub(super) fn preflight_done(
        &mut self,
        preflight: &Preflight,
        world: RolloutContext<'_>,
    ) -> Option<(Trigger, Reason)> {
        let last_good = world.last_good;
        let Some(stable) = &preflight.status.stable else {
            let message = "the API server has no such Deployment".to_owned();
            return Some((Trigger::Refused, Reason::NoWorkload { workload: self.workload.clone(), message }));
        };
        let (trigger, reason, to) = match &self.task {
            Task::Guard { .. } => match last_good {
                Some(good) if good.template == stable.template => {
                    (Some(Trigger::Refused), Reason::Unchanged, stable.images.clone())
                }
                Some(_) => {
                    (Some(Trigger::Guardable), Reason::Guardable { to: stable.images.clone() }, stable.images.clone())
                }
                None => (None, Reason::NoLastGood, stable.images.clone()),
            },
            Task::Roll { request } => match self.accept(request, stable, preflight, world) {
                Ok((to, reason)) => (Some(Trigger::Accepted), reason, to),
                Err(reason) => (Some(Trigger::Refused), reason, stable.images.clone()),
            },
        };
        self.basis = Some(Basis {
            stable_uid: stable.uid.clone(),
            template: stable.template.clone(),
            from: match (&self.task, last_good) {
                (Task::Guard { .. }, Some(good)) => good.images.clone(),
                (Task::Guard { .. } | Task::Roll { .. }, _) => stable.images.clone(),
            },
            to,
            replicas: stable.replicas,
        });
        self.reason = reason.clone();
        trigger.map(|trigger| (trigger, reason))
    }

    /// The images that the workload is to have, or why it can't have them.
    pub(super) fn accept(
        &self,
        request: &Request,
        stable: &DeploymentStatus,
        preflight: &Preflight,
        world: RolloutContext<'_>,
    ) -> Result<(Images, Reason), Reason> {
        if stable.replicas == 0 {
            return Err(Reason::NoReplicas);
        }
        for (container, expected) in request.expected_current.iter().flatten() {
            let found = stable.images.get(container);
            if found != Some(expected) {
                let found = found.cloned().unwrap_or_else(|| "nothing of that name".to_owned());
                return Err(Reason::Unexpected { container: container.clone(), expected: expected.clone(), found });
            }
        }
        let to = wanted_images(request, &stable.images)?;
        if to == stable.images {
            return Err(Reason::Unchanged);
        }
        if let Some(barred) = world.quarantine.iter().find(|failed| failed.bars(&stable.images, &to)) {
            let QuarantineEntry { images, since, rollout, why } = barred.clone();
            return Err(Reason::Quarantined { images, since, rollout, why });
        }
        let acts = self.policy.mode == Mode::Enforce;
        let (refusals, warnings): (Vec<_>, Vec<_>) =
            preflight.issues.iter().cloned().partition(|issue| acts && issue.refuses());
        if !refusals.is_empty() {
            return Err(Reason::Obstructed { issues: refusals });
        }
        Ok((to.clone(), Reason::Accepted { from: stable.images.clone(), to, warnings }))
    }
}

/// The images that the workload is to have: its own, with those that the request names.
pub(super) fn wanted_images(request: &Request, running: &Images) -> Result<Images, Reason> {
    let containers = || running.keys().cloned().collect::<Vec<_>>();
    let mut to = running.clone();
    for (container, image) in &request.images {
        match to.get_mut(container) {
            Some(slot) => slot.clone_from(image),
            None => return Err(Reason::NoContainer { container: container.clone(), containers: containers() }),
        }
    }
    if let Some(image) = &request.image {
        let same = |running: &&String| repository(running) == repository(image);
        let fits: Vec<String> =
            running.iter().filter(|(_, running)| same(running)).map(|(container, _)| container.clone()).collect();
        match fits.as_slice() {
            [one] => {
                to.insert(one.clone(), image.clone());
            }
            _ => return Err(Reason::AmbiguousImage { image: image.clone(), fits, containers: containers() }),
        }
    }
    Ok(to)
}
