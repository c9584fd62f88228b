//! The rules of others with the settings that people have, or that their documentation begins with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Judged;
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

/// A rule and its settings.
#[derive(Debug, Clone)]
pub struct Rival {
    /// What people call it.
    pub name: String,
    /// The rule.
    pub rule: RivalSettings,
    /// What its queries mean in the recording.
    pub queries: BTreeMap<String, RecordedQuery>,
}

/// Whose rule, and how it is set.
#[derive(Debug, Clone)]
pub enum RivalSettings {
    /// The article's.
    Article(article::ArticleSettings),
    /// Argo Rollouts'.
    Argo(argo::ArgoSettings),
    /// Flagger's.
    Flagger(flagger::FlaggerSettings),
    /// Kayenta's.
    Kayenta(kayenta::KayentaSettings),
}

impl Rival {
    /// The four, on a recorded share of errors, for rollouts that take as long as `lasts`: the article's 5 %; Argo Rollouts with 99 % success a minute and `failureLimit`
    /// 3; Flagger with the same success, threshold 5 and steps of 10 % to 50 %, where it promotes; Kayenta once at the end,
    /// 95 to pass.
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
            rival("the article's rule", RivalSettings::Article(of_article()), "error-rate", five_minutes),
            rival("Argo Rollouts", RivalSettings::Argo(of_argo(lasts)), "success-rate", query(MINUTE, Form::Success)),
            rival("Flagger", RivalSettings::Flagger(of_flagger()), SUCCESS, percent()),
            rival("Kayenta", RivalSettings::Kayenta(of_kayenta(lasts, lasts)), SUCCESS, percent()),
        ]
    }

    /// From an AnalysisTemplate or a Canary. `queries` say what its metrics mean in the recording; Flagger's own two are found
    /// by themselves among what `blocks` have. An AnalysisTemplate without an end looks for as long as `lasts`.
    ///
    /// # Errors
    /// [`ManifestProblem`]: what can't be read, or whose query nobody has explained.
    pub fn from_manifest(
        manifest: &Value,
        queries: &BTreeMap<String, RecordedQuery>,
        blocks: &[Block],
        lasts: Span,
    ) -> Result<Rival, ManifestProblem> {
        let name = |kind: &str| format!("{kind} {}", manifest["metadata"]["name"].as_str().unwrap_or("without a name"));
        let (name, rule, wanted) = if manifest["kind"] == "Canary" {
            let settings = flagger::FlaggerSettings::from_manifest(manifest)?;
            let wanted = settings.metrics.iter().map(|metric| (metric.name.clone(), own(metric, blocks))).collect();
            (name("Flagger"), RivalSettings::Flagger(settings), wanted)
        } else {
            let settings = argo::ArgoSettings::from_manifest(manifest)?;
            let settings = argo::ArgoSettings { lasts: settings.lasts.or(Some(lasts)), ..settings };
            let wanted: Vec<_> = settings.metrics.iter().map(|metric| (metric.name.clone(), None)).collect();
            (name("Argo Rollouts"), RivalSettings::Argo(settings), wanted)
        };
        let explained = wanted.into_iter().map(|(metric, own)| {
            let query = queries.get(&metric).cloned().or(own).ok_or_else(|| unexplained(&metric))?;
            Ok((metric, query))
        });
        Ok(Rival { name, rule, queries: explained.collect::<Result<_, ManifestProblem>>()? })
    }

    fn begin(&self, start: Timestamp) -> Box<dyn RivalRule> {
        match &self.rule {
            RivalSettings::Article(settings) => Box::new(Article::new(settings.clone(), start)),
            RivalSettings::Argo(settings) => Box::new(Argo::new(settings.clone(), start)),
            RivalSettings::Flagger(settings) => Box::new(Flagger::new(settings.clone(), start)),
            RivalSettings::Kayenta(settings) => Box::new(Kayenta::new(settings.clone(), start)),
        }
    }

    /// What it decides about a rollout that begins with the first block.
    pub(super) fn judge(&self, blocks: &[Block]) -> Option<Judged> {
        let (start, end) = (blocks.first()?.from, blocks.last()?.to);
        let mut rule = self.begin(start);
        let mut recording = Recording::new(self.queries.clone());
        for block in blocks {
            recording.play(block.clone(), &mut [rule.as_mut()]);
            if let Some(outcome) = rule.outcome() {
                let why = outcome.why.to_string();
                return Some(Judged::new(&self.name, Some(outcome.end), (start, outcome.at), why));
            }
        }
        Some(Judged::new(&self.name, None, (start, end), "nothing has ended it yet".to_owned()))
    }
}

