//! The drafted configuration: policies with their metrics, written as TOML with the origin of each choice as a comment.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::measure::metric::{Limit, Metric, MetricKind, Unit};
use bellwether_core::policy::{ApprovalPoint, Cohort, RouterKind};
use bellwether_core::time::Span;

use crate::cli::init::steps;
use crate::cli::proposal::{
    decimal, journal, metric_tables, namespaces, percent, quoted, quoted_list, step_table, time,
};

/// The number of pods that default steps are chosen for, if none is known.
const REPLICAS: u32 = 3;
/// The time of the steps and switches that the source gives none for.
pub const USUAL_TIME: Span = Span::from_secs(300);
/// The longest time that is written, so that no number of another tool is too large for a policy.
const MOST_TIME: Span = Span::from_secs(30 * 86_400);

/// A drafted configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Draft {
    /// The command that made it, as a comment.
    pub made_by: String,
    /// The cluster's name.
    pub cluster: String,
    /// The brokers; `None`: one process with a file.
    pub brokers: Option<String>,
    /// The URL of Prometheus; `None`: the default.
    pub prometheus: Option<String>,
    /// The policies.
    pub policies: Vec<PolicyDraft>,
}

/// A drafted policy.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDraft {
    /// The policy's name.
    pub name: String,
    /// The object that it comes from, such as `Rollout shop/checkout`.
    pub origin: String,
    /// The namespace; `*`: any.
    pub namespace: String,
    /// The workload's name.
    pub workload: String,
    /// The repositories of its images; empty: not known.
    pub images: BTreeSet<String>,
    /// The pods that the source asks for; `None`: not known.
    pub replicas: Option<u32>,
    /// The component that splits the traffic.
    pub router: RouterKind,
    /// The HTTPRoute to split; `None`: each one of its Service.
    pub route: Option<String>,
    /// The way in which the new version is introduced.
    pub strategy: DraftStrategy,
    /// The deadlines for the canary and for the stable.
    pub deadline: Option<Span>,
    /// The suites that must have passed.
    pub require: Vec<String>,
    /// The approvals, each with its point and its reason.
    pub approvals: Vec<(String, ApprovalPoint, String)>,
    /// The checks.
    pub checks: Vec<CheckDraft>,
}

/// The strategy of a drafted policy.
#[derive(Debug, Clone, PartialEq)]
pub enum DraftStrategy {
    /// Steps, each with its weight in hundredths of a percent and its time. Empty: the usual ones.
    Canary(Vec<(u32, Span)>),
    /// One switch, with the time for which the old version stands by.
    BlueGreen(Span),
    /// A cohort, for a time.
    Ab(Cohort, Span),
}

/// A drafted check with its metric.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckDraft {
    /// The check's name.
    pub name: String,
    /// The metric's name.
    pub metric_name: String,
    /// The metric's definition.
    pub metric: Metric,
    /// The limit, in the metric's own unit.
    pub limit: Limit,
    /// The quantile of a histogram.
    pub quantile: Option<f64>,
    /// The judge; `None`: the default of the metric's kind.
    pub judge: Option<&'static str>,
    /// The interval of the looks, for a judge of windows.
    pub every: Option<Span>,
    /// The time over which a value is taken, for a judge of windows; `None`: the usual one.
    pub window: Option<Span>,
    /// The bad looks in a row that make a regression, for a judge of windows.
    pub breaches: Option<u32>,
    /// Whether a regression only warns.
    pub warns: bool,
    /// The origin of the limit, as a sentence.
    pub because: String,
}

impl CheckDraft {
    /// Returns whether the default judge counts requests.
    pub fn is_sequential(&self) -> bool {
        let counts = match (self.metric.kind, self.limit) {
            (MetricKind::Ratio, _) | (MetricKind::Histogram, Limit::Max(_)) => true,
            (
                MetricKind::Histogram
                | MetricKind::Drift
                | MetricKind::Throughput
                | MetricKind::Gauge
                | MetricKind::Query
                | MetricKind::Availability,
                _,
            ) => false,
        };
        counts && self.judge.is_none()
    }
}

