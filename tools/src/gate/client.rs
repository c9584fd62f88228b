//! The client of one endpoint. A request that fails because the server is busy, broken or unreachable is retried a
//! limited number of times, and never sooner than the server asks. The result is an answer or a typed reason why there
//! is none; both say which attempts failed.
//!
//! No error holds a key, a URL's password or text of the prompt: servers repeat parts of a request in their errors, so
//! only the code of an error and the name of a refused parameter are kept.

mod attempt;
mod pause;
mod refusal;
mod setup;

use std::time::Duration;

use bellwether_gate::observation::{FailedAttempts, MissingAnswer};
use bellwether_gate::suite::{Dialect, Endpoint};
use serde_json::Value;

use super::budget::{BudgetExhausted, RunBudget, Usage};
use super::traces::RequestTraces;
use super::wire::Reply;
use attempt::{Deadline, FailedAttempt, Response};
use pause::{LONGEST_ASKED, Pauses};
pub use setup::ClientSetupError;
pub(super) use setup::{connect, with_path};

/// The part of an endpoint in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The version that is tested.
    Target,
    /// The version that it is compared with.
    Stable,
    /// The model that scores by a rubric.
    Judge,
    /// The classifier that finds harmful answers.
    Classifier,
    /// The endpoint that turns texts into vectors.
    Embedder,
}

impl Role {
    /// Returns the role in a sentence, as in "the judge".
    pub fn name(self) -> &'static str {
        match self {
            Role::Target => "the target",
            Role::Stable => "the stable",
            Role::Judge => "the judge",
            Role::Classifier => "the classifier",
            Role::Embedder => "the embedder",
        }
    }

    /// Returns the section of the suite that the endpoint is written in.
    pub fn section(self) -> &'static str {
        match self {
            Role::Target => "target",
            Role::Stable => "stable",
            Role::Judge => "judge",
            Role::Classifier => "classifier",
            Role::Embedder => "embedder",
        }
    }
}

/// The client of one endpoint: a model, a judge, a classifier or an embedder.
pub struct EndpointClient {
    http: reqwest::Client,
    role: Role,
    endpoint: Endpoint,
    timeout: Duration,
    retries: u32,
}

/// The reason why a request has no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Unanswered {
    /// The request was sent, or was impossible, and its answer is missing.
    Missing {
        /// Kind of failure.
        why: MissingAnswer,
        /// Description of the failure, without text of the prompt.
        detail: String,
        /// Milliseconds that the last attempt took.
        after_ms: f64,
        /// Failed attempts of the request.
        failed: FailedAttempts,
        /// The reason why the endpoint refuses every request of this kind, with the remedy; `None` if it may answer
        /// another one.
        refusal: Option<String>,
    },
    /// The request was not sent, because the budget is used up.
    Exhausted(BudgetExhausted),
}

/// An answer with the times of its attempt. Earlier attempts that failed do not count, so that the times are those of
/// accepted requests.
#[derive(Debug, Clone)]
pub struct TimedReply {
    /// The parsed answer.
    pub reply: Reply,
    /// Milliseconds from the start of the attempt to the first token, be it of the thinking or of the answer; `None` if
    /// the answer is no stream.
    pub ttft_ms: Option<f64>,
    /// Milliseconds from the start of the attempt to the first token after the thinking; `None` if the answer is no
    /// stream.
    pub answer_start_ms: Option<f64>,
    /// Milliseconds from the start of the attempt to the last token.
    pub total_ms: f64,
    /// Failed attempts before the one that was answered.
    pub failed: FailedAttempts,
}

fn usage(body: &Value, input: Option<u64>, output: Option<u64>, text: &str) -> Usage {
    Usage { input, output, sent: body.to_string().len(), received: text.len() }
}

impl EndpointClient {
    /// Returns a client of `endpoint` with `timeout` for each attempt and at most `retries` retries of a request.
    ///
    /// # Errors
    /// [`ClientSetupError`] if the URL is no HTTP URL, a secret or a certificate can't be read, or the HTTP client can't
    /// be built.
    pub fn new(
        role: Role,
        endpoint: &Endpoint,
        timeout: Duration,
        retries: u32,
    ) -> Result<EndpointClient, ClientSetupError> {
        let (http, url) = connect(role, endpoint)?;
        let endpoint = Endpoint { url, ..endpoint.clone() };
        Ok(EndpointClient { http, role, endpoint, timeout, retries })
    }

