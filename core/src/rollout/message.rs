//! The texts of a decision's notification: the message to people, and the one-line note for a Kubernetes Event.
//!
//! A rollout sends few messages: one when it is first held, one for each missing approval or
//! suite, one for each warning, and one at its end. It sends none at its start. On-call tools also learn of the beginning of a
//! rollback.

use std::borrow::Cow;

use super::cause::{EndCause, HoldCause, Remedy};
use super::decision::{Decision, DecisionKind};
use super::ending::Ending;
use super::phase::Phase;
use super::reason::change;
use super::state::{HistoryEntry, Rollout, Task};
use crate::ids::Images;
use crate::input::notification::{
    IncidentChange, Message, MessageKind, Mood, Note, Notification, NotificationFacts, RolloutTrace, Subscription,
    TracedPhase,
};
use crate::policy::Mode;
use crate::time::Span;

/// The longest text of a Kubernetes Event, in bytes.
const MAX_NOTE_BYTES: usize = 1000;

/// Returns the notification about `decision`, the newest one of `rollout`, and records whether its incident is open.
pub fn about(decision: &Decision, rollout: &mut Rollout) -> Notification {
    let note = note(decision, rollout);
    let message = message(decision, rollout);
    let wakes = message
        .as_ref()
        .is_some_and(|message| matches!(message.kind, MessageKind::NeedsAPerson | MessageKind::RollingBack));
    // A rollout that is only observed has changed nothing for which a person on call should be woken.
    let incident = if wakes && rollout.policy.mode != Mode::Observe {
        Some(IncidentChange::Open)
    } else {
        let is_over = decision.kind == DecisionKind::Resume || decision.ending.is_some();
        (rollout.incident_open && is_over).then_some(IncidentChange::Resolve)
    };
    if let Some(change) = incident {
        rollout.incident_open = change == IncidentChange::Open;
    }
    Notification { key: rollout.id.clone(), facts: facts(decision, rollout), incident, note, message, trace: None }
}

/// Returns the notification as the sinks with a subscription get it. What few of them need waits in no other outbox.
pub fn to<'a>(
    subscription: Subscription,
    general: &'a Notification,
    decision: &Decision,
    rollout: &Rollout,
) -> Cow<'a, Notification> {
    match subscription {
        Subscription::Traces if decision.ending.is_some() => {
            let trace = Some(Box::new(trace(decision, rollout)));
            Cow::Owned(Notification { trace, ..general.clone() })
        }
        Subscription::Thread if general.message.is_none() => match progress_message(decision, rollout) {
            Some(progress) => Cow::Owned(Notification { message: Some(progress), ..general.clone() }),
            None => Cow::Borrowed(general),
        },
        Subscription::Decisions
        | Subscription::Messages
        | Subscription::NeedsAPerson
        | Subscription::Final
        | Subscription::Thread
        | Subscription::Incidents
        | Subscription::Traces
        | Subscription::Changes => Cow::Borrowed(general),
    }
}

/// Returns the course of `rollout`, which has ended with `decision`.
fn trace(decision: &Decision, rollout: &Rollout) -> RolloutTrace {
    let (traceparent, has_steps) = match &rollout.task {
        Task::Roll { request } => (request.traceparent.clone(), true),
        Task::Guard { .. } => (None, false),
    };
    let phase = |entry: &HistoryEntry| TracedPhase {
        phase: entry.to.to_string(),
        step: has_steps.then_some(entry.step + 1),
        since: entry.at,
        decision: entry.kind.to_string(),
        why: entry.why.clone(),
        by: entry.by.clone(),
    };
    RolloutTrace {
        traceparent,
        started: rollout.started,
        phases: rollout.history.iter().filter(|entry| entry.to != Phase::Ended).map(phase).collect(),
        why: decision.why.clone(),
    }
}

fn facts(decision: &Decision, rollout: &Rollout) -> NotificationFacts {
    let word = |name: &str| name.replace(' ', "-");
    NotificationFacts {
        at: decision.at,
        decision: word(decision.kind.name()),
        ending: decision.ending.map(|ending| word(&ending.to_string())),
        weight: decision.weight,
        policy: rollout.policy.name.clone(),
        image: image(decision, rollout),
    }
}

/// Returns the image of [`NotificationFacts::image`]. The promotion of a version that another tool has deployed changes nothing.
fn image(decision: &Decision, rollout: &Rollout) -> Option<String> {
    let basis = rollout.basis.as_ref().filter(|_| rollout.policy.mode != Mode::Observe)?;
    let (container, new) = rollout.changes().into_iter().next()?;
    match (decision.ending, &rollout.task) {
        (Some(Ending::Promoted), Task::Guard { .. }) => None,
        (None | Some(Ending::Promoted), _) => Some(new),
        (Some(_), _) => basis.from.get(&container).cloned(),
    }
}

