//! Conversion of an AnalysisTemplate or ClusterAnalysisTemplate to [`ArgoSettings`].

use serde_json::Value;

use super::{ArgoMetric, ArgoSettings, ERROR_LIMIT};
use crate::rivals::manifest::{ManifestProblem, Place};
use bellwether_core::time::Span;

/// The known keys of a metric.
const METRIC: [&str; 11] = [
    "name",
    "provider",
    "interval",
    "initialDelay",
    "count",
    "failureLimit",
    "inconclusiveLimit",
    "consecutiveErrorLimit",
    "consecutiveSuccessLimit",
    "successCondition",
    "failureCondition",
];

impl ArgoSettings {
    /// Reads the settings from an AnalysisTemplate or a ClusterAnalysisTemplate. Arguments such as `{{args.name}}` are
    /// kept in queries and refused in all other fields, where they must already be replaced by their values.
    ///
    /// # Errors
    /// [`ManifestProblem`] for the first field that is missing or malformed, or that this rule does not reproduce.
    pub fn from_manifest(manifest: &Value) -> Result<ArgoSettings, ManifestProblem> {
        let spec = Place::root(manifest).spec(&["AnalysisTemplate", "ClusterAnalysisTemplate"])?;
        spec.only(&["args", "metrics", "dryRun", "measurementRetention", "templates"])?;
        spec.refuse("templates", "give the templates that it refers to one by one")?;
        spec.refuse("dryRun", "take the metrics that only run dry out of the template")?;
        let metrics = spec.at("metrics").list()?.iter().map(metric).collect::<Result<Vec<_>, _>>()?;
        if metrics.is_empty() {
            return Err(spec.at("metrics").problem("a template needs a metric"));
        }
        Ok(ArgoSettings { metrics, lasts: None })
    }
}

fn metric(place: &Place<'_>) -> Result<ArgoMetric, ManifestProblem> {
    place.only(&METRIC)?;
    let name = place.at("name").text()?;
    let failures = place.at("failureLimit");
    let failure_limit = match failures.whole()? {
        None => Some(0),
        Some(-1) => None,
        Some(_) => failures.count()?,
    };
    Ok(ArgoMetric {
        query: Some(query(&place.at("provider"))?),
        interval: place.at("interval").span()?,
        initial_delay: place.at("initialDelay").span()?.unwrap_or(Span::ZERO),
        count: place.at("count").count()?,
        failure_limit,
        inconclusive_limit: place.at("inconclusiveLimit").count()?.unwrap_or(0),
        error_limit: place.at("consecutiveErrorLimit").count()?.unwrap_or(ERROR_LIMIT),
        success_limit: place.at("consecutiveSuccessLimit").count()?.filter(|limit| *limit > 0),
        success: place.at("successCondition").parsed()?,
        failure: place.at("failureCondition").parsed()?,
        ..ArgoMetric::new(name)
    })
}

fn query(provider: &Place<'_>) -> Result<String, ManifestProblem> {
    provider.only(&["prometheus"])?;
    let prometheus = provider.at("prometheus");
    prometheus.only(&["address", "query", "timeout", "insecure", "headers", "authentication", "rangeQuery"])?;
    prometheus.refuse("rangeQuery", "use an instant query")?;
    Ok(prometheus.at("query").text()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(metric: Value) -> Value {
        json!({ "kind": "AnalysisTemplate", "spec": { "metrics": [metric] } })
    }

    fn prometheus(mut more: Value) -> Value {
        let query =
            json!({ "prometheus": { "address": "http://prometheus:9090", "query": "sum(x{a=\"{{args.a}}\"})" } });
        more["name"] = json!("success-rate");
        more["provider"] = query;
        more
    }

    /// `docs/features/analysis.md`, the first example.
    #[test]
    fn a_template_is_read_with_argos_defaults() {
        let written =
            prometheus(json!({ "interval": "5m", "successCondition": "result[0] >= 0.95", "failureLimit": 3 }));
        let settings = ArgoSettings::from_manifest(&template(written)).unwrap();
        let expected = ArgoMetric {
            query: Some("sum(x{a=\"{{args.a}}\"})".to_owned()),
            interval: Some(Span::from_secs(300)),
            failure_limit: Some(3),
            success: Some("result[0] >= 0.95".parse().unwrap()),
            ..ArgoMetric::new("success-rate")
        };
        assert_eq!(settings, ArgoSettings { metrics: vec![expected], lasts: None });
        let back: ArgoSettings = serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
        assert_eq!(back, settings);
        let other =
            prometheus(json!({ "failureLimit": -1, "count": "10", "consecutiveSuccessLimit": 4, "interval": "1m30s" }));
        let metric = ArgoSettings::from_manifest(&template(other)).unwrap().metrics.remove(0);
        assert_eq!((metric.failure_limit, metric.count, metric.success_limit), (None, Some(10), Some(4)));
        assert_eq!(metric.interval, Some(Span::from_secs(90)));
    }

    #[test]
    fn fields_that_are_malformed_or_not_reproduced_are_refused_with_their_path() {
        let with = |more: Value| template(prometheus(more));
        let mut nested = with(json!({}));
        nested["spec"]["templates"] = json!([{ "templateName": "other" }]);
        let mut dry = with(json!({}));
        dry["spec"]["dryRun"] = json!([{ "metricName": ".*" }]);
        for (manifest, expected) in [
            (json!({ "kind": "Rollout", "spec": {} }), r#"kind: "Rollout": give a manifest of kind AnalysisTemplate"#),
            (json!({ "kind": "AnalysisTemplate" }), "spec: is missing"),
            (json!({ "kind": "AnalysisTemplate", "spec": {} }), "spec.metrics: is missing: a template needs a metric"),
            (with(json!({ "interval": "5" })), r#"spec.metrics[0].interval: "5": "#),
            (with(json!({ "count": "{{args.n}}" })), r#"spec.metrics[0].count: "{{args.n}}": write a whole number"#),
            (with(json!({ "failureLimit": -2 })), "spec.metrics[0].failureLimit: -2"),
            (with(json!({ "successCondition": "all(result, {# < 1})" })), "spec.metrics[0].successCondition"),
            (with(json!({ "sucessCondition": "true" })), "spec.metrics[0].sucessCondition"),
            (template(json!({ "name": "a", "provider": { "job": {} } })), "spec.metrics[0].provider.job: {}"),
            (nested, "spec.templates"),
            (dry, "spec.dryRun"),
        ] {
            let problem = ArgoSettings::from_manifest(&manifest).unwrap_err().to_string();
            assert!(problem.starts_with(expected), "{problem}\n{expected}");
        }
    }
}
