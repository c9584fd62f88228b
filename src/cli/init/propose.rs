//! The proposal: facts in, a configuration with its reasons and its doubts out. Nothing here reads anything.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::ids::{Workload, repository};
use bellwether_core::measure::metric::Metric;
use bellwether_core::policy::RouterKind;
use bellwether_core::time::Span;

use super::checks::{self, ChosenChecks};
use super::facts::{InitFacts, MeasuredWorkload, MetricFamily};
use super::steps::{self, ProposedStep};
use crate::cli::check;
use crate::cli::proposal::{journal, metric_tables, namespaces, quoted, quoted_list, step_table};

/// The default of `prometheus.scrape-interval` and `prometheus.lag`.
const SCRAPE_INTERVAL: Span = Span::from_secs(15);

/// A proposed configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProposal {
    /// The configuration, with a comment for each choice.
    pub toml: String,
    /// The uncertain parts, each with its remedy.
    pub doubts: Vec<Doubt>,
}

/// An uncertain part of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The subject, such as `shop/web` or `prometheus`.
    pub about: String,
    /// The fact, as a phrase.
    pub text: String,
    /// The remedy; `None` if the fact contains it.
    pub remedy: Option<String>,
}

impl Doubt {
    /// Creates a doubt.
    pub fn new(about: &str, text: impl Into<String>, remedy: impl Into<String>) -> Doubt {
        Doubt { about: about.to_owned(), text: text.into(), remedy: Some(remedy.into()) }
    }
}

/// Returns namespace and name of a workload.
pub fn short(workload: &Workload) -> String {
    format!("{}/{}", workload.namespace, workload.name)
}

/// Proposes a configuration.
pub fn propose(facts: &InitFacts) -> InitProposal {
    let mut doubts = Vec::new();
    let mut policies = String::new();
    let mut names = MetricNames::default();
    for workload in &facts.workloads {
        policies += &policy(workload, &mut names, &mut doubts);
    }
    let mut toml = format!(
        "# Proposed by `bellwether init {}`. A comment above a value has the fact that it is based on.\n\
         # `bellwether config default` has all keys.\n\ncluster = {}\n",
        facts.asked,
        quoted(&facts.cluster)
    );
    toml += &names.presets();
    toml += &prometheus(facts, &mut doubts);
    toml += &journal(facts.brokers.as_deref());
    toml += &kubernetes(facts);
    toml += &names.definitions();
    toml += &policies;
    InitProposal { toml, doubts }
}

fn prometheus(facts: &InitFacts, doubts: &mut Vec<Doubt>) -> String {
    let found = &facts.prometheus;
    let mut text = "\n[prometheus]\n".to_owned();
    if let Some(service) = &found.service {
        text += &format!("# Service {service}, which looks like a Prometheus and answers.\n");
    }
    text += &format!("url = {}\n", quoted(&found.url));
    if found.has_credentials {
        text += "# Credentials are no part of a proposal. For example:\n#bearer-token-file = \"/etc/bellwether/secrets/prometheus-token\"\n";
        let remedy = "set prometheus.bearer-token-file, or username and password-file";
        doubts.push(Doubt::new(
            "prometheus",
            "it was asked with credentials, which the proposal does not have",
            remedy,
        ));
    }
    if let Some(interval) = found.scrape_interval.filter(|interval| *interval != SCRAPE_INTERVAL) {
        let seconds = interval.as_millis().div_ceil(1000);
        text += &format!("# The series have a sample every {interval}.\nscrape-interval = \"{seconds}s\"\n");
        if interval > SCRAPE_INTERVAL {
            text += &format!("# The scrape interval and 5s for the ingestion.\nlag = \"{}s\"\n", seconds + 5);
        }
    }
    text
}

fn kubernetes(facts: &InitFacts) -> String {
    let mut text = "\n[kubernetes]\n".to_owned();
    for (key, value) in ["kubeconfig", "context"].iter().zip(&facts.kubeconfig) {
        text += &value.as_ref().map(|value| format!("{key} = {}\n", quoted(value))).unwrap_or_default();
    }
    text + &namespaces(facts.workloads.iter().map(|workload| workload.survey.workload.namespace.as_str()))
}

