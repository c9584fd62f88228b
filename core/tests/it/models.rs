//! Rollouts with a model: the environment's pointer moves with the promotion and returns with an abort.

use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::rollout::ending::Ending;
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
fn the_pointer_moves_with_the_promotion() {
    let mut story = story(json!({}));
    story.ask("v2", json!({ "model": "chat@1.3.0" }));
    while story.rollout().canary.weight.as_share() == 0.0 {
        assert_eq!(current(&story), Some("chat@1.2.0"));
        story.second();
    }
    assert_eq!(current(&story), Some("chat@1.2.0"), "the canary's traffic does not move the pointer");
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert_eq!(current(&story), Some("chat@1.3.0"));
}

#[test]
fn the_model_of_a_rolled_back_canary_never_becomes_current() {
    let mut story = story(json!({}));
    story.ask("v2-err8", json!({ "model": "chat@1.3.0" }));
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack));
    assert_eq!(current(&story), Some("chat@1.2.0"));
}

#[test]
fn an_abort_after_the_promotion_returns_the_pointer_unless_it_was_moved_by_hand() {
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
fn an_unregistered_model_is_refused_before_its_canary_exists() {
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
fn a_policy_without_an_environment_does_not_touch_the_registry() {
    let mut story = Story::new(policy(json!({})));
    story.ask("v2", json!({ "model": "chat@1.3.0" }));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted));
    assert!(!story.effects.iter().any(|effect| matches!(effect.act, Act::Registry(_))));
}
