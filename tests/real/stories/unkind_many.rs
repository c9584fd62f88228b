//! Five hundred rollouts that start at once beside a version that has traffic.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use bellwether_testkit::plane::behaviour::Behaviour;
use bellwether_testkit::plane::fixture::{STABLE, policy};
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::away::is_judged;
use super::unkind_pods::{until_none_fails, until_weight_is_zero};
use super::{Story, V2, story};

const STARTS: usize = 500;
/// Deadline for one step of the story. A thousand pods keep the plane busy.
const LONG: Duration = Duration::from_secs(300);
/// The requests that fail before the rollback may be this many times as many as without the starts. They share the API server
/// and two cores.
const MOST: u64 = 10;

/// Returns the stories of `tests/run soak`.
pub fn soaks() -> Vec<Story> {
    vec![story("soak::five_hundred_starts_do_not_delay_a_rollback", five_hundred_starts)]
}

/// The other workloads need no traffic: their check reads a constant.
const OTHERS: &str = r#"
[metric.always]
kind = "query"
query = "vector(1)"

[[policy]]
name = "other"
match = { namespaces = ["*"], workloads = ["other*"], images = ["*"] }
[[policy.check]]
metric = "always"
judge = "threshold"
max = 2
every = "1s"
window = "3s"
[[policy.step]]
weight = "10%"
min-time = "15s"
"#;

/// One version turns bad without other rollouts, and the next one while 500 rollouts start. The second one is rolled back
/// after about as many failed requests, long before all others are prepared.
async fn five_hundred_starts(sandbox: &Sandbox) -> Result<()> {
    let policy = policy("20%", OTHERS)
        .replacen("workloads = [\"*\"]", "workloads = [\"web\"]", 1)
        .replace("within = \"60s\"", "within = \"10m\"")
        .replace("\"8s\"", "\"10m\"");
    let options = FixtureOptions { policy, ..FixtureOptions::default() };
    let fixture = Fixture::start_with(sandbox, options).await?;
    let names: Vec<String> = (0..STARTS).map(|n| format!("other{n}")).collect();
    let created = stream::iter(&names).map(|name| sandbox.create_routed(name, 1, STABLE)).buffer_unordered(16);
    created.try_collect::<Vec<()>>().await?;
    // The gateway reports the status of each new route before it follows the next change.
    for name in &names {
        sandbox.until_routed(&sandbox.host_of(name)).await?;
    }
    let load = sandbox.load(100.0)?;

    let alone = fixture.request(V2, &[]).await?;
    fixture.until(&alone, LONG, "judged", is_judged).await?;
    turn_bad(sandbox, "v2")?;
    fixture.ended_as(&alone, "rolled-back", LONG).await?;
    let failed_alone = until_none_fails(&load).await?;

    let id = fixture.request("registry.test/shop/web:v3", &[]).await?;
    fixture.until(&id, LONG, "judged", is_judged).await?;
    for name in &names {
        sandbox.request_rollout(name, V2).await?;
    }
    turn_bad(sandbox, "v3")?;
    until_weight_is_zero(sandbox, LONG).await?;
    let failed = until_none_fails(&load).await? - failed_alone;
    let waiting = STARTS - prepared(&fixture.decisions().await?);
    load.stop().await?;
    println!(
        "{failed_alone} requests failed without, {failed} with {STARTS} starts, of which {waiting} were not prepared then"
    );
    ensure!(waiting > 0, "all starts were prepared before the rollback, so they could not delay it");
    ensure!(failed <= MOST * failed_alone, "{failed} requests failed, and {failed_alone} without the starts");
    Ok(())
}

/// Makes all pods of a version of the workload `web` fail half of their requests.
fn turn_bad(sandbox: &Sandbox, version: &str) -> Result<()> {
    let faults = Behaviour::of("registry.test/shop/web:bad-err50")?;
    let pods = sandbox.plane.pods.of(&sandbox.namespace);
    let of_web = pods.iter().filter(|pod| pod.name.starts_with("web-canary-") && pod.version() == version);
    of_web.for_each(|pod| pod.set_node_faults(faults.clone()));
    Ok(())
}

/// Returns the number of other workloads whose canary has become ready.
fn prepared(decisions: &[Value]) -> usize {
    let ready = decisions.iter().filter(|decision| decision["kind"] == "advance");
    let of: BTreeSet<&str> = ready.filter_map(|decision| decision["rollout"].as_str()).collect();
    of.iter().filter(|rollout| rollout.starts_with("other")).count()
}
