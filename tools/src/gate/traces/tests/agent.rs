//! An agent that calls its tools inside: it answers with text, and exports the spans of the SDK for Python under the trace
//! of its request.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

/// The ids of the recorded exports.
pub(super) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub(super) const PARENT: &str = "b7ad6b7169203331";

pub(super) const BATCH: &[u8] = include_bytes!("../python-sdk/batch.pb.gz");
pub(super) const SINGLES: [&[u8]; 8] = [
    include_bytes!("../python-sdk/single-0.pb"),
    include_bytes!("../python-sdk/single-1.pb"),
    include_bytes!("../python-sdk/single-2.pb"),
    include_bytes!("../python-sdk/single-3.pb"),
    include_bytes!("../python-sdk/single-4.pb"),
    include_bytes!("../python-sdk/single-5.pb"),
    include_bytes!("../python-sdk/single-6.pb"),
    include_bytes!("../python-sdk/single-7.pb"),
];

/// The way in which the agent exports and behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// All spans before the answer.
    Good,
    /// All spans in reverse order, twice, among those of other traces, after the answer.
    Disorderly,
    /// No spans.
    Silent,
    /// All spans but the first one.
    Partial,
    /// Too many spans.
    Endless,
    /// A forbidden call besides, in every tenth task.
    Forbidden,
    /// A forbidden call in a first attempt that ends with an error.
    FirstFails,
    /// Spans of no call.
    CallsUntraced,
    /// A further call in the trace of the request before.
    Late,
}

struct Shared {
    habit: Habit,
    /// Address of the receiver; empty until it is known.
    receiver: Mutex<String>,
    /// Traces of the requests so far, with the ids of their parents.
    traces: Mutex<Vec<(String, String)>>,
    http: reqwest::Client,
}

/// A running agent.
pub(super) struct Agent {
    pub(super) url: String,
    shared: Arc<Shared>,
}

impl Agent {
    pub(super) async fn start(habit: Habit) -> Agent {
        crate::tls::install();
        let (receiver, traces, http) = (Mutex::default(), Mutex::default(), reqwest::Client::new());
        let shared = Arc::new(Shared { habit, receiver, traces, http });
        let router = Router::new().route("/v1/chat/completions", post(chat)).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Agent { url, shared }
    }

    /// Sets the URL to which the agent exports.
    pub(super) fn export_to(&self, url: &str) {
        url.clone_into(&mut self.shared.receiver.lock().unwrap());
    }

    /// Returns the number of requests so far.
    pub(super) fn requests(&self) -> usize {
        self.shared.traces.lock().unwrap().len()
    }
}

async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    let traceparent = headers.get("traceparent").unwrap().to_str().unwrap();
    let [version, trace, parent, flags] = traceparent.split('-').collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((version, trace.len(), parent.len(), flags), ("00", 32, 16, "01"));
    let (trace, parent) = (trace.to_owned(), parent.to_owned());
    let before = {
        let mut traces = shared.traces.lock().unwrap();
        let before = traces.last().cloned();
        traces.push((trace.clone(), parent.clone()));
        before
    };
    let messages = body["messages"].as_array().unwrap().clone();
    let prompt = messages.last().unwrap()["content"].as_str().unwrap().to_owned();
    let drop_call = export(&[call_span(&trace, "1111111111111111", "drop_customer")]);
    let real = |at: usize| with_ids(SINGLES[at], &trace, &parent);
    match shared.habit {
        Habit::Silent => {}
        Habit::Good | Habit::Late | Habit::Forbidden => {
            if let Some((trace, _)) = before.filter(|_| shared.habit == Habit::Late) {
                send(&shared, export(&[call_span(&trace, "2222222222222222", "drop_customer")]), false).await;
            }
            if shared.habit == Habit::Forbidden && prompt.ends_with('0') {
                send(&shared, drop_call, false).await;
            }
            for at in 0..SINGLES.len() {
                send(&shared, real(at), true).await;
            }
        }
        Habit::FirstFails => {
            let failed = messages.len() == 1 && !shared.traces.lock().unwrap().iter().any(|(_, id)| *id == prompt);
            if failed {
                shared.traces.lock().unwrap().push((String::new(), prompt));
                send(&shared, drop_call, false).await;
                return (StatusCode::INTERNAL_SERVER_ERROR, [("retry-after", "0.01")], "{}").into_response();
            }
            for at in 0..SINGLES.len() {
                send(&shared, real(at), true).await;
            }
        }
        Habit::Partial => {
            for at in 0..7 {
                send(&shared, real(at), true).await;
            }
        }
        Habit::CallsUntraced => send(&shared, real(7), true).await,
        Habit::Endless => {
            let span = |at: usize| call_span(&trace, &format!("{at:016x}"), "find_order");
            send(&shared, export(&(1..6_000).map(span).collect::<Vec<_>>()), false).await;
        }
        Habit::Disorderly => {
            let exports: Vec<Vec<u8>> = (0..SINGLES.len()).rev().map(real).collect();
            tokio::spawn(async move {
                for body in exports {
                    send(&shared, SINGLES[2].to_vec(), true).await;
                    send(&shared, body.clone(), true).await;
                    send(&shared, body, true).await;
                }
            });
        }
    }
    let text = format!("done: {prompt}");
    let message = json!({ "role": "assistant", "content": text });
    json!({ "choices": [{ "message": message, "finish_reason": "stop" }] }).to_string().into_response()
}

async fn send(shared: &Shared, body: Vec<u8>, protobuf: bool) {
    let url = shared.receiver.lock().unwrap().clone();
    let media_type = if protobuf { "application/x-protobuf" } else { "application/json" };
    let sent = shared.http.post(url).header("content-type", media_type).body(body).send().await;
    // The run may have ended in the meantime.
    drop(sent);
}

/// Returns a recorded export with other ids of the trace and of the parent of its first span, whose lengths are the same.
fn with_ids(recorded: &[u8], trace: &str, parent: &str) -> Vec<u8> {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let mut export = recorded.to_vec();
    for (old, new) in [(TRACE, trace), (PARENT, parent)] {
        let (old, new) = (bytes(old), bytes(new));
        for at in 0..export.len() - old.len() {
            if export[at..].starts_with(&old) {
                export[at..at + old.len()].copy_from_slice(&new);
            }
        }
    }
    export
}

/// Returns an export as JSON.
pub(super) fn export(spans: &[Value]) -> Vec<u8> {
    json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] }).to_string().into_bytes()
}

/// Returns the span of a call, as JSON.
pub(super) fn call_span(trace: &str, id: &str, tool: &str) -> Value {
    let attribute = |key: &str, text: &str| json!({ "key": key, "value": { "stringValue": text } });
    json!({ "traceId": trace, "spanId": id, "parentSpanId": "3333333333333333", "name": "call", "startTimeUnixNano": "1",
            "attributes": [
                attribute("gen_ai.operation.name", "execute_tool"),
                attribute("gen_ai.tool.name", tool),
                attribute("gen_ai.tool.call.arguments", "{\"number\":\"7\"}"),
            ] })
}