    /// Returns the endpoint's part in a sentence, as in "the judge".
    pub fn name(&self) -> &'static str {
        self.role.name()
    }

    /// Returns the name of the model that requests ask for.
    pub fn model(&self) -> &str {
        &self.endpoint.model
    }

    /// Returns the details in which the endpoint differs from others.
    pub fn dialect(&self) -> &Dialect {
        &self.endpoint.dialect
    }

    /// Sends a request for a completion to `path` and returns the answer; `body` says whether it is streamed. The
    /// refusal of a content filter is an answer. `traces` gives each attempt its trace.
    ///
    /// # Errors
    /// [`Unanswered`] with the reason why there is no answer.
    pub async fn complete(
        &self,
        path: &str,
        body: &Value,
        traces: Option<&RequestTraces<'_>>,
        budget: &RunBudget,
    ) -> Result<TimedReply, Unanswered> {
        let streams = body.get("stream").is_some();
        let complete = async |deadline: Deadline| {
            let answer = match self.send(path, body, traces, deadline).await {
                Ok(response) => response.reply(streams, &self.endpoint.dialect.thinking).await,
                Err(failed) => Err(failed),
            };
            match answer {
                Err(FailedAttempt { why: MissingAnswer::Filtered, .. }) => Ok(TimedReply {
                    reply: Reply::filtered(),
                    ttft_ms: None,
                    answer_start_ms: None,
                    total_ms: deadline.millis(),
                    failed: FailedAttempts::new(),
                }),
                answer => answer,
            }
        };
        let (timed, failed) = self.with_retries(budget, complete).await?;
        let reply = &timed.reply;
        budget.add_tokens(self.endpoint.price, usage(body, reply.input_tokens, reply.output_tokens, &reply.text));
        Ok(TimedReply { failed, ..timed })
    }

    /// Sends any other request to `path`, such as one for an embedding, and returns the JSON of the answer.
    ///
    /// # Errors
    /// [`Unanswered`] with the reason why there is no answer.
    pub async fn post(&self, path: &str, body: &Value, budget: &RunBudget) -> Result<Value, Unanswered> {
        let post = async |deadline| self.send(path, body, None, deadline).await?.value().await;
        let (value, _) = self.with_retries(budget, post).await?;
        let count = |key: &str| value.pointer(key).and_then(Value::as_u64);
        // Vectors and verdicts are no tokens.
        let output = count("/usage/completion_tokens").or(Some(0));
        budget.add_tokens(self.endpoint.price, usage(body, count("/usage/prompt_tokens"), output, ""));
        Ok(value)
    }

    /// Runs `attempt` until it succeeds, must not be retried, or has used up the retries or the budget. Each attempt is
    /// given its deadline.
    async fn with_retries<T>(
        &self,
        budget: &RunBudget,
        attempt: impl AsyncFn(Deadline) -> Result<T, FailedAttempt>,
    ) -> Result<(T, FailedAttempts), Unanswered> {
        let mut pauses = Pauses::default();
        let mut failures = FailedAttempts::new();
        let mut left = self.retries;
        loop {
            budget.take_request().map_err(Unanswered::Exhausted)?;
            let deadline = Deadline::after(self.timeout);
            let failed = match attempt(deadline).await {
                Ok(value) => return Ok((value, failures)),
                Err(failed) => failed,
            };
            if failed.retry {
                *failures.entry(failed.why).or_default() += 1;
            }
            let too_long = failed.pause.filter(|pause| *pause > LONGEST_ASKED);
            if !failed.retry || left == 0 || too_long.is_some() {
                let longer = |pause: Duration| {
                    format!(
                        "; it asks for a pause of {} s, and at most {} s are waited",
                        pause.as_secs(),
                        LONGEST_ASKED.as_secs()
                    )
                };
                return Err(Unanswered::Missing {
                    why: failed.why,
                    detail: failed.detail + &too_long.map(longer).unwrap_or_default(),
                    after_ms: deadline.millis(),
                    failed: failures,
                    refusal: failed.refusal,
                });
            }
            left -= 1;
            tokio::time::sleep(pauses.next(failed.pause)).await;
        }
    }

    async fn send(
        &self,
        path: &str,
        body: &Value,
        traces: Option<&RequestTraces<'_>>,
        deadline: Deadline,
    ) -> Result<Response, FailedAttempt> {
        let request = self.http.post(with_path(&self.endpoint.url, path));
        let request = match traces {
            Some(traces) => request.header("traceparent", traces.next()),
            None => request,
        };
        attempt::send(self.role, request, body, deadline).await
    }
}
