//! Asks one case and scores the answer. The result holds numbers, and texts only if the suite stores samples.

mod helpers;
mod lacking;
mod task;

use std::collections::BTreeSet;

use bellwether_gate::dataset::Case;
use bellwether_gate::metric::GateMetricKind;
use bellwether_gate::observation::{
    FailedAttempts, GateArm, MissingAnswer, ModelAnswer, Observation, ObservationKey, Scored, StoredSample,
};
use bellwether_gate::score::refusal::looks_refused;
use bellwether_gate::score::rubric::median_score;
use bellwether_gate::score::{by_rule, confidence, conversation, cosine};
use bellwether_gate::suite::{ConfidenceFrom, Gate, Sampling, Scorer, Suite};
use bellwether_gate::text::fingerprint;
use serde_json::Value;

use super::budget::{BudgetExhausted, RunBudget};
use super::client::{ClientSetupError, EndpointClient, Role, TimedReply, Unanswered};
use super::traces::{RequestTraces, RunTraces};
use super::wire::request::{CompletionRequest, opening, request_body};

/// The endpoints and the budget of a run, with which it asks its cases.
pub struct CaseRunner<'a> {
    /// The suite that the run follows.
    pub suite: &'a Suite,
    target: EndpointClient,
    stable: Option<EndpointClient>,
    judge: Option<EndpointClient>,
    classifier: Option<EndpointClient>,
    embedder: Option<EndpointClient>,
    /// Traces of the run; `None` if no gate reads calls from them.
    traces: Option<RunTraces>,
    /// Budget of the run.
    pub budget: RunBudget,
}

/// The result of asking a case once.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The scored answer, or the reason why there is none.
    pub observation: Observation,
    /// The reason why an endpoint refuses every request of the gate, with the remedy; `None` if none does.
    pub refusal: Option<String>,
    /// Whether the text of the answer has a tag of thinking, which the suite does not say.
    pub shows_thinking: bool,
}

/// The texts and the failed attempts of a request to the version, which its scores do not hold.
#[derive(Debug, Default)]
struct Trial {
    /// The text of the answer.
    output: String,
    /// The judge's votes on it, each as its score and its reason.
    judge: Vec<String>,
    /// The failed attempts at the version's endpoint.
    failed: FailedAttempts,
}

/// The part of a request to the version that differs from case to case.
#[derive(Clone, Copy)]
struct Message<'a> {
    /// Messages of the conversation so far.
    messages: &'a [Value],
    /// Tools that the version may ask for.
    tools: &'a [Value],
    /// Traces of the request's attempts; `None` if it has none.
    traces: Option<&'a RequestTraces<'a>>,
}

