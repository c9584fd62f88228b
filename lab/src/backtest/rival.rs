//! The rules of other tools with their queries, from a manifest or with usual settings.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::judged::Judged;
use crate::rivals::argo::{self, Argo};
use crate::rivals::article::{self, Article};
use crate::rivals::flagger::{self, Flagger, Steps};
use crate::rivals::kayenta::{self, Kayenta};
use crate::rivals::manifest::ManifestProblem;
use crate::rivals::recording::{Form, RecordedQuery, Recording};
use crate::rivals::{RivalRule, SUCCESS};
use bellwether_core::measure::block::{Block, Reading, Sample};
use bellwether_core::measure::metric::Limit;
use bellwether_core::stats::mann_whitney;
use bellwether_core::time::{Span, Timestamp};

const MINUTE: Span = Span::from_secs(60);

/// The rule of another tool, with its settings and the recorded metrics of its queries.
#[derive(Debug, Clone)]
pub struct Rival {
    /// The rule's name for reports, such as `Argo Rollouts web`.
    pub name: String,
    /// The rule's settings.
    pub rule: RivalSettings,
    /// The recorded metrics of the rule's queries, by the rule's names for them.
    pub queries: BTreeMap<String, RecordedQuery>,
}

/// The settings of a rule, by the tool.
#[derive(Debug, Clone)]
pub enum RivalSettings {
    /// Settings of the article's rule.
    Article(article::ArticleSettings),
    /// Settings of Argo Rollouts.
    Argo(argo::ArgoSettings),
    /// Settings of Flagger.
    Flagger(flagger::FlaggerSettings),
    /// Settings of Kayenta.
    Kayenta(kayenta::KayentaSettings),
}

impl Rival {
    /// Returns the four rules with usual settings, on the recorded share of errors `errors`, for rollouts of the length
    /// `lasts`.
    ///
    /// The article's rule has a limit of 5 %. Argo Rollouts requires 99 % success per minute and allows three
    /// failures. Flagger requires the same success with a threshold of 5, and promotes after steps of 10 % up to 50 %.
    /// Kayenta judges once at the end and requires a score of 95.
    pub fn usual(errors: &str, lasts: Span) -> Vec<Rival> {
        let query =
            |window: Span, form: Form| RecordedQuery { metric: errors.to_owned(), window, quantile: 0.95, form };
        let rival = |name: &str, rule: RivalSettings, own: &str, query: RecordedQuery| {
            let queries = BTreeMap::from([(own.to_owned(), query)]);
            Rival { name: name.to_owned(), rule, queries }
        };
        let five_minutes = query(Span::from_secs(300), Form::Plain);
        let percent = || query(MINUTE, Form::SuccessPercent);
        vec![
            rival("the article's rule", RivalSettings::Article(article_settings()), "error-rate", five_minutes),
            rival(
                "Argo Rollouts",
                RivalSettings::Argo(argo_settings(lasts)),
                "success-rate",
                query(MINUTE, Form::Success),
            ),
            rival("Flagger", RivalSettings::Flagger(flagger_settings()), SUCCESS, percent()),
            rival("Kayenta", RivalSettings::Kayenta(kayenta_settings(lasts, lasts)), SUCCESS, percent()),
        ]
    }

    /// Reads a rule from an AnalysisTemplate of Argo Rollouts or a Canary of Flagger.
    ///
    /// `queries` has the recorded metric of each of the manifest's metrics. Flagger's own two metrics may be left out
    /// if `blocks` have exactly one ratio and one histogram. An analysis of Argo Rollouts is terminated after `lasts`.
    ///
    /// # Errors
    /// [`ManifestProblem`] for the first field that is missing, malformed or not reproduced, or for a metric without an
    /// entry in `queries`.
    pub fn from_manifest(
        manifest: &Value,
        queries: &BTreeMap<String, RecordedQuery>,
        blocks: &[Block],
        lasts: Span,
    ) -> Result<Rival, ManifestProblem> {
        let name = |kind: &str| format!("{kind} {}", manifest["metadata"]["name"].as_str().unwrap_or("without a name"));
        let (name, rule, metrics) = if manifest["kind"] == "Canary" {
            let settings = flagger::FlaggerSettings::from_manifest(manifest)?;
            let default = |metric| default_query(metric, blocks);
            let metrics = settings.metrics.iter().map(|metric| (metric.name.clone(), default(metric))).collect();
            (name("Flagger"), RivalSettings::Flagger(settings), metrics)
        } else {
            let settings = argo::ArgoSettings::from_manifest(manifest)?;
            let settings = argo::ArgoSettings { lasts: settings.lasts.or(Some(lasts)), ..settings };
            let metrics: Vec<_> = settings.metrics.iter().map(|metric| (metric.name.clone(), None)).collect();
            (name("Argo Rollouts"), RivalSettings::Argo(settings), metrics)
        };
        let recorded = metrics.into_iter().map(|(metric, default)| {
            let query = queries.get(&metric).cloned().or(default).ok_or_else(|| without_query(&metric))?;
            Ok((metric, query))
        });
        Ok(Rival { name, rule, queries: recorded.collect::<Result<_, ManifestProblem>>()? })
    }