/// The names of the metrics: those of the first preset are its own, and those of others get its name in front.
#[derive(Default)]
struct MetricNames {
    /// The preset whose metrics have their own names, with its labels of pod and namespace.
    first: Option<MetricFamily>,
    /// The presets whose metrics were defined under other names.
    others: BTreeMap<String, Option<[String; 2]>>,
    /// The definitions of metrics.
    definitions: String,
}

impl MetricNames {
    /// Returns the name in front of the metrics of `family`.
    fn prefix(&mut self, family: &MetricFamily) -> String {
        if self.first.is_none() {
            self.first = Some(family.clone());
            self.definitions += &labels(family);
        }
        let is_first = |first: &MetricFamily| first.preset == family.preset && first.pod_labels == family.pod_labels;
        if self.first.as_ref().is_some_and(is_first) {
            return String::new();
        }
        let prefix = format!("{}-", family.preset);
        if self.others.insert(family.preset.clone(), family.pod_labels.clone()).is_none() {
            let named: Vec<(String, &Metric)> =
                family.metrics.iter().map(|(name, metric)| (format!("{prefix}{name}"), metric)).collect();
            let table = metric_tables(named.iter().map(|(name, metric)| (name.as_str(), *metric)));
            let why = format!(
                "# The metrics of the preset {}, under names of their own beside those of another preset.",
                family.preset
            );
            self.definitions += &format!("\n{why}\n{table}");
        }
        prefix
    }

    fn presets(&self) -> String {
        match &self.first {
            Some(family) => format!(
                "# Prometheus has series of the workload's requests with the names of this preset.\npresets = [{}]\n",
                quoted(&family.preset)
            ),
            None => String::new(),
        }
    }

    /// Returns the definitions of the metrics. Every preset has the availability of the pods; without one it is defined here.
    fn definitions(&self) -> String {
        match &self.first {
            Some(_) => self.definitions.clone(),
            None => "\n[metric.availability]\nkind = \"availability\"\n".to_owned(),
        }
    }
}

/// Returns the keys of the pods' labels, if the preset has others.
fn labels(family: &MetricFamily) -> String {
    let Some([pod, namespace]) = &family.pod_labels else { return String::new() };
    let mut text = "\n# These labels of the series name the pods.\n".to_owned();
    for name in family.metrics.keys() {
        let (pod, namespace) = (quoted(pod), quoted(namespace));
        text += &format!("[metric.{name}]\npod-label = {pod}\nnamespace-label = {namespace}\n");
    }
    text
}

/// Returns the router that splits a workload's traffic, with the fact that it is chosen for.
fn router(workload: &MeasuredWorkload, doubts: &mut Vec<Doubt>) -> (RouterKind, String) {
    let survey = &workload.survey;
    let about = short(&survey.workload);
    let Some((router, routes)) = survey.routes.first_key_value() else {
        let unsplit = match workload.unsplit_routes.as_slice() {
            [] => "No HTTPRoute sends traffic to its Service".to_owned(),
            others => format!(
                "{} can't be split by weight, and no HTTPRoute sends traffic to its Service",
                others.join(" and ")
            ),
        };
        if !workload.unsplit_routes.is_empty() {
            let text = format!(
                "{} can't be split by weight, so the share follows from whole pods",
                workload.unsplit_routes.join(" and ")
            );
            doubts.push(Doubt::new(&about, text, "lead its traffic by an HTTPRoute for shares below that of a pod"));
        }
        return (RouterKind::Replicas, format!("{unsplit}, so the number of pods is the split."));
    };
    if routes.len() > 1 {
        let text = format!("{} send traffic to its Service, and all of them are split", routes.join(" and "));
        let remedy = format!("to split one alone, add route = {{ name = {} }} to the policy", quoted(&routes[0]));
        doubts.push(Doubt::new(&about, text, remedy));
    }
    let verb = if routes.len() == 1 { "sends" } else { "send" };
    (*router, format!("HTTPRoute {} {verb} traffic to its Service.", routes.join(" and ")))
}

