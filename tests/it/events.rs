//! Tests of decoding: events of each kind, each reason to ignore a record, and each error of a dead letter.

use bellwether::events::cloudevents::{CloudEvent, MAX_EVENT_BYTES};
use bellwether::events::decode::MAX_REQUEST_BYTES;
use bellwether::events::decode::{DecodeOptions, Decoded, decode};
use bellwether::events::mapping::Mapping;
use bellwether::ports::EventRecord;
use bellwether_core::input::event::Event;
use bellwether_core::time::Timestamp;
use serde_json::{Value, json};

const REQUESTED: &str = "dev.cdeventsx.bellwether-rollout.requested.0.1.0";
const DEPLOYED: &str = "dev.cdevents.service.deployed.0.3.0";

#[test]
fn a_request_is_read_in_both_modes_and_from_both_places() {
    let in_subject = envelope(REQUESTED, json!({ "id": "x", "content": request() }), json!({}));
    let in_custom_data = envelope(REQUESTED, json!({ "id": "x", "content": {} }), request());
    for data in [in_subject, in_custom_data] {
        for record in [binary(REQUESTED, &data), structured(REQUESTED, &data)] {
            let Decoded::Event { event, scope } = decoded(&record) else { panic!("{:?}", decoded(&record)) };
            assert_eq!(scope.to_string(), "prod/shop/Deployment/web");
            let Event::Requested { id, time, request } = *event else { panic!("{event:?}") };
            assert_eq!((id.source.as_str(), id.id.as_str()), ("/ci", "e-1"));
            assert_eq!(time, Some(at("2026-01-31T11:59:00Z")));
            assert_eq!(request.images.get("app").unwrap(), "registry/shop/web:2");
            assert_eq!(request.expected_current.unwrap().get("app").unwrap(), "registry/shop/web:1");
        }
    }
}

#[test]
fn a_verb_is_read_with_its_scope_and_its_source() {
    let rows = [
        (verb_event("freeze", json!({ "scope": "prod" })), "prod"),
        (verb_event("unfreeze", json!({ "scope": "prod/shop" })), "prod/shop"),
        (verb_event("abort", json!({ "workload": request()["workload"], "reason": "x" })), "prod/shop/Deployment/web"),
    ];
    for (record, expected) in rows {
        let Decoded::Event { event, scope } = decoded(&record) else { panic!("{:?}", decoded(&record)) };
        assert_eq!(scope.to_string(), expected);
        let Event::Commanded { id, command, .. } = *event else { panic!("{event:?}") };
        assert_eq!((id.source.as_str(), command.scope.to_string().as_str()), ("/ci", expected));
    }
    let elsewhere = verb_event("freeze", json!({ "scope": "staging" }));
    assert!(matches!(decoded(&elsewhere), Decoded::Ignored(_)), "a scope in another cluster is ignored");
}

#[test]
fn a_deployment_is_read_in_every_release_of_the_envelope() {
    let content =
        json!({ "environment": { "id": "prod-eu", "source": "/env" }, "artifactId": "pkg:oci/web@sha256%3Aabc?tag=2" });
    // Release, version of the event, further fields of the context, further fields of the subject.
    let rows = [
        ("0.2", "0.1.0", json!({ "version": "0.1.2" }), json!({ "type": "service" })),
        ("0.3", "0.1.1", json!({ "version": "0.3.0" }), json!({ "type": "service" })),
        ("0.4", "0.2.0", json!({ "version": "0.4.1", "chainId": "c", "links": [] }), json!({ "type": "service" })),
        ("0.5.0, both keys", "0.3.0", json!({ "version": "0.5.0", "specversion": "0.5.0" }), json!({})),
        ("0.5.1", "0.3.0", json!({ "specversion": "0.5.1", "schemaUri": "https://x/y" }), json!({})),
    ];
    for (release, version, context, subject) in rows {
        for verb in ["deployed", "upgraded"] {
            let ty = format!("dev.cdevents.service.{verb}.{version}");
            let subject = merged(json!({ "id": "service/web", "source": "/cd", "content": content }), subject.clone());
            let mut data = envelope(&ty, subject, Value::Null);
            data["context"] = merged(data["context"].clone(), context.clone());
            let record = binary(&ty, &data);
            let Decoded::Event { event, scope } = decoded(&record) else { panic!("{release}: {:?}", decoded(&record)) };
            assert_eq!(scope.to_string(), "prod/shop/Deployment/web", "{release}");
            let Event::Deployed { artifact, .. } = *event else { panic!("{event:?}") };
            assert_eq!(artifact.as_deref(), Some("pkg:oci/web@sha256%3Aabc?tag=2"), "{release}");
        }
    }
}

