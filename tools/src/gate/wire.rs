//! The OpenAI-compatible API as JSON: the bodies of requests, and answers that come whole or as a stream. No I/O.

use bellwether_gate::dataset::Case;
use bellwether_gate::score::tools::Call;
use bellwether_gate::suite::{EndpointApi as Api, Sampling};
use serde_json::{Map, Value, json};

/// A model's answer to one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// Text of the answer; empty if there is none.
    pub text: String,
    /// Calls of tools that the model asks for, each with its id.
    pub calls: Vec<(String, Call)>,
    /// `finish_reason` of the API, such as `stop` or `length`.
    pub finish: Option<String>,
    /// Number of tokens of the request, if the API says it.
    pub input_tokens: Option<u64>,
    /// Number of tokens of the answer, if the API says it.
    pub output_tokens: Option<u64>,
    /// Natural logarithms of the probabilities of the answer's tokens; empty unless requested.
    pub logprobs: Vec<f64>,
}

impl Reply {
    /// Returns whether the answer was cut off at the limit of tokens.
    pub fn is_truncated(&self) -> bool {
        self.finish.as_deref() == Some("length")
    }

    /// Returns the answer as a message of the conversation that continues after it.
    pub fn message(&self) -> Value {
        let calls: Vec<Value> = self
            .calls
            .iter()
            .map(|(id, call)| {
                json!({ "id": id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
            })
            .collect();
        if calls.is_empty() {
            json!({ "role": "assistant", "content": self.text })
        } else {
            json!({ "role": "assistant", "content": self.text, "tool_calls": calls })
        }
    }
}

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
    let prompt = case.prompt.as_ref().map(|text| json!({ "role": "user", "content": text }));
    system.into_iter().chain(prompt).chain(case.messages.iter().cloned()).collect()
}

/// Returns the path of the API and the body of the request.
pub fn request_body(api: Api, request: &CompletionRequest<'_>) -> (&'static str, Value) {
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
    temperature.map(|value| set("temperature", json!(value)));
    top_p.map(|value| set("top_p", json!(value)));
    max_tokens.map(|value| set("max_tokens", json!(value)));
    if !request.tools.is_empty() {
        set("tools", json!(request.tools));
    }
    if request.logprobs {
        set("logprobs", if api == Api::Chat { json!(true) } else { json!(0) });
    }
    if request.stream {
        set("stream", json!(true));
        set("stream_options", json!({ "include_usage": true }));
    }
    (path, Value::Object(body))
}

/// Returns a conversation as one text, for the API of plain completions.
fn transcript(messages: &[Value]) -> String {
    let content = |message: &Value| message.get("content").and_then(Value::as_str).map(str::to_owned);
    messages.iter().filter_map(content).collect::<Vec<_>>().join("\n")
}

/// Parses an answer that came whole; `None` if it is not an answer of the API.
pub fn parse_reply(value: &Value) -> Option<Reply> {
    let choice = value.pointer("/choices/0")?;
    let mut reply = Reply::default();
    let message = choice.get("message");
    let text = message.map_or_else(|| choice.get("text"), |message| message.get("content"));
    text.and_then(Value::as_str).unwrap_or_default().clone_into(&mut reply.text);
    for call in message.and_then(|message| message.get("tool_calls")).and_then(Value::as_array).into_iter().flatten() {
        reply.calls.push(parse_call(call)?);
    }
    read_end(&mut reply, value, choice);
    (message.is_some() || choice.get("text").is_some()).then_some(reply)
}

fn parse_call(call: &Value) -> Option<(String, Call)> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let function = call.get("function")?;
    let name = text(function.get("name"))?;
    let arguments = text(function.get("arguments")).unwrap_or_default();
    Some((text(call.get("id")).unwrap_or_default(), Call { name, arguments }))
}

/// Reads the reason of the end, the usage and the probabilities, which a whole answer and a stream have in the same
/// places.
fn read_end(reply: &mut Reply, value: &Value, choice: &Value) {
    if let Some(finish) = choice.get("finish_reason").and_then(Value::as_str) {
        reply.finish = Some(finish.to_owned());
    }
    read_usage(reply, value);
    let chat = choice.pointer("/logprobs/content").and_then(Value::as_array);
    reply.logprobs.extend(chat.into_iter().flatten().filter_map(|token| token.get("logprob")?.as_f64()));
    let plain = choice.pointer("/logprobs/token_logprobs").and_then(Value::as_array);
    reply.logprobs.extend(plain.into_iter().flatten().filter_map(Value::as_f64));
}

fn read_usage(reply: &mut Reply, value: &Value) {
    let count = |key: &str| value.get("usage").and_then(|usage| usage.get(key)).and_then(Value::as_u64);
    reply.input_tokens = count("prompt_tokens").or(reply.input_tokens);
    reply.output_tokens = count("completion_tokens").or(reply.output_tokens);
}

/// An answer that is assembled from a stream of server-sent events.
#[derive(Debug, Default)]
pub struct ReplyStream {
    reply: Reply,
    done: bool,
    /// Bytes of the last line, which is not complete yet.
    rest: Vec<u8>,
}

