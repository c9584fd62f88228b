//! The spans of traces, and the calls of tools that they tell. No I/O and no clock.
//!
//! A call is told by the span of its execution, and by the answer of the model that asked for it, where instrumentations
//! record answers. Both are read, because each may be missing, and both together are one call. Attributes have the names
//! of one of these conventions:
//!
//! | convention | the span of a call | source |
//! | --- | --- | --- |
//! | OpenTelemetry | `gen_ai.operation.name` is `execute_tool` | semantic-conventions v1.41, gen-ai-spans.md |
//! | OpenInference | `openinference.span.kind` is `TOOL` | openinference/spec/semantic_conventions.md |
//! | Langfuse | `langfuse.observation.type` is `tool` | langfuse-docs, OpenTelemetry attributes |
//! | OpenLLMetry | `traceloop.span.kind` is `tool` | openllmetry, semantic_conventions_ai |

use std::collections::{BTreeMap, BTreeSet};

use bellwether_gate::score::tools::Call;
use serde_json::{Map, Value};

/// Largest size of a call's arguments in bytes; those of a call with larger ones are not known.
const MAX_ARGUMENTS: usize = 64 << 10;

/// Largest size of a recorded answer in bytes. A larger one is not read, and its calls are those of their own spans.
const MAX_ANSWER: usize = 1 << 20;

/// A span as it was exported, with the attributes that tell calls.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawSpan {
    /// Id of the trace, in 32 lower-case hexadecimal digits.
    pub trace: String,
    /// Id of the span.
    pub id: String,
    /// Id of the parent; empty if the span has none.
    pub parent: String,
    /// Name of the span.
    pub name: String,
    /// Start, as a number that grows with time.
    pub start: u64,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Value>,
}

/// A span with the calls that it tells.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSpan {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    start: u64,
    kind: SpanKind,
}

/// The part of a span in a task.
#[derive(Debug, Clone, PartialEq)]
enum SpanKind {
    /// A call of a tool, with its id.
    Tool(Option<String>, Call),
    /// A request to a model, with the calls that its answer asks for.
    Model(Vec<(Option<String>, Call)>),
    /// Any other piece of work.
    Other,
}

/// The calls that a trace tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TracedCalls {
    /// Calls in the order of their start.
    pub calls: Vec<Call>,
    /// Number of requests to a model; `None` if the trace has none.
    pub steps: Option<u32>,
}

/// The names by which a convention tells a call.
struct Convention {
    /// Attribute that tells the kind of a span.
    kind: &'static str,
    /// Its value for a call of a tool.
    tool: &'static str,
    /// Its values for a request to a model.
    model: &'static [&'static str],
    /// Attribute with the tool's name; without it the name of the span is the tool's.
    name: &'static str,
    arguments: &'static str,
    id: &'static str,
    /// Attribute with the model's answer.
    answer: &'static str,
}

const CONVENTIONS: [Convention; 4] = [
    Convention {
        kind: "gen_ai.operation.name",
        tool: "execute_tool",
        model: &["chat", "text_completion", "generate_content"],
        name: "gen_ai.tool.name",
        arguments: "gen_ai.tool.call.arguments",
        id: "gen_ai.tool.call.id",
        answer: "gen_ai.output.messages",
    },
    Convention {
        kind: "openinference.span.kind",
        tool: "TOOL",
        model: &["LLM"],
        name: "tool.name",
        arguments: "input.value",
        id: "tool_call.id",
        answer: "",
    },
    Convention {
        kind: "langfuse.observation.type",
        tool: "tool",
        model: &["generation"],
        name: "",
        arguments: "langfuse.observation.input",
        id: "",
        answer: "langfuse.observation.output",
    },
    Convention {
        kind: "traceloop.span.kind",
        tool: "tool",
        model: &[],
        name: "traceloop.entity.name",
        arguments: "traceloop.entity.input",
        id: "",
        answer: "",
    },
];

