//! An answer that comes as a stream of server-sent events, cut at any place. The caller passes the time with the bytes.

use bellwether_gate::suite::Thinking;
use serde_json::Value;

use super::Reply;
use super::assembly::{Assembly, NoReply};
use super::error::ApiError;

/// An answer that is assembled from a stream.
#[derive(Debug)]
pub struct ReplyStream<'a> {
    thinking: &'a Thinking,
    assembly: Assembly,
    done: bool,
    /// Bytes of the last line, which is not complete yet.
    rest: Vec<u8>,
    first_token_ms: Option<f64>,
    /// The time of the first call of a tool or refusal.
    first_other_ms: Option<f64>,
    last_token_ms: Option<f64>,
    end_ms: Option<f64>,
    /// The time of the last bytes.
    now_ms: f64,
    /// The length of the content after each of its pieces, and the time of the piece.
    pieces: Vec<(usize, f64)>,
}

/// The progress of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The answer goes on.
    Open,
    /// The server has said why the answer ended; its usage may follow.
    Ended,
    /// The server has sent `[DONE]`, or its usage after the end: nothing else follows that matters.
    Done,
}

/// An answer with the times at which its tokens came, in milliseconds as the caller counts them.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamedReply {
    /// The answer without its times.
    pub reply: Reply,
    /// The time of the first token, be it of the thinking or of the answer.
    pub first_token_ms: Option<f64>,
    /// The time of the first token of the answer or of a call, after the thinking.
    pub answer_start_ms: Option<f64>,
    /// The time of the last token; of an answer without tokens, of its end.
    pub last_token_ms: f64,
}

impl<'a> ReplyStream<'a> {
    /// Returns an empty answer of a model that thinks as `thinking` says.
    pub fn new(thinking: &'a Thinking) -> ReplyStream<'a> {
        ReplyStream {
            thinking,
            assembly: Assembly::default(),
            done: false,
            rest: Vec::new(),
            first_token_ms: None,
            first_other_ms: None,
            last_token_ms: None,
            end_ms: None,
            now_ms: 0.0,
            pieces: Vec::new(),
        }
    }

    /// Adds bytes that came at `at_ms`, and returns the progress.
    ///
    /// # Errors
    /// [`NoReply`] if the server reports an error, or sends data that is not of the API.
    pub fn push(&mut self, bytes: &[u8], at_ms: f64) -> Result<Progress, NoReply> {
        self.now_ms = at_ms;
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.add_line(&line, at_ms)?;
        }
        Ok(match (self.done, self.assembly.has_ended()) {
            (true, _) => Progress::Done,
            (false, true) => Progress::Ended,
            (false, false) => Progress::Open,
        })
    }

    fn add_line(&mut self, line: &[u8], at_ms: f64) -> Result<(), NoReply> {
        const BROKEN: NoReply = NoReply::Malformed("the stream holds data that is not a chunk of an answer");
        let line = std::str::from_utf8(line).map_err(|_| BROKEN)?.trim_end();
        // Comments, event names and empty lines have no data. llama.cpp has sent errors as a field of that name.
        let Some(data) = line.strip_prefix("data:").or_else(|| line.strip_prefix("error:")).map(str::trim) else {
            return Ok(());
        };
        if data == "[DONE]" {
            self.done = true;
            self.end_ms.get_or_insert(at_ms);
            return Ok(());
        }
        let value: Value = serde_json::from_str(data).map_err(|_| BROKEN)?;
        if let Some(error) = ApiError::in_answer(&value) {
            return Err(NoReply::Error(error));
        }
        if line.starts_with("error:") {
            return Err(NoReply::Error(ApiError::of_body(None, &value, &Value::Null)));
        }
        let has_usage = self.assembly.add_usage(&value);
        if let Some(choice) = value.pointer("/choices/0") {
            self.add_choice(choice, at_ms);
        }
        self.done |= has_usage && self.assembly.has_ended();
        Ok(())
    }

    fn add_choice(&mut self, choice: &Value, at_ms: f64) {
        let before = self.assembly.content_length();
        let tokens = self.assembly.add_choice(choice);
        let after = self.assembly.content_length();
        if after > before {
            self.pieces.push((after, at_ms));
        } else if tokens.answer {
            self.first_other_ms.get_or_insert(at_ms);
        }
        if tokens.answer || tokens.thinking {
            self.first_token_ms.get_or_insert(at_ms);
            self.last_token_ms = Some(at_ms);
        }
        if self.assembly.has_ended() {
            self.end_ms.get_or_insert(at_ms);
        }
    }

