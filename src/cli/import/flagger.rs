//! A Canary of Flagger to a policy. The semantics, and the queries of its own metrics, are those of its sources at 15bd6ad
//! (1.44.0).

use bellwether_core::measure::metric::{Limit, MetricKind};
use bellwether_core::policy::{ApprovalPoint, Cohort, RouterKind};
use bellwether_core::time::Span;

use super::analysis::complete;
use super::convert::{ImportContext, empty_policy};
use super::draft::{CheckDraft, DraftStrategy, PolicyDraft};
use super::metric::{self, ConvertedMetric, NoMetric};
use super::note::{Field, Notes};
use super::object::{SourceKind, SourceObject, slug};
use super::placeholder::{placeholder, replace};

/// The default interval of an analysis, and of a metric's window.
const INTERVAL: Span = Span::from_secs(60);
/// The shortest interval of an analysis.
const MIN_INTERVAL: Span = Span::from_secs(10);

/// The queries of Flagger's own metrics by provider (`pkg/metrics/observers`): the beginning of the provider's name, the
/// share of successful requests in percent, and the p99 in milliseconds. The matchers of the workload are left out, except
/// for those whose labels name the pod.
const OWN: [(&str, &str, &str); 3] = [
    (
        "istio",
        "sum(rate(istio_requests_total{reporter=\"destination\",response_code!~\"5.*\"}[1m])) \
         / sum(rate(istio_requests_total{reporter=\"destination\"}[1m])) * 100",
        "histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter=\"destination\"}[1m])) by (le))",
    ),
    (
        "linkerd",
        "sum(rate(response_total{classification!=\"failure\",direction=\"inbound\"}[1m])) \
         / sum(rate(response_total{direction=\"inbound\"}[1m])) * 100",
        "histogram_quantile(0.99, sum(rate(response_latency_ms_bucket{direction=\"inbound\"}[1m])) by (le))",
    ),
    (
        "",
        "sum(rate(http_request_duration_seconds_count{kubernetes_pod_name=~\"a\",status!~\"5.*\"}[1m])) \
         / sum(rate(http_request_duration_seconds_count{kubernetes_pod_name=~\"a\"}[1m])) * 100",
        "histogram_quantile(0.99, sum(rate(http_request_duration_seconds_bucket{kubernetes_pod_name=~\"a\"}[1m])) by (le)) * 1000",
    ),
];

/// Converts a Canary, and the templates that it names.
pub fn convert(canary: &SourceObject, context: &mut ImportContext<'_>) -> PolicyDraft {
    let spec = canary.root().at("spec");
    let mut notes = Notes::default();
    let target = spec.at("targetRef");
    let workload = target.at("name").text().unwrap_or(canary.name());
    let mut draft = empty_policy(canary, slug(canary.name()), workload);
    if let Some(deployment) = context.deployment(workload, &draft) {
        draft.images = deployment.images(&["spec", "template"]).collect();
        draft.replicas = deployment.replicas();
    }
    let provider = provider(&spec);
    around(&spec, &target, &provider, &mut draft, &mut notes);
    let old = spec.at("canaryAnalysis");
    let analysis = if old.is_absent() { spec.at("analysis") } else { old };
    for metric in analysis.at("metrics").list() {
        self::metric(&metric, &analysis, &provider, &mut draft, context, &mut notes);
    }
    webhooks(&analysis.at("webhooks"), &mut draft, &mut notes);
    complete(&mut draft, &mut notes);
    steps(&analysis, &provider, &mut draft, &mut notes);
    threshold(&analysis, &draft, &mut notes);
    context.finish(canary, notes);
    draft
}

/// Returns the provider that the Canary names, or that its objects belong to. Flagger's own default is Istio.
fn provider(spec: &Field<'_>) -> String {
    let named = spec.at("provider").text().map(str::to_owned);
    let service = spec.at("service");
    named.unwrap_or_else(|| {
        let by_object = [
            (!spec.at("ingressRef").is_absent(), "nginx"),
            (!spec.at("upstreamRef").is_absent(), "gloo"),
            (!service.at("gatewayRefs").is_absent(), "gatewayapi:v1"),
        ];
        by_object.into_iter().find_map(|(has, name)| has.then(|| name.to_owned())).unwrap_or_else(|| "istio".to_owned())
    })
}