/// A check of the pods' readiness, for a policy that has no other.
pub fn availability() -> CheckDraft {
    CheckDraft {
        name: "availability".to_owned(),
        metric_name: "availability".to_owned(),
        metric: Metric::of_kind(MetricKind::Availability),
        limit: Limit::Min(0.9),
        quantile: None,
        judge: None,
        every: None,
        window: None,
        breaches: None,
        warns: false,
        because: "No metric was converted, so the readiness of its pods is all that is judged.".to_owned(),
    }
}

impl Draft {
    /// Gives metrics of one name with different definitions the name of their policy in front.
    pub fn separate_metrics(&mut self) {
        let mut known: BTreeMap<String, Metric> = BTreeMap::new();
        for policy in &mut self.policies {
            for check in &mut policy.checks {
                if known.get(&check.metric_name).is_some_and(|metric| *metric != check.metric) {
                    check.metric_name = format!("{}-{}", policy.name, check.metric_name);
                }
                known.insert(check.metric_name.clone(), check.metric.clone());
            }
        }
    }

    /// Returns the configuration as TOML.
    pub fn toml(&self) -> String {
        let mut text = format!(
            "# Made by `{}`. A comment above a value has its origin.\n# `bellwether config default` has all keys.\n\ncluster = {}\n",
            self.made_by,
            quoted(&self.cluster)
        );
        if let Some(url) = &self.prometheus {
            text += &format!("\n[prometheus]\n# The address in the objects.\nurl = {}\n", quoted(url));
        }
        text += &journal(self.brokers.as_deref());
        if self.policies.iter().all(|policy| policy.namespace != "*") {
            let used = self.policies.iter().map(|policy| policy.namespace.as_str());
            text += &format!("\n[kubernetes]\n{}", namespaces(used));
        }
        let mut metrics: BTreeMap<&str, &Metric> = BTreeMap::new();
        for check in self.policies.iter().flat_map(|policy| &policy.checks) {
            metrics.insert(&check.metric_name, &check.metric);
        }
        for (name, metric) in metrics {
            text += &format!("\n{}", metric_tables([(name, metric)]));
        }
        for policy in &self.policies {
            text += &policy.toml();
        }
        text
    }
}

impl PolicyDraft {
    fn toml(&self) -> String {
        let images = if self.images.is_empty() {
            "[\"*\"]".to_owned()
        } else {
            quoted_list(self.images.iter().map(String::as_str))
        };
        let mut text = format!(
            "\n# {}\n[[policy]]\nname = {}\nmatch = {{ namespaces = [{}], workloads = [{}], images = {images} }}\n",
            self.origin,
            quoted(&self.name),
            quoted(&self.namespace),
            quoted(&self.workload)
        );
        text += match self.strategy {
            DraftStrategy::Canary(_) => "",
            DraftStrategy::BlueGreen(_) => "strategy = \"blue-green\"\n",
            DraftStrategy::Ab(..) => "strategy = \"ab\"\n",
        };
        text += match self.router {
            RouterKind::Gateway => "traffic = \"gateway\"\n",
            RouterKind::Replicas => "traffic = \"replicas\"\n",
        };
        if let Some(route) = &self.route {
            text += &format!("route = {{ name = {} }}\n", quoted(route));
        }
        if let Some(deadline) = self.deadline {
            let deadline = bounded(deadline);
            text += &format!("ready-within = \"{deadline}\"\npromote-within = \"{deadline}\"\n");
        }
        if !self.require.is_empty() {
            text += &format!("require = {}\n", quoted_list(self.require.iter().map(String::as_str)));
        }
        for (name, before, because) in &self.approvals {
            let before = match before {
                ApprovalPoint::Traffic => "traffic",
                ApprovalPoint::Promotion => "promotion",
            };
            text += &format!("\n# {because}\n[[policy.approval]]\nname = {}\nbefore = \"{before}\"\n", quoted(name));
        }
        for check in &self.checks {
            text += &check.toml();
        }
        text + &self.strategy_table()
    }

