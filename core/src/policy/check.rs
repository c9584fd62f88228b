//! From the policy that is written to the one that is followed, or to *all* of its problems, each with the path of its key.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::{checked, refuse, refuse_drift, refuse_ranks};
use super::problems::{PolicyProblem, Problems};
use super::raw::{BlueGreen, RawPolicy, RawStep, TrafficKind};
use super::{AbTest, Check, Cohort, Guard, Policy, Proof, SequentialRule, Step, Strategy, Traffic};
use crate::ids::Weight;
use crate::measure::metric::{ArmSource, Metric, MetricKind, RawLimit, Unit};
use crate::policy::calendar::ChangeWindow;
use crate::time::Span;

impl RawPolicy {
    /// The policy, or all that is wrong with it. `metrics` are the definitions that a check may name.
    ///
    /// # Errors
    /// Every problem that was found, in the order of the keys.
    pub fn check(&self, metrics: &BTreeMap<String, Metric>) -> Result<Policy, Vec<PolicyProblem>> {
        let mut problems = Problems::default();
        self.check_match(&mut problems);
        let checks = problems.within("check", |problems| checked(&self.checks, metrics, problems));
        let mut steps = match self.strategy {
            Strategy::Canary => self.check_steps(&checks, &mut problems),
            Strategy::BlueGreen => self.check_blue_green(&checks, &mut problems),
            Strategy::Ab => self.check_ab_steps(&checks, &mut problems),
        };
        if self.strategy == Strategy::BlueGreen {
            refuse_drift(&self.checks, metrics, "after the switch the stable has no traffic", &mut problems);
        }
        self.check_baseline(&steps, metrics, &mut problems);
        let ab = self.check_ab(metrics, &mut problems);
        let window = self.check_window(&mut problems);
        self.check_gates(&mut problems);
        let mut guard = self.guard.as_ref().map(|guard| Guard {
            length: guard.length,
            checks: problems.within("guard", |problems| {
                if guard.checks.is_empty() {
                    problems.add(&["check"], "the guard looks at nothing; give it a check, or leave the guard out");
                }
                refuse_ranks(&guard.checks, "the guard has no stable beside it", problems);
                refuse_drift(&guard.checks, metrics, "the guard has no stable beside it", problems);
                let message = "under guard there is no stable beside it to compare with; leave it out";
                refuse(&guard.checks, "either", |check| check.either.is_some(), message, problems);
                let message = "under guard there is no stable beside it, so nobody can say what would have been";
                refuse(&guard.checks, "harm", |check| check.harm.is_some(), message, problems);
                problems.within("check", |problems| checked(&guard.checks, metrics, problems))
            }),
        });
        if self.route.is_some() && self.traffic == TrafficKind::Replicas {
            problems.add(&["route"], "a route is split by weights; leave it out, or set traffic = \"gateway\"");
        }
        let mut rate = |key: &str, raw: &RawLimit| {
            let found = Unit::Percent.read(raw).and_then(|rate| {
                if rate > 0.0 && rate < 0.5 {
                    Ok(rate)
                } else {
                    Err(format!("an error rate of {rate} is not above 0% and below 50%"))
                }
            });
            found.unwrap_or_else(|message| {
                problems.add(&[key], message);
                0.01
            })
        };
        let (alpha, beta) = (rate("alpha", &self.alpha), rate("beta", &self.beta));
        share_out(alpha, beta, &checks, &mut steps, guard.as_mut());
        problems.into_result()?;
        let named: BTreeSet<&String> = steps
            .iter()
            .flat_map(|step| &step.checks)
            .chain(guard.iter().flat_map(|guard| &guard.checks))
            .map(|check| &check.metric)
            .chain(ab.iter().map(|test| &test.reward))
            .collect();
        let metrics: BTreeMap<String, Metric> = metrics
            .iter()
            .filter(|(name, _)| named.contains(name))
            .map(|(name, metric)| (name.clone(), metric.clone()))
            .collect();
        let mut policy = Policy {
            name: self.name.clone(),
            hash: String::new(),
            matches: self.matches.clone(),
            mode: self.mode,
            strategy: self.strategy,
            traffic: match self.traffic {
                TrafficKind::Gateway => {
                    let cohort = self.ab.as_ref().map(|test| test.who.clone());
                    Traffic::Gateway { route: self.route.clone(), cohort }
                }
                TrafficKind::Replicas => Traffic::Replicas,
            },
            fresh_baseline: self.fresh_baseline,
            ready_within: self.ready_within,
            promote_within: self.promote_within,
            drain: self.drain,
            max_hold: self.max_hold,
            patience: self.patience.clone(),
            require: self.require.clone(),
            model: self.model.clone(),
            approvals: self.approvals.clone(),
            window,
            ab: ab.clone(),
            steps,
            guard,
            metrics,
        };
        policy.hash = policy.digest();
        Ok(policy)
    }

