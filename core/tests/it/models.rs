//! A rollout that brings a model: the environment's pointer follows the traffic, and comes back with it.

use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::rollout::decision::Ending;
use serde_json::json;

use bellwether_sim::story::{Story, policy};

const HOUR: u64 = 3600;

fn story(changes: serde_json::Value) -> Story {
    let mut all = json!({ "model": { "environment": "production" } });
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let mut story = Story::new(policy(all));
    for model in ["chat@1.2.0", "chat@1.3.0"] {
        story.model.models.register(model);
    }
    story.model.models.point("production", "chat@1.2.0");
    story
}

fn current(story: &Story) -> Option<&str> {
    story.model.models.current("production", "chat")
}

#[test]
fn the_pointer_follows_a_promotion() {
    let mut story = story(json!({}));
    story.ask("v2", json!({ "model": "chat@1.3.0" }));
    while story.rollout().canary.weight.as_share() == 0.0 {
        assert_eq!(current(&story), Some("chat@1.2.0"));
        story.second();
    }
    assert_eq!(current(&story), Some("chat@1.2.0"), "a little traffic is not all of it");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(current(&story), Some("chat@1.3.0"));
}

#[test]
fn a_canary_that_is_rolled_back_never_was_current() {
    let mut story = story(json!({}));
    story.ask("v2-err8", json!({ "model": "chat@1.3.0" }));
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(current(&story), Some("chat@1.2.0"));
}

#[test]
fn the_pointer_comes_back_with_the_guards_rollback_unless_somebody_has_moved_on() {
    for (by_hand, expected) in [(None, "chat@1.2.0"), (Some("chat@1.4.0"), "chat@1.4.0")] {
        let guard = json!({ "for": "10m", "check": [{ "metric": "error-rate", "max": "5%" }] });
        let mut story = story(json!({ "guard": guard }));
        story.model.models.register("chat@1.4.0");
        story.ask("v2", json!({ "model": "chat@1.3.0" }));
        while current(&story) != Some("chat@1.3.0") {
            story.second();
        }
        if let Some(model) = by_hand {
            story.model.models.point("production", model);
        }
        story.say("abort", json!({}));
        for _ in 0..HOUR {
            story.second();
            story.say("abort", json!({}));
        }
        assert_eq!(story.rollout().ending(), Some(Ending::Aborted));
        assert_eq!(current(&story), Some(expected));
    }
}

#[test]
fn a_model_that_nobody_registered_has_no_canary() {
    let mut story = story(json!({}));
    story.ask("v2", json!({ "model": "chat@9.9.9" }));
    assert_eq!(story.run(HOUR), Some(Ending::Refused));
    assert!(
        story.whys().contains(&"verify-model was refused: model chat@9.9.9 is not registered"),
        "{:?}",
        story.whys()
    );
    assert!(!story.effects.iter().any(|effect| matches!(effect.act, Act::Cluster(ClusterAct::ApplyCanary { .. }))));
}

#[test]
fn a_policy_that_binds_no_environment_leaves_the_registry_alone() {
    let mut story = Story::new(policy(json!({})));
    story.ask("v2", json!({ "model": "chat@1.3.0" }));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert!(!story.effects.iter().any(|effect| matches!(effect.act, Act::Registry(_))));
}
