//! `bellwether release`: gives all traffic of a workload to its stable, without a daemon and without its journal.
//!
//! It is for the case in which no daemon can roll back: traffic is split, and the canary is not judged. A daemon that runs,
//! or comes back, ends the rollout as aborted by the sender.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use bellwether_core::ids::{Workload, version};
use bellwether_core::input::command::Author;
use bellwether_core::input::event::Failure;
use clap::Args;

use super::emit::DEFAULT_SOURCE;
use super::workload::WorkloadArg;
use super::{Common, print, tell};
use crate::adapters::kubernetes::{Kubernetes, Split};
use crate::clock::SystemClock;
use crate::config;
use crate::exit;
use crate::telemetry;

/// The arguments of `release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Workload, as namespace/name, or cluster/namespace/Deployment/name.
    workload: WorkloadArg,
    /// Release although pods of the stable are not available.
    #[arg(long)]
    force: bool,
    /// Sender of the order, a URI reference.
    #[arg(long, default_value = DEFAULT_SOURCE)]
    source: String,
    /// Reason, for people.
    #[arg(long)]
    reason: Option<String>,
}

/// Runs the command, and returns the exit code.
///
/// # Errors
/// The cluster can't be read or written, or the stable is not available.
pub async fn run(args: &ReleaseArgs, common: &Common) -> anyhow::Result<u8> {
    let ReleaseArgs { workload, force, source, reason } = args;
    let config = config::load(&common.sources()).map_err(|report| anyhow!("{report}"))?;
    let workload = &workload.within(&config.cluster);
    if workload.cluster != config.cluster {
        bail!(
            "{workload} is in the cluster {}, and `cluster` of the configuration is {}; nothing is changed",
            workload.cluster,
            config.cluster
        );
    }
    telemetry::install_tls();
    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::new(SystemClock))?;
    let failed = |failure: Failure| anyhow!(failure.message);
    let split = cluster.split(workload).await.map_err(failed)?;
    if split.canary.is_none() && split.shares.is_empty() {
        print(&format!("{workload} has no canary; nothing is changed\n"));
        return Ok(exit::OK);
    }
    tell(&present(&split));
    if !force {
        check_available(workload, &split)?;
    }
    cluster.release(workload, &Author { by: source.clone(), why: reason.clone() }).await.map_err(failed)?;
    print(&outcome(workload, &split));
    Ok(exit::OK)
}

/// Returns the present split as text.
fn present(split: &Split) -> String {
    let Split { replicas, available, images, .. } = split;
    let images: Vec<String> =
        images.iter().map(|(container, image)| format!("{container} {}", version(image))).collect();
    let stable = format!("the stable has {available} of {replicas} pods available and runs {}\n", images.join(", "));
    let shares = split.shares.iter().map(|(object, share)| format!("{object} gives the canary {share}\n"));
    shares.chain([stable]).collect()
}

/// Checks that the stable can take the traffic.
fn check_available(workload: &Workload, split: &Split) -> anyhow::Result<()> {
    let Split { replicas, available, .. } = split;
    if *available > 0 && available >= replicas {
        return Ok(());
    }
    bail!(
        "the stable of {workload} has {available} of {replicas} pods available; nothing is changed: bring its pods back \
         first (`kubectl describe deployment -n {} {}`), or add --force to give it the traffic all the same",
        workload.namespace,
        workload.name
    );
}

/// Returns the result as text, with the way in which the remaining objects are removed.
fn outcome(workload: &Workload, split: &Split) -> String {
    let mut text = format!("all traffic of {workload} goes to the stable\n");
    if let Some(canary) = &split.canary {
        text += &format!(
            "{canary} is still there; a daemon that starts (`bellwether run`) ends the rollout as aborted and removes it\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use bellwether_core::ids::Images;

    use super::*;

    fn split(available: u32, replicas: u32) -> Split {
        Split {
            replicas,
            available,
            images: Images::from_iter([("app".to_owned(), "registry/shop/web:1.7".to_owned())]),
            shares: vec![("HTTPRoute shop/web".to_owned(), "30 %".to_owned())],
            canary: Some("web-canary".to_owned()),
        }
    }

    fn web() -> Workload {
        "prod/shop/Deployment/web".parse().unwrap()
    }

    #[test]
    fn the_split_and_the_outcome_name_the_objects_and_the_way_to_remove_them() {
        assert_eq!(
            present(&split(4, 4)),
            "HTTPRoute shop/web gives the canary 30 %\nthe stable has 4 of 4 pods available and runs app 1.7\n"
        );
        assert_eq!(
            outcome(&web(), &split(4, 4)),
            "all traffic of prod/shop/Deployment/web goes to the stable\nweb-canary is still there; a daemon that starts \
             (`bellwether run`) ends the rollout as aborted and removes it\n"
        );
    }

    #[test]
    fn a_stable_that_is_not_available_is_refused_with_its_pods_and_the_remedy() {
        for (available, replicas, accepted) in [(4, 4, true), (5, 4, true), (3, 4, false), (0, 0, false)] {
            let checked = check_available(&web(), &split(available, replicas));
            assert_eq!(checked.is_ok(), accepted, "{available} of {replicas}");
            if let Err(error) = checked {
                let error = error.to_string();
                let numbers = format!("has {available} of {replicas} pods available");
                assert!(error.contains(&numbers) && error.contains("--force"), "{error}");
            }
        }
    }
}
