//! Workloads at rest, and workloads that are gone.

use bellwether_core::engine::{Disposition, Engine};
use bellwether_core::ids::Workload;
use bellwether_core::input::event::Event;
use bellwether_core::input::status::WorkloadStatus;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::time::Span;
use serde_json::json;

use bellwether_sim::story::{Story, images, policy, workload};

const DAY: Span = Span::from_secs(86_400);

/// Tells the story's engine of a status.
fn observe(story: &mut Story, status: WorkloadStatus) -> Disposition {
    story.tell(Event::Observed { workload: workload(), status: Box::new(status) })
}

/// Lets the time pass while the watches report.
fn pass(story: &mut Story, time: Span) {
    story.now = time.after(story.now);
    for ago in [40, 30, 20, 10, 0] {
        story.engine.sighted(Span::from_secs(ago).before(story.now));
    }
}

#[test]
fn pods_that_come_and_go_at_rest_change_no_state() {
    let mut story = Story::new(policy(json!({})));
    (0..30).for_each(|_| story.second());
    let known = story.engine.state(&workload()).unwrap().clone();
    assert!(known.last_good.is_some());
    let mut status = story.model.status(&workload(), story.now);
    for ready in [3, 9, 10] {
        let stable = status.stable.as_mut().unwrap();
        (stable.ready, stable.available, stable.restarts) = (ready, ready, 10 - ready);
        let as_before = *known.status.as_ref().unwrap() == status;
        assert_eq!(observe(&mut story, status.clone()), Disposition::Ignored, "{ready} ready");
        assert_eq!(*story.engine.state(&workload()).unwrap(), known, "an ignored input changes nothing");
        let newest = story.engine.basis(&workload()).status.unwrap();
        assert!(newest == status || as_before, "a rollout begins with the newest status");
    }
    // Another version is kept at once.
    story.model.set_images(&workload(), images("v9"), story.now);
    let status = story.model.status(&workload(), story.now);
    assert_eq!(observe(&mut story, status), Disposition::Changed);
}

#[test]
fn a_rollout_begins_with_the_newest_status_of_a_workload_at_rest() {
    let mut story = Story::new(policy(json!({})));
    (0..30).for_each(|_| story.second());
    story.model.scale(&workload(), 4, "kubectl", story.now);
    (0..30).for_each(|_| story.second());
    assert_eq!(story.engine.state(&workload()).unwrap().status.as_ref().unwrap().stable.as_ref().unwrap().replicas, 10);
    story.request("v2");
    let basis = story.rollout().basis.as_ref().map(|basis| basis.replicas);
    let stable = story.engine.state(&workload()).unwrap().status.clone().unwrap().stable.unwrap();
    assert_eq!((basis, stable.replicas), (Some(4), 4));
    assert_eq!(story.run(900), Some(Ending::Promoted), "{:#?}", story.whys());
}

#[test]
fn a_deleted_workload_is_forgotten_after_a_week() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-err8");
    assert_eq!(story.run(3600), Some(Ending::RolledBack));
    story.model.delete(&workload());
    (0..60).for_each(|_| story.second());
    let week = Span::from_secs(7 * 86_400);
    pass(&mut story, DAY);
    assert_eq!(story.engine.forget_workloads(story.now), [], "a day after its last change");
    pass(&mut story, week);
    assert_eq!(story.engine.forget_workloads(story.now), [workload()]);
    assert!(story.engine.state(&workload()).is_none());
    assert_eq!(story.engine.forget_workloads(story.now), []);
    // A workload of the same name is a new one.
    story.model.deploy(workload(), images("v1"), 10, Span::from_secs(5));
    story.ask("again", json!({ "images": images("v2-err8") }));
    assert_eq!(story.run(3600), Some(Ending::RolledBack), "its quarantine is forgotten: {:#?}", story.whys());
}

#[test]
fn a_workload_that_is_there_is_never_forgotten() {
    let mut story = Story::new(policy(json!({})));
    (0..30).for_each(|_| story.second());
    pass(&mut story, Span::from_secs(365 * 86_400));
    assert_eq!(story.engine.forget_workloads(story.now), []);
    // After a restart nothing is known of it for a moment.
    let state = story.engine.state(&workload()).unwrap().clone();
    story.engine = Engine::new("test".into(), vec![policy(json!({}))], DAY);
    story.engine.restore(state);
    assert_eq!(story.engine.forget_workloads(story.now), [], "the cluster can't be seen");
    story.engine.sighted(story.now);
    assert_eq!(story.engine.forget_workloads(story.now), [], "not every status may have come");
    story.reobserve();
    pass(&mut story, DAY);
    assert_eq!(story.engine.forget_workloads(story.now), []);
}

#[test]
fn a_workload_that_nothing_tells_of_after_a_restart_is_forgotten() {
    let mut story = Story::new(policy(json!({})));
    let never_there: Workload = "test/shop/Deployment/webb".parse().unwrap();
    story.ask("typo", json!({ "workload": never_there }));
    (0..30).for_each(|_| story.second());
    assert!(story.engine.state(&never_there).is_some());
    let ended = story.now;
    while Span::between(ended, story.now) < Span::from_secs(8 * 86_400) {
        story.now = Span::from_secs(30).after(story.now);
        story.engine.sighted(story.now);
    }
    assert_eq!(story.engine.forget_workloads(story.now), [never_there]);
}
