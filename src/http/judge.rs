//! The judge alone, for tools that move rollouts by themselves: one call is one verdict over all blocks since the canary began, with the
//! judges of the engine and the counts of the sampler. Nothing is kept from call to call.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bellwether_core::engine::show;
use bellwether_core::engine::view::CheckView;
use bellwether_core::judge::numbers::Verdict;
use bellwether_core::policy::Policy;
use bellwether_core::policy::alone::AloneVerdict;
use bellwether_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::answer::{ApiQuery, busy, problem};
use super::state::App;
use crate::ports::{ArmsBlocks, ArmsRequest, NamedArm};

/// The most calls that are answered at a time. Each reads hours of counts.
pub(super) const MOST_JUDGED: usize = 2;

/// The query of `/api/v1/judge`. A body is not read: other tools send one of their own form.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct JudgeQuery {
    /// The name of the policy whose checks judge.
    policy: String,
    /// The namespace of the pods.
    namespace: String,
    /// The name of the object that owns the canary's pods.
    canary: String,
    /// The pod template hash of the canary.
    canary_hash: Option<String>,
    /// The name of the object that owns the stable's pods.
    stable: String,
    /// The pod template hash of the stable.
    stable_hash: Option<String>,
    /// The start; without it, the first time at which the canary was counted.
    since: Option<Timestamp>,
    /// The verdicts that are answered with 200, joined by commas; without it, all. The others are answered with 409.
    ok: Option<String>,
}

/// The answer to `/api/v1/judge`.
#[derive(Debug, Serialize)]
struct JudgeAnswer {
    verdict: String,
    /// The reason in one sentence.
    reason: String,
    /// The policy's name and hash.
    policy: String,
    /// The start of the first block, and the end of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// The number of blocks.
    blocks: usize,
    checks: Vec<CheckView>,
    /// The names of checks whose regression only warns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warning: Vec<String>,
    /// The names of checks that no query measures.
    #[serde(rename = "left-out", skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

impl JudgeQuery {
    /// Returns the verdicts that are answered with 200.
    ///
    /// # Errors
    /// A sentence that names a word which is no verdict.
    fn accepted(&self) -> Result<Vec<Verdict>, String> {
        let Some(ok) = &self.ok else { return Ok(Verdict::ALL.into()) };
        let verdict = |word: &str| {
            let known = Verdict::ALL.into_iter().find(|verdict| verdict.to_string() == word.trim());
            known.ok_or_else(|| format!("ok={word} is no verdict; write pass, insufficient, blind or regressed"))
        };
        ok.split(',').map(verdict).collect()
    }

    fn arms(self, policy: Policy) -> ArmsRequest {
        let arm = |name, hash| NamedArm { name, hash };
        ArmsRequest {
            policy,
            namespace: self.namespace,
            canary: arm(self.canary, self.canary_hash),
            stable: arm(self.stable, self.stable_hash),
            since: self.since,
        }
    }
}

/// Handles `GET` and `POST /api/v1/judge`.
pub(super) async fn judge(State(app): State<App>, ApiQuery(query): ApiQuery<JudgeQuery>) -> Response {
    let Some(arms) = app.shown.arms.clone() else {
        return problem(StatusCode::NOT_FOUND, "this daemon has no Prometheus to judge by");
    };
    let policy = app.shown.policies.borrow().iter().find(|policy| policy.name == query.policy).cloned();
    let Some(policy) = policy else {
        let known: Vec<String> = app.shown.policies.borrow().iter().map(|policy| policy.name.clone()).collect();
        let message = format!("there is no policy {:?}; the policies are {}", query.policy, known.join(", "));
        return problem(StatusCode::NOT_FOUND, &message);
    };
    let accepted = match query.accepted() {
        Ok(accepted) => accepted,
        Err(message) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &message),
    };
    if (&query.canary, &query.canary_hash) == (&query.stable, &query.stable_hash) {
        let message = "canary and stable are the same pods; name other objects, or canary-hash and stable-hash";
        return problem(StatusCode::UNPROCESSABLE_ENTITY, message);
    }
    let Ok(place) = std::sync::Arc::clone(&app.judges).try_acquire_owned() else {
        return busy(&format!("{MOST_JUDGED} calls are judged at the moment; ask again in a second"));
    };
    // In a task of its own, which keeps its place until it has ended: counting hours takes a while without a pause.
    let judging = tokio::spawn(async move {
        let _place = place;
        let counted = arms.read(query.arms(policy.clone())).await?;
        let judged = policy.judge_alone(&counted.before, &counted.blocks);
        Ok::<_, String>(answer_of(&policy, &counted, judged))
    });
    match tokio::time::timeout(app.patience(), judging).await {
        Ok(Ok(Ok((verdict, answer)))) => {
            let status = if accepted.contains(&verdict) { StatusCode::OK } else { StatusCode::CONFLICT };
            (status, Json(answer)).into_response()
        }
        Ok(Ok(Err(message))) => problem(StatusCode::UNPROCESSABLE_ENTITY, &message),
        Ok(Err(error)) => {
            tracing::error!(%error, "judging by a call has failed");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "judging has failed, which is a defect; the log has the error")
        }
        Err(_) => busy("the counts could not be read in time; ask again, or name a later `since`"),
    }
}

fn answer_of(policy: &Policy, counted: &ArmsBlocks, judged: AloneVerdict) -> (Verdict, JudgeAnswer) {
    let AloneVerdict { verdict, reason, checks, left_out } = judged;
    let warning = checks.iter().filter(|check| check.warns).map(|check| check.evidence.check.clone());
    let answer = JudgeAnswer {
        verdict: verdict.to_string(),
        reason,
        policy: format!("{}@{}", policy.name, policy.hash),
        since: counted.blocks.first().map(|block| block.from),
        until: counted.blocks.last().map(|block| block.to),
        blocks: counted.blocks.len(),
        warning: warning.collect(),
        checks: checks.iter().map(|check| show::check(&check.evidence)).collect(),
        left_out,
    };
    (verdict, answer)
}
