//! The membership in the consumer group: restarts, and credentials that change.

use std::time::Duration;

use bellwether::adapters::kafka::{Kafka, Options};
use bellwether::ports::Batch;
use bellwether_core::time::Span;

use super::{Daemon, event, key_on, text};

/// A replica with a name of its own stops in an orderly way and comes back. The other one keeps its partitions.
pub async fn restarted(options: Options) {
    let of = |name: &str| Options {
        instance_id: Some(name.to_owned()),
        session_timeout: Span::from_secs(60),
        ..options.clone()
    };
    let first = Kafka::connect(of("replica-0")).await.unwrap();
    let mut one = Daemon::start(&first);
    one.until_assigned(&[0, 1, 2, 3]).await;
    let second = Kafka::connect(of("replica-1")).await.unwrap();
    let mut two = Daemon::start(&second);
    let shares = async {
        one.until(|daemon| daemon.held.is_empty()).await;
        one.until(|daemon| daemon.held.len() == 2).await;
    };
    tokio::join!(shares, two.until(|daemon| daemon.held.len() == 2));
    let of_one: Vec<_> = one.held.iter().copied().collect();
    one.stop().await;
    two.no_wake(Duration::from_secs(3)).await;
    let mut one = Daemon::start(&first);
    one.until_assigned(&of_one).await;
    let mut journal = one.open(of_one[0]).await;
    journal.commit(Batch { next_offset: Some(0), ..Batch::default() }).await.unwrap();
    two.no_wake(Duration::from_secs(3)).await;
    tokio::join!(one.stop(), two.stop());
}

/// The password is replaced while the daemon runs. (The brokers of the tests ask for none.)
pub async fn new_password(options: Options) {
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "one").unwrap();
    let mut options = Options { instance_id: Some("replica-0".to_owned()), ..options };
    options.security.password_file = Some(password.clone());
    let kafka = Kafka::connect(options).await.unwrap();
    let mut daemon = Daemon::start(&kafka);
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(2).await;
    kafka.emitter().unwrap().send(&event(&key_on(2, 4), "before")).await.unwrap();
    assert_eq!(text(&daemon.record().await), "before");
    journal.commit(Batch { next_offset: Some(1), ..Batch::default() }).await.unwrap();
    std::fs::write(&password, "two").unwrap();
    daemon.until(|daemon| daemon.held.is_empty()).await;
    daemon.until_assigned(&[0, 1, 2, 3]).await;
    let mut journal = daemon.open(2).await;
    kafka.emitter().unwrap().send(&event(&key_on(2, 4), "after")).await.unwrap();
    assert_eq!(text(&daemon.record().await), "after");
    journal.commit(Batch { next_offset: Some(2), ..Batch::default() }).await.unwrap();
    daemon.stop().await;
}
