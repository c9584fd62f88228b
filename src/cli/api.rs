//! A client of the daemon's HTTP API.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use bellwether_core::engine::view::{AnswerView, RolloutView};
use reqwest::header::AUTHORIZATION;
use reqwest::{StatusCode, Url};
use serde::de::DeserializeOwned;

use super::{Common, tell};
use crate::http::VIEW_PROBLEM;
use crate::secret;

/// The deadline of a stream of changes. A daemon ends one after ten minutes.
const STREAM: Duration = Duration::from_secs(660);
/// The most bytes of a stream without the end of an event.
const MOST_WAITING: usize = 4096;

/// A client of one daemon.
pub struct ApiClient {
    client: reqwest::Client,
    base: Url,
    /// Whether standard error tells that an answer may be incomplete.
    tells: bool,
    /// Whether it has told so.
    has_warned: AtomicBool,
    /// The reason for which the newest answer may be incomplete.
    problem: Mutex<Option<String>>,
}

impl ApiClient {
    /// Creates a client for the daemon of `--api`, with the token and the authorities that the arguments name.
    ///
    /// # Errors
    /// `--api` is not a URL, or a file can't be read.
    pub fn of(common: &Common) -> anyhow::Result<ApiClient> {
        let base = Url::parse(&common.api)
            .with_context(|| format!("{:?} is not a URL; write --api http://127.0.0.1:8080", common.api))?;
        let mut client = bellwether_tools::http::client().timeout(Duration::from_secs(10));
        if let Some(file) = &common.api_token_file {
            let token = secret::bearer(&secret::read(file).context("--api-token-file")?)?;
            client = client.default_headers([(AUTHORIZATION, token)].into_iter().collect());
        }
        if let Some(file) = &common.api_ca_file {
            let pem = std::fs::read(file).with_context(|| format!("--api-ca-file {}", file.display()))?;
            client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
        }
        let client = client.build().context("no HTTP client")?;
        Ok(ApiClient { client, base, tells: true, has_warned: AtomicBool::new(false), problem: Mutex::default() })
    }

    /// Returns a client that writes nothing to standard error, for a command that draws on the terminal.
    #[must_use]
    pub fn quiet(self) -> ApiClient {
        ApiClient { tells: false, ..self }
    }

    /// Returns the reason for which the newest answer may be incomplete; `None` if it is complete.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens the stream that tells of changes of the list.
    ///
    /// # Errors
    /// The daemon does not answer, or has as many streams as it can.
    pub async fn live(&self) -> anyhow::Result<LiveChanges> {
        let url = self.base.join("/live").context("--api")?;
        let response = self.client.get(url).timeout(STREAM).send().await?.error_for_status()?;
        Ok(LiveChanges { response, waiting: Vec::new() })
    }

    /// Returns the rollouts that match all pairs of the filter (`namespace`, `workload`, `phase`, `id`), the newest first.
    ///
    /// # Errors
    /// The daemon does not answer, or its response is not a list of rollouts.
    pub async fn rollouts(&self, filter: &[(&str, &str)]) -> anyhow::Result<Vec<RolloutView>> {
        let mut rollouts: Vec<RolloutView> = self.list("/api/v1/rollouts", filter).await?;
        rollouts.sort_by_key(|rollout| std::cmp::Reverse(rollout.started));
        Ok(rollouts)
    }

    /// Returns the daemon's answer to the event that matches all pairs of the filter (`source` and `id`, or `rollout`); `None`
    /// if there is none yet, or none any more.
    ///
    /// # Errors
    /// The daemon does not answer, or its response is not a list of answers.
    pub async fn answer(&self, filter: &[(&str, &str)]) -> anyhow::Result<Option<AnswerView>> {
        Ok(self.list("/api/v1/answers", filter).await?.pop())
    }

    async fn list<T: DeserializeOwned>(&self, path: &str, filter: &[(&str, &str)]) -> anyhow::Result<Vec<T>> {
        let mut url = self.base.join(path).context("--api")?;
        url.query_pairs_mut().extend_pairs(filter);
        let unavailable = format!("{} does not answer; is the daemon running, and is --api right?", self.base);
        let response = self.client.get(url).send().await.context(unavailable)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let text = response.text().await.unwrap_or_default();
            bail!("{} needs a token: {text}; name its file with --api-token-file", self.base);
        }
        if !response.status().is_success() {
            bail!("{} answered {}: {}", self.base, response.status(), response.text().await.unwrap_or_default());
        }
        let problem = response.headers().get(VIEW_PROBLEM).and_then(|problem| problem.to_str().ok());
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem.map(str::to_owned);
        if let Some(problem) = problem.filter(|_| self.tells && !self.has_warned.swap(true, Ordering::Relaxed)) {
            tell(&format!("warning: the answer of {} may be incomplete: {problem}\n", self.base));
        }
        response.json().await.with_context(|| format!("the response to {path} is no list that this version reads"))
    }

    /// Returns the running rollout of the workload `name`, or else its newest one, or the rollout with the id `name`; `None` if
    /// there is none.
    ///
    /// # Errors
    /// The daemon does not answer, or more than one workload has the name.
    pub async fn find(&self, name: &str) -> anyhow::Result<Option<RolloutView>> {
        let mut found = self.rollouts(&[("workload", name)]).await?;
        if found.is_empty() {
            found = self.rollouts(&[("id", name)]).await?;
        }
        if let Some(other) = found.iter().find(|other| other.workload != found[0].workload) {
            bail!("{name:?} is {} and {}; write namespace/name", found[0].short_workload(), other.short_workload());
        }
        let running = found.iter().position(RolloutView::is_running);
        Ok(found.into_iter().nth(running.unwrap_or_default()))
    }
}

/// A stream that tells of changes (server-sent events).
pub struct LiveChanges {
    response: reqwest::Response,
    /// The bytes of an event that is not complete yet.
    waiting: Vec<u8>,
}

impl LiveChanges {
    /// Waits for the next change; `None` at the end of the stream. If it is not awaited to its end, nothing is lost.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            if let Some(end) = self.waiting.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.waiting.drain(..end + 2).collect();
                if event.starts_with(b"event: changed") {
                    return Some(());
                }
                continue;
            }
            if self.waiting.len() > MOST_WAITING {
                return None;
            }
            let chunk = self.response.chunk().await.ok()??;
            self.waiting.extend_from_slice(&chunk);
        }
    }
}
