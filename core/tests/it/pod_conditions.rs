//! The table of the conditions of pods, and of the API server, with their party and grace.

use std::fmt::Write as _;

use bellwether_core::rollout::cause::Blame;
use bellwether_core::rollout::pods::CONDITIONS;
use bellwether_core::time::Span;

/// `docs/pod-conditions.md` is written from the code; `UPDATE_EXPECT=1 cargo test` writes it again.
#[test]
fn every_condition_is_in_the_written_table() {
    expect_test::expect_file!["../../../docs/pod-conditions.md"].assert_eq(&document());
}

fn document() -> String {
    let mut text = "# Whose fault it is when pods do not run\n\n\
        A condition that a version can cause counts after its grace, if a tenth of the pods or more have it, and if the other\n\
        version's pods do not have it too. All other conditions are the environment's. Deadlines begin anew with each further pod,\n\
        and don't count the time in which the API server or the daemon was away.\n\n\
        | condition | party | grace | before the promotion | promoting | guarding |\n\
        | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for condition in CONDITIONS {
        let grace = if condition.grace == Span::ZERO { "none".to_owned() } else { condition.grace.to_string() };
        let (party, grace, [before, promoting, guarding]) = match condition.blame {
            Blame::Version => (
                "the version",
                grace,
                [
                    "rolled back, quarantined",
                    "the old version is restored, quarantined",
                    "the old version is restored, quarantined",
                ],
            ),
            Blame::Environment | Blame::Person | Blame::Superseded => (
                "the environment",
                "–".to_owned(),
                [
                    "held after `ready-within`, given up after `max-hold`",
                    "held after `promote-within`, the old version is restored after `max-hold`",
                    "nothing",
                ],
            ),
        };
        let _ = writeln!(text, "| {} | {party} | {grace} | {before} | {promoting} | {guarding} |", condition.reason);
    }
    for (condition, before, promoting, guarding) in [
        (
            "pods that run and do not become ready",
            "rolled back after `ready-within`, quarantined",
            "restored after `promote-within`, quarantined",
            "the checks decide",
        ),
        (
            "fewer than half of the pods that the canary's traffic needs are ready",
            "the traffic is taken back until they are; the fourth time the rollout is given up",
            "the traffic is taken back, and the promotion goes on",
            "the checks decide",
        ),
        (
            "more restarts than the version before, for the time of the pods, and two in some pod",
            "rolled back, quarantined",
            "the old version is restored, quarantined",
            "the old version is restored, quarantined",
        ),
        (
            "an act fails: the API server, an admission webhook, Prometheus, the registry",
            "held after `ready-within`, given up after `max-hold`",
            "held after `promote-within`, the old version is restored after `max-hold`",
            "nothing",
        ),
        (
            "the API server can't be watched, or the daemon was away",
            "nothing happens that rests on a status, and no deadline runs",
            "the same",
            "the same",
        ),
    ] {
        let _ = writeln!(text, "| {condition} | | | {before} | {promoting} | {guarding} |");
    }
    text
}