    fn start(&self, start: Timestamp) -> Box<dyn RivalRule> {
        match &self.rule {
            RivalSettings::Article(settings) => Box::new(Article::new(settings.clone(), start)),
            RivalSettings::Argo(settings) => Box::new(Argo::new(settings.clone(), start)),
            RivalSettings::Flagger(settings) => Box::new(Flagger::new(settings.clone(), start)),
            RivalSettings::Kayenta(settings) => Box::new(Kayenta::new(settings.clone(), start)),
        }
    }

    /// Decides about a rollout that begins with the first block. Returns `None` without blocks.
    pub(super) fn judge(&self, blocks: &[Block]) -> Option<Judged> {
        let (start, end) = (blocks.first()?.from, blocks.last()?.to);
        let mut rule = self.start(start);
        let mut recording = Recording::new(self.queries.clone());
        for block in blocks {
            recording.play(block.clone(), &mut [rule.as_mut()]);
            if let Some(outcome) = rule.outcome() {
                let why = outcome.why.to_string();
                return Some(Judged::new(&self.name, Some(outcome.end), (start, outcome.at), why));
            }
        }
        Some(Judged::new(&self.name, None, (start, end), "the rule has not ended yet".to_owned()))
    }
}

fn without_query(metric: &str) -> ManifestProblem {
    ManifestProblem {
        path: format!("the metric {metric}"),
        value: "its query".to_owned(),
        remedy: "PromQL is not evaluated here; say which recorded metric it is".to_owned(),
    }
}

/// Returns the recorded metric of one of Flagger's own metrics: the only ratio, or the only histogram.
fn default_query(metric: &flagger::FlaggerMetric, blocks: &[Block]) -> Option<RecordedQuery> {
    let query = |metric: String, window, quantile, form| Some(RecordedQuery { metric, window, quantile, form });
    match (metric.name.as_str(), &metric.template) {
        (SUCCESS, None) => query(only_ratio(blocks)?, metric.window, 0.95, Form::SuccessPercent),
        ("request-duration", None) => {
            let latency = only_metric(blocks, |reading| matches!(reading, Reading::Histogram { .. }))?;
            query(latency, metric.window, 0.99, Form::Milliseconds)
        }
        _ => None,
    }
}

/// Returns the name of the only recorded ratio; `None` if there is none or more than one.
pub fn only_ratio(blocks: &[Block]) -> Option<String> {
    only_metric(blocks, |reading| matches!(reading, Reading::Ratio { .. }))
}

/// Returns the name of the only metric with readings of a form.
fn only_metric(blocks: &[Block], has_form: fn(&Reading) -> bool) -> Option<String> {
    let metrics = blocks.iter().flat_map(|block| &block.metrics).filter(|(_, sample)| has_reading(sample, has_form));
    let names: BTreeSet<&String> = metrics.map(|(name, _)| name).collect();
    let mut names = names.into_iter();
    names.next().filter(|_| names.next().is_none()).cloned()
}

fn has_reading(sample: &Sample, has_form: fn(&Reading) -> bool) -> bool {
    match sample {
        Sample::Arms { canary, stable } => [canary, stable].into_iter().flatten().any(has_form),
        Sample::Gap(_) => false,
    }
}

fn article_settings() -> article::ArticleSettings {
    let limits = vec![("error-rate".to_owned(), Limit::Max(0.05))];
    article::ArticleSettings { limits, ..article::ArticleSettings::canary() }
}

fn argo_settings(lasts: Span) -> argo::ArgoSettings {
    let metric = argo::ArgoMetric {
        interval: Some(MINUTE),
        initial_delay: MINUTE,
        failure_limit: Some(3),
        // A valid condition, so `ok` never gives `None`.
        success: "result[0] >= 0.99".parse().ok(),
        ..argo::ArgoMetric::new("success-rate")
    };
    argo::ArgoSettings { metrics: vec![metric], lasts: Some(lasts) }
}

fn flagger_settings() -> flagger::FlaggerSettings {
    let (min, max) = (Some(99.0), None);
    let metric = flagger::FlaggerMetric { name: SUCCESS.to_owned(), template: None, window: MINUTE, min, max };
    let steps = Steps::Even { step: 10, most: 50 };
    flagger::FlaggerSettings { interval: MINUTE, threshold: 5, steps, metrics: vec![metric] }
}

/// Returns settings of Kayenta for one metric, the percentage of successes, judged every `interval` until `lasts` is
/// over.
///
/// The metric is in percent because the absolute tolerance of Kayenta's root search is too coarse for shares.
pub fn kayenta_settings(interval: Span, lasts: Span) -> kayenta::KayentaSettings {
    let settings = mann_whitney::MannWhitneySettings {
        direction: mann_whitney::Direction::Decrease,
        ..mann_whitney::MannWhitneySettings::default()
    };
    let metric = kayenta::KayentaMetric { name: SUCCESS.to_owned(), groups: vec!["errors".to_owned()], settings };
    kayenta::KayentaSettings {
        lifetime: lasts,
        interval,
        begin_after: Span::ZERO,
        lookback: None,
        pass: 95.0,
        marginal: 75.0,
        metrics: vec![metric],
        weights: BTreeMap::new(),
    }
}
