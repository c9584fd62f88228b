//! The question of a case for those that read it besides the target: a judge, a guard, an embedder and people. They get
//! all of it: every turn with its role, and every part of a turn.

use serde_json::{Value, json};

use crate::dataset::Case;

/// Returns the text of a message's content: the text itself, or its parts, one per line. A part that is no text is
/// named by its type, as in `[image_url]`.
pub fn text_of(content: &Value) -> String {
    let part = |part: &Value| match (part.get("text").and_then(Value::as_str), part.get("type")) {
        (Some(text), _) => text.to_owned(),
        (None, Some(Value::String(kind))) => format!("[{kind}]"),
        (None, _) => "[part]".to_owned(),
    };
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(part).collect::<Vec<_>>().join("\n"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// Returns the messages of a case in the form of the chat completions API.
pub fn messages(case: &Case) -> Vec<Value> {
    let prompt = case.prompt.as_ref().map(|text| json!({ "role": "user", "content": text }));
    prompt.into_iter().chain(case.messages.iter().cloned()).collect()
}

/// Returns the question of a case as one text: a single message as its text, and a conversation with a role before each
/// turn.
pub fn as_text(case: &Case) -> String {
    let messages = messages(case);
    let content = |message: &Value| text_of(message.get("content").unwrap_or(&Value::Null));
    if let [only] = messages.as_slice() {
        return content(only);
    }
    let turn = |message: &Value| {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
        let calls = message.get("tool_calls").map(|calls| format!(" {calls}")).unwrap_or_default();
        format!("{role}: {}{calls}", content(message))
    };
    messages.iter().map(turn).collect::<Vec<_>>().join("\n")
}

/// Returns the question of a case for a judge: the text of a single message, or the turns of a conversation, each with
/// its content as text.
pub fn for_judge(case: &Case) -> Value {
    let turn = |mut message: Value| {
        if let Some(content) = message.get_mut("content") {
            *content = Value::String(text_of(content));
        }
        message
    };
    match messages(case) {
        single if single.len() == 1 => Value::String(as_text(case)),
        turns => turns.into_iter().map(turn).collect(),
    }
}