/// Converts the keys around the analysis.
fn around(spec: &Field<'_>, target: &Field<'_>, provider: &str, draft: &mut PolicyDraft, notes: &mut Notes) {
    let kind = target.at("kind").text().unwrap_or("Deployment");
    notes.reads(target, &["apiVersion", "kind", "name"]);
    if kind == "Deployment" {
        notes.converted(target, "match.workloads");
    } else {
        notes.replaced(
            target,
            "match.workloads",
            format!("Bellwether changes Deployments alone, and this is a {kind}"),
        );
    }
    draft.router = RouterKind::Gateway;
    let by_route = "its traffic goes through an HTTPRoute of yours to the Service of the Deployment";
    if provider.starts_with("gatewayapi") {
        notes.converted(&spec.at("provider"), "traffic = \"gateway\"");
    } else {
        notes.replaced(
            &spec.at("provider"),
            format!("traffic = \"gateway\": Bellwether does not write the objects of {provider}"),
            "send its traffic by an HTTPRoute, or set traffic = \"replicas\" for shares of whole pods",
        );
    }
    notes.replaced(
        &spec.at("service"),
        "the Deployment's own Service: no -primary exists, and -canary during a rollout alone",
        by_route,
    );
    for key in ["ingressRef", "routeRef", "upstreamRef"] {
        notes.replaced(&spec.at(key), "the HTTPRoute of its Service", by_route);
    }
    notes.not_needed(
        &spec.at("autoscalerRef"),
        "the Deployment keeps its autoscaler; `bellwether check --online` names the conflicts",
    );
    notes.converted(&spec.at("metricsServer"), "prometheus.url");
    let deadline = spec.at("progressDeadlineSeconds");
    draft.deadline = deadline.span().filter(|span| *span > Span::ZERO);
    notes.converted(&deadline, "ready-within and promote-within: without progress for so long the rollout is given up");
    notes.dropped(
        &spec.at("skipAnalysis"),
        "a version without a check is not promoted",
        "promote it by `bellwether emit promote --full`",
    );
    notes.dropped(&spec.at("suspend"), "a policy has no such key", "`bellwether emit freeze`");
    notes.not_needed(&spec.at("revertOnDeletion"), "nothing is left to revert: the Deployment serves");
    notes.otherwise(
        "A changed pod template, ConfigMap or Secret starts an analysis in Flagger. Here an event does (`bellwether emit request`), and \
         ConfigMaps and Secrets are not versioned.",
    );
}

