//! The canary's traffic on its way back to the stable.

use bellwether_core::ids::Weight;
use bellwether_core::input::event::Event;
use bellwether_core::input::status::{DeploymentStatus, PodProblem};
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

/// The canary's pods have the load of the stable's, n·w/(1−w), by the stable's size before its autoscaler followed the traffic.
#[test]
fn the_canary_grows_with_its_traffic_although_the_stable_is_shrunk() {
    let steps = [10, 50, 90].map(|weight| json!({ "weight": format!("{weight}%"), "min-time": "2m" }));
    let mut story = Story::new(policy(json!({ "step": steps })));
    story.request("v2");
    let mut sizes = Vec::new();
    for weight in [10, 50, 90] {
        for _ in 0..HOUR {
            if story.rollout().canary.weight == Weight::percent(weight) {
                break;
            }
            story.second();
        }
        sizes.push(story.model.status(&workload(), story.now).canary.unwrap().replicas);
        if weight == 50 {
            story.model.scale(&workload(), 5, "kube-controller-manager", story.now);
        }
    }
    assert_eq!(sizes, [2, 10, 10], "{:#?}", story.whys());
}

/// Tells the rollout of a status of the stable, which the model's next one does not contradict until something changes.
fn observe(story: &mut Story, change: impl Fn(&mut DeploymentStatus)) {
    let mut status = story.model.status(&workload(), story.now);
    status.stable.as_mut().into_iter().for_each(change);
    story.tell(Event::Observed { workload: workload(), status: Box::new(status) });
}

fn seconds(story: &mut Story, n: u64) {
    (0..n).for_each(|_| story.second());
}

#[test]
fn a_promotion_beyond_its_deadline_goes_on_while_pods_come_and_ends_when_none_does() {
    let mut story = Story::new(policy(json!({ "promote-within": "5m", "ready-within": "5m" })));
    story.request("v2-nevertaken");
    run_until(&mut story, Phase::Promoting);
    for pods in 1..=5 {
        seconds(&mut story, 240);
        observe(&mut story, |stable| (stable.updated, stable.total, stable.available) = (pods, 10, 10));
        assert_eq!(story.rollout().phase(), Phase::Promoting, "{pods} pods: {:#?}", story.whys());
    }
    seconds(&mut story, 320);
    assert_ne!(story.rollout().phase(), Phase::Promoting, "{:#?}", story.whys());
}

#[test]
fn traffic_returns_to_a_restored_stable_of_which_one_pod_of_ten_has_no_node() {
    for (reason, returns) in [("Unschedulable", true), ("CrashLoopBackOff", false)] {
        let mut story = Story::new(policy(json!({ "promote-within": "5m", "ready-within": "5m" })));
        story.request("v2-nevertaken");
        run_until(&mut story, Phase::Promoting);
        story.model.mend_stable(&workload(), Span::from_secs(86_400));
        run_until(&mut story, Phase::Restoring);
        seconds(&mut story, 10);
        let problem = PodProblem { object: "web-9".into(), reason: reason.into(), message: "no".into(), pods: 1 };
        observe(&mut story, |stable| {
            (stable.updated, stable.total, stable.ready, stable.available) = (9, 9, 9, 9);
            stable.problem = Some(problem.clone());
        });
        assert_eq!(story.rollout().phase() != Phase::Restoring, returns, "{reason}: {:#?}", story.whys());
    }
}
