//! Reads and checks a suite and all files that it refers to, before the first request is sent.

use std::path::{Path, PathBuf};

use bellwether_core::time::Timestamp;
use bellwether_gate::dataset::{Case, Dataset, DatasetError, sha256};
use bellwether_gate::metric::GateMetricKind;
use bellwether_gate::report::GateSubject as Subject;
use bellwether_gate::score::rubric::Labelled;
use bellwether_gate::suite::{Endpoint, Gate, Suite, SuiteError, TraceSource};

use super::client::ClientSetupError;
use super::ledger::{LedgerError, RunIdentity};
use super::traces::inspect::InspectLog;
use super::traces::{RunTraces, TraceError};

/// The reason why a run can't begin or continue.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The suite is invalid.
    #[error("{}: {source}", path.display())]
    Suite {
        /// Path of the suite.
        path: PathBuf,
        /// Problem of the suite.
        source: SuiteError,
    },
    /// A dataset is invalid.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A dataset differs from the one that the suite pins.
    #[error("dataset {path} has the SHA-256 {found}, and the suite pins {pinned}; pin the new one if the change is intended", path = path.display())]
    Pinned {
        /// Path of the dataset.
        path: PathBuf,
        /// SHA-256 of the file, in hexadecimal.
        found: String,
        /// SHA-256 in the suite, in hexadecimal.
        pinned: String,
    },
    /// Cases lack fields that their gates need. Each text is one problem.
    #[error("{}", .0.join("\n"))]
    Cases(Vec<String>),
    /// A line of the judge's self-test is invalid.
    #[error("{}, line {line}: {problem}", path.display())]
    SelfTest {
        /// Path of the self-test.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Description of the problem.
        problem: String,
    },
    /// An endpoint can't be used as it is configured.
    #[error(transparent)]
    Setup(#[from] ClientSetupError),
    /// The source of traces can't be used.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// The ledger can't be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A suite with the contents of all files that it refers to.
#[derive(Debug, Clone)]
pub struct LoadedSuite {
    /// The checked suite.
    pub suite: Suite,
    /// Datasets of the gates, in the order of the gates.
    pub datasets: Vec<Dataset>,
    /// Labelled answers of the judge's self-test; empty if it has none.
    pub labelled: Vec<Labelled>,
    /// SHA-256 of the log with the recorded tasks; `None` if the target is asked.
    log: Option<String>,
    path: PathBuf,
    /// Whether runs are identified without the addresses of the endpoints.
    by_version: bool,
}

impl LoadedSuite {
    /// Reads the suite at `path` and its files, whose paths are relative to the suite's directory, and checks them.
    ///
    /// # Errors
    /// [`RunError`] if a file can't be read or is invalid.
    pub fn read(path: &Path) -> Result<LoadedSuite, RunError> {
        let mut suite =
            Suite::parse(&text(path)?).map_err(|source| RunError::Suite { path: path.to_owned(), source })?;
        let beside = |name: &str| path.parent().unwrap_or(Path::new("")).join(name);
        for tls in suite.endpoints_mut().map(|endpoint| &mut endpoint.tls) {
            for file in [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file].into_iter().flatten() {
                *file = beside(file).to_string_lossy().into_owned();
            }
        }
        let mut log = None;
        match suite.traces.as_mut().map(|traces| &mut traces.source) {
            Some(TraceSource::Files(path)) => *path = beside(path).to_string_lossy().into_owned(),
            Some(TraceSource::Inspect(path)) => {
                *path = beside(path).to_string_lossy().into_owned();
                log = Some(InspectLog::read(Path::new(path)).map_err(TraceError::Inspect)?.sha256);
            }
            Some(TraceSource::Listen(_) | TraceSource::Langfuse(_)) | None => {}
        }
        let mut datasets = Vec::new();
        let mut problems = Vec::new();
        for gate in &suite.gates {
            let path = beside(&gate.dataset);
            let text = text(&path)?;
            let dataset = Dataset::parse(&gate.dataset, &gate.version, &text)?;
            if let Some(pinned) = gate.sha256.as_ref().filter(|pinned| **pinned != dataset.sha256) {
                return Err(RunError::Pinned { path, found: sha256(text), pinned: pinned.clone() });
            }
            problems.extend(gate.missing_fields(&dataset.cases, suite.classifier.is_some()));
            datasets.push(dataset);
        }
        if !problems.is_empty() {
            return Err(RunError::Cases(problems));
        }
        let labelled = suite.judge.as_ref().and_then(|judge| judge.self_test.as_ref());
        let labelled = labelled.map(|name| labels(&beside(name))).transpose()?.unwrap_or_default();
        Ok(LoadedSuite { suite, datasets, labelled, log, path: path.to_owned(), by_version: false })
    }

    /// Returns the number of requests of a run to the target and the stable version, without retries and further steps.
    pub fn requests(&self) -> usize {
        let arms = if self.suite.stable.is_some() { 2 } else { 1 };
        let further = |case: &Case, gate: &Gate| if gate.kind == GateMetricKind::Tools { case.turns.len() } else { 0 };
        let of = |(gate, dataset): (&Gate, &Dataset)| {
            let turns: usize = dataset.cases.iter().map(|case| 1 + further(case, gate)).sum();
            turns * gate.repeats as usize * arms
        };
        self.suite.gates.iter().zip(&self.datasets).map(of).sum()
    }

    /// Replaces the URLs of the target and the stable version. `model` is the model of each endpoint for which the suite
    /// names none.
    pub fn override_endpoints(&mut self, target: Option<&str>, stable: Option<&str>, model: Option<&str>) {
        let suite = &mut self.suite;
        if let Some(url) = target {
            url.trim_end_matches('/').clone_into(&mut suite.target.url);
        }
        if let Some(url) = stable {
            // Without a [stable] section the stable version is the target's model at another URL.
            let of_suite = suite.stable.take().unwrap_or_else(|| suite.target.clone());
            suite.stable = Some(Endpoint { url: url.trim_end_matches('/').to_owned(), ..of_suite });
        }
        let unnamed = [Some(&mut suite.target), suite.stable.as_mut(), suite.embedder.as_mut()];
        for endpoint in unnamed.into_iter().flatten().filter(|endpoint| endpoint.model.is_empty()) {
            model.unwrap_or_default().clone_into(&mut endpoint.model);
        }
    }

    /// Identifies runs by their subject alone, and not by the addresses at which it serves, which may change from run to run.
    pub fn identify_by_version(&mut self) {
        self.by_version = true;
    }

    /// Returns the short name of a run of this suite for `subject`, and the default path of its ledger.
    pub fn ledger_of(&self, subject: &Subject) -> (String, PathBuf) {
        let identity = self.identity(subject);
        (identity.short(), self.default_ledger(&identity))
    }

    /// Returns the SHA-256 of the test in hexadecimal digits: the suite without its budget, with its `alpha` and `beta`, the
    /// cases, and the labelled answers of the judge's self-test. Reports with the same pin are of the same test.
    pub fn pin(&self) -> String {
        let suite = &self.suite;
        let rates = format!("{} {}", suite.alpha, suite.beta);
        let labelled: String =
            self.labelled.iter().map(|one| format!("{:?}", (&one.prompt, &one.answer, one.good))).collect();
        let cases =
            suite.gates.iter().zip(&self.datasets).map(|(gate, dataset)| format!("{} {}", gate.name, dataset.sha256));
        let parts: Vec<String> = [suite.run_sha256.clone(), rates, sha256(labelled)].into_iter().chain(cases).collect();
        sha256(parts.join("\n"))
    }

    /// Returns the identity of a run of this suite for `subject`.
    pub(super) fn identity(&self, subject: &Subject) -> RunIdentity {
        let url = |endpoint: &Endpoint| if self.by_version { String::new() } else { endpoint.url.clone() };
        let of = |endpoint: &Endpoint| (url(endpoint), endpoint.model.clone());
        RunIdentity {
            suite: self.suite.run_sha256.clone(),
            datasets: self
                .suite
                .gates
                .iter()
                .zip(&self.datasets)
                .map(|(g, d)| (g.name.clone(), d.sha256.clone()))
                .collect(),
            log: self.log.clone(),
            target: of(&self.suite.target),
            stable: self.suite.stable.as_ref().map(of),
            subject: subject.clone(),
        }
    }

    /// Opens the source of traces for a run that begins `now`; `None` if the suite has none.
    pub(super) async fn open_traces(&self, subject: &Subject, now: Timestamp) -> Result<Option<RunTraces>, TraceError> {
        let Some(settings) = &self.suite.traces else { return Ok(None) };
        let nonce = format!("{} {} {now}", self.suite.seed, self.identity(subject).short());
        RunTraces::open(settings, nonce).await.map(Some)
    }

    /// Returns the default path of a run's ledger: in `.bellwether-gate` beside the suite, with a name of this run
    /// alone.
    pub(super) fn default_ledger(&self, identity: &RunIdentity) -> PathBuf {
        let name: String = self
            .suite
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let directory = self.path.parent().unwrap_or(Path::new("")).join(".bellwether-gate");
        directory.join(format!("{name}-{}.jsonl", identity.short()))
    }
}

fn text(path: &Path) -> Result<String, RunError> {
    std::fs::read_to_string(path).map_err(|source| RunError::File { path: path.to_owned(), source })
}

fn labels(path: &Path) -> Result<Vec<Labelled>, RunError> {
    let text = text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let one = |(at, line): (usize, &str)| {
        let problem = |error: serde_json::Error| error.to_string();
        serde_json::from_str(line).map_err(problem).map_err(|problem| RunError::SelfTest {
            path: path.to_owned(),
            line: at + 1,
            problem,
        })
    };
    lines.map(one).collect()
}
