//! Situations of a cluster, and the whole proposal for each.

use std::collections::BTreeMap;

use bellwether_core::ids::Images;
use bellwether_core::input::status::PreflightIssue;
use bellwether_core::policy::RouterKind;
use bellwether_core::time::Span;
use expect_test::{Expect, expect};

use super::facts::{MetricFamily, PastRequests};
use super::*;

pub(super) fn survey(name: &str) -> WorkloadSurvey {
    WorkloadSurvey {
        workload: format!("prod/shop/Deployment/{name}").parse().unwrap(),
        uid: "uid".to_owned(),
        replicas: 3,
        images: Images::from_iter([("app".to_owned(), format!("registry.example/shop/{name}:1.7.3"))]),
        services: vec![name.to_owned()],
        routes: BTreeMap::from([(RouterKind::Gateway, vec![name.to_owned()])]),
        autoscalers: Vec::new(),
        issues: BTreeMap::new(),
    }
}

fn family(preset: &str) -> MetricFamily {
    let config = config::load_text("preset", &format!("presets = [\"{preset}\"]")).unwrap();
    let used = ["error-rate", "response-time"].map(|name| (name.to_owned(), config.metrics[name].clone()));
    let slower = [(100, 0.3), (250, 0.08), (500, 0.01), (1000, 0.001)];
    let past = PastRequests {
        over: read::PAST,
        rps: 40.0,
        failed: 0.004,
        slower: slower.map(|(edge, share)| (Span::from_millis(edge), share)).into(),
    };
    MetricFamily { preset: preset.to_owned(), metrics: used.into(), pod_labels: None, past: Some(past) }
}

fn facts(workloads: Vec<MeasuredWorkload>) -> InitFacts {
    InitFacts {
        asked: "prod/shop/Deployment/web".to_owned(),
        cluster: "prod".to_owned(),
        kubeconfig: [None, None],
        prometheus: PrometheusFacts {
            url: "http://prometheus.monitoring:9090".to_owned(),
            service: Some("monitoring/prometheus".to_owned()),
            has_credentials: false,
            scrape_interval: Some(Span::from_secs(15)),
        },
        brokers: None,
        workloads,
    }
}

fn web(change: impl FnOnce(&mut MeasuredWorkload)) -> InitFacts {
    let mut workload =
        MeasuredWorkload { survey: survey("web"), unsplit_routes: Vec::new(), families: vec![family("otel-http")] };
    change(&mut workload);
    facts(vec![workload])
}

/// Returns the proposal's text and its doubts, after `check` has found no problem in it.
fn proposed(facts: &InitFacts) -> (String, String) {
    let InitProposal { toml, doubts } = propose(facts);
    let config = config::load_text("proposal", &toml).unwrap_or_else(|report| panic!("{report}\n{toml}"));
    let covered = |workload: &MeasuredWorkload| {
        let mut policies = config.policies.iter().filter(|policy| policy.covers(&workload.survey.workload));
        policies.any(|policy| workload.survey.images.values().all(|image| policy.allows(image)))
    };
    assert!(facts.workloads.iter().all(covered), "{toml}");
    let findings = crate::cli::check::of_config(&config);
    let serious = findings.iter().filter(|finding| finding.level != crate::cli::check::Level::Fine);
    assert_eq!(serious.count(), 0, "{findings:?}\n{toml}");
    (toml, told(&doubts, None))
}

/// Compares the text below the head, which all proposals have in common, and the doubts.
fn check(facts: &InitFacts, expected: &Expect) {
    let (toml, doubts) = proposed(facts);
    let policies = toml.find("\n[[policy]]").unwrap();
    let doubts = doubts.lines().filter(|line| !line.starts_with("Next: "));
    let doubts: String = doubts.map(|line| format!("{line}\n")).collect();
    expected.assert_eq(&format!("{doubts}{}", &toml[policies..]));
}

