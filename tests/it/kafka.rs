//! Tests of the section `[kafka]`: the checks before any broker is contacted.

use std::path::PathBuf;

use bellwether::adapters::kafka::{Emitter, Options};
use serde_json::{Value, json};

#[test]
fn an_empty_section_is_the_default() {
    let options: Options = serde_json::from_value(json!({})).unwrap();
    assert_eq!(options, Options::default());
    options.validate().unwrap();
    assert_eq!(options.dlq(), "bellwether.events.dlq");
    assert_eq!(serde_json::from_value::<Options>(serde_json::to_value(&options).unwrap()).unwrap(), options);
}

#[test]
fn invalid_settings_and_reserved_properties_are_refused_by_name() {
    let rows: [(Value, &[&str]); 11] = [
        (json!({ "brokers": " " }), &["kafka.brokers", "host:port"]),
        (json!({ "partitions": 0 }), &["kafka.partitions is 0"]),
        (json!({ "replication": 0 }), &["kafka.replication is 0"]),
        (json!({ "session-timeout": "1s" }), &["kafka.session-timeout is 1s", "6s"]),
        (json!({ "journal-topic": "bellwether.events" }), &["a topic of their own"]),
        (json!({ "properties": { "isolation.level": "read_uncommitted" } }), &["isolation.level", "relies on"]),
        (json!({ "properties": { "sasl.password": "hunter2" } }), &["sasl.password", "kafka.property-files"]),
        (json!({ "property-files": { "group.id": "/x" } }), &["group.id"]),
        (
            json!({ "security": { "protocol": "sasl-ssl", "mechanism": "OAUTHBEARER" } }),
            &["kafka.security.mechanism is OAUTHBEARER", "SCRAM-SHA-512", "client certificates"],
        ),
        (json!({ "security": { "protocol": "sasl-plaintext" } }), &["kafka.security.mechanism is empty", "PLAIN"]),
        (
            json!({ "properties": { "sasl.oauthbearer.method": "oidc" } }),
            &["sasl.oauthbearer.method", "without libcurl", "SCRAM"],
        ),
    ];
    for (section, parts) in rows {
        let error = serde_json::from_value::<Options>(section).unwrap().validate().unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)) && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn the_error_of_a_client_names_the_property_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let lines = dir.path().join("lines");
    std::fs::write(&lines, "hunter2\nhunter2\n").unwrap();
    let missing = PathBuf::from("/nowhere/password");
    let rows = [
        (json!({ "security": { "password-file": missing } }), "kafka.security.password-file: /nowhere/password"),
        (
            json!({ "security": { "password-file": lines } }),
            "lines has a line break within the secret; write the secret alone",
        ),
        (json!({ "property-files": { "ssl.keystore.password": missing } }), "/nowhere/password can't be read"),
        (json!({ "property-files": { "linger.ms": secret } }), "linger.ms"),
        (json!({ "property-files": { "no.such.thing": secret } }), "no.such.thing"),
        (json!({ "properties": { "security.protocol": "carrier-pigeon" } }), "security.protocol"),
    ];
    for (section, part) in rows {
        let options: Options = serde_json::from_value(section).unwrap();
        let error = Emitter::connect(&options).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(part) && !error.contains("hunter2"), "{part}: {error}");
    }
}