fn unexplained(metric: &str) -> ManifestProblem {
    ManifestProblem {
        path: format!("the metric {metric}"),
        value: "its query".to_owned(),
        remedy: "PromQL is not read here; say which recorded metric it is".to_owned(),
    }
}

/// What Flagger's own metrics are in a recording: its one ratio, or its one histogram.
fn own(metric: &flagger::FlaggerMetric, blocks: &[Block]) -> Option<RecordedQuery> {
    let query = |metric: String, window, quantile, form| Some(RecordedQuery { metric, window, quantile, form });
    match (metric.name.as_str(), &metric.template) {
        (SUCCESS, None) => query(errors(blocks)?, metric.window, 0.95, Form::SuccessPercent),
        ("request-duration", None) => {
            let latency = only(blocks, |reading| matches!(reading, Reading::Histogram { .. }))?;
            query(latency, metric.window, 0.99, Form::Milliseconds)
        }
        _ => None,
    }
}

/// The one share that was recorded; `None`: there is none, or more than one.
pub fn errors(blocks: &[Block]) -> Option<String> {
    only(blocks, |reading| matches!(reading, Reading::Ratio { .. }))
}

/// The one metric whose readings are such.
fn only(blocks: &[Block], is: fn(&Reading) -> bool) -> Option<String> {
    let of_kind = blocks.iter().flat_map(|block| &block.metrics).filter(|(_, sample)| has(sample, is));
    let names: BTreeSet<&String> = of_kind.map(|(name, _)| name).collect();
    let mut names = names.into_iter();
    names.next().filter(|_| names.next().is_none()).cloned()
}

fn has(sample: &Sample, is: fn(&Reading) -> bool) -> bool {
    match sample {
        Sample::Arms { canary, stable } => [canary, stable].into_iter().flatten().any(is),
        Sample::Gap(_) => false,
    }
}

fn of_article() -> article::ArticleSettings {
    let limits = vec![("error-rate".to_owned(), Limit::Max(0.05))];
    article::ArticleSettings { limits, ..article::ArticleSettings::canary() }
}

fn of_argo(lasts: Span) -> argo::ArgoSettings {
    let metric = argo::ArgoMetric {
        interval: Some(MINUTE),
        initial_delay: MINUTE,
        failure_limit: Some(3),
        // It is a condition: a test reads it.
        success: "result[0] >= 0.99".parse().ok(),
        ..argo::ArgoMetric::new("success-rate")
    };
    argo::ArgoSettings { metrics: vec![metric], lasts: Some(lasts) }
}

fn of_flagger() -> flagger::FlaggerSettings {
    let (min, max) = (Some(99.0), None);
    let metric = flagger::FlaggerMetric { name: SUCCESS.to_owned(), template: None, window: MINUTE, min, max };
    let steps = Steps::Even { step: 10, most: 50 };
    flagger::FlaggerSettings { interval: MINUTE, threshold: 5, steps, metrics: vec![metric] }
}

/// One metric, the success rate, scored every `interval` until `lasts` is over. In percent, for in smaller numbers its root finder
/// sees nothing.
pub fn of_kayenta(interval: Span, lasts: Span) -> kayenta::KayentaSettings {
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
