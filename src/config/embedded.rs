//! The configuration files that are embedded in the program: the defaults and the presets of metrics.

/// The content of `config/default.toml`: the lowest layer, and the output of `bellwether config default`.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// The presets of metrics: the name that the key `presets` takes, and the content of the file.
pub const PRESETS: &[(&str, &str)] = &[
    ("envoy-gateway", include_str!("../../config/presets/envoy-gateway.toml")),
    ("grpc", include_str!("../../config/presets/grpc.toml")),
    ("istio", include_str!("../../config/presets/istio.toml")),
    ("linkerd", include_str!("../../config/presets/linkerd.toml")),
    ("nginx", include_str!("../../config/presets/nginx.toml")),
    ("otel-genai", include_str!("../../config/presets/otel-genai.toml")),
    ("otel-http", include_str!("../../config/presets/otel-http.toml")),
    ("otel-rpc", include_str!("../../config/presets/otel-rpc.toml")),
    ("traefik", include_str!("../../config/presets/traefik.toml")),
    ("vllm", include_str!("../../config/presets/vllm.toml")),
];