fn metric(
    metric: &Field<'_>,
    analysis: &Field<'_>,
    provider: &str,
    draft: &mut PolicyDraft,
    context: &mut ImportContext<'_>,
    notes: &mut Notes,
) {
    let written = metric.at("name").text().unwrap_or_default();
    let name = slug(written);
    let template = metric.at("templateRef");
    let window = metric.at("interval").text().unwrap_or("1m");
    let mut of_template = Notes::default();
    let query = if template.is_absent() {
        own_query(written, metric, provider, notes)
    } else {
        let found = template.at("name").text().and_then(|name| {
            let namespace = template.at("namespace").text().or(Some(draft.namespace.as_str()));
            context.find(SourceKind::MetricTemplate, name, namespace)
        });
        match found {
            Some(found) => {
                notes.reads(&template, &["name", "namespace"]);
                notes.converted(&template, format!("[metric.{name}] from {}", found.title()));
                let query = template_query(found, metric, window, context, &mut of_template);
                context.finish(found, std::mem::take(&mut of_template));
                query
            }
            None => {
                notes.dropped(
                    &template,
                    "the MetricTemplate is in none of the files",
                    "give its file as a further FILE",
                );
                None
            }
        }
    };
    notes.not_needed(&metric.at("interval"), "counts are read at prometheus.interval; a query keeps its range");
    notes.reads_all(&metric.at("templateVariables"));
    notes.converted(&metric.at("templateVariables"), "their values stand in the query");
    notes.converted(&metric.at("name"), "the check's and the metric's name");
    let Some(query) = query else {
        for key in ["thresholdRange", "threshold", "query"] {
            notes.dropped(&metric.at(key), "its metric was not converted", "write a check by hand");
        }
        return;
    };
    let limits = limits(metric, written, template.is_absent(), notes);
    let several = limits.len() > 1;
    for (limit, because) in limits {
        let names: Vec<&str> =
            [draft.workload.as_str(), draft.namespace.as_str()].into_iter().filter(|name| *name != "*").collect();
        let ConvertedMetric { metric: definition, limit, quantile, judge, facts, otherwise } =
            match metric::convert(&query, limit, &names) {
                Ok(converted) => converted,
                Err(NoMetric { why, nearest }) => {
                    notes.dropped(metric, why, nearest);
                    continue;
                }
            };
        let side = match limit {
            Limit::Max(_) => "max",
            Limit::Min(_) => "min",
        };
        notes.converted(
            metric,
            format!("a check of [metric.{name}]: {}", facts.join("; ")).trim_end_matches(": ").to_owned(),
        );
        otherwise.into_iter().for_each(|text| notes.otherwise(text));
        let mut check = CheckDraft {
            name: if several { format!("{name}-{side}") } else { name.clone() },
            metric_name: name.clone(),
            metric: definition,
            limit,
            quantile,
            judge,
            every: None,
            window: None,
            breaches: None,
            warns: false,
            because,
        };
        if !check.is_sequential() {
            check.every = Some(interval(analysis));
            check.breaches = Some(failures(analysis));
        }
        draft.checks.push(check);
    }
}

/// Returns the limits of a metric, each with its origin as a sentence.
fn limits(metric: &Field<'_>, name: &str, own: bool, notes: &mut Notes) -> Vec<(Limit, String)> {
    let range = metric.at("thresholdRange");
    let mut limits = Vec::new();
    if let Some(min) = range.at("min").number() {
        limits.push((Limit::Min(min), format!("thresholdRange.min {min} of {name}.")));
    }
    if let Some(max) = range.at("max").number() {
        limits.push((Limit::Max(max), format!("thresholdRange.max {max} of {name}.")));
    }
    if let Some(threshold) = metric.at("threshold").number().filter(|_| range.is_absent()) {
        let is_min = own && name == "request-success-rate";
        let limit = if is_min { Limit::Min(threshold) } else { Limit::Max(threshold) };
        limits.push((limit, format!("threshold {threshold} of {name}.")));
    }
    notes.reads(&range, &["min", "max"]);
    notes.converted(&range, "the check's limit");
    notes.converted(&metric.at("threshold"), "the check's limit");
    if limits.is_empty() {
        notes.dropped(metric, "without a range it always passes", "write a check with `max` or `min`");
    }
    limits
}

/// Returns the query of one of Flagger's own metrics.
fn own_query(name: &str, metric: &Field<'_>, provider: &str, notes: &mut Notes) -> Option<String> {
    if let Some(query) = metric.at("query").text() {
        notes.converted(&metric.at("query"), "the metric's definition");
        return Some(query.to_owned());
    }
    let known = ["istio", "linkerd", "kubernetes", "gatewayapi"].iter().any(|known| provider.starts_with(known));
    let own = OWN
        .iter()
        .find(|(begin, _, _)| provider.starts_with(begin))
        .map(|(_, success, duration)| (*success, *duration));
    let (success, duration) = own?;
    if !known {
        notes.otherwise(format!(
            "{name} is counted by {provider} in Flagger. Here it is counted by the pods, under names that Flagger reads without a mesh: \
             compare them with the names that your pods have (`bellwether check --online`)."
        ));
    }
    match name {
        "request-success-rate" => Some(success.to_owned()),
        "request-duration" => Some(duration.to_owned()),
        _ => {
            notes.dropped(
                metric,
                "it is none of Flagger's own metrics and names no template, so it always passes",
                "name its MetricTemplate",
            );
            None
        }
    }
}

