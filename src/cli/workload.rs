//! A workload on the command line, in each of its spellings.

use std::str::FromStr;

use bellwether_core::ids::{Workload, WorkloadKind};

use super::Common;
use crate::config;

/// A workload as people write it: `shop/web`, `shop/Deployment/web` or, with the cluster, `prod/shop/Deployment/web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadArg {
    /// The cluster; `None` for that of the configuration.
    cluster: Option<String>,
    namespace: String,
    kind: WorkloadKind,
    name: String,
}

impl FromStr for WorkloadArg {
    type Err = String;

    fn from_str(text: &str) -> Result<WorkloadArg, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (cluster, namespace, kind, name) = match *parts.as_slice() {
            [namespace, name] => (None, namespace, None, name),
            [namespace, kind, name] => (None, namespace, Some(kind), name),
            [cluster, namespace, kind, name] => (Some(cluster.to_owned()), namespace, Some(kind), name),
            _ => return Err(misspelled(text)),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(misspelled(text));
        }
        let kind = kind.map_or(Ok(WorkloadKind::Deployment), str::parse).map_err(|_| misspelled(text))?;
        Ok(WorkloadArg { cluster, namespace: namespace.to_owned(), kind, name: name.to_owned() })
    }
}

impl WorkloadArg {
    /// Returns the workload; it is in `cluster` unless another one is written.
    pub fn within(&self, cluster: &str) -> Workload {
        let WorkloadArg { cluster: written, namespace, kind, name } = self.clone();
        Workload { cluster: written.unwrap_or_else(|| cluster.to_owned()), namespace, kind, name }
    }

    /// Returns the workload; without a written cluster it is in that of the configuration.
    ///
    /// # Errors
    /// The configuration is needed and has a problem.
    pub fn resolve(&self, common: &Common) -> anyhow::Result<Workload> {
        match &self.cluster {
            Some(cluster) => Ok(self.within(cluster)),
            None => Ok(self.within(&config::load(&common.sources())?.cluster)),
        }
    }
}

fn misspelled(text: &str) -> String {
    format!("{text:?} is no workload; write namespace/name, or cluster/namespace/Deployment/name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_means_the_same_workload_and_others_are_refused() {
        let of = |text: &str| text.parse::<WorkloadArg>().map(|arg| arg.within("prod").to_string());
        for text in ["shop/web", "shop/Deployment/web", "prod/shop/Deployment/web"] {
            assert_eq!(of(text).unwrap(), "prod/shop/Deployment/web");
        }
        assert_eq!(of("eu/shop/Deployment/web").unwrap(), "eu/shop/Deployment/web");
        for text in ["web", "", "shop/", "/web", "shop/StatefulSet/web", "a/b/c/d", "a/b/Deployment/c/d"] {
            let error = of(text).unwrap_err();
            assert!(error.contains("namespace/name") && error.contains(text), "{error}");
        }
    }
}
