//! Conversion of a Flagger Canary to [`FlaggerSettings`].

use serde_json::Value;

use super::{ALL, FlaggerMetric, FlaggerSettings, Steps};
use crate::rivals::manifest::{ManifestProblem, Place};
use bellwether_core::time::Span;

/// The default interval of an analysis: Flagger's `GetAnalysisInterval`.
const INTERVAL: Span = Span::from_secs(60);
/// The shortest interval of an analysis: Flagger's `GetAnalysisInterval`.
const MIN_ANALYSIS_INTERVAL: Span = Span::from_secs(10);
/// The default window of a metric: Flagger's `MetricInterval`.
const WINDOW: Span = Span::from_secs(60);

/// The known keys of `analysis`. Those after the bar don't affect the decisions about metrics and are ignored.
const ANALYSIS: [&str; 17] = [
    "interval",
    "threshold",
    "iterations",
    "stepWeight",
    "stepWeights",
    "maxWeight",
    "metrics",
    "match",
    "mirror",
    "webhooks",
    // |
    "mirrorWeight",
    "stepWeightPromotion",
    "alerts",
    "primaryReadyThreshold",
    "canaryReadyThreshold",
    "sessionAffinity",
    "matchPrimary",
];

impl FlaggerSettings {
    /// Reads the settings from a Canary. Webhooks that Flagger calls during the analysis are refused, because their
    /// answers are not recorded.
    ///
    /// # Errors
    /// [`ManifestProblem`] for the first field that is missing or malformed, or that this rule does not reproduce.
    pub fn from_manifest(manifest: &Value) -> Result<FlaggerSettings, ManifestProblem> {
        let spec = Place::root(manifest).spec(&["Canary"])?;
        spec.refuse("skipAnalysis", "there is nothing to compare with")?;
        spec.refuse("suspend", "there is nothing to compare with")?;
        // The name of `analysis` before v1beta1.
        let old = spec.at("canaryAnalysis");
        let analysis = if old.is_absent() { spec.at("analysis") } else { old };
        analysis.only(&ANALYSIS)?;
        analysis
            .refuse("mirror", "take it out: a mirrored step is measured like another, and comes before the first")?;
        analysis.at("webhooks").list()?.iter().try_for_each(webhook)?;
        let metrics = analysis.at("metrics").list()?.iter().map(metric).collect::<Result<Vec<_>, _>>()?;
        let (own, others): (Vec<_>, Vec<_>) = metrics.into_iter().partition(|metric| metric.template.is_none());
        Ok(FlaggerSettings {
            interval: analysis.at("interval").span()?.unwrap_or(INTERVAL).max(MIN_ANALYSIS_INTERVAL),
            threshold: analysis.at("threshold").count()?.unwrap_or(1).max(1),
            steps: steps(&analysis)?,
            metrics: own.into_iter().chain(others).collect(),
        })
    }
}

/// Refuses a webhook that takes part in the analysis. Those that only observe, or run before or after it, don't affect
/// decisions about metrics.
fn webhook(place: &Place<'_>) -> Result<(), ManifestProblem> {
    match place.at("type").text() {
        Ok("pre-rollout" | "post-rollout" | "event" | "confirm-rollout") => Ok(()),
        Ok(_) | Err(_) => Err(place
            .at("type")
            .problem("its answers are not recorded; take the webhook out to compare the metrics alone")),
    }
}

fn steps(analysis: &Place<'_>) -> Result<Steps, ManifestProblem> {
    let read = |key: &str| Ok::<u32, ManifestProblem>(analysis.at(key).count()?.unwrap_or(0));
    let (iterations, step, most) = (read("iterations")?, read("stepWeight")?, read("maxWeight")?);
    let is_matched = !analysis.at("match").list()?.is_empty();
    let weight = |place: &Place<'_>| place.count()?.ok_or_else(|| place.problem("write a weight"));
    let weights = analysis.at("stepWeights").list()?.iter().map(weight).collect::<Result<Vec<_>, _>>()?;
    if !weights.is_sorted_by(|a, b| a < b) || weights.first() == Some(&0) {
        return Err(analysis.at("stepWeights").problem("write weights that rise, from 1"));
    }
    match (iterations, step) {
        (1.., _) if is_matched => Ok(Steps::Matched { iterations }),
        (1.., _) => Ok(Steps::BlueGreen { iterations }),
        (0, 1..) => {
            // `stepWeight` takes precedence, but the last of `stepWeights` is still the last weight.
            let most = weights.last().copied().unwrap_or(most);
            Ok(Steps::Even { step, most: if most == 0 { ALL } else { most } })
        }
        (0, 0) if weights.is_empty() => {
            Err(analysis.at("stepWeight").problem("without stepWeight, stepWeights or iterations it never ends"))
        }
        (0, 0) => Ok(Steps::Weights(weights)),
    }
}

