//! The thirty configurations of `tests/import`, and the whole result of one of each tool.

use std::path::PathBuf;

use bellwether_core::measure::metric::MetricKind;
use expect_test::expect;

use super::*;
use crate::config::Config;

fn cases() -> Vec<PathBuf> {
    let mut files = Vec::new();
    list(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/import"), 0, &mut files).unwrap();
    files
}

fn args(files: Vec<PathBuf>) -> ImportArgs {
    ImportArgs { files, cluster: "prod".to_owned(), brokers: None, to: None, force: false }
}

/// Returns the configuration of one case as TOML, its findings, and the report.
fn imported(path: &Path) -> (String, Vec<CheckFinding>, Vec<ImportedObject>) {
    let args = args(vec![path.to_owned()]);
    let (objects, unreadable) = read(&args.files).unwrap();
    assert!(unreadable.is_empty(), "{unreadable:?}");
    let conversion = convert(&objects);
    let (toml, findings) = configuration(&conversion, &args, "FILE").unwrap();
    (toml, findings, conversion.objects)
}

fn named(name: &str) -> (String, Vec<CheckFinding>, Vec<ImportedObject>) {
    imported(&cases().into_iter().find(|path| path.ends_with(name)).unwrap())
}

/// Returns whether each policy judges a metric of the requests, and not the readiness of its pods alone.
fn judges_metrics(config: &Config) -> bool {
    let judged = |metric: &str| config.metrics[metric].kind != MetricKind::Availability;
    config
        .policies
        .iter()
        .all(|policy| policy.steps.iter().flat_map(|step| &step.checks).any(|check| judged(&check.metric)))
}

#[test]
fn at_least_27_of_thirty_configurations_convert_to_checks_of_their_metrics() {
    let mut converted = Vec::new();
    let mut other = Vec::new();
    for path in cases() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let (toml, findings, _) = imported(&path);
        let config = config::load_text(&name, &toml).unwrap();
        let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
        if problems == 0 && judges_metrics(&config) { converted.push(name) } else { other.push(name) }
    }
    assert_eq!(converted.len() + other.len(), 30);
    assert!(converted.len() >= 27, "not converted: {other:?}");
    // These have metrics in stores without Prometheus' API alone.
    let known = ["argo-12-datadog-only.yaml", "flagger-11-cloudwatch-only.yaml", "kayenta-07-stackdriver-only.json"];
    assert_eq!(other, known);
}

#[test]
fn every_field_of_every_object_is_in_the_report() {
    for path in cases() {
        let (_, _, objects) = imported(&path);
        for object in objects {
            let unknown = object.fields.iter().filter(|note| note.text == "import does not know this field");
            let unknown: Vec<&str> = unknown.map(|note| note.field.as_str()).collect();
            assert!(unknown.is_empty(), "{} of {}: {unknown:?}", object.object, path.display());
            assert!(!object.fields.is_empty(), "{}", object.object);
        }
    }
}

/// Returns a report without the fields that Bellwether needs no setting for.
fn report(objects: &[ImportedObject]) -> String {
    let objects: Vec<ImportedObject> = objects
        .iter()
        .cloned()
        .map(|mut object| {
            object.file = "FILE".to_owned();
            object.fields.retain(|note| note.result != FieldResult::NotNeeded);
            object
        })
        .collect();
    render(&objects, &[])
}