#[test]
fn events_for_others_are_ignored_with_a_reason() {
    let elsewhere = with(request(), "/workload/cluster", json!("staging"));
    let rows = [
        ("not-for-us", binary("dev.cdevents.change.merged.0.2.0", &json!({}))),
        ("not-for-us", binary("com.example.anything", &json!([1]))),
        ("other-version", binary("dev.cdevents.service.deployed.9.0.0", &json!({}))),
        ("other-cluster", requested(elsewhere)),
        ("own", header(requested(request()), "ce_source", "/bellwether/prod")),
        ("expired", header(requested(request()), "ce_expirytime", "2026-01-31T11:59:59Z")),
        ("no-mapping", deployed("service/web", "dev", "pkg:oci/web@1")),
        ("no-mapping", deployed("function/web", "prod-eu", "pkg:oci/web@1")),
    ];
    for (label, record) in rows {
        let Decoded::Ignored(reason) = decoded(&record) else { panic!("{label}: {:?}", decoded(&record)) };
        assert_eq!(reason.label(), label, "{reason}");
    }
    let not_yet = header(requested(request()), "ce_expirytime", "2026-01-31T12:00:00Z");
    assert!(matches!(decoded(&not_yet), Decoded::Event { .. }), "an event counts until its expiry time");
    let clock_ahead = requested_at("2026-01-31T12:05:00Z");
    assert!(matches!(decoded(&clock_ahead), Decoded::Event { .. }), "the sender's clock may be ahead");
}

