//! A journal that commits nothing for a while gets its turn all the same.

use bellwether::clock::SystemClock;

use super::*;

/// The journal of one partition, which counts its turns at rest.
#[derive(Clone, Default)]
struct Resting(watch::Sender<u64>);

#[async_trait]
impl Journals for Resting {
    fn partitions(&self) -> i32 {
        1
    }

    async fn open(&self, _: Partition) -> Result<Box<dyn Journal>, JournalError> {
        Ok(Box::new(self.clone()))
    }

    fn assign_again(&self, partition: Partition, _: Duration) {
        panic!("the journal of partition {partition} is broken");
    }
}

#[async_trait]
impl Journal for Resting {
    async fn restore(&mut self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        Ok(BTreeMap::new())
    }

    async fn commit(&mut self, _: Batch) -> Result<(), JournalError> {
        Ok(())
    }

    fn rest(&mut self) {
        self.0.send_modify(|turns| *turns += 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_gets_its_turn_when_an_input_needs_no_commit() {
    let (setting, journal) = (Setting::new(), Resting::default());
    let mut turns = journal.0.subscribe();
    let daemon = setting.start_with(journal);
    daemon.wakes.send(Wake::Assigned(0)).await.unwrap();
    daemon.wakes.send(Wake::Sighted(SystemClock.now())).await.unwrap();
    let turned = tokio::time::timeout(LONG, turns.wait_for(|turns| *turns > 0)).await;
    turned.expect("it has no turn").unwrap();
    daemon.kill();
}
