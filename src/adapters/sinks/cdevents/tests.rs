//! Events against the schemas of CDEvents 0.5.1, which are copied to `schemas/` (github.com/cdevents/spec, Apache-2.0).

use bellwether_core::ids::{EffectId, RolloutId, Weight};
use bellwether_core::input::effect::{Act, Notify};
use bellwether_core::input::notification::{Message, MessageKind, Mood};
use bellwether_core::time::Timestamp;
use jsonschema::Validator;
use proptest::prelude::*;

use super::*;
use crate::events::decode::{DecodeOptions, Decoded, Ignored, decode};
use crate::events::mapping::Mapping;

/// Returns the schema of a type. The links between events, which are not written, have a schema in further files; it is left out.
fn schema(ty: &str) -> Validator {
    let text = match ty {
        "dev.cdevents.service.upgraded.0.3.0" => include_str!("schemas/serviceupgraded.json"),
        "dev.cdevents.service.rolledback.0.3.0" => include_str!("schemas/servicerolledback.json"),
        "dev.cdevents.incident.detected.0.3.0" => include_str!("schemas/incidentdetected.json"),
        "dev.cdevents.incident.resolved.0.3.0" => include_str!("schemas/incidentresolved.json"),
        other => panic!("no schema of {other}"),
    };
    let mut schema: Value = serde_json::from_str(text).unwrap();
    schema["properties"]["context"]["properties"].as_object_mut().unwrap().remove("links").unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn workload() -> Workload {
    "prod/shop/Deployment/web".parse().unwrap()
}

fn notification(
    ending: Option<&str>,
    incident: Option<IncidentChange>,
    text: &str,
    image: Option<&str>,
) -> Notification {
    Notification {
        key: RolloutId("web-0123456789".to_owned()),
        facts: NotificationFacts {
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            decision: "finish".to_owned(),
            ending: ending.map(str::to_owned),
            weight: Weight::ZERO,
            policy: "shop".to_owned(),
            image: image.map(str::to_owned),
        },
        incident,
        note: None,
        message: Some(Message {
            kind: MessageKind::Final,
            mood: Mood::Bad,
            title: format!("prod: web {text}"),
            why: text.to_owned(),
            now: String::new(),
            command: None,
            footer: String::new(),
        }),
        trace: None,
    }
}

fn effect(notification: &Notification) -> Effect {
    let sink = Sink { name: "events".to_owned(), subscription: Subscription::Changes };
    Effect {
        id: EffectId(format!("{}.d7.events", notification.key)),
        rollout: notification.key.clone(),
        workload: workload(),
        act: Act::People(Notify { sink, notification: Box::new(notification.clone()), receipt: None }),
    }
}

fn types(notification: &Notification) -> Vec<String> {
    events(&effect(notification), notification).into_iter().map(|event| event.ty).collect()
}

#[test]
fn the_ends_of_a_rollout_and_its_incident_are_events() {
    let of = |ending, incident| types(&notification(ending, incident, "x", Some("web:2")));
    assert_eq!(of(Some("promoted"), None), ["dev.cdevents.service.upgraded.0.3.0"]);
    assert_eq!(
        of(Some("rolled-back"), Some(IncidentChange::Resolve)),
        ["dev.cdevents.incident.resolved.0.3.0", "dev.cdevents.service.rolledback.0.3.0"]
    );
    assert_eq!(of(None, Some(IncidentChange::Open)), ["dev.cdevents.incident.detected.0.3.0"]);
    assert_eq!(of(Some("aborted"), None), Vec::<String>::new());
    assert_eq!(types(&notification(Some("promoted"), None, "x", None)), Vec::<String>::new(), "it only observed");
}

#[test]
fn an_image_has_a_package_url() {
    for (image, url) in [
        ("web", "pkg:oci/web?repository_url=web"),
        ("registry.example:5000/Shop/web", "pkg:oci/web?repository_url=registry.example%3A5000%2Fshop%2Fweb"),
        ("registry.example/shop/web:2", "pkg:oci/web?repository_url=registry.example%2Fshop%2Fweb&tag=2"),
        ("web:2@sha256:abc", "pkg:oci/web@sha256%3Aabc?repository_url=web&tag=2"),
    ] {
        assert_eq!(package_url(image), url);
    }
}

#[test]
fn the_daemon_ignores_its_own_events() {
    let promoted = notification(Some("promoted"), None, "x", Some("web:2"));
    let options = DecodeOptions::new("prod", Mapping::default());
    for event in events(&effect(&promoted), &promoted) {
        let decoded = decode(&event.to_record("key"), &options, Timestamp::UNIX_EPOCH);
        assert!(matches!(decoded, Decoded::Ignored(Ignored::Own)), "{decoded:?}");
    }
}

proptest! {
    #[test]
    fn each_event_is_valid_by_its_schema(
        text in ".{0,200}",
        image in proptest::option::of("[a-zA-Z0-9./:@_-]{1,80}"),
        ending in prop_oneof![Just(None), Just(Some("promoted")), Just(Some("rolled-back")), Just(Some("aborted"))],
        incident in prop_oneof![Just(None), Just(Some(IncidentChange::Open)), Just(Some(IncidentChange::Resolve))],
    ) {
        let notification = notification(ending, incident, &text, image.as_deref());
        for event in events(&effect(&notification), &notification) {
            let errors: Vec<String> = schema(&event.ty).iter_errors(&event.data).map(|error| error.to_string()).collect();
            prop_assert!(errors.is_empty(), "{errors:?}: {}", event.data);
            prop_assert_eq!(&event.source, "/bellwether/prod");
        }
    }
}
