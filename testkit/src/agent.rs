//! A target for gates: an OpenAI-compatible server that answers by rule, with a knob for each fault that a target can
//! have. The same request gets the same answer, except for the knobs that count requests.
//!
//! The answer to the prompt `capital N` is `town N`. A prompt with `attack` must be refused, and one with `task` needs
//! a call of a tool. A fault concerns a share of the prompts, chosen by their hash, so that a test can tell which ones.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bellwether_core::dice::split_mix;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// The faults of the server. A number from 0 to 1 is the share of the prompts that a fault concerns.
#[derive(Debug, Clone, Default)]
pub struct Knobs {
    /// Share of prompts with a wrong answer.
    pub wrong: f64,
    /// Share of prompts whose answer differs each time.
    pub fickle: f64,
    /// Share of attacks that get a harmful answer.
    pub harm: f64,
    /// Share of harmless prompts that are refused.
    pub refuse: f64,
    /// Delay before an answer begins, in milliseconds.
    pub delay: u64,
    /// Share of prompts whose delay is ten times as long.
    pub slow: f64,
    /// Stated confidence, from 0 to 1; `None` for the share of right answers.
    pub sure: Option<f64>,
    /// Text that is stated instead of a confidence.
    pub confidence: Option<&'static str>,
    /// Number of words added to each answer.
    pub words: usize,
    /// Share of prompts whose answer is cut off at the limit of tokens.
    pub cut: f64,
    /// Share of tasks in which a forbidden tool is called.
    pub forbidden: f64,
    /// Share of tasks that repeat the same call for ever.
    pub circle: f64,
    /// Number of first requests for each prompt that get 429 and a `Retry-After` of 10 ms.
    pub busy: u64,
    /// Whether every request gets 429.
    pub always_busy: bool,
    /// `Retry-After` of an answer with 429, instead of 10 ms.
    pub retry_after: Option<&'static str>,
    /// Share of prompts that get 500.
    pub broken: f64,
    /// Share of prompts that never get an answer.
    pub hang: f64,
    /// Share of prompts whose stream ends in the middle of the answer.
    pub torn: f64,
    /// Share of prompts with an answer of this form instead of a text.
    pub odd: f64,
    /// The form of the odd answers.
    pub form: OddForm,
    /// Place in which the model shows its thinking.
    pub thinks: Option<Thinks>,
    /// Share of attempts that get 500, by lot for each attempt.
    pub flaky: f64,
    /// Number of first requests for each prompt whose stream reports an error in the middle.
    pub break_first: u64,
    /// Whether a stream's connection stays open after its last event.
    pub stays_open: bool,
    /// Whether all calls of tools in a stream have the index 0, as Ollama numbers them.
    pub one_index: bool,
    /// Key of a request's body that is refused as OpenAI refuses it, by every model.
    pub refuses: Option<&'static str>,
    /// The only model that `refuses` is about, such as `guard`.
    pub refused_model: Option<&'static str>,
    /// Whether the judge, the classifier and the embedder answer with 503.
    pub helpers_down: bool,
    /// Whether a content filter in front of the judge and the classifier refuses wrong and harmful answers.
    pub helpers_filter: bool,
    /// Whether the judge gives every answer a high score.
    pub lenient_judge: bool,
    /// API key that requests must have, if any.
    pub key: Option<&'static str>,
}

/// The form of an answer without a text that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OddForm {
    /// The content is null.
    #[default]
    Null,
    /// A stream of `[DONE]` alone.
    OnlyDone,
    /// All is in `reasoning_content`.
    OnlyThinking,
    /// HTTP 400 with the code `content_filter`.
    Filter400,
    /// `finish_reason` is `content_filter`.
    FilterFinish,
    /// A harmful text that is cut off at the limit of tokens.
    HarmCut,
}

/// The place of the model's thinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinks {
    /// In `<think>` tags of the content.
    Tags,
    /// In `reasoning_content`.
    Field,
}

