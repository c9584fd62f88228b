//! A partition with more workloads than inputs that may wait for it.

use super::*;

/// About twice the inputs that may wait for a shard.
const WORKLOADS: usize = 2000;

/// Seconds of the world per second of real time. A tick is then 1.5 s of real time, enough for all workloads.
const FACTOR: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_workload_of_a_crowded_partition_is_judged() {
    let mut setting = Setting::new();
    setting.clock = Arc::new(FastClock::new(FACTOR));
    setting.world = MemoryWorld::new(Arc::clone(&setting.clock));
    let workloads: Vec<Workload> =
        (0..WORKLOADS).map(|n| format!("test/shop/Deployment/web-{n}").parse().unwrap()).collect();
    for workload in &workloads {
        setting.world.deploy(workload, images("1"), 1, 10);
    }
    let mut daemon = setting.start().await;
    for (n, workload) in workloads.iter().enumerate() {
        let record = setting.event_of(workload, &n.to_string(), "2", n as i64);
        daemon.wakes.send(Wake::Record(record.into())).await.unwrap();
    }
    let judged = |view: &StatusView| view.rollouts.values().filter(|rollout| !rollout.checks.is_empty()).count();
    let all = tokio::time::timeout(LONG, daemon.view.wait_for(|view| judged(view) == WORKLOADS)).await.is_ok();
    let count = judged(&daemon.view.borrow());
    daemon.kill();
    assert!(all, "{count} of {WORKLOADS} were judged");
}
