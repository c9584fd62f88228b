//! The source of the traces from which the calls of tools are read, for agents that call tools inside.

use std::net::SocketAddr;

use bellwether_core::time::Span;
use serde::Deserialize;

/// The longest time that a trace may be awaited.
const LONGEST_WAIT: Span = Span::from_secs(3600);

/// The section `[traces]` as the file has it; exactly one of the sources is set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawTraces {
    /// The address on which the run receives traces by OTLP/HTTP.
    pub listen: Option<SocketAddr>,
    /// A file, or a directory of files, to which traces are exported during the run, relative to the suite.
    pub files: Option<String>,
    /// The Langfuse project to which traces are exported during the run.
    pub langfuse: Option<Langfuse>,
    /// An eval log of Inspect that has the recorded tasks, relative to the suite.
    pub inspect: Option<String>,
    /// The time for which a trace is awaited after the answer; 15 s by default.
    #[serde(default = "fifteen_seconds")]
    pub wait: Span,
    /// The time without a further span after which a trace is whole, once its first span has come; 1 s by default.
    #[serde(default = "a_second")]
    pub quiet: Span,
}

fn fifteen_seconds() -> Span {
    Span::from_secs(15)
}

fn a_second() -> Span {
    Span::from_secs(1)
}

/// The traces of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The place that they come from.
    pub source: TraceSource,
    /// The time for which a trace is awaited after the answer, from above 0 to one hour. A trace that is not whole then
    /// makes the answer missing.
    pub wait: Span,
    /// The time without a further span after which a trace is whole, once its first span has come: the one whose parent
    /// is the request. Below `wait`.
    pub quiet: Span,
}

/// The place that traces come from.
#[derive(Debug, Clone, PartialEq)]
pub enum TraceSource {
    /// A receiver of OTLP/HTTP that the run opens on this address for its length.
    Listen(SocketAddr),
    /// A file, or a directory of files ending in `.json` or `.jsonl`, of OTLP as JSON with one export a line, as the file
    /// exporter of the OpenTelemetry Collector writes them. Relative to the suite.
    Files(String),
    /// The API of Langfuse.
    Langfuse(Langfuse),
    /// An eval log of Inspect (JSON or `.eval`), relative to the suite. Its samples are the cases with the same ids, and
    /// their answers and calls are those of the log: the target is not asked.
    Inspect(String),
}

/// A Langfuse project. Its keys are taken from the environment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Langfuse {
    /// The URL of the server, without `/api`.
    pub url: String,
    /// The name of the environment variable that holds the public key; `LANGFUSE_PUBLIC_KEY` by default.
    #[serde(default = "public_key")]
    pub public_key_env: String,
    /// The name of the environment variable that holds the secret key; `LANGFUSE_SECRET_KEY` by default.
    #[serde(default = "secret_key")]
    pub secret_key_env: String,
}

fn public_key() -> String {
    "LANGFUSE_PUBLIC_KEY".to_owned()
}

fn secret_key() -> String {
    "LANGFUSE_SECRET_KEY".to_owned()
}

impl RawTraces {
    /// Returns the checked form; if the section is not valid, its problems, each with its key below `traces`.
    pub(super) fn check(&self) -> Result<Traces, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let sources = [
            self.listen.map(TraceSource::Listen),
            self.files.clone().map(TraceSource::Files),
            self.langfuse.clone().map(TraceSource::Langfuse),
            self.inspect.clone().map(TraceSource::Inspect),
        ];
        let mut sources: Vec<TraceSource> = sources.into_iter().flatten().collect();
        if sources.len() != 1 {
            problems.push((
                "listen",
                format!(
                    "traces come from one place, and there are {}; write one of listen = \"127.0.0.1:4318\", files, langfuse \
                     and inspect",
                    sources.len()
                ),
            ));
        }
        if self.wait > LONGEST_WAIT || self.wait == Span::ZERO {
            problems.push(("wait", format!("{} is not from above 0 to {LONGEST_WAIT}", self.wait)));
        }
        if self.quiet >= self.wait {
            problems.push(("quiet", format!("{} is not below `wait`, which is {}", self.quiet, self.wait)));
        }
        match sources.pop() {
            Some(source) if problems.is_empty() => Ok(Traces { source, wait: self.wait, quiet: self.quiet }),
            _ => Err(problems),
        }
    }
}
