use bellwether_core::ids::{EffectId, RolloutId};
use bellwether_core::input::effect::{Act, Notify};
use bellwether_core::input::notification::NotificationFacts;

use super::*;

#[test]
fn an_event_is_named_after_its_effect_and_refers_to_the_deployment() {
    let at = Timestamp::UNIX_EPOCH;
    let one = event(&effect("web-1.d7.kubernetes-events"), Some("uid".to_owned()), &note(), at);
    let again = event(&effect("web-1.d7.kubernetes-events"), None, &note(), at);
    let next = event(&effect("web-1.d8.kubernetes-events"), None, &note(), at);
    assert_eq!(one.metadata.name, again.metadata.name);
    assert_ne!(one.metadata.name, next.metadata.name);
    assert_eq!(one.involved_object.uid.as_deref(), Some("uid"));
    assert_eq!((one.type_.as_deref(), one.reason.as_deref()), (Some("Warning"), Some("RolledBack")));
    assert_eq!(one.message.as_deref(), Some("5 % > 1 %"));
}

#[test]
fn a_long_message_is_cut_between_characters() {
    assert_eq!(shortened(&"ä".repeat(900)).len(), 1024);
    assert_eq!(shortened(&format!("a{}", "ä".repeat(900))).len(), 1023);
    assert_eq!(shortened("short"), "short");
}

fn note() -> Note {
    Note { warning: true, reason: "RolledBack".to_owned(), text: "5 % > 1 %".to_owned() }
}

fn effect(id: &str) -> Effect {
    let sink = Sink { name: "kubernetes-events".to_owned(), subscription: Subscription::Decisions };
    let key = RolloutId("web-1".to_owned());
    let notification = Notification {
        key: key.clone(),
        facts: NotificationFacts::default(),
        incident: None,
        note: Some(note()),
        message: None,
        trace: None,
    };
    Effect {
        id: EffectId(id.to_owned()),
        rollout: key,
        workload: "prod/demo/Deployment/web".parse().unwrap(),
        act: Act::People(Notify { sink, notification: Box::new(notification), receipt: None }),
    }
}
