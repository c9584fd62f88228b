//! Asks, and asks again what is not up yet.

use std::time::Duration;

use reqwest::Client;
use tokio::time::Instant;

use super::answer::{Answer, Checked};
use super::plan::{Plan, Request};

/// The client can't be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client can't be made: {0}")]
pub struct NoClient(#[source] reqwest::Error);

/// One attempt.
enum Attempt {
    Answered(Answer),
    /// In words: why it is not up yet.
    NotYet(String),
    /// In words: what went wrong.
    Wrong(String),
}

/// Asks all of it, in order, and tells each as soon as it is known.
///
/// # Errors
/// If there is no client to ask with.
pub async fn ask_all(plan: &Plan, mut tell: impl FnMut(&Checked)) -> Result<Vec<Checked>, NoClient> {
    crate::tls::install();
    let client = Client::builder()
        .timeout(plan.timeout.to_std())
        // A redirect is an answer that can be expected.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(NoClient)?;
    let since = Instant::now();
    let mut all = Vec::new();
    for request in &plan.requests {
        let checked = until_up(plan, request, &client, since).await;
        tell(&checked);
        all.push(checked);
    }
    Ok(all)
}

async fn until_up(plan: &Plan, request: &Request, client: &Client, since: Instant) -> Checked {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let began = Instant::now();
        let not_yet = match attempt(client, request).await {
            Attempt::Answered(answer) => return judged(request, &answer, attempts),
            Attempt::Wrong(why) => return failed(request, why, began.elapsed(), attempts),
            Attempt::NotYet(why) => why,
        };
        let left = plan.deadline.to_std().saturating_sub(since.elapsed());
        if left.is_zero() {
            let why = format!("it is not up after {}: {not_yet}", plan.deadline);
            return failed(request, why, began.elapsed(), attempts);
        }
        tokio::time::sleep(plan.every.to_std().min(left)).await;
    }
}

async fn attempt(client: &Client, request: &Request) -> Attempt {
    let began = Instant::now();
    let mut asked = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
    if let Some(body) = &request.body {
        asked = asked.body(body.clone());
    }
    let answer = match asked.send().await {
        Ok(answer) => answer,
        Err(error) if error.is_timeout() => return Attempt::Wrong("it does not answer in time".to_owned()),
        Err(error) if error.is_connect() => return Attempt::NotYet(words(error)),
        Err(error) => return Attempt::Wrong(words(error)),
    };
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = match answer.text().await {
        Ok(body) => body,
        Err(error) => return Attempt::Wrong(format!("it breaks off in the middle of its answer: {}", words(error))),
    };
    let answer = Answer { status, headers, body, took: began.elapsed() };
    if answer.is_not_yet(&request.expect) {
        return Attempt::NotYet(format!("it answers {status}"));
    }
    Attempt::Answered(answer)
}

/// An error with its causes; without the URL, which may have credentials in it.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn judged(request: &Request, answer: &Answer, attempts: u32) -> Checked {
    let problems = answer.problems(&request.expect);
    let sentence = if problems.is_empty() {
        format!("{} {} answers {} in {}", request.method, request.url.path(), answer.status, answer.took_words())
    } else {
        format!("{} {}: {}", request.method, request.url.path(), problems.join("; "))
    };
    checked(request, sentence, problems, answer.took, attempts)
}

fn failed(request: &Request, why: String, took: Duration, attempts: u32) -> Checked {
    let sentence = format!("{} {}: {why}", request.method, request.url.path());
    checked(request, sentence, vec![why], took, attempts)
}

fn checked(request: &Request, sentence: String, problems: Vec<String>, took: Duration, attempts: u32) -> Checked {
    Checked {
        name: request.name.clone(),
        passed: problems.is_empty(),
        sentence,
        problems,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        attempts,
    }
}