/// Returns the query of a template with Bellwether's parameters.
fn template_query(
    template: &SourceObject,
    metric: &Field<'_>,
    window: &str,
    context: &mut ImportContext<'_>,
    notes: &mut Notes,
) -> Option<String> {
    let spec = template.root().at("spec");
    let provider = spec.at("provider");
    let kind = provider.at("type").text().unwrap_or("prometheus");
    for key in ["secretRef", "insecureSkipVerify", "headers", "region"] {
        notes.dropped(
            &provider.at(key),
            "it belongs to the server, for all queries",
            "prometheus.bearer-token-file, headers or ca-file",
        );
    }
    if kind != "prometheus" {
        notes.dropped(
            &spec.at("query"),
            format!("{kind} has no Prometheus API"),
            "export the metric to Prometheus, and write a check of it",
        );
        notes.dropped(&provider, "another store", "prometheus.url");
        return None;
    }
    if let Some(url) = provider.at("address").text() {
        context.prometheus.insert(url.to_owned());
    }
    notes.converted(&provider.at("address"), "prometheus.url, one for all metrics");
    notes.converted(&provider.at("type"), "Prometheus");
    let query = spec.at("query");
    let text = filled(query.text()?, metric, window);
    if text.contains("-primary") {
        notes.dropped(
            &query,
            "it compares the canary with the primary itself, and Bellwether gives each query one version at a time",
            "write the query of one version; a ratio or a histogram is compared with the stable by `margin` and `floor`",
        );
        return None;
    }
    notes.converted(&query, "the metric's definition");
    Some(text)
}

/// Replaces Flagger's variables by values, and by Bellwether's parameters.
fn filled(query: &str, metric: &Field<'_>, window: &str) -> String {
    let variables = metric.at("templateVariables");
    let text = replace(query, |name| match name {
        "namespace" => placeholder("namespace"),
        "target" | "name" => placeholder("workload"),
        "service" => placeholder("service"),
        "interval" => window.to_owned(),
        other => match other.strip_prefix("variables.").and_then(|key| variables.at(key).text()) {
            Some(value) => value.to_owned(),
            None => placeholder(other),
        },
    });
    // The canary's workload and Service have this name here without an addition.
    text.replace("{{workload}}-canary", "{{workload}}").replace("{{service}}-canary", "{{service}}")
}

fn interval(analysis: &Field<'_>) -> Span {
    analysis.at("interval").span().unwrap_or(INTERVAL).max(MIN_INTERVAL)
}

/// Returns the number of failed checks that roll back in Flagger.
fn failures(analysis: &Field<'_>) -> u32 {
    analysis.at("threshold").number().map_or(1, |threshold| threshold.max(1.0) as u32)
}

fn threshold(analysis: &Field<'_>, draft: &PolicyDraft, notes: &mut Notes) {
    let failures = failures(analysis);
    notes.replaced(
        &analysis.at("threshold"),
        "breaches of the checks of windows; the sequential judge needs no such number",
        "alpha, the share of good versions that may be rolled back",
    );
    notes.otherwise(format!(
        "Flagger rolls back after {failures} failed {} of the whole analysis, which a pass does not reset. Here {} .",
        if failures == 1 { "check" } else { "checks" },
        match (draft.checks.iter().any(CheckDraft::is_sequential), draft.checks.iter().all(CheckDraft::is_sequential)) {
            (true, true) => "the sequential judge weighs all requests, and rolls back at most 1 % of good versions (alpha)",
            (true, false) => "the sequential judge weighs all requests, and checks of windows fail after as many looks in a row",
            (false, _) => "a check fails after as many bad looks in a row",
        }
    ).replace(" .", "."));
    notes.otherwise(
        "No values, NaN and a failed query are failed checks in Flagger, so an outage of Prometheus rolls back. Here they are \
         `insufficient` or `blind`, and the rollout is held.",
    );
}