/// The kind of a part of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamPart {
    /// Text or a call of a tool.
    Content,
    /// Anything else that the API may send.
    Other,
    /// Data that the API does not send, or an error.
    Broken,
}

impl ReplyStream {
    /// Adds bytes, cut at any place, and returns their kind: `Content` if any of them was content.
    pub fn push(&mut self, bytes: &[u8]) -> StreamPart {
        self.rest.extend_from_slice(bytes);
        let mut seen = StreamPart::Other;
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            match self.add_line(&line) {
                StreamPart::Broken => return StreamPart::Broken,
                StreamPart::Content => seen = StreamPart::Content,
                StreamPart::Other => {}
            }
        }
        seen
    }

    fn add_line(&mut self, line: &[u8]) -> StreamPart {
        let Ok(line) = std::str::from_utf8(line) else { return StreamPart::Broken };
        // Comments, event names and empty lines have no data.
        let Some(data) = line.trim_end().strip_prefix("data:").map(str::trim) else { return StreamPart::Other };
        if data == "[DONE]" {
            self.done = true;
            return StreamPart::Other;
        }
        let Ok(value) = serde_json::from_str::<Value>(data) else { return StreamPart::Broken };
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return StreamPart::Broken;
        }
        read_usage(&mut self.reply, &value);
        let Some(choice) = value.pointer("/choices/0") else { return StreamPart::Other };
        read_end(&mut self.reply, &Value::Null, choice);
        let delta = choice.get("delta");
        let text = delta.map_or_else(|| choice.get("text"), |delta| delta.get("content"));
        let text = text.and_then(Value::as_str).unwrap_or_default();
        self.reply.text += text;
        let calls = delta.and_then(|delta| delta.get("tool_calls")).and_then(Value::as_array);
        let calls = calls.map(Vec::as_slice).unwrap_or_default();
        calls.iter().for_each(|call| self.add_call(call));
        if text.is_empty() && calls.is_empty() { StreamPart::Other } else { StreamPart::Content }
    }

    /// Adds a part of a call: the first part has the id and the name, and the others continue the arguments.
    fn add_call(&mut self, part: &Value) {
        let at = part.get("index").and_then(Value::as_u64).unwrap_or(0);
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.reply.calls.len());
        if at == self.reply.calls.len() {
            self.reply.calls.push((String::new(), Call { name: String::new(), arguments: String::new() }));
        }
        let text = |path: &str| part.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (id, call) = &mut self.reply.calls[at];
        *id += text("/id");
        call.name += text("/function/name");
        call.arguments += text("/function/arguments");
    }

    /// Returns the whole answer; `None` if the stream ended before the answer did.
    pub fn finish(self) -> Option<Reply> {
        (self.done || self.reply.finish.is_some()).then_some(self.reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"Pa\"}}]}\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"ris é\"},\"logprobs\":{\"content\":[{\"logprob\":-0.5}]}}]}\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

    #[test]
    fn a_stream_gives_the_same_answer_however_it_is_cut() {
        for size in [1, 2, 7, 1000] {
            let mut stream = ReplyStream::default();
            let seen: Vec<StreamPart> = STREAM.as_bytes().chunks(size).map(|bytes| stream.push(bytes)).collect();
            assert!(seen.contains(&StreamPart::Content) && !seen.contains(&StreamPart::Broken));
            let reply = stream.finish().unwrap();
            assert_eq!((reply.text.as_str(), reply.finish.as_deref()), ("Paris é", Some("stop")));
            assert_eq!(
                (reply.input_tokens, reply.output_tokens, reply.logprobs.as_slice()),
                (Some(3), Some(2), &[-0.5][..])
            );
        }
    }

    #[test]
    fn a_stream_that_ends_early_or_has_an_error_gives_no_answer() {
        let mut stream = ReplyStream::default();
        assert_eq!(stream.push(b"data: {\"choices\":[{\"delta\":{\"content\":\"Pa\"}}]}\n"), StreamPart::Content);
        assert_eq!(stream.finish(), None);
        assert_eq!(ReplyStream::default().push(b"data: {\"error\":{\"code\":\"overloaded\"}}\n"), StreamPart::Broken);
        assert_eq!(ReplyStream::default().push(b"data: {\n"), StreamPart::Broken);
    }

    #[test]
    fn calls_are_parsed_alike_from_a_whole_answer_and_a_stream() {
        let mut stream = ReplyStream::default();
        for data in [
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"1","function":{"name":"find","arguments":"{\"q\""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"id":"2","function":{"name":"end","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
        ] {
            stream.push(format!("data: {data}\n").as_bytes());
        }
        let streamed = stream.finish().unwrap();
        let value = json!({ "choices": [{ "message": streamed.message(), "finish_reason": "tool_calls" }] });
        assert_eq!(parse_reply(&value).unwrap().calls, streamed.calls);
        assert_eq!(streamed.calls[0].1.arguments, "{\"q\":1}");
        assert_eq!(parse_reply(&json!({ "choices": [] })), None);
        assert_eq!(
            parse_reply(&json!({ "choices": [{ "text": "x", "finish_reason": "length" }] }))
                .map(|reply| reply.is_truncated()),
            Some(true)
        );
    }
}
