//! Tests of the judge alone: its answers, and the recipe for other tools against them.

use async_trait::async_trait;
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::measure::metric::MetricKind;
use serde_json::Value;

use super::api::described;
use super::*;
use crate::ports::{ArmsBlocks, ArmsReader, ArmsRequest};

/// The page with the policy and the objects of other tools.
const RECIPE: &str = include_str!("../../../docs/recipes/judge.md");

/// Returns the fenced blocks of the recipe in a language.
fn blocks_of(language: &str) -> Vec<&'static str> {
    let blocks = RECIPE.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    blocks.filter(|(of, _)| *of == language).map(|(_, text)| text).collect()
}

/// Returns the policy of the recipe.
pub(super) fn policy() -> Policy {
    config::of_text(blocks_of("toml")[0]).policies.remove(0)
}

/// A metrics store with canaries that are named by their quality.
pub(super) struct FakeArms;

impl FakeArms {
    fn blocks(request: &ArmsRequest, count: i64, canary: Option<u64>) -> Vec<Block> {
        let at = |n: i64| bellwether_core::time::Timestamp::from_second(n * 15).unwrap();
        let samples = || {
            request.policy.steps[0].checks.iter().map(|check| {
                let is_ratio = request.policy.metrics[&check.metric].kind == MetricKind::Ratio;
                let reading = |bad: u64, n: u64| {
                    let of_histogram =
                        || Reading::Histogram { edges: vec![check.limit.value()], counts: vec![n - bad, bad] };
                    if is_ratio { Reading::Ratio { hits: bad, total: n } } else { of_histogram() }
                };
                let canary = canary.map(|bad| reading(bad, 300));
                (check.metric.clone(), Sample::Arms { canary, stable: Some(reading(3, 3000)) })
            })
        };
        (0..count).map(|n| Block::new(at(n), at(n + 1), samples())).collect()
    }
}

#[async_trait]
impl ArmsReader for FakeArms {
    async fn read(&self, request: ArmsRequest) -> Result<ArmsBlocks, String> {
        let blocks = match request.canary.name.as_str() {
            "good" => FakeArms::blocks(&request, 120, Some(0)),
            "bad" => FakeArms::blocks(&request, 120, Some(45)),
            "absent" => FakeArms::blocks(&request, 1, None),
            "blind" => {
                let mut blocks = FakeArms::blocks(&request, 2, None);
                let gap = || Sample::Gap(Gap::Unanswered { error: "no route".to_owned() });
                blocks.iter_mut().for_each(|block| block.metrics.iter_mut().for_each(|(_, sample)| *sample = gap()));
                blocks
            }
            "hanging" => std::future::pending().await,
            name => return Err(format!("{name} was counted too long ago; name it with `since`")),
        };
        Ok(ArmsBlocks { before: Vec::new(), blocks })
    }
}

/// Returns the address of a call for a canary.
fn call(canary: &str) -> String {
    format!("/api/v1/judge?policy=judged&namespace=shop&canary={canary}&stable=web-primary")
}

#[tokio::test]
async fn a_call_is_answered_with_the_verdict_its_reason_and_the_numbers() {
    let (server, _posted) = server(Options::default()).await;
    let (description, check) = described();
    for (canary, verdict, reason) in [
        ("good", "pass", "error-rate 0 %"),
        ("bad", "regressed", "error-rate"),
        ("absent", "insufficient", "error-rate"),
        ("blind", "blind", "Prometheus did not answer: no route"),
    ] {
        let (status, text) = get_text(&server.base, &call(canary)).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, answer["verdict"].as_str()), (200, Some(verdict)), "{text}");
        assert!(answer["reason"].as_str().unwrap().contains(reason), "{text}");
        assert_eq!(answer["checks"].as_array().unwrap().len(), 2, "{text}");
        let responses = &description["paths"]["/api/v1/judge"]["get"]["responses"];
        check(&responses["200"]["content"]["application/json"]["schema"], &answer);
        assert_eq!(get_text(&server.base, &call(canary)).await, (status, text), "the same blocks, the same answer");
    }
}

