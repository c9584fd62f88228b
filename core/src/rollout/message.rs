//! What people are told about a decision: the Slack message and the Kubernetes Event.
//!
//! Few messages a rollout: one when it is first held, one for each approval that is missing, and always the last one.
//! There is none when it starts.

use super::cause::{EndCause, HoldCause, Remedy};
use super::decision::{Decision, DecisionKind, Ending};
use super::reason::change;
use super::state::Rollout;
use crate::ids::Images;
use crate::input::effect::{Act, Message, Mood};
use crate::time::Span;

/// A Kubernetes Event's note may have 1 kB.
const NOTE_LIMIT: usize = 1000;

/// What is to be told about `decision`, which is the last of `rollout`'s.
pub fn about(decision: &Decision, rollout: &Rollout) -> Vec<Act> {
    let mut acts = Vec::new();
    acts.extend(note(decision, rollout));
    let first_hold = decision.kind == DecisionKind::Hold
        && rollout.history.iter().filter(|entry| entry.kind == DecisionKind::Hold).count() == 1;
    // Each missing approval is reported, because only a person can give it.
    let hold = rollout.current.hold.as_ref().filter(|_| decision.kind == DecisionKind::Hold);
    let asks = hold.is_some_and(|hold| hold.cause.needs_a_person());
    if first_hold || asks {
        acts.push(Act::Notify { message: held(decision, rollout) });
    }
    if decision.kind == DecisionKind::Warn {
        acts.push(Act::Notify { message: warned(decision, rollout) });
    }
    if let Some(ending) = decision.ending.filter(|ending| !matches!(ending, Ending::Superseded | Ending::Unchanged)) {
        acts.push(Act::Notify { message: ended(ending, decision, rollout) });
    }
    acts
}

fn note(decision: &Decision, rollout: &Rollout) -> Option<Act> {
    let (warning, reason) = match decision.kind {
        DecisionKind::Start => (false, "RolloutStarted"),
        DecisionKind::Advance => (false, "RolloutAdvanced"),
        DecisionKind::Hold => (true, "RolloutHeld"),
        DecisionKind::Resume => (false, "RolloutResumed"),
        DecisionKind::Promote => (false, "RolloutPromoted"),
        DecisionKind::RollBack => (true, "RolloutRolledBack"),
        DecisionKind::Abort => (true, "RolloutAborted"),
        DecisionKind::Approve => (false, "RolloutApproved"),
        DecisionKind::Retry => (false, "RolloutRetried"),
        DecisionKind::GiveUp => (true, "RolloutGivenUp"),
        DecisionKind::Supersede => (false, "RolloutSuperseded"),
        DecisionKind::Refuse => (decision.cause != Some(EndCause::Unchanged), "RolloutRefused"),
        DecisionKind::Finish => (false, "RolloutFinished"),
        DecisionKind::Warn => (true, "RolloutWarned"),
        DecisionKind::Proceed => return None,
    };
    // A workload that is gone has nothing to put an Event on.
    if rollout.policy.mode == crate::policy::Mode::Observe
        || matches!(decision.cause, Some(EndCause::WorkloadGone | EndCause::WorkloadMissing))
    {
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
    let hold = rollout.current.hold.as_ref();
    let blind = hold.is_some_and(|hold| hold.cause == HoldCause::Blind);
    let word = if blind { "blind, held" } else { "held" };
    let outlook = hold.map(|hold| hold.outlook(&rollout.policy)).unwrap_or_default();
    Message {
        mood: if blind { Mood::Blind } else { Mood::Asking },
        title: format!("{}: {} {word}", rollout.workload.cluster, named(rollout)),
        why: decision.why.clone(),
        now: format!("Nothing was changed: the canary keeps {} of the traffic. {outlook}", decision.weight),
        command: Some(answer(rollout)),
        footer: footer(rollout),
    }
}

fn warned(decision: &Decision, rollout: &Rollout) -> Message {
    Message {
        mood: Mood::Asking,
        title: format!("{}: {} warned", rollout.workload.cluster, named(rollout)),
        why: decision.why.clone(),
        now: format!(
            "Nothing was changed: the canary keeps {} of the traffic, and the rollout goes on.",
            decision.weight
        ),
        command: Some(why_command(rollout)),
        footer: footer(rollout),
    }
}

/// Returns the command that answers the present hold.
fn answer(rollout: &Rollout) -> String {
    let workload = &rollout.workload;
    match rollout.current.hold.as_ref().map(|hold| hold.cause.remedy()) {
        Some(Remedy::Approve(name)) => format!("bellwether emit approve --workload {workload} --approval {name}"),
        Some(Remedy::Resume | Remedy::Rebase) => format!("bellwether emit resume --workload {workload}"),
        Some(Remedy::PromoteFull) => format!("bellwether emit promote --full --workload {workload}"),
        Some(Remedy::Unfreeze(scope)) => format!("bellwether emit unfreeze --scope {scope}"),
        Some(Remedy::Wait | Remedy::AwaitWindow) | None => why_command(rollout),
    }
}

fn ended(ending: Ending, decision: &Decision, rollout: &Rollout) -> Message {
    let (from, to) = images(rollout);
    let cluster = &rollout.workload.cluster;
    let name = &rollout.workload.name;
    let observed = if decision.observed_only { " (observe-only: nothing was written)" } else { "" };
    let judged =
        rollout.conclusion.as_ref().map_or_else(|| decision.why.clone(), |conclusion| conclusion.reason.to_string());
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
                "The old version serves all of the traffic, after {after}. The new one is quarantined: `bellwether emit retry` tries it again."
            ),
        ),
        Ending::Aborted => (
            Mood::Asking,
            format!("{cluster}: {name} {} aborted", change(&from, &to)),
            format!("The old version serves all of the traffic, after {after}. Nothing is said against the new one."),
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
