//! The plane: a real Kafka, Kubernetes API, gateway, Prometheus and S3 in a namespace of their own, started once for all
//! stories of a test binary.
//!
//! Only containers are simulated: [`pods`] answers in their place. Every file is one part of the plane. A story works with
//! a [`Sandbox`], or with a [`Fixture`], which adds a workload and a daemon. `tests/provision` installs the programs.
//!
//! This file only names the modules. Each of them uses only those above it.

pub mod wait;
pub mod http;
pub mod program;
pub mod paths;
pub mod s3;
pub mod namespace;
pub mod kafka;
pub mod kubernetes;
pub mod tls;
pub mod gateway;
pub mod behaviour;
pub mod pods;
pub mod metrics_api;
pub mod targets;
pub mod prometheus;
pub mod load;
pub mod proxy;
pub mod slack;
pub mod parts;
pub mod specs;
pub mod sandbox;
pub mod faults;
pub mod webhook;
pub mod history;
pub mod daemon;
pub mod fixture;
pub mod bench;

pub use daemon::Daemon;
pub use fixture::{Fixture, FixtureOptions};
pub use parts::Plane;
pub use paths::PlanePaths;
pub use sandbox::Sandbox;