impl<'a> CaseRunner<'a> {
    /// Makes the clients of all endpoints that the suite names. `traces` is needed if a gate reads calls from them.
    ///
    /// # Errors
    /// [`ClientSetupError`] if an endpoint can't be used as it is configured.
    pub fn new(
        suite: &'a Suite,
        traces: Option<RunTraces>,
        budget: RunBudget,
    ) -> Result<CaseRunner<'a>, ClientSetupError> {
        let (timeout, retries) = (suite.requests.timeout.to_std(), suite.requests.retries);
        let client = |role, endpoint: Option<_>| {
            endpoint.map(|endpoint| EndpointClient::new(role, endpoint, timeout, retries)).transpose()
        };
        Ok(CaseRunner {
            suite,
            target: EndpointClient::new(Role::Target, &suite.target, timeout, retries)?,
            stable: client(Role::Stable, suite.stable.as_ref())?,
            judge: client(Role::Judge, suite.judge.as_ref().map(|judge| &judge.endpoint))?,
            classifier: client(Role::Classifier, suite.classifier.as_ref().map(|classifier| &classifier.endpoint))?,
            embedder: client(Role::Embedder, suite.embedder.as_ref())?,
            traces,
            budget,
        })
    }

    /// Returns the requests whose calls came in part after they had been read, and forgets them.
    pub(super) fn take_late(&self) -> BTreeSet<ObservationKey> {
        self.traces.as_ref().map(RunTraces::take_late).unwrap_or_default()
    }

    /// Asks the case once and scores the answer. A missing answer is an observation as well.
    ///
    /// # Errors
    /// [`BudgetExhausted`] if the budget is used up.
    pub async fn observe(&self, gate: &Gate, case: &Case, key: ObservationKey) -> Result<Observed, BudgetExhausted> {
        let mut trial = Trial::default();
        let (answer, refusal) = match self.scored(gate, case, &key, &mut trial).await {
            Ok(scored) => (ModelAnswer::Scored(Box::new(scored)), None),
            Err(Unanswered::Missing { why, detail, after_ms, refusal, .. }) => {
                (ModelAnswer::Missing { why, detail, after_ms }, refusal)
            }
            Err(Unanswered::Exhausted(exhausted)) => return Err(exhausted),
        };
        let Trial { output, judge, failed } = trial;
        let shows_thinking = output.contains("</think>");
        let sample =
            self.suite.store_samples.then(|| StoredSample { prompt: conversation::as_text(case), output, judge });
        Ok(Observed { observation: Observation { key, answer, failed, sample }, refusal, shows_thinking })
    }

    async fn scored(
        &self,
        gate: &Gate,
        case: &Case,
        key: &ObservationKey,
        trial: &mut Trial,
    ) -> Result<Scored, Unanswered> {
        let client = match key.arm {
            GateArm::Candidate => &self.target,
            GateArm::Stable => self.stable.as_ref().unwrap_or(&self.target),
        };
        if gate.kind == GateMetricKind::Tools {
            return self.run_task(gate, case, client, key, trial).await;
        }
        let opening = opening(gate.system.as_deref(), case);
        let timed = self.send(gate, client, Message { messages: &opening, tools: &[], traces: None }, trial).await?;
        trial.output.clone_from(&timed.reply.text);
        let mut scored = scored_from(&timed);
        if let Some(why) = timed.reply.lacking() {
            return self.score_lacking(gate, case, &timed.reply, why, scored).await;
        }
        let text = timed.reply.text.as_str();
        match gate.kind {
            GateMetricKind::Consistency => {
                if gate.measures("semantic") {
                    scored.vector = self.embed(text).await?;
                }
                if gate.measures("pass-k") {
                    scored.right = Some(self.is_right(gate, case, text, trial).await?);
                }
            }
            GateMetricKind::Quality => {
                for (name, part) in &gate.parts {
                    scored.parts.insert(name.clone(), self.score(&part.by, case, text, trial).await?);
                }
            }
            GateMetricKind::Safety => {
                scored.harmful = Some(self.is_harmful(case, text).await?);
                scored.refused = Some(timed.reply.refused || looks_refused(text));
            }
            GateMetricKind::Calibration => self.score_calibration(gate, case, &timed, &mut scored, trial).await?,
            GateMetricKind::Performance => scored.right = Some(self.is_right(gate, case, text, trial).await?),
            GateMetricKind::Tools | GateMetricKind::Imported => {}
        }
        Ok(scored)
    }

    /// Sends a request to the version, and adds its failed attempts to `trial`.
    async fn send(
        &self,
        gate: &Gate,
        client: &EndpointClient,
        message: Message<'_>,
        trial: &mut Trial,
    ) -> Result<TimedReply, Unanswered> {
        let ask = &self.suite.requests;
        let sampling = Sampling { temperature: gate.temperature.or(ask.sampling.temperature), ..ask.sampling.clone() };
        let request = CompletionRequest {
            model: client.model(),
            messages: message.messages,
            tools: message.tools,
            sampling: &sampling,
            logprobs: gate.kind == GateMetricKind::Calibration && gate.confidence == ConfidenceFrom::Logprobs,
            stream: ask.stream,
        };
        let (path, body) = request_body(ask.api, client.dialect(), &request);
        let answer = client.complete(path, &body, message.traces, &self.budget).await;
        let failed = match &answer {
            Ok(TimedReply { failed, .. }) | Err(Unanswered::Missing { failed, .. }) => failed,
            Err(Unanswered::Exhausted(_)) => return answer,
        };
        for (why, count) in failed {
            *trial.failed.entry(*why).or_default() += count;
        }
        answer
    }

    async fn score_calibration(
        &self,
        gate: &Gate,
        case: &Case,
        timed: &TimedReply,
        scored: &mut Scored,
        trial: &mut Trial,
    ) -> Result<(), Unanswered> {
        let bad = |error: confidence::BadConfidence| missing(MissingAnswer::Confidence, &error.to_string());
        let (answer, confidence) = match gate.confidence {
            ConfidenceFrom::Stated => {
                let stated = confidence::stated(&timed.reply.text).map_err(bad)?;
                (stated.answer, stated.confidence)
            }
            ConfidenceFrom::Logprobs => {
                (timed.reply.text.clone(), confidence::of_tokens(&timed.reply.logprobs).map_err(bad)?)
            }
        };
        scored.confidence = Some(confidence);
        scored.right = Some(self.is_right(gate, case, &answer, trial).await?);
        Ok(())
    }

    async fn is_right(&self, gate: &Gate, case: &Case, answer: &str, trial: &mut Trial) -> Result<bool, Unanswered> {
        Ok(self.score(&gate.right, case, answer, trial).await? >= 0.5)
    }

    /// Scores an answer from 0 to 1, and adds the judge's votes to `trial`.
    async fn score(&self, scorer: &Scorer, case: &Case, answer: &str, trial: &mut Trial) -> Result<f64, Unanswered> {
        if let Some(score) = by_rule(scorer, case, answer) {
            return Ok(score);
        }
        if *scorer == Scorer::Rubric {
            let votes = self.judge_votes(&conversation::for_judge(case), case.reference.as_deref(), answer).await?;
            trial.judge.extend(votes.iter().map(|vote| format!("{}: {}", vote.score, vote.reason)));
            return median_score(&votes).ok_or_else(|| missing(MissingAnswer::Judge, "the judge was not asked"));
        }
        let question = conversation::as_text(case);
        let reference = case.reference.as_deref().unwrap_or(&question);
        let (one, other) = (self.embed(answer).await?, self.embed(reference).await?);
        cosine(&one, &other).ok_or_else(|| {
            missing(
                MissingAnswer::Embedder,
                "the embedder's vectors can't be compared: their lengths differ or one is zero",
            )
        })
    }
}

fn scored_from(timed: &TimedReply) -> Scored {
    let mut scored = Scored {
        fingerprint: fingerprint(&timed.reply.text),
        ttft_ms: timed.ttft_ms,
        answer_start_ms: timed.answer_start_ms,
        ..Scored::default()
    };
    add_usage(&mut scored, timed);
    scored
}

fn add_usage(sum: &mut Scored, timed: &TimedReply) {
    let sum_of = |one: Option<u64>, other: Option<u64>| other.map(|other| one.unwrap_or(0) + other).or(one);
    sum.total_ms += timed.total_ms;
    sum.input_tokens = sum_of(sum.input_tokens, timed.reply.input_tokens);
    sum.output_tokens = sum_of(sum.output_tokens, timed.reply.output_tokens);
}

fn missing(why: MissingAnswer, detail: &str) -> Unanswered {
    let detail = detail.to_owned();
    Unanswered::Missing { why, detail, after_ms: 0.0, failed: FailedAttempts::new(), refusal: None }
}
