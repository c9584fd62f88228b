//! The present traffic of a workload, from the Prometheus and the cluster that the configuration names.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bellwether_core::event::Block;
use bellwether_core::ids::Workload;
use bellwether_core::policy::Policy;
use bellwether_core::watch::ArmKey;
use tokio_util::sync::CancellationToken;

use super::past::Asked;
use crate::adapters::kubernetes::Kubernetes;
use crate::adapters::prometheus::Prometheus;
use crate::cli::check::{listed, watch};
use crate::cli::run::sampling_options;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::sampling::grid;
use crate::telemetry;

/// What was counted of the workload in the last hour.
pub(super) async fn last_hour(config: &Config, policy: &Policy, workload: &Workload) -> anyhow::Result<Vec<Block>> {
    telemetry::install_tls();
    let prometheus = Prometheus::new(&config.prometheus).context("see [prometheus] in the configuration")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::clone(&clock)).await;
    let cluster = cluster.context("see [kubernetes] in the configuration")?;
    let stop = CancellationToken::new();
    let watching = tokio::spawn(watch(cluster.clone(), stop.clone()));
    let blocks = async {
        listed(&cluster).await.map_err(|found| anyhow!(found.text))?;
        let survey = cluster.survey(workload, &policy.traffic).await.map_err(|failure| anyhow!(failure.message))?;
        let Some(stable) = survey.sighting.stable else {
            bail!("there is no workload {workload}; compare it with `kubectl get deployments -A`");
        };
        let options = sampling_options(config);
        let (_, end) = grid(clock.now(), options.interval, options.lag);
        let stable = ArmKey { deployment_uid: stable.uid, pod_hash: None, name: workload.name.clone() };
        let asked = Asked { metrics: Arc::new(prometheus), pods: Arc::new(cluster.clone()), options };
        Ok(asked.hour(policy, workload, stable, end).await)
    }
    .await;
    stop.cancel();
    // It ends because it was told to; what it could still say was not asked for.
    let _ = watching.await;
    blocks
}
