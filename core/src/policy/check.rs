//! The validation of a policy: it turns the policy as written into the policy as used, or lists *all* of its problems, each
//! with the path of its key.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::{checked, no_metric, refuse, refuse_comparing_judges, refuse_drift};
use super::problems::{PolicyProblem, Problems};
use super::raw::{BlueGreen, RawPolicy, RawStep};
use super::{AbTest, Cohort, Guard, Policy, Step, Strategy, Traffic, defaults};
use crate::ids::Weight;
use crate::judge::check::Check;
use crate::judge::rule::{ErrorBudget, Proof};
use crate::measure::metric::{ArmSource, Metric, MetricKind, RawLimit, Unit};
use crate::policy::calendar::ChangeWindow;
use crate::time::Span;

impl RawPolicy {
    /// Validates the policy and returns it in the form that rollouts use. `metrics` are the definitions that a check may
    /// name.
    ///
    /// # Errors
    /// All problems of the policy, in the order of the keys.
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
        self.check_approvals(&mut problems);
        let mut guard = self.guard.as_ref().map(|guard| Guard {
            length: guard.length,
            checks: problems.within("guard", |problems| {
                if guard.checks.is_empty() {
                    problems.add(&["check"], "the guard has no checks; give it one, or leave the guard out");
                }
                refuse_comparing_judges(&guard.checks, "the guard has no stable beside it", problems);
                refuse_drift(&guard.checks, metrics, "the guard has no stable beside it", problems);
                let message = "under guard there is no stable beside it to compare with; leave it out";
                refuse(&guard.checks, "either", |check| check.either.is_some(), message, problems);
                let message = "under guard there is no stable beside it, so the harm can't be estimated; leave it out";
                refuse(&guard.checks, "harm", |check| check.harm.is_some(), message, problems);
                problems.within("check", |problems| checked(&guard.checks, metrics, problems))
            }),
        });
        if self.route.is_some() && !self.traffic.capabilities().weights {
            problems.add(&["route"], "a route is split by weights; leave it out, or set traffic = \"gateway\"");
        }
        let mut rate = |key: &str, raw: &RawLimit| {
            let checked = Unit::Percent.read(raw).and_then(|rate| {
                if rate > 0.0 && rate < 0.5 {
                    Ok(rate)
                } else {
                    Err(format!("an error rate of {rate} is not above 0% and below 50%"))
                }
            });
            checked.unwrap_or_else(|message| {
                problems.add(&[key], message);
                0.01
            })
        };
        let (alpha, beta) = (rate("alpha", &self.alpha), rate("beta", &self.beta));
        divide_error_rate(alpha, beta, &checks, &mut steps, guard.as_mut());
        problems.into_result()?;
        let used: BTreeSet<&String> = steps
            .iter()
            .flat_map(|step| &step.checks)
            .chain(guard.iter().flat_map(|guard| &guard.checks))
            .map(|check| &check.metric)
            .chain(ab.iter().map(|test| &test.reward))
            .collect();
        let metrics: BTreeMap<String, Metric> = metrics
            .iter()
            .filter(|(name, _)| used.contains(name))
            .map(|(name, metric)| (name.clone(), metric.clone()))
            .collect();
        let mut policy = Policy {
            name: self.name.clone(),
            hash: String::new(),
            matches: self.matches.clone(),
            mode: self.mode,
            strategy: self.strategy,
            traffic: Traffic {
                router: self.traffic,
                route: self.route.clone(),
                cohort: self.ab.as_ref().map(|test| test.who.clone()),
            },
            owned_by: self.owned_by.clone(),
            fresh_baseline: self.fresh_baseline,
            ready_within: self.ready_within,
            promote_within: self.promote_within,
            follows_within: self.follows_within,
            drain: self.drain,
            warm_up: self.warm_up,
            block_age: defaults::block_age(),
            max_hold: self.max_hold,
            patience: self.patience.clone(),
            require: self.require.clone(),
            require_max_age: self.require_max_age,
            require_pins: self.require_pins.clone(),
            model: self.model.clone(),
            notify: self.notify.clone(),
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

    /// Checks the keys of a blue-green policy and returns its switch as one step with all of the traffic. The old version
    /// stays untouched until that step has passed.
    fn check_blue_green(&self, checks: &[Check], problems: &mut Problems) -> Vec<Step> {
        if !self.steps.is_empty() {
            problems.add(&["step"], "blue-green switches once; leave the steps out, or set strategy = \"canary\"");
        }
        if !self.traffic.capabilities().weights {
            problems.add(&["traffic"], "a switch of all traffic needs a router; set traffic = \"gateway\"");
        }
        refuse_comparing_judges(&self.checks, "after the switch the stable has no traffic", problems);
        if checks.is_empty() {
            problems.add(&["check"], "without a check the switch would always pass; it needs at least one check");
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

    /// Checks that a fresh baseline is possible: it takes its requests from the stable's share, and only metrics of the pods
    /// distinguish it from the stable.
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
        let judged: BTreeSet<&String> = steps.iter().flat_map(|step| &step.checks).map(|check| &check.metric).collect();
        let not_of_pods = |name: &&String| metrics.get(*name).is_some_and(|metric| metric.arms != ArmSource::Pods);
        if let Some(name) = judged.into_iter().find(not_of_pods) {
            add(format!(
                "{name} is counted at the gateway, which can't tell it from the stable; use a metric of the pods"
            ));
        }
    }

    /// Checks the keys of an A/B policy and returns its one step, in which the cohort has the canary until the test ends.
    fn check_ab_steps(&self, checks: &[Check], problems: &mut Problems) -> Vec<Step> {
        if !self.steps.is_empty() {
            problems.add(&["step"], "an A/B test has no steps; say who gets the canary in [policy.ab]");
        }
        if !self.traffic.capabilities().cohorts {
            problems
                .add(&["traffic"], "only a router can distinguish the cohort's requests; set traffic = \"gateway\"");
        }
        if checks.is_empty() {
            problems.add(&["check"], "an A/B test needs a guard rail: at least one check that would end it");
        }
        let Some(test) = &self.ab else {
            problems.add(
                &["ab"],
                "an A/B test needs the keys `who` (the cohort), `reward` (the metric to improve) and `longest`",
            );
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
                None => problems.add(&["reward"], no_metric(&test.reward, metrics)),
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
            if test.design_effect.is_some_and(|effect| !(effect.is_finite() && effect >= 1.0)) {
                problems.add(&["design-effect"], "it is at least 1, which is for a reward that counts users");
            }
            let super::RawAbTest { less, longest, design_effect, on_draw, .. } = *test;
            Some(AbTest { reward: test.reward.clone(), less, level, design_effect, longest, on_draw })
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

    fn check_approvals(&self, problems: &mut Problems) {
        if self.model.as_ref().is_some_and(|bound| bound.environment.is_empty()) {
            problems.add(&["model", "environment"], "an environment has a name, such as \"production\"");
        }
        match self.require_max_age {
            Some(Span::ZERO) => {
                problems.add(&["require-max-age"], "no report is new enough for an age of 0; write one such as \"30d\"")
            }
            Some(_) if self.require.is_empty() => {
                problems
                    .add(&["require-max-age"], "it limits the reports of required suites, and `require` names none");
            }
            _ => {}
        }
        for (suite, pin) in &self.require_pins {
            if !self.require.contains(suite) {
                problems.add(&["require-pins", suite], "it pins a suite that `require` does not name");
            }
            if pin.len() != 64 || !pin.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
                problems.add(
                    &["require-pins", suite],
                    "a pin has 64 hexadecimal digits; `bellwether gate check --output json` prints it",
                );
            }
        }
        for (index, suite) in self.require.iter().enumerate() {
            let at = index.to_string();
            if suite.is_empty() {
                problems.add(&["require", &at], "a suite has a name, such as \"behaviour\"");
            }
            // `approve` names a suite or an approval, so a name must not stand for both.
            if self.approvals.iter().any(|approval| approval.name == *suite) {
                problems.add(
                    &["require", &at],
                    format!("{suite:?} is also the name of an approval; give the approval another name"),
                );
            }
        }
        for (index, approval) in self.approvals.iter().enumerate() {
            let at = index.to_string();
            if approval.name.is_empty() {
                problems.add(&["approval", &at, "name"], "an approval needs a name, which `emit approve` uses");
            }
            if self.approvals.iter().take(index).any(|other| other.name == approval.name) {
                problems.add(
                    &["approval", &at, "name"],
                    format!("there are two approvals {:?}; give this one another name", approval.name),
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
                    "without a check this step would always pass; it needs at least one check",
                );
            }
            let last = index + 1 == self.steps.len();
            let proof = raw.proof.unwrap_or(if last { Proof::NonInferior } else { Proof::NoAlarm });
            if proof == Proof::NonInferior {
                refuse_unprovable(&wanted, &at, problems);
            }
            steps.push(Step { weight: raw.weight, min_time: raw.min_time, pause: raw.pause, proof, checks: wanted });
        }
        steps
    }
}

/// Returns the checks that a step names, or all of the policy's checks if it names none.
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

/// Refuses a proof by a check that allows no difference: a version as good as the stable can't be shown to be better.
fn refuse_unprovable(checks: &[Check], at: &str, problems: &mut Problems) {
    for check in checks.iter().filter(|check| check.judge.sequential().is_some_and(|rule| !rule.is_provable())) {
        let remedy = "no equal version could be shown to be better than the stable; allow a difference by `floor` or `margin` of \
                      the check, or write proof = \"no-alarm\"";
        problems.add(&["step", at, "proof"], format!("{} has margin = 1 and floor = \"0%\": {remedy}", check.name));
    }
}

/// Divides `alpha` among all checks that can roll a rollout back on evidence, including the guard's.
fn divide_error_rate(alpha: f64, beta: f64, checks: &[Check], steps: &mut [Step], guard: Option<&mut Guard>) {
    let budget = |checks, of_guard| ErrorBudget { alpha, beta, checks, of_guard };
    let spends = |check: &&Check| !check.warns && check.judge.clone().spend(budget(1, 0));
    let count = |checks: &[Check]| checks.iter().filter(spends).count() as u32;
    let (of_steps, of_guard) = (count(checks), guard.as_ref().map_or(0, |guard| count(&guard.checks)));
    let all =
        steps.iter_mut().flat_map(|step| &mut step.checks).chain(guard.into_iter().flat_map(|guard| &mut guard.checks));
    for check in all {
        // A check that only warns has `alpha` for itself and takes no part of the others'.
        let (checks, of_guard) = if check.warns { (1, 0) } else { (of_steps, of_guard) };
        check.judge.spend(budget(checks, of_guard));
    }
}

impl Cohort {
    /// Checks that the cohort has one header or cookie, and that names and values have safe characters.
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
