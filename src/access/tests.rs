use bellwether_core::ids::Workload;
use bellwether_registry::SigningKey;
use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::events::cdevents::{REQUESTED, VERB, VERB_VERSION, wrap};
use crate::events::cloudevents::CloudEvent;
use crate::events::decode::{DecodeOptions, Decoded, decode};
use crate::events::identity::{ENVELOPE, signed};
use crate::events::mapping::Mapping;

const NOW: &str = "2026-11-29T12:00:00Z";
const WEEK: Span = Span::from_secs(7 * 86_400);

/// Returns the path of a key of the tests: `ours.pem`, `ours.pub`, `theirs.pem` or `theirs.pub`.
fn key_file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/it/gate/keys", name].iter().collect()
}

/// Returns the rules of a TOML text. The key `ci` is ours.
fn access(rules: &str) -> Access {
    let mut options: Options = toml::from_str(rules).unwrap();
    options.keys.insert("ci".to_owned(), key_file("ours.pub"));
    assert!(options.problems().is_empty(), "{:?}", options.problems());
    Access::new(&options, StampKey::of(&SecretString::from("s".repeat(32))), WEEK).unwrap()
}

fn request(source: &str, time: &str) -> CloudEvent {
    let workload: Workload = "prod/shop/Deployment/web".parse().unwrap();
    let content = json!({ "workload": workload, "images": { "app": "r/web:2" } });
    wrap(REQUESTED, source, "1", time.parse().unwrap(), &workload.to_string(), content)
}

fn verb(verb: &str, scope: &str) -> CloudEvent {
    let content = match scope.parse::<Workload>() {
        Ok(workload) if verb != "freeze" => json!({ "workload": workload }),
        _ => json!({ "scope": scope }),
    };
    wrap(&format!("{VERB}{verb}{VERB_VERSION}"), "/people/ann", "1", NOW.parse().unwrap(), scope, content)
}

fn signed_record(event: &CloudEvent, key: &str) -> EventRecord {
    let value = signed(event, &SigningKey::read(&key_file(key)).unwrap()).unwrap();
    let headers = vec![("content-type".to_owned(), ENVELOPE.as_bytes().to_vec())];
    EventRecord { value: Some(value.into_bytes()), headers, ..EventRecord::default() }
}

/// Returns the source that the engine is told of, or the label of the refusal.
fn admitted(access: &Access, record: &EventRecord) -> Result<String, &'static str> {
    let (opened, identity) = access.open(record);
    let now = NOW.parse().unwrap();
    let decoded = decode(&opened, &DecodeOptions::new("prod", Mapping::default()), now);
    let Decoded::Event { mut event, scope } = decoded else { panic!("{decoded:?}") };
    access.admit(&mut event, &scope, &identity, now).map_err(|refusal| refusal.label())?;
    Ok(head_of(&mut event).unwrap().0.source.clone())
}

#[test]
fn without_rules_every_source_is_admitted_and_none_may_claim_an_identity() {
    let open = Access::default();
    assert_eq!(admitted(&open, &request("/ci", NOW).to_record("k")), Ok("/ci".to_owned()));
    for (forged, recorded) in
        [("/ci#key=ci", "/ci%23key=ci"), ("/ci#user=jane", "/ci%23user=jane"), ("#user=jane", "%23user=jane")]
    {
        let record = request(forged, NOW).to_record("k");
        assert_eq!(admitted(&open, &record), Err("forged-source"), "{forged}");
        // The audit reads identities in the sources.
        let decoded = decode(&record, &DecodeOptions::new("prod", Mapping::default()), NOW.parse().unwrap());
        let Decoded::Event { mut event, scope } = decoded else { panic!("{decoded:?}") };
        open.admit(&mut event, &scope, &Identity::default(), NOW.parse().unwrap()).unwrap_err();
        assert_eq!(head_of(&mut event).unwrap().0.source, recorded);
    }
}

#[test]
fn a_rule_allows_its_verbs_from_its_sources_on_its_workloads_and_nothing_else() {
    let access = access("[[allow]]\nverbs = [\"request\"]\nsources = [\"/ci/*\"]\nnamespaces = [\"shop\"]");
    assert!(admitted(&access, &request("/ci/shop", NOW).to_record("k")).is_ok());
    assert_eq!(admitted(&access, &request("/else", NOW).to_record("k")), Err("not-allowed"));
    assert_eq!(admitted(&access, &verb("approve", "prod/shop/Deployment/web").to_record("k")), Err("not-allowed"));
}

