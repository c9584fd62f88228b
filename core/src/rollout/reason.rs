//! The explanation of a decision, or of inactivity: as data, with one `Display` that makes the sentence which the log, the
//! CLI, the API, the notifications and Kubernetes Events all show.
//!
//! A reason is for people. The engine itself decides by the small enums of [`cause`](super::cause), never by a reason.

use serde::{Deserialize, Serialize};

use crate::ids::{EventId, Images, RolloutId, Scope, Weight, Workload};
use crate::input::command::{Author, Freeze};
use crate::input::report::SuiteReport;
use crate::input::status::{PodProblem, PreflightIssue};
use crate::judge::evidence::{Evidence, Findings};
use crate::policy::OnDraw;
use crate::rollout::answers::MutePods;
use crate::rollout::phase::Phase;
use crate::rollout::reward::Score;
use crate::time::{Span, Timestamp};

mod sentence;

pub use sentence::change;

/// The explanation of a decision, or of inactivity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
#[must_use = "an unread reason explains nothing"]
pub enum Reason {
    // --- events
    /// A rollout was requested.
    Requested {
        /// The event's source.
        by: String,
        /// The requester's own reason.
        why: Option<String>,
    },
    /// A deployment by another tool was reported.
    Deployed {
        /// The event's source.
        by: String,
        /// The artifact that the event names, such as a package URL.
        artifact: Option<String>,
    },
    /// The event was processed before.
    Duplicate {
        /// The event's identity.
        event: EventId,
    },
    /// The event is older than the newest accepted event of its workload.
    Stale {
        /// The event's time.
        time: Timestamp,
        /// The time of the newest accepted event.
        last: Timestamp,
    },
    /// The rollout begins when the running one has ended.
    Queued {
        /// The running rollout.
        behind: RolloutId,
        /// Its phase.
        phase: Phase,
    },
    /// The event changes nothing for any known workload.
    Irrelevant,
    /// No policy covers the workload.
    NoPolicy {
        /// The workload that the event names.
        workload: Workload,
    },
    /// No policy covers the workload of a running rollout any more.
    Uncovered {
        /// The policy that the rollout began with and keeps.
        policy: String,
    },
    /// The policy that the event names does not exist, or does not cover the workload.
    WrongPolicy {
        /// The policy's name in the event.
        policy: String,
        /// The workload that the event names.
        workload: Workload,
    },
    /// The journal entries of the event's workload can't be read.
    Isolated {
        /// The workload that the event names.
        workload: Workload,
        /// The reason, with the remedy.
        why: String,
    },
    /// The event names no image.
    NoImage,
    /// The policy does not allow the image.
    ImageNotAllowed {
        /// The image reference in the event.
        image: String,
        /// The policy's name.
        policy: String,
        /// The repositories that the policy allows.
        allowed: Vec<String>,
    },
    // --- people
    /// A person aborted the rollout.
    Aborted {
        /// The person and their reason.
        author: Author,
        /// The change of the workload that is undone, as in `v1 → v2`; `None` if the workload was not changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        undoes: Option<String>,
        /// The rollout that waited for the end of this one, and does not begin either.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drops: Option<RolloutId>,
    },
    /// A person aborted a rollout that waited for its beginning.
    AbortedWaiting {
        /// The person and their reason.
        author: Author,
        /// The reason why the rollout that runs is not aborted; `None` if it is aborted as well, or if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        goes_on: Option<String>,
    },
    /// A person gave all traffic to the stable without a daemon.
    Released {
        /// The person and their reason.
        author: Author,
    },
    /// The images of the stable were requested again.
    Recalled {
        /// The requesting event.
        by: EventId,
    },
    /// A person advanced the rollout.
    Promoted {
        /// The person and their reason.
        author: Author,
        /// The conditions that had not passed and are skipped.
        skips: Vec<String>,
    },
    /// A person paused the rollout.
    Paused {
        /// The person and their reason.
        author: Author,
    },
    /// A person resumed the rollout.
    Resumed {
        /// The person and their reason.
        author: Author,
    },
    /// A person gave an approval.
    Approved {
        /// The person and their reason.
        author: Author,
        /// The approval's name in the policy, or the suite that it replaces.
        approval: String,
    },
    /// A person requested the last rollout's change again.
    Retried {
        /// The person and their reason.
        author: Author,
        /// The earlier rollout.
        of: RolloutId,
    },
    /// A freeze is in force.
    Frozen {
        /// The frozen cluster, namespace or workload.
        scope: String,
        /// The person who froze it and their reason.
        author: Author,
        /// The end of the freeze; `None` if it has none.
        until: Option<Timestamp>,
    },
    /// A freeze was lifted.
    Unfrozen {
        /// The cluster, namespace or workload that was frozen.
        scope: String,
        /// The person who lifted it and their reason.
        author: Author,
    },
    /// A verb can't be carried out in the present state.
    CantObey {
        /// The verb's name.
        verb: String,
        /// The present state and the remedy.
        instead: String,
    },
    // --- requirements
    /// A suite was run.
    Tested {
        /// The suite's report.
        report: Box<SuiteReport>,
    },
    /// A required suite has not passed.
    NeedsReport {
        /// The suite's name.
        suite: String,
        /// The newest report on the combination that the rollout brings; `None` if there is none.
        report: Option<Box<SuiteReport>>,
        /// The policy's maximum age, which the report exceeds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        too_old: Option<Span>,
        /// The difference between the rollout and the combination of the newest report, if there are only other ones.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        other: Option<String>,
    },
    /// An approval is missing.
    NeedsApproval {
        /// The approval's name in the policy.
        approval: String,
        /// The stop that it is needed for: the first traffic or the promotion.
        before: String,
    },
    /// The change window is closed.
    OutsideWindow {
        /// The window's definition.
        window: String,
        /// The next opening.
        opens: Timestamp,
    },
    /// The version is quarantined on this workload.
    Quarantined {
        /// The images that failed, by container.
        images: Images,
        /// The time of the failure.
        since: Timestamp,
        /// The rollout that failed.
        rollout: RolloutId,
        /// The sentence with which it failed.
        why: String,
    },
    // --- the preflight
    /// The bare image matches no container, or several with different references.
    AmbiguousImage {
        /// The image reference in the event.
        image: String,
        /// The containers with this repository.
        fits: Vec<String>,
        /// All containers of the workload.
        containers: Vec<String>,
    },
    /// The workload has no container of this name.
    NoContainer {
        /// The container's name in the event.
        container: String,
        /// All containers of the workload.
        containers: Vec<String>,
    },
    /// The running image is not the expected one.
    Unexpected {
        /// The container's name.
        container: String,
        /// The image that the event expects.
        expected: String,
        /// The image that runs.
        found: String,
    },
    /// The workload runs the requested images already.
    Unchanged,
    /// The workload is scaled to zero.
    NoReplicas,
    /// The workload does not exist.
    NoWorkload {
        /// The workload that the event names.
        workload: Workload,
        /// The API server's message, or the change that was seen.
        message: String,
    },
    /// Preflight issues forbid the rollout.
    Obstructed {
        /// The issues that refuse it.
        issues: Vec<PreflightIssue>,
    },
    /// The preflight found nothing that forbids the rollout.
    Accepted {
        /// The images before, by container.
        from: Images,
        /// The images after, by container.
        to: Images,
        /// The preflight issues that only warn.
        warnings: Vec<PreflightIssue>,
    },
    /// A deployed version can be guarded: a last good template is known.
    Guardable {
        /// The images to be guarded.
        to: Images,
    },
    /// A deployed version can't be guarded: no last good template is known.
    NoLastGood,
    /// The policy's queries can't be used.
    Unreadable {
        /// The problems, one for each query.
        problems: Vec<String>,
    },
    // --- the way up
    /// The canary is available.
    CanaryReady {
        /// The canary's pods.
        replicas: u32,
        /// The time since the phase began.
        took: Span,
    },
    /// The canary's pods can't run.
    CanaryFailed {
        /// The problem as the pod or the API server states it.
        problem: PodProblem,
    },
    /// The canary was available in time, and the baseline was not.
    BaselineNotReady {
        /// The baseline's available pods.
        available: u32,
        /// The baseline's requested pods.
        replicas: u32,
        /// The deadline.
        within: Span,
        /// A problem of a pod that is not available.
        problem: Option<PodProblem>,
    },
    /// Too few of the canary's pods are ready for its traffic.
    CanaryUnready {
        /// The ready pods.
        ready: u32,
        /// The pods that its traffic needs.
        replicas: u32,
        /// A problem of one of its pods.
        problem: Option<PodProblem>,
        /// The number of times that its traffic was taken back before.
        times: u32,
    },
    /// The new version's containers restart more often than those of the version before.
    Restarts {
        /// The restarts of the new version while it has traffic.
        restarts: u32,
        /// The number of its pods.
        pods: u32,
        /// The time of its pods together.
        time: Span,
        /// The restarts of the version before, since its pods started.
        before: u32,
        /// The time of those pods together.
        before_time: Span,
    },
    /// The cluster does not run the pods that the phase waits for.
    NoRoom {
        /// The problem, which is not the version's.
        problem: PodProblem,
        /// The time since the last progress.
        after: Span,
    },
    /// A gateway refuses the route that names the canary.
    RouteRefused {
        /// The gateway's message.
        message: String,
    },
    /// The canary was not available in time.
    NotReady {
        /// The canary's available pods.
        available: u32,
        /// The canary's requested pods.
        replicas: u32,
        /// The deadline.
        within: Span,
    },
    /// Every check of the step passes.
    Passed {
        /// The evidence of the checks that decide; empty if every check only warns.
        evidence: Vec<Evidence>,
        /// The time since the canary got the step's weight.
        after: Span,
    },
    /// At least one check has regressed.
    Regressed {
        /// The evidence of the regressed checks.
        evidence: Findings,
    },
    /// An A/B test has no winner yet.
    Undecided {
        /// The present score.
        score: Box<Score>,
        /// The time at which it ends in a draw.
        until: Timestamp,
    },
    /// The canary has won its A/B test.
    Won {
        /// The final score.
        score: Box<Score>,
    },
    /// The stable has won the A/B test.
    Lost {
        /// The final score.
        score: Box<Score>,
    },
    /// An A/B test ended without a winner.
    Draw {
        /// The final score.
        score: Box<Score>,
        /// The test's duration.
        after: Span,
        /// The arm that stays, by the policy.
        stays: OnDraw,
    },
    /// A check that only warns has regressed.
    Warned {
        /// The check's evidence.
        evidence: Box<Evidence>,
    },
    /// Some checks have too little evidence.
    Insufficient {
        /// The evidence of these checks.
        evidence: Findings,
    },
    /// Some checks can't be measured.
    Blind {
        /// The evidence of these checks.
        evidence: Findings,
        /// The time since which they can't be measured.
        since: Timestamp,
    },
    /// No block of counts has arrived.
    Unmeasured {
        /// The time since which blocks are awaited.
        since: Timestamp,
    },
    /// The canary gets far more traffic than was asked for.
    ShareOff {
        /// The weight that was asked for.
        asked: Weight,
        /// The canary's share of the counted requests, 0 to 1.
        seen: f64,
        /// The counted requests of both arms.
        n: u64,
        /// Whether the stable still gets as many requests as before the rollout.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stays: bool,
    },
    /// The canary has all of the traffic, and no request is counted any more.
    Silence {
        /// The requests that came in such a time before the rollout.
        missing: u64,
        /// The time without requests.
        time: Span,
    },
    /// Pods of the canary are ready and answer no request, while its others answer theirs.
    Mute(MutePods),
    /// The step's minimum time is not over, and no check has regressed.
    Waiting {
        /// The end of the minimum time.
        until: Timestamp,
        /// `true` if every check passes, `false` if no block has arrived yet.
        passing: bool,
    },
    /// The cause of a hold is gone.
    Recovered,
    /// A hold has lasted as long as the policy allows.
    HoldExpired {
        /// The reason of the hold.
        held: Box<Reason>,
        /// The duration of the hold.
        after: Span,
    },
    /// A newer version was requested.
    Superseded {
        /// The requesting event.
        by: EventId,
    },
    // --- the stable
    /// The stable Deployment is available with the new version.
    StableReady {
        /// The stable's available pods.
        replicas: u32,
        /// The time since the phase began.
        took: Span,
    },
    /// The stable Deployment's pods can't run with the new version.
    StableFailed {
        /// The problem as the pod or the API server states it.
        problem: PodProblem,
    },
    /// The stable Deployment was not available with the new version in time.
    StableNotReady {
        /// The stable's available pods with the new version.
        available: u32,
        /// The stable's requested pods.
        replicas: u32,
        /// The deadline.
        within: Span,
    },
    /// The stable Deployment is available with its old template again.
    Restored {
        /// The stable's available pods.
        replicas: u32,
    },
    /// The canary has no traffic any more.
    Emptied,
    /// The canary, its baseline and its part of the route are gone.
    CanaryGone,
    /// Every check of the guard passes to its end.
    GuardPassed {
        /// The evidence of the guard's checks.
        evidence: Vec<Evidence>,
        /// The guard's duration.
        after: Span,
    },
    /// The policy has no guard.
    NoGuard,
    // --- external changes
    /// The stable's pod template was changed by another field manager.
    TemplateEdited {
        /// The field manager, if it is known.
        by: Option<String>,
    },
    /// The workload was scaled by a person.
    Scaled {
        /// The replicas at the start of the rollout.
        from: u32,
        /// The replicas now.
        to: u32,
        /// The field manager.
        by: String,
    },
    /// An object of the rollout was changed by another field manager, and the change is reverted.
    Reverted {
        /// The changed object or share.
        object: String,
        /// The field manager, if it is known.
        by: Option<String>,
    },
    /// An object of the rollout was changed again after it was reverted as often as allowed.
    RevertedTooOften {
        /// The changed object or share.
        object: String,
        /// The field manager, if it is known.
        by: Option<String>,
        /// The number of reverts so far.
        times: u32,
    },
    /// The canary was deleted by another client.
    CanaryDeleted,
    /// A person accepted the stable's new pod template.
    Rebased {
        /// The person and their reason.
        author: Author,
    },
    /// The stable has no available pod, and the canary has.
    StableBroken {
        /// The stable's requested pods.
        replicas: u32,
        /// A problem of one of its pods.
        problem: Option<PodProblem>,
    },
    /// The template to restore can't run.
    RestoreFailed {
        /// The problem as the pod or the API server states it.
        problem: PodProblem,
    },
    // --- effects
    /// An effect fails and is retried.
    Failing {
        /// The act's name.
        act: String,
        /// The message of the last failure.
        message: String,
        /// The failed attempts so far.
        attempts: u32,
    },
    /// An effect was refused permanently.
    ActRefused {
        /// The act's name.
        act: String,
        /// The message of the refusal.
        message: String,
    },
    /// A phase takes longer than the policy allows and continues.
    Slow {
        /// The condition that the phase waits for.
        waiting_for: String,
        /// The time since the phase began.
        after: Span,
    },
}

