//! `bellwether journal adopt` lets a new journal continue above the epochs that the cluster's objects carry. Without it a
//! daemon with a new journal acts in epoch 1, and every write on an object of a higher epoch is refused.
//!
//! `bellwether journal forget` removes the entries of a workload that can't be read.
//!
//! Both open the journal as a daemon does, so a running daemon on Kafka is fenced, and restores from the changed journal;
//! the file of an embedded journal can't be opened while a daemon runs.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use bellwether_core::engine::Engine;
use bellwether_core::time::Span;
use clap::{Args, Subcommand};

use super::{Common, print};
use crate::adapters::kafka::Kafka;
use crate::adapters::kubernetes::Kubernetes;
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::exit;
use crate::journal::embedded::Embedded;
use crate::journal::{JournalKind, partition_of};
use crate::ledger::Ledger;
use crate::ports::{Batch, Epoch, Journals, Partition};
use crate::telemetry;

/// The arguments of `journal`.
#[derive(Debug, Args)]
pub struct JournalArgs {
    #[command(subcommand)]
    command: JournalCommand,
}

/// The commands of `journal`.
#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Let a new journal continue above the epochs of the cluster's objects.
    Adopt(AdoptArgs),
    /// Remove the entries of a workload that can't be read.
    Forget(ForgetArgs),
}

/// The arguments of `journal adopt`.
#[derive(Debug, Args)]
struct AdoptArgs {
    /// Highest epoch to continue above; by default 1000 above the journal's, because a higher one is likely to be damaged.
    #[arg(long, value_name = "EPOCH")]
    up_to: Option<u64>,
}

/// The arguments of `journal forget`.
#[derive(Debug, Args)]
struct ForgetArgs {
    /// Key of the workload, as the daemon's log shows it.
    workload: String,
}

/// Runs the command, and returns the exit code.
///
/// # Errors
/// The cluster or the journal can't be read, an object has an implausible epoch, or the workload can be read.
pub async fn run(args: &JournalArgs, common: &Common) -> anyhow::Result<u8> {
    let config = config::load(&common.sources()).map_err(|report| anyhow!("{report}"))?;
    telemetry::install_tls();
    match &args.command {
        JournalCommand::Adopt(AdoptArgs { up_to }) => adopt_all(&config, *up_to).await?,
        JournalCommand::Forget(ForgetArgs { workload }) => {
            print(&format!("{}\n", forget(&*journals(&config).await?, &config.cluster, workload).await?));
        }
    }
    Ok(exit::OK)
}

async fn adopt_all(config: &Config, up_to: Option<u64>) -> anyhow::Result<()> {
    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::new(SystemClock)).await?;
    let carried = cluster.epochs().await.map_err(|failure| anyhow!(failure.message))?;
    let journals = journals(config).await?;
    for partition in 0..journals.partitions() {
        print(&format!(
            "partition {partition}: {}\n",
            adopt(&*journals, partition, &config.cluster, &carried, up_to).await?
        ));
    }
    Ok(())
}

async fn journals(config: &Config) -> anyhow::Result<Arc<dyn Journals>> {
    Ok(match config.journal.kind {
        JournalKind::Kafka => Arc::new(Kafka::connect(config.kafka.clone()).await?),
        JournalKind::Embedded => Arc::new(Embedded::open(&config.journal.path)?),
    })
}

/// Raises the epoch of a partition's journal to the highest of `carried`, if it is lower. Returns the result as a sentence.
async fn adopt(
    journals: &dyn Journals,
    partition: Partition,
    cluster: &str,
    carried: &[(String, u64)],
    up_to: Option<u64>,
) -> anyhow::Result<String> {
    let failed = || format!("the journal of partition {partition}");
    let mut journal = journals.open(partition).await.with_context(failed)?;
    let Epoch(own) = Ledger::epoch(&journal.restore().await.with_context(failed)?, cluster)?;
    let highest = up_to.unwrap_or_else(|| own.saturating_add(Epoch::PLAUSIBLE));
    if let Some((object, epoch)) = carried.iter().find(|(_, epoch)| *epoch > highest) {
        bail!(
            "{object} has epoch {epoch}, and the journal of partition {partition} has {own}; if Bellwether has not written \
             it, remove the annotation bellwether.dev/epoch, otherwise run the command with --up-to {epoch}"
        );
    }
    let Some(epoch) = carried.iter().map(|(_, epoch)| *epoch).max().filter(|epoch| *epoch > own) else {
        return Ok(format!("epoch {own} is not below that of any object; nothing is changed"));
    };
    let mut batch = Batch::default();
    Ledger::raise_epoch(Epoch(epoch), cluster, &mut batch)?;
    journal.commit(batch).await.with_context(failed)?;
    Ok(format!("epoch {own} raised to {epoch}; the next owner acts in epoch {}", epoch + 1))
}