#[test]
fn a_workload_behind_a_route_gets_steps_by_weight() {
    let facts = web(|_| ());
    let (toml, doubts) = proposed(&facts);
    expect![[r##"
        # Proposed by `bellwether init prod/shop/Deployment/web`. A comment above a value has the fact that it is based on.
        # `bellwether config default` has all keys.

        cluster = "prod"
        # Prometheus has series of the workload's requests with the names of this preset.
        presets = ["otel-http"]

        [prometheus]
        # Service monitoring/prometheus, which looks like a Prometheus and answers.
        url = "http://prometheus.monitoring:9090"

        [journal]
        # One process with one file, because no brokers were given (--brokers). Several replicas need Kafka.
        kind = "embedded"

        [http]
        # Events come over HTTP, from this machine alone.
        events = true

        [kubernetes]
        # The rights in these namespaces are enough. An empty list means all.
        namespaces = ["shop"]

        [[policy]]
        name = "web"
        # The repositories of its images.
        match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
        # HTTPRoute web sends traffic to its Service.
        traffic = "gateway"

        # 0.4 % of the requests failed in the last 6h.
        [[policy.check]]
        metric = "error-rate"
        max = "2%"

        # The p95. 1 % of the requests took longer in the last 6h. The limit must be an edge of the buckets.
        [[policy.check]]
        metric = "response-time"
        max = "500ms"

        # It has 3 pods and got 40.0 requests a second.
        [[policy.step]]
        weight = "5%"
        min-time = "5m"

        [[policy.step]]
        weight = "25%"
        min-time = "5m"

        [[policy.step]]
        weight = "50%"
        min-time = "10m"

        # The guard has no stable to compare with, so its limits are wider.
        [policy.guard]
        for = "10m"

        [[policy.guard.check]]
        metric = "error-rate"
        max = "4%"

        [[policy.guard.check]]
        metric = "availability"
        min = "90%"
    "##]].assert_eq(&toml);
    assert_eq!(doubts.lines().count(), 1, "{doubts}");
}

#[test]
fn a_workload_without_a_route_gets_steps_of_whole_pods() {
    check(
        &web(|web| web.survey.routes.clear()),
        &expect![[r#"

        [[policy]]
        name = "web"
        # The repositories of its images.
        match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
        # No HTTPRoute sends traffic to its Service, so the number of pods is the split.
        traffic = "replicas"

        # 0.4 % of the requests failed in the last 6h.
        [[policy.check]]
        metric = "error-rate"
        max = "2%"

        # The p95. 1 % of the requests took longer in the last 6h. The limit must be an edge of the buckets.
        [[policy.check]]
        metric = "response-time"
        max = "500ms"

        # It has 3 pods and got 40.0 requests a second.
        [[policy.step]]
        weight = "25%"
        min-time = "5m"

        [[policy.step]]
        weight = "50%"
        min-time = "10m"

        # The guard has no stable to compare with, so its limits are wider.
        [policy.guard]
        for = "10m"

        [[policy.guard.check]]
        metric = "error-rate"
        max = "4%"

        [[policy.guard.check]]
        metric = "availability"
        min = "90%"
    "#]],
    );
}

#[test]
fn an_ingress_is_no_route_and_is_named() {
    let facts = web(|web| {
        web.survey.routes.clear();
        web.unsplit_routes = vec!["Ingress front".to_owned()];
    });
    check(
        &facts,
        &expect![[r#"
        ⚠ shop/web: Ingress front can't be split by weight, so the share follows from whole pods
          fix: lead its traffic by an HTTPRoute for shares below that of a pod

        [[policy]]
        name = "web"
        # The repositories of its images.
        match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
        # Ingress front can't be split by weight, and no HTTPRoute sends traffic to its Service, so the number of pods is the split.
        traffic = "replicas"

        # 0.4 % of the requests failed in the last 6h.
        [[policy.check]]
        metric = "error-rate"
        max = "2%"

        # The p95. 1 % of the requests took longer in the last 6h. The limit must be an edge of the buckets.
        [[policy.check]]
        metric = "response-time"
        max = "500ms"

        # It has 3 pods and got 40.0 requests a second.
        [[policy.step]]
        weight = "25%"
        min-time = "5m"

        [[policy.step]]
        weight = "50%"
        min-time = "10m"

        # The guard has no stable to compare with, so its limits are wider.
        [policy.guard]
        for = "10m"

        [[policy.guard.check]]
        metric = "error-rate"
        max = "4%"

        [[policy.guard.check]]
        metric = "availability"
        min = "90%"
    "#]],
    );
}

#[test]
fn two_routes_are_both_split_and_that_is_said() {
    let facts = web(|web| {
        web.survey.routes.insert(RouterKind::Gateway, vec!["public".to_owned(), "internal".to_owned()]);
    });
    check(
        &facts,
        &expect![[r#"
        ⚠ shop/web: public and internal send traffic to its Service, and all of them are split
          fix: to split one alone, add route = { name = "public" } to the policy

        [[policy]]
        name = "web"
        # The repositories of its images.
        match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
        # HTTPRoute public and internal send traffic to its Service.
        traffic = "gateway"

        # 0.4 % of the requests failed in the last 6h.
        [[policy.check]]
        metric = "error-rate"
        max = "2%"

        # The p95. 1 % of the requests took longer in the last 6h. The limit must be an edge of the buckets.
        [[policy.check]]
        metric = "response-time"
        max = "500ms"

        # It has 3 pods and got 40.0 requests a second.
        [[policy.step]]
        weight = "5%"
        min-time = "5m"

        [[policy.step]]
        weight = "25%"
        min-time = "5m"

        [[policy.step]]
        weight = "50%"
        min-time = "10m"

        # The guard has no stable to compare with, so its limits are wider.
        [policy.guard]
        for = "10m"

        [[policy.guard.check]]
        metric = "error-rate"
        max = "4%"

        [[policy.guard.check]]
        metric = "availability"
        min = "90%"
    "#]],
    );
}

#[test]
fn without_metrics_the_pods_alone_are_judged_and_that_is_said() {
    check(
        &web(|web| web.families.clear()),
        &expect![[r#"
        ⚠ shop/web: Prometheus has no series of its requests in any preset, so its pods' readiness is the only check, and a version that answers with errors is promoted
          fix: scrape its pods, or define its metrics ([metric.NAME] in `bellwether config default`), and run init again

        [[policy]]
        name = "web"
        # The repositories of its images.
        match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
        # HTTPRoute web sends traffic to its Service.
        traffic = "gateway"

        # No metrics of its requests were found, so the readiness of its pods is all that is judged.
        [[policy.check]]
        metric = "availability"
        min = "90%"

        # It has 3 pods.
        [[policy.step]]
        weight = "5%"
        min-time = "5m"

        [[policy.step]]
        weight = "25%"
        min-time = "5m"

        [[policy.step]]
        weight = "50%"
        min-time = "10m"

        # The guard has no stable to compare with, so its limits are wider.
        [policy.guard]
        for = "10m"

        [[policy.guard.check]]
        metric = "availability"
        min = "90%"
    "#]],
    );
}

#[test]
fn a_gateways_metrics_are_used_behind_a_route_alone() {
    check(
        &web(|web| web.families = vec![family("traefik")]),
        &expect![[r#"

        [[policy]]
        name = "web"
        # The repositories of its images.
        match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
        # HTTPRoute web sends traffic to its Service.
        traffic = "gateway"

        # 0.4 % of the requests failed in the last 6h.
        [[policy.check]]
        metric = "error-rate"
        max = "2%"

        # The p95. 1 % of the requests took longer in the last 6h. The limit must be an edge of the buckets.
        [[policy.check]]
        metric = "response-time"
        max = "500ms"

        # It has 3 pods and got 40.0 requests a second.
        [[policy.step]]
        weight = "5%"
        min-time = "5m"

        [[policy.step]]
        weight = "25%"
        min-time = "5m"

        [[policy.step]]
        weight = "50%"
        min-time = "10m"

        # The guard has no stable to compare with, so its limits are wider.
        [policy.guard]
        for = "10m"

        [[policy.guard.check]]
        metric = "error-rate"
        max = "4%"

        [[policy.guard.check]]
        metric = "availability"
        min = "90%"
    "#]],
    );
    let facts = web(|web| {
        web.families = vec![family("traefik")];
        web.survey.routes.clear();
    });
    let (toml, doubts) = proposed(&facts);
    assert!(!toml.contains("traefik") && toml.contains("metric = \"availability\""), "{toml}");
    assert!(doubts.contains("only a gateway counts its requests (traefik)"), "{doubts}");
}

#[test]
fn the_pods_own_metrics_come_before_a_gateways() {
    let (toml, _) = proposed(&web(|web| web.families.insert(0, family("traefik"))));
    assert!(toml.contains("presets = [\"otel-http\"]"), "{toml}");
}

#[test]
fn one_pod_without_a_route_has_one_step() {
    let facts = web(|web| {
        web.survey.routes.clear();
        web.survey.replicas = 1;
    });
    check(
        &facts,
        &expect![[r#"
        ⚠ shop/web: it has one pod, so the canary gets half of the traffic at once
          fix: scale it to 4 or more, or add an HTTPRoute to its Service

        [[policy]]
        name = "web"
        # The repositories of its images.
        match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
        # No HTTPRoute sends traffic to its Service, so the number of pods is the split.
        traffic = "replicas"

        # 0.4 % of the requests failed in the last 6h.
        [[policy.check]]
        metric = "error-rate"
        max = "2%"

        # The p95. 1 % of the requests took longer in the last 6h. The limit must be an edge of the buckets.
        [[policy.check]]
        metric = "response-time"
        max = "500ms"

        # It has 1 pod and got 40.0 requests a second.
        [[policy.step]]
        weight = "50%"
        min-time = "10m"

        # The guard has no stable to compare with, so its limits are wider.
        [policy.guard]
        for = "10m"

        [[policy.guard.check]]
        metric = "error-rate"
        max = "4%"

        [[policy.guard.check]]
        metric = "availability"
        min = "90%"
    "#]],
    );
}

#[test]
fn an_autoscaler_that_counts_the_canary_is_said() {
    let facts = web(|web| {
        web.survey.routes.clear();
        web.survey.autoscalers = vec!["web".to_owned()];
        let issue = PreflightIssue::AutoscalerCountsCanary { name: "web".to_owned() };
        web.survey.issues.insert(RouterKind::Replicas, vec![issue]);
    });
    check(
        &facts,
        &expect![[r#"
            ⚠ shop/web: HorizontalPodAutoscaler web counts the canary's pods as the workload's own
              fix: set traffic = "gateway" in the policy with an HTTPRoute, or keep the number of pods during rollouts: kubectl -n shop patch hpa web --type merge -p '{"spec":{"minReplicas":N,"maxReplicas":N}}'

            [[policy]]
            name = "web"
            # The repositories of its images.
            match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
            # No HTTPRoute sends traffic to its Service, so the number of pods is the split.
            traffic = "replicas"

            # 0.4 % of the requests failed in the last 6h.
            [[policy.check]]
            metric = "error-rate"
            max = "2%"

            # The p95. 1 % of the requests took longer in the last 6h. The limit must be an edge of the buckets.
            [[policy.check]]
            metric = "response-time"
            max = "500ms"

            # It has 3 pods, as HorizontalPodAutoscaler web has set them, and got 40.0 requests a second.
            [[policy.step]]
            weight = "25%"
            min-time = "5m"

            [[policy.step]]
            weight = "50%"
            min-time = "10m"

            # The guard has no stable to compare with, so its limits are wider.
            [policy.guard]
            for = "10m"

            [[policy.guard.check]]
            metric = "error-rate"
            max = "4%"

            [[policy.guard.check]]
            metric = "availability"
            min = "90%"
        "#]],
    );
}

#[test]
fn an_issue_that_refuses_rollouts_is_said() {
    let facts = web(|web| {
        web.survey.issues.insert(RouterKind::Gateway, vec![PreflightIssue::Paused]);
        web.survey.issues.insert(RouterKind::Replicas, vec![PreflightIssue::NoService]);
    });
    let (_, doubts) = proposed(&facts);
    assert!(doubts.contains("refused: the Deployment is paused; run `kubectl rollout resume`"), "{doubts}");
    assert!(!doubts.contains("no Service"), "the issues of the other router do not matter: {doubts}");
}

#[test]
fn few_requests_get_longer_steps_and_more_patience() {
    let facts = web(|web| {
        for past in web.families.iter_mut().filter_map(|family| family.past.as_mut()) {
            (past.rps, past.failed) = (2.0, 0.02);
            past.slower = [(Span::from_secs(1), 0.4)].into();
        }
    });
    check(
        &facts,
        &expect![[r#"
        ⚠ shop/web: more than 2.5 % of its requests are slower than every edge of its buckets, so no check has its times
          fix: add a check of response-time with a limit that is one of the edges

        [[policy]]
        name = "web"
        # The repositories of its images.
        match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
        # HTTPRoute web sends traffic to its Service.
        traffic = "gateway"
        # So long may requests be too few to judge.
        patience = { insufficient = "34m" }

        # 2 % of the requests failed in the last 6h.
        [[policy.check]]
        metric = "error-rate"
        max = "10%"

        # It has 3 pods and got 2.0 requests a second.
        [[policy.step]]
        weight = "5%"
        min-time = "34m"

        [[policy.step]]
        weight = "25%"
        min-time = "7m"

        [[policy.step]]
        weight = "50%"
        min-time = "10m"

        # The guard has no stable to compare with, so its limits are wider.
        [policy.guard]
        for = "10m"

        [[policy.guard.check]]
        metric = "error-rate"
        max = "20%"

        [[policy.guard.check]]
        metric = "availability"
        min = "90%"
    "#]],
    );
}

#[test]
fn series_without_requests_give_guessed_limits() {
    check(
        &web(|web| web.families[0].past = None),
        &expect![[r#"
        ⚠ shop/web: its series of otel-http have no requests in the past, so the limits are guesses
          fix: send it requests, and run init again

        [[policy]]
        name = "web"
        # The repositories of its images.
        match = { namespaces = ["shop"], workloads = ["web"], images = ["registry.example/shop/web"] }
        # HTTPRoute web sends traffic to its Service.
        traffic = "gateway"

        # A guess: there were no requests.
        [[policy.check]]
        metric = "error-rate"
        max = "1%"

        # It has 3 pods.
        [[policy.step]]
        weight = "5%"
        min-time = "5m"

        [[policy.step]]
        weight = "25%"
        min-time = "5m"

        [[policy.step]]
        weight = "50%"
        min-time = "10m"

        # The guard has no stable to compare with, so its limits are wider.
        [policy.guard]
        for = "10m"

        [[policy.guard.check]]
        metric = "error-rate"
        max = "2%"

        [[policy.guard.check]]
        metric = "availability"
        min = "90%"
    "#]],
    );
}

#[test]
fn two_workloads_with_different_metrics_do_not_mix_them() {
    let own =
        MeasuredWorkload { survey: survey("web"), unsplit_routes: Vec::new(), families: vec![family("otel-http")] };
    let other = MeasuredWorkload { survey: survey("llm"), unsplit_routes: Vec::new(), families: vec![family("vllm")] };
    let silent = MeasuredWorkload { survey: survey("quiet"), unsplit_routes: Vec::new(), families: Vec::new() };
    let (toml, _) = proposed(&facts(vec![own, other, silent]));
    assert!(toml.contains("metric = \"vllm-error-rate\"") && toml.contains("[metric.vllm-error-rate]"), "{toml}");
    assert!(toml.contains("presets = [\"otel-http\"]"), "{toml}");
}

#[test]
fn other_labels_slow_scrapes_brokers_and_credentials_are_taken_over() {
    let mut facts = web(|web| {
        web.families[0].pod_labels = Some(["k8s_pod_name".to_owned(), "k8s_namespace_name".to_owned()]);
    });
    facts.prometheus.scrape_interval = Some(Span::from_secs(60));
    facts.prometheus.has_credentials = true;
    facts.brokers = Some("kafka-1:9092".to_owned());
    facts.kubeconfig = [Some("/home/me/.kube/config".to_owned()), Some("prod".to_owned())];
    let (toml, doubts) = proposed(&facts);
    for part in [
        "[kafka]\nbrokers = \"kafka-1:9092\"",
        "scrape-interval = \"60s\"",
        "lag = \"65s\"",
        "[metric.error-rate]\npod-label = \"k8s_pod_name\"",
        "kubeconfig = \"/home/me/.kube/config\"\ncontext = \"prod\"",
    ] {
        assert!(toml.contains(part), "{part}: {toml}");
    }
    assert!(!toml.contains("embedded") && doubts.contains("prometheus.bearer-token-file"), "{toml}{doubts}");
}

#[test]
fn a_url_loses_its_credentials() {
    let (url, had) = without_credentials("https://me:secret@prometheus.example/prom");
    assert_eq!((url.as_str(), had), ("https://prometheus.example/prom", true));
    assert_eq!(without_credentials("http://prometheus:9090"), ("http://prometheus:9090".to_owned(), false));
}

#[test]
fn a_kind_that_no_rollout_changes_is_an_error_that_names_it() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let error = Target::parse(&format!("prod/shop/{kind}/db")).unwrap_err().to_string();
        assert!(error.contains(&format!("prod/shop/db is a {kind}")), "{error}");
    }
    assert!(Target::parse("web").unwrap_err().to_string().contains("write cluster/namespace/Deployment/name"));
    assert_eq!(Target::parse("prod/shop").unwrap().namespace(), "shop");
}
