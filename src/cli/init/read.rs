//! Reads the metrics that Prometheus has of a workload: the presets with series, and the requests of the past.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::ids::Workload;
use bellwether_core::measure::block::Block;
use bellwether_core::measure::metric::{ArmSource, Metric, MetricKind};
use bellwether_core::measure::watch::{ArmKey, ProbeTarget};
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, TimeRange};
use bellwether_lab::plan::CheckTraffic;

use super::checks::milliseconds;
use super::facts::{MetricFamily, PastRequests};
use crate::adapters::kubernetes::WorkloadSurvey;
use crate::cli::past::PastSources;
use crate::cli::proposal::quoted;
use crate::clock::Clock;
use crate::config::{self, Config, PRESETS};
use crate::ports::{Metrics, PodDirectory};
use crate::sampling::probe::{ProbeFinding, Prober};
use crate::sampling::{Options, grid};

/// The usual length of the past that the limits are taken from.
pub const PAST: Span = Span::from_secs(6 * 3600);
/// The edges in milliseconds that are tried as limits of the response time: those of the presets' default buckets.
const EDGES: [u64; 19] =
    [5, 10, 25, 50, 75, 100, 200, 250, 300, 500, 750, 1000, 1200, 2500, 5000, 7500, 10_000, 30_000, 60_000];
/// The labels of pod and namespace that are tried if the preset's own name no pod.
const POD_LABELS: [[&str; 2]; 3] = [
    ["k8s_pod_name", "k8s_namespace_name"],
    ["exported_pod", "exported_namespace"],
    ["kubernetes_pod_name", "kubernetes_namespace"],
];
/// The metrics of a preset that a proposal uses.
const USED: [&str; 2] = ["error-rate", "response-time"];

/// The sources of the metrics.
pub struct MetricReader {
    /// The metrics store.
    pub metrics: Arc<dyn Metrics>,
    /// The directory of the cluster's pods.
    pub pods: Arc<dyn PodDirectory>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The options of the reading.
    pub options: Options,
    /// The length of the past that the limits are taken from.
    pub over: Span,
}

impl MetricReader {
    /// Returns the presets that Prometheus has series of the workload's requests in.
    pub async fn families(&self, survey: &WorkloadSurvey) -> Vec<MetricFamily> {
        let mut found = Vec::new();
        for preset in self.presets().await {
            let own = [None].into_iter();
            let others = POD_LABELS.iter().map(|labels| Some(labels.map(str::to_owned)));
            for labels in own.chain(others) {
                let Some(config) = draft(preset, labels.as_ref()) else { break };
                if let Some(family) = self.family(preset, labels, &config, survey).await {
                    found.push(family);
                    break;
                }
                // A gateway's series are not told apart by pods.
                if config.metrics.get(USED[0]).is_some_and(|metric| metric.arms != ArmSource::Pods) {
                    break;
                }
            }
        }
        found
    }

    /// Returns the longest distance of two samples of the workload's series; `None` if there are none.
    pub async fn scrape_interval(&self, survey: &WorkloadSurvey, families: &[MetricFamily]) -> Option<Span> {
        let targets: Vec<ProbeTarget> = families.iter().flat_map(|family| targets(&family.metrics)).collect();
        self.prober().scrape_interval(&survey.workload, &stable(survey), &targets).await
    }

