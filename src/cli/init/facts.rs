//! The facts that a first configuration is proposed from.

use std::collections::BTreeMap;

use bellwether_core::measure::metric::{ArmSource, Metric};
use bellwether_core::time::Span;

use crate::adapters::kubernetes::WorkloadSurvey;

/// The facts about a cluster, its Prometheus and the workloads.
#[derive(Debug, Clone, PartialEq)]
pub struct InitFacts {
    /// The workload or the namespace that was asked for, as the command line spells it.
    pub asked: String,
    /// The cluster's name.
    pub cluster: String,
    /// The kubeconfig and the context that the configuration names.
    pub kubeconfig: [Option<String>; 2],
    /// The Prometheus.
    pub prometheus: PrometheusFacts,
    /// The brokers for `kafka.brokers`; `None`: one process with an embedded journal.
    pub brokers: Option<String>,
    /// The workloads, all of one namespace and at least one.
    pub workloads: Vec<MeasuredWorkload>,
}

/// The facts about the Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusFacts {
    /// Its URL, without credentials.
    pub url: String,
    /// The Service that it was found by, as `namespace/name`; `None` if its URL was given.
    pub service: Option<String>,
    /// Whether it was asked with credentials, which the proposal does not have.
    pub has_credentials: bool,
    /// The longest distance of two samples of the workloads; `None` if there are none.
    pub scrape_interval: Option<Span>,
}

/// A workload with the metrics that Prometheus has of it.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredWorkload {
    /// The objects around it.
    pub survey: WorkloadSurvey,
    /// Kind and name of the routes that send traffic to it and that no router splits.
    pub unsplit_routes: Vec<String>,
    /// The presets whose requests Prometheus has series of.
    pub families: Vec<MetricFamily>,
}

/// The metrics of one preset that Prometheus has of a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricFamily {
    /// The preset's name.
    pub preset: String,
    /// The definitions of `error-rate` and `response-time`, with the labels by which the pods were found.
    pub metrics: BTreeMap<String, Metric>,
    /// The labels of pod and namespace, if the preset has others.
    pub pod_labels: Option<[String; 2]>,
    /// The requests of the past; `None` if there were none.
    pub past: Option<PastRequests>,
}

impl MetricFamily {
    /// Returns whether a gateway counts the requests, so that the canary needs a Service of its own.
    pub fn is_of_gateway(&self) -> bool {
        self.metrics.values().any(|metric| metric.arms != ArmSource::Pods)
    }
}

/// The requests of a workload in the past.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRequests {
    /// The length of the past, from the first request.
    pub over: Span,
    /// Requests per second.
    pub rps: f64,
    /// The share of failed requests, from 0 to 1.
    pub failed: f64,
    /// The share of the requests that took longer, from 0 to 1, by the edges of the buckets.
    pub slower: BTreeMap<Span, f64>,
}