    fn check_match(&self, problems: &mut Problems) {
        if self.name.is_empty() {
            problems.add(&["name"], "a policy needs a name");
        }
        for (key, patterns) in [
            ("namespaces", &self.matches.namespaces),
            ("workloads", &self.matches.workloads),
            ("images", &self.matches.images),
        ] {
            if patterns.is_empty() {
                problems.add(&["match", key], "an empty list matches nothing; write [\"*\"] to match everything");
            }
        }
    }

    /// The one switch as a step like any other: all of the traffic, and the old side untouched until it has passed.
    fn check_blue_green(&self, checks: &[Check], problems: &mut Problems) -> Vec<Step> {
        if !self.steps.is_empty() {
            problems.add(&["step"], "blue-green switches once; leave the steps out, or set strategy = \"canary\"");
        }
        if self.traffic == TrafficKind::Replicas {
            problems.add(&["traffic"], "a switch of all traffic needs a router; set traffic = \"gateway\"");
        }
        refuse_ranks(&self.checks, "after the switch the stable has no traffic", problems);
        if checks.is_empty() {
            problems.add(&["check"], "the switch would pass whatever happens; it needs at least one check");
        }
        let Some(BlueGreen { keep_stable }) = self.blue_green.clone() else {
            problems.add(&["blue-green"], "say how long the old version stands by, as in keep-stable = \"10m\"");
            return Vec::new();
        };
        vec![Step {
            weight: Weight::FULL,
            min_time: keep_stable,
            pause: Span::ZERO,
            proof: Proof::NonInferior,
            checks: checks.to_vec(),
        }]
    }

    /// The fresh baseline has its requests from the stable's share, and is told apart by its pods.
    fn check_baseline(&self, steps: &[Step], metrics: &BTreeMap<String, Metric>, problems: &mut Problems) {
        if !self.fresh_baseline {
            return;
        }
        let mut add = |message: String| problems.add(&["fresh-baseline"], message);
        if self.strategy != Strategy::Canary {
            add("it stands beside a canary on its way up; leave it out, or set strategy = \"canary\"".to_owned());
        }
        if let Some(step) = steps.iter().find(|step| step.weight > Weight::percent(50)) {
            let weight = step.weight;
            add(format!("at {weight} too few requests are left for it; end the steps at 50%, or leave it out"));
        }
        let checked: BTreeSet<&String> =
            steps.iter().flat_map(|step| &step.checks).map(|check| &check.metric).collect();
        let gateways = |name: &&String| metrics.get(*name).is_some_and(|metric| metric.arms != ArmSource::Pods);
        if let Some(name) = checked.into_iter().find(gateways) {
            add(format!(
                "{name} is counted at the gateway, which can't tell it from the stable; use a metric of the pods"
            ));
        }
    }

    /// One step, at which the cohort has the canary for as long as the test takes.
    fn check_ab_steps(&self, checks: &[Check], problems: &mut Problems) -> Vec<Step> {
        if !self.steps.is_empty() {
            problems.add(&["step"], "an A/B test has no steps; say who gets the canary in [policy.ab]");
        }
        if self.traffic == TrafficKind::Replicas {
            problems.add(&["traffic"], "only a router can tell requests apart; set traffic = \"gateway\"");
        }
        if checks.is_empty() {
            problems.add(&["check"], "an A/B test needs a guard rail: at least one check that would end it");
        }
        let Some(test) = &self.ab else {
            problems.add(&["ab"], "say who gets the canary and what is wanted: who, reward and longest");
            return Vec::new();
        };
        let (weight, min_time, proof) = (test.share, test.shortest, Proof::NoAlarm);
        vec![Step { weight, min_time, pause: Span::ZERO, proof, checks: checks.to_vec() }]
    }

    fn check_ab(&self, metrics: &BTreeMap<String, Metric>, problems: &mut Problems) -> Option<AbTest> {
        let test = self.ab.as_ref()?;
        problems.within("ab", |problems| {
            if self.strategy != Strategy::Ab {
                problems.add(&[], "this is for strategy = \"ab\"; set it, or leave this out");
            }
            match metrics.get(&test.reward) {
                Some(metric) if metric.kind == MetricKind::Ratio => {}
                Some(_) => problems.add(&["reward"], "a reward is a ratio: rewarded requests, of all of them"),
                None => problems.add(&["reward"], format!("there is no metric {:?}", test.reward)),
            }
            if test.longest <= test.shortest {
                problems.add(&["longest"], "it must be longer than `shortest`");
            }
            if test.share == Weight::ZERO || test.share == Weight::FULL {
                problems.add(&["share"], "both versions need requests: a share between 0% and 100%");
            }
            problems.within("who", |problems| test.who.check(problems));
            let level = Unit::Percent.read(&test.level).map_err(|message| problems.add(&["level"], message)).ok()?;
            if !(level > 0.0 && level < 0.5) {
                problems.add(&["level"], "an error rate is above 0 % and below 50 %");
            }
            let (reward, less, longest, on_draw) = (test.reward.clone(), test.less, test.longest, test.on_draw);
            Some(AbTest { reward, less, level, longest, on_draw })
        })
    }