/// Removes all entries of a workload that can't be read. Returns the result as a sentence.
async fn forget(journals: &dyn Journals, cluster: &str, workload: &str) -> anyhow::Result<String> {
    let partition = partition_of(workload.as_bytes(), journals.partitions());
    let failed = || format!("the journal of partition {partition}");
    let mut journal = journals.open(partition).await.with_context(failed)?;
    let entries = journal.restore().await.with_context(failed)?;
    let blank = Engine::new(cluster.to_owned(), Vec::new(), Span::ZERO);
    let (ledger, _) = Ledger::restore(&entries, blank)?;
    if !ledger.isolated().contains_key(workload) {
        let known: Vec<&str> = ledger.isolated().keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        bail!(
            "no entry of {workload} is unreadable, and nothing is removed; unreadable in partition {partition}: {known}"
        );
    }
    let of_workload = format!("{workload}/");
    let keys = entries.into_keys().filter(|key| key.starts_with(&of_workload));
    let puts: Vec<_> = keys.map(|key| (key, None)).collect();
    let removed = puts.len();
    journal.commit(Batch { puts, ..Batch::default() }).await.with_context(failed)?;
    Ok(format!("{removed} entries of {workload} are removed; its next rollout takes over the objects in the cluster"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_journal_continues_above_the_objects_once() {
        let directory = tempfile::tempdir().unwrap();
        let journals = Embedded::open(directory.path().join("journal")).unwrap();
        let carried = [("Deployment shop/web".to_owned(), 40), ("HTTPRoute shop/web".to_owned(), 38)];
        let epoch = async || {
            let entries = journals.open(0).await.unwrap().restore().await.unwrap();
            Ledger::epoch(&entries, "prod").unwrap()
        };
        assert_eq!(
            adopt(&journals, 0, "prod", &[], None).await.unwrap(),
            "epoch 0 is not below that of any object; nothing is changed"
        );
        let first = adopt(&journals, 0, "prod", &carried, None).await.unwrap();
        assert_eq!(
            (first.as_str(), epoch().await),
            ("epoch 0 raised to 40; the next owner acts in epoch 41", Epoch(40))
        );
        let other = adopt(&journals, 0, "edge", &carried, None).await.unwrap_err().to_string();
        assert!(other.contains("belongs to cluster prod, and this daemon acts in cluster edge"), "{other}");
        let second = adopt(&journals, 0, "prod", &carried, None).await.unwrap();
        assert_eq!(second, "epoch 40 is not below that of any object; nothing is changed");
    }

    #[tokio::test]
    async fn only_a_workload_that_can_not_be_read_is_forgotten_and_all_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let journals = Embedded::open(directory.path().join("journal")).unwrap();
        let (web, api) = ("prod/shop/Deployment/web", "prod/shop/Deployment/web-api");
        let entries = [("snap", "{\"seq\": \"x\"}"), ("block/0", "{}"), ("template/h", "{}")];
        let puts = [web, api].into_iter().flat_map(|workload| {
            entries.iter().map(move |(key, value)| (format!("{workload}/{key}"), Some(value.as_bytes().to_vec())))
        });
        let mut batch = Batch { puts: puts.collect(), ..Batch::default() };
        Ledger::raise_epoch(Epoch(3), "prod", &mut batch).unwrap();
        let mut journal = journals.open(0).await.unwrap();
        journal.restore().await.unwrap();
        journal.commit(batch).await.unwrap();
        let other = forget(&journals, "prod", "prod/shop/Deployment/we").await.unwrap_err().to_string();
        assert!(other.contains(&format!("unreadable in partition 0: {web}, {api}")), "{other}");
        let forgotten = forget(&journals, "prod", web).await.unwrap();
        assert!(forgotten.starts_with(&format!("3 entries of {web} are removed")), "{forgotten}");
        let left = journals.open(0).await.unwrap().restore().await.unwrap();
        let left: Vec<&str> = left.keys().map(String::as_str).collect();
        let of_api = ["block/0", "snap", "template/h"].map(|key| format!("{api}/{key}"));
        assert_eq!(left, ["cluster", "epoch", &of_api[0], &of_api[1], &of_api[2]]);
    }

    #[tokio::test]
    async fn an_implausible_epoch_is_named_and_taken_over_only_by_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let journals = Embedded::open(directory.path().join("journal")).unwrap();
        let carried = [("Deployment shop/web".to_owned(), 40), ("Deployment shop/api".to_owned(), 1_001)];
        let refused = adopt(&journals, 0, "prod", &carried, None).await.unwrap_err().to_string();
        assert!(
            refused.contains("Deployment shop/api has epoch 1001") && refused.contains("--up-to 1001"),
            "{refused}"
        );
        let taken = adopt(&journals, 0, "prod", &carried, Some(1_001)).await.unwrap();
        assert_eq!(taken, "epoch 0 raised to 1001; the next owner acts in epoch 1002");
    }
}
