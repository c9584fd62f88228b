//! The Service that is taken for the Prometheus if no URL is given.

use crate::adapters::kubernetes::MetricsService;

/// The values of a Service's label `app.kubernetes.io/name` or `app` for servers with Prometheus' query API, the ones that see most
/// series first.
const APPS: [&str; 8] = [
    "thanos-query-frontend",
    "thanos-query",
    "mimir-query-frontend",
    "vmselect",
    "vmsingle",
    "victoria-metrics-single",
    "kube-prometheus-stack-prometheus",
    "prometheus",
];
/// The names of ports of the query API. The first port is taken if there is none.
const PORTS: [&str; 4] = ["http-web", "http", "web", "http-metrics"];
/// Words in the names of Services beside a Prometheus that have no query API.
const BESIDE: [&str; 9] = [
    "alertmanager",
    "exporter",
    "operator",
    "pushgateway",
    "adapter",
    "kubelet",
    "kube-state-metrics",
    "discovery",
    "operated",
];

/// Returns the URL and the name of the Service that looks most like a Prometheus, and the names of the others that do. `None` if none
/// does.
pub fn choose(services: &[MetricsService]) -> Option<(String, String, Vec<String>)> {
    let mut found: Vec<(usize, &MetricsService)> =
        services.iter().filter_map(|service| Some((rank(service)?, service))).collect();
    found.sort_by_key(|(rank, service)| (*rank, &service.namespace, &service.name));
    let title = |service: &MetricsService| format!("{}/{}", service.namespace, service.name);
    let ((_, first), others) = found.split_first()?;
    let others = others.iter().map(|(_, service)| title(service)).collect();
    Some((format!("http://{}.{}:{}", first.name, first.namespace, port(first)?), title(first), others))
}

/// Returns the place of a Service among those that look like a Prometheus; `None` if it does not.
fn rank(service: &MetricsService) -> Option<usize> {
    port(service)?;
    if BESIDE.iter().any(|word| service.name.contains(word)) {
        return None;
    }
    APPS.iter()
        .position(|app| service.app == *app)
        .or_else(|| service.name.contains("prometheus").then_some(APPS.len()))
}

fn port(service: &MetricsService) -> Option<u16> {
    let named = PORTS.iter().find_map(|name| service.ports.iter().find(|(port, _)| port.as_deref() == Some(name)));
    named.or_else(|| service.ports.first()).map(|(_, port)| *port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, app: &str, ports: &[(&str, u16)]) -> MetricsService {
        let ports = ports.iter().map(|(name, port)| (Some((*name).to_owned()), *port)).collect();
        MetricsService { namespace: "monitoring".to_owned(), name: name.to_owned(), app: app.to_owned(), ports }
    }

    #[test]
    fn the_service_with_the_query_api_is_chosen_and_the_others_are_named() {
        let services = [
            service("prometheus-alertmanager", "prometheus", &[("web", 9093)]),
            service("prometheus-node-exporter", "prometheus", &[("metrics", 9100)]),
            service("web", "web", &[("http", 80)]),
            service("kube-prometheus", "", &[("reloader", 8080), ("http-web", 9090)]),
            service("thanos", "thanos-query", &[("grpc", 10901), ("http", 9090)]),
        ];
        let (url, name, others) = choose(&services).unwrap();
        assert_eq!((url.as_str(), name.as_str()), ("http://thanos.monitoring:9090", "monitoring/thanos"));
        assert_eq!(others, ["monitoring/kube-prometheus"]);
        let (url, ..) = choose(&services[..4]).unwrap();
        assert_eq!(url, "http://kube-prometheus.monitoring:9090", "the port is chosen by its name");
        assert_eq!(choose(&services[..3]), None);
    }
}
