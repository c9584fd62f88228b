//! Reports that others rely on: runs whose answers are kept with the version, and reports that are signed.

use std::path::Path;

use bellwether_testkit::agent::{Agent, Knobs};
use serde_json::{Value, json};

use super::*;

const QUALITY: &str = "parts.right = { weight = 1, by = \"contains\" }\nlimits.quality = { min = 0.7 }";
const IMAGE: &str = "web@sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

/// Runs `bellwether` in the lab's directory, with a registry there. Returns the exit code and both outputs.
async fn bellwether(lab: &Lab, arguments: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    for name in crate::process::settings_in_environment() {
        command.env_remove(name);
    }
    command.env("BELLWETHER_REGISTRY__URL", lab.directory.path().join("models"));
    command.args(arguments.split_whitespace()).current_dir(lab.directory.path()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs a command that must succeed, and returns its output.
async fn succeed(lab: &Lab, arguments: &str) -> String {
    let (code, out, err) = bellwether(lab, arguments).await;
    assert_eq!(code, 0, "{arguments}: {out}{err}");
    out
}

/// Runs commands that must not succeed: the arguments, the exit code, and a part of the error.
async fn refused(lab: &Lab, rows: &[(&str, i32, &str)]) {
    for (arguments, expected, part) in rows {
        let (code, out, err) = bellwether(lab, arguments).await;
        assert_eq!(code, *expected, "{arguments}: {out}{err}");
        assert!(out.is_empty() && err.contains(part), "{arguments}: {out}{err}");
    }
}

/// Copies a file with a part of its text replaced.
fn changed(lab: &Lab, from: &str, to: &str, change: impl Fn(&mut Value)) {
    let path = |name: &str| lab.directory.path().join(name);
    let mut value: Value = serde_json::from_str(&std::fs::read_to_string(path(from)).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path(to), value.to_string()).unwrap();
}

fn copy_keys(lab: &Lab) {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gate/keys");
    for name in ["ours.pem", "ours.pub", "theirs.pem", "theirs.pub"] {
        std::fs::copy(keys.join(name), lab.directory.path().join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_report_is_verified_and_every_other_one_refused() {
    let agent = Agent::start(Knobs::default()).await;
    let lab = Lab::new(&agent, "", &gate("quality", QUALITY), &questions(60));
    copy_keys(&lab);
    let run = format!("gate run suite.toml --subject agent@1.8.0 --image {IMAGE} --report r.json");
    succeed(&lab, &run).await;
    succeed(&lab, "gate attest r.json --key ours.pem --out r.att").await;
    let check: Value = serde_json::from_str(&succeed(&lab, "gate check suite.toml --output json").await).unwrap();
    let pin = check["pin"].as_str().unwrap();
    let all =
        format!("gate verify r.att --key ours.pub --subject agent@1.8.0 --image {IMAGE} --pin {pin} --max-age 1h");
    let (code, out, err) = bellwether(&lab, &all).await;
    assert_eq!((code, err.as_str()), (0, "the signature is valid\n"), "{out}{err}");
    assert!(out.ends_with("test: pass\n"), "{out}");
    let published = succeed(&lab, &format!("gate publish r.att --print --workload {WORKLOAD}")).await;
    assert!(published.contains("\"result\": \"pass\""), "{published}");
    // Without --out the attestation is printed.
    assert!(succeed(&lab, "gate attest r.json --key ours.pem").await.contains("application/vnd.in-toto+json"));

    changed(&lab, "r.att", "forged.att", |envelope| envelope["payload"] = json!("e30="));
    changed(&lab, "r.json", "old.json", |report| report["finished"] = json!("2020-01-01T00:00:00Z"));
    succeed(&lab, "gate attest old.json --key ours.pem --out old.att").await;
    succeed(&lab, "gate verify old.att --key ours.pub").await;
    changed(&lab, "r.json", "nameless.json", |report| report["subject"]["images"] = json!([]));
    refused(
        &lab,
        &[
            ("gate verify r.att --key theirs.pub", 1, "r.att: it was not made with this key, or was changed"),
            ("gate verify forged.att --key ours.pub", 1, "it was not made with this key, or was changed"),
            ("gate verify r.json --key ours.pub", 1, "r.json: it is no DSSE envelope"),
            (
                "gate verify r.att --key ours.pub --subject agent@1.9.0",
                1,
                "is about agent@1.8.0, and not about agent@1.9.0",
            ),
            (
                "gate verify r.att --key ours.pub --image web:2",
                1,
                &format!("the report did not test web:2, but {IMAGE}"),
            ),
            ("gate verify r.att --key ours.pub --pin ab12", 1, &format!("is of the test {pin}, and not of ab12")),
            ("gate verify old.att --key ours.pub --max-age 30d", 1, "longer ago than 30d; run the suite again"),
            ("gate verify none.att --key ours.pub", 1, "can't read none.att"),
            ("gate verify r.att --key none.pub", 1, "none.pub"),
            ("gate verify r.att --key ours.pem", 1, "ours.pem"),
            ("gate verify r.att", 2, "--key"),
            ("gate attest none.json --key ours.pem", 1, "can't read none.json"),
            ("gate attest suite.toml --key ours.pem", 1, "suite.toml"),
            ("gate attest r.json --key ours.pub", 1, "it is no private key on P-256"),
            ("gate attest nameless.json --key ours.pem", 1, "nameless.json: the report names nothing by digest"),
        ],
    )
    .await;

    // A failure is signed as well, and verified with its own exit code.
    agent.set(Knobs { wrong: 0.9, ..Knobs::default() });
    let failing = format!("gate run suite.toml --subject agent@1.8.1 --image {IMAGE} --report bad.json");
    assert_eq!(bellwether(&lab, &failing).await.0, 3);
    succeed(&lab, "gate attest bad.json --key ours.pem --out bad.att").await;
    assert_eq!(bellwether(&lab, "gate verify bad.att --key ours.pub").await.0, 3);
}

/// A pipeline that is started anew, on a fresh machine and against another address, gets the answers of its first run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_run_can_not_be_repeated_until_it_passes() {
    let bad = Agent::start(Knobs { wrong: 0.9, ..Knobs::default() }).await;
    let lab = Lab::new(&bad, "", &gate("quality", QUALITY), &questions(60));
    std::fs::write(lab.directory.path().join("weights.bin"), "0.1 0.2").unwrap();
    let keep = "gate run suite.toml --keep --report r.json --subject";
    refused(&lab, &[(&format!("{keep} agent@1.8.0"), 1, "models")]).await;
    succeed(&lab, "model register agent 1.8.0 weights.bin --by ada").await;
    succeed(&lab, "model register agent 1.9.0 weights.bin --by ada").await;
    let (code, out, err) = bellwether(&lab, &format!("{keep} agent@1.8.0")).await;
    assert_eq!((code, bad.requests()), (3, 60), "{out}{err}");
    let good = Agent::start(Knobs::default()).await;
    let fresh_machine = || std::fs::remove_dir_all(lab.directory.path().join(".bellwether-gate")).unwrap();
    for _ in 0..2 {
        fresh_machine();
        let (code, out, err) = bellwether(&lab, &format!("{keep} agent@1.8.0 --target {}", good.url)).await;
        assert_eq!((code, good.requests()), (3, 0), "{out}{err}");
    }
    let report = Report::parse(&std::fs::read_to_string(lab.directory.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(report.replayed, 60);
    // Another version, and the same run without --keep, begin anew.
    fresh_machine();
    let (code, out, err) = bellwether(&lab, &format!("{keep} agent@1.9.0 --target {}", good.url)).await;
    assert_eq!((code, good.requests()), (0, 60), "{out}{err}");
    // A ledger on the disk that continues the kept one counts, and is kept.
    let (code, out, err) = bellwether(&lab, &format!("{keep} agent@1.9.0 --target {}", good.url)).await;
    assert_eq!((code, good.requests()), (0, 60), "{out}{err}");
    let other = format!("sha256:{}", "ab".repeat(32));
    refused(
        &lab,
        &[
            ("gate run suite.toml --keep", 2, "--subject"),
            (&format!("{keep} agent"), 1, "name it with --subject MODEL@VERSION"),
            (&format!("{keep} agent@2.0.0"), 1, "2.0.0"),
            (&format!("{keep} agent@1.8.0 --digest {other}"), 1, "--digest is sha256:abab"),
        ],
    )
    .await;
    assert_eq!(good.requests(), 60);
}

/// A run that its budget ended is kept as well, and continues on another machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_run_continues_on_another_machine() {
    let agent = Agent::start(Knobs::default()).await;
    let gates = "[budget]\nrequests = 30\n".to_owned() + &gate("quality", QUALITY);
    let lab = Lab::new(&agent, "", &gates, &questions(60));
    std::fs::write(lab.directory.path().join("weights.bin"), "0.1 0.2").unwrap();
    succeed(&lab, "model register agent 1.8.0 weights.bin --by ada").await;
    let run = "gate run suite.toml --keep --subject agent@1.8.0";
    assert_eq!((bellwether(&lab, run).await.0, agent.requests()), (4, 30));
    std::fs::remove_dir_all(lab.directory.path().join(".bellwether-gate")).unwrap();
    let suite = std::fs::read_to_string(lab.suite()).unwrap();
    std::fs::write(lab.suite(), suite.replace("requests = 30", "requests = 300")).unwrap();
    let (code, out, err) = bellwether(&lab, run).await;
    assert_eq!((code, agent.requests()), (0, 60), "{out}{err}");
    assert!(err.contains("30 answers are in"), "{err}");
}

/// Without `target.model` the subject's name is the model that both versions are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subject_names_the_model_of_both_versions() {
    let (candidate, stable) = (Agent::start(Knobs::default()).await, Agent::start(Knobs::default()).await);
    let lab = Lab::new(&candidate, "", &gate("quality", QUALITY), &questions(60));
    let suite = std::fs::read_to_string(lab.suite()).unwrap();
    std::fs::write(lab.suite(), suite.replacen("model = \"agent\"\n", "", 1)).unwrap();
    succeed(&lab, &format!("gate run suite.toml --subject support@1.8.0 --stable {}", stable.url)).await;
    for agent in [&candidate, &stable] {
        assert_eq!((&agent.last_body("support")["model"], agent.requests()), (&json!("support"), 60));
    }
}