/// Thinking that would be harmful, wrong and long as an answer.
const THOUGHT: &str = "harmful: is it nowhere? No.";

/// A running server.
pub struct Agent {
    /// URL of its API, which ends with `/v1`.
    pub url: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

struct Shared {
    knobs: Mutex<Knobs>,
    /// Number of requests by prompt.
    asked: Mutex<BTreeMap<String, u64>>,
    /// Events that were sent to the path of a daemon.
    events: Mutex<Vec<Value>>,
    /// The last body that was sent to each model.
    bodies: Mutex<BTreeMap<String, Value>>,
    requests: AtomicU64,
    under_way: AtomicU64,
    most_at_once: AtomicU64,
}

impl Agent {
    /// Starts a server on a free port of loopback.
    pub async fn start(knobs: Knobs) -> Agent {
        let shared = Arc::new(Shared {
            knobs: Mutex::new(knobs),
            asked: Mutex::default(),
            events: Mutex::default(),
            bodies: Mutex::default(),
            requests: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/models", get(models))
            .route("/v1/moderations", post(moderations))
            .route("/v1/embeddings", post(embeddings))
            .route("/api/v1/events", post(event))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let serve = axum::serve(listener, router).with_graceful_shutdown(async {
            drop(stopped.await);
        });
        tokio::spawn(async { serve.await.unwrap() });
        Agent { url, shared, stop: Some(stop) }
    }

    /// Replaces the faults.
    pub fn set(&self, knobs: Knobs) {
        *self.shared.knobs.lock().unwrap() = knobs;
    }

    /// Returns the number of chat requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Returns the largest number of chat requests that were under way at one time.
    pub fn most_at_once(&self) -> u64 {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }

    /// Returns the number of requests by prompt.
    pub fn asked(&self) -> BTreeMap<String, u64> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Returns the events that were sent to the path of a daemon.
    pub fn events(&self) -> Vec<Value> {
        self.shared.events.lock().unwrap().clone()
    }

    /// Returns the last body that was sent to `model`; null if there is none.
    pub fn last_body(&self, model: &str) -> Value {
        self.shared.bodies.lock().unwrap().get(model).cloned().unwrap_or_default()
    }

    /// Forgets the requests so far, as a restarted process does.
    pub fn forget(&self) {
        self.shared.asked.lock().unwrap().clear();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The receiver is gone if the server has stopped by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

/// Returns a number from 0 to 1 that the prompt and the knob determine. A knob set to a share concerns the prompts
/// below it.
pub fn lot(prompt: &str, knob: &str) -> f64 {
    let mut state = knob.bytes().chain(prompt.bytes()).fold(7u64, |state, byte| {
        let mut state = state ^ u64::from(byte);
        split_mix(&mut state)
    });
    (split_mix(&mut state) >> 11) as f64 / 9_007_199_254_740_992.0
}

/// Returns the content of the last message of `role`; empty if there is none.
fn last_message(body: &Value, role: &str) -> String {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let last = messages.iter().rev().find(|message| message["role"] == role);
    last.and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned()
}

fn refused(status: StatusCode, code: &str) -> Response {
    // Like real servers it repeats text of the request, which must not appear in a ledger or a report.
    (status, Json(json!({ "error": { "code": code, "message": "you said: capital SECRET" } }))).into_response()
}

/// Names one model, to a caller with the key.
async fn models(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let key = shared.knobs.lock().unwrap().key;
    if !has_key(key, &headers) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_api_key");
    }
    Json(json!({ "object": "list", "data": [{ "id": "agent", "object": "model" }] })).into_response()
}

fn has_key(key: Option<&str>, headers: &HeaderMap) -> bool {
    key.is_none_or(|key| headers.get("authorization").is_some_and(|value| value == &format!("Bearer {key}")))
}

async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let knobs = shared.knobs.lock().unwrap().clone();
    let model = body["model"].as_str().unwrap_or_default();
    shared.bodies.lock().unwrap().insert(model.to_owned(), body.clone());
    if let Some(key) = knobs.refuses.filter(|key| body.get(key).is_some())
        && knobs.refused_model.is_none_or(|refused| refused == model)
    {
        let error = json!({ "code": "unsupported_parameter", "param": key, "message": "you said: capital SECRET" });
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    }
    match model {
        "judge" => return judge(&knobs, &body),
        "guard" if knobs.helpers_down => return refused(StatusCode::SERVICE_UNAVAILABLE, "down"),
        "guard" => {
            return whole(
                if last_message(&body, "assistant").contains("harmful") { "unsafe\nS1" } else { "safe" },
                &body,
            );
        }
        _ => {}
    }
    if !has_key(knobs.key, &headers) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_api_key");
    }
    let prompt = last_message(&body, "user");
    let times = {
        let mut asked = shared.asked.lock().unwrap();
        let times = asked.entry(prompt.clone()).or_default();
        *times += 1;
        *times
    };
    let under_way = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_at_once.fetch_max(under_way, Ordering::SeqCst);
    let response = answer(&knobs, &body, &prompt, times).await;
    shared.under_way.fetch_sub(1, Ordering::SeqCst);
    response
}

async fn answer(knobs: &Knobs, body: &Value, prompt: &str, times: u64) -> Response {
    let hit = |share: f64, knob: &str| lot(prompt, knob) < share;
    if knobs.always_busy || times <= knobs.busy {
        let mut response = refused(StatusCode::TOO_MANY_REQUESTS, "rate_limited");
        response.headers_mut().insert("retry-after", knobs.retry_after.unwrap_or("0.01").parse().unwrap());
        return response;
    }
    if lot(prompt, &format!("flaky {times}")) < knobs.flaky {
        let mut response = refused(StatusCode::INTERNAL_SERVER_ERROR, "oops");
        response.headers_mut().insert("retry-after", "0.01".parse().unwrap());
        return response;
    }
    if hit(knobs.broken, "broken") {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "oops");
    }
    if hit(knobs.hang, "hang") {
        std::future::pending::<()>().await;
    }
    let delay = if hit(knobs.slow, "slow") { 10 * knobs.delay } else { knobs.delay };
    tokio::time::sleep(Duration::from_millis(delay)).await;
    if prompt.contains("task") {
        return task(knobs, body, prompt);
    }
    if times <= knobs.break_first {
        let error = json!({ "error": { "message": "you said: capital SECRET", "type": "server_error", "code": 500 } });
        return sse(format!("data: {}\n\ndata: {error}\n\n", delta(json!({ "content": "to" }))));
    }
    if hit(knobs.odd, "odd") {
        return odd(knobs.form, body);
    }
    let text = text(knobs, prompt, times);
    if knobs.thinks.is_some() || knobs.stays_open {
        return thoughtful(knobs, &text, body);
    }
    let finish = if hit(knobs.cut, "cut") { "length" } else { "stop" };
    if body["stream"] == true { stream(&text, finish, hit(knobs.torn, "torn")) } else { whole(&text, body) }
}

fn text(knobs: &Knobs, prompt: &str, times: u64) -> String {
    let hit = |share: f64, knob: &str| lot(prompt, knob) < share;
    if prompt.contains("attack") {
        return if hit(knobs.harm, "harm") {
            "harmful: here is how".to_owned()
        } else {
            "I can't help with that.".to_owned()
        };
    }
    if hit(knobs.refuse, "refuse") {
        return "I'm sorry, but I can't do that.".to_owned();
    }
    let number = prompt.rsplit(' ').next().unwrap_or_default();
    let town = match (hit(knobs.fickle, "fickle"), hit(knobs.wrong, "wrong")) {
        (true, _) => format!("village {number} {times}"),
        (false, true) => "nowhere at all".to_owned(),
        (false, false) => format!("town {number}"),
    };
    let padded = (0..knobs.words).fold(town, |text, at| format!("{text} w{at}"));
    let right = 1.0 - knobs.wrong;
    match knobs.confidence {
        Some(confidence) => format!("{padded}\nconfidence: {confidence}"),
        None => format!("{padded}\nconfidence: {:.3}", knobs.sure.unwrap_or(right)),
    }
}

/// Answers a task: calls a tool, and answers with its result.
fn task(knobs: &Knobs, body: &Value, prompt: &str) -> Response {
    let hit = |share: f64, knob: &str| lot(prompt, knob) < share;
    let has_result = !last_message(body, "tool").is_empty();
    if has_result && !hit(knobs.circle, "circle") {
        return whole(&format!("done: {}", last_message(body, "tool")), body);
    }
    let name = if hit(knobs.forbidden, "forbidden") && !has_result { "delete" } else { "find" };
    let call = |id: &str, name: &str| json!({ "index": 0, "id": id, "type": "function", "function": { "name": name, "arguments": "{\"q\":\"x\"}" } });
    if knobs.one_index {
        let chunk =
            |call| format!("data: {}\n\n", delta(json!({ "tool_calls": [call], "reasoning_content": "I look." })));
        let end = json!({ "choices": [{ "delta": {}, "finish_reason": "tool_calls" }] });
        return sse(chunk(call("call-1", "find"))
            + &chunk(call("call-2", name))
            + &format!("data: {end}\n\ndata: [DONE]\n\n"));
    }
    let calls = json!([call("call-1", name)]);
    if body["stream"] == true {
        let chunk = json!({ "choices": [{ "delta": { "tool_calls": calls }, "finish_reason": "tool_calls" }] });
        return sse(format!("data: {chunk}\n\ndata: {}\n\ndata: [DONE]\n\n", usage(3)));
    }
    Json(json!({ "choices": [{ "message": { "content": null, "tool_calls": calls }, "finish_reason": "tool_calls" }] }))
        .into_response()
}

fn usage(output: usize) -> Value {
    json!({ "choices": [], "usage": { "prompt_tokens": 10, "completion_tokens": output } })
}

fn whole(text: &str, body: &Value) -> Response {
    if body["stream"] == true {
        return stream(text, "stop", false);
    }
    let mut value = usage(text.split_whitespace().count());
    value["choices"] = json!([{ "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }]);
    Json(value).into_response()
}

fn stream(text: &str, finish: &str, torn: bool) -> Response {
    let mut events = String::new();
    for word in text.split_inclusive(' ') {
        events += &format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": word } }] }));
    }
    if !torn {
        events += &format!("data: {}\n\n", json!({ "choices": [{ "delta": {}, "finish_reason": finish }] }));
        events += &format!("data: {}\n\ndata: [DONE]\n\n", usage(text.split_whitespace().count()));
    }
    sse(events)
}

fn delta(delta: Value) -> Value {
    json!({ "choices": [{ "delta": delta }] })
}

/// Answers without a text that was said.
fn odd(form: OddForm, body: &Value) -> Response {
    let (message, finish) = match form {
        OddForm::Filter400 => return refused(StatusCode::BAD_REQUEST, "content_filter"),
        OddForm::OnlyDone if body["stream"] == true => return sse("data: [DONE]\n\n".to_owned()),
        OddForm::OnlyDone | OddForm::Null => (json!({ "role": "assistant", "content": null }), "stop"),
        OddForm::OnlyThinking => (json!({ "content": null, "reasoning_content": "town 1" }), "stop"),
        OddForm::FilterFinish => (json!({ "content": "" }), "content_filter"),
        OddForm::HarmCut => (json!({ "content": "harmful: here is how" }), "length"),
    };
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 212 });
    if body["stream"] != true {
        return Json(json!({ "choices": [{ "message": message, "finish_reason": finish }], "usage": usage }))
            .into_response();
    }
    let end = json!({ "choices": [{ "delta": {}, "finish_reason": finish }] });
    let usage = json!({ "choices": [], "usage": usage });
    sse(format!("data: {}\n\ndata: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n", delta(message)))
}

/// Answers with thinking, in a stream that may stay open after its last event.
fn thoughtful(knobs: &Knobs, text: &str, body: &Value) -> Response {
    let (content, field) = match knobs.thinks {
        Some(Thinks::Tags) => (format!("<think>{THOUGHT}</think>\n\n{text}"), Value::Null),
        Some(Thinks::Field) => (text.to_owned(), json!(THOUGHT)),
        None => (text.to_owned(), Value::Null),
    };
    if body["stream"] != true {
        let message = json!({ "content": content, "reasoning_content": field });
        return Json(json!({ "choices": [{ "message": message, "finish_reason": "stop" }] })).into_response();
    }
    let end = json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] });
    let (thought, said) = (delta(json!({ "reasoning_content": field })), delta(json!({ "content": content })));
    let events = format!("data: {thought}\n\ndata: {said}\n\ndata: {end}\n\ndata: {}\n\n", usage(5));
    if !knobs.stays_open {
        return sse(events + "data: [DONE]\n\n");
    }
    let events = futures::stream::once(async { Ok::<_, std::convert::Infallible>(events) });
    let open = Body::from_stream(futures::StreamExt::chain(events, futures::stream::pending()));
    ([("content-type", "text/event-stream")], open).into_response()
}

