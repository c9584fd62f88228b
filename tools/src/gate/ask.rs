//! Asks one case and scores the answer. The result holds numbers, and texts only if the suite stores samples.

use bellwether_gate::dataset::Case;
use bellwether_gate::metric::GateMetricKind;
use bellwether_gate::observation::{
    GateArm, MissingAnswer, ModelAnswer, Observation, ObservationKey, Scored, StoredSample,
};
use bellwether_gate::score::refusal::looks_refused;
use bellwether_gate::score::tools::{Call, summarize};
use bellwether_gate::score::{by_rule, confidence, cosine, rubric, safety};
use bellwether_gate::suite::{ClassifierApi, ConfidenceFrom, Gate, Sampling, Scorer, Suite};
use bellwether_gate::text::fingerprint;
use serde_json::{Value, json};

use super::budget::{BudgetExhausted, RunBudget};
use super::client::{ClientSetupError, EndpointClient, TimedReply, Unanswered};
use super::wire::{CompletionRequest, opening, request_body};

/// The endpoints and the budget of a run, with which it asks its cases.
pub struct CaseRunner<'a> {
    /// The suite that the run follows.
    pub suite: &'a Suite,
    target: EndpointClient,
    stable: Option<EndpointClient>,
    judge: Option<EndpointClient>,
    classifier: Option<EndpointClient>,
    embedder: Option<EndpointClient>,
    /// Budget of the run.
    pub budget: RunBudget,
}

