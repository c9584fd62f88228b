//! Journals that earlier versions have written, one of each format: `journal-FORMAT.json` beside this file has the entries of a
//! partition with a rollout in its first step. When the format is raised, `write_the_journal_of_this_format` adds the next one, and the
//! earlier ones stay as they are.

use std::path::PathBuf;

use bellwether::ledger::Ledger;
use bellwether_core::rollout::phase::Phase;

use super::*;

/// The format of the journals that this version writes.
const FORMAT: u32 = 1;

fn path(format: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/daemon/journal-{format}.json"))
}

#[test]
fn a_journal_of_each_format_is_restored() {
    for format in 0..=FORMAT {
        let json = std::fs::read(path(format)).unwrap();
        let entries: BTreeMap<String, String> = serde_json::from_slice(&json).unwrap();
        assert!(entries.contains_key(&format!("{}/block/0", workload())), "it has no input after the snapshot");
        let entries = entries.into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        let blank = Engine::new("test".to_owned(), Setting::new().policies, Span::from_secs(86_400));
        let (ledger, epoch) = Ledger::restore(&entries, blank).unwrap();
        assert!(ledger.isolated().is_empty() && ledger.problems().is_empty(), "{:?}", ledger.isolated());
        assert_eq!(epoch, Epoch(1));
        let rollout = ledger.engine().state(&workload()).unwrap().active().unwrap();
        assert_eq!(rollout.phase(), Phase::Stepping);
        assert!(!ledger.engine().watches().is_empty(), "it would not be judged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a file of the source tree, once for each format"]
async fn write_the_journal_of_this_format() {
    let mut setting = Setting::new();
    let mut daemon = setting.start().await;
    setting.request(&daemon, "a", "2").await;
    daemon.until(|decision| decision.to == Phase::Stepping).await;
    // The next inputs are a status or a block.
    tokio::time::sleep(Duration::from_millis(250)).await;
    daemon.kill();
    let entries = setting.journal().await.open(0).await.unwrap().restore().await.unwrap();
    let entries = entries.into_iter().map(|(key, value)| (key, String::from_utf8(value).unwrap()));
    let entries: BTreeMap<String, String> = entries.collect();
    std::fs::write(path(FORMAT), serde_json::to_string_pretty(&entries).unwrap() + "\n").unwrap();
}
