//! A listener with TLS and SASL.

use std::path::Path;

use bellwether::adapters::kafka::{Kafka, Options, Protocol, Security};
use bellwether::ports::Batch;
use bellwether_testkit::plane::kafka::{PASSWORD, SECURED_LISTENER, USER};

use super::{Daemon, event, key_on, text};

/// The certificate of the listener.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testkit/tls/localhost.pem");

/// Returns the options of a client of the listener with a password, in topics of its own.
fn secured(options: &Options, folder: &Path, mechanism: &str, password: &str) -> Options {
    let file = folder.join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let name = |name: &str| format!("{name}.{mechanism}");
    Options {
        brokers: SECURED_LISTENER.to_owned(),
        topic: name(&options.topic),
        journal_topic: name(&options.journal_topic),
        decisions_topic: name(&options.decisions_topic),
        group: name(&options.group),
        security: Security {
            protocol: Protocol::SaslSsl,
            mechanism: Some(mechanism.to_owned()),
            username: Some(USER.to_owned()),
            password_file: Some(file),
            ca_file: Some(CERTIFICATE.into()),
            ..Security::default()
        },
        ..options.clone()
    }
}

pub async fn reads_and_commits(options: Options) {
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let folder = tempfile::tempdir().unwrap();
        let kafka = Kafka::connect(secured(&options, folder.path(), mechanism, PASSWORD)).await.unwrap();
        kafka.emitter().unwrap().send(&event(&key_on(2, 4), mechanism)).await.unwrap();
        let mut daemon = Daemon::start(&kafka);
        daemon.until_assigned(&[0, 1, 2, 3]).await;
        let mut journal = daemon.open(2).await;
        assert_eq!(text(&daemon.record().await), mechanism);
        journal.commit(Batch { next_offset: Some(1), ..Batch::default() }).await.unwrap();
        daemon.stop().await;
    }
}

pub async fn refused(options: Options) {
    let folder = tempfile::tempdir().unwrap();
    let wrong_password = secured(&options, folder.path(), "SCRAM-SHA-512", "wrong");
    let error = Kafka::connect(wrong_password).await.err().unwrap().to_string();
    assert!(error.contains("uthentication"), "{error}");
    let mut wrong_authority = secured(&options, folder.path(), "SCRAM-SHA-512", PASSWORD);
    wrong_authority.security.ca_file = None;
    let error = Kafka::connect(wrong_authority).await.err().unwrap().to_string();
    assert!(error.contains("certificate verify failed"), "{error}");
}
