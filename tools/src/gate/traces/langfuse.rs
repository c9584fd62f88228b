//! Traces from the API of Langfuse: the observations of one trace, of the second version of the API, or of the first one
//! where a server does not know the second (self-hosted before version 4).
//!
//! Source of the forms: langfuse, fern/apis/server/definition/observations.yml and legacy/observations-v1.yml.

use std::time::Duration;

use bellwether_core::time::Timestamp;
use bellwether_gate::suite::Langfuse;
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::TraceError;
use super::span::RawSpan;
use crate::failure::describe;
use crate::secret;

/// Time within which a page must have come.
const PAGE_TIME: Duration = Duration::from_secs(30);

/// Observations of a page; the first version of the API allows 100.
const PAGE: usize = 100;

/// Pages that are read of one trace.
const MAX_PAGES: usize = 50;

/// Largest size of a page in bytes.
const MAX_PAGE: usize = 32 << 20;

/// The client of a Langfuse project.
pub(super) struct LangfuseClient {
    http: reqwest::Client,
    url: Url,
    public_key: SecretString,
    secret_key: SecretString,
}

impl LangfuseClient {
    /// Makes a client with the keys of the environment.
    pub(super) fn new(project: &Langfuse) -> Result<LangfuseClient, TraceError> {
        let key = |variable: &str| secret::from_environment(variable).map_err(TraceError::Key);
        let url = Url::parse(&format!("{}/", project.url.trim_end_matches('/')))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        let http = crate::http::client().timeout(PAGE_TIME).redirect(reqwest::redirect::Policy::none()).build();
        Ok(LangfuseClient {
            http: http.map_err(|error| TraceError::Client(error.without_url().to_string()))?,
            url: url.ok_or_else(|| TraceError::Url(project.url.clone()))?,
            public_key: key(&project.public_key_env)?,
            secret_key: key(&project.secret_key_env)?,
        })
    }

    /// Returns the observations of a trace that the server has so far.
    ///
    /// # Errors
    /// The reason why they can't be read.
    pub(super) async fn spans(&self, trace: &str) -> Result<Vec<RawSpan>, String> {
        match self.all_pages(trace, "api/public/v2/observations", Cursor::Text(None)).await? {
            Some(spans) => Ok(spans),
            None => {
                let first_version = self.all_pages(trace, "api/public/observations", Cursor::Page(1)).await?;
                first_version.ok_or_else(|| "Langfuse answers HTTP 404; check `traces.langfuse.url`".to_owned())
            }
        }
    }

    /// Returns the observations of all pages; `None` if the server does not know the path.
    async fn all_pages(&self, trace: &str, path: &str, first: Cursor) -> Result<Option<Vec<RawSpan>>, String> {
        let mut spans = Vec::new();
        let mut cursor = first;
        for _ in 0..MAX_PAGES {
            let Some(page) = self.page(trace, path, &cursor).await? else { return Ok(None) };
            let list = page.get("data").and_then(Value::as_array).ok_or("Langfuse's answer has no list `data`")?;
            spans.extend(list.iter().filter_map(|value| observation(trace, value)));
            match cursor.next(&page) {
                Some(next) => cursor = next,
                None => return Ok(Some(spans)),
            }
        }
        Err(format!("a trace has more than {} observations", MAX_PAGES * PAGE))
    }

    async fn page(&self, trace: &str, path: &str, cursor: &Cursor) -> Result<Option<Value>, String> {
        let mut url = self.url.join(path).map_err(|error| error.to_string())?;
        url.query_pairs_mut().append_pair("traceId", trace).append_pair("limit", &PAGE.to_string());
        match cursor {
            Cursor::Page(page) => {
                url.query_pairs_mut().append_pair("page", &page.to_string());
            }
            Cursor::Text(cursor) => {
                url.query_pairs_mut().append_pair("fields", "core,basic,io");
                if let Some(cursor) = cursor {
                    url.query_pairs_mut().append_pair("cursor", cursor);
                }
            }
        }
        let keys = (self.public_key.expose_secret(), Some(self.secret_key.expose_secret()));
        let mut response = self.http.get(url).basic_auth(keys.0, keys.1).send().await.map_err(describe)?;
        match response.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            status if !status.is_success() => return Err(format!("Langfuse answers HTTP {}", status.as_u16())),
            _ => {}
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(describe)? {
            if body.len() + part.len() > MAX_PAGE {
                return Err(format!("an answer of Langfuse has more than {MAX_PAGE} bytes"));
            }
            body.extend_from_slice(&part);
        }
        serde_json::from_slice(&body).map(Some).map_err(|error| format!("Langfuse's answer is no JSON: {error}"))
    }
}

/// The place of a page.
enum Cursor {
    /// Number of the page, from 1.
    Page(usize),
    /// Cursor of the page; `None` for the first one.
    Text(Option<String>),
}

impl Cursor {
    /// Returns the place of the page after `page`; `None` if it is the last one.
    fn next(&self, page: &Value) -> Option<Cursor> {
        match self {
            Cursor::Page(at) => {
                let pages = page.pointer("/meta/totalPages").and_then(Value::as_u64).unwrap_or(1);
                ((*at as u64) < pages).then_some(Cursor::Page(at + 1))
            }
            Cursor::Text(_) => {
                let cursor = page.pointer("/meta/cursor").and_then(Value::as_str).filter(|cursor| !cursor.is_empty());
                cursor.map(|cursor| Cursor::Text(Some(cursor.to_owned())))
            }
        }
    }
}

