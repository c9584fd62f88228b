//! `bellwether journal adopt` lets a new journal continue above the epochs that the cluster's objects carry. Without it a
//! daemon with a new journal acts in epoch 1, and every write on an object of a higher epoch is refused.
//!
//! `bellwether journal forget` removes the entries of a workload that can't be read.
//!
//! `bellwether journal init` begins an empty journal beside events that were read, which a daemon refuses to do by itself.
//!
//! `bellwether journal offsets` shows the positions in the events topic that the topic no longer has, and answers them.
//!
//! These open the journal as a daemon does, so a running daemon on Kafka is fenced, and restores from the changed journal;
//! the file of an embedded journal can't be opened while a daemon runs. `bellwether journal inspect` only reads.
//!
//! `bellwether journal backup` copies the file of an embedded journal, also while a daemon runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use bellwether_core::engine::Engine;
use bellwether_core::time::Span;
use clap::{Args, Subcommand};

use super::table::counted;
use super::{Common, print};
use crate::adapters::kafka::Kafka;
use crate::adapters::kafka::position::{self, PositionFacts, PositionProblem};
use crate::adapters::kubernetes::Kubernetes;
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::exit;
use crate::journal::embedded::{self, Embedded};
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
    /// Copy the file of an embedded journal, also while the daemon runs.
    Backup(BackupArgs),
    /// Begin an empty journal, which knows none of the rollouts.
    Init,
    /// Show epoch, workloads and position of each partition; change nothing.
    Inspect,
    /// Show the positions that the events topic no longer has.
    Offsets(OffsetsArgs),
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

/// The arguments of `journal backup`.
#[derive(Debug, Args)]
struct BackupArgs {
    /// File to write; it must not exist.
    to: PathBuf,
}

/// The arguments of `journal offsets`.
#[derive(Debug, Args)]
struct OffsetsArgs {
    /// Partition of the events topic; all of them if absent.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<Partition>,
    /// Go on at the oldest event that the topic has. Events that were deleted are lost.
    #[arg(long)]
    accept: bool,
}

/// Runs the command, and returns the exit code.
///
/// # Errors
/// The cluster or the journal can't be read, an object has an implausible epoch, the workload can be read, or the backup can't be
/// written.
pub async fn run(args: &JournalArgs, common: &Common) -> anyhow::Result<u8> {
    let config = config::load(&common.sources()).map_err(|report| anyhow!("{report}"))?;
    telemetry::install_tls();
    match &args.command {
        JournalCommand::Adopt(AdoptArgs { up_to }) => adopt_all(&config, *up_to).await?,
        JournalCommand::Forget(ForgetArgs { workload }) => {
            print(&format!("{}\n", forget(&*journals(&config).await?, &config.cluster, workload).await?));
        }
        JournalCommand::Backup(BackupArgs { to }) => {
            if config.journal.kind == JournalKind::Kafka {
                bail!("the journal is in Kafka (journal.kind), whose topics have replicas; there is no file to copy");
            }
            embedded::back_up(&config.journal.path, to)?;
            print(&format!("{} is copied to {}\n", config.journal.path.display(), to.display()));
        }
        JournalCommand::Init => init_all(&config).await?,
        JournalCommand::Inspect => inspect_all(&config).await?,
        JournalCommand::Offsets(args) => return offsets(&config, args).await,
    }
    Ok(exit::OK)
}

