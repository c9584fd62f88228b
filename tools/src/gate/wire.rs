//! The OpenAI-compatible API on the wire: what is sent, and what comes back whole or in pieces. No I/O.

use bellwether_gate::dataset::Case;
use bellwether_gate::score::tools::Call;
use bellwether_gate::suite::{Api, Sampling};
use serde_json::{Map, Value, json};

/// What an answer comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// The tools that it wants called, each with its id.
    pub calls: Vec<(String, Call)>,
    /// Why it ended.
    pub finish: Option<String>,
    /// Tokens of the question.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output_tokens: Option<u64>,
    /// The logarithms of its tokens' probabilities, where they were asked for.
    pub logprobs: Vec<f64>,
}

impl Reply {
    /// It was cut off at the limit of tokens.
    pub fn is_truncated(&self) -> bool {
        self.finish.as_deref() == Some("length")
    }

    /// The message that stands for it in a conversation that goes on.
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

/// What to ask for.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Which model.
    pub model: &'a str,
    /// The conversation so far.
    pub messages: &'a [Value],
    /// The tools that are offered.
    pub tools: &'a [Value],
    /// As in production, or as the gate has it.
    pub sampling: &'a Sampling,
    /// Whether the probabilities of its tokens are wanted.
    pub logprobs: bool,
    /// Whether it is to come in pieces.
    pub stream: bool,
}

/// The conversation that a case begins with.
pub fn opening(system: Option<&str>, case: &Case) -> Vec<Value> {
    let system = system.map(|text| json!({ "role": "system", "content": text }));
    let prompt = case.prompt.as_ref().map(|text| json!({ "role": "user", "content": text }));
    system.into_iter().chain(prompt).chain(case.messages.iter().cloned()).collect()
}

/// The path, and the body that goes there.
pub fn body(api: Api, question: &Question<'_>) -> (&'static str, Value) {
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| body.insert(key.to_owned(), value);
    set("model", json!(question.model));
    let path = match api {
        Api::Chat => {
            set("messages", json!(question.messages));
            "chat/completions"
        }
        Api::Completions => {
            set("prompt", json!(transcript(question.messages)));
            "completions"
        }
    };
    let Sampling { temperature, top_p, max_tokens } = question.sampling;
    temperature.map(|value| set("temperature", json!(value)));
    top_p.map(|value| set("top_p", json!(value)));
    max_tokens.map(|value| set("max_tokens", json!(value)));
    if !question.tools.is_empty() {
        set("tools", json!(question.tools));
    }
    if question.logprobs {
        set("logprobs", if api == Api::Chat { json!(true) } else { json!(0) });
    }
    if question.stream {
        set("stream", json!(true));
        set("stream_options", json!({ "include_usage": true }));
    }
    (path, Value::Object(body))
}

/// A conversation for a model that only goes on with a text.
fn transcript(messages: &[Value]) -> String {
    let content = |message: &Value| message.get("content").and_then(Value::as_str).map(str::to_owned);
    messages.iter().filter_map(content).collect::<Vec<_>>().join("\n")
}

/// An answer that came whole; `None`: that is not one.
pub fn whole(value: &Value) -> Option<Reply> {
    let choice = value.pointer("/choices/0")?;
    let mut reply = Reply::default();
    let message = choice.get("message");
    let text = message.map_or_else(|| choice.get("text"), |message| message.get("content"));
    text.and_then(Value::as_str).unwrap_or_default().clone_into(&mut reply.text);
    for call in message.and_then(|message| message.get("tool_calls")).and_then(Value::as_array).into_iter().flatten() {
        reply.calls.push(whole_call(call)?);
    }
    take_end(&mut reply, value, choice);
    (message.is_some() || choice.get("text").is_some()).then_some(reply)
}

fn whole_call(call: &Value) -> Option<(String, Call)> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let function = call.get("function")?;
    let name = text(function.get("name"))?;
    let arguments = text(function.get("arguments")).unwrap_or_default();
    Some((text(call.get("id")).unwrap_or_default(), Call { name, arguments }))
}

/// Why it ended, what it took, and how probable it was: the same in a whole answer and in its pieces.
fn take_end(reply: &mut Reply, value: &Value, choice: &Value) {
    if let Some(finish) = choice.get("finish_reason").and_then(Value::as_str) {
        reply.finish = Some(finish.to_owned());
    }
    take_usage(reply, value);
    let chat = choice.pointer("/logprobs/content").and_then(Value::as_array);
    reply.logprobs.extend(chat.into_iter().flatten().filter_map(|token| token.get("logprob")?.as_f64()));
    let plain = choice.pointer("/logprobs/token_logprobs").and_then(Value::as_array);
    reply.logprobs.extend(plain.into_iter().flatten().filter_map(Value::as_f64));
}

fn take_usage(reply: &mut Reply, value: &Value) {
    let count = |key: &str| value.get("usage").and_then(|usage| usage.get(key)).and_then(Value::as_u64);
    reply.input_tokens = count("prompt_tokens").or(reply.input_tokens);
    reply.output_tokens = count("completion_tokens").or(reply.output_tokens);
}

