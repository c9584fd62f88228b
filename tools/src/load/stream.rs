//! A streamed answer (server-sent events): the time of its first content, its pace, and whether it came to an end.
//!
//! An event is read as OpenAI's chat completions, completions and responses, or as Anthropic's messages have it. Any other
//! event is content. Comments, which servers send to keep a connection, are no events.

use std::time::Duration;

use serde_json::Value;

use super::tally::{FailedRequest, GoodAnswer, RequestFailure, StreamPace};

/// The longest line of a stream, in bytes. A longer one ends the answer as a failure.
const MAX_LINE: usize = 1 << 20;

/// The part of a stream that has been read.
#[derive(Debug, Default)]
pub struct EventReader {
    /// Bytes of the line that is not complete.
    line: Vec<u8>,
    /// Name of the event that is not complete; empty if it has none.
    name: String,
    /// Data of the event that is not complete; `None` before its first line.
    data: Option<String>,
    /// Time of the first event with content.
    first: Option<Duration>,
    /// Time of the last event with content.
    last: Option<Duration>,
    /// Number of events with content.
    contents: u64,
    /// Number of tokens that the server counted.
    tokens: Option<u64>,
    /// Whether the protocol tells the end of an answer.
    has_end: bool,
    /// Whether the end was told.
    finished: bool,
    /// Error that the server sent as an event, or that makes the stream unreadable.
    error: Option<String>,
}

/// The meaning of one event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    content: bool,
    has_end: bool,
    finished: bool,
    /// Nothing follows.
    done: bool,
    tokens: Option<u64>,
    error: Option<String>,
}

impl EventReader {
    /// Reads bytes that arrived at the time `now` since the start of the test. Returns whether the answer is over, so that
    /// nothing more needs to be read although the connection may stay open.
    pub fn read(&mut self, bytes: &[u8], now: Duration) -> bool {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > MAX_LINE {
                    self.error = Some(format!("a line of more than {MAX_LINE} bytes"));
                    return true;
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            if self.end_of_line(line.trim_end_matches('\r'), now) {
                return true;
            }
        }
        false
    }

    /// Returns whether the server has told the end of the answer.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Returns the answer's times, or the reason why it is not good.
    ///
    /// # Errors
    /// The stream has an error or no content, or does not come to its end.
    pub fn end(self) -> Result<GoodAnswer, FailedRequest> {
        if let Some(why) = self.error {
            return Err(FailedRequest::new(RequestFailure::InStream, why));
        }
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return Err(FailedRequest::new(RequestFailure::Empty, "a stream without content"));
        };
        if self.has_end && !self.finished {
            return Err(FailedRequest::new(RequestFailure::Truncated, "the stream ends before its end is told"));
        }
        let tokens = self.tokens.unwrap_or(self.contents).max(1);
        let between = (last - first) / u32::try_from(tokens - 1).unwrap_or(u32::MAX).max(1);
        Ok(GoodAnswer { first, complete: last, pace: Some(StreamPace { tokens, between }) })
    }

    /// Takes a complete line, and returns whether the answer is over.
    fn end_of_line(&mut self, line: &str, now: Duration) -> bool {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return self.data.take().is_some_and(|data| self.take(meaning(&name, &data), now));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                let data = self.data.get_or_insert_default();
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value);
            }
            // A comment has no field name; `id` and `retry` are for clients that connect again.
            _ => {}
        }
        false
    }

    fn take(&mut self, meaning: Meaning, now: Duration) -> bool {
        if meaning.content {
            self.first.get_or_insert(now);
            self.last = Some(now);
            self.contents += 1;
        }
        self.has_end |= meaning.has_end;
        self.finished |= meaning.finished || meaning.done;
        self.tokens = meaning.tokens.or(self.tokens);
        let failed = meaning.error.is_some();
        self.error = self.error.take().or(meaning.error);
        failed || meaning.done
    }
}

fn meaning(name: &str, data: &str) -> Meaning {
    if data.trim() == "[DONE]" {
        return Meaning { has_end: true, done: true, ..Meaning::default() };
    }
    let Ok(value) = serde_json::from_str::<Value>(data) else {
        let error = (name == "error").then(|| "event `error`".to_owned());
        return Meaning { content: error.is_none(), error, ..Meaning::default() };
    };
    if let Some(error) = error(name, &value) {
        return Meaning { error: Some(error), ..Meaning::default() };
    }
    if let Some(choices) = value["choices"].as_array() {
        return Meaning {
            content: choices.iter().any(has_content),
            has_end: true,
            finished: choices.iter().any(|choice| !choice["finish_reason"].is_null()),
            tokens: value["usage"]["completion_tokens"].as_u64(),
            ..Meaning::default()
        };
    }
    match value["type"].as_str() {
        Some("message_stop" | "response.completed" | "response.incomplete") => {
            let tokens = value["response"]["usage"]["output_tokens"].as_u64();
            Meaning { has_end: true, done: true, tokens, ..Meaning::default() }
        }
        Some(kind) => Meaning {
            content: kind == "content_block_delta" || kind.ends_with(".delta"),
            has_end: true,
            tokens: value["usage"]["output_tokens"].as_u64(),
            ..Meaning::default()
        },
        None => Meaning { content: true, ..Meaning::default() },
    }
}