async fn adopt_all(config: &Config, up_to: Option<u64>) -> anyhow::Result<()> {
    let cluster = Kubernetes::connect(&config.kubernetes, &config.cluster, Arc::new(SystemClock))?;
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

async fn init_all(config: &Config) -> anyhow::Result<()> {
    let journals: Arc<dyn Journals> = match config.journal.kind {
        JournalKind::Kafka => Arc::new(Kafka::connect_without_journal(config.kafka.clone()).await?),
        JournalKind::Embedded => Arc::new(Embedded::open(&config.journal.path)?),
    };
    for partition in 0..journals.partitions() {
        print(&format!("partition {partition}: {}\n", init(&*journals, partition, &config.cluster).await?));
    }
    Ok(())
}

/// Gives an empty journal its cluster and an epoch below that of any owner. Returns the result as a sentence.
async fn init(journals: &dyn Journals, partition: Partition, cluster: &str) -> anyhow::Result<String> {
    let failed = || format!("the journal of partition {partition}");
    let mut journal = journals.open(partition).await.with_context(failed)?;
    let entries = journal.restore().await.with_context(failed)?;
    if !entries.is_empty() {
        return Ok(format!("{}; nothing is changed", describe(&entries, cluster)?));
    }
    let mut batch = Batch::default();
    Ledger::raise_epoch(Epoch(0), cluster, &mut batch)?;
    journal.commit(batch).await.with_context(failed)?;
    Ok(format!(
        "an empty journal of cluster {cluster} has begun; if an earlier one has written the cluster's objects, run `bellwether \
         journal adopt` as well"
    ))
}

async fn inspect_all(config: &Config) -> anyhow::Result<()> {
    match config.journal.kind {
        JournalKind::Kafka => {
            let kafka = Kafka::connect_without_creating(config.kafka.clone()).await?;
            for partition in 0..kafka.partitions() {
                let (entries, facts) = kafka.look(partition).await?;
                let position = match facts.position() {
                    Ok(position) => format!("events are read from offset {position}"),
                    Err(problem) => problem.sentence(kafka.options(), partition),
                };
                let described = describe(&entries, &config.cluster)?;
                let PositionFacts { low, high, .. } = facts;
                print(&format!("partition {partition}: {described}; {position} (the topic has {low} to {high})\n"));
            }
        }
        JournalKind::Embedded => {
            let path = &config.journal.path;
            // Opening would make the file.
            if !path.exists() {
                bail!("there is no journal {}; name its file with journal.path", path.display());
            }
            let journals = Embedded::open(path)?;
            let entries = journals.open(0).await?.restore().await?;
            print(&format!("{}\n", describe(&entries, &config.cluster)?));
        }
    }
    Ok(())
}

/// Returns the content of a journal in words.
///
/// # Errors
/// The journal belongs to another cluster than `cluster`, or its epoch can't be read.
fn describe(entries: &BTreeMap<String, Vec<u8>>, cluster: &str) -> anyhow::Result<String> {
    if entries.is_empty() {
        return Ok("no entries".to_owned());
    }
    let (ledger, Epoch(epoch)) = Ledger::restore(entries, Engine::new(cluster.to_owned(), Vec::new(), Span::ZERO))?;
    let (entries, workloads) = (entries.len(), ledger.engine().states().count());
    Ok(format!(
        "{} of cluster {cluster} in epoch {epoch}, of {} and {}",
        counted(entries, "entry", "entries"),
        counted(workloads, "workload", "workloads"),
        counted(ledger.isolated().len(), "unreadable one", "unreadable ones")
    ))
}

/// Shows the positions that the events topic no longer has, and replaces them if they are accepted. Returns the exit code.
async fn offsets(config: &Config, args: &OffsetsArgs) -> anyhow::Result<u8> {
    let JournalKind::Kafka = config.journal.kind else {
        bail!("an embedded journal has no positions in a topic");
    };
    let kafka = Kafka::connect_without_creating(config.kafka.clone()).await?;
    let mut open = 0_usize;
    for partition in args.partition.map_or(0..kafka.partitions(), |partition| partition..partition + 1) {
        let (_, facts) = kafka.look(partition).await?;
        let sentence = match facts.position() {
            Ok(position) => format!("events are read from offset {position}"),
            Err(PositionProblem::Expired { .. } | PositionProblem::BeyondEnd { .. }) if args.accept => {
                accept(&kafka, partition, &config.cluster, facts.low).await?
            }
            Err(problem) => {
                open += 1;
                problem.sentence(kafka.options(), partition)
            }
        };
        print(&format!("partition {partition}: {sentence}\n"));
    }
    Ok(if open == 0 { exit::OK } else { exit::ERROR })
}

/// Writes the position of a partition into its journal. Returns the result as a sentence.
async fn accept(kafka: &Kafka, partition: Partition, cluster: &str, low: i64) -> anyhow::Result<String> {
    let failed = || format!("the journal of partition {partition}");
    let mut journal = kafka.open(partition).await.with_context(failed)?;
    Ledger::epoch(&journal.restore().await.with_context(failed)?, cluster)?;
    journal.commit(Batch { puts: vec![position::entry(low)], ..Batch::default() }).await.with_context(failed)?;
    Ok(format!("events are read from offset {low}; a running daemon goes on within a minute"))
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
    let are = if removed == 1 { "is" } else { "are" };
    let removed = counted(removed, "entry", "entries");
    Ok(format!("{removed} of {workload} {are} removed; its next rollout takes over the objects in the cluster"))
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
    async fn an_empty_journal_is_begun_once_and_tells_its_cluster() {
        let directory = tempfile::tempdir().unwrap();
        let journals = Embedded::open(directory.path().join("journal")).unwrap();
        assert_eq!(describe(&BTreeMap::new(), "prod").unwrap(), "no entries");
        let begun = init(&journals, 0, "prod").await.unwrap();
        assert!(begun.starts_with("an empty journal of cluster prod has begun"), "{begun}");
        let again = init(&journals, 0, "prod").await.unwrap();
        let described = "2 entries of cluster prod in epoch 0, of 0 workloads and 0 unreadable ones";
        assert_eq!(again, format!("{described}; nothing is changed"));
        let other = init(&journals, 0, "edge").await.unwrap_err().to_string();
        assert!(other.contains("belongs to cluster prod, and this daemon acts in cluster edge"), "{other}");
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