/// Returns whether an attribute of this name is read.
pub(super) fn is_read(name: &str) -> bool {
    let of = |one: &Convention| [one.kind, one.name, one.arguments, one.id, one.answer].contains(&name);
    !name.is_empty() && CONVENTIONS.iter().any(of)
}

impl TraceSpan {
    /// Reads the calls that a span tells.
    pub fn read(raw: RawSpan) -> TraceSpan {
        let kind = CONVENTIONS.iter().find_map(|convention| convention.read(&raw)).unwrap_or(SpanKind::Other);
        TraceSpan { trace: raw.trace, id: raw.id, parent: raw.parent, start: raw.start, kind }
    }

    /// Returns whether the span is a call of a tool.
    pub(super) fn is_call(&self) -> bool {
        matches!(self.kind, SpanKind::Tool(..))
    }

    /// Returns the size of the calls in bytes, about.
    pub(super) fn size(&self) -> usize {
        let of = |(id, call): (&Option<String>, &Call)| {
            call.name.len() + id.as_ref().map_or(0, String::len) + call.arguments.as_ref().map_or(0, String::len)
        };
        let calls = match &self.kind {
            SpanKind::Tool(id, call) => of((id, call)),
            SpanKind::Model(asked) => asked.iter().map(|(id, call)| of((id, call))).sum(),
            SpanKind::Other => 0,
        };
        size_of::<TraceSpan>() + self.trace.len() + self.id.len() + self.parent.len() + calls
    }
}

impl Convention {
    fn read(&self, raw: &RawSpan) -> Option<SpanKind> {
        let kind = raw.attributes.get(self.kind)?.as_str()?;
        if kind == self.tool {
            let named = raw.attributes.get(self.name).and_then(Value::as_str);
            let name = named.unwrap_or_else(|| raw.name.strip_prefix("execute_tool ").unwrap_or(&raw.name));
            let id = raw.attributes.get(self.id).and_then(Value::as_str).map(str::to_owned);
            let arguments = arguments(raw.attributes.get(self.arguments));
            return Some(SpanKind::Tool(id, Call { name: name.to_owned(), arguments }));
        }
        self.model
            .contains(&kind)
            .then(|| SpanKind::Model(raw.attributes.get(self.answer).map(asked).unwrap_or_default()))
    }
}

