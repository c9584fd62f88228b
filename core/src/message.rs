//! What people are told about a decision: the Slack message and the Kubernetes Event.
//!
//! At most three messages a rollout: one when it is first held, and always the last one. There is none when it starts.

use crate::decision::{Decision, Ending, Kind};
use crate::effect::{Act, Message, Mood};
use crate::ids::Images;
use crate::reason::{Reason, change};
use crate::rollout::Rollout;
use crate::time::Span;

/// A Kubernetes Event's note may have 1 kB.
const NOTE_LIMIT: usize = 1000;

/// What is to be told about `decision`, which is the last of `rollout`'s.
pub fn about(decision: &Decision, rollout: &Rollout) -> Vec<Act> {
    let mut acts = Vec::new();
    acts.extend(note(decision, rollout));
    let first_hold =
        decision.kind == Kind::Hold && rollout.history.iter().filter(|entry| entry.kind == Kind::Hold).count() == 1;
    if first_hold {
        acts.push(Act::Notify { message: held(decision, rollout) });
    }
    if let Some(ending) = decision.ending.filter(|ending| !matches!(ending, Ending::Superseded | Ending::Unchanged)) {
        acts.push(Act::Notify { message: ended(ending, decision, rollout) });
    }
    acts
}

fn note(decision: &Decision, rollout: &Rollout) -> Option<Act> {
    let (warning, reason) = match decision.kind {
        Kind::Start => (false, "RolloutStarted"),
        Kind::Advance => (false, "RolloutAdvanced"),
        Kind::Hold => (true, "RolloutHeld"),
        Kind::Resume => (false, "RolloutResumed"),
        Kind::Promote => (false, "RolloutPromoted"),
        Kind::RollBack => (true, "RolloutRolledBack"),
        Kind::GiveUp => (true, "RolloutGivenUp"),
        Kind::Supersede => (false, "RolloutSuperseded"),
        Kind::Refuse => (!matches!(decision.reason, Reason::Unchanged), "RolloutRefused"),
        Kind::Finish => (false, "RolloutFinished"),
        Kind::Proceed => return None,
    };
    // A workload that is gone has nothing to put an Event on.
    if rollout.policy.mode == crate::policy::Mode::Observe || matches!(decision.reason, Reason::NoWorkload { .. }) {
        return None;
    }
    let mut note = format!("{}: {}", rollout.id, decision.why);
    if note.len() > NOTE_LIMIT {
        let cut = (0..=NOTE_LIMIT - 3).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(cut);
        note.push('…');
    }
    Some(Act::Note { warning, reason: reason.to_owned(), note })
}

fn held(decision: &Decision, rollout: &Rollout) -> Message {
    let blind = matches!(decision.reason, Reason::Blind { .. });
    let word = if blind { "blind, held" } else { "held" };
    Message {
        mood: if blind { Mood::Blind } else { Mood::Asking },
        title: format!("{}: {} {word}", rollout.workload.cluster, named(rollout)),
        why: decision.why.clone(),
        now: format!(
            "Nothing was changed: the canary keeps {} of the traffic. It goes on by itself when the cause is gone, and is given up after {} on hold.",
            decision.weight, rollout.policy.max_hold
        ),
        command: Some(why_command(rollout)),
        footer: footer(rollout),
    }
}

fn ended(ending: Ending, decision: &Decision, rollout: &Rollout) -> Message {
    let (from, to) = images(rollout);
    let cluster = &rollout.workload.cluster;
    let name = &rollout.workload.name;
    let observed = if decision.observed_only { " (observe-only: nothing was written)" } else { "" };
    let judged =
        rollout.judgement.as_ref().map_or_else(|| decision.why.clone(), |judgement| judgement.reason.to_string());
    let after = Span::between(rollout.started, decision.at);
    let back = change(&to, &from);
    let (mood, title, now) = match ending {
        Ending::Promoted => (
            Mood::Good,
            format!("{cluster}: {name} {} promoted", change(&from, &to)),
            format!("The new version serves all of the traffic, after {after}. Nothing to do."),
        ),
        Ending::RolledBack => (
            Mood::Bad,
            format!("{cluster}: {name} rolled back {back}"),
            format!(
                "The old version serves all of the traffic, after {after}; the new one is not tried again until it is asked for again."
            ),
        ),
        Ending::GivenUp => (
            Mood::Asking,
            format!("{cluster}: {name} {} given up", change(&from, &to)),
            format!(
                "Nothing could be decided in {after}. Nothing is said against the version: ask for it again when the cause is gone."
            ),
        ),
        Ending::Refused | Ending::Superseded | Ending::Unchanged => (
            Mood::Asking,
            format!("{cluster}: {name} was not rolled out"),
            "Nothing was changed. Mend the cause and ask again.".to_owned(),
        ),
    };
    Message {
        mood,
        title: title + observed,
        why: judged,
        now,
        command: Some(why_command(rollout)),
        footer: footer(rollout),
    }
}

fn images(rollout: &Rollout) -> (Images, Images) {
    rollout.basis.as_ref().map(|basis| (basis.from.clone(), basis.to.clone())).unwrap_or_default()
}

/// `web v1 → v2`
fn named(rollout: &Rollout) -> String {
    let (from, to) = images(rollout);
    format!("{} {}", rollout.workload.name, change(&from, &to))
}

fn why_command(rollout: &Rollout) -> String {
    format!("bellwether why {}", rollout.id)
}

fn footer(rollout: &Rollout) -> String {
    let policy = &rollout.policy;
    format!(
        "{} · policy {}@{} · {}/{}",
        rollout.id, policy.name, policy.hash, rollout.workload.namespace, rollout.workload.name
    )
}
