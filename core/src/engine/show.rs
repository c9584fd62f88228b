//! The views of rollouts, made from the engine's state.

use crate::engine::record::requests_rollout;
use crate::engine::view::{AnswerView, CheckView, DecisionView, FreezeView, OfferView, RolloutView};
use crate::engine::{Disposition, Proposal, Transition, WorkloadState};
use crate::ids::{Images, RolloutId, Scope, Weight, digest};
use crate::input::command::{Freeze, Verb};
use crate::input::event::{Event, Request};
use crate::judge::evidence::Evidence;
use crate::measure::metric::{MetricKind, Unit};
use crate::measure::window::Measure;
use crate::policy::{Mode, Policy, Strategy};
use crate::rollout::commands::VerbOffer;
use crate::rollout::decision::DecisionKind;
use crate::rollout::ending::Ending;
use crate::rollout::phase::Phase;
use crate::rollout::reason::Reason;
use crate::rollout::{Rollout, Task};
use crate::time::{Span, Timestamp};

/// Returns the view of a rollout.
pub fn view(rollout: &Rollout) -> RolloutView {
    let basis = rollout.basis.as_ref();
    let steps = rollout.policy.steps.len();
    let step = |index: usize| matches!(rollout.task, Task::Roll { .. }).then_some((index + 1, steps));
    RolloutView {
        id: rollout.id.to_string(),
        workload: rollout.workload.to_string(),
        from: basis.map(|basis| basis.from.clone()).unwrap_or_default(),
        to: basis.map_or_else(|| requested_images(rollout), |basis| basis.to.clone()),
        requested: requested(rollout),
        policy: policy_name(&rollout.policy),
        mode: match rollout.policy.mode {
            Mode::Enforce => "enforce".to_owned(),
            Mode::Observe => "observe".to_owned(),
        },
        phase: phase(rollout).to_owned(),
        step: step(rollout.step),
        weight: rollout.canary.weight,
        observed: rollout.measured.analysis.as_ref().and_then(|analysis| analysis.share()).map(|(share, _)| share),
        held: held(rollout).map(|reason| reason.to_string()),
        outcome: rollout.ending().map(|ending| outcome(ending).to_owned()),
        reason: reason(rollout),
        next: next(rollout),
        since: rollout.current.since,
        started: rollout.started,
        ended: rollout.ended,
        checks: checks(rollout),
        history: rollout
            .history
            .iter()
            .map(|entry| DecisionView {
                at: entry.at,
                decision: entry.kind.to_string(),
                reason: entry.why.clone(),
                step: step(entry.step),
                by: entry.by.clone(),
            })
            .collect(),
        verbs: rollout.offers().into_iter().map(offer).collect(),
        age: None,
    }
}

/// Returns the view of a rollout that waits for its beginning; `None` if none does.
pub fn queued(state: &WorkloadState) -> Option<RolloutView> {
    let waiting = state.queued.as_ref()?;
    let Proposal { task, policy, reason, .. } = waiting.proposal.clone();
    let rollout = Rollout::begin(waiting.event.clone(), state.workload.clone(), task, policy, reason, waiting.since);
    let (reason, next) = match (state.active(), state.frozen(state.changed)) {
        (Some(running), _) => {
            let reason = Reason::Queued { behind: running.id.clone(), phase: running.phase() };
            (reason, format!("begins when {} has ended", running.id))
        }
        (None, Some((scope, freeze))) => (Reason::frozen(scope, freeze), "begins when the freeze is over".to_owned()),
        (None, None) => (waiting.proposal.reason.clone(), "begins now".to_owned()),
    };
    let shown = view(&rollout);
    let verbs = vec![offer(VerbOffer { verb: Verb::Abort, skips: Vec::new() })];
    Some(RolloutView { phase: RolloutView::QUEUED.to_owned(), reason: reason.to_string(), next, verbs, ..shown })
}

/// Returns the view of a request whose rollout will not begin, so that a client that waits for the rollout's id gets an answer:
/// it was rejected, ignored as a stale or repeated one, or asked for the version that the stable runs. `None` for other inputs.
pub fn turned_away(transition: &Transition) -> Option<RolloutView> {
    let Event::Requested { id, request, .. } = &transition.input.event else { return None };
    let (at, reason) = (transition.input.at, transition.reason.to_string());
    let is_way_back = matches!(&transition.reason, Reason::Recalled { by } if by == id);
    let ending = if is_way_back { Ending::Unchanged } else { Ending::Refused };
    (is_way_back || transition.disposition != Disposition::Changed).then(|| RolloutView {
        id: RolloutId::of(&request.workload, id).to_string(),
        workload: request.workload.to_string(),
        from: Images::new(),
        to: request.images.clone(),
        requested: requested_version(request),
        policy: transition.policy.as_deref().map(policy_name).unwrap_or_default(),
        mode: String::new(),
        phase: Phase::Ended.to_string(),
        step: None,
        weight: Weight::ZERO,
        observed: None,
        held: None,
        outcome: Some(outcome(ending).to_owned()),
        reason: reason.clone(),
        next: "nothing; remove the cause and request it again".to_owned(),
        since: at,
        started: at,
        ended: Some(at),
        checks: Vec::new(),
        history: vec![DecisionView { at, decision: DecisionKind::Refuse.to_string(), reason, step: None, by: None }],
        verbs: Vec::new(),
        age: None,
    })
}

