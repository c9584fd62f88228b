//! `bellwether check`: every problem of the configuration, and with `--online` of everything that it names. The command
//! only reads, so it can run beside a daemon.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context;
use bellwether_core::measure::metric::{ArmSource, Metric, Unit};
use bellwether_core::policy::Policy;
use bellwether_core::time::Span;
use clap::Args;
use serde::Serialize;

use super::table::counted;
use super::{Common, Output, print, run, table};
use crate::adapters::prometheus;
use crate::config::{self, Config};
use crate::exit;

mod online;

pub(super) use online::{findings as online, issue_finding, when_listed};

/// The arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file, or a directory of them, besides those of --config.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also check Kafka, Prometheus and Kubernetes: each permission, and each query once.
    #[arg(long)]
    online: bool,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing is wrong.
    Fine,
    /// The daemon runs with it, but a person should know it.
    Warning,
    /// The daemon or a rollout fails with it.
    Problem,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckFinding {
    /// The severity of the finding.
    pub level: Level,
    /// The subject: `config`, `kafka`, `rbac`, a workload as `shop/web`, …
    pub area: String,
    /// The result in one sentence.
    pub text: String,
    /// The consequence; `None` if nothing is wrong or the text contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The remedy; `None` if nothing is wrong or the text contains it.
    pub remedy: Option<String>,
}

impl CheckFinding {
    /// Creates a finding that nothing is wrong.
    pub fn fine(area: &str, text: impl Into<String>) -> CheckFinding {
        CheckFinding::without_remedy(Level::Fine, area, text)
    }

    /// Creates a warning.
    pub fn warning(area: &str, text: impl Into<String>, remedy: impl Into<String>) -> CheckFinding {
        CheckFinding::without_remedy(Level::Warning, area, text).with_remedy(remedy)
    }

    /// Creates a problem.
    pub fn problem(area: &str, text: impl Into<String>, remedy: impl Into<String>) -> CheckFinding {
        CheckFinding::without_remedy(Level::Problem, area, text).with_remedy(remedy)
    }

    /// Creates a finding whose text contains its remedy, if it needs one.
    pub fn without_remedy(level: Level, area: &str, text: impl Into<String>) -> CheckFinding {
        CheckFinding { level, area: area.to_owned(), text: text.into(), why: None, remedy: None }
    }

    /// Adds the consequence.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> CheckFinding {
        CheckFinding { why: Some(why.into()), ..self }
    }

    fn with_remedy(self, remedy: impl Into<String>) -> CheckFinding {
        CheckFinding { remedy: Some(remedy.into()), ..self }
    }
}

/// Checks the configuration and prints the findings. A problem is not an error: it is printed and sets the exit code.
///
/// # Errors
/// The findings can't be printed.
pub async fn run(args: &CheckArgs, common: &Common) -> anyhow::Result<u8> {
    let config = common.config.iter().chain(&args.files).cloned().collect();
    let findings = match config::load(&Common { config, ..common.clone() }.sources()) {
        Ok(config) => {
            let mut findings = of_config(&config);
            if args.online {
                findings.extend(online::findings(&config).await);
            }
            findings
        }
        Err(report) if common.output == Output::Json => report_findings(&report),
        Err(report) => {
            print(&format!("{report}\n"));
            return Ok(exit::ERROR);
        }
    };
    match common.output {
        Output::Json => {
            print(&(serde_json::to_string_pretty(&findings).context("can't encode the findings as JSON")? + "\n"))
        }
        Output::Table => print(&render(&findings, table::colours())),
    }
    Ok(code(&findings))
}

/// Returns the findings about a configuration without problems.
pub(super) fn of_config(config: &Config) -> Vec<CheckFinding> {
    let mut findings = vec![config_finding(config)];
    findings.extend(config.policies.iter().filter_map(|policy| impatience(policy, &config.prometheus)));
    let window = run::sampling_options(config).window;
    findings.extend(config.policies.iter().flat_map(|policy| blended_guard(policy, window)));
    findings.extend(config.policies.iter().flat_map(merged_services));
    findings.extend(config.policies.iter().filter_map(independent_requests));
    let scrapes = config.prometheus.scrape_interval;
    findings.extend(config.policies.iter().flat_map(|policy| short_windows(policy, scrapes)));
    findings
}

