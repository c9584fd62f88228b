//! The canary's traffic on its way back to the stable.

use bellwether_core::ids::Weight;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Span;
use bellwether_sim::story::{Story, images, policy, workload};
use serde_json::json;

const HOUR: u64 = 3600;

fn run_until(story: &mut Story, phase: Phase) {
    for _ in 0..HOUR {
        if story.rollout().phase() == phase {
            return;
        }
        story.second();
    }
    panic!("not {phase} in an hour: {:#?}", story.whys());
}

/// Returns a rollout in its last step, whose canary has half of the traffic.
fn half() -> Story {
    let mut story = Story::new(policy(json!({ "step": [{ "weight": "50%", "min-time": "5m" }] })));
    story.request("v2");
    run_until(&mut story, Phase::Stepping);
    story
}

/// Runs the return of the traffic. `grows` tells whether the autoscaler adds pods where a pod has more than a tenth too much.
/// Returns the highest load of a pod of the stable, relative to the load before the rollout, and the seconds that it took.
fn load_of_return(story: &mut Story, grows: bool) -> (f64, u64) {
    let (mut most, mut seconds) = (0.0_f64, 0);
    while story.rollout().phase() == Phase::Returning {
        let status = story.model.status(&workload(), story.now).stable.unwrap();
        let load = (1.0 - story.model.share(&workload(), story.now)) * 10.0 / f64::from(status.available);
        most = most.max(load);
        if grows && load > 1.1 && seconds % 15 == 0 {
            let wish = (f64::from(status.replicas) * load).ceil().min(10.0) as u32;
            story.model.scale(&workload(), wish, "kube-controller-manager", story.now);
        }
        story.second();
        seconds += 1;
    }
    (most, seconds)
}

#[test]
fn traffic_returns_to_a_shrunk_stable_as_fast_as_its_autoscaler_adds_pods() {
    let mut story = half();
    story.model.scale(&workload(), 5, "kube-controller-manager", story.now);
    run_until(&mut story, Phase::Returning);
    let (most, _) = load_of_return(&mut story, true);
    assert!(most < 1.27, "a pod had {most} times its load");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted), "{:#?}", story.whys());
}

#[test]
fn traffic_returns_to_a_stable_that_does_not_grow_by_a_quarter_every_two_minutes() {
    let mut story = half();
    story.model.scale(&workload(), 5, "kube-controller-manager", story.now);
    run_until(&mut story, Phase::Returning);
    let (_, seconds) = load_of_return(&mut story, false);
    assert!((240..420).contains(&seconds), "{seconds} s");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
}

#[test]
fn traffic_returns_at_once_to_a_stable_of_the_size_before() {
    let mut story = half();
    run_until(&mut story, Phase::Returning);
    let (_, seconds) = load_of_return(&mut story, true);
    assert!(seconds <= 5, "{seconds} s");
}

#[test]
fn a_canary_that_loses_its_pods_while_the_workload_is_promoted_loses_its_traffic() {
    let mut story = half();
    run_until(&mut story, Phase::Promoting);
    story.model.break_canary(&workload(), Span::from_secs(HOUR), story.now);
    story.run(5);
    assert_eq!(story.model.status(&workload(), story.now).route.unwrap().weight, Weight::ZERO, "{:#?}", story.whys());
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(story.running(), images("v2"));
}
