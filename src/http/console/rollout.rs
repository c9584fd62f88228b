//! The page of one rollout: its reason, its steps, its checks as charts, its pods, its decisions, and the same facts elsewhere.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template;
use bellwether_core::engine::detail::{ArmPods, ArmValue, CheckNumbers, Weighed};
use bellwether_core::engine::view::{AnswerView, CheckView, DecisionView, RolloutView, StatusView};
use bellwether_core::ids::{Images, Weight, sender_name};
use bellwether_core::time::{Span, Timestamp};

use super::Frame;
use super::chart::{CheckChart, SharesChart, TimeAxis, stretch};
use super::headline::Headline;
use super::sending::{SOURCE, SentRow};
use super::text::{When, share};
use super::verbs::VerbWords;
use crate::http::rollouts::of_id;
use crate::show::ViewAges;
use crate::show::course::{CheckCourse, Course};
use crate::show::standing::{Badge, Standing};
use crate::show::verb::shell_word;

/// The most other rollouts of the workload that are listed.
const MOST_OTHERS: usize = 10;
/// The most time before the first look that charts show, to begin with the decision before it.
const MOST_BEFORE: Span = Span::from_secs(600);
/// The most squares that stand for the pods of an arm.
const MOST_SQUARES: u32 = 40;

/// The facts about one rollout, copied from the view.
pub(super) struct RolloutFacts {
    rollout: Arc<RolloutView>,
    /// Other rollouts of the workload, the newest first.
    others: Vec<Arc<RolloutView>>,
    /// The answers to the events that concern it.
    answers: Vec<AnswerView>,
    /// The answer to the verb that was sent from the console; `None` if none was.
    sent: Option<SentRow>,
}

impl RolloutFacts {
    /// Returns the facts about the rollout with this id; `None` if there is none. `event` is the id of a verb's event.
    pub(super) fn of(view: &StatusView, ages: &ViewAges, id: &str, event: Option<&str>) -> Option<RolloutFacts> {
        let rollout = of_id(view, ages, id)?;
        let all = view.rollouts.values().chain(view.followed.values());
        let mut others: Vec<&Arc<RolloutView>> =
            all.filter(|other| other.workload == rollout.workload && other.id != rollout.id).collect();
        others.sort_by(|one, other| other.started.cmp(&one.started).then_with(|| one.id.cmp(&other.id)));
        others.dedup_by(|one, other| one.id == other.id);
        let others = others.into_iter().take(MOST_OTHERS).cloned().collect();
        let concerns = |answer: &&AnswerView| answer.rollout.as_deref() == Some(id);
        let mut answers: Vec<AnswerView> = view.answers.values().filter(concerns).cloned().collect();
        answers.sort_by_key(|answer| answer.at);
        let sent = event.and_then(|event| SentRow::of(event, answer_to(view, event)));
        Some(RolloutFacts { rollout, others, answers, sent })
    }

    /// Returns the age of the rollout's view; `None` if it is the present one.
    pub(super) fn age(&self) -> Option<Span> {
        self.rollout.age
    }
}

/// Returns the answer to an event that was sent from the console.
pub(super) fn answer_to<'a>(view: &'a StatusView, event: &str) -> Option<&'a AnswerView> {
    view.answers.values().find(|answer| answer.id == event && answer.source.starts_with(SOURCE))
}

/// A row of the table of steps.
struct StepRow {
    number: usize,
    weight: String,
    seen: String,
    min_time: String,
    state: &'static str,
    sign: &'static str,
    class: &'static str,
    reached: Option<When>,
}

/// A row of the table of checks.
struct CheckRow {
    check: CheckView,
    badge: Badge,
    canary: String,
    stable: String,
}

/// A check's chart with its words.
struct CheckFigure {
    measured: String,
    badge: Option<Badge>,
    sentence: String,
    chart: CheckChart,
    /// The values as words, for readers without a picture.
    summary: String,
    evidence: Vec<EvidenceWords>,
    /// The looks over the limit in a row, for a judge that counts them.
    breaches: Option<String>,
    limit: String,
}

/// Evidence beside its boundary, in words and as a bar.
struct EvidenceWords {
    /// The side: `against` or `for`.
    side: &'static str,
    /// The evidence, as odds to one.
    has: String,
    /// The evidence that decides, as odds to one.
    needs: String,
    /// The part of the way to the boundary in percent, from 0 to 100.
    percent: String,
    /// The result at the boundary.
    result: &'static str,
    class: &'static str,
}