fn steps(analysis: &Field<'_>, provider: &str, draft: &mut PolicyDraft, notes: &mut Notes) {
    let every = interval(analysis);
    let number = |key: &str| analysis.at(key).number().map_or(0, |number| number.clamp(0.0, 1e6) as u32);
    let (iterations, step, most) = (number("iterations"), number("stepWeight"), number("maxWeight"));
    for key in ["mirror", "mirrorWeight"] {
        notes.dropped(
            &analysis.at(key),
            "traffic is not mirrored",
            "a suite (`require`) that asks the version before its traffic",
        );
    }
    notes.dropped(
        &analysis.at("sessionAffinity"),
        "a client may see both versions",
        "strategy = \"ab\", where a cookie or header decides",
    );
    notes.dropped(
        &analysis.at("stepWeightPromotion"),
        "the promotion is one step: the Deployment rolls over to the new version",
        "maxSurge of the Deployment",
    );
    notes.replaced(
        &analysis.at("alerts"),
        "sinks, for all policies or those of `notify`",
        "[slack] and [sink.PROVIDER.NAME]",
    );
    for key in ["primaryReadyThreshold", "canaryReadyThreshold"] {
        notes.not_needed(&analysis.at(key), "a step begins when all of its pods are available");
    }
    if iterations > 0 {
        let all = Span::from_millis(every.as_millis().saturating_mul(u64::from(iterations)));
        notes.converted(&analysis.at("interval"), "with the iterations, the time for which the version is judged");
        notes.converted(&analysis.at("iterations"), "with the interval, the time for which the version is judged");
        for key in ["stepWeight", "stepWeights", "maxWeight"] {
            notes.not_needed(&analysis.at(key), "iterations come before it");
        }
        return iterated(analysis, all, draft, notes);
    }
    notes.dropped(
        &analysis.at("match"),
        "without iterations it only adds to the weights",
        "strategy = \"ab\" for a cohort",
    );
    let listed: Vec<u32> = analysis
        .at("stepWeights")
        .list()
        .iter()
        .filter_map(Field::number)
        .map(|weight| weight.clamp(0.0, 100.0) as u32)
        .collect();
    let last = listed.last().copied().unwrap_or(most);
    let last = if last == 0 { 100 } else { last };
    let weights: Vec<u32> = match step {
        0 => listed,
        step => (1..=100)
            .map(|n| n * step)
            .take_while(|weight| *weight < last + step)
            .map(|weight| weight.min(100))
            .collect(),
    };
    let mut before = 0;
    let mut steps = Vec::new();
    for weight in weights.into_iter().filter(|weight| *weight < 100) {
        if weight > before {
            steps.push((weight * 100, every));
            before = weight;
        }
    }
    for key in ["stepWeight", "stepWeights", "maxWeight"] {
        notes.converted(&analysis.at(key), "the steps");
    }
    notes.converted(&analysis.at("interval"), "min-time of each step");
    if steps.is_empty() {
        notes.otherwise(format!("The analysis has no weights for {provider}. Here it has the usual steps."));
    }
    notes.otherwise(
        "Flagger advances after one passed check, even with one request. Here a step needs enough requests (min-requests), and the last \
         one a proof that the version is not worse than allowed.",
    );
    draft.strategy = DraftStrategy::Canary(steps);
}

/// Converts an analysis by iterations: an A/B test of a cohort, or a switch of all traffic.
fn iterated(analysis: &Field<'_>, all: Span, draft: &mut PolicyDraft, notes: &mut Notes) {
    let matches = analysis.at("match");
    let cohorts: Vec<Option<Cohort>> = matches.list().iter().map(cohort).collect();
    let has_reward = draft.checks.iter().any(|check| check.metric.kind == MetricKind::Ratio);
    match cohorts.iter().flatten().next() {
        Some(who) if has_reward => {
            notes.replaced(
                &matches,
                "strategy = \"ab\" with the first cohort of one header or cookie",
                "set share to the cohort's share of all requests",
            );
            notes.otherwise(
                "Flagger promotes after the iterations. Here the test ends early if one version wins by the share of successful requests, \
                 and with a draw the new version stays.",
            );
            draft.strategy = DraftStrategy::Ab(who.clone(), all);
        }
        _ if !matches.is_absent() => {
            notes.dropped(
                &matches,
                "a cohort has one header or cookie with one plain value, and a ratio to be compared by",
                "the usual steps by weight; or write strategy = \"ab\" by hand",
            );
            notes.otherwise(
                "Flagger sends the requests that match to the new version. Here it gets a share of all requests.",
            );
            draft.strategy = DraftStrategy::Canary(Vec::new());
        }
        _ => {
            draft.strategy = DraftStrategy::BlueGreen(all);
            notes.otherwise(
                "Flagger's blue-green judges the new version by test requests, and then switches. Here the new version is judged with all \
                 of the traffic, while the old one stands by. A suite (`require`) can test it before.",
            );
        }
    }
}