/// Returns the code or the kind of the error that an event tells; `None` if it tells none. The server's message is left
/// out, since it may repeat the request.
fn error(name: &str, value: &Value) -> Option<String> {
    let inner = &value["error"];
    let is_error = name == "error"
        || !inner.is_null()
        || value["object"] == "error"
        || value["type"].as_str().is_some_and(|kind| kind == "error" || kind.ends_with(".failed"));
    let fields = [&inner["code"], &inner["type"], &value["code"], &value["type"]];
    let code = fields.into_iter().find(|field| field.is_string() || field.is_number());
    is_error
        .then(|| code.map_or_else(|| "without a code".to_owned(), |code| code.to_string().trim_matches('"').to_owned()))
}

/// Returns whether a choice has a part of an answer: text, reasoning, a refusal or a tool call.
fn has_content(choice: &Value) -> bool {
    let delta = &choice["delta"];
    let texts =
        [&delta["content"], &delta["reasoning_content"], &delta["reasoning"], &delta["refusal"], &choice["text"]];
    texts.into_iter().any(|text| text.as_str().is_some_and(|text| !text.is_empty()))
        || delta["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads pieces that arrive every 100 ms from 100 ms on. Returns the answer, and the piece at which it was over.
    fn read(pieces: &[&str]) -> (Result<GoodAnswer, FailedRequest>, Option<usize>) {
        let mut reader = EventReader::default();
        let at = |n: usize| Duration::from_millis(100 * (n as u64 + 1));
        let over = pieces.iter().enumerate().position(|(n, piece)| reader.read(piece.as_bytes(), at(n)));
        (reader.end(), over)
    }

    fn kind(pieces: &[&str]) -> Option<RequestFailure> {
        read(pieces).0.err().map(|failed| failed.kind)
    }

    const ROLE: &str =
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
    const WORD: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
    const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":5}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    #[test]
    fn the_first_content_counts_and_neither_a_comment_nor_the_role() {
        let (answer, over) = read(&[": keep-alive\n\n", ROLE, WORD, WORD, STOP, USAGE, DONE, WORD]);
        let pace = StreamPace { tokens: 5, between: Duration::from_millis(25) };
        let millis = Duration::from_millis;
        assert_eq!(answer.unwrap(), GoodAnswer { first: millis(300), complete: millis(400), pace: Some(pace) });
        assert_eq!(over, Some(6));
    }

    #[test]
    fn an_event_is_found_wherever_the_stream_is_cut() {
        let whole = [ROLE, WORD, WORD, STOP, DONE].concat().replace('\n', "\r\n");
        for cut in 1..whole.len() {
            let (answer, _) = read(&[&whole[..cut], &whole[cut..]]);
            assert_eq!(answer.unwrap().pace.unwrap().tokens, 2, "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_without_content_or_end_is_not_good() {
        assert_eq!(kind(&[]), Some(RequestFailure::Empty));
        assert_eq!(kind(&[DONE]), Some(RequestFailure::Empty));
        assert_eq!(kind(&[": keep-alive\n\n", ROLE, STOP, DONE]), Some(RequestFailure::Empty));
        assert_eq!(kind(&[ROLE, WORD]), Some(RequestFailure::Truncated));
        assert_eq!(kind(&["event: x\n", "no data: here\n\n"]), Some(RequestFailure::Empty));
        // A protocol that tells no end.
        assert_eq!(kind(&["data: 1\n\n", "data: 2\n\n"]), None);
    }

    #[test]
    fn an_error_in_the_stream_is_a_failure_with_its_code() {
        let rows = [
            ("data: {\"error\":{\"message\":\"you said x\",\"type\":\"server_error\",\"code\":503}}\n\n", "503"),
            ("data: {\"object\":\"error\",\"message\":\"x\",\"code\":400}\n\n", "400"),
            (
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
                "overloaded_error",
            ),
            ("event: error\ndata: gone\n\n", "event `error`"),
            ("data: {\"type\":\"response.failed\"}\n\n", "response.failed"),
        ];
        for (event, code) in rows {
            let (answer, over) = read(&[WORD, event, DONE]);
            assert_eq!(answer.unwrap_err(), FailedRequest::new(RequestFailure::InStream, code), "{event}");
            assert_eq!(over, Some(1));
        }
    }

    #[test]
    fn the_protocols_of_messages_and_responses_are_read() {
        let messages = [
            "event: message_start\ndata: {\"type\":\"message_start\"}\n\n",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"a\"}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ];
        let (answer, over) = read(&messages);
        assert_eq!((answer.unwrap().pace.unwrap().tokens, over), (7, Some(4)));
        assert_eq!(kind(&messages[..4]), Some(RequestFailure::Truncated));
        let responses = [
            "data: {\"type\":\"response.created\"}\n\n",
            "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n",
            "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"output_tokens\":9}}}\n\n",
        ];
        assert_eq!(read(&responses).0.unwrap().pace.unwrap().tokens, 9);
    }
}