/// Returns a finding for each problem of the configuration. The problems' messages contain their remedies.
pub(super) fn report_findings(report: &config::ConfigReport) -> Vec<CheckFinding> {
    let text = |problem: &config::ConfigProblem| format!("{}: {}", problem.place, problem.message);
    let why = "the daemon does not start with a configuration that has a problem";
    let finding = |problem| CheckFinding::without_remedy(Level::Problem, "config", text(problem)).because(why);
    report.problems.iter().map(finding).collect()
}

fn config_finding(config: &Config) -> CheckFinding {
    let (policies, metrics) = (config.policies.len(), config.metrics.len());
    if policies == 0 {
        let remedy = "add a [[policy]]; config/policies/canary.toml is an example";
        return CheckFinding::warning("config", "there is no policy, so every event is ignored", remedy);
    }
    CheckFinding::fine(
        "config",
        format!("{}, {}", counted(policies, "policy", "policies"), counted(metrics, "metric", "metrics")),
    )
}

/// Returns a warning if a policy's patience can be over before the first counts of a step arrive. A block needs two readings
/// after the step's start, each `lag` old; the first scrape of a new pod comes up to `scrape-interval` after its start.
fn impatience(policy: &Policy, reading: &prometheus::Options) -> Option<CheckFinding> {
    let prometheus::Options { lag, interval, scrape_interval, .. } = reading;
    let millis = lag.as_millis() + scrape_interval.as_millis() + 2 * interval.as_millis();
    let first_counts = Span::from_millis(millis);
    let patience = policy.patience.blind.min(policy.patience.insufficient);
    if patience >= first_counts {
        return None;
    }
    let text = format!(
        "policy {}: the patience of {patience} can be over before the first counts of a step arrive, which takes up to {first_counts} \
         (prometheus.lag {lag}, scrape-interval {scrape_interval}, two intervals of {interval})",
        policy.name
    );
    Some(CheckFinding::warning(
        "config",
        text,
        format!("set patience.blind and patience.insufficient to {first_counts} or more"),
    ))
}

/// Returns a warning for each query of the guard whose window reaches back before the promotion for half of the guard or longer.
/// It then tells of the old version's requests too. A query by `{{pod-hash}}` reads the new version alone.
fn blended_guard(policy: &Policy, window: Span) -> Vec<CheckFinding> {
    let Some(guard) = policy.guard.as_ref().filter(|guard| guard.length < window + window) else { return Vec::new() };
    let is_blended = |name: &&String| {
        let query = policy.metrics.get(*name).and_then(|metric| metric.query.as_deref()).unwrap_or_default();
        query.contains("{{window}}") && !query.contains("{{pod-hash}}")
    };
    let metrics: BTreeSet<&String> = guard.checks.iter().map(|check| &check.metric).filter(is_blended).collect();
    let warning = |metric: &String| {
        let text = format!(
            "policy {}: in the first {window} of its guard of {}, the query {metric} counts requests from before the promotion too",
            policy.name, guard.length
        );
        let remedy =
            format!("set guard.for to {} or more, or use a metric with counters instead of a query", window + window);
        CheckFinding::warning("config", text, remedy)
    };
    metrics.into_iter().map(warning).collect()
}

/// Returns a warning for each metric that tells the arms by the name of a Service, without its namespace.
fn merged_services(policy: &Policy) -> Vec<CheckFinding> {
    let is_merged = |metric: &Metric| match &metric.arms {
        ArmSource::Service { value, .. } => !value.contains("{{namespace}}") && metric.namespace_label.is_none(),
        ArmSource::Pods => false,
    };
    let merged = policy.metrics.iter().filter(|(_, metric)| is_merged(metric));
    let warning = |(name, _): (&String, &Metric)| {
        let text = format!("policy {}: {name} counts Services of equal names in two namespaces together", policy.name);
        let remedy = "name the label with the namespace, as in namespace-label = \"namespace\", or write {{namespace}} into the value";
        CheckFinding::warning("config", text, remedy)
    };
    merged.map(warning).collect()
}

