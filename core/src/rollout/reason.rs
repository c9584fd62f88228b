//! Why something was decided, or why nothing was: as data, with one `Display` that makes the sentence which the log, the
//! CLI, the API, Slack and Kubernetes Events all show.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{EventId, Images, RolloutId, Weight, Workload, version};
use crate::input::command::Author;
use crate::input::report::SuiteReport;
use crate::input::status::{PodProblem, PreflightIssue};
use crate::judge::reward::Score;
use crate::judge::verdict::Evidence;
use crate::policy::Stays;
use crate::time::{Span, Timestamp};

/// Why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
#[must_use = "an unread reason explains nothing"]
pub enum Reason {
    // --- an event, and whether it is taken up
    /// Somebody asked for a new version.
    Requested {
        /// Who: the event's source.
        by: String,
        /// In their words.
        why: Option<String>,
    },
    /// Somebody else deployed.
    Deployed {
        /// Who said so.
        by: String,
        /// What they named.
        artifact: Option<String>,
    },
    /// The same event has come before.
    Duplicate {
        /// Which.
        event: EventId,
    },
    /// The event is older than the last one that was accepted for its workload.
    Stale {
        /// The event's time.
        time: Timestamp,
        /// The time of the last accepted one.
        last: Timestamp,
    },
    /// The event is of no consequence to any workload that is known.
    Irrelevant,
    /// No policy is for this workload.
    NoPolicy {
        /// The workload.
        workload: Workload,
    },
    /// The policy that the event names does not exist or is for other workloads.
    WrongPolicy {
        /// The name.
        policy: String,
        /// The workload.
        workload: Workload,
    },
    /// The event names no image.
    NoImage,
    /// The policy does not let this image in.
    ImageNotAllowed {
        /// The image.
        image: String,
        /// The policy.
        policy: String,
        /// What it lets in.
        allowed: Vec<String>,
    },
    /// Another rollout of the workload runs; this one waits for it.
    Queued,
    // --- a person
    /// A person wants the old version back.
    Aborted {
        /// Who, and why.
        order: Author,
    },
    /// The images that the stable runs are asked for again.
    Recalled {
        /// By which event.
        by: EventId,
    },
    /// A person says that it goes on.
    Promoted {
        /// Who, and why.
        order: Author,
        /// What had not passed, and is not waited for.
        skips: Vec<String>,
    },
    /// A person says that it stays here.
    Paused {
        /// Who, and why.
        order: Author,
    },
    /// A person says that it looks again.
    Resumed {
        /// Who, and why.
        order: Author,
    },
    /// A person opens a gate.
    Approved {
        /// Who, and why.
        order: Author,
        /// Which.
        gate: String,
    },
    /// A person asks once more.
    Retried {
        /// Who, and why.
        order: Author,
        /// For what this rollout was to bring.
        of: RolloutId,
    },
    /// Nothing starts and no weight rises.
    Frozen {
        /// Where: a scope, as it is written.
        scope: String,
        /// Who says so, and why.
        order: Author,
        /// Until then, if it ends by itself.
        until: Option<Timestamp>,
    },
    /// A freeze is over.
    Unfrozen {
        /// Where: a scope, as it is written.
        scope: String,
        /// Who says so, and why.
        order: Author,
    },
    /// A verb that makes no sense here.
    CantObey {
        /// Which.
        verb: String,
        /// What there is instead, and what to do.
        instead: String,
    },
    // --- gates
    /// A suite was run.
    Tested {
        /// What came of it.
        report: Box<SuiteReport>,
    },
    /// A suite that the policy requires has not passed.
    NeedsReport {
        /// Which.
        suite: String,
        /// What came of it so far; `None`: nothing is known of it.
        report: Option<Box<SuiteReport>>,
    },
    /// A gate waits for a person.
    NeedsApproval {
        /// Which.
        gate: String,
        /// What it is before, in words.
        before: String,
    },
    /// It is not the time for changes.
    OutsideWindow {
        /// The window, in words.
        window: String,
        /// When it opens.
        opens: Timestamp,
    },
    /// The version has failed here before.
    Quarantined {
        /// What of it.
        images: Images,
        /// Since when.
        since: Timestamp,
        /// In which rollout.
        rollout: RolloutId,
        /// Why.
        why: String,
    },
    // --- what the survey says
    /// The bare image fits no container, or several.
    AmbiguousImage {
        /// The image.
        image: String,
        /// The containers that it fits.
        fits: Vec<String>,
        /// The containers that there are.
        containers: Vec<String>,
    },
    /// The workload has no such container.
    NoContainer {
        /// The container that the event names.
        container: String,
        /// Those that there are.
        containers: Vec<String>,
    },
    /// Other images run than the event expects.
    Unexpected {
        /// The container.
        container: String,
        /// What the event expects.
        expected: String,
        /// What runs.
        found: String,
    },
    /// The workload runs these images already.
    Unchanged,
    /// The workload is scaled to nothing.
    NoReplicas,
    /// The workload does not exist, or exists no longer.
    NoWorkload {
        /// The workload.
        workload: Workload,
        /// What the API said.
        message: String,
    },
    /// Something stands in the way.
    Obstructed {
        /// What, all of it.
        issues: Vec<PreflightIssue>,
    },
    /// Nothing stands in the way.
    Accepted {
        /// The images that change.
        from: Images,
        /// To these.
        to: Images,
        /// What is worth saying all the same.
        warnings: Vec<PreflightIssue>,
    },
    /// Somebody else deployed, and there is a good version to go back to.
    Guardable {
        /// The images that are guarded.
        to: Images,
    },
    /// Somebody else deployed, and no version before it is known to have been good.
    NoLastGood,
    /// Queries of the policy can't be used.
    Unreadable {
        /// What is wrong with them.
        problems: Vec<String>,
    },
    // --- the way up
    /// The canary is available.
    CanaryReady {
        /// So many pods.
        replicas: u32,
        /// After so long.
        took: Span,
    },
    /// The canary's pods can't run.
    CanaryFailed {
        /// In their own words.
        trouble: PodProblem,
    },
    /// The canary was available in time, and the fresh baseline beside it was not.
    BaselineNotReady {
        /// So many pods were.
        available: u32,
        /// Of so many.
        replicas: u32,
        /// Within this time.
        within: Span,
        /// What keeps the others from starting.
        trouble: Option<PodProblem>,
    },
    /// The canary was not available in time.
    NotReady {
        /// So many pods were.
        available: u32,
        /// Of so many.
        replicas: u32,
        /// Within this time.
        within: Span,
    },
    /// Every check passes, for long enough.
    Passed {
        /// What they say.
        evidence: Vec<Evidence>,
        /// The canary had its traffic for so long.
        after: Span,
    },
    /// A check has regressed.
    Regressed {
        /// What it says, and what the others that regressed say.
        evidence: Vec<Evidence>,
    },
    /// An A/B test goes on.
    Undecided {
        /// How it stands.
        score: Box<Score>,
        /// Without a winner by then it is a draw.
        until: Timestamp,
    },
    /// The canary has won its A/B test.
    Won {
        /// How it stands.
        score: Box<Score>,
    },
    /// The stable has.
    Lost {
        /// How it stands.
        score: Box<Score>,
    },
    /// An A/B test is over, and nobody has won.
    Draw {
        /// How it stands.
        score: Box<Score>,
        /// It took so long.
        after: Span,
        /// Who stays.
        stays: Stays,
    },
    /// A check that only warns has regressed.
    Warned {
        /// What it says.
        evidence: Box<Evidence>,
    },
    /// Some checks say nothing yet.
    Insufficient {
        /// What they say.
        evidence: Vec<Evidence>,
    },
    /// Some checks can't be seen.
    Blind {
        /// What they say.
        evidence: Vec<Evidence>,
        /// Since when.
        since: Timestamp,
    },
    /// The canary gets far more traffic than was asked for.
    ShareOff {
        /// Asked.
        asked: Weight,
        /// Seen, 0 to 1.
        seen: f64,
        /// Of so many requests.
        n: u64,
    },
    /// Nothing is wrong so far, and the step's time is not over (or nothing has been counted yet).
    Waiting {
        /// It ends then.
        until: Timestamp,
        /// All checks pass; else none has looked yet.
        passing: bool,
    },
    /// What was missing has come back.
    Recovered,
    /// Held for as long as the policy allows.
    HoldExpired {
        /// Why it was held.
        held: Box<Reason>,
        /// For so long.
        after: Span,
    },
    /// A newer request has come.
    Superseded {
        /// Whose.
        by: EventId,
    },
    // --- the stable
    /// The stable Deployment is available with the new version.
    StableReady {
        /// So many pods.
        replicas: u32,
        /// After so long.
        took: Span,
    },
    /// The stable Deployment's pods can't run with the new version.
    StableFailed {
        /// In their own words.
        trouble: PodProblem,
    },
    /// The stable Deployment was not available in time.
    StableNotReady {
        /// So many pods were.
        available: u32,
        /// Of so many.
        replicas: u32,
        /// Within this time.
        within: Span,
    },
    /// The stable Deployment is available with its old template again.
    Restored {
        /// So many pods.
        replicas: u32,
    },
    /// The canary has no traffic any more.
    Emptied,
    /// Nothing of the canary is left.
    CanaryGone,
    /// The guard saw nothing wrong.
    GuardPassed {
        /// What its checks say.
        evidence: Vec<Evidence>,
        /// It watched for so long.
        after: Span,
    },
    /// The policy has no guard.
    NoGuard,
    // --- somebody else's hand
    /// The stable has another template than the rollout rests on.
    TemplateEdited {
        /// Who wrote it, if that is known.
        by: Option<String>,
    },
    /// A person has scaled the workload.
    Scaled {
        /// From so many replicas.
        from: u32,
        /// To so many.
        to: u32,
        /// Who.
        by: String,
    },
    /// What is ours was changed, and is put back.
    Reverted {
        /// What.
        what: String,
        /// Who changed it, if that is known.
        by: Option<String>,
    },
    /// What is ours was changed again and again.
    RevertedTooOften {
        /// What.
        what: String,
        /// Who changed it, if that is known.
        by: Option<String>,
        /// It was put back so many times.
        times: u32,
    },
    /// Somebody has deleted the canary.
    CanaryDeleted,
    /// The new template of the stable is the one to start from.
    Rebased {
        /// Who says so, and why.
        order: Author,
    },
    /// The stable version has no pod that serves, and the canary has.
    StableBroken {
        /// Of so many pods.
        replicas: u32,
        /// In their own words.
        trouble: Option<PodProblem>,
    },
    /// The version to go back to can't run.
    RestoreFailed {
        /// In its pods' own words.
        trouble: PodProblem,
    },
    // --- the world
    /// An act fails, and is tried again.
    Failing {
        /// Which.
        act: String,
        /// What the world says.
        message: String,
        /// So many times.
        attempts: u32,
    },
    /// An act was refused for good.
    ActRefused {
        /// Which.
        act: String,
        /// What the world says.
        message: String,
    },
    /// A phase takes longer than the policy allows, and goes on trying.
    Slow {
        /// What it waits for.
        waiting_for: String,
        /// For so long already.
        after: Span,
    },
}

