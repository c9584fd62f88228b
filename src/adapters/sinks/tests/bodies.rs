//! The bodies of all providers: their form for one notification, and the documented limits for hostile texts.

use expect_test::expect_file;
use proptest::prelude::*;

use super::*;

const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn each_provider_words_a_notification_in_its_form() {
    let mut page = String::new();
    for (provider, sink) in sinks_at(NOBODY, "1s") {
        for change in [IncidentChange::Open, IncidentChange::Resolve] {
            let told = notification(change, "error-rate 5 % > 1 %");
            let (body, _) = body_of(&sink, &effect("prod/shop/Deployment/web", &told), &told);
            page += &format!("{provider}, {change:?}:\n{body:#}\n\n");
        }
    }
    expect_file!["bodies.txt"].assert_eq(&page.replace(MARK, "(secret)"));
}

/// Texts with markup, mentions, control characters and characters of every size.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("@everyone <@1> <@&2> <#3> <!channel> <!here|x> <https://evil.example|ok> <at>all</at>".to_owned()),
        Just("[click](https://evil.example) **b** `c` ```d``` ~~e~~ ||f|| # g\n> h".to_owned()),
        Just("<b>html</b> &amp; {{DATE(2026-01-01)}} ${x} \"quoted\" \\ back".to_owned()),
        Just("\u{0}\u{1b}[31m\u{7}\r\n\t\u{202e}desrever\u{2066}\u{feff}\u{2028}".to_owned()),
        (any::<char>(), 1..6000_usize).prop_map(|(c, n)| c.to_string().repeat(n)),
        (prop_oneof![Just('&'), Just('<'), Just('`'), Just('*'), Just('"'), Just('\\'), Just('🔥')], 1..6000_usize)
            .prop_map(|(c, n)| c.to_string().repeat(n)),
        ".*",
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

/// Returns all texts of a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(map) => map.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn utf16(value: &Value) -> usize {
    text(value).encode_utf16().count()
}