/// A row of the table of pods.
struct PodsRow {
    arm: &'static str,
    wanted: u32,
    ready: u32,
    available: u32,
    outdated: u32,
    restarts: u32,
    problem: String,
    /// The classes of the squares, one for each pod.
    squares: Vec<(u32, &'static str)>,
    /// The width of the squares together.
    width: u32,
}

/// A container's images.
struct ImageRow {
    container: String,
    from: String,
    to: String,
    changes: bool,
}

struct DecisionRow {
    when: When,
    decision: String,
    step: String,
    reason: String,
    /// The person or tool that asked for it, by name and by source.
    by: Option<(String, String)>,
}

struct OtherRow {
    id: String,
    badge: Badge,
    versions: String,
    when: When,
    reason: String,
}

struct AnswerRow {
    when: When,
    source: String,
    id: String,
    result: String,
    reason: String,
}

struct CommandRow {
    purpose: &'static str,
    command: String,
}

/// The page of one rollout.
#[derive(Template)]
#[template(path = "rollout.html")]
pub(super) struct RolloutPage {
    frame: Frame,
    head: Headline,
    policy: String,
    since: When,
    started: When,
    ended: Option<When>,
    age: Option<String>,
    next: String,
    deadlines: Vec<(When, &'static str)>,
    steps: Vec<StepRow>,
    guard: Option<String>,
    shares: Option<SharesChart>,
    route: Option<String>,
    checks: Vec<CheckRow>,
    figures: Vec<CheckFigure>,
    charted_since: Option<When>,
    pods: Vec<PodsRow>,
    images: Vec<ImageRow>,
    decisions: Vec<DecisionRow>,
    others: Vec<OtherRow>,
    answers: Vec<AnswerRow>,
    commands: Vec<CommandRow>,
    verbs: Vec<VerbWords>,
    sent: Option<SentRow>,
}

impl RolloutPage {
    /// Returns the page of a rollout, as it is seen at `now`. `course` is its course, if this process knows one.
    pub(super) fn new(frame: Frame, facts: RolloutFacts, course: Option<Arc<Course>>, now: Timestamp) -> RolloutPage {
        let RolloutFacts { rollout, others, answers, sent } = facts;
        let course = course.as_deref();
        let detail = course.map(|course| &course.detail);
        let deadlines = detail.iter().flat_map(|detail| &detail.deadlines);
        let deadlines = deadlines.filter(|(at, _)| *at > now && rollout.ended.is_none());
        let axis = course.and_then(|course| {
            let (first, last) = stretch(&course.shares)?;
            let decided = rollout.history.iter().rev().map(|entry| entry.at).find(|at| *at <= first);
            let first = decided.filter(|at| Span::between(*at, first) <= MOST_BEFORE).unwrap_or(first);
            Some(TimeAxis::new((first, last), &marks(&rollout)))
        });
        RolloutPage {
            frame,
            head: Headline::of(&rollout),
            policy: rollout.policy.clone(),
            since: When::seen(rollout.since, now),
            started: When::seen(rollout.started, now),
            ended: rollout.ended.map(|ended| When::seen(ended, now)),
            age: rollout.age.map(|age| age.to_string()),
            next: rollout.next.clone(),
            deadlines: deadlines.map(|(at, meaning)| (When::seen(*at, now), *meaning)).collect(),
            steps: steps(&rollout, course, now),
            guard: detail.and_then(|detail| detail.guard).map(|length| length.to_string()),
            shares: course.zip(axis.as_ref()).and_then(|(course, axis)| SharesChart::new(&course.shares, axis)),
            route: detail.and_then(|detail| detail.route.clone()),
            checks: rollout.checks.iter().cloned().map(CheckRow::of).collect(),
            figures: course.zip(axis).map(|(course, axis)| figures(&rollout, course, &axis)).unwrap_or_default(),
            charted_since: course.and_then(Course::since).map(|since| When::seen(since, now)),
            pods: course.map(pods).unwrap_or_default(),
            images: images(&rollout),
            decisions: rollout.history.iter().rev().map(|decision| decision_row(decision, now)).collect(),
            others: others.iter().map(|other| OtherRow::of(other, now)).collect(),
            answers: answers.into_iter().map(|answer| AnswerRow::of(answer, now)).collect(),
            commands: commands(&rollout),
            verbs: rollout.verbs.iter().filter_map(|offer| VerbWords::of(offer, &rollout)).collect(),
            sent,
        }
    }
}

/// Returns the decisions that charts mark, each with its time, label and words.
fn marks(rollout: &RolloutView) -> Vec<(Timestamp, String, String)> {
    let marked = rollout.history.iter().filter(|entry| !matches!(entry.decision.as_str(), "proceed" | "warn"));
    let label = |decision: &str, step: Option<(usize, usize)>| match (decision, step) {
        ("advance", Some((step, _))) => format!("step {step}"),
        (decision, _) => decision.to_owned(),
    };
    marked.map(|entry| (entry.at, label(&entry.decision, entry.step), entry.decision.clone())).collect()
}

fn steps(rollout: &RolloutView, course: Option<&Course>, now: Timestamp) -> Vec<StepRow> {
    let Some((current, _)) = rollout.step else { return Vec::new() };
    let planned = course.map(|course| course.detail.steps.as_slice()).unwrap_or_default();
    let standing = Standing::of(rollout);
    let rows = planned.iter().zip(1..).map(|(step, number)| {
        let advanced =
            |entry: &&DecisionView| entry.decision == "advance" && entry.step.is_some_and(|(at, _)| at == number);
        let (state, sign, class) = match (number.cmp(&current), standing) {
            (_, Standing::Promoted) | (Ordering::Less, _) => ("passed", "✔", "passed"),
            (Ordering::Greater, _) | (_, Standing::Queued) => ("ahead", "○", "ahead"),
            (_, Standing::RolledBack) => ("ended here", "✖", "failed"),
            (_, Standing::Stopped) => ("ended here", "■", "stopped"),
            (_, Standing::Held) => ("held", "‖", "held"),
            (_, Standing::Unreadable | Standing::Running) => ("now", "▶", "now"),
        };
        StepRow {
            number,
            weight: step.weight.to_string(),
            seen: seen_at(course, step.weight).map_or_else(|| "–".to_owned(), share),
            min_time: step.min_time.to_string(),
            state,
            sign,
            class,
            reached: rollout.history.iter().find(advanced).map(|entry| When::seen(entry.at, now)),
        }
    });
    rows.collect()
}

/// Returns the newest share of the requests that was counted while this weight was asked for.
fn seen_at(course: Option<&Course>, weight: Weight) -> Option<f64> {
    let asked = weight.as_share() as f32;
    let points = course?.shares.points().iter().rev();
    points.filter(|(_, point)| point.asked == asked).find_map(|(_, point)| point.seen).map(f64::from)
}

impl CheckRow {
    fn of(check: CheckView) -> CheckRow {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
        let (canary, stable) = (value(&check.canary), value(&check.stable));
        CheckRow { badge: Badge::of_verdict(&check.verdict), canary, stable, check }
    }
}

/// Returns the charts: first those of the present checks, then those of earlier ones.
fn figures(rollout: &RolloutView, course: &Course, axis: &TimeAxis) -> Vec<CheckFigure> {
    let present = rollout.checks.iter().filter_map(|check| Some((course.checks.get(&check.name)?, Some(check))));
    let is_present = |name: &String| rollout.checks.iter().any(|check| check.name == *name);
    let earlier = course.checks.iter().filter(|(name, _)| !is_present(name)).map(|(_, course)| (course, None));
    let figure = |(course, check): (&CheckCourse, Option<&CheckView>)| {
        let numbers = &course.numbers;
        Some(CheckFigure {
            measured: numbers.measured.clone(),
            badge: check.map(|check| Badge::of_verdict(&check.verdict)),
            sentence: check.map(|check| check.sentence.clone()).unwrap_or_default(),
            chart: CheckChart::new(&course.series, axis, numbers.limit, numbers.unit)?,
            summary: summary(numbers),
            evidence: evidence(numbers),
            breaches: numbers.against.is_none().then(|| {
                let (breaches, needed) = numbers.breaches;
                format!("Looks over the limit in a row: {breaches}; a regression at {needed}.")
            }),
            limit: format!("{} {}", numbers.limit.kept(), numbers.unit.show(numbers.limit.value())),
        })
    };
    present.chain(earlier).filter_map(figure).collect()
}

/// Returns the newest numbers of a chart in words.
fn summary(numbers: &CheckNumbers) -> String {
    let arm = |name: &str, value: Option<ArmValue>| {
        let Some(arm) = value else { return format!("{name} –") };
        let between = arm.between.map_or_else(String::new, |(lower, upper)| {
            format!(", between {} and {}", numbers.unit.show(lower), numbers.unit.show(upper))
        });
        let of = if arm.n > 0 { format!(" (n = {})", arm.n) } else { String::new() };
        format!("{name} {}{of}{between}", numbers.unit.show(arm.value))
    };
    let limit = format!("limit {} {}", numbers.limit.kept(), numbers.unit.show(numbers.limit.value()));
    format!("{}; {}; {limit}", arm("new version", numbers.subject), arm("stable", numbers.stable))
}

fn evidence(numbers: &CheckNumbers) -> Vec<EvidenceWords> {
    let words = |side, weighed: Weighed, result, class| {
        let (has, needs) = weighed.odds();
        let percent = format!("{:.0}", weighed.part().clamp(0.0, 1.0) * 100.0);
        EvidenceWords { side, has, needs, percent, result, class }
    };
    let against = numbers.against.map(|weighed| words("against", weighed, "it is rolled back", "against"));
    let toward = numbers.toward.map(|weighed| words("for", weighed, "the check passes", "toward"));
    against.into_iter().chain(toward).collect()
}

fn pods(course: &Course) -> Vec<PodsRow> {
    let row = |arm: &ArmPods| {
        let shown = arm.wanted.max(arm.updated).min(MOST_SQUARES);
        let class = |n| {
            if n < arm.ready {
                "ready"
            } else if n < arm.updated {
                "starting"
            } else {
                "missing"
            }
        };
        PodsRow {
            arm: arm.arm,
            wanted: arm.wanted,
            ready: arm.ready,
            available: arm.available,
            outdated: arm.outdated,
            restarts: arm.restarts,
            problem: arm.problem.clone().unwrap_or_default(),
            squares: (0..shown).map(|n| (n * 12, class(n))).collect(),
            width: (shown * 12).max(1),
        }
    };
    course.detail.arms.iter().map(row).collect()
}

fn images(rollout: &RolloutView) -> Vec<ImageRow> {
    let containers: BTreeSet<&String> = rollout.from.keys().chain(rollout.to.keys()).collect();
    let row = |container: &String| {
        let image = |images: &Images| images.get(container).cloned().unwrap_or_default();
        let (from, to) = (image(&rollout.from), image(&rollout.to));
        ImageRow { container: container.clone(), changes: from != to && !to.is_empty(), from, to }
    };
    containers.into_iter().map(row).collect()
}

fn decision_row(decision: &DecisionView, now: Timestamp) -> DecisionRow {
    DecisionRow {
        when: When::seen(decision.at, now),
        decision: decision.decision.clone(),
        step: decision.step.map_or_else(|| "–".to_owned(), |(step, of)| format!("{step}/{of}")),
        reason: decision.reason.clone(),
        by: decision.by.as_ref().map(|source| (sender_name(source).to_owned(), source.clone())),
    }
}

impl OtherRow {
    fn of(rollout: &RolloutView, now: Timestamp) -> OtherRow {
        OtherRow {
            id: rollout.id.clone(),
            badge: Badge::of(rollout),
            versions: rollout.versions(),
            when: When::seen(rollout.started, now),
            reason: rollout.reason.clone(),
        }
    }
}

impl AnswerRow {
    fn of(answer: AnswerView, now: Timestamp) -> AnswerRow {
        let when = When::seen(answer.at, now);
        AnswerRow { when, source: answer.source, id: answer.id, result: answer.result, reason: answer.reason }
    }
}

/// Returns the commands that tell the same facts.
fn commands(rollout: &RolloutView) -> Vec<CommandRow> {
    let id = shell_word(&rollout.id);
    vec![
        CommandRow { purpose: "This page in a terminal", command: format!("bellwether why {id}") },
        CommandRow { purpose: "Wait for its end", command: format!("bellwether status {id} --wait") },
        CommandRow {
            purpose: "Check that its inputs give its decisions",
            command: format!("bellwether replay --check --workload {}", shell_word(&rollout.workload)),
        },
    ]
}