/// Returns a warning if an A/B test counts requests as independent without saying so. Those of one user are not.
fn independent_requests(policy: &Policy) -> Option<CheckFinding> {
    let test = policy.ab.as_ref().filter(|test| test.design_effect.is_none())?;
    let text = format!(
        "policy {}: its A/B test counts the requests of {} as independent, so equal versions get a winner more often than {} if \
         a user makes several",
        policy.name,
        test.reward,
        Unit::Percent.show(test.level)
    );
    let remedy = "count users instead of requests and set ab.design-effect to 1, or set it to 1 + (requests of a user - 1) · (their correlation)";
    Some(CheckFinding::warning("config", text, remedy))
}

/// Returns a warning for each check that takes its value over a window in which a process may have fewer than two samples. The
/// sequential judge has no window.
fn short_windows(policy: &Policy, scrapes: Span) -> Vec<CheckFinding> {
    let guard = policy.guard.iter().flat_map(|guard| &guard.checks);
    let checks = policy.steps.iter().flat_map(|step| &step.checks).chain(guard);
    // Judges without a window of their own need the dispersion.
    let windowed = checks.filter(|check| !check.judge.needs_dispersion());
    let windows: BTreeSet<(&str, Span)> = windowed.map(|check| (check.name.as_str(), check.judge.window())).collect();
    let short = windows.into_iter().filter(|(_, window)| *window < scrapes + scrapes);
    let warning = |(name, window): (&str, Span)| {
        let text = format!(
            "policy {}: the window of {name} is {window}, and prometheus.scrape-interval is {scrapes}",
            policy.name
        );
        let remedy = format!("set window to {} or more in the check", scrapes + scrapes + scrapes + scrapes);
        CheckFinding::warning("config", text, remedy)
            .because("most windows have no two samples of a process, so the check is blind")
    };
    short.map(warning).collect()
}

/// Returns a line for each finding with its remedy below it, and a last line with the number of problems and warnings.
pub fn render(findings: &[CheckFinding], colours: bool) -> String {
    lines(findings, colours, false)
}

/// Returns the same with the consequence of each finding.
pub fn render_with_reasons(findings: &[CheckFinding], colours: bool) -> String {
    lines(findings, colours, true)
}