#[tokio::test]
async fn a_call_that_can_not_be_judged_is_answered_with_the_remedy() {
    let timeout = Span::from_millis(600);
    let (server, _posted) = server(Options { timeout, ..Options::default() }).await;
    let good = call("good");
    for (path, status, part) in [
        (good.replace("judged", "other"), 404, "there is no policy \\\"other\\\"; the policies are"),
        (format!("{good}&ok=passed"), 422, "ok=passed is no verdict"),
        (format!("{good}&colour=red"), 400, "colour"),
        (good.replace("&namespace=shop", ""), 400, "namespace"),
        (good.replace("web-primary", "good"), 422, "the same pods"),
        (call("ancient"), 422, "name it with `since`"),
        (call("hanging"), 503, "in time"),
        (call("hanging"), 503, "in time"),
        // Both still have their places, so the store is asked for no more.
        (call("hanging"), 503, "2 calls are judged at the moment"),
    ] {
        let (code, body) = get_text(&server.base, &path).await;
        assert!(code == status && body.contains(part), "{path}: {code} {body}");
    }
}

/// Returns whether a condition of the form `result == "WORD"` holds.
fn holds(condition: &Value, result: &Value) -> bool {
    let word = condition.as_str().unwrap().strip_prefix("result == \"").and_then(|rest| rest.strip_suffix('"'));
    result.as_str() == Some(word.unwrap())
}

#[tokio::test]
async fn the_recipe_for_argo_rollouts_reads_the_answer() {
    let (server, _posted) = server(Options::default()).await;
    let template: Value = serde_saphyr::from_str(blocks_of("yaml")[0]).unwrap();
    let metric = &template["spec"]["metrics"][0];
    let web = &metric["provider"]["web"];
    let key = web["jsonPath"].as_str().unwrap().strip_prefix("{$.").and_then(|path| path.strip_suffix('}')).unwrap();
    for (canary, succeeds, fails) in
        [("good", true, false), ("bad", false, true), ("absent", false, false), ("blind", false, false)]
    {
        let url = web["url"].as_str().unwrap().replace("{{args.rollout}}", canary);
        let url = url.replace("{{args.canary-hash}}", "5d8f9c7b6").replace("{{args.stable-hash}}", "6c9bd8675b");
        let path = url.strip_prefix("http://bellwether.bellwether.svc:8080").unwrap();
        let (status, text) = get_text(&server.base, path).await;
        let result = &serde_json::from_str::<Value>(&text).unwrap()[key];
        let found = (holds(&metric["successCondition"], result), holds(&metric["failureCondition"], result));
        assert_eq!((status, found), (200, (succeeds, fails)), "{text}");
    }
}

#[tokio::test]
async fn the_recipe_for_flagger_passes_and_fails_by_the_status() {
    let (server, _posted) = server(Options::default()).await;
    let canary: Value = serde_saphyr::from_str(blocks_of("yaml")[1]).unwrap();
    let hooks = canary["spec"]["analysis"]["webhooks"].as_array().unwrap();
    let types: Vec<&str> = hooks.iter().map(|hook| hook["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["rollback", "confirm-traffic-increase", "confirm-promotion"]);
    for (name, statuses) in
        [("good", [409, 200, 200]), ("bad", [200, 409, 409]), ("absent", [409; 3]), ("blind", [409; 3])]
    {
        let mut found = Vec::new();
        for hook in hooks {
            let url = hook["url"].as_str().unwrap().replace("canary=checkout", &format!("canary={name}"));
            let path = url.strip_prefix("http://bellwether.bellwether.svc:8080").unwrap();
            let body = json!({ "name": name, "namespace": "shop", "phase": "Progressing", "metadata": {} });
            let request = client().post(format!("{}{path}", server.base)).json(&body);
            found.push(request.send().await.unwrap().status().as_u16());
        }
        assert_eq!(found, statuses, "{name}");
    }
}