    fn strategy_table(&self) -> String {
        match &self.strategy {
            DraftStrategy::Canary(steps) if steps.is_empty() => {
                let mut doubts = Vec::new();
                let usual = steps::choose("", self.router, self.replicas.unwrap_or(REPLICAS), None, &mut doubts);
                let tables =
                    usual.iter().map(|step| step_table(&format!("{}%", step.weight), &format!("{}m", step.minutes)));
                format!(
                    "\n# The object has no steps; these are the usual ones.\n{}",
                    tables.collect::<Vec<_>>().join("\n")
                )
            }
            DraftStrategy::Canary(steps) => {
                let weight = |hundredths: u32| percent(f64::from(hundredths) / 10_000.0);
                let tables = steps.iter().map(|(hundredths, span)| step_table(&weight(*hundredths), &bounded(*span)));
                format!("\n{}", tables.collect::<Vec<_>>().join("\n"))
            }
            DraftStrategy::BlueGreen(keep) => {
                format!("\n[policy.blue-green]\nkeep-stable = \"{}\"\n", bounded(*keep))
            }
            DraftStrategy::Ab(who, longest) => {
                let (key, name) = match (&who.header, &who.cookie) {
                    (Some(header), _) => ("header", header.as_str()),
                    (None, cookie) => ("cookie", cookie.as_deref().unwrap_or_default()),
                };
                let reward = self.checks.iter().find(|check| check.metric.kind == MetricKind::Ratio);
                let less = reward.is_some_and(|check| matches!(check.limit, Limit::Max(_)));
                let mut text = format!(
                    "\n# The new version stays unless a check regresses, or the old one wins.\n[policy.ab]\nwho = {{ {key} = {}, value = {} }}\nreward = {}\n",
                    quoted(name),
                    quoted(&who.value),
                    quoted(reward.map_or("", |check| check.metric_name.as_str()))
                );
                if less {
                    text += "less = true\n";
                }
                text + &format!("longest = \"{}\"\non-draw = \"canary\"\n", bounded(*longest))
            }
        }
    }
}

impl CheckDraft {
    fn toml(&self) -> String {
        let mut text = format!("\n# {}\n[[policy.check]]\n", self.because);
        if self.name != self.metric_name {
            text += &format!("name = {}\n", quoted(&self.name));
        }
        text += &format!("metric = {}\n", quoted(&self.metric_name));
        if let Some(judge) = self.judge {
            text += &format!("judge = \"{judge}\"\n");
        }
        if let Some(quantile) = self.quantile.filter(|quantile| *quantile != 0.95) {
            text += &format!("quantile = {}\n", decimal(quantile));
        }
        let key = match self.limit {
            Limit::Max(_) => "max",
            Limit::Min(_) => "min",
        };
        text += &format!("{key} = {}\n", written(self.metric.unit(), self.limit.value()));
        if let Some(every) = self.every {
            // The window must not be shorter than the interval.
            let window = self.window.unwrap_or(USUAL_TIME).max(every);
            text += &format!("every = \"{}\"\nwindow = \"{}\"\n", bounded(every), bounded(window));
        }
        if let Some(breaches) = self.breaches.filter(|breaches| *breaches > 1) {
            text += &format!("breaches = {breaches}\n");
        }
        if self.warns {
            text += "on-regressed = \"warn\"\n";
        }
        text
    }
}

/// Writes a length of time, at most [`MOST_TIME`].
fn bounded(span: Span) -> String {
    time(span.min(MOST_TIME))
}

/// Writes a limit as a value of TOML.
pub fn written(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Percent => quoted(&percent(value)),
        Unit::Seconds => quoted(&format!("{}ms", decimal(value * 1000.0))),
        Unit::Milliseconds => quoted(&format!("{}ms", decimal(value))),
        Unit::PerSecond => quoted(&format!("{}/s", decimal(value))),
        Unit::Number if value.fract() == 0.0 && value.abs() < 1e15 => format!("{}", value as i64),
        Unit::Number => decimal(value),
    }
}
