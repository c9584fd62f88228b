//! The table of transitions: its written form, and the properties that it must have.

use std::fmt::Write as _;

use bellwether_core::rollout::phase::{NextPhase, Phase, Trigger, next};

/// `docs/state-machine.md` is written from the code; `UPDATE_EXPECT=1 cargo test` writes it again.
#[test]
fn every_transition_is_in_the_reviewed_table() {
    expect_test::expect_file!["../../../docs/state-machine.md"].assert_eq(&document());
}

#[test]
fn every_phase_except_ended_can_be_left() {
    for phase in Phase::ALL {
        let can_be_left =
            Trigger::ALL.iter().any(|trigger| matches!(next(phase, *trigger), NextPhase::To(to) if to != phase));
        assert_eq!(can_be_left, phase != Phase::Ended, "{phase}");
    }
}

#[test]
fn ended_can_be_reached_from_every_phase() {
    for start in Phase::ALL {
        let mut reached = vec![start];
        let mut index = 0;
        while let Some(phase) = reached.get(index).copied() {
            for trigger in Trigger::ALL {
                if let NextPhase::To(to) = next(phase, trigger)
                    && !reached.contains(&to)
                {
                    reached.push(to);
                }
            }
            index += 1;
        }
        assert!(reached.contains(&Phase::Ended), "{start}");
    }
}

/// Every phase in which the canary may have traffic has a way to a rollback, and the traffic returns before the canary
/// is removed.
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
         This file is written by `core/tests/it/transitions.rs` from `core/src/rollout/phase.rs`; do not edit it. \
         Each column is a phase of a rollout, and each row is a trigger with the phase that it leads to. \
         `stay` means that the rollout stays in its phase, and `-` that it can't fire there. \
         All strategies use the same phases. In a blue-green rollout, `preparing` is called `preview`, and `stepping`, \
         whose only step has a weight of 100 %, is called `switched`.\n\n",
    );
    let phases: Vec<String> = Phase::ALL.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "| trigger | {} |", phases.join(" | "));
    let _ = writeln!(text, "| --- |{}", " --- |".repeat(phases.len()));
    for trigger in Trigger::ALL {
        let moves: Vec<String> = Phase::ALL.iter().map(|phase| next(*phase, trigger).to_string()).collect();
        let _ = writeln!(text, "| {trigger:?} | {} |", moves.join(" | "));
    }
    text.push_str("\n```mermaid\nstateDiagram-v2\n    [*] --> preflight\n");
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