fn message(decision: &Decision, rollout: &Rollout) -> Option<Message> {
    if let Some(ending) = decision.ending {
        let is_told = !matches!(ending, Ending::Superseded | Ending::Unchanged);
        return is_told.then(|| ending_message(ending, decision, rollout));
    }
    if matches!(decision.kind, DecisionKind::Warn | DecisionKind::Withdraw) {
        return Some(warning_message(decision, rollout));
    }
    if decision.kind == DecisionKind::RollBack {
        return (rollout.policy.mode != Mode::Observe).then(|| rolling_back_message(decision, rollout));
    }
    let hold = rollout.current.hold.as_ref().filter(|_| decision.kind == DecisionKind::Hold)?;
    let is_first = rollout.history.iter().filter(|entry| entry.kind == DecisionKind::Hold).count() == 1;
    (is_first || hold.cause.is_always_told()).then(|| held_message(decision, rollout))
}

fn note(decision: &Decision, rollout: &Rollout) -> Option<Note> {
    let (warning, reason) = match decision.kind {
        DecisionKind::Start => (false, "RolloutStarted"),
        DecisionKind::Advance => (false, "RolloutAdvanced"),
        DecisionKind::Hold => (true, "RolloutHeld"),
        DecisionKind::Withdraw => (true, "RolloutWithdrawn"),
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
    // Observe-only mode writes nothing to the cluster, and a deleted workload can have no Event.
    if rollout.policy.mode == Mode::Observe
        || matches!(decision.cause, Some(EndCause::WorkloadGone | EndCause::WorkloadMissing))
    {
        return None;
    }
    let mut text = format!("{}: {}", rollout.id, decision.why);
    if text.len() > MAX_NOTE_BYTES {
        let cut = (0..=MAX_NOTE_BYTES - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    Some(Note { warning, reason: reason.to_owned(), text })
}

fn held_message(decision: &Decision, rollout: &Rollout) -> Message {
    let hold = rollout.current.hold.as_ref();
    let blind = hold.is_some_and(|hold| hold.cause == HoldCause::Blind);
    let word = if blind { "blind, held" } else { "held" };
    let outlook = hold.map(|hold| hold.outlook(&rollout.policy)).unwrap_or_default();
    Message {
        kind: MessageKind::NeedsAPerson,
        mood: if blind { Mood::Blind } else { Mood::Asking },
        title: format!("{}: {} {word}", rollout.workload.cluster, rollout_title(rollout)),
        why: decision.why.clone(),
        now: format!("Nothing was changed: the canary keeps {} of the traffic. {outlook}", decision.weight),
        command: Some(answer_command(rollout)),
        footer: footer(rollout),
    }
}

fn warning_message(decision: &Decision, rollout: &Rollout) -> Message {
    let (word, now) = if decision.kind == DecisionKind::Withdraw {
        ("lost its traffic", "The canary has no traffic until enough of its pods are ready.".to_owned())
    } else {
        let weight = decision.weight;
        ("warned", format!("Nothing was changed: the canary keeps {weight} of the traffic, and the rollout goes on."))
    };
    Message {
        kind: MessageKind::Warning,
        mood: Mood::Asking,
        title: format!("{}: {} {word}", rollout.workload.cluster, rollout_title(rollout)),
        why: decision.why.clone(),
        now,
        command: Some(why_command(rollout)),
        footer: footer(rollout),
    }
}

fn rolling_back_message(decision: &Decision, rollout: &Rollout) -> Message {
    Message {
        kind: MessageKind::RollingBack,
        mood: Mood::Bad,
        title: format!("{}: {} is being rolled back", rollout.workload.cluster, rollout_title(rollout)),
        why: decision.why.clone(),
        now: "The old version is getting all of the traffic back.".to_owned(),
        command: Some(why_command(rollout)),
        footer: footer(rollout),
    }
}

/// Returns the message about a decision that only a thread tells; `None` if it is not worth a line.
fn progress_message(decision: &Decision, rollout: &Rollout) -> Option<Message> {
    let weight = decision.weight;
    let word = match decision.kind {
        DecisionKind::Start => "begins".to_owned(),
        DecisionKind::Advance => format!("gets {weight} of the traffic"),
        DecisionKind::Hold => "held".to_owned(),
        DecisionKind::Resume => "goes on".to_owned(),
        DecisionKind::Promote => "is being promoted".to_owned(),
        DecisionKind::RollBack => "would be rolled back".to_owned(),
        DecisionKind::Abort => "is being aborted".to_owned(),
        DecisionKind::Approve => "was approved".to_owned(),
        DecisionKind::Retry => "is tried again".to_owned(),
        DecisionKind::GiveUp => "is being given up".to_owned(),
        DecisionKind::Supersede => "was superseded".to_owned(),
        DecisionKind::Refuse | DecisionKind::Finish => "has ended".to_owned(),
        DecisionKind::Proceed | DecisionKind::Warn | DecisionKind::Withdraw => return None,
    };
    let now = match decision.ending {
        None => format!("The canary has {weight} of the traffic."),
        Some(_) => "This rollout has ended.".to_owned(),
    };
    Some(Message {
        kind: MessageKind::Progress,
        mood: Mood::Underway,
        title: format!("{}: {} {word}", rollout.workload.cluster, rollout_title(rollout)),
        why: decision.why.clone(),
        now,
        command: decision.ending.is_none().then(|| why_command(rollout)),
        footer: footer(rollout),
    })
}

/// Returns the command that answers the present hold.
fn answer_command(rollout: &Rollout) -> String {
    let workload = &rollout.workload;
    match rollout.current.hold.as_ref().map(|hold| hold.cause.remedy()) {
        Some(Remedy::Approve(name)) => format!("bellwether emit approve --workload {workload} --approval {name}"),
        Some(Remedy::Resume | Remedy::Rebase) => format!("bellwether emit resume --workload {workload}"),
        Some(Remedy::PromoteFull) => format!("bellwether emit promote --full --workload {workload}"),
        Some(Remedy::Unfreeze(scope)) => format!("bellwether emit unfreeze --scope {scope}"),
        Some(Remedy::Wait | Remedy::AwaitWindow) | None => why_command(rollout),
    }
}

fn ending_message(ending: Ending, decision: &Decision, rollout: &Rollout) -> Message {
    let (from, to) = images(rollout);
    let cluster = &rollout.workload.cluster;
    let name = &rollout.workload.name;
    let observed = if decision.observed_only { " (observe-only: nothing was written)" } else { "" };
    let why =
        rollout.conclusion.as_ref().map_or_else(|| decision.why.clone(), |conclusion| conclusion.reason.to_string());
    let after = Span::between(rollout.started, decision.at);
    let back = change(&to, &from);
    let unbegun = rollout.basis.is_none();
    let (mood, title, now) = match ending {
        Ending::Promoted => (
            Mood::Good,
            format!("{cluster}: {name} {} promoted", change(&from, &to)),
            format!("The new version serves all of the traffic, after {after}. Nothing to do."),
        ),
        Ending::RolledBack => (
            Mood::Bad,
            format!("{cluster}: {name} rolled back {back}"),
            format!("The old version serves all of the traffic, after {after}. {}", after_rollback(rollout)),
        ),
        Ending::Aborted | Ending::GivenUp if unbegun => not_rolled_out(rollout),
        Ending::Aborted => (
            Mood::Asking,
            format!("{cluster}: {name} {} aborted", change(&from, &to)),
            format!("The old version serves all of the traffic, after {after}. The new one is not quarantined."),
        ),
        Ending::GivenUp => (
            Mood::Asking,
            format!("{cluster}: {name} {} given up", change(&from, &to)),
            format!(
                "Nothing could be decided in {after}. The version is not quarantined: request it again when the cause is gone."
            ),
        ),
        Ending::Refused | Ending::Superseded | Ending::Unchanged => not_rolled_out(rollout),
    };
    let (kind, title, command) = (MessageKind::Final, title + observed, Some(why_command(rollout)));
    Message { kind, mood, title, why, now, command, footer: footer(rollout) }
}

/// Returns mood, title and present state of a rollout that ended before it changed anything.
fn not_rolled_out(rollout: &Rollout) -> (Mood, String, String) {
    let title = format!("{}: {} was not rolled out", rollout.workload.cluster, rollout.workload.name);
    (Mood::Asking, title, "Nothing was changed. Remove the cause and request it again.".to_owned())
}

/// Returns the sentence about the version after a rollback: whether it is quarantined.
fn after_rollback(rollout: &Rollout) -> &'static str {
    if rollout.quarantines() {
        "The new one is quarantined: `bellwether emit retry` tries it again."
    } else {
        "The new one is not quarantined and may be requested again."
    }
}

/// Returns the images before and after the rollout; both are empty if the preflight did not accept it.
fn images(rollout: &Rollout) -> (Images, Images) {
    rollout.basis.as_ref().map(|basis| (basis.from.clone(), basis.to.clone())).unwrap_or_default()
}

/// Returns the workload's name with its change, as in `web v1 → v2`; the name alone before the preflight has told the change.
fn rollout_title(rollout: &Rollout) -> String {
    if rollout.basis.is_none() {
        return rollout.workload.name.clone();
    }
    let (from, to) = images(rollout);
    format!("{} {}", rollout.workload.name, change(&from, &to))
}

/// Returns the command that explains the rollout.
fn why_command(rollout: &Rollout) -> String {
    format!("bellwether why {}", rollout.id)
}

/// Returns the last line of a message: the rollout, its policy and its workload.
fn footer(rollout: &Rollout) -> String {
    let policy = &rollout.policy;
    format!(
        "{} · policy {}@{} · {}/{}",
        rollout.id, policy.name, policy.hash, rollout.workload.namespace, rollout.workload.name
    )
}
