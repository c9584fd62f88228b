//! The real tests: the daemon against a real Kafka, Kubernetes API, gateway, Prometheus and S3.
//!
//! `tests/run real [filter]` provisions what this needs and runs it; `cargo test --release --test real -- [filter]` is
//! enough once that is there. The plane is started once, in a namespace of its own, and the stories are told side by side.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "it is a test, although it has its own `main`"
)]

mod kafka;
mod lint;
mod namespace;
mod plane;
mod registry;
mod stories;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use tokio::runtime::Runtime;

use crate::plane::Plane;
use crate::plane::story::Story;
use crate::stories::Told;

/// Stories mostly wait, so more of them than cores are told at a time.
const STORIES_AT_A_TIME: usize = 4;

struct World {
    runtime: Runtime,
    plane: Arc<Plane>,
    /// Written by who has to be alone.
    company: RwLock<()>,
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

fn run(arguments: &Arguments) -> Result<Conclusion> {
    let world = Arc::new(OnceLock::new());
    // Those of Kafka and the registry first: they know nothing of stories that have to be alone.
    let mut trials = kafka::trials(plane::kafka::BROKERS);
    trials.extend(registry::trials(std::env::var_os("BELLWETHER_SOAK").is_some()));
    trials.extend(lint::trials());
    trials.extend(stories::all().into_iter().map(|told| trial(told, world.clone())));
    if arguments.list {
        return Ok(libtest_mimic::run(arguments, trials));
    }
    namespace::enter()?;
    let logs = plane::fresh_logs()?;
    let shown = format!("the logs of all programs are in {}", logs.display());
    let _ = world.set(World::start(&logs).with_context(|| shown.clone())?);
    let conclusion = libtest_mimic::run(arguments, trials);
    if conclusion.has_failed() {
        println!("{shown}");
    } else {
        let _ = fs::remove_dir_all(&logs);
    }
    Ok(conclusion)
}

fn trial(told: Told, world: Arc<OnceLock<World>>) -> Trial {
    Trial::test(told.name, move || {
        let world = world.get().ok_or("the plane was not started")?;
        world.tell(told).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

impl World {
    fn start(logs: &Path) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let started = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let plane = runtime.block_on(Plane::start(&plane::cache()?, &namespace::data(), logs))?;
        println!("plane: all of it is ready after {:.1} s", started.elapsed().as_secs_f64());
        Ok(Self { runtime, plane: Arc::new(plane), company: RwLock::new(()) })
    }

    fn tell(&self, told: Told) -> Result<()> {
        let (_alone, _among_others);
        if told.alone {
            _alone = self.company.write().unwrap_or_else(PoisonError::into_inner);
        } else {
            _among_others = self.company.read().unwrap_or_else(PoisonError::into_inner);
        }
        let story = self.runtime.block_on(Story::begin(self.plane.clone(), told.name))?;
        let result = (told.tell)(&self.runtime, &story);
        self.runtime.block_on(async {
            let result = match result {
                Ok(()) => Ok(()),
                Err(error) => Err(anyhow!("{error:#}\n{}", story.describe().await)),
            };
            story.end().await;
            result
        })
    }
}
