//! The rules, each a function of the input.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::audit::AuditedWrite;
use crate::facts::{OracleInput, RolloutFacts};
use crate::matrix;

/// The result of one rule.
#[derive(Debug)]
pub struct RuleResult {
    /// The rule, as a short sentence.
    pub rule: &'static str,
    /// Number of things that were checked.
    pub checked: usize,
    /// The violations, each with the thing that breaks the rule.
    pub violations: Vec<String>,
}

/// The difference between a written share and a decided one that is a rounding, in hundredths of a percent.
const ROUNDING: u64 = 2;
/// The time by which the API server may see a request before the decision's time. A decision's time is in milliseconds.
const CLOCK: SignedDuration = SignedDuration::from_millis(5);

/// A rule: its name, and the function that returns the number of checked things and the violations.
type Rule = (&'static str, fn(&OracleInput) -> (usize, Vec<String>));

const RULES: [Rule; 11] = [
    ("enough rollouts and faults", enough),
    ("each rollout is requested and ends", one_ending),
    ("each ending is allowed", allowed_endings),
    ("each decision once", decisions_once),
    ("each decisions record once", records_once),
    ("each effect changes an object once", effects_once),
    ("epochs only rise", epochs_rise),
    ("weights move as decided", weights_as_decided),
    ("versions change as decided", versions_as_decided),
    ("no request to a deleted backend", deleted_backends),
    ("each poison record is a dead letter", dead_letters),
];

/// Checks all rules.
pub fn check(input: &OracleInput) -> Vec<RuleResult> {
    let result = |(rule, check): Rule| {
        let (checked, violations) = check(input);
        RuleResult { rule, checked, violations }
    };
    RULES.map(result).into()
}

fn enough(input: &OracleInput) -> (usize, Vec<String>) {
    let (rollouts, faults) = (input.rollouts.len(), input.story.faults.len());
    let mut violations = Vec::new();
    if rollouts < input.story.least_rollouts || rollouts == 0 {
        violations.push(format!("{rollouts} rollouts of {}", input.story.least_rollouts));
    }
    if faults < input.story.least_faults {
        violations.push(format!("{faults} faults of {}", input.story.least_faults));
    }
    (rollouts + faults, violations)
}

fn one_ending(input: &OracleInput) -> (usize, Vec<String>) {
    let mut violations = Vec::new();
    for (id, rollout) in &input.rollouts {
        if rollout.request.is_none() {
            violations.push(format!("{id} was not requested"));
        }
        let endings = rollout.decisions.iter().filter(|decision| decision.ending.is_some()).count();
        let last = rollout.decisions.last();
        let shown = last.map_or("no decision".to_owned(), |last| format!("its last decision: {}", last.why));
        if endings != 1 {
            violations.push(format!("{id} has {endings} endings; {shown}"));
        } else if last.is_some_and(|last| last.ending.is_none()) {
            violations.push(format!("{id} has decisions after its end; {shown}"));
        }
    }
    (input.rollouts.len(), violations)
}

fn allowed_endings(input: &OracleInput) -> (usize, Vec<String>) {
    let mut violations = Vec::new();
    for (id, rollout) in &input.rollouts {
        let Some(ending) = rollout.ending() else { continue };
        let allowed = matrix::allowed(rollout, &input.story.faults);
        if !allowed.contains(&ending) {
            let faults = input.story.faults.iter().filter(|fault| matrix::concerns(fault, rollout));
            let faults: Vec<_> = faults.map(|fault| fault.kind.as_str()).collect();
            let path: Vec<_> = rollout.decisions.iter().map(|decision| decision.why.as_str()).collect();
            violations.push(format!("{id} is {ending} and may be {allowed:?} with {faults:?}: {path:?}"));
        }
    }
    (input.rollouts.len(), violations)
}

fn decisions_once(input: &OracleInput) -> (usize, Vec<String>) {
    let mut violations = Vec::new();
    for (id, rollout) in &input.rollouts {
        let numbers: Vec<u64> = rollout.decisions.iter().map(|decision| decision.n).collect();
        if !numbers.iter().copied().eq(0..numbers.len() as u64) {
            violations.push(format!("{id} has the decisions {numbers:?}"));
        }
    }
    (input.rollouts.values().map(|rollout| rollout.decisions.len()).sum(), violations)
}

/// Each record is there once, and as many as the journal has counted.
fn records_once(input: &OracleInput) -> (usize, Vec<String>) {
    let mut violations = Vec::new();
    for (workload, numbers) in &input.records {
        if !numbers.iter().copied().eq(0..numbers.len() as u64) {
            violations.push(format!("{workload} has the records {numbers:?}"));
        }
    }
    for (workload, next) in &input.next_records {
        let found = input.records.get(workload).map_or(0, Vec::len) as u64;
        if found != *next {
            violations.push(format!("{workload} has {found} records, and its journal counts {next}"));
        }
    }
    (input.records.values().map(Vec::len).sum(), violations)
}

/// A repeated write of the same effect has the version of the first one. Each route of the story has one workload.
fn effects_once(input: &OracleInput) -> (usize, Vec<String>) {
    let mut versions: BTreeMap<(&str, &str, &str), BTreeSet<u64>> = BTreeMap::new();
    for write in &input.writes {
        for mark in &write.marks {
            versions.entry((&write.object, &write.uid, &mark.effect)).or_default().insert(write.version);
        }
    }
    let twice = versions.iter().filter(|(_, versions)| versions.len() > 1);
    let violation = |((object, _, effect), versions): (&(&str, &str, &str), &BTreeSet<u64>)| {
        format!("{effect} changed {object} {} times, to the versions {versions:?}", versions.len())
    };
    (versions.len(), twice.map(violation).collect())
}

fn epochs_rise(input: &OracleInput) -> (usize, Vec<String>) {
    let (mut checked, mut violations) = (0, Vec::new());
    let mut highest: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for write in by_version(&input.writes) {
        for mark in &write.marks {
            checked += 1;
            let before = highest.entry((&write.object, &mark.workload)).or_default();
            if mark.epoch < *before {
                violations.push(format!("{} was written in epoch {} after {before}", write.object, mark.epoch));
            }
            *before = mark.epoch.max(*before);
        }
    }
    (checked, violations)
}

/// The phases in which a canary's traffic returns to the stable: in pieces, if the stable's pods are too few for all of it.
const LEAVING: [&str; 3] = ["returning", "draining", "restoring"];

/// The shares in the route are those of the decisions, in their order; some may be left out. While the traffic returns, further
/// shares may come between, each lower than the one before.
fn weights_as_decided(input: &OracleInput) -> (usize, Vec<String>) {
    let (mut checked, mut violations) = (0, Vec::new());
    let mut reached: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    let routes = by_version(&input.writes).into_iter().filter(|write| write.object.starts_with("httproutes/"));
    for write in routes {
        for mark in &write.marks {
            let Some(share) = share(&write.spec, &mark.workload) else { continue };
            checked += 1;
            let Some((id, rollout)) = input.rollouts.get_key_value(mark.rollout()) else {
                violations.push(format!("{} has a mark of the unknown {}", write.object, mark.effect));
                continue;
            };
            let (from, last) = reached.entry(id).or_default();
            let falls = share < *last && LEAVING.iter().any(|phase| rollout.was_in(phase, write.at + CLOCK));
            *last = share;
            let decided = rollout.decisions.iter().enumerate().skip(*from);
            let mut in_time = decided.filter(|(_, decision)| decision.at <= write.at + CLOCK);
            match in_time.find(|(_, decision)| decision.weight.abs_diff(share) <= ROUNDING) {
                Some((place, _)) => *from = place,
                None if falls => {}
                None => violations.push(format!(
                    "{} gave {share} hundredths of a percent to {id} at {}, which was not decided: {:?}",
                    mark.effect,
                    write.at,
                    shares(rollout)
                )),
            }
        }
    }
    (checked, violations)
}

fn shares(rollout: &RolloutFacts) -> Vec<(u64, Timestamp)> {
    rollout.decisions.iter().map(|decision| (decision.weight, decision.at)).collect()
}

/// Returns the canary's share in the first rule that has it, in hundredths of a percent; `None` if none has it.
fn share(spec: &Value, workload: &str) -> Option<u64> {
    let canary = format!("{workload}-canary");
    let rules = spec["rules"].as_array()?;
    let backends = rules.iter().filter_map(|rule| rule["backendRefs"].as_array());
    let backends = backends.into_iter().find(|backends| backends.iter().any(|backend| backend["name"] == canary))?;
    let weight = |backend: &Value| backend["weight"].as_u64().unwrap_or(1);
    let sum: u64 = backends.iter().map(weight).sum();
    let of_canary: u64 = backends.iter().filter(|backend| backend["name"] == canary).map(weight).sum();
    Some((of_canary * 10_000 + sum / 2) / sum.max(1))
}

/// A canary runs the requested image. The stable gets it after the decision to promote, and another one after the decision to
/// restore.
fn versions_as_decided(input: &OracleInput) -> (usize, Vec<String>) {
    let (mut checked, mut violations) = (0, Vec::new());
    for write in input.writes.iter().filter(|write| write.object.starts_with("deployments/")) {
        for mark in &write.marks {
            checked += 1;
            let rollout = input.rollouts.get(mark.rollout());
            let Some((rollout, request)) = rollout.and_then(|it| Some((it, it.request.as_ref()?))) else {
                violations.push(format!("{} has a mark of the unknown {}", write.object, mark.effect));
                continue;
            };
            let image = write.spec.pointer("/template/spec/containers/0/image").and_then(Value::as_str);
            let requested = image == Some(&request.image);
            let at = write.at + CLOCK;
            let decided = match write.object.ends_with("-canary") {
                true => requested && rollout.was_in("preparing", at),
                false if requested => rollout.was_in("promoting", at),
                false => rollout.was_in("restoring", at),
            };
            if !decided {
                violations.push(format!("{} gave {image:?} to {} at {}", mark.effect, write.object, write.at));
            }
        }
    }
    (checked, violations)
}

fn deleted_backends(input: &OracleInput) -> (usize, Vec<String>) {
    let mut violations = Vec::new();
    let lost_pods = |workload: &str| {
        let of_workload = |kind: &str, name: &str| matrix::TAKES_PODS.contains(&kind) && name == workload;
        input.story.faults.iter().any(|fault| of_workload(&fault.kind, &fault.workload))
    };
    for (workload, traffic) in input.story.traffic.iter().filter(|(workload, _)| !lost_pods(workload)) {
        if traffic.lost + traffic.gateway_errors > 0 {
            violations.push(format!("of {} requests to {workload}: {traffic:?}", traffic.sent));
        }
    }
    for pod in input.story.pods.iter().filter(|pod| pod.late > 0 && !lost_pods(&pod.workload)) {
        violations.push(format!("{} received {} requests after its deletion", pod.name, pod.late));
    }
    (input.story.traffic.len() + input.story.pods.len(), violations)
}

fn dead_letters(input: &OracleInput) -> (usize, Vec<String>) {
    let mut violations = Vec::new();
    for position in &input.poison {
        let letters = input.letters.iter().filter(|letter| *letter == position).count();
        if letters != 1 {
            violations.push(format!("the poison record at {position:?} has {letters} dead letters"));
        }
    }
    // A command of a person may come too late, and is a dead letter then. A request does not.
    for letter in input.letters.iter().filter(|letter| input.requests.contains(letter)) {
        violations.push(format!("the request at {letter:?} is a dead letter"));
    }
    (input.poison.len() + input.letters.len(), violations)
}

fn by_version(writes: &[AuditedWrite]) -> Vec<&AuditedWrite> {
    let mut sorted: Vec<_> = writes.iter().collect();
    sorted.sort_by_key(|write| write.version);
    sorted
}