#[test]
fn a_rollout_of_argo_becomes_a_canary_policy() {
    let (toml, findings, objects) = named("argo-02-istio.yaml");
    assert!(findings.is_empty(), "{findings:?}");
    expect![[r##"
        # Made by `bellwether import FILE`. A comment above a value has its origin.
        # `bellwether config default` has all keys.

        cluster = "prod"

        [prometheus]
        # The address in the objects.
        url = "http://prometheus.istio-system:9090"

        [journal]
        # One process with one file, because no brokers were given (--brokers). Several replicas need Kafka.
        kind = "embedded"

        [http]
        # Events come over HTTP, from this machine alone.
        events = true

        [kubernetes]
        # The rights in these namespaces are enough. An empty list means all.
        namespaces = ["catalogue"]

        [metric.errors]
        kind = "ratio"
        series = "istio_requests_total"
        matching = 'reporter="destination"'

        [metric.errors.hits]
        label = "response_code"
        matches = "5.*"

        [metric.p95]
        kind = "histogram"
        series = "istio_request_duration_milliseconds"
        matching = 'reporter="destination"'
        unit = "milliseconds"

        # Rollout catalogue/search
        [[policy]]
        name = "search"
        match = { namespaces = ["catalogue"], workloads = ["search"], images = ["ghcr.io/example/search"] }
        traffic = "gateway"

        # A pause without an end: a person lets it go on.
        [[policy.approval]]
        name = "release"
        before = "promotion"

        # failureCondition result[0] > 0.02.
        [[policy.check]]
        metric = "errors"
        max = "2%"

        # successCondition len(result) == 0 || result[0] <= 250.
        [[policy.check]]
        metric = "p95"
        max = "250ms"

        [[policy.step]]
        weight = "5%"
        min-time = "11m"

        [[policy.step]]
        weight = "30%"
        min-time = "15m"

        [[policy.step]]
        weight = "60%"
        min-time = "5m"
    "##]]
    .assert_eq(&toml);
    expect![[r#"
        Rollout catalogue/search (FILE)
          converted      spec.template: match: its images; the template itself belongs into a Deployment
          replaced       spec.strategy.canary.trafficRouting.istio: traffic = "gateway": Bellwether does not write the objects of istio
                         → send its traffic by an HTTPRoute, or set traffic = "replicas" for shares of whole pods
          replaced       spec.strategy.canary.canaryService: the Service of the canary is found or made under the name NAME-canary
                         → keep the stable's Service; name the canary's Service after it
          replaced       spec.strategy.canary.stableService: the Service of the canary is found or made under the name NAME-canary
                         → keep the stable's Service; name the canary's Service after it
          converted      spec.strategy.canary.steps[0].setWeight: weight of a step
          converted      spec.strategy.canary.steps[1].pause: min-time of its step, for which it is judged
          converted      spec.strategy.canary.steps[2].analysis.args[0]: its value stands in the queries
          converted      spec.strategy.canary.steps[2].analysis.templates[0]: checks from ClusterAnalysisTemplate istio-golden
          converted      spec.strategy.canary.steps[2].analysis: checks, which judge every step
          converted      spec.strategy.canary.steps[3].setWeight: weight of a step
          converted      spec.strategy.canary.steps[4].pause: min-time of its step, for which it is judged
          converted      spec.strategy.canary.steps[5].setWeight: weight of a step
          replaced       spec.strategy.canary.steps[6].pause: an approval before the promotion, given by `bellwether emit approve --approval release`
                         → an approval stands before the first traffic or the promotion, and not between two steps
          decided otherwise
            • A pause waits without an end in Argo. Here an approval that is missing for a day gives the rollout up.
            • An inline analysis judges its own step alone in Argo. Here its checks judge every step and all requests since the first.
            • A weight without a pause or with an endless one has no time in Argo. Here it is judged for 5m.
            • Argo's steps pass when their time is over and no analysis has failed. Here a step also needs enough requests, and the last one a proof that the version is not worse than allowed.
            • A changed pod template starts a rollout in Argo. Here an event does (`bellwether emit request`), and the workload is a Deployment.

        ClusterAnalysisTemplate istio-golden (FILE)
          converted      spec.args[0]: {{service}}.{{namespace}}.svc.cluster.local stands in the queries
          converted      spec.metrics[0].name: the check's and the metric's name
          converted      spec.metrics[0].provider.prometheus.address: prometheus.url, one for all metrics
          converted      spec.metrics[0].failureCondition: the check's limit
          converted      spec.metrics[0].provider.prometheus.query: [metric.errors], counts of its series: the matchers of reporter, destination_service selected the workload or a version, and Bellwether selects the pods of each version itself; the proxy at the destination counts, since one at the source is in another pod
          replaced       spec.metrics[0].failureLimit: the sequential judge, which rolls back on evidence and not on a number of measurements
                         → alpha, the share of good versions that may be rolled back
          converted      spec.metrics[1].name: the check's and the metric's name
          converted      spec.metrics[1].provider.prometheus.address: prometheus.url, one for all metrics
          converted      spec.metrics[1].successCondition: the check's limit
          converted      spec.metrics[1].provider.prometheus.query: [metric.p95], counts of its series: the matchers of reporter, destination_service selected the workload or a version, and Bellwether selects the pods of each version itself; the proxy at the destination counts, since one at the source is in another pod; the limit must be an edge of the histogram's buckets, which `check --online` compares
          decided otherwise
            • NaN, as without any request, passes errors in Argo. Here the check is `insufficient`, and the rollout is held.
            • PromQL gives one value for each look, however few requests are behind it. Here good and bad requests are counted, and a look with too few of them is `insufficient` instead of a pass or a failure.
            • Argo fails errors at 3 bad measurements of the whole run, however few requests each has and however far apart they are. Here the sequential judge weighs all requests since the first step, and rolls back at most 1 % of good versions (alpha).
            • Errors of Prometheus in a row (five by default, 40 s) abort the rollout in Argo. Here the checks are `blind`, and the rollout is held.
            • Missing data passes p95 in Argo by its condition. Here the check is `blind` or `insufficient`, and the rollout is held.
            • Argo fails p95 at 1 bad measurement of the whole run, however few requests each has and however far apart they are. Here the sequential judge weighs all requests since the first step, and rolls back at most 1 % of good versions (alpha).

    "#]].assert_eq(&report(&objects));
}

#[test]
fn a_blue_green_rollout_becomes_a_switch() {
    let (toml, _, _) = named("argo-03-blue-green.yaml");
    expect![[r##"
        # Made by `bellwether import FILE`. A comment above a value has its origin.
        # `bellwether config default` has all keys.

        cluster = "prod"

        [prometheus]
        # The address in the objects.
        url = "http://prometheus:9090"

        [journal]
        # One process with one file, because no brokers were given (--brokers). Several replicas need Kafka.
        kind = "embedded"

        [http]
        # Events come over HTTP, from this machine alone.
        events = true

        [kubernetes]
        # The rights in these namespaces are enough. An empty list means all.
        namespaces = ["bank"]

        [metric.error-percentage]
        kind = "ratio"
        series = "http_server_requests_seconds_count"

        [metric.error-percentage.hits]
        label = "status"
        matches = "5.."

        # Rollout bank/accounts
        [[policy]]
        name = "accounts"
        match = { namespaces = ["bank"], workloads = ["accounts"], images = ["registry.example:5000/bank/accounts"] }
        strategy = "blue-green"
        traffic = "gateway"
        ready-within = "15m"
        promote-within = "15m"
        require = ["accounts-preview"]

        # autoPromotionEnabled is false.
        [[policy.approval]]
        name = "start"
        before = "traffic"

        # failureCondition result[0] >= 5.
        [[policy.check]]
        metric = "error-percentage"
        max = "5%"

        [policy.blue-green]
        keep-stable = "15m"
    "##]]
    .assert_eq(&toml);
}

#[test]
fn a_canary_of_flagger_becomes_a_canary_policy() {
    let (toml, _, objects) = named("flagger-02-template.yaml");
    expect![[r##"
        # Made by `bellwether import FILE`. A comment above a value has its origin.
        # `bellwether config default` has all keys.

        cluster = "prod"

        [prometheus]
        # The address in the objects.
        url = "http://prometheus.istio-system:9090"

        [journal]
        # One process with one file, because no brokers were given (--brokers). Several replicas need Kafka.
        kind = "embedded"

        [http]
        # Events come over HTTP, from this machine alone.
        events = true

        [kubernetes]
        # The rights in these namespaces are enough. An empty list means all.
        namespaces = ["social"]

        [metric.404s-percentage]
        kind = "ratio"
        series = "istio_requests_total"
        matching = 'reporter="destination"'

        [metric.404s-percentage.hits]
        label = "response_code"
        not = "404"

        [metric.request-success-rate]
        kind = "ratio"
        series = "istio_requests_total"
        matching = 'reporter="destination"'

        [metric.request-success-rate.hits]
        label = "response_code"
        not = "5.*"

        # Canary social/profile
        [[policy]]
        name = "profile"
        match = { namespaces = ["social"], workloads = ["profile"], images = ["*"] }
        traffic = "gateway"

        # thresholdRange.max 5 of 404s percentage.
        [[policy.check]]
        metric = "404s-percentage"
        min = "95%"

        # thresholdRange.min 98.5 of request-success-rate.
        [[policy.check]]
        metric = "request-success-rate"
        min = "98.5%"

        [[policy.step]]
        weight = "1%"
        min-time = "30s"

        [[policy.step]]
        weight = "2%"
        min-time = "30s"

        [[policy.step]]
        weight = "10%"
        min-time = "30s"

        [[policy.step]]
        weight = "30%"
        min-time = "30s"

        [[policy.step]]
        weight = "60%"
        min-time = "30s"
    "##]]
    .assert_eq(&toml);
    expect![[r#"
        MetricTemplate flagger/not-found (FILE)
          converted      spec.provider.address: prometheus.url, one for all metrics
          converted      spec.provider.type: Prometheus
          converted      spec.query: the metric's definition

        Canary social/profile (FILE)
          converted      spec.targetRef: match.workloads
          replaced       spec.provider: traffic = "gateway": Bellwether does not write the objects of istio
                         → send its traffic by an HTTPRoute, or set traffic = "replicas" for shares of whole pods
          replaced       spec.service: the Deployment's own Service: no -primary exists, and -canary during a rollout alone
                         → its traffic goes through an HTTPRoute of yours to the Service of the Deployment
          converted      spec.analysis.metrics[0].templateRef: [metric.404s-percentage] from MetricTemplate flagger/not-found
          converted      spec.analysis.metrics[0].templateVariables: their values stand in the query
          converted      spec.analysis.metrics[0].name: the check's and the metric's name
          converted      spec.analysis.metrics[0].thresholdRange: the check's limit
          converted      spec.analysis.metrics[0]: a check of [metric.404s-percentage]: the limit is converted into the metric's own unit; the matchers of reporter, destination_workload_namespace, destination_workload selected the workload or a version, and Bellwether selects the pods of each version itself
          converted      spec.analysis.metrics[1].name: the check's and the metric's name
          converted      spec.analysis.metrics[1].thresholdRange: the check's limit
          converted      spec.analysis.metrics[1]: a check of [metric.request-success-rate]: the limit is converted into the metric's own unit; the matchers of reporter selected the workload or a version, and Bellwether selects the pods of each version itself
          not converted  spec.analysis.stepWeightPromotion: the promotion is one step: the Deployment rolls over to the new version
                         → maxSurge of the Deployment
          replaced       spec.analysis.alerts: sinks, for all policies or those of `notify`
                         → [slack] and [sink.PROVIDER.NAME]
          converted      spec.analysis.stepWeights: the steps
          converted      spec.analysis.interval: min-time of each step
          replaced       spec.analysis.threshold: breaches of the checks of windows; the sequential judge needs no such number
                         → alpha, the share of good versions that may be rolled back
          decided otherwise
            • A changed pod template, ConfigMap or Secret starts an analysis in Flagger. Here an event does (`bellwether emit request`), and ConfigMaps and Secrets are not versioned.
            • PromQL gives one value for each look, however few requests are behind it. Here good and bad requests are counted, and a look with too few of them is `insufficient` instead of a pass or a failure.
            • Flagger advances after one passed check, even with one request. Here a step needs enough requests (min-requests), and the last one a proof that the version is not worse than allowed.
            • Flagger rolls back after 10 failed checks of the whole analysis, which a pass does not reset. Here the sequential judge weighs all requests, and rolls back at most 1 % of good versions (alpha).
            • No values, NaN and a failed query are failed checks in Flagger, so an outage of Prometheus rolls back. Here they are `insufficient` or `blind`, and the rollout is held.

    "#]].assert_eq(&report(&objects));
}

#[test]
fn a_match_of_flagger_becomes_an_ab_test() {
    let (toml, findings, _) = named("flagger-03-ab-header.yaml");
    expect![[r##"
        # Made by `bellwether import FILE`. A comment above a value has its origin.
        # `bellwether config default` has all keys.

        cluster = "prod"

        [journal]
        # One process with one file, because no brokers were given (--brokers). Several replicas need Kafka.
        kind = "embedded"

        [http]
        # Events come over HTTP, from this machine alone.
        events = true

        [kubernetes]
        # The rights in these namespaces are enough. An empty list means all.
        namespaces = ["web"]

        [metric.request-duration]
        kind = "histogram"
        series = "istio_request_duration_milliseconds"
        matching = 'reporter="destination"'
        unit = "milliseconds"

        [metric.request-success-rate]
        kind = "ratio"
        series = "istio_requests_total"
        matching = 'reporter="destination"'

        [metric.request-success-rate.hits]
        label = "response_code"
        not = "5.*"

        # Canary web/landing
        [[policy]]
        name = "landing"
        match = { namespaces = ["web"], workloads = ["landing"], images = ["*"] }
        strategy = "ab"
        traffic = "gateway"

        # thresholdRange.min 99 of request-success-rate.
        [[policy.check]]
        metric = "request-success-rate"
        min = "99%"

        # thresholdRange.max 800 of request-duration.
        [[policy.check]]
        metric = "request-duration"
        quantile = 0.99
        max = "800ms"

        # The new version stays unless a check regresses, or the old one wins.
        [policy.ab]
        who = { header = "x-user-group", value = "insider" }
        reward = "request-success-rate"
        longest = "30m"
        on-draw = "canary"
    "##]]
    .assert_eq(&toml);
    assert!(findings.iter().any(|finding| finding.text.contains("independent")), "{findings:?}");
}

#[test]
fn a_configuration_of_kayenta_becomes_its_own_test() {
    let (toml, _, objects) = named("kayenta-01-golden-signals.json");
    expect![[r##"
        # Made by `bellwether import FILE`. A comment above a value has its origin.
        # `bellwether config default` has all keys.

        cluster = "prod"

        [journal]
        # One process with one file, because no brokers were given (--brokers). Several replicas need Kafka.
        kind = "embedded"

        [http]
        # Events come over HTTP, from this machine alone.
        events = true

        [metric.cpu]
        kind = "gauge"
        series = "container_cpu_usage"

        [metric.error-ratio]
        kind = "ratio"
        series = "http_requests_total"

        [metric.error-ratio.hits]
        label = "code"
        matches = "5.."

        [metric.latency-p99]
        kind = "histogram"
        series = "http_request_duration_seconds"

        # canary configuration Golden signals
        [[policy]]
        name = "golden-signals"
        match = { namespaces = ["*"], workloads = ["checkout"], images = ["*"] }
        traffic = "replicas"

        # It is critical. The judge compares with the stable and does not use the number of the limit.
        [[policy.check]]
        metric = "error-ratio"
        judge = "mann-whitney"
        max = "100%"
        every = "1m"
        window = "15m"

        # If it alone fails, the score is 60, below the 95 that pass. The judge compares with the stable and does not use the number of the limit.
        [[policy.check]]
        metric = "latency-p99"
        judge = "mann-whitney"
        quantile = 0.99
        max = "0ms"
        every = "1m"
        window = "15m"

        # If it alone fails, the score is 90, below the 95 that pass. The judge compares with the stable and does not use the number of the limit.
        [[policy.check]]
        name = "cpu-up"
        metric = "cpu"
        judge = "mann-whitney"
        max = 0
        every = "1m"
        window = "15m"

        # If it alone fails, the score is 90, below the 95 that pass. The judge compares with the stable and does not use the number of the limit.
        [[policy.check]]
        name = "cpu-down"
        metric = "cpu"
        judge = "mann-whitney"
        min = 0
        every = "1m"
        window = "15m"

        # The object has no steps; these are the usual ones.
        [[policy.step]]
        weight = "25%"
        min-time = "5m"

        [[policy.step]]
        weight = "50%"
        min-time = "10m"
    "##]].assert_eq(&toml);
    expect![[r#"
        canary configuration Golden signals (FILE)
          converted      applications: match.workloads: the first one; give it its namespace
          converted      name: the policy's name
          converted      judge: judge = "mann-whitney", Kayenta's own test
          converted      metrics[0].name: the check's and the metric's name
          converted      metrics[0].groups: on-regressed, with the weight of the groups
          converted      metrics[0].analysisConfigurations.canary.direction: max for an increase, min for a decrease, and a check for each of both
          converted      metrics[0].analysisConfigurations.canary.critical: on-regressed = "roll-back"
          not converted  metrics[0].analysisConfigurations.canary.nanStrategy: a missing value is a gap, and never 0
                         → `or vector(0)` in a query whose series are missing when nothing happens
          converted      metrics[0].query: [metric.error-ratio]: the matchers of app, namespace selected the workload or a version, and Bellwether selects the pods of each version itself
          converted      metrics[1].name: the check's and the metric's name
          converted      metrics[1].groups: on-regressed, with the weight of the groups
          converted      metrics[1].analysisConfigurations.canary.direction: max for an increase, min for a decrease, and a check for each of both
          not converted  metrics[1].analysisConfigurations.canary.nanStrategy: a missing value is a gap, and never 0
                         → `or vector(0)` in a query whose series are missing when nothing happens
          not converted  metrics[1].analysisConfigurations.canary.effectSize: this judge has Kayenta's defaults
                         → judge = "sequential" with margin and floor, for a ratio or a histogram
          converted      metrics[1].query: [metric.latency-p99]: the matchers of app selected the workload or a version, and Bellwether selects the pods of each version itself
          converted      metrics[2].name: the check's and the metric's name
          converted      metrics[2].groups: on-regressed, with the weight of the groups
          converted      metrics[2].analysisConfigurations.canary.direction: max for an increase, min for a decrease, and a check for each of both
          converted      metrics[2].query: [metric.cpu]: the matchers of namespace, pod selected the workload or a version, and Bellwether selects the pods of each version itself
          replaced       classifier.groupWeights: on-regressed of each check
                         → no check has a weight: each decides or warns
          replaced       classifier.scoreThresholds: on-regressed of each check
                         → no score is computed
          decided otherwise
            • A missing value of error-ratio is 0 in Kayenta. Here it is a gap, and without values the check is `blind`.
            • latency-p99 must differ by its effect size in Kayenta. Here a difference that is significant at 98 % is enough.
            • Kayenta adds the metrics to a score, so several that fail may pass together. Here each check decides by itself, or warns.
            • Kayenta judges all values since the beginning, one a minute, at an interval of hours or minutes. Here the same test sees the last 15 minutes, one value for each interval of the readings, every minute. Neither corrects for repeated looks: `judge = "sequential"` does, for ratios and histograms.
            • Kayenta promotes nothing, and a pipeline does. Here the usual steps do: write those of the pipeline.
            • Kayenta compares with baseline pods that are as young as the canary's. Here the stable is the baseline, unless fresh-baseline = true.

    "#]].assert_eq(&report(&objects));
}

#[test]
fn policies_and_metrics_of_one_name_are_told_apart() {
    let rollout = |namespace: &str, series: &str| {
        format!(
            "---\napiVersion: argoproj.io/v1alpha1\nkind: AnalysisTemplate\nmetadata: {{name: t, namespace: {namespace}}}\nspec:\n  \
             metrics:\n  - name: errors\n    failureCondition: result[0] > 0.1\n    provider:\n      prometheus: {{address: \
             'http://{namespace}:9090', query: 'sum(rate({series}{{code=\"5\"}}[1m])) / sum(rate({series}[1m]))'}}\n---\n\
             apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{name: web, namespace: {namespace}}}\nspec:\n  strategy:\n    \
             canary:\n      analysis: {{templates: [{{templateName: t}}]}}\n      steps: [{{setWeight: 10}}]\n"
        )
    };
    let objects = SourceObject::read("FILE", &(rollout("a", "x_total") + &rollout("b", "y_total"))).unwrap();
    let (toml, findings) = configuration(&convert(&objects), &args(Vec::new()), "FILE").unwrap();
    let config = config::load_text("FILE", &toml).unwrap();
    let names: Vec<&str> = config.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["web", "b-web"]);
    assert_eq!(config.metrics["errors"].series.as_deref(), Some("x_total"));
    assert_eq!(config.metrics["b-web-errors"].series.as_deref(), Some("y_total"));
    assert!(findings.iter().any(|finding| finding.text.contains("2 servers of Prometheus")), "{findings:?}");
}

#[test]
fn a_field_that_is_not_known_is_said() {
    let text = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\nspec:\n  replicas: 1\n  newField: 1\n  strategy: {canary: {}}\n";
    let conversion = convert(&SourceObject::read("FILE", text).unwrap());
    let note = conversion.objects[0].fields.iter().find(|note| note.field == "spec.newField").unwrap();
    assert_eq!(note.result, FieldResult::NotConverted);
}

/// A share of exactly 0 % or 100 % can't be shown by evidence, and one of at most 100 % checks nothing.
#[test]
fn a_limit_at_the_edge_of_a_share_is_compared_or_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for (range, limits) in [
        ("min: 99, max: 100", vec!["min = \"99%\""]),
        ("min: 100", vec!["min = \"100%\"", "judge = \"threshold\""]),
        ("min: 0", vec![]),
    ] {
        let canary = format!(
            "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {{ name: web, namespace: shop }}\nspec:\n  \
             targetRef: {{ apiVersion: apps/v1, kind: Deployment, name: web }}\n  service: {{ port: 80 }}\n  provider: gatewayapi:v1\n  \
             analysis:\n    interval: 1m\n    threshold: 5\n    maxWeight: 50\n    stepWeight: 10\n    metrics:\n    \
             - name: request-success-rate\n      thresholdRange: {{ {range} }}\n      interval: 1m\n"
        );
        let file = folder.path().join("canary.yaml");
        std::fs::write(&file, canary).unwrap();
        let (toml, _, objects) = imported(&file);
        let checks = toml.matches("metric = \"request-success-rate\"").count();
        assert_eq!(checks, usize::from(!limits.is_empty()), "{range}: {toml}");
        assert!(limits.iter().all(|part| toml.contains(part)), "{range}: {toml}");
        let vacuous = report(&objects).contains("so it checks nothing");
        assert_eq!(vacuous, range != "min: 100", "{range}: {}", report(&objects));
    }
}

#[test]
fn hostile_objects_are_no_panic() {
    for text in [
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\n",
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec: 3\n",
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec: {strategy: {canary: {steps: [1, {setWeight: -1e300}, {pause: {duration: 1e300}}]}}}\n",
        "apiVersion: flagger.app/v1beta1\nkind: Canary\nspec: {analysis: {interval: 99999999h, iterations: 1e300, stepWeight: 1e300}}\n",
        "apiVersion: flagger.app/v1beta1\nkind: Canary\nspec: {analysis: {stepWeight: 1, maxWeight: 1e300, metrics: [7]}}\n",
        "{\"metrics\": [null, {\"query\": {\"type\": \"prometheus\"}}], \"classifier\": 1}",
    ] {
        let conversion = convert(&SourceObject::read("FILE", text).unwrap());
        let (toml, _) = configuration(&conversion, &args(Vec::new()), "FILE").unwrap();
        assert!(toml.contains("[[policy]]"), "{toml}");
    }
}