/// A field manager's name, or a word for nobody in particular.
fn somebody(by: &Option<String>) -> &str {
    by.as_deref().unwrap_or("somebody")
}

fn sentence(evidence: &[Evidence]) -> String {
    evidence.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// `v1 → v2`, or with the containers' names if there are several.
pub fn change(from: &Images, to: &Images) -> String {
    let changed: Vec<(&String, &String, Option<&String>)> = to
        .iter()
        .map(|(container, image)| (container, image, from.get(container)))
        .filter(|(_, image, before)| *before != Some(*image))
        .collect();
    let arrow = |image: &str, before: Option<&String>| match before {
        Some(before) => format!("{} → {}", version(before), version(image)),
        None => version(image).to_owned(),
    };
    match changed.as_slice() {
        [] => "the same images".to_owned(),
        [(_, image, before)] => arrow(image, *before),
        many => many
            .iter()
            .map(|(container, image, before)| format!("{container} {}", arrow(image, *before)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Requested { by, why: Some(why) } => write!(f, "requested by {by}: {why}"),
            Reason::Requested { by, why: None } => write!(f, "requested by {by}"),
            Reason::Deployed { by, artifact: Some(artifact) } => write!(f, "{by} says that it deployed {artifact}"),
            Reason::Deployed { by, artifact: None } => write!(f, "{by} says that it deployed"),
            Reason::Duplicate { event } => write!(f, "event {event} has come before"),
            Reason::Stale { time, last } => {
                write!(f, "the event is of {time}, and one of {last} has been accepted already")
            }
            Reason::Irrelevant => f.write_str("nothing that is known depends on it"),
            Reason::NoPolicy { workload } => {
                write!(f, "no policy is for {workload}; add one whose match names its namespace and name")
            }
            Reason::WrongPolicy { policy, workload } => {
                write!(
                    f,
                    "there is no policy {policy:?} that is for {workload}; leave the policy out, or extend its match"
                )
            }
            Reason::NoImage => f.write_str("the event names no image; give `image`, or `images` by container"),
            Reason::ImageNotAllowed { image, policy, allowed } => write!(
                f,
                "policy {policy} does not let image {image} in (it allows {}); add its repository to match.images",
                allowed.join(", ")
            ),
            Reason::Queued => f.write_str("another rollout of the workload runs; this one waits for it"),
            Reason::Aborted { order } => write!(f, "aborted by {order}"),
            Reason::Recalled { by } => write!(f, "event {by} asks for the version that the stable runs"),
            Reason::Promoted { order, skips } if skips.is_empty() => {
                write!(f, "promoted by {order}; every check passes, so nothing is skipped")
            }
            Reason::Promoted { order, skips } => write!(f, "promoted by {order}; skipped: {}", skips.join(", ")),
            Reason::Paused { order } => write!(f, "paused by {order}"),
            Reason::Resumed { order } => write!(f, "resumed by {order}: it looks again, with fresh patience"),
            Reason::Approved { order, gate } => write!(f, "gate {gate} was opened by {order}"),
            Reason::Retried { order, of } => write!(f, "{of} is tried again, by {order}"),
            Reason::Frozen { scope, order, until: Some(until) } => {
                write!(f, "{scope} is frozen until {until} by {order}: nothing starts, and no weight rises")
            }
            Reason::Frozen { scope, order, until: None } => {
                write!(f, "{scope} is frozen by {order}: nothing starts, and no weight rises")
            }
            Reason::Unfrozen { scope, order } => write!(f, "{scope} is frozen no longer, by {order}"),
            Reason::CantObey { verb, instead } => write!(f, "can't {verb}: {instead}"),
            Reason::Tested { report } => report.fmt(f),
            Reason::NeedsReport { suite, report: None } => {
                write!(f, "suite {suite} is required before the first traffic, and nobody has reported that it passed")
            }
            Reason::NeedsReport { suite, report: Some(report) } => {
                write!(f, "suite {suite} is required before the first traffic, and has not passed: {report}")
            }
            Reason::NeedsApproval { gate, before } => write!(f, "gate {gate} waits for an approval before {before}"),
            Reason::OutsideWindow { window, opens } => {
                write!(f, "outside the change window ({window}), which opens at {opens}")
            }
            Reason::Quarantined { images, since, rollout, why } => write!(
                f,
                "{} is quarantined since {since}, because {rollout} failed: {why}; `bellwether emit retry` lifts it",
                change(&Images::new(), images)
            ),
            Reason::AmbiguousImage { image, fits, containers } if fits.is_empty() => write!(
                f,
                "image {image} has the repository of no container (there are {}); name the container in `images`",
                containers.join(", ")
            ),
            Reason::AmbiguousImage { image, fits, .. } => {
                write!(f, "image {image} fits containers {}; name one of them in `images`", fits.join(" and "))
            }
            Reason::NoContainer { container, containers } => {
                write!(f, "the workload has no container {container:?}; it has {}", containers.join(", "))
            }
            Reason::Unexpected { container, expected, found } => {
                write!(f, "container {container} runs {found}, and the event expects {expected}; look, then ask again")
            }
            Reason::Unchanged => f.write_str("the workload runs these images already"),
            Reason::NoReplicas => {
                f.write_str("the workload is scaled to 0, so there is nothing to compare a canary with")
            }
            Reason::NoWorkload { workload, message } => write!(f, "there is no {workload}: {message}"),
            Reason::Obstructed { issues } => {
                f.write_str(&issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            Reason::Accepted { from, to, warnings } => {
                f.write_str(&change(from, to))?;
                warnings.iter().try_for_each(|warning| write!(f, "; beware: {warning}"))
            }
            Reason::Guardable { to } => write!(f, "guarding {}", change(&Images::new(), to)),
            Reason::NoLastGood => f.write_str(
                "no earlier version is known to have been good, so there is nothing to go back to; not guarded",
            ),
            Reason::Unreadable { problems } => write!(f, "the policy's metrics can't be read: {}", problems.join("; ")),
            Reason::CanaryReady { replicas: 1, took } => {
                write!(
                    f,
                    "the canary is available after {took} (1 pod: a fault of that pod or its node looks like a fault of the version)"
                )
            }
            Reason::CanaryReady { replicas, took } => {
                write!(f, "the canary's {replicas} pods are available after {took}")
            }
            Reason::CanaryFailed { trouble } => write!(f, "the canary can't run: pod {trouble}"),
            Reason::NotReady { available, replicas, within } => {
                write!(f, "{available} of {replicas} canary pods were available within {within}")
            }
            Reason::BaselineNotReady { available, replicas, within, trouble } => {
                write!(
                    f,
                    "{available} of {replicas} pods of the fresh baseline were available within {within}, and without it the canary would be compared with pods that are warm"
                )?;
                trouble.iter().try_for_each(|trouble| write!(f, "; pod {trouble}"))
            }
            Reason::Passed { evidence, after } => write!(f, "{}; watched for {after}", sentence(evidence)),
            Reason::Regressed { evidence } | Reason::Insufficient { evidence } => f.write_str(&sentence(evidence)),
            Reason::Undecided { score, until } => write!(f, "no winner yet: {score}; a draw at {until}"),
            Reason::Won { score } => write!(f, "the canary has won: {score}"),
            Reason::Lost { score } => write!(f, "the stable has won: {score}"),
            Reason::Draw { score, after, stays } => {
                let stays = match stays {
                    Stays::Stable => "the stable",
                    Stays::Canary => "the canary",
                };
                write!(f, "a draw after {after}, and {stays} stays: {score}")
            }
            Reason::Warned { evidence } => write!(f, "{evidence}; this check only warns"),
            Reason::Blind { evidence, since } => {
                write!(f, "blind since {since}: {}; not judging, nothing was changed", sentence(evidence))
            }
            Reason::ShareOff { asked, seen, n } => write!(
                f,
                "the canary gets {:.1} % of the traffic, and {asked} was asked for (of {n} requests); the route or sticky sessions split otherwise",
                seen * 100.0
            ),
            Reason::Waiting { until, passing: true } => write!(f, "all checks pass; the step's time ends at {until}"),
            Reason::Waiting { until, passing: false } => {
                write!(f, "waiting for the first counts; the step's time ends at {until}")
            }
            Reason::Recovered => f.write_str("what was missing has come back"),
            Reason::HoldExpired { held, after } => write!(f, "held for {after} without a decision: {held}"),
            Reason::Superseded { by } => write!(f, "event {by} asks for a newer version"),
            Reason::StableReady { replicas, took } => {
                write!(f, "the workload's {replicas} pods are available with the new version after {took}")
            }
            Reason::StableFailed { trouble } => write!(f, "the workload can't run with the new version: pod {trouble}"),
            Reason::StableNotReady { available, replicas, within } => {
                write!(f, "{available} of {replicas} pods were available with the new version within {within}")
            }
            Reason::Restored { replicas } => {
                write!(f, "the workload's {replicas} pods are available with the old version again")
            }
            Reason::Emptied => f.write_str("the canary has no traffic any more"),
            Reason::CanaryGone => f.write_str("nothing of the canary is left"),
            Reason::GuardPassed { evidence, after } => write!(f, "{}; guarded for {after}", sentence(evidence)),
            Reason::NoGuard => f.write_str("the policy has no guard"),
            Reason::TemplateEdited { by } => write!(
                f,
                "{} has changed the workload's pod template meanwhile, and what this rollout rests on is gone; `resume` accepts the new one, `abort` ends it and leaves the new one alone",
                somebody(by)
            ),
            Reason::Scaled { from, to, by } => write!(
                f,
                "{by} has scaled the workload from {from} to {to} meanwhile; `resume` goes on with {to}, `abort` ends it"
            ),
            Reason::Reverted { what, by } => write!(f, "{} has changed {what}; it is put back", somebody(by)),
            Reason::RevertedTooOften { what, by, times } => write!(
                f,
                "{} has changed {what} again, after it was put back {times} times; `resume` puts it back once more, `abort` ends it",
                somebody(by)
            ),
            Reason::CanaryDeleted => f.write_str("somebody has deleted the canary"),
            Reason::Rebased { order } => write!(f, "{order} accepts the workload's new pod template"),
            Reason::StableBroken { replicas, trouble } => {
                write!(f, "none of the workload's {replicas} pods is available with the old version")?;
                if let Some(trouble) = trouble {
                    write!(f, " (pod {trouble})")?;
                }
                f.write_str(", and the canary keeps its traffic; `promote --full` goes on with the new one")
            }
            Reason::RestoreFailed { trouble } => write!(
                f,
                "the version to go back to can't run either: pod {trouble}; it goes on trying, and somebody has to look"
            ),
            Reason::Failing { act, message, attempts } => write!(f, "{act} fails, {attempts} times so far: {message}"),
            Reason::ActRefused { act, message } => write!(f, "{act} was refused: {message}"),
            Reason::Slow { waiting_for, after } => {
                write!(f, "still waiting for {waiting_for} after {after}; it goes on trying, but somebody should look")
            }
        }
    }
}
