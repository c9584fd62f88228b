//! Sends the requests of a smoke test and retries those whose service is not up yet.

use std::time::Duration;

use reqwest::Client;
use tokio::time::Instant;

use super::answer::{CheckedRequest, SmokeAnswer};
use super::plan::{SmokePlan, SmokeRequest};
use crate::failure::describe;

/// The error of an HTTP client that can't be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client can't be made: {0}")]
pub struct SmokeSetupError(#[source] reqwest::Error);

/// The result of one attempt.
enum Attempt {
    /// The service answered.
    Answered(SmokeAnswer),
    /// The service is not up yet, for this reason.
    NotUpYet(String),
    /// The request failed for this reason and is not retried.
    Failed(String),
}

/// Sends the requests in their order and calls `report` with each result as soon as it is known. Returns all results.
///
/// # Errors
/// If the HTTP client can't be built. A failed request is a result and not an error.
pub async fn ask_all(
    plan: &SmokePlan,
    mut report: impl FnMut(&CheckedRequest),
) -> Result<Vec<CheckedRequest>, SmokeSetupError> {
    let client = crate::http::client()
        .timeout(plan.timeout.to_std())
        // A redirect is an answer like any other: a plan may expect it.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(SmokeSetupError)?;
    let start = Instant::now();
    let mut all = Vec::new();
    for request in &plan.requests {
        let checked = until_up(plan, request, &client, start).await;
        report(&checked);
        all.push(checked);
    }
    Ok(all)
}

/// Sends one request, again as long as its service is not up and the deadline has not passed.
async fn until_up(plan: &SmokePlan, request: &SmokeRequest, client: &Client, start: Instant) -> CheckedRequest {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let began = Instant::now();
        let reason = match attempt(client, request).await {
            Attempt::Answered(answer) => return judged(request, &answer, attempts),
            Attempt::Failed(why) => return failed(request, why, began.elapsed(), attempts),
            Attempt::NotUpYet(why) => why,
        };
        let left = plan.deadline.to_std().saturating_sub(start.elapsed());
        if left.is_zero() {
            let why = format!("it is not up after {}: {reason}", plan.deadline);
            return failed(request, why, began.elapsed(), attempts);
        }
        tokio::time::sleep(plan.every.to_std().min(left)).await;
    }
}

async fn attempt(client: &Client, request: &SmokeRequest) -> Attempt {
    let began = Instant::now();
    let mut builder = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
    if let Some(body) = &request.body {
        builder = builder.body(body.clone());
    }
    let response = match builder.send().await {
        Ok(response) => response,
        Err(error) if error.is_timeout() => return Attempt::Failed("it does not answer in time".to_owned()),
        Err(error) if error.is_connect() => {
            // A refused certificate stays refused.
            let problem = crate::tls::certificate_problem(&error);
            return problem.map_or_else(|| Attempt::NotUpYet(describe(error)), Attempt::Failed);
        }
        Err(error) => return Attempt::Failed(describe(error)),
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = match response.text().await {
        Ok(body) => body,
        Err(error) => {
            return Attempt::Failed(format!("it breaks off in the middle of its answer: {}", describe(error)));
        }
    };
    let answer = SmokeAnswer { status, headers, body, took: began.elapsed() };
    if answer.is_not_up_yet(&request.expect) {
        return Attempt::NotUpYet(format!("it answers {status}"));
    }
    Attempt::Answered(answer)
}

fn judged(request: &SmokeRequest, answer: &SmokeAnswer, attempts: u32) -> CheckedRequest {
    let problems = answer.problems(&request.expect);
    let sentence = if problems.is_empty() {
        format!("{} {} answers {} in {}", request.method, request.url.path(), answer.status, answer.took_text())
    } else {
        format!("{} {}: {}", request.method, request.url.path(), problems.join("; "))
    };
    checked(request, sentence, problems, answer.took, attempts)
}

fn failed(request: &SmokeRequest, why: String, took: Duration, attempts: u32) -> CheckedRequest {
    let sentence = format!("{} {}: {why}", request.method, request.url.path());
    checked(request, sentence, vec![why], took, attempts)
}

fn checked(
    request: &SmokeRequest,
    sentence: String,
    problems: Vec<String>,
    took: Duration,
    attempts: u32,
) -> CheckedRequest {
    CheckedRequest {
        name: request.name.clone(),
        passed: problems.is_empty(),
        sentence,
        problems,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        attempts,
    }
}