#[test]
fn records_of_other_types_are_ignored_in_any_format() {
    let invoice = |content_type: &str, value: Option<&[u8]>| {
        let record = header(binary("com.example.invoice.issued", &json!({})), "content-type", content_type);
        EventRecord { value: value.map(<[u8]>::to_vec), ..record }
    };
    let large = vec![0_u8; MAX_EVENT_BYTES + 1];
    let rows = [
        ("not-for-us", invoice("application/avro", Some(b"\x00\x01\xff"))),
        ("not-for-us", invoice("application/avro", Some(b""))),
        ("not-for-us", invoice("application/json", Some(b""))),
        ("not-for-us", invoice("application/json", None)),
        ("not-for-us", invoice("application/json", Some(&large))),
        ("not-for-us", without(invoice("application/json", Some(b"{}")), "ce_id")),
        (
            "not-for-us",
            structured_raw(r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"e30="}"#),
        ),
        ("not-for-us", structured_raw(r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#)),
        ("tombstone", EventRecord { key: Some(b"prod/shop/Deployment/web".to_vec()), ..EventRecord::default() }),
    ];
    for (label, record) in rows {
        let Decoded::Ignored(reason) = decoded(&record) else { panic!("{label}: {:?}", decoded(&record)) };
        assert_eq!(reason.label(), label, "{reason}");
    }
}

#[test]
fn an_event_of_ours_is_taken_in_each_spelling_of_its_mode() {
    let plain = requested(request());
    let renamed = header(without(plain.clone(), "content-type"), "ce_datacontenttype", "application/json");
    let both = header(plain.clone(), "ce_datacontenttype", "application/json");
    let structured =
        structured(REQUESTED, &envelope(REQUESTED, json!({ "id": "x", "content": request() }), Value::Null));
    let bare = EventRecord { headers: Vec::new(), ..structured };
    for record in [without(plain, "content-type"), renamed, both, bare] {
        assert!(matches!(decoded(&record), Decoded::Event { .. }), "{:?}", decoded(&record));
        let event = CloudEvent::from_record(&record).unwrap();
        assert!(!event.extensions.contains_key("datacontenttype"), "{event:?}");
    }
    let avro = header(without(requested(request()), "content-type"), "ce_datacontenttype", "application/avro");
    let Decoded::Dead(error) = decoded(&avro) else { panic!("{:?}", decoded(&avro)) };
    assert!(error.to_string().contains("\"application/avro\" is not JSON"), "{error}");
}

#[test]
fn an_artifact_is_taken_as_it_is_written() {
    for artifact in ["registry/shop/web:2", "0d9c1a", "pkg:oci/web@sha256%3Aabc"] {
        let Decoded::Event { event, .. } = decoded(&deployed("service/web", "prod-eu", artifact)) else {
            panic!("{artifact}: {:?}", decoded(&deployed("service/web", "prod-eu", artifact)))
        };
        let Event::Deployed { artifact: read, .. } = *event else { panic!("{event:?}") };
        assert_eq!(read.as_deref(), Some(artifact));
    }
    // A template that needs a package URL can't be filled in.
    let mapping = serde_json::from_value(json!([{ "namespace": "shop", "name": "{{purl-name}}" }])).unwrap();
    let decoded = decode(&deployed("service/web", "prod", "web:2"), &DecodeOptions::new("prod", mapping), now());
    assert!(matches!(&decoded, Decoded::Ignored(reason) if reason.label() == "no-mapping"), "{decoded:?}");
}

#[test]
fn wrong_records_are_dead_letters_with_the_problem_and_its_remedy() {
    let no_image =
        json!({ "workload": { "cluster": "prod", "namespace": "shop", "kind": "Deployment", "name": "web" } });
    let other_id = with(envelope(REQUESTED, json!({ "content": request() }), Value::Null), "/context/id", json!("e-2"));
    let rows: Vec<(EventRecord, &[&str])> = vec![
        (without(requested(request()), "ce_id"), &["attribute id is missing", "header ce_id"]),
        (without(requested(request()), "ce_specversion"), &["specversion is missing"]),
        (header(requested(request()), "ce_specversion", "0.3"), &["specversion", "\"0.3\"", "only CloudEvents 1.0"]),
        (header(requested(request()), "ce_source", ""), &["source", "must not be empty"]),
        (header(requested(request()), "ce_time", "yesterday"), &["time", "yesterday", "RFC 3339"]),
        (
            header(requested(request()), "ce_time", "2099-01-01T00:00:00Z"),
            &["the event's time is 2099-01-01T00:00:00Z", "correct the sender's clock"],
        ),
        (
            header(verb_event("abort", json!({ "scope": "prod" })), "ce_time", "2026-01-31T12:05:01Z"),
            &["2026-01-31T12:05:01Z"],
        ),
        (
            header(deployed("service/web", "prod-eu", "pkg:oci/web@1"), "ce_time", "2026-01-31T13:00:00Z"),
            &["13:00:00Z"],
        ),
        (
            requested_at("2026-01-31T12:05:01Z"),
            &["the event's time is 2026-01-31T12:05:01Z", "here it is 2026-01-31T12:00:00Z"],
        ),
        (header(requested(request()), "ce_expirytime", "never"), &["expirytime", "never", "RFC 3339"]),
        (header(requested(request()), "ce_id", &"x".repeat(2000)), &["attribute id", "at most 1024 bytes"]),
        (header(requested(request()), "ce_id", "a\nb"), &["attribute id", "no control characters"]),
        (
            header(requested(request()), "content-type", "application/cloudevents-batch+json"),
            &["batch mode", "one event per record"],
        ),
        (header(requested(request()), "content-type", "application/cloudevents+avro"), &["avro", "not JSON"]),
        (header(requested(request()), "content-type", "text/plain"), &["text/plain", "not JSON"]),
        (EventRecord { value: None, ..requested(request()) }, &["no value", "tombstone"]),
        (EventRecord { value: Some(Vec::new()), ..requested(request()) }, &["no data"]),
        (EventRecord { value: Some(b"{".to_vec()), ..requested(request()) }, &["not JSON"]),
        (EventRecord { value: Some(vec![b' '; MAX_EVENT_BYTES + 1]), ..requested(request()) }, &["524288"]),
        (
            requested(with(request(), "/reason", json!("x".repeat(MAX_REQUEST_BYTES)))),
            &["more than the 32768", "shorten its `reason`"],
        ),
        (requested(with(request(), "/images/app", json!("a b:c"))), &["\"a b:c\"", "REPOSITORY[:TAG]"]),
        (EventRecord { value: Some("[".repeat(100_000).into_bytes()), ..requested(request()) }, &["recursion limit"]),
        (structured_raw("[]"), &["not JSON", "one JSON object"]),
        (structured_raw(&own_structured(r#""id":"1","data_base64":"e30=""#)), &["data_base64"]),
        (structured_raw(&own_structured(r#""id":"1""#)), &["no data"]),
        (structured_raw(&own_structured(r#""id":{},"data":{}"#)), &["attribute id", "text, numbers"]),
        (
            binary("dev.cdeventsx.bellwether-rollout.requested.9.9.9", &json!({})),
            &["requested.9.9.9", "send dev.cdeventsx.bellwether-rollout.requested.0.1.0"],
        ),
        (
            binary("dev.cdeventsx.bellwether-rollout.abort.9.9.9", &json!({})),
            &["abort.9.9.9", "send dev.cdeventsx.bellwether-rollout.abort.0.1.0"],
        ),
        (verb_event("abort", json!({})), &["abort needs `workload` or `scope`"]),
        (
            verb_event("abort", json!({ "scope": "prod/shop/Deployment/web", "full": true })),
            &["abort has no field `full`"],
        ),
        (verb_event("freeze", json!({ "scope": "prod/shop", "approval": "qa" })), &["freeze has no field `approval`"]),
        (verb_event("freeze", json!({ "scope": "prod/Shop" })), &["namespace", "\"Shop\""]),
        (verb_event("freeze", json!({ "scope": "a/b/c" })), &["is not a scope"]),
        (verb_event("promote", json!({ "scope": "prod", "fulll": true })), &["unknown field `fulll`"]),
        (binary(REQUESTED, &json!({ "workload": {} })), &["not a CDEvent", "context"]),
        (binary(REQUESTED, &other_id), &["context.id", "\"e-2\"", "\"e-1\""]),
        (requested(no_image), &["names no image"]),
        (requested(with(request(), "/image", json!("x"))), &["both `image` and `images`"]),
        (requested(with(request(), "/imagse", json!({}))), &["unknown field `imagse`"]),
        (requested(with(request(), "/workload/kind", json!("StatefulSet"))), &["StatefulSet", "Deployment"]),
        (requested(with(request(), "/workload/name", json!("a/b"))), &["name", "\"a/b\"", "lower-case"]),
        (requested(with(request(), "/workload/namespace", json!("Shop"))), &["namespace", "\"Shop\""]),
        (requested(with(request(), "/workload/cluster", json!(""))), &["cluster"]),
        (deployed("service/web", "prod-eu", &"x".repeat(1025)), &["artifactId", "1024"]),
        (deployed("service/Web_1", "prod-eu", "pkg:oci/web@1"), &["name", "Web_1"]),
        (
            binary(DEPLOYED, &envelope(DEPLOYED, json!({ "id": "service/web", "content": {} }), Value::Null)),
            &["environment"],
        ),
    ];
    for (record, parts) in rows {
        let Decoded::Dead(error) = decoded(&record) else { panic!("{parts:?}: {:?}", decoded(&record)) };
        let text = error.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
        assert!(text.len() < 600, "an error does not repeat a long value: {text}");
    }
}

#[test]
fn the_first_matching_rule_whose_templates_can_be_filled_in_names_the_workload() {
    let mapping = json!([
        { "environment": "prod-*", "subject": "service/*", "artifact": "pkg:npm/*", "namespace": "npm", "name": "{{purl-name}}" },
        { "environment": "prod", "cluster": "{{environment}}", "namespace": "ns-{{subject-name}}-x", "name": "{{ subject-name }}" },
        { "environment": "prod-*", "namespace": "shop", "name": "{{subject-name}}" },
    ]);
    let options = DecodeOptions::new("prod", serde_json::from_value(mapping).unwrap());
    let rows = [
        (deployed("service/web", "prod-1", "pkg:npm/%40shop/front@1"), "prod/npm/Deployment/front"),
        (deployed("service/web", "prod-1", "pkg:oci/web@1"), "prod/shop/Deployment/web"),
        (deployed("team/a/web", "prod", "pkg:oci/web@1"), "prod/ns-web-x/Deployment/web"),
    ];
    for (record, expected) in rows {
        let Decoded::Event { scope, .. } = decode(&record, &options, now()) else { panic!("{expected}") };
        assert_eq!(scope.to_string(), expected);
    }
}

#[test]
fn an_invalid_template_is_refused_when_it_is_read() {
    for (name, part) in
        [("{{subjct}}", "\"subjct\" is no placeholder"), ("a-{{subject", "does not close"), ("", "not be empty")]
    {
        let error = serde_json::from_value::<Mapping>(json!([{ "namespace": "shop", "name": name }])).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let unknown = serde_json::from_value::<Mapping>(json!([{ "namespace": "shop", "name": "x", "enviroment": "*" }]));
    assert!(unknown.unwrap_err().to_string().contains("enviroment"));
}

#[test]
fn an_event_is_read_as_it_was_written_in_each_mode() {
    let mut event = CloudEvent::from_record(&requested(request())).unwrap();
    event.traceparent = Some("00-aa-bb-01".to_owned());
    event.expirytime = Some(at("2026-02-01T00:00:00Z"));
    event.extensions.insert("severitytext".to_owned(), "info".to_owned());
    let record = event.to_record("prod/shop/Deployment/web");
    assert_eq!(CloudEvent::from_record(&record).unwrap(), event);
    assert_eq!(record.key.unwrap(), b"prod/shop/Deployment/web");
    let body = event.to_structured().to_string();
    let header = [("Content-Type", b"application/cloudevents+json; charset=UTF-8".as_slice())];
    assert_eq!(CloudEvent::from_http(header, body.as_bytes()).unwrap(), event);
}

#[test]
fn a_request_keeps_the_trace_of_its_event_and_none_of_its_content() {
    let mut event = CloudEvent::from_record(&requested(request())).unwrap();
    event.data["customData"]["traceparent"] = json!("of the content");
    for (sent, kept) in
        [(None, None), (Some("00-aa-bb-01".to_owned()), Some("00-aa-bb-01".to_owned())), (Some("x".repeat(65)), None)]
    {
        event.traceparent = sent;
        let Decoded::Event { event, .. } = decoded(&event.to_record("key")) else { panic!("{event:?}") };
        let Event::Requested { request, .. } = *event else { panic!("{event:?}") };
        assert_eq!(request.traceparent, kept);
    }
}

#[test]
fn http_headers_of_any_case_are_percent_decoded() {
    let headers = |id: &'static [u8]| {
        [
            ("CE-SpecVersion", b"1.0".as_slice()),
            ("ce-id", id),
            ("Ce-Source", b"/ci"),
            ("ce-type", b"t"),
            ("content-type", b"application/json"),
        ]
    };
    for (sent, read) in
        [(b"plain".as_slice(), "plain"), (b"%E2%82%AC%20x", "€ x"), (b"\"quoted\"", "quoted"), (b"", "")]
    {
        let event = CloudEvent::from_http(headers(sent), b"{}");
        assert_eq!(event.map_or_else(|_| String::new(), |event| event.id), read);
    }
    for bad in [b"%zz".as_slice(), b"%e", b"%ff", &[0xff]] {
        assert!(CloudEvent::from_http(headers(bad), b"{}").is_err(), "{bad:?}");
    }
}

#[test]
fn cut_and_flipped_bytes_do_not_panic() {
    let whole = structured(REQUESTED, &envelope(REQUESTED, json!({ "content": request() }), Value::Null));
    let bytes = whole.value.clone().unwrap();
    for cut in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[cut] ^= 0x80;
        for value in [bytes[..cut].to_vec(), flipped] {
            decoded(&EventRecord { value: Some(value), ..whole.clone() });
        }
    }
}

// ---- helpers ----

fn decoded(record: &EventRecord) -> Decoded {
    let mapping =
        json!([{ "environment": "prod-*", "subject": "service/*", "namespace": "shop", "name": "{{subject-name}}" }]);
    decode(record, &DecodeOptions::new("prod", serde_json::from_value(mapping).unwrap()), now())
}

fn now() -> Timestamp {
    at("2026-01-31T12:00:00Z")
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn request() -> Value {
    json!({
        "workload": { "cluster": "prod", "namespace": "shop", "kind": "Deployment", "name": "web" },
        "images": { "app": "registry/shop/web:2" },
        "expectedCurrent": { "app": "registry/shop/web:1" },
        "reason": "release 2"
    })
}

fn envelope(ty: &str, subject: Value, custom_data: Value) -> Value {
    let context = json!({ "id": "e-1", "source": "/ci", "type": ty, "timestamp": "2026-01-31T11:59:00Z" });
    json!({ "context": context, "subject": subject, "customData": custom_data })
}

fn requested(content: Value) -> EventRecord {
    binary(REQUESTED, &envelope(REQUESTED, json!({ "id": "x", "content": content }), Value::Null))
}

/// Returns a request whose CDEvent alone has this time.
fn requested_at(time: &str) -> EventRecord {
    let data = envelope(REQUESTED, json!({ "id": "x", "content": request() }), Value::Null);
    binary(REQUESTED, &with(data, "/context/timestamp", json!(time)))
}

fn verb_event(verb: &str, content: Value) -> EventRecord {
    let ty = format!("dev.cdeventsx.bellwether-rollout.{verb}.0.1.0");
    binary(&ty, &envelope(&ty, json!({ "id": "x", "content": {} }), content))
}

fn deployed(subject: &str, environment: &str, artifact: &str) -> EventRecord {
    let content = json!({ "environment": { "id": environment }, "artifactId": artifact });
    binary(DEPLOYED, &envelope(DEPLOYED, json!({ "id": subject, "content": content }), Value::Null))
}

fn binary(ty: &str, data: &Value) -> EventRecord {
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", "e-1"),
        ("ce_source", "/ci"),
        ("ce_type", ty),
        ("content-type", "application/json"),
    ];
    EventRecord {
        value: Some(data.to_string().into_bytes()),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
        ..EventRecord::default()
    }
}

fn structured(ty: &str, data: &Value) -> EventRecord {
    let event = json!({ "specversion": "1.0", "id": "e-1", "source": "/ci", "type": ty, "data": data, "subject": null,
                        "datacontenttype": "application/json", "sequence": 7 });
    structured_raw(&event.to_string())
}

/// Returns a request in structured mode with these members besides the attributes that are always there.
fn own_structured(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","source":"s","type":"{REQUESTED}",{members}}}"#)
}

fn structured_raw(json: &str) -> EventRecord {
    let content_type = b"Application/CloudEvents+JSON; charset=UTF-8".to_vec();
    EventRecord {
        value: Some(json.as_bytes().to_vec()),
        headers: vec![("content-type".to_owned(), content_type)],
        ..EventRecord::default()
    }
}

fn header(mut record: EventRecord, name: &str, value: &str) -> EventRecord {
    record.headers.retain(|(other, _)| other != name);
    record.headers.push((name.to_owned(), value.as_bytes().to_vec()));
    record
}

fn without(mut record: EventRecord, name: &str) -> EventRecord {
    record.headers.retain(|(other, _)| other != name);
    record
}

/// Returns `value` with the field at `pointer` set or added.
fn with(mut value: Value, pointer: &str, field: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[name] = field;
    value
}

fn merged(mut base: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}
