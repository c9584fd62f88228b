//! Code that several test binaries of this workspace share.
//!
//! Every module needs a cargo feature, so that a test binary compiles the parts that it uses and nothing else:
//! `cargo test -p bellwether-registry` builds neither librdkafka nor a Kubernetes client.
//!
//! | module | feature | content |
//! | --- | --- | --- |
//! | `registry_suite` | `store` | the behaviour of a registry of models, the same in every store |
//! | `s3` | `store` | a store that speaks S3's protocol, with the faults of real ones |
//! | `journal_suite` | `daemon` | the behaviour of a journal, the same in Kafka and in a file |
//! | `broker_script` | `daemon` | random scripts that compare the simulator's broker with another one |
//! | `agent` | `agent` | a model endpoint that answers by rule, as a target for gates |
//! | `plane` | `plane` | a real Kafka, Kubernetes API, gateway, Prometheus and S3, and the daemon under test |
//!
//! The crate is a dev-dependency of the crates whose public types it uses. Cargo allows that cycle, and these are the same
//! types in the test binary, as long as a test is an integration test: a unit test has a second copy of its crate.
//!
//! # Errors and panics
//!
//! A suite checks by `assert!` and panics at the first failure. The plane returns errors: a failed wait tells the
//! condition and the state that it found at last.
//!
//! # Examples
//!
//! A model endpoint that answers one prompt in five wrongly. The prompts with wrong answers are known in advance:
//!
//! ```
//! # #[cfg(feature = "agent")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use bellwether_testkit::agent::{Agent, Knobs, lot};
//!
//! let agent = Agent::start(Knobs { wrong: 0.2, ..Knobs::default() }).await;
//! assert!(agent.url.starts_with("http://127.0.0.1:"));
//! let wrong = (0..100).filter(|n| lot(&format!("capital {n}"), "wrong") < 0.2).count();
//! assert!((10..30).contains(&wrong));
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A story on the plane, in which a version is promoted:
//!
//! ```no_run
//! # #[cfg(feature = "plane")]
//! use bellwether_testkit::plane::{Fixture, Sandbox, fixture::policy};
//!
//! # #[cfg(feature = "plane")]
//! async fn a_good_version_is_promoted(sandbox: &Sandbox) -> anyhow::Result<()> {
//!     let fixture = Fixture::start(sandbox, &policy("10% 50%", "")).await?;
//!     let load = sandbox.load(100.0)?;
//!     let id = fixture.request("registry.test/shop/web:v2", &[]).await?;
//!     fixture.ended_as(&id, "promoted", std::time::Duration::from_secs(180)).await?;
//!     load.stop().await?;
//!     Ok(())
//! }
//! ```

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "daemon")]
pub mod broker_script;
#[cfg(feature = "daemon")]
pub mod journal_suite;
#[cfg(feature = "plane")]
pub mod plane;
#[cfg(feature = "store")]
pub mod registry_suite;
#[cfg(feature = "store")]
pub mod s3;
