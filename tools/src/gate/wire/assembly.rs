//! Puts an answer together from a message, or from the parts of one that a stream sends.

use bellwether_gate::score::tools::Call;
use bellwether_gate::suite::Thinking;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::thinking::{Separated, separate};
use super::{Reply, ToolCall};

/// The fields of a message in which servers put thinking: `reasoning_content` (DeepSeek, vLLM, SGLang, llama.cpp,
/// LiteLLM), `reasoning` (vLLM, Ollama, OpenRouter), `reasoning_details` (OpenRouter) and `thinking_blocks` (LiteLLM).
const THINKING_FIELDS: [&str; 4] = ["reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"];

/// The keys of a block of thinking whose texts continue those of the block before it.
const BLOCK_TEXTS: [&str; 4] = ["thinking", "text", "summary", "data"];

/// The kinds of tokens in a part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Whether it has thinking in a place of its own.
    pub thinking: bool,
    /// Whether it has text of the answer or a call of a tool.
    pub answer: bool,
}

/// The reason why a response is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReply {
    /// The server reports an error.
    Error(ApiError),
    /// The response has not the form of the API, for this reason.
    Malformed(&'static str),
    /// The answer ended in the middle.
    Interrupted,
}

/// An answer under construction.
#[derive(Debug, Clone, Default)]
pub struct Assembly {
    content: String,
    /// Thinking that came as a part of the content.
    thinking_parts: String,
    refusal: String,
    fields: Map<String, Value>,
    calls: Vec<PartialCall>,
    /// Tokens with the natural logarithms of their probabilities.
    logprobs: Vec<(String, f64)>,
    finish: Option<String>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// A call under construction.
#[derive(Debug, Clone, Default)]
struct PartialCall {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    extra: Map<String, Value>,
}

/// Parses an answer that came whole.
///
/// # Errors
/// [`NoReply`] if it reports an error or is not an answer of the API.
pub fn parse_whole(value: &Value, thinking: &Thinking) -> Result<Reply, NoReply> {
    if let Some(error) = ApiError::in_answer(value) {
        return Err(NoReply::Error(error));
    }
    let choice = value.pointer("/choices/0").ok_or(NoReply::Malformed("the response has no choices[0]"))?;
    if choice.get("message").is_none() && choice.get("text").is_none() {
        return Err(NoReply::Malformed("the response has neither a message nor a text"));
    }
    let mut assembly = Assembly::default();
    assembly.add_usage(value);
    assembly.add_choice(choice);
    assembly.finish(thinking).map(|(reply, _)| reply)
}

impl Assembly {
    /// Adds a choice: a whole one, or a part of one. Returns the kinds of its tokens.
    pub fn add_choice(&mut self, choice: &Value) -> Tokens {
        if let Some(finish) = choice.get("finish_reason").and_then(Value::as_str).filter(|reason| !reason.is_empty()) {
            self.finish = Some(finish.to_owned());
        }
        let tokens = match (choice.get("message"), choice.get("delta")) {
            (Some(message), _) => self.add_message(message, true),
            (None, Some(delta)) => self.add_message(delta, false),
            (None, None) => self.add_text(choice.get("text")),
        };
        if tokens.answer || !tokens.thinking {
            self.add_logprobs(choice);
        }
        tokens
    }

    /// Adds the usage that a chunk or a whole answer may have, and returns whether it has one.
    pub fn add_usage(&mut self, value: &Value) -> bool {
        let count = |key: &str| value.get("usage").and_then(|usage| usage.get(key)).and_then(Value::as_u64);
        let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
        self.input_tokens = input.or(self.input_tokens);
        self.output_tokens = output.or(self.output_tokens);
        output.is_some()
    }

    /// Returns whether the server has said why the answer ended.
    pub fn has_ended(&self) -> bool {
        self.finish.is_some()
    }

    /// Returns the length in bytes of the content so far.
    pub fn content_length(&self) -> usize {
        self.content.len()
    }

    fn add_message(&mut self, message: &Value, whole: bool) -> Tokens {
        let mut tokens = self.add_text(message.get("content"));
        if let Some(refusal) = message.get("refusal").and_then(Value::as_str) {
            self.refusal += refusal;
            tokens.answer |= !refusal.is_empty();
        }
        for field in THINKING_FIELDS {
            tokens.thinking |= message.get(field).is_some_and(|value| continue_field(&mut self.fields, field, value));
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.add_call(call, whole);
            tokens.answer = true;
        }
        tokens
    }