impl Reason {
    /// Returns the reason of everything that waits for the end of a freeze of `scope`.
    pub fn frozen(scope: &Scope, freeze: &Freeze) -> Reason {
        Reason::Frozen { scope: scope.to_string(), author: freeze.author.clone(), until: freeze.until }
    }

    /// Returns the source of the event by which a person or a tool has asked for this; `None` for the daemon's own reasons.
    pub fn actor(&self) -> Option<&str> {
        match self {
            Reason::Aborted { author, .. }
            | Reason::AbortedWaiting { author, .. }
            | Reason::Released { author, .. }
            | Reason::Promoted { author, .. }
            | Reason::Paused { author, .. }
            | Reason::Resumed { author, .. }
            | Reason::Approved { author, .. }
            | Reason::Retried { author, .. }
            | Reason::Frozen { author, .. }
            | Reason::Unfrozen { author, .. }
            | Reason::Rebased { author, .. } => Some(&author.by),
            Reason::Requested { by, .. } | Reason::Deployed { by, .. } => Some(by),
            Reason::Recalled { by } | Reason::Superseded { by } => Some(&by.source),
            Reason::Tested { report } => Some(&report.by),
            Reason::Duplicate { .. }
            | Reason::Stale { .. }
            | Reason::Queued { .. }
            | Reason::Irrelevant
            | Reason::NoPolicy { .. }
            | Reason::Uncovered { .. }
            | Reason::WrongPolicy { .. }
            | Reason::Isolated { .. }
            | Reason::NoImage
            | Reason::ImageNotAllowed { .. }
            | Reason::CantObey { .. }
            | Reason::NeedsReport { .. }
            | Reason::NeedsApproval { .. }
            | Reason::OutsideWindow { .. }
            | Reason::Quarantined { .. }
            | Reason::AmbiguousImage { .. }
            | Reason::NoContainer { .. }
            | Reason::Unexpected { .. }
            | Reason::Unchanged
            | Reason::NoReplicas
            | Reason::NoWorkload { .. }
            | Reason::Obstructed { .. }
            | Reason::Accepted { .. }
            | Reason::Guardable { .. }
            | Reason::NoLastGood
            | Reason::Unreadable { .. }
            | Reason::CanaryReady { .. }
            | Reason::CanaryFailed { .. }
            | Reason::BaselineNotReady { .. }
            | Reason::CanaryUnready { .. }
            | Reason::Restarts { .. }
            | Reason::NoRoom { .. }
            | Reason::RouteRefused { .. }
            | Reason::NotReady { .. }
            | Reason::Passed { .. }
            | Reason::Regressed { .. }
            | Reason::Undecided { .. }
            | Reason::Won { .. }
            | Reason::Lost { .. }
            | Reason::Draw { .. }
            | Reason::Warned { .. }
            | Reason::Insufficient { .. }
            | Reason::Blind { .. }
            | Reason::Unmeasured { .. }
            | Reason::ShareOff { .. }
            | Reason::Silence { .. }
            | Reason::Mute(..)
            | Reason::Waiting { .. }
            | Reason::Recovered
            | Reason::HoldExpired { .. }
            | Reason::StableReady { .. }
            | Reason::StableFailed { .. }
            | Reason::StableNotReady { .. }
            | Reason::Restored { .. }
            | Reason::Emptied
            | Reason::CanaryGone
            | Reason::GuardPassed { .. }
            | Reason::NoGuard
            | Reason::TemplateEdited { .. }
            | Reason::Scaled { .. }
            | Reason::Reverted { .. }
            | Reason::RevertedTooOften { .. }
            | Reason::CanaryDeleted
            | Reason::StableBroken { .. }
            | Reason::RestoreFailed { .. }
            | Reason::Failing { .. }
            | Reason::ActRefused { .. }
            | Reason::Slow { .. } => None,
        }
    }
}