    /// Returns the whole answer.
    ///
    /// # Errors
    /// [`NoReply`] if the stream ended before the answer did, or is no answer.
    pub fn finish(mut self) -> Result<StreamedReply, NoReply> {
        // The last line may lack its end. If it is half a line, the answer was interrupted.
        let rest = std::mem::take(&mut self.rest);
        if let Err(NoReply::Error(error)) = self.add_line(&rest, self.now_ms) {
            return Err(NoReply::Error(error));
        }
        let Some(end_ms) = self.end_ms else { return Err(NoReply::Interrupted) };
        let (reply, answer_from) = self.assembly.finish(self.thinking)?;
        let first_text = self.pieces.iter().find(|(length, _)| *length > answer_from).map(|(_, at_ms)| *at_ms);
        let answer_start_ms = match (first_text, self.first_other_ms) {
            (Some(text), Some(other)) => Some(text.min(other)),
            (text, other) => text.or(other),
        };
        let last_token_ms = self.last_token_ms.unwrap_or(end_ms);
        Ok(StreamedReply { reply, first_token_ms: self.first_token_ms, answer_start_ms, last_token_ms })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(delta: &Value, finish: &Value) -> String {
        format!("data: {}\n\n", json!({ "choices": [{ "delta": delta, "finish_reason": finish }] }))
    }

    /// Streams events, one each 10 ms.
    fn streamed(thinking: &Thinking, events: &[String]) -> (StreamedReply, Vec<Progress>) {
        let mut stream = ReplyStream::new(thinking);
        let push = |(at, event): (usize, &String)| stream.push(event.as_bytes(), 10.0 * (at + 1) as f64).unwrap();
        let progress = events.iter().enumerate().map(push).collect();
        (stream.finish().unwrap(), progress)
    }

    #[test]
    fn times_are_those_of_tokens_and_the_end_is_told_by_the_server() {
        let (role, none) = (json!({ "role": "assistant", "content": "" }), Value::Null);
        let usage =
            format!("data: {}\n\n", json!({ "choices": [], "usage": { "prompt_tokens": 1, "completion_tokens": 2 } }));
        let field = [
            event(&role, &none),
            event(&json!({ "reasoning_content": "Hm." }), &none),
            event(&json!({ "content": "Pa" }), &none),
            event(&json!({ "content": "ris" }), &none),
            event(&json!({}), &json!("stop")),
            ": ping\n\n".to_owned(),
            usage,
        ];
        let (reply, progress) = streamed(&Thinking::Field, &field);
        let times = |reply: &StreamedReply| (reply.first_token_ms, reply.answer_start_ms, reply.last_token_ms);
        assert_eq!(times(&reply), (Some(20.0), Some(30.0), 40.0));
        use Progress::{Done, Ended, Open};
        assert_eq!(progress, [Open, Open, Open, Open, Ended, Ended, Done]);
        let tags = Thinking::Tags { begin: "<think>".to_owned(), end: "</think>".to_owned() };
        let text = ["<think>Hm.", "</think>\n", "\nPa", "ris"];
        let mut events = text.map(|text| event(&json!({ "content": text }), &none)).to_vec();
        events.push(event(&json!({}), &json!("stop")));
        events.push("data: [DONE]\n\n".to_owned());
        let (reply, progress) = streamed(&tags, &events);
        assert_eq!((times(&reply), progress.last()), ((Some(10.0), Some(30.0), 40.0), Some(&Done)));
        // A call without text, and nothing at all.
        let call = json!({ "tool_calls": [{ "index": 0, "id": "1", "function": { "name": "f", "arguments": "{}" } }] });
        let (reply, _) = streamed(&tags, &[event(&call, &json!("tool_calls"))]);
        assert_eq!(times(&reply), (Some(10.0), Some(10.0), 10.0));
        let (reply, _) = streamed(&tags, &[event(&role, &none), "data: [DONE]\n\n".to_owned()]);
        assert_eq!(times(&reply), (None, None, 20.0));
    }
}
