//! Facts about other projects that the recipes and presets rest on, each with its source. A release of such a project that
//! changes one of them is a reason to change it here and in the recipe together.

/// The fields of a custom resource that recipes may use.
pub struct Fields {
    pub kind: &'static str,
    pub source: &'static str,
    pub paths: &'static [&'static str],
}

pub const FIELDS: &[Fields] = &[
    Fields {
        kind: "gateway.networking.k8s.io/v1 HTTPRoute",
        source: "kubernetes-sigs/gateway-api, apis/v1/httproute_types.go",
        paths: &[
            "spec.parentRefs[].name",
            "spec.parentRefs[].namespace",
            "spec.rules[].matches[].path.type",
            "spec.rules[].matches[].path.value",
            "spec.rules[].backendRefs[].name",
            "spec.rules[].backendRefs[].port",
        ],
    },
    Fields {
        kind: "argoproj.io/v1alpha1 AnalysisTemplate",
        source: "argoproj/argo-rollouts, pkg/apis/rollouts/v1alpha1/analysis_types.go",
        paths: &[
            "spec.args[].name",
            "spec.metrics[].name",
            "spec.metrics[].interval",
            "spec.metrics[].count",
            "spec.metrics[].failureLimit",
            "spec.metrics[].inconclusiveLimit",
            "spec.metrics[].consecutiveErrorLimit",
            "spec.metrics[].successCondition",
            "spec.metrics[].failureCondition",
            "spec.metrics[].provider.web.url",
            "spec.metrics[].provider.web.timeoutSeconds",
            "spec.metrics[].provider.web.jsonPath",
        ],
    },
    Fields {
        kind: "flagger.app/v1beta1 Canary",
        source: "fluxcd/flagger, pkg/apis/flagger/v1beta1/canary.go",
        paths: &[
            "spec.targetRef.apiVersion",
            "spec.targetRef.kind",
            "spec.targetRef.name",
            "spec.service.port",
            "spec.analysis.interval",
            "spec.analysis.threshold",
            "spec.analysis.maxWeight",
            "spec.analysis.stepWeight",
            "spec.analysis.webhooks[].name",
            "spec.analysis.webhooks[].type",
            "spec.analysis.webhooks[].url",
            "spec.analysis.webhooks[].timeout",
        ],
    },
    Fields {
        kind: "monitoring.coreos.com/v1 PodMonitor",
        source: "prometheus-operator/prometheus-operator, pkg/apis/monitoring/v1/podmonitor_types.go",
        paths: &[
            "spec.selector.matchExpressions[].key",
            "spec.selector.matchExpressions[].operator",
            "spec.podMetricsEndpoints[].port",
            "spec.podMetricsEndpoints[].path",
            "spec.podMetricsEndpoints[].interval",
        ],
    },
    Fields {
        kind: "serving.kserve.io/v1beta1 InferenceService",
        source: "kserve/kserve, pkg/apis/serving/v1beta1/component.go and predictor_model.go",
        paths: &[
            "spec.predictor.minReplicas",
            "spec.predictor.model.modelFormat.name",
            "spec.predictor.model.storageUri",
            "spec.predictor.model.resources.limits.nvidia.com/gpu",
        ],
    },
];

/// Deployment modes of KServe since 0.16 (kserve/kserve, pkg/constants/constants.go). The names before, `RawDeployment` and
/// `Serverless`, are deprecated, and its validation of metrics compares with the new ones alone.
pub const KSERVE_MODES: [&str; 3] = ["Standard", "Knative", "ModelMesh"];

/// Bucket edges of a histogram in the unit of its metric.
pub struct Edges {
    pub preset: &'static str,
    pub metric: &'static str,
    pub source: &'static str,
    pub edges: &'static [f64],
}

const VLLM: &str = "vllm-project/vllm, vllm/v1/metrics/loggers.py";
const GENAI: &str = "open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md";

/// Edges of durations by the conventions for generative AI: 10 ms and its doubles.
const DURATIONS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

pub const EDGES: &[Edges] = &[
    Edges {
        preset: "vllm",
        metric: "time-to-first-token",
        source: VLLM,
        edges: &[
            0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
            80.0, 160.0, 640.0, 2560.0,
        ],
    },
    Edges {
        preset: "vllm",
        metric: "response-time",
        source: VLLM,
        edges: &[
            0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
            960.0, 1920.0, 7680.0,
        ],
    },
    Edges { preset: "otel-genai", metric: "time-to-first-token", source: GENAI, edges: &DURATIONS },
    Edges {
        preset: "otel-genai",
        metric: "output-tokens",
        source: GENAI,
        edges: &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0],
    },
];

/// The series that a preset may read, in Prometheus' spelling: a counter gets `_total`, and a histogram of seconds
/// `_seconds`.
pub const METRICS: [(&str, &[&str], &str); 2] = [
    (
        "vllm",
        &[
            "vllm:request_success_total",
            "vllm:e2e_request_latency_seconds",
            "vllm:time_to_first_token_seconds",
            "vllm:inter_token_latency_seconds",
            "vllm:request_generation_tokens",
            "vllm:request_prompt_tokens",
            "vllm:request_queue_time_seconds",
            "vllm:generation_tokens_total",
            // Of the HTTP front end: trallnag/prometheus-fastapi-instrumentator, docs of its default metrics.
            "http_requests_total",
        ],
        VLLM,
    ),
    (
        "otel-genai",
        &[
            "gen_ai_client_operation_duration_seconds",
            "gen_ai_client_operation_duration_seconds_count",
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "gen_ai_client_token_usage",
            "gen_ai_execute_tool_duration_seconds",
            "gen_ai_execute_tool_duration_seconds_count",
            "gen_ai_invoke_agent_duration_seconds",
            "gen_ai_invoke_agent_duration_seconds_count",
        ],
        GENAI,
    ),
];
