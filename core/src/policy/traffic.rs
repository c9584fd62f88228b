//! The split of the traffic: the routers that a policy can name, and their capabilities.
//!
//! The core knows two facts about a router: whether it splits by weight and whether it splits cohorts. Everything else
//! belongs to the adapter. A further router is a variant with its capabilities here, and a file with its provider in
//! the Kubernetes adapter.

use serde::{Deserialize, Serialize};

/// A traffic router, as policies name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouterKind {
    /// The weights of Gateway API HTTPRoutes.
    #[default]
    Gateway,
    /// No router: the number of pods behind one Service is the split.
    Replicas,
}

/// The capabilities of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether it gives each arm a share of the requests that doesn't depend on the number of pods.
    pub weights: bool,
    /// Whether it sends the requests with a certain header or cookie to one arm.
    pub cohorts: bool,
}

impl RouterKind {
    /// Returns the router's capabilities.
    pub const fn capabilities(self) -> Capabilities {
        match self {
            RouterKind::Gateway => Capabilities { weights: true, cohorts: true },
            RouterKind::Replicas => Capabilities { weights: false, cohorts: false },
        }
    }
}

/// The split of a workload's traffic, as an adapter needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Traffic {
    /// The router that splits the traffic.
    pub router: RouterKind,
    /// The route to split; `None`: every route that sends traffic to the workload's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteName>,
    /// The requests that the canary gets; `None`: a share of all requests, by weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<Cohort>,
}

impl Traffic {
    /// Returns a split by `router`, over every route of the workload.
    pub fn by(router: RouterKind) -> Traffic {
        Traffic { router, ..Traffic::default() }
    }

    /// Returns whether the canary's share is a weight. Without weights the number of pods is the share.
    pub fn splits_by_weight(&self) -> bool {
        self.router.capabilities().weights
    }
}

/// A route, or one of its rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RouteName {
    /// The route object's name, in the workload's namespace.
    pub name: String,
    /// The rule, counted from 0; `None`: every rule that sends traffic to the workload's Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
}

/// The requests with a certain header or cookie. Exactly one of `header` and `cookie` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cohort {
    /// The header's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The cookie's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The value of the header or cookie.
    pub value: String,
}
