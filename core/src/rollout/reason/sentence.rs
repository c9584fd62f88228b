//! The sentences of reasons.

use std::fmt;

use super::Reason;
use crate::ids::{Images, version};
use crate::judge::evidence::Evidence;
use crate::policy::OnDraw;
use crate::rollout::answers::MutePods;

/// Returns the field manager's name, or a phrase for an unknown one.
fn client(by: &Option<String>) -> &str {
    by.as_deref().unwrap_or("an unknown client")
}

/// Returns the sentences of several checks, joined, or a phrase for none.
fn sentences(evidence: &[Evidence]) -> String {
    if evidence.is_empty() {
        return "no check decides here".to_owned();
    }
    evidence.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Returns the change of images as versions, as in `v1 → v2`, with the containers' names if several change.
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
            Reason::Deployed { by, artifact: Some(artifact) } => write!(f, "{by} reports that it deployed {artifact}"),
            Reason::Deployed { by, artifact: None } => write!(f, "{by} reports a deployment"),
            Reason::Duplicate { event } => write!(f, "event {event} was processed before"),
            Reason::Stale { time, last } => {
                write!(f, "the event's time is {time}, and an event of {last} was accepted before it")
            }
            Reason::Irrelevant => f.write_str("the event concerns no known workload"),
            Reason::NoPolicy { workload } => {
                write!(f, "no policy covers {workload}; add one whose match names its namespace and name")
            }
            Reason::Uncovered { policy } => write!(
                f,
                "no policy covers the workload any more: policy {policy} was removed, or its match was narrowed; the rollout goes on by it, and `abort` ends it"
            ),
            Reason::WrongPolicy { policy, workload } => {
                write!(
                    f,
                    "no policy {policy:?} covers {workload}; leave the policy out of the request, or extend its match"
                )
            }
            Reason::Isolated { workload, why } => write!(f, "{workload} is isolated: {why}"),
            Reason::NoImage => f.write_str("the event names no image; give `image`, or `images` by container"),
            Reason::ImageNotAllowed { image, policy, allowed } => write!(
                f,
                "policy {policy} does not allow image {image} (it allows {}); add its repository to match.images",
                allowed.join(", ")
            ),
            Reason::Queued { behind, phase } => write!(f, "waits for the end of {behind}, which is {phase}"),
            Reason::Aborted { author, undoes, drops } => {
                write!(f, "aborted by {author}")?;
                if let Some(undoes) = undoes {
                    write!(f, "; the workload goes back ({undoes} is undone)")?;
                }
                drops.iter().try_for_each(|drops| write!(f, "; {drops}, which waited for it, does not begin"))
            }
            Reason::AbortedWaiting { author, goes_on } => {
                write!(f, "aborted by {author} before it began")?;
                goes_on.iter().try_for_each(|why| write!(f, "; {why}"))
            }
            Reason::Released { author } => {
                write!(f, "released by {author}: all traffic was given to the stable without the daemon")
            }
            Reason::Recalled { by } => write!(f, "event {by} requests the version that the stable runs"),
            Reason::Promoted { author, skips } if skips.is_empty() => {
                write!(f, "promoted by {author}; every check passes, so nothing is skipped")
            }
            Reason::Promoted { author, skips } => write!(f, "promoted by {author}; skipped: {}", skips.join(", ")),
            Reason::Paused { author } => write!(f, "paused by {author}"),
            Reason::Resumed { author } => write!(f, "resumed by {author}; the patience starts again"),
            Reason::Approved { author, approval } => write!(f, "approval {approval} was given by {author}"),
            Reason::Retried { author, of } => write!(f, "{of} is retried by {author}"),
            Reason::Frozen { scope, author, until: Some(until) } => {
                write!(f, "{scope} is frozen until {until} by {author}: nothing starts, and no weight rises")
            }
            Reason::Frozen { scope, author, until: None } => {
                write!(f, "{scope} is frozen by {author}: nothing starts, and no weight rises")
            }
            Reason::Unfrozen { scope, author } => write!(f, "the freeze of {scope} was lifted by {author}"),
            Reason::CantObey { verb, instead } => write!(f, "can't {verb}: {instead}"),
            Reason::Tested { report } => report.fmt(f),
            Reason::NeedsReport { suite, report, too_old, other } => {
                write!(f, "suite {suite} is required before the first traffic, and ")?;
                match (report, too_old, other) {
                    (Some(report), Some(allowed), _) => write!(
                        f,
                        "its report of {} is older than {allowed} (require-max-age); run the suite again",
                        report.at
                    ),
                    (Some(report), None, _) => write!(f, "has not passed: {report}"),
                    (None, _, Some(other)) => {
                        write!(f, "no report on this combination says that it passed; of the newest one: {other}")
                    }
                    (None, _, None) => f.write_str("no report says that it passed"),
                }
            }
            Reason::NeedsApproval { approval, before } => {
                write!(f, "approval {approval} is required before {before}, and has not been given")
            }
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
                "no container runs an image of the repository of {image} (the containers are {}); name the container in `images`",
                containers.join(", ")
            ),
            Reason::AmbiguousImage { image, fits, .. } => {
                write!(
                    f,
                    "containers {} run images of the repository of {image}; with different references; name them in `images`",
                    fits.join(" and ")
                )
            }
            Reason::NoContainer { container, containers } => {
                write!(f, "the workload has no container {container:?}; it has {}", containers.join(", "))
            }
            Reason::Unexpected { container, expected, found } => {
                write!(
                    f,
                    "container {container} runs {found}, and the event expects {expected}; check the workload, then request it again"
                )
            }
            Reason::Unchanged => f.write_str("the workload runs these images already"),
            Reason::NoReplicas => {
                f.write_str("the workload is scaled to 0, so there is nothing to compare a canary with")
            }
            Reason::NoWorkload { workload, message } => write!(f, "workload {workload} does not exist: {message}"),
            Reason::Obstructed { issues } => {
                f.write_str(&issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            Reason::Accepted { from, to, warnings } => {
                f.write_str(&change(from, to))?;
                warnings.iter().try_for_each(|warning| write!(f, "; warning: {warning}"))
            }
            Reason::Guardable { to } => write!(f, "guarding {}", change(&Images::new(), to)),
            Reason::NoLastGood => {
                f.write_str("no last good version is known, so there is none to restore; not guarded")
            }
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
            Reason::CanaryUnready { ready, replicas, problem, times } => {
                write!(f, "{ready} of the {replicas} canary pods that its traffic needs are ready")?;
                if let Some(problem) = problem {
                    write!(f, " ({problem})")?;
                }
                match times {
                    0 => f.write_str("; its traffic is taken back until they are"),
                    1 => f.write_str("; its traffic was taken back once before"),
                    times => write!(f, "; its traffic was taken back {times} times before"),
                }
            }
            Reason::Restarts { restarts, pods, time, before, before_time } => write!(
                f,
                "the new version's containers restart more often than those of the version before: {restarts} times in {pods} pods \
                 ({time} of all their pods together), those before {before} times in {before_time}"
            ),
            Reason::NoRoom { problem, after } => write!(
                f,
                "the cluster does not run the pods that are waited for, {after} after the last progress: {problem}; nothing is held against the version"
            ),
            Reason::RouteRefused { message } => write!(
                f,
                "the gateway refuses the route with the canary's Service in it, so the canary gets no more traffic: {message}; nothing is held against the version"
            ),
            Reason::CanaryFailed { problem } => write!(f, "the canary can't run: pod {problem}"),
            Reason::NotReady { available, replicas, within } => {
                write!(f, "{available} of {replicas} canary pods were available within {within}")
            }
            Reason::BaselineNotReady { available, replicas, within, problem } => {
                write!(
                    f,
                    "{available} of {replicas} pods of the fresh baseline were available within {within}, and without it the canary would be compared with pods that are warm"
                )?;
                problem.iter().try_for_each(|problem| write!(f, "; pod {problem}"))
            }
            Reason::Passed { evidence, after } => write!(f, "{}; watched for {after}", sentences(evidence)),
            Reason::Regressed { evidence } | Reason::Insufficient { evidence } => evidence.fmt(f),
            Reason::Unmeasured { since } => {
                write!(f, "no counts have arrived since {since}; nothing is judged and nothing is changed")
            }
            Reason::Undecided { score, until } => write!(f, "no winner yet: {score}; it ends in a draw at {until}"),
            Reason::Won { score } => write!(f, "the canary has won: {score}"),
            Reason::Lost { score } => write!(f, "the stable has won: {score}"),
            Reason::Draw { score, after, stays } => {
                let stays = match stays {
                    OnDraw::Stable => "the stable",
                    OnDraw::Canary => "the canary",
                };
                write!(f, "a draw after {after}, and {stays} stays: {score}")
            }
            Reason::Warned { evidence } => write!(f, "{evidence}; this check only warns"),
            Reason::Blind { evidence, since } => {
                write!(f, "blind since {since}: {evidence}; nothing is judged and nothing is changed")
            }
            Reason::ShareOff { asked, seen, n, stays } => {
                write!(f, "the canary has {:.1} % of the {n} counted requests instead of {asked}; ", seen * 100.0)?;
                if *stays {
                    return f.write_str(
                        "the stable still gets as many as before, so the route does not send the canary its share",
                    );
                }
                f.write_str("the route or sticky sessions split them differently")?;
                if *seen < asked.as_share() {
                    f.write_str(", or the new version answers few of its requests, or counts them under another name")?;
                }
                Ok(())
            }
            Reason::Silence { missing, time } => write!(
                f,
                "no request was counted for {time} although the canary has all of the traffic, and about {missing} came in such a time before; the new version answers none, or there are none"
            ),
            Reason::Mute(MutePods { pods, ready, requests, time }) => write!(
                f,
                "no request was counted for {time} in {pods} of the canary's {ready} ready pods, and {requests} in the others; look at a pod that hangs or can't be scraped"
            ),
            Reason::Waiting { until, passing: true } => write!(f, "all checks pass; the step's time ends at {until}"),
            Reason::Waiting { until, passing: false } => {
                write!(f, "waiting for the first counts; the step's time ends at {until}")
            }
            Reason::Recovered => f.write_str("the cause of the hold is gone"),
            Reason::HoldExpired { held, after } => write!(f, "held for {after} without a decision: {held}"),
            Reason::Superseded { by } => write!(f, "event {by} requests a newer version"),
            Reason::StableReady { replicas, took } => {
                write!(f, "the workload's {replicas} pods are available with the new version after {took}")
            }
            Reason::StableFailed { problem } => write!(f, "the workload can't run with the new version: pod {problem}"),
            Reason::StableNotReady { available, replicas, within } => {
                write!(f, "{available} of {replicas} pods were available with the new version within {within}")
            }
            Reason::Restored { replicas } => {
                write!(f, "the workload's {replicas} pods are available with the old version again")
            }
            Reason::Emptied => f.write_str("the canary has no traffic any more"),
            Reason::CanaryGone => f.write_str("the canary is removed"),
            Reason::GuardPassed { evidence, after } => write!(f, "{}; guarded for {after}", sentences(evidence)),
            Reason::NoGuard => f.write_str("the policy has no guard"),
            Reason::TemplateEdited { by } => write!(
                f,
                "{} has changed the workload's pod template during the rollout; `resume` accepts the new template and starts again from it, `abort` ends the rollout and keeps the new template",
                client(by)
            ),
            Reason::Scaled { from, to, by } => write!(
                f,
                "{by} has scaled the workload from {from} to {to} during the rollout; `resume` goes on with {to}, `abort` ends the rollout"
            ),
            Reason::Reverted { object, by } => write!(f, "{} has changed {object}; the change is reverted", client(by)),
            Reason::RevertedTooOften { object, by, times } => write!(
                f,
                "{} has changed {object} again after {times} reverts; `resume` reverts it once more, `abort` ends the rollout",
                client(by)
            ),
            Reason::CanaryDeleted => f.write_str("an unknown client has deleted the canary"),
            Reason::Rebased { author } => write!(f, "{author} accepts the workload's new pod template"),
            Reason::StableBroken { replicas, problem } => {
                write!(f, "none of the workload's {replicas} pods is available with the old version")?;
                if let Some(problem) = problem {
                    write!(f, " (pod {problem})")?;
                }
                f.write_str(", and the canary keeps its traffic; `promote --full` promotes the new version")
            }
            Reason::RestoreFailed { problem } => write!(
                f,
                "the version to restore can't run either: pod {problem}; the restore goes on, and a person has to remove the cause"
            ),
            Reason::Failing { act, message, attempts } => write!(f, "{act} fails, {attempts} times so far: {message}"),
            Reason::ActRefused { act, message } => write!(f, "{act} was refused: {message}"),
            Reason::Slow { waiting_for, after } => {
                write!(
                    f,
                    "still waiting for {waiting_for} after {after}; the rollout keeps trying, but a person should check"
                )
            }
        }
    }
}