/// An answer in pieces, as it is put together.
#[derive(Debug, Default)]
pub struct Pieces {
    reply: Reply,
    done: bool,
    /// Bytes of a line that has not ended.
    rest: Vec<u8>,
}

/// What a piece was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Some of the answer.
    Content,
    /// Something else.
    Other,
    /// Nothing that the API sends.
    Broken,
}

impl Pieces {
    /// Takes bytes as they come, in whatever portions, and says what they were: some content if any of it was.
    pub fn take(&mut self, bytes: &[u8]) -> Piece {
        self.rest.extend_from_slice(bytes);
        let mut seen = Piece::Other;
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            match self.line(&line) {
                Piece::Broken => return Piece::Broken,
                Piece::Content => seen = Piece::Content,
                Piece::Other => {}
            }
        }
        seen
    }

    fn line(&mut self, line: &[u8]) -> Piece {
        let Ok(line) = std::str::from_utf8(line) else { return Piece::Broken };
        // Comments, event names and empty lines carry nothing.
        let Some(data) = line.trim_end().strip_prefix("data:").map(str::trim) else { return Piece::Other };
        if data == "[DONE]" {
            self.done = true;
            return Piece::Other;
        }
        let Ok(value) = serde_json::from_str::<Value>(data) else { return Piece::Broken };
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return Piece::Broken;
        }
        take_usage(&mut self.reply, &value);
        let Some(choice) = value.pointer("/choices/0") else { return Piece::Other };
        take_end(&mut self.reply, &Value::Null, choice);
        let delta = choice.get("delta");
        let text = delta.map_or_else(|| choice.get("text"), |delta| delta.get("content"));
        let text = text.and_then(Value::as_str).unwrap_or_default();
        self.reply.text += text;
        let calls = delta.and_then(|delta| delta.get("tool_calls")).and_then(Value::as_array);
        let calls = calls.map(Vec::as_slice).unwrap_or_default();
        calls.iter().for_each(|call| self.call(call));
        if text.is_empty() && calls.is_empty() { Piece::Other } else { Piece::Content }
    }

    /// The first piece of a call has its id and name, the others go on with its arguments.
    fn call(&mut self, piece: &Value) {
        let at = piece.get("index").and_then(Value::as_u64).unwrap_or(0);
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.reply.calls.len());
        if at == self.reply.calls.len() {
            self.reply.calls.push((String::new(), Call { name: String::new(), arguments: String::new() }));
        }
        let text = |path: &str| piece.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (id, call) = &mut self.reply.calls[at];
        *id += text("/id");
        call.name += text("/function/name");
        call.arguments += text("/function/arguments");
    }

    /// The whole; `None`: it ended in the middle.
    pub fn end(self) -> Option<Reply> {
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
    fn pieces_come_to_the_same_however_they_are_cut() {
        for size in [1, 2, 7, 1000] {
            let mut pieces = Pieces::default();
            let seen: Vec<Piece> = STREAM.as_bytes().chunks(size).map(|bytes| pieces.take(bytes)).collect();
            assert!(seen.contains(&Piece::Content) && !seen.contains(&Piece::Broken));
            let reply = pieces.end().unwrap();
            assert_eq!((reply.text.as_str(), reply.finish.as_deref()), ("Paris é", Some("stop")));
            assert_eq!(
                (reply.input_tokens, reply.output_tokens, reply.logprobs.as_slice()),
                (Some(3), Some(2), &[-0.5][..])
            );
        }
    }

    #[test]
    fn a_stream_that_breaks_off_or_breaks_is_no_answer() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.take(b"data: {\"choices\":[{\"delta\":{\"content\":\"Pa\"}}]}\n"), Piece::Content);
        assert_eq!(pieces.end(), None);
        assert_eq!(Pieces::default().take(b"data: {\"error\":{\"code\":\"overloaded\"}}\n"), Piece::Broken);
        assert_eq!(Pieces::default().take(b"data: {\n"), Piece::Broken);
    }

    #[test]
    fn calls_come_whole_or_in_pieces() {
        let mut pieces = Pieces::default();
        for data in [
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"1","function":{"name":"find","arguments":"{\"q\""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"id":"2","function":{"name":"end","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
        ] {
            pieces.take(format!("data: {data}\n").as_bytes());
        }
        let streamed = pieces.end().unwrap();
        let value = json!({ "choices": [{ "message": streamed.message(), "finish_reason": "tool_calls" }] });
        assert_eq!(whole(&value).unwrap().calls, streamed.calls);
        assert_eq!(streamed.calls[0].1.arguments, "{\"q\":1}");
        assert_eq!(whole(&json!({ "choices": [] })), None);
        assert_eq!(
            whole(&json!({ "choices": [{ "text": "x", "finish_reason": "length" }] }))
                .map(|reply| reply.is_truncated()),
            Some(true)
        );
    }
}