fn policy(workload: &MeasuredWorkload, names: &mut MetricNames, doubts: &mut Vec<Doubt>) -> String {
    let survey = &workload.survey;
    let about = short(&survey.workload);
    let (router, why_router) = router(workload, doubts);
    for issue in survey.issues.get(&router).into_iter().flatten() {
        let finding = check::issue_finding(issue, &survey.workload);
        let refused = if issue.refuses() { "a rollout would be refused: " } else { "" };
        let text = format!("{refused}{}", finding.text);
        doubts.push(Doubt { about: about.clone(), text, remedy: finding.remedy });
    }
    if survey.replicas == 0 {
        doubts.push(Doubt::new(&about, "it is scaled to 0, so a rollout would be refused", "scale it up"));
    }
    if survey.replicas == 1 && !router.capabilities().weights {
        let text = "it has one pod, so the canary gets half of the traffic at once";
        doubts.push(Doubt::new(&about, text, "scale it to 4 or more, or add an HTTPRoute to its Service"));
    }
    let chosen = checks::choose(workload, router, doubts);
    let past = chosen.family.as_ref().and_then(|family| family.past.as_ref());
    let steps = steps::choose(&about, router, survey.replicas, past.map(|past| past.rps), doubts);
    let images: BTreeSet<&str> = survey.images.values().map(|image| repository(image)).collect();
    let mut pods = if survey.replicas == 1 { "1 pod".to_owned() } else { format!("{} pods", survey.replicas) };
    if !survey.autoscalers.is_empty() {
        pods += &format!(", as HorizontalPodAutoscaler {} has set them,", survey.autoscalers.join(" and "));
    }
    let traffic = match router {
        RouterKind::Gateway => "gateway",
        RouterKind::Replicas => "replicas",
    };
    let prefix = chosen.family.as_ref().map(|family| names.prefix(family)).unwrap_or_default();
    format!(
        "\n[[policy]]\nname = {}\n# The repositories of its images.\nmatch = {{ namespaces = [{}], workloads = [{}], images = {} }}\n\
         # {why_router}\ntraffic = \"{traffic}\"\n{}{}{}{}",
        quoted(&survey.workload.name),
        quoted(&survey.workload.namespace),
        quoted(&survey.workload.name),
        quoted_list(images),
        patience(&steps),
        check_tables(&chosen, &prefix),
        step_tables(&steps, &pods, past.map(|past| past.rps)),
        guard(&chosen, &prefix),
    )
}

/// Returns the patience of a policy whose steps are longer than the default, because requests are few.
fn patience(steps: &[ProposedStep]) -> String {
    let longest = steps.iter().map(|step| step.minutes).max().unwrap_or_default();
    if longest <= 10 {
        return String::new();
    }
    format!("# So long may requests be too few to judge.\npatience = {{ insufficient = \"{longest}m\" }}\n")
}

fn check_tables(chosen: &ChosenChecks, prefix: &str) -> String {
    let Some(_) = &chosen.family else {
        return "\n# No metrics of its requests were found, so the readiness of its pods is all that is judged.\n[[policy.check]]\n\
                metric = \"availability\"\nmin = \"90%\"\n"
            .to_owned();
    };
    let mut text = format!(
        "\n# {}\n[[policy.check]]\nmetric = {}\nmax = \"{}%\"\n",
        chosen.because,
        quoted(&format!("{prefix}error-rate")),
        chosen.errors
    );
    if let Some(slow) = &chosen.slow {
        let metric = quoted(&format!("{prefix}response-time"));
        text +=
            &format!("\n# The p95. {}\n[[policy.check]]\nmetric = {metric}\nmax = \"{}\"\n", slow.because, slow.value);
    }
    text
}

fn step_tables(steps: &[ProposedStep], pods: &str, rps: Option<f64>) -> String {
    let why = match rps {
        Some(rps) => format!("# It has {pods} and got {rps:.1} requests a second.\n"),
        None => format!("# It has {pods}.\n"),
    };
    let tables = steps.iter().map(|step| step_table(&format!("{}%", step.weight), &format!("{}m", step.minutes)));
    format!("\n{why}{}", tables.collect::<Vec<_>>().join("\n"))
}

fn guard(chosen: &ChosenChecks, prefix: &str) -> String {
    let mut text =
        "\n# The guard has no stable to compare with, so its limits are wider.\n[policy.guard]\nfor = \"10m\"\n"
            .to_owned();
    if chosen.family.is_some() {
        let metric = quoted(&format!("{prefix}error-rate"));
        text += &format!("\n[[policy.guard.check]]\nmetric = {metric}\nmax = \"{}%\"\n", chosen.errors * 2);
    }
    text + "\n[[policy.guard.check]]\nmetric = \"availability\"\nmin = \"90%\"\n"
}
