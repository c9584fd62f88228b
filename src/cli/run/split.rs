//! The gauges of split traffic: the workloads of the cluster whose canary has traffic, and those of them whose rollout
//! runs in this process. Over all processes of a cluster both are the same, unless a split has no owner.

use std::collections::BTreeSet;
use std::time::Duration;

use bellwether_core::engine::view::StatusView;
use bellwether_core::ids::Workload;
use tokio::sync::watch;

use crate::adapters::kubernetes::Kubernetes;
use crate::metrics;

/// The interval at which the gauges are set.
const INTERVAL: Duration = Duration::from_secs(5);

/// Sets the gauges at intervals, once the cluster's objects are listed.
pub(super) async fn follow(cluster: Kubernetes, name: String, view: watch::Receiver<StatusView>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if cluster.readiness().is_ready() {
            let split = cluster.split_workloads();
            let owned = owned(&split, &view.borrow());
            metrics::split_workloads(&name, split.len(), owned);
        }
    }
}

/// Returns the number of split workloads whose rollout runs in this process.
fn owned(split: &BTreeSet<Workload>, view: &StatusView) -> usize {
    let running: BTreeSet<&str> =
        view.rollouts.values().filter(|shown| shown.is_running()).map(|shown| shown.workload.as_str()).collect();
    split.iter().filter(|workload| running.contains(workload.to_string().as_str())).count()
}

#[cfg(test)]
mod tests {
    use bellwether_core::engine::view::RolloutView;

    use super::*;

    #[test]
    fn a_split_workload_is_owned_by_its_running_rollout_alone() {
        let split: BTreeSet<Workload> =
            ["web", "api", "jobs", "cart"].map(|name| format!("prod/shop/Deployment/{name}").parse().unwrap()).into();
        let mut view = StatusView::default();
        for (name, phase, is_over) in
            [("web", "stepping", false), ("api", "ended", true), ("jobs", RolloutView::UNREADABLE, false)]
        {
            let rollout = crate::cli::tests::rollout();
            let ended = rollout.ended.filter(|_| is_over);
            let workload = format!("prod/shop/Deployment/{name}");
            let shown = RolloutView { id: name.to_owned(), workload, phase: phase.to_owned(), ended, ..rollout };
            view.rollouts.insert(name.to_owned(), shown.into());
        }
        assert_eq!(owned(&split, &view), 1);
    }
}
