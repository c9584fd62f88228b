//! A Deployment with its pods, and its controller's arithmetic.

use super::agenda::Ms;
use super::pod::{Pod, PodState};

/// The way in which a Deployment replaces its pods.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rollover {
    /// The pods that may exist above the requested number, as a share of it.
    pub surge: f64,
    /// The pods that may be unavailable, as a share of the requested number.
    pub unavailable: f64,
    /// The time for which a pod must be ready to be available.
    pub min_ready: Ms,
    /// Whether all old pods go before the first new one comes.
    pub recreates: bool,
}

/// A Deployment of the workload, with its pods.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    /// The uid, which stays the same for its life.
    pub uid: &'static str,
    /// The index of the version of its template.
    pub version: usize,
    /// The requested number of pods.
    pub replicas: u32,
    /// The generation of its `spec`.
    pub generation: i64,
    /// The last other field manager of its template.
    pub template_by: Option<&'static str>,
    /// The last other field manager of its replicas.
    pub replicas_by: Option<&'static str>,
    /// The pods of all its templates.
    pub pods: Vec<Pod>,
    /// Whether its controller was refused a pod.
    pub refused: bool,
}

/// The changes that a controller makes at one look.
pub(super) struct Look {
    /// The number of pods to create.
    pub create: u32,
    /// The numbers of the pods to delete.
    pub delete: Vec<u32>,
}

impl Deployment {
    /// Returns a Deployment without pods.
    pub(super) fn new(uid: &'static str, version: usize, replicas: u32) -> Deployment {
        let (template_by, replicas_by, pods, refused) = (None, None, Vec::new(), false);
        Deployment { uid, version, replicas, generation: 1, template_by, replicas_by, pods, refused }
    }

    /// Changes the template. Returns whether it was another one.
    pub(super) fn set_version(&mut self, version: usize) -> bool {
        let changes = self.version != version;
        if changes {
            self.version = version;
            self.generation += 1;
        }
        changes
    }

    /// Changes the number of pods. Returns whether it was another one.
    pub(super) fn set_replicas(&mut self, replicas: u32) -> bool {
        let changes = self.replicas != replicas;
        if changes {
            self.replicas = replicas;
            self.generation += 1;
        }
        changes
    }

    /// Returns the number of ready pods.
    pub(super) fn ready(&self) -> usize {
        self.pods.iter().filter(|pod| pod.is_ready()).count()
    }

    /// Returns the number of available pods.
    pub(super) fn available(&self, min_ready: Ms, now: Ms) -> u32 {
        self.pods.iter().filter(|pod| pod.is_available(min_ready, now)).count() as u32
    }

    /// Returns the changes that the controller makes now.
    pub(super) fn look(&self, rollover: Rollover, now: Ms) -> Look {
        let wanted = self.replicas as usize;
        let is_available = |pod: &Pod| pod.is_available(rollover.min_ready, now);
        let (new, old): (Vec<&Pod>, Vec<&Pod>) = self.pods.iter().partition(|pod| pod.version == self.version);
        if old.is_empty() {
            return scale(&new, wanted, is_available);
        }
        if rollover.recreates {
            return Look { create: 0, delete: old.iter().map(|pod| pod.id).collect() };
        }
        let surge = libm::ceil(rollover.surge * wanted as f64) as usize;
        let unavailable = (rollover.unavailable * wanted as f64) as usize;
        let create = (wanted + surge).saturating_sub(self.pods.len()).min(wanted.saturating_sub(new.len()));
        let least = wanted.saturating_sub(unavailable.max(usize::from(surge == 0)));
        let mut spare = self.pods.iter().filter(|pod| is_available(pod)).count().saturating_sub(least);
        // Old pods that are not available go first, and the available ones as far as enough others are.
        let (ill, well): (Vec<&Pod>, Vec<&Pod>) = old.iter().partition(|pod| !is_available(pod));
        let mut delete: Vec<u32> = ill.iter().map(|pod| pod.id).collect();
        for pod in well {
            if spare > 0 {
                spare -= 1;
                delete.push(pod.id);
            }
        }
        Look { create: create as u32, delete }
    }
}

/// Returns the changes that bring pods of one version to the wanted number: those that are not ready go first.
fn scale(pods: &[&Pod], wanted: usize, is_available: impl Fn(&Pod) -> bool) -> Look {
    if pods.len() <= wanted {
        return Look { create: (wanted - pods.len()) as u32, delete: Vec::new() };
    }
    let mut ranked: Vec<&&Pod> = pods.iter().collect();
    ranked.sort_by_key(|pod| (is_available(pod), pod.state == PodState::Ready, std::cmp::Reverse(pod.id)));
    Look { create: 0, delete: ranked[..pods.len() - wanted].iter().map(|pod| pod.id).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(version: usize, pods: &[(usize, PodState)]) -> Deployment {
        let mut deployment = Deployment::new("uid", version, 4);
        for (id, (version, state)) in pods.iter().enumerate() {
            let mut pod = Pod::new(id as u32, *version, 0);
            pod.enter(*state, 0);
            deployment.pods.push(pod);
        }
        deployment
    }

    #[test]
    fn a_rolling_update_keeps_enough_pods_available_and_surges_no_further() {
        let rollover = Rollover { surge: 0.25, unavailable: 0.25, min_ready: 30_000, recreates: false };
        let old = [(0, PodState::Ready); 4];
        let look = deployment(1, &old).look(rollover, 30_000);
        assert_eq!((look.create, look.delete.len()), (1, 1), "one above four, and one of four unavailable");
        let mixed = [(0, PodState::Ready), (0, PodState::Ready), (0, PodState::Ready), (1, PodState::Ready)];
        let look = deployment(1, &mixed).look(rollover, 29_999);
        assert_eq!(look.delete, [0, 1, 2], "old pods that are not available yet go first");
        let look = deployment(1, &mixed).look(rollover, 30_000);
        assert_eq!(look.delete, [0], "three of four stay available");
        let look = deployment(1, &old).look(Rollover { recreates: true, ..rollover }, 30_000);
        assert_eq!((look.create, look.delete.len()), (0, 4), "Recreate stops all of them");
    }

    #[test]
    fn a_smaller_deployment_loses_the_pods_that_are_not_ready() {
        let rollover = Rollover { surge: 0.25, unavailable: 0.25, min_ready: 0, recreates: false };
        let mut small = deployment(0, &[(0, PodState::Ready), (0, PodState::Pending), (0, PodState::Ready)]);
        small.set_replicas(2);
        assert_eq!(small.look(rollover, 0).delete, [1]);
    }
}