    /// Returns the presets whose series exist at all; all if the store can't say.
    async fn presets(&self) -> Vec<&'static str> {
        let series: BTreeMap<&str, String> =
            PRESETS.iter().filter_map(|(name, _)| Some((*name, series(name)?))).collect();
        let pattern: Vec<&str> = series.values().map(String::as_str).collect();
        let query = format!("count by (__name__) ({{__name__=~{:?}}})", pattern.join("|"));
        let at = self.options.lag.before(self.clock.now());
        let Ok(points) = self.metrics.instant(&query, at).await else { return series.into_keys().collect() };
        let names: Vec<&str> = points.iter().filter_map(|point| point.labels.get("__name__")).collect();
        series.into_iter().filter(|(_, series)| names.contains(&series.as_str())).map(|(preset, _)| preset).collect()
    }

    fn prober(&self) -> Prober {
        let (metrics, pods, clock) = (Arc::clone(&self.metrics), Arc::clone(&self.pods), Arc::clone(&self.clock));
        Prober::new(metrics, pods, clock, self.options)
    }

    /// Returns the metrics of a preset; `None` if the workload has no series of them.
    async fn family(
        &self,
        preset: &str,
        pod_labels: Option<[String; 2]>,
        config: &Config,
        survey: &WorkloadSurvey,
    ) -> Option<MetricFamily> {
        let metrics: BTreeMap<String, Metric> =
            USED.iter().filter_map(|name| Some(((*name).to_owned(), config.metrics.get(*name)?.clone()))).collect();
        let past = self.past(config, survey).await;
        if past.is_none() && !self.has_series(&metrics, survey).await {
            return None;
        }
        Some(MetricFamily { preset: preset.to_owned(), metrics, pod_labels, past })
    }

    /// Returns whether a probe of the share of failed requests finds nothing wrong.
    async fn has_series(&self, metrics: &BTreeMap<String, Metric>, survey: &WorkloadSurvey) -> bool {
        let targets: Vec<ProbeTarget> = targets(metrics).into_iter().filter(|target| target.name == USED[0]).collect();
        let findings = self.prober().findings(&survey.workload, &stable(survey), &targets).await;
        let is_about_it = |text: &str| text.starts_with(&format!("{}: ", USED[0]));
        !findings.iter().any(|finding| match finding {
            ProbeFinding::Problem(text) | ProbeFinding::Warning(text) | ProbeFinding::Unanswered(text) => {
                is_about_it(text)
            }
        })
    }

    /// Returns the requests of the past; `None` if there were none.
    async fn past(&self, config: &Config, survey: &WorkloadSurvey) -> Option<PastRequests> {
        let policy = config.policies.first()?;
        let blocks = self.blocks(policy, &survey.workload, &survey.uid).await;
        let checks = &policy.steps.first()?.checks;
        let of = |name: &str| checks.iter().find(|check| check.name == name);
        let errors = of(USED[0])?;
        let requests = CheckTraffic::of(&blocks, errors)?;
        let mut counted =
            blocks.iter().filter(|block| CheckTraffic::of(std::slice::from_ref(*block), errors).is_some());
        let first = counted.next()?;
        let over = Span::between(first.from, counted.next_back().unwrap_or(first).to);
        let edges = EDGES.iter().map(|edge| Span::from_millis(*edge));
        let slower = edges.filter_map(|edge| Some((edge, CheckTraffic::of(&blocks, of(&milliseconds(edge))?)?.share)));
        Some(PastRequests { over, rps: requests.rps, failed: requests.share, slower: slower.collect() })
    }

    async fn blocks(&self, policy: &Policy, workload: &Workload, uid: &str) -> Vec<Block> {
        let (_, newest) = grid(self.clock.now(), self.options.interval, self.options.lag);
        let stretch = TimeRange::before(newest, self.over, self.options.interval);
        let (metrics, pods) = (Arc::clone(&self.metrics), Arc::clone(&self.pods));
        let sources = PastSources { metrics, pods, options: self.options };
        sources.blocks(policy, workload, uid.to_owned(), false, stretch).await
    }
}

fn stable(survey: &WorkloadSurvey) -> ArmKey {
    ArmKey { deployment_uid: survey.uid.clone(), pod_hash: None, name: survey.workload.name.clone() }
}

fn targets(metrics: &BTreeMap<String, Metric>) -> Vec<ProbeTarget> {
    let target = |(name, metric): (&String, &Metric)| ProbeTarget {
        name: name.clone(),
        metric: metric.clone(),
        limits: Vec::new(),
    };
    metrics.iter().map(target).collect()
}

/// Returns the series of a preset's requests; `None` if it has none that the sequential judge can use.
fn series(preset: &str) -> Option<String> {
    let config = config::load_text("draft", &format!("presets = [{}]", quoted(preset))).ok()?;
    let metric = config.metrics.get(USED[0]).filter(|metric| metric.kind == MetricKind::Ratio)?;
    metric.series.clone()
}

/// Returns a configuration that measures the requests of a preset, with a check for each edge that may be a limit; `None` if the
/// preset can't be measured with these labels.
fn draft(preset: &str, pod_labels: Option<&[String; 2]>) -> Option<Config> {
    let mut text = format!("presets = [{}]\n", quoted(preset));
    if let Some([pod, namespace]) = pod_labels {
        for name in USED {
            let (pod, namespace) = (quoted(pod), quoted(namespace));
            text += &format!("[metric.{name}]\npod-label = {pod}\nnamespace-label = {namespace}\n");
        }
    }
    // The requests of young pods count as well: those of a workload that was just created are all that there is.
    text += "[[policy]]\nname = \"draft\"\nmatch = { namespaces = [\"*\"], workloads = [\"*\"], images = [\"*\"] }\nwarm-up = \"0s\"\n";
    text += "[[policy.step]]\nweight = \"50%\"\nmin-time = \"5m\"\n[[policy.check]]\nmetric = \"error-rate\"\nmax = \"1%\"\n";
    for edge in EDGES.map(|edge| milliseconds(Span::from_millis(edge))) {
        text += &format!("[[policy.check]]\nname = \"{edge}\"\nmetric = \"response-time\"\nmax = \"{edge}\"\n");
    }
    config::load_text("draft", &text).ok()
}