/// Reads an observation as a span with the attributes that Langfuse's own instrumentation gives it. Inputs and outputs are
/// texts that hold JSON (version 2), or JSON (version 1).
fn observation(trace: &str, value: &Value) -> Option<RawSpan> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let attribute =
        |name: &str, key: &str| Some((name.to_owned(), value.get(key).filter(|value| !value.is_null())?.clone()));
    let kind = ("langfuse.observation.type".to_owned(), Value::String(text("type").to_ascii_lowercase()));
    let start = text("startTime").parse::<Timestamp>().map_or(0, |time| time.as_microsecond().unsigned_abs());
    let content = [("input", "langfuse.observation.input"), ("output", "langfuse.observation.output")];
    Some(RawSpan {
        trace: trace.to_owned(),
        id: value.get("id")?.as_str()?.to_owned(),
        parent: text("parentObservationId"),
        name: text("name"),
        start,
        attributes: content.into_iter().filter_map(|(key, name)| attribute(name, key)).chain([kind]).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::extract::{RawQuery, State};
    use axum::http::HeaderMap;
    use axum::response::IntoResponse;
    use axum::{Router, routing::get};
    use serde_json::json;

    use super::super::span::{TraceSpan, calls};
    use super::*;

    /// The answers of a server: whether it knows the second version of the API.
    async fn serve(second_version: bool) -> String {
        let observation = |id: &str, kind: &str, rest: Value| {
            let mut value = json!({ "id": id, "traceId": "t", "type": kind, "name": "refund", "parentObservationId": "r",
                                    "startTime": "2026-11-20T10:00:00.250Z" });
            value.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            value
        };
        let asked = json!({ "role": "assistant", "tool_calls": [
            { "id": "c1", "type": "function", "function": { "name": "refund", "arguments": "{\"number\":\"7\"}" } }] });
        // The second version gives texts.
        let text = |value: &Value| if second_version { json!(value.to_string()) } else { value.clone() };
        let one = json!([
            observation("r", "SPAN", json!({ "name": "agent", "parentObservationId": null })),
            observation("g", "GENERATION", json!({ "output": text(&asked), "startTime": "2026-11-20T10:00:00.100Z" })),
        ]);
        let two = json!([observation("t", "TOOL", json!({ "input": text(&json!({ "number": "7" })) }))]);
        let answer = move |State(()): State<()>, headers: HeaderMap, RawQuery(query): RawQuery| {
            let (one, two) = (one.clone(), two.clone());
            async move {
                let url = Url::parse(&format!("http://l/?{}", query.unwrap_or_default())).unwrap();
                let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
                // "public:secret" in base64.
                if headers.get("authorization").is_none_or(|value| value != "Basic cHVibGljOnNlY3JldA==") {
                    return StatusCode::UNAUTHORIZED.into_response();
                }
                if query.get("traceId").is_none_or(|id| id != "t") {
                    return json!({ "data": [], "meta": { "totalPages": 0 } }).to_string().into_response();
                }
                let is_second = query.get("cursor").or(query.get("page")).is_some_and(|place| place == "2");
                let meta = match (second_version, is_second) {
                    (true, false) => json!({ "cursor": "2" }),
                    (true, true) => json!({}),
                    (false, _) => json!({ "page": 1, "totalPages": 2 }),
                };
                json!({ "data": if is_second { two } else { one }, "meta": meta }).to_string().into_response()
            }
        };
        let path = if second_version { "/api/public/v2/observations" } else { "/api/public/observations" };
        let router = Router::new().route(path, get(answer)).with_state(());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        url
    }

    fn client(url: &str, secret: &str) -> LangfuseClient {
        crate::tls::install();
        LangfuseClient {
            http: reqwest::Client::new(),
            url: Url::parse(url).unwrap(),
            public_key: SecretString::from("public"),
            secret_key: SecretString::from(secret),
        }
    }

    #[tokio::test]
    async fn observations_of_all_pages_are_read_from_both_versions_of_the_api() {
        for second_version in [true, false] {
            let url = serve(second_version).await;
            let spans = client(&url, "secret").spans("t").await.unwrap();
            let parents: Vec<&str> = spans.iter().map(|span| span.parent.as_str()).collect();
            assert_eq!(parents, ["", "r", "r"]);
            let spans: Vec<TraceSpan> = spans.into_iter().map(TraceSpan::read).collect();
            let traced = calls(&spans);
            // The call that the model asked for and the one that was made are one.
            assert_eq!(traced.calls.len(), 1, "{traced:?}");
            assert_eq!(traced.calls[0].arguments.as_deref(), Some("{\"number\":\"7\"}"));
            assert_eq!(traced.steps, Some(1));
            assert!(client(&url, "secret").spans("other").await.unwrap().is_empty());
            let refused = client(&url, "wrong").spans("t").await.unwrap_err();
            assert_eq!(refused, "Langfuse answers HTTP 401");
        }
        let elsewhere = serve(true).await + "nowhere/";
        assert!(client(&elsewhere, "secret").spans("t").await.unwrap_err().contains("check `traces.langfuse.url`"));
    }
}