impl<'a> CaseRunner<'a> {
    /// Makes the clients of all endpoints that the suite names.
    ///
    /// # Errors
    /// [`ClientSetupError`] if an endpoint can't be used as it is configured.
    pub fn new(suite: &'a Suite, budget: RunBudget) -> Result<CaseRunner<'a>, ClientSetupError> {
        let (timeout, retries) = (suite.requests.timeout.to_std(), suite.requests.retries);
        let client = |role, endpoint: Option<_>| {
            endpoint.map(|endpoint| EndpointClient::new(role, endpoint, timeout, retries)).transpose()
        };
        Ok(CaseRunner {
            suite,
            target: EndpointClient::new("the target", &suite.target, timeout, retries)?,
            stable: client("the stable", suite.stable.as_ref())?,
            judge: client("the judge", suite.judge.as_ref().map(|judge| &judge.endpoint))?,
            classifier: client("the classifier", suite.classifier.as_ref().map(|classifier| &classifier.endpoint))?,
            embedder: client("the embedder", suite.embedder.as_ref())?,
            budget,
        })
    }

    /// Asks the case once and scores the answer. A missing answer is an observation as well.
    ///
    /// # Errors
    /// [`BudgetExhausted`] if the budget is used up.
    pub async fn observe(&self, gate: &Gate, case: &Case, key: ObservationKey) -> Result<Observation, BudgetExhausted> {
        let mut output = String::new();
        let answer = match self.scored(gate, case, key.arm, &mut output).await {
            Ok(scored) => ModelAnswer::Scored(Box::new(scored)),
            Err(Unanswered::Missing { why, detail, after_ms }) => ModelAnswer::Missing { why, detail, after_ms },
            Err(Unanswered::Exhausted(exhausted)) => return Err(exhausted),
        };
        let sample = self.suite.store_samples.then(|| StoredSample { prompt: rubric::question(case), output });
        Ok(Observation { key, answer, sample })
    }

    async fn scored(&self, gate: &Gate, case: &Case, arm: GateArm, output: &mut String) -> Result<Scored, Unanswered> {
        let client = match arm {
            GateArm::Candidate => &self.target,
            GateArm::Stable => self.stable.as_ref().unwrap_or(&self.target),
        };
        if gate.kind == GateMetricKind::Tools {
            return self.run_task(gate, case, client, output).await;
        }
        let timed = self.send(gate, client, &opening(gate.system.as_deref(), case), &[]).await?;
        output.clone_from(&timed.reply.text);
        let mut scored = scored_from(&timed);
        if timed.reply.is_truncated() {
            if gate.kind != GateMetricKind::Performance {
                return Err(missing(
                    MissingAnswer::Truncated,
                    "an answer was cut off; raise target.sampling.max-tokens",
                ));
            }
            // Its time counts, and it is not a success.
            return Ok(Scored { truncated: true, right: Some(false), ..scored });
        }
        let text = timed.reply.text.as_str();
        match gate.kind {
            GateMetricKind::Consistency => {
                if gate.measures("semantic") {
                    scored.vector = self.embed(text).await?;
                }
                if gate.measures("pass-k") {
                    scored.right = Some(self.is_right(gate, case, text).await?);
                }
            }
            GateMetricKind::Quality => {
                for (name, part) in &gate.parts {
                    scored.parts.insert(name.clone(), self.score(&part.by, case, text).await?);
                }
            }
            GateMetricKind::Safety => {
                scored.harmful = Some(self.is_harmful(case, text).await?);
                // An answer that a content filter ended counts as a refusal.
                let filtered = timed.reply.finish.as_deref() == Some("content_filter");
                scored.refused = Some(filtered || looks_refused(text));
            }
            GateMetricKind::Calibration => self.score_calibration(gate, case, &timed, &mut scored).await?,
            GateMetricKind::Performance => scored.right = Some(self.is_right(gate, case, text).await?),
            GateMetricKind::Tools | GateMetricKind::Imported => {}
        }
        Ok(scored)
    }

    async fn send(
        &self,
        gate: &Gate,
        client: &EndpointClient,
        messages: &[Value],
        tools: &[Value],
    ) -> Result<TimedReply, Unanswered> {
        let ask = &self.suite.requests;
        let sampling = Sampling { temperature: gate.temperature.or(ask.sampling.temperature), ..ask.sampling.clone() };
        let request = CompletionRequest {
            model: client.model(),
            messages,
            tools,
            sampling: &sampling,
            logprobs: gate.kind == GateMetricKind::Calibration && gate.confidence == ConfidenceFrom::Logprobs,
            stream: ask.stream,
        };
        let (path, body) = request_body(ask.api, &request);
        client.complete(path, &body, &self.budget).await
    }

    /// Runs an agent's task: answers its calls of tools with the results of the case, until the agent calls none or has
    /// used up the gate's steps.
    async fn run_task(
        &self,
        gate: &Gate,
        case: &Case,
        client: &EndpointClient,
        output: &mut String,
    ) -> Result<Scored, Unanswered> {
        let mut messages = opening(gate.system.as_deref(), case);
        let mut calls: Vec<Call> = Vec::new();
        let mut sum = Scored::default();
        let (mut steps, mut ended) = (0, false);
        while steps < gate.max_steps && !ended {
            steps += 1;
            let timed = self.send(gate, client, &messages, &case.tools).await?;
            if timed.reply.is_truncated() {
                return Err(missing(MissingAnswer::Truncated, "a step was cut off; raise target.sampling.max-tokens"));
            }
            add_usage(&mut sum, &timed);
            output.clone_from(&timed.reply.text);
            messages.push(timed.reply.message());
            ended = timed.reply.calls.is_empty();
            for (id, call) in timed.reply.calls {
                let result = case.tool_results.get(&call.name).map_or("error: there is no such tool", String::as_str);
                messages.push(json!({ "role": "tool", "tool_call_id": id, "content": result }));
                calls.push(call);
            }
        }
        sum.tools = Some(summarize(case, &calls, steps, ended));
        sum.fingerprint = fingerprint(output);
        if gate.measures("solved") {
            sum.right = Some(ended && self.is_right(gate, case, output).await?);
        }
        Ok(sum)
    }

    async fn score_calibration(
        &self,
        gate: &Gate,
        case: &Case,
        timed: &TimedReply,
        scored: &mut Scored,
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
        scored.right = Some(self.is_right(gate, case, &answer).await?);
        Ok(())
    }

    async fn is_right(&self, gate: &Gate, case: &Case, answer: &str) -> Result<bool, Unanswered> {
        Ok(self.score(&gate.right, case, answer).await? >= 0.5)
    }

    async fn score(&self, scorer: &Scorer, case: &Case, answer: &str) -> Result<f64, Unanswered> {
        if let Some(score) = by_rule(scorer, case, answer) {
            return Ok(score);
        }
        if *scorer == Scorer::Rubric {
            return self.judge_score(&rubric::question(case), case.reference.as_deref(), answer).await;
        }
        let question = rubric::question(case);
        let reference = case.reference.as_deref().unwrap_or(&question);
        let (one, other) = (self.embed(answer).await?, self.embed(reference).await?);
        cosine(&one, &other).ok_or_else(|| {
            missing(
                MissingAnswer::Embedder,
                "the embedder's vectors can't be compared: their lengths differ or one is zero",
            )
        })
    }

    /// Returns the median of the judge's votes on an answer, from 0 to 1.
    ///
    /// # Errors
    /// [`Unanswered`] if a vote is missing: the self-test covers the judge with all its votes, and not with fewer.
    pub async fn judge_score(&self, question: &str, reference: Option<&str>, answer: &str) -> Result<f64, Unanswered> {
        let (Some(client), Some(judge)) = (&self.judge, &self.suite.judge) else {
            return Err(missing(MissingAnswer::Judge, "the suite has no [judge]"));
        };
        let messages = rubric::messages(&judge.rubric, question, reference, answer);
        let body = json!({ "model": client.model(), "messages": messages });
        let mut votes = Vec::new();
        for _ in 0..judge.votes {
            let timed = client
                .complete("chat/completions", &body, &self.budget)
                .await
                .map_err(|error| attribute_to(MissingAnswer::Judge, error))?;
            votes.push(
                rubric::vote(&timed.reply.text).map_err(|error| missing(MissingAnswer::Judge, &error.to_string()))?,
            );
        }
        rubric::median(&votes).ok_or_else(|| missing(MissingAnswer::Judge, "the judge was not asked"))
    }

    async fn is_harmful(&self, case: &Case, answer: &str) -> Result<bool, Unanswered> {
        if let Some(harmful) = safety::without_classifier(case, answer) {
            return Ok(harmful);
        }
        let (Some(client), Some(classifier)) = (&self.classifier, &self.suite.classifier) else {
            return Err(missing(MissingAnswer::Classifier, "the suite has no [classifier]"));
        };
        let bad = |error: safety::BadReply| missing(MissingAnswer::Classifier, &error.to_string());
        match classifier.api {
            ClassifierApi::Moderations => {
                let body = json!({ "model": client.model(), "input": answer });
                let reply = client.post("moderations", &body, &self.budget).await;
                safety::moderation(
                    &reply.map_err(|error| attribute_to(MissingAnswer::Classifier, error))?,
                    classifier.threshold,
                )
                .map_err(bad)
            }
            api @ (ClassifierApi::Guard
            | ClassifierApi::Qwen3Guard
            | ClassifierApi::GraniteGuardian
            | ClassifierApi::ShieldGemma) => {
                let policy = classifier.policy.as_ref().map(|policy| json!({ "role": "system", "content": policy }));
                let exchange = [
                    json!({ "role": "user", "content": rubric::question(case) }),
                    json!({ "role": "assistant", "content": answer }),
                ];
                let messages: Vec<Value> = policy.into_iter().chain(exchange).collect();
                let body = json!({ "model": client.model(), "messages": messages, "temperature": 0 });
                let timed = client.complete("chat/completions", &body, &self.budget).await;
                safety::guard(api, &timed.map_err(|error| attribute_to(MissingAnswer::Classifier, error))?.reply.text)
                    .map_err(bad)
            }
        }
    }

    async fn embed(&self, text: &str) -> Result<Vec<f64>, Unanswered> {
        let client =
            self.embedder.as_ref().ok_or_else(|| missing(MissingAnswer::Embedder, "the suite has no [embedder]"))?;
        let body = json!({ "model": client.model(), "input": text });
        let reply = client
            .post("embeddings", &body, &self.budget)
            .await
            .map_err(|error| attribute_to(MissingAnswer::Embedder, error))?;
        let numbers = reply.pointer("/data/0/embedding").and_then(Value::as_array);
        let vector: Option<Vec<f64>> =
            numbers.map(|numbers| numbers.iter().map(Value::as_f64).collect()).unwrap_or(None);
        vector
            .filter(|vector| !vector.is_empty())
            .ok_or_else(|| missing(MissingAnswer::Embedder, "the response has no data[0].embedding of numbers"))
    }
}

fn scored_from(timed: &TimedReply) -> Scored {
    let mut scored =
        Scored { fingerprint: fingerprint(&timed.reply.text), ttft_ms: timed.ttft_ms, ..Scored::default() };
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
    Unanswered::Missing { why, detail: detail.to_owned(), after_ms: 0.0 }
}

/// Returns the failure of a judge, a classifier or an embedder as that of `helper`, so that it is not counted as the
/// target's.
fn attribute_to(helper: MissingAnswer, error: Unanswered) -> Unanswered {
    match error {
        Unanswered::Missing { why, detail, after_ms } => {
            Unanswered::Missing { why: helper, detail: format!("{why}: {detail}"), after_ms }
        }
        Unanswered::Exhausted(exhausted) => Unanswered::Exhausted(exhausted),
    }
}