/// Returns the arguments of a call as the text of a JSON object. `None` if there are none, too large ones, or ones in
/// another form, such as those of a Python function by position: these are not known by name.
fn arguments(value: Option<&Value>) -> Option<String> {
    let (text, object) = match value? {
        Value::String(text) if text.len() <= MAX_ARGUMENTS => {
            (text.clone(), serde_json::from_str::<Map<String, Value>>(text).ok()?)
        }
        Value::Object(object) => (value?.to_string(), object.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return None,
    };
    // Decorators of Python functions (Langfuse, OpenLLMetry) record `args` and `kwargs`.
    let text = match (object.get("args").and_then(Value::as_array), object.get("kwargs")) {
        (Some(args), Some(kwargs)) if object.len() == 2 => args.is_empty().then(|| kwargs.to_string())?,
        _ => text,
    };
    (text.len() <= MAX_ARGUMENTS).then_some(text)
}

/// Returns the calls that a model's answer asks for: messages with parts of the type `tool_call` (OpenTelemetry), or
/// with `tool_calls` (the chat API). An answer may be JSON in a text.
fn asked(answer: &Value) -> Vec<(Option<String>, Call)> {
    let parse = |text: &str| (text.len() <= MAX_ANSWER).then(|| serde_json::from_str(text).ok()).flatten();
    let parsed: Option<Value> = answer.as_str().map(|text| parse(text).unwrap_or_default());
    let answer = parsed.as_ref().unwrap_or(answer);
    let messages = answer.as_array().map_or(std::slice::from_ref(answer), Vec::as_slice);
    let list = |message: &Value, key: &str| message.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let parts = messages
        .iter()
        .flat_map(|message| list(message, "parts"))
        .filter(|part| matches!(part.get("type").and_then(Value::as_str), Some("tool_call" | "server_tool_call")));
    let functions = messages.iter().flat_map(|message| list(message, "tool_calls"));
    parts.chain(functions).filter_map(|call| asked_call(&call)).collect()
}

fn asked_call(value: &Value) -> Option<(Option<String>, Call)> {
    let of = value.get("function").filter(|function| function.is_object()).unwrap_or(value);
    let name = of.get("name").and_then(Value::as_str)?.to_owned();
    let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
    Some((id, Call { name, arguments: arguments(of.get("arguments")) }))
}

/// Returns the calls that the spans of one trace tell. A span within another one of the same kind, such as that of a
/// client within that of a framework, is of the same call or request.
pub fn calls(spans: &[TraceSpan]) -> TracedCalls {
    let by_id: BTreeMap<&str, &TraceSpan> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let mut ordered: Vec<&TraceSpan> = spans.iter().filter(|span| !is_inner(span, &by_id)).collect();
    ordered.sort_by_key(|span| (span.start, &span.id));
    let mut made: Vec<(u64, Option<String>, Call)> = Vec::new();
    for span in &ordered {
        if let SpanKind::Tool(id, call) = &span.kind {
            made.push((span.start, id.clone(), call.clone()));
        }
    }
    let mut taken = BTreeSet::new();
    for span in &ordered {
        let SpanKind::Model(asked) = &span.kind else { continue };
        for (id, call) in asked {
            let is_same = |(at, (_, made_id, made)): (usize, &(u64, Option<String>, Call))| {
                let same = match (id, made_id) {
                    (Some(id), Some(made_id)) => id == made_id,
                    _ => made.name == call.name && may_be_same(made, call),
                };
                (same && !taken.contains(&at)).then_some(at)
            };
            let known = made.iter().enumerate().find_map(is_same);
            let at = known.unwrap_or(made.len());
            if known.is_none() {
                made.push((span.start, id.clone(), call.clone()));
            } else if made[at].2.arguments.is_none() {
                made[at].2.arguments.clone_from(&call.arguments);
            }
            taken.insert(at);
        }
    }
    made.sort_by_key(|(start, ..)| *start);
    let steps = ordered.iter().filter(|span| matches!(span.kind, SpanKind::Model(_))).count();
    TracedCalls {
        calls: made.into_iter().map(|(_, _, call)| call).collect(),
        steps: u32::try_from(steps).ok().filter(|steps| *steps > 0),
    }
}

/// Returns whether two calls of one tool may be the same: their arguments are, or are not known.
fn may_be_same(one: &Call, other: &Call) -> bool {
    let value = |text: &String| serde_json::from_str::<Value>(text).ok();
    one.arguments.as_ref().zip(other.arguments.as_ref()).is_none_or(|(one, other)| {
        one == other || value(one).zip(value(other)).is_some_and(|(one, other)| one == other)
    })
}

/// Returns whether a span is within another one that tells the same call or request.
fn is_inner(span: &TraceSpan, by_id: &BTreeMap<&str, &TraceSpan>) -> bool {
    let is_same = |outer: &TraceSpan| match (&span.kind, &outer.kind) {
        (SpanKind::Tool(_, one), SpanKind::Tool(_, other)) => one.name == other.name,
        (SpanKind::Model(_), SpanKind::Model(_)) => true,
        _ => false,
    };
    let mut seen = BTreeSet::from([span.id.as_str()]);
    let mut parent = span.parent.as_str();
    while let Some(outer) = by_id.get(parent) {
        // Parents of a hostile trace may form a circle.
        if !seen.insert(parent) {
            return false;
        }
        if is_same(outer) {
            return true;
        }
        parent = &outer.parent;
    }
    false
}