fn check_slack(body: &Value) {
    let blocks = body["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50 && utf16(&body["text"]) <= 4000);
    for block in blocks {
        let (shown, most) = match text(&block["type"]) {
            "header" => (&block["text"]["text"], 150),
            "section" => (&block["text"]["text"], 3000),
            "context" => (&block["elements"][0]["text"], 3000),
            other => panic!("{other}"),
        };
        assert!((1..=most).contains(&utf16(shown)), "{block}");
        // A header is plain text; in the others every `<` and every `&` without an entity would be markup.
        if text(&block["type"]) != "header" {
            assert!(!text(shown).contains(['<', '>']), "{block}");
            for (at, _) in text(shown).match_indices('&') {
                assert!(
                    ["&amp;", "&lt;", "&gt;"].iter().any(|entity| text(shown)[at..].starts_with(entity)),
                    "{block}"
                );
            }
        }
    }
}

fn check_discord(body: &Value) {
    assert_eq!(body["allowed_mentions"], serde_json::json!({ "parse": [] }));
    assert!((1..=2000).contains(&utf16(&body["content"])));
    let embed = &body["embeds"][0];
    let (description, footer) = (utf16(&embed["description"]), utf16(&embed["footer"]["text"]));
    let mut sum = description + footer;
    assert!(description <= 4096 && footer <= 2048);
    for field in embed["fields"].as_array().unwrap() {
        let (name, value) = (utf16(&field["name"]), utf16(&field["value"]));
        assert!((1..=256).contains(&name) && (1..=1024).contains(&value), "{field}");
        sum += name + value;
    }
    assert!(sum <= 6000, "{sum}");
    let command = text(&embed["fields"][1]["value"]);
    assert_eq!(command.matches('`').count(), 6, "nothing ends the block of code early: {command}");
    for shown in [&body["content"], &embed["description"]] {
        for (at, c) in text(shown).char_indices().filter(|(_, c)| "<@[*`".contains(*c)) {
            assert!(text(shown)[..at].ends_with('\\'), "{c} at {at} of {shown}");
        }
    }
}

fn check_teams(body: &Value, bytes: usize) {
    assert!(bytes <= 28_000, "{bytes}");
    let card = &body["attachments"][0]["content"];
    for block in card["body"].as_array().unwrap() {
        assert_eq!(block["type"], "RichTextBlock", "a TextBlock would format Markdown");
    }
    assert!(card["msteams"]["entities"].is_null(), "without an entity there is no mention");
    assert!(texts(body).iter().all(|text| !text.contains("](")), "{body}");
}

fn check_pagerduty(body: &Value, bytes: usize) {
    assert!(bytes <= 512 * 1024);
    assert!((1..=255).contains(&utf16(&body["dedup_key"])));
    if body["event_action"] == "trigger" {
        assert!((1..=1024).contains(&utf16(&body["payload"]["summary"])));
        assert!(["critical", "error", "warning", "info"].contains(&text(&body["payload"]["severity"])));
        assert!(!text(&body["payload"]["source"]).is_empty());
    }
}

fn check_opsgenie(body: &Value) {
    if body["message"].is_null() {
        assert!(utf16(&body["note"]) <= 25_000 && utf16(&body["source"]) <= 100);
        return;
    }
    assert!((1..=130).contains(&utf16(&body["message"])));
    assert!((1..=512).contains(&utf16(&body["alias"])) && utf16(&body["entity"]) <= 512);
    assert!(utf16(&body["description"]) <= 15_000);
    let details = body["details"].as_object().unwrap();
    assert!(details.iter().map(|(key, value)| key.len() + utf16(value)).sum::<usize>() <= 8000);
    assert!(!text(&body["message"]).contains(['<', '>']) && !text(&body["description"]).contains(['<', '>']), "{body}");
}

fn check_alertmanager(body: &Value, change: IncidentChange) {
    let [alert] = body.as_array().unwrap().as_slice() else { panic!("{body}") };
    let time = |key: &str| text(&alert[key]).parse::<Timestamp>().unwrap();
    match change {
        IncidentChange::Open => assert!(time("startsAt") < time("endsAt")),
        IncidentChange::Resolve => assert!(alert["startsAt"].is_null() && time("endsAt").as_second() == 1_767_225_600),
    }
    assert!(alert["annotations"].as_object().unwrap().values().all(|text| utf16(text) <= 4096));
    let labels = alert["labels"].as_object().unwrap();
    assert_eq!(
        labels.keys().map(String::as_str).collect::<Vec<_>>(),
        ["alertname", "cluster", "kind", "namespace", "rollout", "severity", "workload"]
    );
}

fn check_http(body: &Value, bytes: usize) {
    assert!(bytes <= 20_000, "{bytes}");
    assert_eq!(body["version"], 1);
}

fn check_otlp(body: &Value) {
    let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!((utf16(&span["traceId"]), utf16(&span["spanId"])), (32, 16));
    for attribute in span["attributes"].as_array().unwrap() {
        assert!((1..=2000).contains(&utf16(&attribute["value"]["stringValue"])), "{attribute}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_text_breaks_the_limits_or_the_form_of_a_service(
        words in hostile(),
        name in "[a-z]([-a-z0-9]{0,240}[a-z0-9])?",
        opens in any::<bool>(),
        has_command in any::<bool>(),
    ) {
        let change = if opens { IncidentChange::Open } else { IncidentChange::Resolve };
        let mut told = notification(change, &words);
        told.key = RolloutId(format!("{name}-0123456789"));
        let about = effect(&format!("prod/shop/Deployment/{name}"), &told);
        for (provider, sink) in sinks_at(NOBODY, "1s") {
            // The commands are Bellwether's own; only Discord's check looks for one.
            if let Some(message) = told.message.as_mut().filter(|_| !has_command && provider != "discord") {
                message.command = None;
            } else if let Some(message) = told.message.as_mut() {
                message.command = Some(format!("bellwether why {words}"));
            }
            let (body, bytes) = body_of(&sink, &about, &told);
            let is_control = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
            prop_assert!(texts(&body).iter().all(|text| !text.contains(is_control)), "{provider}: {body}");
            match provider {
                "slack" => check_slack(&body),
                "discord" => check_discord(&body),
                "teams" => check_teams(&body, bytes),
                "pagerduty" => check_pagerduty(&body, bytes),
                "opsgenie" => check_opsgenie(&body),
                "alertmanager" => check_alertmanager(&body, change),
                "http" => check_http(&body, bytes),
                "otlp" => check_otlp(&body),
                other => panic!("{other} has no limits here"),
            }
        }
    }
}

#[test]
fn a_text_that_fits_stays_whole_and_a_longer_one_ends_with_an_ellipsis() {
    use super::text::{escaped, fitted, json_bytes, plain};
    let rows = [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("a&b", 7, "a&amp;b"),
        ("a&bc", 7, "a&amp;…"),
        ("&&&", 6, "&amp;…"),
        ("&&&", 5, "…"),
        ("a\u{7}\nb", 3, "a b"),
        ("", 3, ""),
    ];
    for (text, max, expected) in rows {
        assert_eq!(fitted(text, max, super::text::utf16, escaped), expected, "{text:?} in {max}");
    }
    assert_eq!(fitted("\"\"\"\"", 7, json_bytes, plain), "\"\"…");
}

/// The ids of two rollouts of workloads with long names differ at their ends.
#[test]
fn the_key_of_an_incident_fits_and_stays_unique() {
    let long = |end: &str| RolloutId(format!("{}-{end}", "w".repeat(253)));
    let (one, other) = (incident_key(&long("0123456789"), 255), incident_key(&long("0123456780"), 255));
    assert!(one.len() <= 255 && one != other, "{one} {other}");
    assert_eq!(incident_key(&RolloutId("web-1".to_owned()), 255), "web-1");
}

/// The signatures were computed by `openssl dgst -sha256 -mac HMAC -macopt hexkey:KEY`. The first request is that of the
/// specification's libraries.
#[test]
fn a_webhooks_signature_is_that_of_openssl() {
    let rows = [
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "0123456789abcdef01234567",
            ("web-1.d7.hook", "1767225600", r#"{"version":1}"#),
            "v1,nYD0+aBEX0Cx0khiIn6MnK0jDQBmJP+VN03oYls/dqo=",
        ),
    ];
    for (secret, (id, seconds, body), expected) in rows {
        let key = super::http::signing_key(&SecretString::from(secret)).unwrap();
        assert_eq!(super::http::signature(&key, id, seconds, body.as_bytes()), expected);
    }
    for bad in ["short", "whsec_!!!", "whsec_c2hvcnQ="] {
        assert!(super::http::signing_key(&SecretString::from(bad)).is_err(), "{bad}");
    }
}