fn lines(findings: &[CheckFinding], colours: bool, with_reasons: bool) -> String {
    let width = findings.iter().map(|finding| finding.area.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for CheckFinding { level, area, text: sentence, why, remedy } in findings {
        let (mark, state) = match level {
            Level::Fine => ("✔", "pass"),
            Level::Warning => ("⚠", "held"),
            Level::Problem => ("✖", "regressed"),
        };
        text += &format!("{} {area:<width$}  {sentence}\n", table::paint(state, mark, colours));
        if let Some(why) = why.as_ref().filter(|_| with_reasons) {
            text += &format!("  {:<width$}  why: {why}\n", "");
        }
        if let Some(remedy) = remedy {
            text += &format!("  {:<width$}  fix: {remedy}\n", "");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let sums = [(count(Level::Problem), "problem", "problems"), (count(Level::Warning), "warning", "warnings")];
    let sums: Vec<String> = sums.iter().filter(|(n, ..)| *n > 0).map(|(n, one, many)| counted(*n, one, many)).collect();
    text + &(if sums.is_empty() { "No problems.\n".to_owned() } else { format!("{}.\n", sums.join(", ")) })
}

/// Returns the exit code: a problem is an error, a warning is not.
pub fn code(findings: &[CheckFinding]) -> u8 {
    if findings.iter().any(|finding| finding.level == Level::Problem) { exit::ERROR } else { exit::OK }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
cluster = "prod"
presets = ["otel-http"]
[[policy]]
name = "web"
match = { namespaces = ["shop"], workloads = ["*"], images = ["r/*"] }
patience = { blind = "10m", insufficient = "30s" }
[[policy.check]]
metric = "error-rate"
max = "1%"
[[policy.step]]
weight = "10%"
min-time = "5m"
"#;

    #[test]
    fn a_patience_that_ends_before_the_first_counts_is_a_warning() {
        let finding = |text: &str| {
            let config = config::of_text(text);
            impatience(&config.policies[0], &config.prometheus).map(|finding| finding.text)
        };
        assert_eq!(
            finding(POLICY).unwrap(),
            "policy web: the patience of 30s can be over before the first counts of a step arrive, which takes up to 1m \
             (prometheus.lag 15s, scrape-interval 15s, two intervals of 15s)"
        );
        assert_eq!(finding(&POLICY.replace("30s", "60s")), None);
    }

    #[test]
    fn a_query_that_reaches_back_before_a_short_guard_is_a_warning() {
        let query = |query: &str, length: &str| {
            let rest = format!(
                "[policy.guard]\nfor = \"{length}\"\n[[policy.guard.check]]\nmetric = \"load\"\nmax = 1\n\
                 [metric.load]\nkind = \"query\"\nquery = 'sum(rate(load{{{query}}}[{{{{window}}}}]))'\n"
            );
            let config = config::of_text(&format!("{POLICY}{rest}"));
            let window = run::sampling_options(&config).window;
            blended_guard(&config.policies[0], window).into_iter().map(|finding| finding.text).collect::<Vec<_>>()
        };
        assert_eq!(
            query("service=\"{{service}}\"", "5m"),
            [
                "policy web: in the first 5m of its guard of 5m, the query load counts requests from before the promotion too"
            ]
        );
        assert_eq!(query("service=\"{{service}}\"", "9m").len(), 1);
        assert_eq!(query("service=\"{{service}}\"", "10m"), [""; 0]);
        assert_eq!(query("pod=~\".*{{pod-hash}}.*\"", "5m"), [""; 0]);
    }

    #[test]
    fn a_window_shorter_than_two_scrapes_is_a_warning() {
        let count = |window: &str| {
            let judge =
                format!("metric = \"error-rate\"\njudge = \"threshold\"\nevery = \"10s\"\nwindow = \"{window}\"");
            let config = config::of_text(&POLICY.replace("metric = \"error-rate\"", &judge));
            short_windows(&config.policies[0], Span::from_secs(60)).len()
        };
        assert_eq!((count("30s"), count("119s"), count("2m")), (1, 1, 0));
        let sequential = config::of_text(POLICY);
        assert_eq!(short_windows(&sequential.policies[0], Span::from_secs(600)), []);
    }

    #[test]
    fn a_configuration_that_can_not_be_read_or_has_an_unknown_key_is_a_problem() {
        let missing = config::Sources { files: vec!["no-such-file.toml".into()], ..config::Sources::default() };
        let findings = report_findings(&config::load(&missing).unwrap_err());
        assert!(
            findings[0].text.contains("can't be read") && findings[0].text.contains("check --config"),
            "{findings:?}"
        );
        let findings = report_findings(&config::load_text("a.toml", "[kafka]\nbrokrs = \"x\"\n").unwrap_err());
        assert!(findings[0].text.contains("did you mean `brokers`?") && findings[0].why.is_some(), "{findings:?}");
    }

    #[test]
    fn a_service_without_its_namespace_is_a_warning() {
        let count = |value: &str, namespace: &str| {
            let metric = format!(
                "[metric.error-rate]\nkind = \"ratio\"\nseries = \"requests\"\nhits = {{ label = \"code\", matches = \"5..\" }}\n\
                 arms = {{ service = {{ label = \"service\", value = \"{value}\" }} }}\n{namespace}\n"
            );
            merged_services(&config::of_text(&format!("{POLICY}{metric}")).policies[0]).len()
        };
        assert_eq!(count("{{service}}", ""), 1);
        assert_eq!(count("{{namespace}}/{{service}}", ""), 0);
        assert_eq!(count("{{service}}", "namespace-label = \"namespace\""), 0);
    }
}
