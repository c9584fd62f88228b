//! The OpenAI-compatible API as JSON: the bodies of requests, answers that come whole or as a stream, and errors. No
//! I/O and no clock.
//!
//! - [`request`] builds the bodies in the dialect of an endpoint.
//! - [`assembly`] puts an answer together from messages and parts of messages, and gives the [`Reply`].
//! - [`stream`] reads an answer from server-sent events, cut at any place.
//! - [`thinking`] separates a model's thinking from its answer where tags mark it.
//! - [`error`] reads errors, those with a status of their own and those within a stream.
//!
//! `dialects/` holds answers in the form of the servers that people run, with the source of each form.

pub mod assembly;
pub mod error;
pub mod request;
pub mod stream;
pub mod thinking;
#[cfg(test)]
mod dialects;

use bellwether_gate::observation::MissingAnswer;
use bellwether_gate::score::tools::Call;
use serde_json::{Map, Value, json};

/// A model's answer to one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// The text of the answer, without thinking; empty if there is none.
    pub text: String,
    /// Whether the model has thought, as far as the server shows it.
    pub thought: bool,
    /// Whether the API marks the answer as a refusal of the model.
    pub refused: bool,
    /// The calls of tools that the model asks for.
    pub calls: Vec<ToolCall>,
    /// `finish_reason` of the API, such as `stop` or `length`.
    pub finish: Option<String>,
    /// Number of tokens of the request, if the API says it.
    pub input_tokens: Option<u64>,
    /// Number of tokens of the answer, if the API says it.
    pub output_tokens: Option<u64>,
    /// Natural logarithms of the probabilities of the answer's tokens; empty unless requested.
    pub logprobs: Vec<f64>,
    /// The content of the message as it came, with its thinking.
    content: Value,
    /// The message's fields of thinking as they came.
    fields: Map<String, Value>,
}

/// A call of a tool with its id and the server's further fields.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The call's id, to which the tool's result refers.
    pub id: String,
    /// The tool and its arguments.
    pub call: Call,
    /// The call's further fields, such as a signature, which are sent back as they came.
    extra: Map<String, Value>,
}

impl Reply {
    /// Returns the answer of a content filter that refused the request before the model was asked.
    pub fn filtered() -> Reply {
        Reply { finish: Some("content_filter".to_owned()), ..Reply::default() }
    }

    /// Returns the reason why there is no answer to read: a content filter refused it, it was cut off at the limit of
    /// tokens, or it says nothing. `None` if the answer is whole.
    pub fn lacking(&self) -> Option<MissingAnswer> {
        match self.finish.as_deref() {
            Some("content_filter") => Some(MissingAnswer::Filtered),
            // `model_length` is Mistral's name for the limit of the context.
            Some("length" | "model_length") => Some(MissingAnswer::Truncated),
            _ if !self.text.trim().is_empty() || !self.calls.is_empty() => None,
            _ if self.thought => Some(MissingAnswer::OnlyThinking),
            _ => Some(MissingAnswer::Empty),
        }
    }

    /// Returns the answer as a message of the conversation that continues after it, with the model's thinking if
    /// `with_thinking` is set.
    pub fn message(&self, with_thinking: bool) -> Value {
        let mut message = Map::new();
        message.insert("role".to_owned(), json!("assistant"));
        let text = json!(self.text);
        let content = if with_thinking { &self.content } else { &text };
        let is_blank = content.as_str().is_some_and(|text| text.trim().is_empty());
        // Some servers refuse an empty text beside calls.
        let content = if is_blank && !self.calls.is_empty() { Value::Null } else { content.clone() };
        message.insert("content".to_owned(), content);
        if with_thinking {
            message.extend(self.fields.clone());
        }
        if !self.calls.is_empty() {
            message.insert("tool_calls".to_owned(), self.calls.iter().map(ToolCall::to_json).collect());
        }
        Value::Object(message)
    }
}

impl ToolCall {
    fn to_json(&self) -> Value {
        let mut call = self.extra.clone();
        call.insert("id".to_owned(), json!(self.id));
        call.insert("type".to_owned(), json!("function"));
        call.insert("function".to_owned(), json!({ "name": self.call.name, "arguments": self.call.arguments }));
        Value::Object(call)
    }
}
