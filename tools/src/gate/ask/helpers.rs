//! The endpoints beside the version: the judge, the classifier and the embedder. Their failures are their own, and
//! never the version's. An outage says nothing about the answer that was to be scored, and is asked again when the run is
//! resumed. A reply without a usable score may be due to that answer, so it stays: otherwise the version would be asked
//! until it gives an answer that can be scored.

use bellwether_gate::dataset::Case;
use bellwether_gate::observation::MissingAnswer;
use bellwether_gate::score::rubric::{self, Vote};
use bellwether_gate::score::{conversation, safety};
use bellwether_gate::suite::ClassifierApi;
use serde_json::{Value, json};

use super::{CaseRunner, missing};
use crate::gate::client::{EndpointClient, Unanswered};
use crate::gate::wire::request::{helper_body, input_body};

impl CaseRunner<'_> {
    /// Returns the judge's votes on an answer, at least one. `question` is a text or a list of turns.
    ///
    /// # Errors
    /// [`Unanswered`] if a vote is missing: the self-test covers the judge with all its votes, and not with fewer.
    pub async fn judge_votes(
        &self,
        question: &Value,
        reference: Option<&str>,
        answer: &str,
    ) -> Result<Vec<Vote>, Unanswered> {
        let (Some(client), Some(judge)) = (&self.judge, &self.suite.judge) else {
            return Err(missing(MissingAnswer::Judge, "the suite has no [judge]"));
        };
        let messages = rubric::messages(&judge.rubric, question, reference, answer);
        let mut votes = Vec::new();
        for _ in 0..judge.votes {
            let reply = self.helper_text(client, MissingAnswer::Judge, &messages, None).await?;
            votes.push(rubric::vote(&reply).map_err(|error| unreadable(&error, &reply))?);
        }
        Ok(votes)
    }

    /// Returns whether an answer is harmful, by the classifier where the case alone does not tell it.
    pub(super) async fn is_harmful(&self, case: &Case, answer: &str) -> Result<bool, Unanswered> {
        if let Some(harmful) = safety::without_classifier(case, answer) {
            return Ok(harmful);
        }
        let (Some(client), Some(classifier)) = (&self.classifier, &self.suite.classifier) else {
            return Err(missing(MissingAnswer::Classifier, "the suite has no [classifier]"));
        };
        match classifier.api {
            ClassifierApi::Moderations => {
                let body = input_body(client.dialect(), client.model(), answer);
                let reply = client.post("moderations", &body, &self.budget).await;
                let reply = reply.map_err(|error| attribute_to(MissingAnswer::Classifier, client, error))?;
                safety::moderation(&reply, classifier.threshold)
                    .map_err(|error| missing(MissingAnswer::Unscored, &error.to_string()))
            }
            api @ (ClassifierApi::Guard
            | ClassifierApi::Qwen3Guard
            | ClassifierApi::GraniteGuardian
            | ClassifierApi::ShieldGemma) => {
                let policy = classifier.policy.as_ref().map(|policy| json!({ "role": "system", "content": policy }));
                let answer = json!({ "role": "assistant", "content": answer });
                let messages: Vec<Value> =
                    policy.into_iter().chain(conversation::messages(case)).chain([answer]).collect();
                let reply = self.helper_text(client, MissingAnswer::Classifier, &messages, Some(0.0)).await?;
                safety::guard(api, &reply).map_err(|error| unreadable(&error, &reply))
            }
        }
    }

    /// Returns the vector of a text.
    pub(super) async fn embed(&self, text: &str) -> Result<Vec<f64>, Unanswered> {
        let client =
            self.embedder.as_ref().ok_or_else(|| missing(MissingAnswer::Embedder, "the suite has no [embedder]"))?;
        let body = input_body(client.dialect(), client.model(), text);
        let reply = client
            .post("embeddings", &body, &self.budget)
            .await
            .map_err(|error| attribute_to(MissingAnswer::Embedder, client, error))?;
        let numbers = reply.pointer("/data/0/embedding").and_then(Value::as_array);
        let vector: Option<Vec<f64>> =
            numbers.map(|numbers| numbers.iter().map(Value::as_f64).collect()).unwrap_or(None);
        vector.filter(|vector| !vector.is_empty()).ok_or_else(|| {
            missing(MissingAnswer::Unscored, "the embedder's response has no data[0].embedding of numbers")
        })
    }

    /// Asks a judge or a guard, and returns the text of its answer.
    async fn helper_text(
        &self,
        client: &EndpointClient,
        helper: MissingAnswer,
        messages: &[Value],
        temperature: Option<f64>,
    ) -> Result<String, Unanswered> {
        let body = helper_body(client.dialect(), client.model(), messages, temperature);
        let timed = client.complete("chat/completions", &body, None, &self.budget).await;
        let reply = timed.map_err(|error| attribute_to(helper, client, error))?.reply;
        match reply.lacking() {
            None => Ok(reply.text),
            // A score or a verdict may come before the limit.
            Some(MissingAnswer::Truncated) if !reply.text.trim().is_empty() => Ok(reply.text),
            Some(why) => Err(missing(MissingAnswer::Unscored, &format!("the answer of {} is {why}", client.name()))),
        }
    }
}

/// Returns the missing score of a helper whose reply can't be read.
fn unreadable(error: &impl std::fmt::Display, reply: &str) -> Unanswered {
    let hint = if reply.contains("</think>") {
        "; it holds its thinking, so write thinking = \"tags\" in its dialect"
    } else {
        ""
    };
    missing(MissingAnswer::Unscored, &format!("{error}{hint}"))
}

/// Returns the failure of a judge, a classifier or an embedder, so that it is not counted as the version's: as that of
/// `helper` if the endpoint was away or refuses every request, and otherwise as a missing score.
fn attribute_to(helper: MissingAnswer, client: &EndpointClient, error: Unanswered) -> Unanswered {
    match error {
        Unanswered::Missing { why, detail, after_ms, failed, refusal } => {
            let is_about_text = !why.is_outage() && refusal.is_none();
            let (kind, whose) = match is_about_text {
                true => (MissingAnswer::Unscored, format!("{}: ", client.name())),
                false => (helper, String::new()),
            };
            Unanswered::Missing { why: kind, detail: format!("{whose}{why}: {detail}"), after_ms, failed, refusal }
        }
        Unanswered::Exhausted(exhausted) => Unanswered::Exhausted(exhausted),
    }
}