    /// Adds content: a text, or a list of parts as Mistral's models that think send it.
    fn add_text(&mut self, content: Option<&Value>) -> Tokens {
        let mut tokens = Tokens::default();
        let parts: &[Value] = match content {
            Some(Value::String(text)) => {
                self.content += text;
                return Tokens { answer: !text.is_empty(), ..tokens };
            }
            Some(Value::Array(parts)) => parts.as_slice(),
            _ => &[],
        };
        for part in parts {
            let text = |part: &Value| part.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(thought) = part.get("thinking") {
                let thought = match thought.as_array() {
                    Some(parts) => parts.iter().map(text).collect(),
                    None => thought.as_str().unwrap_or_default().to_owned(),
                };
                tokens.thinking |= !thought.is_empty();
                self.thinking_parts += &thought;
            } else {
                tokens.answer |= !text(part).is_empty();
                self.content += &text(part);
            }
        }
        tokens
    }

    /// Adds a call, or a part of one. A part continues the call with its id, or, without an id, the newest call with its
    /// index. Any other part opens a new call: an index alone does not tell calls apart, because some servers number
    /// all of them 0.
    fn add_call(&mut self, part: &Value, whole: bool) {
        let text = |path: &str| part.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (id, name) = (text("/id"), text("/function/name"));
        let index = part.get("index").and_then(Value::as_u64);
        let continued = self.calls.iter().rposition(|call| match (id, index) {
            _ if whole || call.is_another(name) => false,
            ("", None) => true,
            ("", index) => call.index == index,
            (id, _) => call.id == id,
        });
        // Without an id only the newest call can go on, and a whole one can't.
        let continued = continued.filter(|at| !id.is_empty() || name.is_empty() || !self.calls[*at].is_complete());
        let at = continued.unwrap_or_else(|| {
            self.calls.push(PartialCall { index, id: id.to_owned(), ..PartialCall::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if call.name.is_empty() {
            name.clone_into(&mut call.name);
        }
        match part.pointer("/function/arguments") {
            Some(Value::String(arguments)) => call.arguments += arguments,
            Some(arguments @ Value::Object(_)) => call.arguments += &arguments.to_string(),
            _ => {}
        }
        let known = ["index", "id", "type", "function"];
        let extra = part.as_object().into_iter().flatten().filter(|(key, _)| !known.contains(&key.as_str()));
        call.extra.extend(extra.map(|(key, value)| (key.clone(), value.clone())));
    }

    fn add_logprobs(&mut self, choice: &Value) {
        for token in choice.pointer("/logprobs/content").and_then(Value::as_array).into_iter().flatten() {
            if let Some(logprob) = token.get("logprob").and_then(Value::as_f64) {
                let text = token.get("token").and_then(Value::as_str).unwrap_or_default();
                self.logprobs.push((text.to_owned(), logprob));
            }
        }
        let plain = |key: &str| choice.get("logprobs").and_then(|all| all.get(key)).and_then(Value::as_array);
        for (at, logprob) in plain("token_logprobs").into_iter().flatten().enumerate() {
            if let Some(logprob) = logprob.as_f64() {
                let text = plain("tokens").and_then(|tokens| tokens.get(at)).and_then(Value::as_str);
                self.logprobs.push((text.unwrap_or_default().to_owned(), logprob));
            }
        }
    }

    /// Returns the answer, and the offset in bytes of its first character in the content.
    ///
    /// # Errors
    /// [`NoReply`] if the server ended the answer because of an error, or a call has no name.
    pub fn finish(self, thinking: &Thinking) -> Result<(Reply, usize), NoReply> {
        if matches!(self.finish.as_deref(), Some("error" | "abort")) {
            return Err(NoReply::Interrupted);
        }
        if self.calls.iter().any(|call| call.name.is_empty()) {
            return Err(NoReply::Malformed("a call of a tool has no name"));
        }
        let parts = match thinking {
            Thinking::None | Thinking::Field => {
                let answer_from = self.content.len() - self.content.trim_start().len();
                Separated { answer: self.content.clone(), thinking: String::new(), answer_from }
            }
            Thinking::Tags { begin, end } => separate(&self.content, begin, end),
        };
        let is_field = *thinking != Thinking::None;
        let thought = is_field
            && (!parts.thinking.is_empty() || !self.thinking_parts.trim().is_empty() || !self.fields.is_empty());
        let refused = !self.refusal.is_empty();
        let text = if refused && parts.answer.trim().is_empty() { self.refusal.clone() } else { parts.answer };
        let reply = Reply {
            logprobs: self.answer_logprobs(&text, thought),
            content: self.content_to_return(),
            fields: if is_field { self.fields } else { Map::new() },
            text,
            thought,
            refused,
            calls: self.calls.into_iter().enumerate().map(PartialCall::finish).collect(),
            finish: self.finish,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
        };
        Ok((reply, parts.answer_from))
    }

    /// Returns the content as it came: a text, or parts if thinking came as a part.
    fn content_to_return(&self) -> Value {
        if self.thinking_parts.is_empty() {
            return json!(self.content);
        }
        let thinking = json!({ "type": "thinking", "thinking": [{ "type": "text", "text": self.thinking_parts }] });
        json!([thinking, { "type": "text", "text": self.content }])
    }

    /// Returns the logarithms of the answer's tokens. Those of thinking are left out, if the answer is found among the
    /// tokens.
    fn answer_logprobs(&self, text: &str, thought: bool) -> Vec<f64> {
        let all: String = self.logprobs.iter().map(|(token, _)| token.as_str()).collect();
        let from = all.rfind(text).filter(|_| thought && !text.is_empty());
        let (mut at, until) = (0, from.map_or(usize::MAX, |from| from + text.len()));
        let mut kept = Vec::new();
        for (token, logprob) in &self.logprobs {
            let is_answer = from.is_none_or(|from| at + token.len() > from && at < until);
            if is_answer {
                kept.push(*logprob);
            }
            at += token.len();
        }
        kept
    }
}

impl PartialCall {
    /// Returns whether a part with this `name` can't belong to the call.
    fn is_another(&self, name: &str) -> bool {
        !name.is_empty() && !self.name.is_empty() && name != self.name
    }

    /// Returns whether the call has a name and whole arguments.
    fn is_complete(&self) -> bool {
        !self.name.is_empty() && serde_json::from_str::<Map<String, Value>>(&self.arguments).is_ok()
    }

    /// Returns the call; one without an id gets the id `call-N` by its place, so that a result can refer to it.
    fn finish((at, call): (usize, PartialCall)) -> ToolCall {
        let id = if call.id.is_empty() { format!("call-{}", at + 1) } else { call.id };
        ToolCall { id, call: Call { name: call.name, arguments: Some(call.arguments) }, extra: call.extra }
    }
}

/// Continues a field of thinking with a further value. Returns whether the value has thinking.
fn continue_field(fields: &mut Map<String, Value>, field: &str, value: &Value) -> bool {
    match (fields.get_mut(field), value) {
        (Some(Value::String(text)), Value::String(more)) => *text += more,
        (Some(Value::Array(blocks)), Value::Array(more)) => more.iter().for_each(|block| continue_block(blocks, block)),
        (_, Value::String(text)) if !text.is_empty() => {
            fields.insert(field.to_owned(), value.clone());
        }
        (_, Value::Array(blocks)) if !blocks.is_empty() => {
            fields.insert(field.to_owned(), value.clone());
        }
        _ => return false,
    }
    value.as_str().is_none_or(|text| !text.is_empty())
}

/// Adds a block of thinking. It continues the last one if both have the same type and index and the last one is not
/// signed yet.
fn continue_block(blocks: &mut Vec<Value>, more: &Value) {
    let same = |key: &str, last: &Value| last.get(key) == more.get(key);
    let is_signed = |block: &Value| block.get("signature").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let last = blocks.last_mut().filter(|last| same("type", last) && same("index", last) && !is_signed(last));
    let (Some(last), Some(more)) = (last.and_then(Value::as_object_mut), more.as_object()) else {
        blocks.push(more.clone());
        return;
    };
    for (key, value) in more.iter().filter(|(_, value)| !value.is_null()) {
        match (last.get_mut(key), value) {
            (Some(Value::String(text)), Value::String(more)) if BLOCK_TEXTS.contains(&key.as_str()) => *text += more,
            _ => {
                last.insert(key.clone(), value.clone());
            }
        }
    }
}
