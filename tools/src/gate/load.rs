//! A suite with everything that it refers to: what is read, and checked, before anything is asked.

use std::path::{Path, PathBuf};

use bellwether_gate::dataset::{Dataset, DatasetError, sha256};
use bellwether_gate::report::Subject;
use bellwether_gate::score::rubric::Labelled;
use bellwether_gate::suite::{Endpoint, Gate, Suite, SuiteError};

use super::client::SetupError;
use super::ledger::{Header, LedgerError};

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The suite makes no sense.
    #[error("{}: {source}", path.display())]
    Suite {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: SuiteError,
    },
    /// A dataset makes no sense.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A dataset is not what the suite says.
    #[error("dataset {path} has the SHA-256 {found}, and the suite pins {pinned}; pin the new one if the change is meant", path = path.display())]
    Pinned {
        /// Which.
        path: PathBuf,
        /// What it hashes to.
        found: String,
        /// What it should.
        pinned: String,
    },
    /// A gate and its cases do not fit.
    #[error("{}", .0.join("\n"))]
    Cases(Vec<String>),
    /// A line of the self-test can't be read.
    #[error("{}, line {line}: {problem}", path.display())]
    SelfTest {
        /// Its file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Somebody can't be asked.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A suite with everything that it refers to.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The rules.
    pub suite: Suite,
    /// For each gate, in the same order.
    pub datasets: Vec<Dataset>,
    /// The judge's labelled answers.
    pub labelled: Vec<Labelled>,
    path: PathBuf,
}

impl Loaded {
    /// Reads and checks all of it.
    ///
    /// # Errors
    /// If something is wrong with any of it.
    pub fn read(path: &Path) -> Result<Loaded, RunError> {
        let suite = Suite::parse(&text(path)?).map_err(|source| RunError::Suite { path: path.to_owned(), source })?;
        let beside = |name: &str| path.parent().unwrap_or(Path::new("")).join(name);
        let mut datasets = Vec::new();
        let mut problems = Vec::new();
        for gate in &suite.gates {
            let path = beside(&gate.dataset);
            let text = text(&path)?;
            let dataset = Dataset::parse(&gate.dataset, &gate.version, &text)?;
            if let Some(pinned) = gate.sha256.as_ref().filter(|pinned| **pinned != dataset.sha256) {
                return Err(RunError::Pinned { path, found: sha256(&text), pinned: pinned.clone() });
            }
            problems.extend(gate.missing_from(&dataset.cases));
            datasets.push(dataset);
        }
        if !problems.is_empty() {
            return Err(RunError::Cases(problems));
        }
        let labelled = suite.judge.as_ref().and_then(|judge| judge.self_test.as_ref());
        let labelled = labelled.map(|name| labels(&beside(name))).transpose()?.unwrap_or_default();
        Ok(Loaded { suite, datasets, labelled, path: path.to_owned() })
    }

    /// Requests to the target and the stable.
    pub fn requests(&self) -> usize {
        let arms = if self.suite.stable.is_some() { 2 } else { 1 };
        let of = |(gate, dataset): (&Gate, &Dataset)| dataset.cases.len() * gate.repeats as usize * arms;
        self.suite.gates.iter().zip(&self.datasets).map(of).sum()
    }

    /// Who is asked instead of whom the suite names.
    pub fn aim(&mut self, target: Option<&str>, stable: Option<&str>, model: Option<&str>) {
        let suite = &mut self.suite;
        if let Some(url) = target {
            url.trim_end_matches('/').clone_into(&mut suite.target.url);
        }
        if let Some(url) = stable {
            let url = url.trim_end_matches('/').to_owned();
            // Without a section of its own the stable is the same model elsewhere.
            let of_suite = suite.stable.take();
            let key_env =
                of_suite.as_ref().map_or_else(|| suite.target.key_env.clone(), |stable| stable.key_env.clone());
            let model = of_suite.map_or_else(|| suite.target.model.clone(), |stable| stable.model);
            suite.stable = Some(Endpoint { url, model, key_env });
        }
        if let Some(model) = model.filter(|_| suite.target.model.is_empty()) {
            model.clone_into(&mut suite.target.model);
        }
    }

    pub(super) fn header(&self, subject: &Subject) -> Header {
        let of = |endpoint: &Endpoint| (endpoint.url.clone(), endpoint.model.clone());
        Header {
            suite: self.suite.run_sha256.clone(),
            datasets: self
                .suite
                .gates
                .iter()
                .zip(&self.datasets)
                .map(|(g, d)| (g.name.clone(), d.sha256.clone()))
                .collect(),
            target: of(&self.suite.target),
            stable: self.suite.stable.as_ref().map(of),
            subject: subject.clone(),
        }
    }

    /// Where the ledger of this run is, if nobody says otherwise: beside the suite, with a name that is this run's alone.
    pub(super) fn usual_ledger(&self, header: &Header) -> PathBuf {
        let name: String = self
            .suite
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let directory = self.path.parent().unwrap_or(Path::new("")).join(".bellwether-gate");
        directory.join(format!("{name}-{}.jsonl", header.short()))
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
