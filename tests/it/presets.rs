//! The shipped presets against answers as proxies and libraries report them: which ones count as bad.

use bellwether::config::{self, Sources};
use bellwether::sampling::reading::hit_pattern;
use bellwether_core::measure::metric::Metric;
use regex::Regex;

fn metric(preset: &str, name: &str) -> Metric {
    let flags = vec![format!("presets=[{preset}]")];
    let config = config::load(&Sources { flags, ..Sources::default() }).unwrap_or_else(|report| panic!("{report}"));
    config.metrics.get(name).unwrap_or_else(|| panic!("{preset} has no metric {name}")).clone()
}

/// The values of the label of an answer that are hits, and those that are none. An empty value is a missing label.
type Answers = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

#[test]
fn each_preset_counts_the_answers_that_are_bad() {
    let rows: [Answers; 14] = [
        ("otel-http", "error-rate", &["500", "503", ""], &["200", "302", "401", "404", "429"]),
        ("otel-http", "client-errors", &["400", "401", "404", "429"], &["200", "302", "500", ""]),
        ("istio", "error-rate", &["500", "503", "0"], &["200", "404"]),
        ("istio", "client-errors", &["401", "404"], &["200", "500", "0", ""]),
        // The HTTP status of these calls is 200. A call without a status broke.
        ("istio", "grpc-error-rate", &["2", "4", "12", "13", "14", "15", ""], &["0", "1", "3", "5", "7", "16"]),
        ("linkerd", "client-errors", &["401", "404"], &["200", "503", ""]),
        ("traefik", "error-rate", &["500", "504"], &["200", "404", "499"]),
        ("traefik", "client-errors", &["401", "404", "499"], &["200", "500"]),
        ("envoy-gateway", "error-rate", &["5"], &["1", "2", "3", "4"]),
        ("envoy-gateway", "client-errors", &["4"], &["2", "3", "5", ""]),
        (
            "grpc",
            "error-rate",
            &["Internal", "Unavailable", "Unknown", "DataLoss", ""],
            &["OK", "Canceled", "NotFound"],
        ),
        ("grpc", "client-errors", &["NotFound", "Unauthenticated", "PermissionDenied"], &["OK", "Internal", ""]),
        (
            "otel-rpc",
            "error-rate",
            &["INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"],
            &["OK", "NOT_FOUND", "CANCELLED"],
        ),
        ("otel-rpc", "client-errors", &["NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED"], &["OK", "INTERNAL"]),
    ];
    for (preset, name, bad, good) in rows {
        let (pattern, matches) = hit_pattern(&metric(preset, name).hits.unwrap()).unwrap();
        let is_hit = |value: &&&str| pattern.is_match(value) == matches;
        let (missed, wrong): (Vec<_>, Vec<_>) =
            (bad.iter().filter(|value| !is_hit(value)).collect(), good.iter().filter(is_hit).collect());
        assert!(missed.is_empty() && wrong.is_empty(), "{preset} {name}: {missed:?} are not counted, {wrong:?} are");
    }
}

/// A canary without users must not pass on the requests of its kubelet.
#[test]
fn no_preset_for_http_counts_the_usual_routes_of_probes() {
    for name in ["error-rate", "success-rate", "client-errors", "response-time", "throughput"] {
        let matching = metric("otel-http", name).matching.unwrap();
        let pattern = matching.strip_prefix("http_route!~\"").and_then(|rest| rest.strip_suffix('"'));
        let pattern = Regex::new(&format!("^(?s:{})$", pattern.unwrap())).unwrap();
        for route in
            ["/healthz", "/livez", "/readyz", "/ready", "/health/live", "/actuator/health", "/q/health", "/metrics"]
        {
            assert!(pattern.is_match(route), "{name} counts {route}");
        }
        for route in ["", "/", "/health-plans", "/orders/ready", "/pingpong", "/readings/{id}"] {
            assert!(!pattern.is_match(route), "{name} leaves out {route:?}");
        }
    }
}