    fn check_window(&self, problems: &mut Problems) -> Option<ChangeWindow> {
        self.window.as_ref().and_then(|window| match window.check() {
            Ok(window) => Some(window),
            Err(found) => {
                for (key, message) in found {
                    problems.add(&["window", key], message);
                }
                None
            }
        })
    }

    fn check_gates(&self, problems: &mut Problems) {
        if self.model.as_ref().is_some_and(|bound| bound.environment.is_empty()) {
            problems.add(&["model", "environment"], "an environment has a name, such as \"production\"");
        }
        for (index, suite) in self.require.iter().enumerate() {
            let at = index.to_string();
            if suite.is_empty() {
                problems.add(&["require", &at], "a suite has a name, such as \"behaviour\"");
            }
            // A person opens both by name.
            if self.approvals.iter().any(|gate| gate.name == *suite) {
                problems.add(&["require", &at], format!("{suite:?} is a gate's name, too; call the gate otherwise"));
            }
        }
        for (index, gate) in self.approvals.iter().enumerate() {
            let at = index.to_string();
            if gate.name.is_empty() {
                problems.add(&["approval", &at, "name"], "a gate needs a name to be opened by");
            }
            if self.approvals.iter().take(index).any(|other| other.name == gate.name) {
                problems.add(
                    &["approval", &at, "name"],
                    format!("there are two gates {:?}; give this one another name", gate.name),
                );
            }
        }
    }

    fn check_steps(&self, checks: &[Check], problems: &mut Problems) -> Vec<Step> {
        if self.steps.is_empty() {
            problems
                .add(&["step"], "a policy needs at least one step, such as { weight = \"10%\", min-time = \"15m\" }");
        }
        if self.blue_green.is_some() {
            problems.add(&["blue-green"], "this is for strategy = \"blue-green\"; set it, or leave this out");
        }
        let mut before = Weight::ZERO;
        let mut steps = Vec::new();
        for (index, raw) in self.steps.iter().enumerate() {
            let at = index.to_string();
            if raw.weight <= before {
                problems
                    .add(&["step", &at, "weight"], "each step's weight must be above the one before it, and above 0%");
            }
            if raw.weight == Weight::FULL {
                problems.add(
                    &["step", &at, "weight"],
                    "a step at 100% has nothing to be compared with; promotion does that",
                );
            }
            before = raw.weight;
            let wanted = step_checks(raw, &at, checks, problems);
            if wanted.is_empty() {
                problems.add(
                    &["step", &at, "checks"],
                    "this step would pass whatever happens; it needs at least one check",
                );
            }
            let last = index + 1 == self.steps.len();
            let proof = raw.proof.unwrap_or(if last { Proof::NonInferior } else { Proof::NoAlarm });
            steps.push(Step { weight: raw.weight, min_time: raw.min_time, pause: raw.pause, proof, checks: wanted });
        }
        steps
    }
}

fn step_checks(raw: &RawStep, at: &str, checks: &[Check], problems: &mut Problems) -> Vec<Check> {
    let Some(names) = &raw.checks else { return checks.to_vec() };
    let mut wanted = Vec::new();
    for (n, name) in names.iter().enumerate() {
        match checks.iter().find(|check| check.name == *name) {
            Some(check) => wanted.push(check.clone()),
            None => {
                let known: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
                problems.add(
                    &["step", at, "checks", &n.to_string()],
                    format!("there is no check {name:?}; there are {known:?}"),
                );
            }
        }
    }
    wanted
}

/// Divides `alpha` among all checks that may roll back on evidence, the guard's included.
fn share_out(alpha: f64, beta: f64, checks: &[Check], steps: &mut [Step], guard: Option<&mut Guard>) {
    let may = |check: &&Check| check.sequential.is_some() && !check.warns;
    let count = |checks: &[Check]| checks.iter().filter(may).count() as u32;
    let (of_steps, of_guard) = (count(checks), guard.as_ref().map_or(0, |guard| count(&guard.checks)));
    let all =
        steps.iter_mut().flat_map(|step| &mut step.checks).chain(guard.into_iter().flat_map(|guard| &mut guard.checks));
    for check in all {
        // What only warns takes no part of what the others share.
        let (checks, of_guard) = if check.warns { (1, 0) } else { (of_steps, of_guard) };
        if let Some(rule) = &mut check.sequential {
            *rule = SequentialRule { alpha, beta, checks, of_guard, ..*rule };
        }
    }
}

impl Cohort {
    fn check(&self, problems: &mut Problems) {
        let names: Vec<&String> = self.header.iter().chain(&self.cookie).collect();
        if names.len() != 1 {
            problems.add(&[], "write { header, value } or { cookie, value }");
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let plain = |text: &str| !text.is_empty() && text.bytes().all(allowed);
        if !names.iter().all(|name| plain(name)) || !plain(&self.value) {
            problems.add(&[], "names and values here are letters, digits, '-', '_' and '.'");
        }
    }
}