/// Returns the answer to the event of a transition; `None` if it is an input of the daemon's own, or a part of a freeze that is
/// answered for the whole partition.
pub fn answer(transition: &Transition) -> Option<AnswerView> {
    let event = &transition.input.event;
    let (id, workload) = (event.id()?, event.workload());
    if transition.workload.as_ref() != workload {
        return None;
    }
    let begins = workload.filter(|_| requests_rollout(event)).map(|workload| RolloutId::of(workload, id).to_string());
    let result = match (transition.disposition, &transition.reason) {
        (Disposition::Changed, Reason::Queued { .. } | Reason::Frozen { .. }) if begins.is_some() => {
            AnswerView::WAITING
        }
        (Disposition::Changed, _) => AnswerView::TAKEN,
        (Disposition::Ignored | Disposition::Duplicate, _) => AnswerView::IGNORED,
        (Disposition::Rejected, _) => AnswerView::REFUSED,
    };
    Some(AnswerView {
        source: id.source.clone(),
        id: id.id.clone(),
        result: result.to_owned(),
        reason: transition.reason.to_string(),
        rollout: begins,
        at: transition.input.at,
    })
}

/// Returns the view of a freeze.
pub fn freeze(scope: &Scope, freeze: &Freeze) -> FreezeView {
    FreezeView {
        scope: scope.to_string(),
        by: freeze.author.by.clone(),
        why: freeze.author.why.clone(),
        since: Some(freeze.since).filter(|since| *since > Timestamp::MIN),
        until: freeze.until,
    }
}

/// Returns the view of a workload whose journal entries can't be read. `workload` is its key in the journal, `why` the reason
/// and `now` the present time.
pub fn unreadable(workload: &str, why: &str, now: Timestamp) -> RolloutView {
    RolloutView {
        id: format!("{}-{}", RolloutView::UNREADABLE, &digest(&[workload])[..10]),
        workload: workload.to_owned(),
        from: Images::new(),
        to: Images::new(),
        requested: None,
        policy: String::new(),
        mode: String::new(),
        phase: RolloutView::UNREADABLE.to_owned(),
        step: None,
        weight: Weight::ZERO,
        observed: None,
        held: Some(why.to_owned()),
        outcome: None,
        reason: why.to_owned(),
        next: "nothing; its rollout stays as it is, and its events are refused".to_owned(),
        since: now,
        started: now,
        ended: None,
        checks: Vec::new(),
        history: Vec::new(),
        verbs: Vec::new(),
        age: None,
    }
}

/// Returns the view of a verb that a rollout's state admits.
fn offer(offer: VerbOffer) -> OfferView {
    let VerbOffer { verb, skips } = offer;
    let (full, approval) = match &verb {
        Verb::Promote { full } => (*full, None),
        Verb::Approve { approval } => (false, approval.clone()),
        Verb::Abort | Verb::Pause | Verb::Resume | Verb::Retry | Verb::Freeze { .. } | Verb::Unfreeze => (false, None),
    };
    OfferView { verb: verb.name().to_owned(), full, approval, skips }
}

/// Returns the policy's name and hash, as in `web@1a2b3c4d5e6f`.
fn policy_name(policy: &Policy) -> String {
    format!("{}@{}", policy.name, policy.hash)
}

/// The names of two phases in a blue-green rollout.
const BLUE_GREEN_NAMES: [(Phase, &str); 2] = [(Phase::Preparing, "preview"), (Phase::Stepping, "switched")];

/// Returns the name of the rollout's phase.
fn phase(rollout: &Rollout) -> &'static str {
    let switches = rollout.policy.strategy == Strategy::BlueGreen;
    let special = BLUE_GREEN_NAMES.iter().find(|(phase, _)| switches && *phase == rollout.phase());
    special.map_or(rollout.phase().traits().name, |(_, name)| name)
}

/// Returns every value of [`RolloutView::phase`].
pub fn phases() -> impl Iterator<Item = &'static str> {
    let special =
        BLUE_GREEN_NAMES.map(|(_, name)| name).into_iter().chain([RolloutView::UNREADABLE, RolloutView::QUEUED]);
    Phase::ALL.into_iter().map(|phase| phase.traits().name).chain(special)
}

/// Returns the value of [`RolloutView::outcome`] for an ending.
fn outcome(ending: Ending) -> &'static str {
    match ending {
        Ending::Promoted => "promoted",
        Ending::RolledBack => "rolled-back",
        Ending::GivenUp => "given-up",
        Ending::Aborted => "aborted",
        Ending::Superseded => "superseded",
        Ending::Refused => "refused",
        Ending::Unchanged => "unchanged",
    }
}