fn metric(place: &Place<'_>) -> Result<FlaggerMetric, ManifestProblem> {
    place.only(&["name", "interval", "thresholdRange", "threshold", "templateRef", "templateVariables", "query"])?;
    let name = place.at("name").text()?;
    place.refuse("query", "put the query into a MetricTemplate")?;
    let template = place.at("templateRef");
    let template = if template.is_absent() { None } else { Some(template.at("name").text()?.to_owned()) };
    let range = place.at("thresholdRange");
    let (mut min, mut max) = (range.at("min").number()?, range.at("max").number()?);
    match (name, &template) {
        ("request-success-rate", None) if range.is_absent() => min = place.at("threshold").number()?,
        ("request-duration", None) | (_, Some(_)) if range.is_absent() => max = place.at("threshold").number()?,
        ("request-success-rate" | "request-duration", None) | (_, Some(_)) => {}
        // Flagger ignores such a metric, so that it always passes.
        (_, None) => {
            return Err(place.at("templateRef").problem(format_args!(
                "{name} is not one of Flagger's own metrics and always passes; name its template"
            )));
        }
    }
    if min.is_none() && max.is_none() {
        return Err(range.problem("without min and max the metric always passes; write one of them"));
    }
    Ok(FlaggerMetric {
        name: name.to_owned(),
        template,
        window: place.at("interval").span()?.unwrap_or(WINDOW),
        min,
        max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn canary(mut analysis: Value) -> Value {
        if analysis.get("metrics").is_none() {
            analysis["metrics"] = json!([{ "name": "request-success-rate", "thresholdRange": { "min": 99 } }]);
        }
        json!({ "kind": "Canary", "spec": { "targetRef": { "name": "podinfo" }, "analysis": analysis } })
    }

    /// `docs/gitbook/usage/how-it-works.md`, the first example.
    #[test]
    fn a_canary_is_read_with_flaggers_defaults() {
        let settings = FlaggerSettings::from_manifest(&canary(json!({
            "interval": "1m", "threshold": 10, "maxWeight": 50, "stepWeight": 5,
            "metrics": [
                { "name": "error-rate", "templateRef": { "name": "errors", "namespace": "flagger" }, "threshold": 1 },
                { "name": "request-success-rate", "interval": "2m", "thresholdRange": { "min": 99 } },
                { "name": "request-duration", "thresholdRange": { "max": 500 } },
            ],
            "webhooks": [{ "name": "acceptance", "type": "pre-rollout", "url": "http://tester" }],
        })))
        .unwrap();
        let metric = |name: &str, min: Option<f64>, max: Option<f64>| FlaggerMetric {
            name: name.into(),
            template: None,
            window: Span::from_secs(60),
            min,
            max,
        };
        assert_eq!(
            settings.metrics,
            [
                FlaggerMetric { window: Span::from_secs(120), ..metric("request-success-rate", Some(99.0), None) },
                metric("request-duration", None, Some(500.0)),
                FlaggerMetric { template: Some("errors".into()), ..metric("error-rate", None, Some(1.0)) },
            ]
        );
        assert_eq!((settings.interval, settings.threshold), (Span::from_secs(60), 10));
        assert_eq!(settings.steps, Steps::Even { step: 5, most: 50 });
        let back: FlaggerSettings = serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
        assert_eq!(back, settings);
    }

    #[test]
    fn steps_are_read_with_flaggers_precedence() {
        for (analysis, expected) in [
            (json!({ "stepWeight": 10 }), Steps::Even { step: 10, most: 100 }),
            (json!({ "stepWeights": [1, 2, 10, 80] }), Steps::Weights(vec![1, 2, 10, 80])),
            (json!({ "stepWeight": 5, "stepWeights": [1, 30], "maxWeight": 50 }), Steps::Even { step: 5, most: 30 }),
            (json!({ "iterations": 10 }), Steps::BlueGreen { iterations: 10 }),
            (json!({ "iterations": 10, "match": [{ "headers": {} }] }), Steps::Matched { iterations: 10 }),
        ] {
            assert_eq!(
                FlaggerSettings::from_manifest(&canary(analysis.clone())).unwrap().steps,
                expected,
                "{analysis}"
            );
        }
        let short = FlaggerSettings::from_manifest(&canary(json!({ "stepWeight": 1, "interval": "2s" }))).unwrap();
        assert_eq!((short.interval, short.threshold), (Span::from_secs(10), 1));
    }

    #[test]
    fn fields_that_are_malformed_or_not_reproduced_are_refused_with_their_path() {
        let metric = |metric: Value| canary(json!({ "stepWeight": 1, "metrics": [metric] }));
        let mut skipped = canary(json!({ "stepWeight": 1 }));
        skipped["spec"]["skipAnalysis"] = json!(true);
        for (manifest, expected) in [
            (json!({ "kind": "Deployment" }), r#"kind: "Deployment": give a manifest of kind Canary"#),
            (skipped, "spec.skipAnalysis: true: it is not modelled here"),
            (canary(json!({})), "spec.analysis.stepWeight: is missing"),
            (canary(json!({ "stepWeights": [5, 1] })), "spec.analysis.stepWeights: [5,1]: write weights that rise"),
            (canary(json!({ "stepWeight": 1, "mirror": true })), "spec.analysis.mirror: true"),
            (canary(json!({ "stepWeight": 1, "intervall": "1m" })), "spec.analysis.intervall"),
            (
                canary(json!({ "stepWeight": 1, "webhooks": [{ "type": "confirm-promotion" }] })),
                r#"spec.analysis.webhooks[0].type: "confirm-promotion""#,
            ),
            (
                metric(json!({ "name": "latency", "thresholdRange": { "max": 1 } })),
                "spec.analysis.metrics[0].templateRef",
            ),
            (metric(json!({ "name": "request-duration" })), "spec.analysis.metrics[0].thresholdRange: is missing"),
            (
                metric(json!({ "name": "a", "query": "vector(1)", "threshold": 1 })),
                r#"spec.analysis.metrics[0].query: "vector(1)""#,
            ),
        ] {
            let problem = FlaggerSettings::from_manifest(&manifest).unwrap_err().to_string();
            assert!(problem.starts_with(expected), "{problem}\n{expected}");
        }
    }
}