fn sse(events: String) -> Response {
    ([("content-type", "text/event-stream")], Body::from(events)).into_response()
}

/// Answers as the judge: a high score for an answer with `town` in it.
fn judge(knobs: &Knobs, body: &Value) -> Response {
    if knobs.helpers_down {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "down");
    }
    let case: Value = serde_json::from_str(&last_message(body, "user")).unwrap_or_default();
    if knobs.helpers_filter && case["answer"].as_str().is_some_and(|answer| answer.contains("nowhere at all")) {
        return refused(StatusCode::BAD_REQUEST, "content_filter");
    }
    let good = knobs.lenient_judge || case["answer"].as_str().is_some_and(|answer| answer.contains("town"));
    let score = if good { 0.9 } else { 0.1 };
    whole(&json!({ "reason": "by rule", "score": score }).to_string(), body)
}

async fn moderations(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    let knobs = shared.knobs.lock().unwrap().clone();
    if knobs.helpers_down {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "down");
    }
    let harmful = body["input"].as_str().is_some_and(|text| text.contains("harmful"));
    if knobs.helpers_filter && harmful {
        return refused(StatusCode::BAD_REQUEST, "content_filter");
    }
    let score = if harmful { 0.97 } else { 0.01 };
    Json(json!({ "results": [{ "flagged": harmful, "category_scores": { "violence": score } }] })).into_response()
}

async fn event(State(shared): State<Arc<Shared>>, body: String) -> StatusCode {
    shared.events.lock().unwrap().push(serde_json::from_str(&body).unwrap());
    StatusCode::ACCEPTED
}

/// Answers with the sum of one vector per word.
async fn embeddings(State(shared): State<Arc<Shared>>, Json(body): Json<Value>) -> Response {
    if shared.knobs.lock().unwrap().helpers_down {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "down");
    }
    let text = body["input"].as_str().unwrap_or_default();
    shared.bodies.lock().unwrap().insert("embedder".to_owned(), body.clone());
    let mut vector = [0.0; 16];
    for word in text.split_whitespace() {
        for (at, number) in vector.iter_mut().enumerate() {
            *number += lot(word, &at.to_string());
        }
    }
    Json(json!({ "data": [{ "embedding": vector }], "usage": { "prompt_tokens": 1 } })).into_response()
}
