//! The description of the API against the answers of the server, the pages of the list, and the stream of a rollout.

use bellwether_core::time::Timestamp;
use serde_json::Value;

use super::*;
use crate::http::console::tests::{freeze, many, report, rollout};

/// Returns the description, and a check of an answer by one of its schemas.
pub(super) fn described() -> (Value, impl Fn(&Value, &Value)) {
    let description: Value = serde_json::from_str(&description()).unwrap();
    let components = description["components"].clone();
    let check = move |schema: &Value, answer: &Value| {
        let mut schema = schema.clone();
        schema["components"] = components.clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(answer).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {answer}");
    };
    (description, check)
}

#[tokio::test]
async fn every_answer_is_as_the_description_says() {
    let mut view = many(16);
    let full = rollout(|shown| {
        shown.held = Some("a person paused it".to_owned());
        shown.ended = Some(shown.started);
        shown.outcome = Some("promoted".to_owned());
        shown.age = Some(Span::from_millis(1500));
    });
    view.rollouts.insert(full.id.clone(), full.into());
    view.answers.insert("digest".to_owned(), answer_view());
    view.reports.insert("prod/shop/Deployment/web".to_owned(), [report()].into());
    view.freezes = [(0, [freeze("prod", None), freeze("prod/shop", Some(Timestamp::MAX))].into())].into();
    let options = Options { events: true, ..Options::default() };
    let (server, _posted) = server_of(options, None, view, ViewAges::default()).await;
    let (description, check) = described();
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut checked = 0;
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (known, id) in [("known", "web-1"), ("unknown", "none")] {
            let Some(operation) = operations.get("get") else { continue };
            let path = path.replace("{id}", id);
            let answer = client().get(format!("{}{path}", server.base)).send().await.unwrap();
            let status = answer.status().as_u16().to_string();
            let response = &operation["responses"][&status];
            assert!(!response.is_null(), "{path} answers {status}, which is not described");
            let kind = answer.headers()["content-type"].to_str().unwrap().split(';').next().unwrap().to_owned();
            let schema = &response["content"][&kind]["schema"];
            assert!(!schema.is_null(), "{path} answers {status} as {kind}, which is not described ({known})");
            if kind == "application/json" {
                check(schema, &answer.json().await.unwrap());
                checked += 1;
            }
        }
    }
    assert!(checked >= 10, "only {checked} answers");
    let answer = client().post(format!("{}/api/v1/events", server.base)).body("{").send().await.unwrap();
    let responses = &description["paths"]["/api/v1/events"]["post"]["responses"];
    assert!(!responses[answer.status().as_u16().to_string()].is_null(), "{}", answer.status());
}

#[test]
#[should_panic(expected = "colour")]
fn a_key_that_is_not_described_is_found() {
    let (_, check) = described();
    let mut view = serde_json::to_value(rollout(|_| {})).unwrap();
    view["colour"] = "red".into();
    check(&json!({ "$ref": "#/components/schemas/Rollout" }), &view);
}

#[tokio::test]
async fn the_pages_of_the_list_have_each_rollout_once_and_in_order() {
    let (server, _posted) = server_of(Options::default(), None, many(250), ViewAges::default()).await;
    let (mut ids, mut path) = (Vec::new(), "/api/v1/rollouts?namespace=shop-3&limit=10".to_owned());
    let mut pages = 0;
    loop {
        let answer = client().get(format!("{}{path}", server.base)).send().await.unwrap();
        let next = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let rows: Vec<RolloutView> = answer.json().await.unwrap();
        assert!(rows.len() <= 10 && rows.iter().all(|row| row.workload.contains("/shop-3/")));
        ids.extend(rows.into_iter().map(|row| row.id));
        pages += 1;
        let Some(next) = next else { break };
        path = next.strip_prefix('<').and_then(|next| next.strip_suffix(">; rel=\"next\"")).unwrap().to_owned();
    }
    assert_eq!((ids.len(), pages), (25, 3));
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    let (status, body) = get_text(&server.base, "/api/v1/rollouts?limit=0").await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn a_watched_rollout_is_told_at_once_after_each_change_and_no_more_after_its_end() {
    let of =
        |shown: RolloutView| StatusView { rollouts: [(shown.id.clone(), shown.into())].into(), ..Default::default() };
    let (server, _posted) = server_of(Options::default(), None, of(rollout(|_| {})), ViewAges::default()).await;
    let mut stream = client().get(format!("{}/api/v1/rollouts/web-1/watch", server.base)).send().await.unwrap();
    let mut text = String::new();
    let mut seen = Vec::new();
    for weight in [25, 50, 100] {
        while !text.contains("\n\n") {
            let next = tokio::time::timeout(std::time::Duration::from_secs(5), stream.chunk()).await.unwrap();
            text += std::str::from_utf8(&next.unwrap().unwrap()).unwrap();
        }
        let (event, rest) = text.split_once("\n\n").unwrap();
        let data = event.strip_prefix("event: rollout\ndata: ").unwrap_or_else(|| panic!("{event}"));
        let view: RolloutView = serde_json::from_str(data).unwrap();
        seen.push(view.weight);
        text = rest.to_owned();
        server.view.send_replace(of(rollout(|shown| {
            shown.weight = Weight::percent(if weight == 25 { 50 } else { 100 });
            shown.ended = (weight == 50).then_some(shown.since);
        })));
    }
    assert_eq!(seen, [25, 50, 100].map(Weight::percent));
    let end = tokio::time::timeout(std::time::Duration::from_secs(5), stream.chunk()).await.unwrap().unwrap();
    assert_eq!(end, None, "the rollout has ended");
    let (status, body) = get_text(&server.base, "/api/v1/rollouts/none/watch").await;
    assert!(status == 404 && body.contains("there is no rollout"), "{status}: {body}");
}