/// Returns the cohort of one header or cookie with a plain value.
fn cohort(found: &Field<'_>) -> Option<Cohort> {
    let headers = found.at("headers").entries();
    let [(name, value)] = headers.as_slice() else { return None };
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if name.eq_ignore_ascii_case("cookie") {
        // The usual form is ^(.*?;)?(name=value)(;.*)?$.
        let pattern = value.at("regex").text().or(value.at("exact").text())?;
        let inner = pattern.trim_start_matches('^').trim_end_matches('$');
        let inner = inner.strip_prefix("(.*?;)?").or(inner.strip_prefix("(.*;)?")).unwrap_or(inner);
        let inner = inner.strip_suffix("(;.*)?").unwrap_or(inner);
        let (cookie, value) =
            inner.trim_start_matches("(").trim_end_matches(')').trim_start_matches("\\s*").split_once('=')?;
        return (plain(cookie) && plain(value)).then(|| Cohort {
            header: None,
            cookie: Some(cookie.to_owned()),
            value: value.to_owned(),
        });
    }
    let value = value.at("exact").text()?;
    (plain(name) && plain(value)).then(|| Cohort {
        header: Some((*name).to_owned()),
        cookie: None,
        value: value.to_owned(),
    })
}

fn webhooks(webhooks: &Field<'_>, draft: &mut PolicyDraft, notes: &mut Notes) {
    for webhook in webhooks.list() {
        let name = slug(webhook.at("name").text().unwrap_or_default());
        match webhook.at("type").text().unwrap_or_default() {
            "pre-rollout" => {
                notes.replaced(
                    &webhook,
                    format!("require = [{name:?}]: a suite must have passed before the first traffic"),
                    "run the test in a pipeline and report it (`bellwether emit tested`, or `bellwether gate run --publish`)",
                );
                draft.require.push(name);
            }
            "confirm-rollout" => approve(&webhook, &name, ApprovalPoint::Traffic, draft, notes),
            "confirm-promotion" => approve(&webhook, &name, ApprovalPoint::Promotion, draft, notes),
            "confirm-traffic-increase" => notes.dropped(
                &webhook,
                "an approval stands before the first traffic or the promotion alone",
                "`bellwether emit pause` and `resume`, or [policy.window]",
            ),
            "rollback" => notes.dropped(
                &webhook,
                "no address is asked whether to roll back",
                "`bellwether emit abort`, from what answered it",
            ),
            "rollout" => notes.dropped(
                &webhook,
                "no command is run beside a rollout",
                "`bellwether load` in the pipeline, for test traffic",
            ),
            "post-rollout" | "event" => {
                notes.replaced(&webhook, "sinks", "[sink.http.NAME] with receives = \"final\" or \"decisions\"")
            }
            other => notes.dropped(
                &webhook,
                format!("a webhook of type {other:?} does not exist here"),
                "a sink, an approval or a suite",
            ),
        }
    }
}

fn approve(webhook: &Field<'_>, name: &str, before: ApprovalPoint, draft: &mut PolicyDraft, notes: &mut Notes) {
    notes.replaced(
        webhook,
        format!("an approval, given by `bellwether emit approve --approval {name}`"),
        "let the service behind the address send the approval",
    );
    if !draft.approvals.iter().any(|(known, _, _)| known == name) {
        let kind = webhook.at("type").text().unwrap_or_default();
        draft.approvals.push((name.to_owned(), before, format!("The webhook {kind}.")));
    }
    notes.otherwise("Flagger asks a gate at each interval without an end. Here an approval that is missing for a day gives the rollout up.");
}