#[cfg(test)]
mod tests {
    use bellwether_core::time::Timestamp;

    use super::*;
    use crate::clock::StillClock;
    use crate::ports::PodFacts;
    use crate::sampling::tests::store::Store;

    #[test]
    fn each_preset_with_counters_has_a_draft() {
        let with_counters: Vec<&str> =
            PRESETS.iter().map(|(name, _)| *name).filter(|name| series(name).is_some()).collect();
        assert!(with_counters.contains(&"otel-http") && !with_counters.contains(&"nginx"), "{with_counters:?}");
        for preset in with_counters {
            assert!(draft(preset, None).is_some(), "{preset}");
        }
    }

    /// The pods `web-…` of one Deployment.
    struct WebPods;

    impl PodDirectory for WebPods {
        fn locate(&self, _: &str, pod: &str) -> Option<Arc<PodFacts>> {
            let (deployment_uid, pod_hash) = (pod.starts_with("web-").then(|| "uid".to_owned())?, "hash".to_owned());
            let started = Timestamp::from_second(1).ok()?;
            Some(PodFacts { deployment_uid, pod_hash, started, restarts: BTreeMap::new() }.into())
        }

        fn service(&self, _: &Workload) -> Option<(String, u16)> {
            None
        }
    }

    /// Requests of the workload and of another one, with the name of a pod in the label `pod`: 10 a second, of which 1 % fail and
    /// 4 % take longer than 250 ms.
    fn store(end: i64, pod: &str) -> Store {
        const SERIES: &str = "http_server_request_duration_seconds";
        let store = Store::default();
        for second in (end - 600..=end).step_by(15) {
            let at = Timestamp::from_second(second).unwrap();
            for (name, share) in [("web-1", 1.0), ("other-1", 9.0)] {
                let n = share * 10.0 * second as f64;
                let labels = |code| [(pod, name), ("namespace", "shop"), ("http_response_status_code", code)];
                store.put(&format!("{SERIES}_count"), &labels("200"), at, (n * 0.99).round());
                store.put(&format!("{SERIES}_count"), &labels("500"), at, (n * 0.01).round());
                for (le, below) in [("0.25", 0.96), ("0.5", 1.0), ("+Inf", 1.0)] {
                    let labels = [(pod, name), ("namespace", "shop"), ("le", le)];
                    store.put(&format!("{SERIES}_bucket"), &labels, at, (n * below).round());
                }
                store.put("up", &[(pod, name), ("namespace", "shop")], at, 1.0);
            }
        }
        store
    }

    async fn families(pod: &str, workload: &str) -> Vec<MetricFamily> {
        let end = 1_000_000;
        let clock = Arc::new(StillClock(Timestamp::from_second(end).unwrap()));
        let metrics = Arc::new(store(end, pod));
        let reader = MetricReader {
            metrics,
            pods: Arc::new(WebPods),
            clock,
            options: Options::default(),
            over: Span::from_secs(300),
        };
        let mut survey = super::super::tests::survey(workload);
        survey.uid = if workload == "web" { "uid".to_owned() } else { "no such uid".to_owned() };
        reader.families(&survey).await
    }

    #[tokio::test]
    async fn the_preset_with_series_of_the_workload_is_found_with_its_past() {
        let found = families("pod", "web").await;
        let [MetricFamily { preset, pod_labels: None, past: Some(past), .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(preset, "otel-http");
        assert!((past.rps - 10.0).abs() < 0.2 && (past.failed - 0.01).abs() < 0.002, "{past:?}");
        assert_eq!(past.over, Span::from_secs(300));
        let slower: Vec<(u64, u64)> =
            past.slower.iter().map(|(edge, share)| (edge.as_millis(), (share * 100.0).round() as u64)).collect();
        assert_eq!(slower, [(250, 4), (500, 0)], "the edges that the buckets have");
    }

    #[tokio::test]
    async fn series_of_other_workloads_and_of_other_labels_are_not_taken() {
        assert_eq!(families("pod", "silent").await, []);
        assert_eq!(families("a_label_of_nothing", "web").await, []);
    }
}
