//! The program with secrets that are marked: none of them is in anything that it prints.

use crate::process::{Daemon, MARK, configure, refusing_server, run_and_print};

#[tokio::test]
async fn no_output_of_any_command_contains_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = configure(folder.path(), &refusing_server().await);
    let mut printed = String::new();
    for arguments in [
        &["check"][..],
        &["check", "--online"],
        &["doctor"],
        &["doctor", "--json"],
        &["config", "show", "--origin"],
        &["sinks"],
        &["sinks", "--test"],
    ] {
        printed += &run_and_print(folder.path(), arguments).await.1;
    }
    let daemon = Daemon::start(folder.path()).await.read();
    let token = folder.path().join("token").display().to_string();
    let emit =
        ["emit", "abort", "--workload", "test/shop/Deployment/web", "--url", &daemon.url, "--token-file", &token];
    let (status, refusal) = run_and_print(folder.path(), &emit).await;
    assert!(!status.success(), "{refusal}");
    printed += &refusal;
    printed += &daemon.stop().await;
    // It did read the secrets, and it says everything that it does.
    assert!(printed.contains("TRACE") && printed.contains("the sender of a request could not be checked"), "{printed}");
    let leaks: Vec<&str> = printed.lines().filter(|line| line.contains(MARK)).collect();
    assert!(leaks.is_empty(), "of {secrets:?}: {leaks:#?}");
}
