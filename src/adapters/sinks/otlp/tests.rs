//! The trace of a rollout as the protocol has it.

use bellwether_core::ids::{EffectId, RolloutId, Weight, Workload};
use bellwether_core::input::effect::{Act, Notify};
use bellwether_core::input::notification::{NotificationFacts, Sink};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn phase(phase: &str, step: Option<usize>, second: i64) -> TracedPhase {
    TracedPhase {
        phase: phase.to_owned(),
        step,
        since: at(second),
        decision: "advance".to_owned(),
        why: "every check passes".to_owned(),
        by: None,
    }
}

/// Returns the body about a rollout that was requested with `traceparent` and ended as `outcome`.
fn body(traceparent: Option<&str>, outcome: &str) -> Value {
    let trace = RolloutTrace {
        traceparent: traceparent.map(str::to_owned),
        started: at(100),
        phases: vec![
            phase("preparing", Some(1), 100),
            phase("stepping", Some(1), 130),
            phase("promoting", Some(1), 200),
        ],
        why: "errors 9 % > 5 %".to_owned(),
    };
    let notification = Notification {
        key: RolloutId("web-0123456789".to_owned()),
        facts: NotificationFacts {
            at: at(250),
            decision: "finish".to_owned(),
            ending: Some(outcome.to_owned()),
            weight: Weight::ZERO,
            policy: "shop".to_owned(),
            image: Some("web:2".to_owned()),
        },
        incident: None,
        note: None,
        message: None,
        trace: Some(Box::new(trace)),
    };
    let sink = Sink { name: "tempo".to_owned(), subscription: Subscription::Traces };
    let effect = Effect {
        id: EffectId("web-0123456789.d4.tempo".to_owned()),
        rollout: notification.key.clone(),
        workload: "prod/shop/Deployment/web".parse::<Workload>().unwrap(),
        act: Act::People(Notify { sink, notification: Box::new(notification.clone()), receipt: None }),
    };
    request(&effect, &notification, notification.trace.as_deref().unwrap())
}

fn spans(body: &Value) -> &Vec<Value> {
    body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap()
}

#[test]
fn a_rollout_is_a_span_with_its_phases_in_the_trace_of_its_request() {
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let body = body(Some(&format!("00-{trace}-{parent}-01")), "rolled-back");
    let spans = spans(&body);
    let times: Vec<(&str, &str, &str)> = spans
        .iter()
        .map(|span| ["name", "startTimeUnixNano", "endTimeUnixNano"].map(|key| span[key].as_str().unwrap()).into())
        .collect();
    assert_eq!(
        times,
        [
            ("rollout shop/web", "100000000000", "250000000000"),
            ("preparing", "100000000000", "130000000000"),
            ("step 1", "130000000000", "200000000000"),
            ("promoting", "200000000000", "250000000000"),
        ]
    );
    assert!(spans.iter().all(|span| span["traceId"] == trace), "{spans:?}");
    assert_eq!(spans[0]["parentSpanId"], parent);
    assert!(spans[1..].iter().all(|span| span["parentSpanId"] == spans[0]["spanId"]), "{spans:?}");
    assert_eq!(spans[0]["status"], json!({ "code": ERROR, "message": "errors 9 % > 5 %" }));
    let named = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let attributes = spans[0]["attributes"].as_array().unwrap();
    assert!(attributes.contains(&named("bellwether.rollout", "web-0123456789")), "{attributes:?}");
    let resource = body["resourceSpans"][0]["resource"]["attributes"].as_array().unwrap();
    assert!(resource.contains(&named("k8s.cluster.name", "prod")), "{resource:?}");
}

#[test]
fn ids_are_derived_and_of_the_length_that_the_protocol_has() {
    let body = body(None, "promoted");
    assert_eq!(body, self::body(None, "promoted"), "a repetition is the same trace");
    let mut ids: Vec<&str> = spans(&body).iter().map(|span| span["spanId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| id.len() == 16) && spans(&body)[0]["traceId"].as_str().unwrap().len() == 32);
    assert_eq!((&spans(&body)[0]["parentSpanId"], &spans(&body)[0]["status"]), (&json!(""), &json!({ "code": OK })));
}

#[test]
fn a_trace_that_is_not_valid_is_not_continued() {
    let (trace, span, zeros) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "0".repeat(32));
    let own = TraceContext::of("web-1", None);
    for wrong in [
        "",
        "00-aa-bb-01",
        &format!("ff-{trace}-{span}-01"),
        &format!("00-{zeros}-{span}-01"),
        &format!("00-{trace}-{}-01", &zeros[..16]),
        &format!("00-{}-{span}-01", trace.to_uppercase()),
        &format!("00-{trace}-{span}-01-x"),
    ] {
        assert_eq!(TraceContext::of("web-1", Some(wrong)), own, "{wrong}");
    }
    let continued = TraceContext::of("web-1", Some(&format!("00-{trace}-{span}-00")));
    assert_eq!(continued, TraceContext { trace: trace.to_owned(), parent: Some(span.to_owned()) });
}
