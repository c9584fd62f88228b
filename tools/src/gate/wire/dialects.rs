//! Answers in the form of the servers that people run, each with its meaning. The files in `dialects/` were written for
//! this table from the servers' own documentation and sources, which they name.
//!
//! A file has comments (`#`), and for each answer a line `== whole NAME`, `== stream NAME` or `== status N NAME`, a line
//! `-> EXPECTED` in JSON, and the body. The keys of `EXPECTED` are those of [`found`]; a key that is absent has the value
//! that it has for an empty answer. `thinking` in the first line of a file says how the endpoint's suite tells thinking.

use bellwether_gate::suite::{Suite, Thinking};
use serde_json::{Value, json};

use super::assembly::{NoReply, parse_whole};
use super::error::ApiError;
use super::stream::ReplyStream;
use super::{Reply, ToolCall};

const FILES: [(&str, &str); 10] = [
    ("openai", include_str!("dialects/openai.txt")),
    ("azure", include_str!("dialects/azure.txt")),
    ("vllm", include_str!("dialects/vllm.txt")),
    ("sglang", include_str!("dialects/sglang.txt")),
    ("llama-cpp", include_str!("dialects/llama-cpp.txt")),
    ("ollama", include_str!("dialects/ollama.txt")),
    ("litellm", include_str!("dialects/litellm.txt")),
    ("mistral", include_str!("dialects/mistral.txt")),
    ("anthropic", include_str!("dialects/anthropic.txt")),
    ("tags", include_str!("dialects/tags.txt")),
];

/// An answer of a file.
struct Answer<'a> {
    /// `whole`, `stream` or `status N`, and the answer's name.
    title: &'a str,
    expected: Value,
    body: &'a str,
}

fn answers(file: &str) -> Vec<Answer<'_>> {
    let of = |section| {
        let (title, rest): (&str, &str) = str::split_once(section, '\n').unwrap();
        let (expected, body) =
            rest.strip_prefix("-> ").unwrap_or_else(|| panic!("{title} has no ->")).split_once('\n').unwrap();
        let expected = serde_json::from_str(expected).unwrap_or_else(|error| panic!("{title}: {error}"));
        Answer { title, expected, body }
    };
    file.split("\n== ").skip(1).map(of).collect()
}

/// Returns the meaning of a response as JSON, without the keys that have the value of an empty answer.
fn found(response: &Result<Reply, NoReply>) -> Value {
    let reply = match response {
        Ok(reply) => reply,
        Err(NoReply::Error(error)) => return json!({ "error": error.describe(), "filtered": error.filtered }),
        Err(NoReply::Malformed(why)) => return json!({ "malformed": why }),
        Err(NoReply::Interrupted) => return json!({ "interrupted": true }),
    };
    let call = |ToolCall { id, call, .. }: &ToolCall| json!([id, call.name, call.arguments]);
    let mut found = json!({
        "text": reply.text, "thought": reply.thought, "refused": reply.refused,
        "calls": reply.calls.iter().map(call).collect::<Vec<_>>(),
        "lacking": reply.lacking().map(|why| why.to_string()),
        "tokens": reply.input_tokens.zip(reply.output_tokens),
        "back": reply.message(true),
    });
    let plain = json!({ "text": "", "thought": false, "refused": false, "calls": [], "lacking": null, "tokens": null });
    let map = found.as_object_mut().unwrap();
    map.retain(|key, value| plain.get(key) != Some(value));
    // The message that goes back is compared where it has more than the text.
    if reply.calls.is_empty() && !reply.thought {
        map.remove("back");
    }
    found
}

/// Parses a stream that comes in pieces of `size` bytes.
fn streamed(body: &str, size: usize, thinking: &Thinking) -> Result<Reply, NoReply> {
    let mut stream = ReplyStream::new(thinking);
    for (at, bytes) in body.as_bytes().chunks(size).enumerate() {
        stream.push(bytes, at as f64)?;
    }
    let streamed = stream.finish()?;
    let is_ordered = |one: Option<f64>, other: Option<f64>| one.zip(other).is_none_or(|(one, other)| one <= other);
    assert!(is_ordered(streamed.first_token_ms, streamed.answer_start_ms), "{streamed:?}");
    assert!(is_ordered(streamed.answer_start_ms, Some(streamed.last_token_ms)), "{streamed:?}");
    Ok(streamed.reply)
}

fn thinking_of(file: &str) -> Thinking {
    let line = file.lines().next().unwrap().strip_prefix("# thinking = ").unwrap_or("\"field\"");
    let suite = format!(
        "name = \"t\"\n[target]\ndialect.thinking = {line}\n[[gate]]\nkind = \"tools\"\ndataset = \"d\"\nlimits.loops = {{ max = \"5%\" }}"
    );
    Suite::parse(&suite).unwrap().target.dialect.thinking
}

#[test]
fn each_servers_answers_have_their_meaning() {
    let mut count = 0;
    for (name, file) in FILES {
        assert!(file.contains("# source: "), "{name} names no source");
        let thinking = thinking_of(file);
        for Answer { title, expected, body } in answers(file) {
            let (kind, rest) = title.split_once(' ').unwrap();
            let responses: Vec<Result<Reply, NoReply>> = match kind {
                "whole" => vec![parse_whole(&serde_json::from_str(body).unwrap(), &thinking)],
                "stream" => [1, 7, 50_000].map(|size| streamed(body.trim_start(), size, &thinking)).to_vec(),
                _ => {
                    let status = rest.split(' ').next().unwrap().parse().unwrap();
                    let sent = json!({ "model": "m", "messages": [], "max_tokens": 9, "temperature": 0.0,
                                       "stream_options": {}, "tools": [] });
                    let error = ApiError::of_body(Some(status), &serde_json::from_str(body).unwrap(), &sent);
                    vec![Err(NoReply::Error(error))]
                }
            };
            for response in responses {
                assert_eq!(found(&response), expected, "{name}: {title}");
                count += 1;
            }
        }
    }
    assert!(count > 80, "{count} answers were compared");
}