/// Returns the images by container that the rollout's request names; none for a guard of another tool's deployment.
fn requested_images(rollout: &Rollout) -> Images {
    match &rollout.task {
        Task::Roll { request } => request.images.clone(),
        Task::Guard { .. } => Images::new(),
    }
}

/// Returns the requested image or model; `None` for a guard of another tool's deployment.
fn requested(rollout: &Rollout) -> Option<String> {
    match &rollout.task {
        Task::Roll { request } => requested_version(request),
        Task::Guard { .. } => None,
    }
}

fn requested_version(request: &Request) -> Option<String> {
    request.image.as_ref().or_else(|| request.images.values().next()).or(request.model.as_ref()).cloned()
}

/// Returns the reason of the hold, or of a pause that is ahead of it.
fn held(rollout: &Rollout) -> Option<Reason> {
    let hold = rollout.current.hold.as_ref().map(|hold| hold.reason.clone());
    hold.or_else(|| rollout.pause_ahead())
}

/// Returns the explanation of the present state: the decided end, else the hold, else the newest reason.
fn reason(rollout: &Rollout) -> String {
    match (&rollout.conclusion, held(rollout)) {
        (Some(conclusion), _) => conclusion.reason.to_string(),
        (None, Some(held)) => held.to_string(),
        (None, None) => rollout.reason.to_string(),
    }
}

/// Returns the checks of the present analysis, or of an ended rollout those at the decision about its end.
fn checks(rollout: &Rollout) -> Vec<CheckView> {
    match rollout.ended {
        Some(_) => rollout.measured.at_end.iter().map(check).collect(),
        None => rollout.measured.analysis.iter().flat_map(|analysis| analysis.evidence()).map(check).collect(),
    }
}

/// Returns the next event of the rollout as a phrase, with its condition.
fn next(rollout: &Rollout) -> String {
    let Some(step) = rollout.policy.steps.get(rollout.step) else { return String::new() };
    if let Some(hold) = rollout.current.hold.as_ref().filter(|_| rollout.phase() != Phase::Ended) {
        return hold.next(&rollout.policy);
    }
    if rollout.pause_ahead().is_some() {
        return format!("is held at the end of {}, until a person resumes it", rollout.phase());
    }
    match rollout.phase() {
        Phase::Preflight => "the result of the preflight".to_owned(),
        Phase::Preparing => format!("{} of the traffic, once the canary is available", step.weight),
        Phase::Growing => format!("{} of the traffic, once the canary has grown", step.weight),
        Phase::Stepping => match rollout.policy.steps.get(rollout.step + 1) {
            Some(next) => format!("{} of the traffic, if every check passes", next.weight),
            None => "promotion, if every check passes".to_owned(),
        },
        Phase::Withdrawn => format!("{} of the traffic again, once the canary's pods are ready", step.weight),
        Phase::Promoting => "the traffic returns, once the workload is available with the new version".to_owned(),
        Phase::Returning => "the canary is removed, once it has no traffic".to_owned(),
        Phase::Cleaning => match &rollout.policy.guard {
            Some(guard) => format!("the guard watches for {}", guard.length),
            None => "nothing: it is promoted".to_owned(),
        },
        Phase::Guarding => "nothing more, if every check of the guard passes to its end".to_owned(),
        Phase::Restoring => "the traffic returns, once the workload is available with the old version".to_owned(),
        Phase::Draining => "the canary is removed, once it has no traffic".to_owned(),
        Phase::Removing => "nothing, once the canary is gone".to_owned(),
        Phase::Ended => "nothing".to_owned(),
    }
}

/// Returns the view of a check.
pub fn check(evidence: &Evidence) -> CheckView {
    let weighed = evidence.finding.sequential();
    let show = |measure: &Measure| {
        let beyond = if measure.beyond { "> " } else { "" };
        let unit = if weighed.is_some() { Unit::Percent } else { evidence.unit };
        format!("{beyond}{}", unit.show(measure.value))
    };
    let counted = evidence.subject.as_ref().filter(|subject| subject.n > 0 || !evidence.kind.counts_requests());
    let between = |measure: &Measure| {
        let interval = weighed?.between(measure)?;
        Some(format!("{} to {}", Unit::Percent.show(interval.lower), Unit::Percent.show(interval.upper)))
    };
    CheckView {
        name: evidence.check.clone(),
        verdict: evidence.verdict.to_string(),
        canary: counted.map(show),
        canary_between: counted.and_then(between),
        stable: evidence.stable.as_ref().map(show),
        stable_between: evidence.stable.as_ref().and_then(between),
        limit: evidence.shown_limit(),
        n: evidence.subject.as_ref().map_or(0, |subject| subject.n),
        window: if evidence.kind == MetricKind::Availability { Span::ZERO } else { evidence.window },
        sentence: evidence.to_string(),
    }
}
