//! The tests on real programs: the daemon with a real Kafka, Kubernetes API, gateway, Prometheus and S3.
//!
//! `tests/run real [filter]` installs the programs and runs the tests. Once they are installed,
//! `cargo test --release --features failpoints --test real -- [filter]` is enough. The plane (`bellwether_testkit::plane`)
//! is started once, in its own namespace, and the stories run at the same time.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "it is a test, although it has its own `main`"
)]

mod chart;
mod image;
mod kafka;
mod lint;
mod package;
mod registry;
mod stories;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use bellwether_testkit::plane::kafka::BROKERS;
use bellwether_testkit::plane::{Plane, PlanePaths, Sandbox, namespace};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use tokio::runtime::Runtime;

use crate::stories::Story;

/// Stories mostly wait, so more of them run at the same time than there are cores.
const STORIES_AT_A_TIME: usize = 6;

/// Characters of an error that are repeated at the end of the output.
const LONGEST_BEGINNING: usize = 1500;

/// The plane and its users.
struct Harness {
    runtime: Runtime,
    plane: Arc<Plane>,
    /// Locked for writing by an exclusive story, and for reading by any other.
    exclusive: RwLock<()>,
    /// The beginning of each failed story's error. They are printed last, where a log that is cut in its middle keeps them.
    failures: Mutex<Vec<String>>,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(STORIES_AT_A_TIME);
    match run(&arguments) {
        Ok(conclusion) => conclusion.exit_code(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the paths of this test binary.
fn paths() -> PlanePaths {
    PlanePaths { program: env!("CARGO_BIN_EXE_bellwether").into(), scratch: env!("CARGO_TARGET_TMPDIR").into() }
}

fn run(arguments: &Arguments) -> Result<Conclusion> {
    let harness = Arc::new(OnceLock::new());
    // The tests of Kafka and the registry come first: they do not wait for exclusive stories.
    let mut trials = kafka::trials(BROKERS);
    trials.extend(registry::trials(std::env::var_os("BELLWETHER_SOAK").is_some()));
    trials.extend(lint::trials());
    trials.extend(chart::trials());
    trials.extend(image::trials());
    trials.extend(package::trials());
    trials.extend(stories::all().into_iter().map(|story| trial(story, harness.clone())));
    if arguments.list {
        return Ok(libtest_mimic::run(arguments, trials));
    }
    namespace::enter(&paths().data())?;
    let logs = paths().fresh_logs()?;
    let place = format!("the logs of all programs are in {}", logs.display());
    let _ = harness.set(Harness::start(&logs).with_context(|| place.clone())?);
    let conclusion = libtest_mimic::run(arguments, trials);
    if let Some(harness) = harness.get() {
        harness
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .for_each(|failure| println!("{failure}\n"));
    }
    if conclusion.has_failed() || std::env::var_os("BELLWETHER_KEEP").is_some() {
        println!("{place}");
    } else {
        let _ = fs::remove_dir_all(&logs);
    }
    Ok(conclusion)
}

fn trial(story: Story, harness: Arc<OnceLock<Harness>>) -> Trial {
    Trial::test(story.name, move || {
        let harness = harness.get().ok_or("the plane was not started")?;
        let name = story.name;
        harness.run(story).map_err(|error| {
            let error = format!("{error:#}");
            let beginning: String = error.chars().take(LONGEST_BEGINNING).collect();
            harness.failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {beginning}"));
            Failed::from(error)
        })
    })
}

impl Harness {
    fn start(logs: &Path) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let started = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let plane = runtime.block_on(Plane::start(&paths(), logs))?;
        println!("plane: all parts are ready after {:.1} s", started.elapsed().as_secs_f64());
        Ok(Self { runtime, plane: Arc::new(plane), exclusive: RwLock::new(()), failures: Mutex::default() })
    }

    fn run(&self, story: Story) -> Result<()> {
        let (_alone, _with_others);
        if story.exclusive {
            _alone = self.exclusive.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _with_others = self.exclusive.read().unwrap_or_else(PoisonError::into_inner);
        }
        let started = Instant::now();
        let sandbox = self.runtime.block_on(Sandbox::create(self.plane.clone(), story.name))?;
        let result = (story.body)(&self.runtime, &sandbox);
        println!("{}: {:.0} s", story.name, started.elapsed().as_secs_f64());
        self.runtime.block_on(async {
            let result = match result {
                Ok(()) => Ok(()),
                Err(error) => Err(anyhow!("{error:#}\n{}", sandbox.describe().await)),
            };
            sandbox.delete().await;
            result
        })
    }
}
