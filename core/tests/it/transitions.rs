//! The whole phase table, written out for review.

use std::fmt::Write as _;

use bellwether_core::rollout::phase::{NextPhase, Phase, Trigger, next};

/// `docs/state-machine.md` is what the code says. `UPDATE_EXPECT=1 cargo test` writes it anew.
#[test]
fn every_transition_is_in_the_reviewed_table() {
    expect_test::expect_file!["../../../docs/state-machine.md"].assert_eq(&document());
}

#[test]
fn every_phase_has_a_way_out_and_only_the_end_has_none() {
    for phase in Phase::ALL {
        let leaves =
            Trigger::ALL.iter().any(|trigger| matches!(next(phase, *trigger), NextPhase::To(to) if to != phase));
        assert_eq!(leaves, phase != Phase::Ended, "{phase}");
    }
}

#[test]
fn the_end_can_be_reached_from_every_phase() {
    for start in Phase::ALL {
        let mut reached = vec![start];
        let mut at = 0;
        while let Some(phase) = reached.get(at).copied() {
            for trigger in Trigger::ALL {
                if let NextPhase::To(to) = next(phase, trigger)
                    && !reached.contains(&to)
                {
                    reached.push(to);
                }
            }
            at += 1;
        }
        assert!(reached.contains(&Phase::Ended), "{start}");
    }
}

/// A rollback can be reached from wherever the canary may have traffic, and takes the traffic before the canary.
#[test]
fn a_regression_never_removes_a_canary_that_has_traffic() {
    for phase in Phase::ALL.into_iter().filter(|phase| phase.has_canary_traffic()) {
        for trigger in
            [Trigger::Regressed, Trigger::CanaryFailed, Trigger::StableFailed, Trigger::GaveUp, Trigger::Superseded]
        {
            assert_ne!(next(phase, trigger), NextPhase::To(Phase::Removing), "{phase} {trigger:?}");
        }
    }
    for phase in [Phase::Growing, Phase::Stepping] {
        assert_eq!(next(phase, Trigger::Regressed), NextPhase::To(Phase::Draining));
    }
    for phase in [Phase::Promoting, Phase::Returning, Phase::Guarding] {
        assert_eq!(next(phase, Trigger::Regressed), NextPhase::To(Phase::Restoring));
    }
}

fn document() -> String {
    let mut text = String::from(
        "# The state machine\n\n\
         Written by `core/tests/it/transitions.rs` from `core/src/phase.rs`; do not edit. \
         Both strategies go through it: for blue-green `preparing` is the preview at full size, and `stepping`, \
         at its only step of 100 %, is the switch. \
         `stay`: it goes on with what it does, on purpose. `-`: can't happen there.\n\n",
    );
    let phases: Vec<String> = Phase::ALL.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "| trigger | {} |", phases.join(" | "));
    let _ = writeln!(text, "| --- |{}", " --- |".repeat(phases.len()));
    for trigger in Trigger::ALL {
        let moves: Vec<String> = Phase::ALL.iter().map(|phase| next(*phase, trigger).to_string()).collect();
        let _ = writeln!(text, "| {trigger:?} | {} |", moves.join(" | "));
    }
    text.push_str("\n```mermaid\nstateDiagram-v2\n    [*] --> gating\n");
    for phase in Phase::ALL {
        for to in Phase::ALL {
            let triggers: Vec<String> = Trigger::ALL
                .iter()
                .filter(|trigger| next(phase, **trigger) == NextPhase::To(to))
                .map(|trigger| format!("{trigger:?}"))
                .collect();
            if !triggers.is_empty() {
                let _ = writeln!(text, "    {phase} --> {to}: {}", triggers.join(", "));
            }
        }
    }
    text.push_str("    ended --> [*]\n```\n");
    text
}
