//! The bodies of requests, in the dialect of their endpoint.

use bellwether_gate::dataset::Case;
use bellwether_gate::score::conversation::{messages, text_of};
use bellwether_gate::suite::{Dialect, EndpointApi as Api, Sampling};
use serde_json::{Map, Value, json};

/// The parameters of one request for a completion.
#[derive(Debug, Clone)]
pub struct CompletionRequest<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Messages of the conversation so far.
    pub messages: &'a [Value],
    /// Tools that the model may call.
    pub tools: &'a [Value],
    /// Sampling parameters; those that are `None` are left to the server.
    pub sampling: &'a Sampling,
    /// Whether to request the probabilities of the answer's tokens.
    pub logprobs: bool,
    /// Whether to request the answer as a stream.
    pub stream: bool,
}

/// Returns the messages that a case begins with, after the gate's system message if it has one.
pub fn opening(system: Option<&str>, case: &Case) -> Vec<Value> {
    let system = system.map(|text| json!({ "role": "system", "content": text }));
    system.into_iter().chain(messages(case)).collect()
}

/// Returns the path of the API and the body of the request.
pub fn request_body(api: Api, dialect: &Dialect, request: &CompletionRequest<'_>) -> (&'static str, Value) {
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| body.insert(key.to_owned(), value);
    set("model", json!(request.model));
    let path = match api {
        Api::Chat => {
            set("messages", json!(request.messages));
            "chat/completions"
        }
        Api::Completions => {
            set("prompt", json!(transcript(request.messages)));
            "completions"
        }
    };
    let Sampling { temperature, top_p, max_tokens } = request.sampling;
    temperature.filter(|_| dialect.temperature).map(|value| set("temperature", json!(value)));
    top_p.map(|value| set("top_p", json!(value)));
    max_tokens.zip(dialect.token_limit.key()).map(|(value, key)| set(key, json!(value)));
    if !request.tools.is_empty() {
        set("tools", json!(request.tools));
    }
    if request.logprobs {
        set("logprobs", if api == Api::Chat { json!(true) } else { json!(0) });
    }
    if request.stream {
        set("stream", json!(true));
        if dialect.stream_options {
            set("stream_options", json!({ "include_usage": true }));
        }
    }
    body.extend(dialect.body.clone());
    (path, Value::Object(body))
}

/// Returns the body of a request to a judge or a guard, which answers whole.
pub fn helper_body(dialect: &Dialect, model: &str, messages: &[Value], temperature: Option<f64>) -> Value {
    let sampling = Sampling { temperature, ..Sampling::default() };
    let request =
        CompletionRequest { model, messages, tools: &[], sampling: &sampling, logprobs: false, stream: false };
    request_body(Api::Chat, dialect, &request).1
}

/// Returns the body of a request that is none for a completion, such as one for an embedding of `input`.
pub fn input_body(dialect: &Dialect, model: &str, input: &str) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model));
    body.insert("input".to_owned(), json!(input));
    body.extend(dialect.body.clone());
    Value::Object(body)
}

/// Returns a conversation as one text, for the API of plain completions.
fn transcript(messages: &[Value]) -> String {
    let content = |message: &Value| message.get("content").map(text_of);
    messages.iter().filter_map(content).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use bellwether_gate::suite::TokenLimitKey;

    use super::*;

    #[test]
    fn a_body_has_only_the_parameters_of_its_endpoints_dialect() {
        let sampling = Sampling { temperature: Some(0.0), top_p: None, max_tokens: Some(9) };
        let messages = [json!({ "role": "user", "content": "x" })];
        let request = CompletionRequest {
            model: "m",
            messages: &messages,
            tools: &[],
            sampling: &sampling,
            logprobs: false,
            stream: true,
        };
        let body = |dialect: &Dialect| request_body(Api::Chat, dialect, &request).1;
        let plain = json!({ "model": "m", "messages": messages, "temperature": 0.0, "max_tokens": 9, "stream": true,
                            "stream_options": { "include_usage": true } });
        assert_eq!(body(&Dialect::default()), plain);
        let dialect = Dialect {
            token_limit: TokenLimitKey::MaxCompletionTokens,
            temperature: false,
            stream_options: false,
            body: [("reasoning_effort".to_owned(), json!("low"))].into_iter().collect(),
            ..Dialect::default()
        };
        let strict = json!({ "model": "m", "messages": messages, "max_completion_tokens": 9, "stream": true,
                             "reasoning_effort": "low" });
        assert_eq!(body(&dialect), strict);
        let none = Dialect { token_limit: TokenLimitKey::None, ..Dialect::default() };
        assert!(body(&none).get("max_tokens").is_none());
        let guard = helper_body(&dialect, "g", &messages, Some(0.0));
        assert_eq!(guard, json!({ "model": "g", "messages": messages, "reasoning_effort": "low" }));
    }
}
