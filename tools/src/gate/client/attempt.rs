//! One attempt at a request: sends it, reads the response, and tells the kind of a failure.

use std::time::Duration;

use bellwether_gate::observation::{FailedAttempts, MissingAnswer};
use bellwether_gate::suite::Thinking;
use bytes::Bytes;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::pause::asked_pause;
use super::refusal::refusal;
use super::{Role, TimedReply};
use crate::failure::describe;
use crate::gate::wire::assembly::{NoReply, parse_whole};
use crate::gate::wire::error::ApiError;
use crate::gate::wire::stream::{Progress, ReplyStream};

/// Largest size of an answer, in bytes; a larger one counts as malformed.
const MAX_ANSWER: usize = 16 << 20;
/// Time for which the usage is awaited after a stream has said why it ended.
const USAGE_WAIT: Duration = Duration::from_secs(1);
/// Time for which the end of the response is awaited after `[DONE]`, so that its connection can be used again.
const CLOSE_WAIT: Duration = Duration::from_millis(100);

/// A failed attempt.
#[derive(Debug)]
pub(super) struct FailedAttempt {
    pub(super) why: MissingAnswer,
    pub(super) detail: String,
    /// Whether another attempt may succeed.
    pub(super) retry: bool,
    /// The pause that the server asks for.
    pub(super) pause: Option<Duration>,
    /// The reason why every request of this kind is refused, with the remedy.
    pub(super) refusal: Option<String>,
}

/// The time within which an attempt must be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    since: Instant,
    timeout: Duration,
}

/// The response to an attempt, with a status of success; its body is not read yet.
pub(super) struct Response {
    http: reqwest::Response,
    deadline: Deadline,
}

impl Deadline {
    /// Returns the deadline of an attempt that begins now.
    pub(super) fn after(timeout: Duration) -> Deadline {
        Deadline { since: Instant::now(), timeout }
    }

    /// Returns the milliseconds since the attempt began.
    pub(super) fn millis(self) -> f64 {
        self.since.elapsed().as_secs_f64() * 1000.0
    }

    fn until(self) -> Instant {
        self.since + self.timeout
    }

    /// Returns the failure of an attempt that is not answered in time. It is not retried: the server may still work on
    /// the request, and a slow answer is a result.
    fn missed(self) -> FailedAttempt {
        failed(MissingAnswer::Timeout, format!("no answer within {:?}", self.timeout))
    }
}

/// Sends a request with this body.
pub(super) async fn send(
    role: Role,
    request: RequestBuilder,
    body: &Value,
    deadline: Deadline,
) -> Result<Response, FailedAttempt> {
    let sent = timeout_at(deadline.until(), request.json(body).send()).await.map_err(|_| deadline.missed())?;
    let http =
        sent.map_err(|error| FailedAttempt { retry: true, ..failed(MissingAnswer::Unreachable, describe(error)) })?;
    let status = http.status();
    let response = Response { http, deadline };
    if status.is_success() {
        return Ok(response);
    }
    let pause = asked_pause(response.http.headers());
    let answer = response.json().await.unwrap_or(Value::Null);
    let error = ApiError::of_body(Some(status.as_u16()), &answer, body);
    let refusal = refusal(role, &error);
    Err(FailedAttempt { pause, refusal, ..from_error(&error) })
}

impl Response {
    /// Reads a completion, whole or as a stream.
    pub(super) async fn reply(self, streams: bool, thinking: &Thinking) -> Result<TimedReply, FailedAttempt> {
        let kind = self.http.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // Some servers answer whole although they are asked for a stream, and others the other way round.
        if kind.contains("event-stream") || (streams && !kind.contains("json")) {
            return self.stream(thinking).await;
        }
        let deadline = self.deadline;
        let reply = parse_whole(&self.json().await?, thinking).map_err(from_no_reply)?;
        let failed = FailedAttempts::new();
        Ok(TimedReply { reply, ttft_ms: None, answer_start_ms: None, total_ms: deadline.millis(), failed })
    }

    /// Reads the JSON of an answer that is no completion.
    pub(super) async fn value(self) -> Result<Value, FailedAttempt> {
        let value = self.json().await?;
        ApiError::in_answer(&value).map_or(Ok(value), |error| Err(from_error(&error)))
    }

    async fn json(mut self) -> Result<Value, FailedAttempt> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(self.deadline.until()).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(malformed("the response is longer than 16 MB"));
            }
        }
        serde_json::from_slice(&bytes).map_err(|_| malformed("the response is not JSON"))
    }

    /// Reads a stream until it says that it is done. A server that leaves the connection open, or breaks it after the
    /// answer, does not change the answer.
    async fn stream(mut self, thinking: &Thinking) -> Result<TimedReply, FailedAttempt> {
        let mut stream = ReplyStream::new(thinking);
        let (mut progress, mut length, mut until) = (Progress::Open, 0, self.deadline.until());
        while progress != Progress::Done {
            let chunk = match self.chunk(until).await {
                Ok(Some(chunk)) => chunk,
                Err(failed) if progress == Progress::Open => return Err(failed),
                Ok(None) | Err(_) => break,
            };
            length += chunk.len();
            if length > MAX_ANSWER {
                return Err(malformed("the stream is longer than 16 MB"));
            }
            let before = progress;
            progress = stream.push(&chunk, self.deadline.millis()).map_err(from_no_reply)?;
            if before == Progress::Open && progress == Progress::Ended {
                until = Instant::now() + USAGE_WAIT;
            }
        }
        if progress == Progress::Done {
            // Its end, or the reason why it has none, does not matter.
            let until = Instant::now() + CLOSE_WAIT;
            while let Ok(Some(_)) = self.chunk(until).await {}
        }
        let streamed = stream.finish().map_err(from_no_reply)?;
        Ok(TimedReply {
            reply: streamed.reply,
            ttft_ms: streamed.first_token_ms,
            answer_start_ms: streamed.answer_start_ms,
            total_ms: streamed.last_token_ms,
            failed: FailedAttempts::new(),
        })
    }

    async fn chunk(&mut self, until: Instant) -> Result<Option<Bytes>, FailedAttempt> {
        let chunk = timeout_at(until, self.http.chunk()).await.map_err(|_| self.deadline.missed())?;
        chunk.map_err(|error| FailedAttempt { retry: true, ..failed(MissingAnswer::Interrupted, describe(error)) })
    }
}

fn failed(why: MissingAnswer, detail: String) -> FailedAttempt {
    FailedAttempt { why, detail, retry: false, pause: None, refusal: None }
}

fn malformed(detail: &str) -> FailedAttempt {
    failed(MissingAnswer::Malformed, detail.to_owned())
}

fn from_no_reply(none: NoReply) -> FailedAttempt {
    match none {
        NoReply::Error(error) => from_error(&error),
        NoReply::Malformed(why) => malformed(why),
        NoReply::Interrupted => FailedAttempt {
            retry: true,
            ..failed(MissingAnswer::Interrupted, "the stream ended in the middle of the answer".to_owned())
        },
    }
}

/// Returns the failure that an error of the server stands for. Like in the clients of the API's makers, 408, 409, 425,
/// 429 and 5xx are retried.
fn from_error(error: &ApiError) -> FailedAttempt {
    let why = match error.status {
        _ if error.filtered => MissingAnswer::Filtered,
        429 => MissingAnswer::RateLimited,
        408 | 409 | 425 | 500.. => MissingAnswer::ServerError,
        _ => MissingAnswer::Refused,
    };
    let retry = matches!(why, MissingAnswer::RateLimited | MissingAnswer::ServerError);
    FailedAttempt { retry, ..failed(why, error.describe()) }
}
