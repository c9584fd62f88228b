//! The directory of pods as one group of watches sees it: each pod and each Service is looked up once.
//!
//! A reading asks for the same pod at each of its series. The facts must not change within it, and a look into the cluster's objects
//! takes longer than a look into a map.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::ids::Workload;

use crate::ports::{PodDirectory, PodFacts};

/// The pods of a namespace by their names; `None` for an unknown one.
type PodsByName = HashMap<String, Option<Arc<PodFacts>>>;

/// A directory that keeps each answer of another one.
pub struct KnownDirectory<'a> {
    directory: &'a dyn PodDirectory,
    pods: Mutex<HashMap<String, PodsByName>>,
    services: Mutex<BTreeMap<Workload, Option<(String, u16)>>>,
}

impl<'a> KnownDirectory<'a> {
    /// Returns a directory that knows nothing yet.
    pub fn new(directory: &'a dyn PodDirectory) -> KnownDirectory<'a> {
        KnownDirectory { directory, pods: Mutex::default(), services: Mutex::default() }
    }
}

impl PodDirectory for KnownDirectory<'_> {
    fn locate(&self, namespace: &str, pod: &str) -> Option<Arc<PodFacts>> {
        let mut pods = lock(&self.pods);
        if let Some(known) = pods.get(namespace).and_then(|pods| pods.get(pod)) {
            return known.clone();
        }
        let found = self.directory.locate(namespace, pod);
        pods.entry(namespace.to_owned()).or_default().insert(pod.to_owned(), found.clone());
        found
    }

    fn service(&self, workload: &Workload) -> Option<(String, u16)> {
        let mut services = lock(&self.services);
        if let Some(known) = services.get(workload) {
            return known.clone();
        }
        let found = self.directory.service(workload);
        services.insert(workload.clone(), found.clone());
        found
    }
}

/// Locks a mutex whose value no panic can leave half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bellwether_core::ids::WorkloadKind;

    use super::*;

    /// A directory that counts the questions. It knows the pod `web-1` and each workload's Service.
    #[derive(Default)]
    struct Counted(AtomicU32);

    impl PodDirectory for Counted {
        fn locate(&self, _: &str, pod: &str) -> Option<Arc<PodFacts>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            (pod == "web-1").then(|| PodFacts::by_name("web", "h1").into())
        }

        fn service(&self, workload: &Workload) -> Option<(String, u16)> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Some((workload.name.clone(), 80))
        }
    }

    #[test]
    fn each_pod_and_each_service_is_looked_up_once() {
        let counted = Counted::default();
        let known = KnownDirectory::new(&counted);
        let web = Workload {
            cluster: "prod".into(),
            namespace: "shop".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
        };
        for _ in 0..3 {
            assert_eq!(known.locate("shop", "web-1").map(|facts| facts.pod_hash.clone()).as_deref(), Some("h1"));
            assert_eq!(known.locate("shop", "api-1"), None, "an unknown pod is not looked up again either");
            assert_eq!(known.service(&web), Some(("web".to_owned(), 80)));
        }
        assert!(known.locate("pay", "web-1").is_some(), "the same name in another namespace");
        assert_eq!(counted.0.load(Ordering::Relaxed), 4);
    }
}
