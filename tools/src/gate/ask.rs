//! One request of a run: the case is asked, the answer is scored, and what is kept of it is numbers.

use bellwether_gate::dataset::Case;
use bellwether_gate::metric::Kind;
use bellwether_gate::observation::{Answer, Arm, Key, Missing, Observation, Sample, Scored};
use bellwether_gate::score::refusal::looks_refused;
use bellwether_gate::score::tools::{Call, used};
use bellwether_gate::score::{by_rule, confidence, cosine, rubric, safety};
use bellwether_gate::suite::{ClassifierApi, ConfidenceFrom, Gate, Sampling, Scorer, Suite};
use bellwether_gate::text::fingerprint;
use serde_json::{Value, json};

use super::budget::{Budget, Exhausted};
use super::client::{Client, Nothing, SetupError, Timed};
use super::wire::{Question, body, opening};

/// Everybody who is asked in a run.
pub struct Asker<'a> {
    /// The rules.
    pub suite: &'a Suite,
    target: Client,
    stable: Option<Client>,
    judge: Option<Client>,
    classifier: Option<Client>,
    embedder: Option<Client>,
    /// What it may take.
    pub budget: Budget,
}

impl<'a> Asker<'a> {
    /// Whoever the suite names.
    ///
    /// # Errors
    /// If one of them can't be asked as it is configured.
    pub fn new(suite: &'a Suite, budget: Budget) -> Result<Asker<'a>, SetupError> {
        let (timeout, retries) = (suite.ask.timeout.to_std(), suite.ask.retries);
        let client = |who, endpoint: Option<_>| {
            endpoint.map(|endpoint| Client::new(who, endpoint, timeout, retries)).transpose()
        };
        Ok(Asker {
            suite,
            target: Client::new("the target", &suite.target, timeout, retries)?,
            stable: client("the stable", suite.stable.as_ref())?,
            judge: client("the judge", suite.judge.as_ref().map(|judge| &judge.endpoint))?,
            classifier: client("the classifier", suite.classifier.as_ref().map(|classifier| &classifier.endpoint))?,
            embedder: client("the embedder", suite.embedder.as_ref())?,
            budget,
        })
    }

    /// Asks once, and scores.
    ///
    /// # Errors
    /// Only if there is no more to spend: everything else is an answer of its own.
    pub async fn observe(&self, gate: &Gate, case: &Case, key: Key) -> Result<Observation, Exhausted> {
        let mut output = String::new();
        let answer = match self.scored(gate, case, key.arm, &mut output).await {
            Ok(scored) => Answer::Scored(Box::new(scored)),
            Err(Nothing::Missing { why, detail, after_ms }) => Answer::Missing { why, detail, after_ms },
            Err(Nothing::Exhausted(exhausted)) => return Err(exhausted),
        };
        let sample = self.suite.store_samples.then(|| Sample { prompt: rubric::question(case), output });
        Ok(Observation { key, answer, sample })
    }

    async fn scored(&self, gate: &Gate, case: &Case, arm: Arm, output: &mut String) -> Result<Scored, Nothing> {
        let client = match arm {
            Arm::Candidate => &self.target,
            Arm::Stable => self.stable.as_ref().unwrap_or(&self.target),
        };
        if gate.kind == Kind::Tools {
            return self.task(gate, case, client, output).await;
        }
        let timed = self.once(gate, client, &opening(gate.system.as_deref(), case), &[]).await?;
        output.clone_from(&timed.reply.text);
        let mut scored = start(&timed);
        if timed.reply.is_truncated() {
            if gate.kind != Kind::Performance {
                return Err(missing(Missing::Truncated, "an answer was cut off; raise target.sampling.max-tokens"));
            }
            // It took its time, and is no success.
            return Ok(Scored { truncated: true, right: Some(false), ..scored });
        }
        let text = timed.reply.text.as_str();
        match gate.kind {
            Kind::Consistency => {
                if gate.measures("semantic") {
                    scored.vector = self.vector(text).await?;
                }
                if gate.measures("pass-k") {
                    scored.right = Some(self.right(gate, case, text).await?);
                }
            }
            Kind::Quality => {
                for (name, part) in &gate.parts {
                    scored.parts.insert(name.clone(), self.score(&part.by, case, text).await?);
                }
            }
            Kind::Safety => {
                scored.harmful = Some(self.harmful(case, text).await?);
                // A filter that ends the answer has refused.
                let filtered = timed.reply.finish.as_deref() == Some("content_filter");
                scored.refused = Some(filtered || looks_refused(text));
            }
            Kind::Calibration => self.calibrated(gate, case, &timed, &mut scored).await?,
            Kind::Performance => scored.right = Some(self.right(gate, case, text).await?),
            Kind::Tools | Kind::Imported => {}
        }
        Ok(scored)
    }

    async fn once(&self, gate: &Gate, client: &Client, messages: &[Value], tools: &[Value]) -> Result<Timed, Nothing> {
        let ask = &self.suite.ask;
        let sampling = Sampling { temperature: gate.temperature.or(ask.sampling.temperature), ..ask.sampling.clone() };
        let question = Question {
            model: client.model(),
            messages,
            tools,
            sampling: &sampling,
            logprobs: gate.kind == Kind::Calibration && gate.confidence == ConfidenceFrom::Logprobs,
            stream: ask.stream,
        };
        let (path, body) = body(ask.api, &question);
        client.ask(path, &body, &self.budget).await
    }

    /// An agent's task: its tools answer as the case says, until it has an answer or has gone on for too long.
    async fn task(&self, gate: &Gate, case: &Case, client: &Client, output: &mut String) -> Result<Scored, Nothing> {
        let mut messages = opening(gate.system.as_deref(), case);
        let mut calls: Vec<Call> = Vec::new();
        let mut sum = Scored::default();
        let (mut steps, mut ended) = (0, false);
        while steps < gate.max_steps && !ended {
            steps += 1;
            let timed = self.once(gate, client, &messages, &case.tools).await?;
            if timed.reply.is_truncated() {
                return Err(missing(Missing::Truncated, "a step was cut off; raise target.sampling.max-tokens"));
            }
            add(&mut sum, &timed);
            output.clone_from(&timed.reply.text);
            messages.push(timed.reply.message());
            ended = timed.reply.calls.is_empty();
            for (id, call) in timed.reply.calls {
                let result = case.tool_results.get(&call.name).map_or("error: there is no such tool", String::as_str);
                messages.push(json!({ "role": "tool", "tool_call_id": id, "content": result }));
                calls.push(call);
            }
        }
        sum.tools = Some(used(case, &calls, steps, ended));
        sum.fingerprint = fingerprint(output);
        if gate.measures("solved") {
            sum.right = Some(ended && self.right(gate, case, output).await?);
        }
        Ok(sum)
    }

    async fn calibrated(&self, gate: &Gate, case: &Case, timed: &Timed, scored: &mut Scored) -> Result<(), Nothing> {
        let bad = |error: confidence::BadConfidence| missing(Missing::Confidence, &error.to_string());
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
        scored.right = Some(self.right(gate, case, &answer).await?);
        Ok(())
    }

    async fn right(&self, gate: &Gate, case: &Case, answer: &str) -> Result<bool, Nothing> {
        Ok(self.score(&gate.right, case, answer).await? >= 0.5)
    }

    async fn score(&self, scorer: &Scorer, case: &Case, answer: &str) -> Result<f64, Nothing> {
        if let Some(score) = by_rule(scorer, case, answer) {
            return Ok(score);
        }
        if *scorer == Scorer::Rubric {
            return self.judged(&rubric::question(case), case.reference.as_deref(), answer).await;
        }
        let question = rubric::question(case);
        let good = case.reference.as_deref().unwrap_or(&question);
        let (one, other) = (self.vector(answer).await?, self.vector(good).await?);
        cosine(&one, &other)
            .ok_or_else(|| missing(Missing::Embedder, "the embedder's vectors have no angle between them"))
    }

    /// The median of the judge's votes.
    ///
    /// # Errors
    /// If one of them can't be had: a judge that is half there is not the judge that was tested.
    pub async fn judged(&self, question: &str, reference: Option<&str>, answer: &str) -> Result<f64, Nothing> {
        let (Some(client), Some(judge)) = (&self.judge, &self.suite.judge) else {
            return Err(missing(Missing::Judge, "the suite has no [judge]"));
        };
        let messages = rubric::messages(&judge.rubric, question, reference, answer);
        let body = json!({ "model": client.model(), "messages": messages });
        let mut votes = Vec::new();
        for _ in 0..judge.votes {
            let timed =
                client.ask("chat/completions", &body, &self.budget).await.map_err(|n| theirs(Missing::Judge, n))?;
            votes.push(rubric::vote(&timed.reply.text).map_err(|error| missing(Missing::Judge, &error.to_string()))?);
        }
        rubric::median(&votes).ok_or_else(|| missing(Missing::Judge, "the judge was not asked"))
    }

    async fn harmful(&self, case: &Case, answer: &str) -> Result<bool, Nothing> {
        let (Some(client), Some(classifier)) = (&self.classifier, &self.suite.classifier) else {
            return Err(missing(Missing::Classifier, "the suite has no [classifier]"));
        };
        let bad = |error: safety::BadReply| missing(Missing::Classifier, &error.to_string());
        match classifier.api {
            ClassifierApi::Moderations => {
                let body = json!({ "model": client.model(), "input": answer });
                let reply = client.call("moderations", &body, &self.budget).await;
                safety::moderation(
                    &reply.map_err(|nothing| theirs(Missing::Classifier, nothing))?,
                    classifier.threshold,
                )
                .map_err(bad)
            }
            ClassifierApi::Guard => {
                let messages = [
                    json!({ "role": "user", "content": rubric::question(case) }),
                    json!({ "role": "assistant", "content": answer }),
                ];
                let body = json!({ "model": client.model(), "messages": messages, "temperature": 0 });
                let timed = client.ask("chat/completions", &body, &self.budget).await;
                safety::guard(&timed.map_err(|nothing| theirs(Missing::Classifier, nothing))?.reply.text).map_err(bad)
            }
        }
    }

    async fn vector(&self, text: &str) -> Result<Vec<f64>, Nothing> {
        let client = self.embedder.as_ref().ok_or_else(|| missing(Missing::Embedder, "the suite has no [embedder]"))?;
        let body = json!({ "model": client.model(), "input": text });
        let reply = client
            .call("embeddings", &body, &self.budget)
            .await
            .map_err(|nothing| theirs(Missing::Embedder, nothing))?;
        let numbers = reply.pointer("/data/0/embedding").and_then(Value::as_array);
        let vector: Option<Vec<f64>> =
            numbers.map(|numbers| numbers.iter().map(Value::as_f64).collect()).unwrap_or(None);
        vector
            .filter(|vector| !vector.is_empty())
            .ok_or_else(|| missing(Missing::Embedder, "the response has no data[0].embedding of numbers"))
    }
}

fn start(timed: &Timed) -> Scored {
    let mut scored =
        Scored { fingerprint: fingerprint(&timed.reply.text), ttft_ms: timed.ttft_ms, ..Scored::default() };
    add(&mut scored, timed);
    scored
}

fn add(sum: &mut Scored, timed: &Timed) {
    let plus = |one: Option<u64>, other: Option<u64>| other.map(|other| one.unwrap_or(0) + other).or(one);
    sum.total_ms += timed.total_ms;
    sum.input_tokens = plus(sum.input_tokens, timed.reply.input_tokens);
    sum.output_tokens = plus(sum.output_tokens, timed.reply.output_tokens);
}

fn missing(why: Missing, detail: &str) -> Nothing {
    Nothing::Missing { why, detail: detail.to_owned(), after_ms: 0.0 }
}

/// What a judge or a classifier did not do is not the target's doing.
fn theirs(why: Missing, nothing: Nothing) -> Nothing {
    match nothing {
        Nothing::Missing { why: how, detail, after_ms } => {
            Nothing::Missing { why, detail: format!("{how}: {detail}"), after_ms }
        }
        Nothing::Exhausted(exhausted) => Nothing::Exhausted(exhausted),
    }
}
