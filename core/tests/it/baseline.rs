//! Fresh baselines: the canary is compared with equally many pods of the stable that were started with it.

use bellwether_core::ids::Weight;
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::policy::RawPolicy;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Span;
use serde_json::{Value, json};

use bellwether_sim::story::{Story, images, metrics, policy, workload};

const HOUR: u64 = 3600;

fn changes() -> Value {
    let steps = json!([{ "weight": "10%", "min-time": "5m" }, { "weight": "50%", "min-time": "5m" }]);
    json!({ "fresh-baseline": true, "step": steps })
}

/// Returns a rollout of v2 one minute after its request, in its first step.
fn first_step() -> Story {
    let mut story = Story::new(policy(changes()));
    story.request("v2");
    story.run(60);
    assert_eq!(story.rollout().phase(), Phase::Stepping, "{:#?}", story.whys());
    story
}

/// Returns the numbers of pods of the canary and of the baseline.
fn pods(story: &Story) -> (Option<u32>, Option<u32>) {
    let status = story.model.status(&workload(), story.now);
    (status.canary.map(|arm| arm.replicas), status.baseline.map(|arm| arm.replicas))
}

#[test]
fn a_baseline_follows_the_canarys_size_and_runs_the_stables_images() {
    let mut story = first_step();
    assert_eq!(pods(&story), (Some(2), Some(2)));
    let baseline = story.model.status(&workload(), story.now).baseline.unwrap();
    assert_eq!(baseline.images, images("v1"));
    while story.rollout().canary.weight != Weight::percent(50) {
        story.second();
    }
    assert_eq!(pods(&story), (Some(10), Some(10)));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!((pods(&story), story.running()), ((None, None), images("v2")));
}

#[test]
fn the_canary_is_compared_with_the_baseline() {
    let story = first_step();
    let watches = story.engine.watches();
    let watch = watches.iter().find(|watch| watch.workload == workload()).unwrap();
    let baseline = story.model.status(&workload(), story.now).baseline.unwrap();
    assert_eq!((watch.stable.name.as_str(), &watch.stable.deployment_uid), ("web-baseline", &baseline.uid));
    assert_eq!(watch.stable.pod_hash, baseline.pod_hash, "only the baseline's pods");
}

#[test]
fn by_replicas_the_baseline_counts_among_the_pods_of_the_share() {
    let mut changes = changes();
    changes["traffic"] = "replicas".into();
    changes["step"] = json!([{ "weight": "25%", "min-time": "5m" }]);
    let mut story = Story::new(policy(changes));
    story.request("v2");
    story.run(60);
    // The canary's 5 pods are 25 % of 20: 10 of the stable, 5 of the canary and 5 of the baseline.
    assert_eq!(pods(&story), (Some(5), Some(5)));
    assert_eq!(story.rollout().achievable(), Weight::percent(25));
}

#[test]
fn a_deleted_baseline_is_created_again() {
    let mut story = first_step();
    assert!(story.model.delete_baseline(&workload()));
    story.run(60);
    assert!(story.whys().iter().any(|why| why.contains("the fresh baseline")), "{:#?}", story.whys());
    assert_eq!(pods(&story), (Some(2), Some(2)));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn a_baseline_that_never_starts_gives_the_rollout_up_without_quarantine() {
    let mut story = Story::new(policy(changes()));
    story.model.deploy(workload(), images("v1-neverready"), 10, Span::from_secs(5));
    story.request("v2");
    assert_eq!(story.run(HOUR), Some(Ending::GivenUp), "{:#?}", story.whys());
    assert!(
        story.whys().iter().any(|why| why.starts_with("0 of 2 pods of the fresh baseline were available within 5m"))
    );
    assert_eq!(pods(&story), (None, None));
    assert!(!story.effects.iter().any(
        |effect| matches!(effect.act, Act::Cluster(ClusterAct::SetWeight { weight, .. }) if weight > Weight::ZERO)
    ));
    assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty());
}

#[test]
fn a_baseline_is_refused_where_a_comparison_is_impossible() {
    for (change, problem) in [
        (json!({ "step": [{ "weight": "60%", "min-time": "5m" }] }), "too few requests are left for it"),
        (json!({ "strategy": "blue-green", "step": [], "blue-green": { "keep-stable": "10m" } }), "beside a canary"),
    ] {
        let mut json = changes();
        json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json["name"] = "test".into();
        json["match"] = json!({ "namespaces": ["shop"], "workloads": ["*"], "images": ["*"] });
        json["check"] = json!([{ "metric": "error-rate", "max": "5%" }]);
        let raw: RawPolicy = serde_json::from_value(json).unwrap();
        let problems = raw.check(&metrics()).unwrap_err();
        let found = problems.iter().find(|problem| problem.path == ["fresh-baseline"]);
        assert!(found.is_some_and(|found| found.message.contains(problem)), "{problem}: {problems:#?}");
    }
}