#[test]
fn a_rule_for_some_workloads_allows_no_wider_scope() {
    let of_shop = access("[[allow]]\nnamespaces = [\"shop\"]");
    let of_web = access("[[allow]]\nworkloads = [\"web\"]");
    let of_all = access("[[allow]]");
    for (scope, expected) in [
        ("prod/shop/Deployment/web", [true, true, true]),
        ("prod/shop/Deployment/api", [true, false, true]),
        ("prod/other/Deployment/web", [false, true, true]),
        ("prod/shop", [true, false, true]),
        ("prod", [false, false, true]),
    ] {
        let record = verb("freeze", scope).to_record("k");
        assert_eq!([&of_shop, &of_web, &of_all].map(|rules| admitted(rules, &record).is_ok()), expected, "{scope}");
    }
}

#[test]
fn a_signed_event_is_of_its_key_alone() {
    let access = access("[[allow]]\nkeys = [\"ci\"]");
    let event = request("/ci", NOW);
    assert_eq!(admitted(&access, &event.to_record("k")), Err("not-allowed"), "unsigned");
    assert_eq!(admitted(&access, &signed_record(&event, "ours.pem")), Ok("/ci#key=ci".to_owned()));
    assert_eq!(admitted(&access, &signed_record(&event, "theirs.pem")), Err("identity"), "another key");

    // Headers outside of the envelope count for nothing.
    let mut with_headers = signed_record(&event, "ours.pem");
    with_headers
        .headers
        .extend(request("/else", NOW).to_record("k").headers.into_iter().filter(|(name, _)| name != "content-type"));
    assert_eq!(admitted(&access, &with_headers), Ok("/ci#key=ci".to_owned()));

    // One changed byte of the payload.
    let changed = signed(&request("/ci2", NOW), &SigningKey::read(&key_file("ours.pem")).unwrap()).unwrap();
    let mut forged: serde_json::Value =
        serde_json::from_slice(signed_record(&event, "ours.pem").value.as_deref().unwrap()).unwrap();
    forged["payload"] = serde_json::from_str::<serde_json::Value>(&changed).unwrap()["payload"].clone();
    let mut record = signed_record(&event, "ours.pem");
    record.value = Some(forged.to_string().into_bytes());
    assert_eq!(admitted(&access, &record), Err("identity"), "changed");
}

#[test]
fn a_posted_event_is_of_the_user_of_its_stamp_over_all_of_it() {
    let access = access("[[allow]]\nusers = [\"jane*\"]");
    let record = request("/cli", NOW).to_record("k");
    let posted = access.stamp(record.clone(), "jane@example.com", "10.0.0.7").unwrap();
    assert_eq!(admitted(&access, &posted), Ok("/cli#user=jane@example.com".to_owned()));
    assert_eq!(access.open(&posted).1.from.as_deref(), Some("10.0.0.7"));
    let bob = access.stamp(record.clone(), "bob", "10.0.0.7").unwrap();
    assert_eq!(admitted(&access, &bob), Err("not-allowed"));

    let change = |name: &str, value: &str| {
        let mut changed = posted.clone();
        changed
            .headers
            .iter_mut()
            .filter(|(header, _)| header == name)
            .for_each(|(_, old)| *old = value.as_bytes().to_vec());
        changed
    };
    for forged in [
        change("bellwether-user", "jane"),
        change("bellwether-from", "10.0.0.8"),
        change("bellwether-stamp", "AAAA"),
        change("ce_source", "/else"),
        EventRecord {
            headers: [record.headers, vec![("bellwether-user".to_owned(), b"jane".to_vec())]].concat(),
            ..posted.clone()
        },
    ] {
        assert_eq!(admitted(&access, &forged), Err("identity"), "{forged:?}");
    }
    let other_key = StampKey::of(&SecretString::from("t".repeat(32))).unwrap();
    assert_eq!(admitted(&access, &other_key.stamp(posted, "jane", "10.0.0.7")), Err("identity"));
}

#[test]
fn an_event_that_may_have_been_forgotten_as_seen_is_refused() {
    let access = access("");
    assert!(admitted(&access, &request("/ci", "2026-11-23T12:00:00Z").to_record("k")).is_ok());
    assert_eq!(admitted(&access, &request("/ci", "2026-11-22T12:00:00Z").to_record("k")), Err("old"));
    let replayed = signed_record(&request("/ci", "2026-11-01T12:00:00Z"), "ours.pem");
    assert_eq!(admitted(&access, &replayed), Err("old"));
    let mut timeless = request("/ci", NOW);
    timeless.time = None;
    timeless.data["context"]["timestamp"] = serde_json::Value::Null;
    assert_eq!(admitted(&access, &signed_record(&timeless, "ours.pem")), Err("timeless"));
}

#[test]
fn a_rule_with_an_unknown_verb_or_key_is_a_problem_of_the_configuration() {
    let options: Options = toml::from_str("[[allow]]\nverbs = [\"aprove\"]\nkeys = [\"qa\"]").unwrap();
    let paths: Vec<String> = options.problems().into_iter().map(|(path, _)| path.join(".")).collect();
    assert_eq!(paths, ["allow.0.verbs", "allow.0.keys"]);
}
