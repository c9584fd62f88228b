//! The rows of the table: each is one way in which a real cluster is unkind.

/// Declares the rows with their names and descriptions.
macro_rules! rows {
    ($($(#[doc = $doc:literal])* $row:ident = $name:literal,)*) => {
        /// One way in which the world is unkind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Row {
            $($(#[doc = $doc])* $row,)*
        }

        impl Row {
            /// All rows, in the order of the table.
            pub const ALL: &'static [Row] = &[$(Row::$row,)*];

            /// Returns the row's name in tables and on the command line.
            pub fn name(self) -> &'static str {
                match self {
                    $(Row::$row => $name,)*
                }
            }

            /// Returns the row's description.
            pub fn description(self) -> &'static str {
                match self {
                    $(Row::$row => concat!($($doc),*),)*
                }
            }
        }
    };
}

rows! {
    /// Nothing unkind: pods start in seconds, the gateway follows and says so, every reading is there.
    Kind = "kind",
    /// Each new pod waits one to ten minutes for a node, and is Unschedulable until then.
    NodeWait = "node-wait",
    /// The namespace's quota refuses new pods for two to eight minutes from the request, or from the promotion.
    Quota = "quota",
    /// A pod of each arm is evicted every five minutes.
    Evictions = "evictions",
    /// A node is lost in a step: a third of the pods of each arm is unready for five minutes, and then replaced.
    NodeLoss = "node-loss",
    /// Pods of both arms are OOM-killed, two in each pod and hour; the second kill within ten minutes backs off.
    Restarts = "restarts",
    /// One pod of the canary hangs in a step; its readiness fails after 30 s, and it is restarted after 90 s.
    HungPod = "hung-pod",
    /// Pods take eight to twelve minutes to start, and ready-within is 15 minutes.
    SlowStart = "slow-start",
    /// 20 to 40 % of a pod's requests are slow, or fail, in its first 60 s.
    Cold = "cold",
    /// An autoscaler follows the stable's load per pod at 60 % of its capacity.
    Autoscaler = "autoscaler",
    /// An autoscaler adds pods in the guard, and each of them waits one to four minutes for a node.
    ScaleOut = "scale-out",
    /// An autoscaler adds pods in the guard, whose checks ask for 90 % of available pods.
    Availability = "availability",
    /// Blue-green, and a stable without traffic for three minutes is scaled to zero.
    ScaleToZero = "scale-to-zero",
    /// The pods are at 50 to 58 % of their capacity, so that more load for each pod shows in the latency.
    Load = "load",
    /// Two of five nodes are of a slower type, whose pods have four times the slow requests.
    NodeTypes = "node-types",
    /// Tenants differ: the error rates of pods are lognormal with a standard deviation of 0.5.
    HotTenants = "hot-tenants",
    /// Errors come as singles and, six times an hour, as bursts of 20 to 100 in one pod.
    Clusters = "clusters",
    /// An incident in both arms in a step: 50 % for 30 s, 20 % for 2 min, or 3 % for 5 min.
    Incident = "incident",
    /// Half of the requests come from callers that reach the stable only.
    DirectCallers = "direct-callers",
    /// The gateway's status comes two to eight minutes late; its data plane follows at once.
    GatewayLate = "gateway-late",
    /// The gateway's status is true for one minute of three; its data plane follows at once.
    GatewayPartial = "gateway-partial",
    /// The gateway's status stays as it was at the join; its data plane follows at once.
    GatewayFrozen = "gateway-frozen",
    /// The gateway writes no status; its data plane follows at once.
    GatewaySilent = "gateway-silent",
    /// The gateway accepts every weight, and its data plane follows half a minute to 100 s later, as that of a cloud load balancer.
    GatewaySlow = "gateway-slow",
    /// The gateway accepts every weight, and its data plane follows minutes later, or never gives the canary any.
    GatewayLying = "gateway-lying",
    /// 50 pods, three minutes to start, minReadySeconds 30: a promotion takes more than twelve minutes.
    LargePromotion = "large-promotion",
    /// Admission adds a digest to every image.
    Digests = "digests",
    /// The stable is a hotfix by other hands, newer than the last good version; the bad version shows after promotion.
    Hotfix = "hotfix",
    /// The stable breaks the limit; the good version is better and breaks it less, the bad one fails three times as much.
    BrokenStable = "broken-stable",
    /// The Deployment's strategy is Recreate.
    Recreate = "recreate",
    /// The daemon is killed in a step and is back after 15 to 40 minutes; a bad version shows from then on.
    DaemonAway = "daemon-away",
    /// The daemon is killed just after the promotion's patch and is back after 15 to 40 minutes.
    DaemonAwayPromoting = "daemon-away-promoting",
    /// The API server is away for 15 to 40 minutes, from a step or from the preparation on.
    ApiAway = "api-away",
    /// Kafka is away for 15 to 40 minutes, so nothing is decided.
    KafkaAway = "kafka-away",
    /// Prometheus is away for 8 to 20 minutes in a step.
    PrometheusAway = "prometheus-away",
    /// Prometheus is away for 8 to 20 minutes from the request on.
    PrometheusAwayPreparing = "prometheus-away-preparing",
    /// The machine's clock jumps an hour forward for 30 s.
    ClockJump = "clock-jump",
}

impl Row {
    /// Returns whether a rollout in this world has to wait for something that the kind world has at once.
    pub fn makes_wait(self) -> bool {
        matches!(
            self,
            Row::NodeWait
                | Row::Quota
                | Row::SlowStart
                | Row::LargePromotion
                | Row::GatewayLying
                | Row::DaemonAway
                | Row::DaemonAwayPromoting
                | Row::ApiAway
                | Row::KafkaAway
                | Row::PrometheusAway
                | Row::PrometheusAwayPreparing
        )
    }

    /// Returns the row of a name.
    pub fn named(name: &str) -> Option<Row> {
        Row::ALL.iter().copied().find(|row| row.name() == name)
    }
}
