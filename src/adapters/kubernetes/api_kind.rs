//! The kinds of the Kubernetes API that the adapter reads and writes, as constants.

use kube::core::{ApiResource, GroupVersionKind};

/// A kind of the Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiKind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version, such as `v1`.
    pub version: &'static str,
    /// The kind, such as `Deployment`.
    pub kind: &'static str,
    /// The name in URLs and RBAC rules, such as `deployments`.
    pub plural: &'static str,
}

impl ApiKind {
    /// Returns the kind for kube's untyped API.
    pub fn resource(&self) -> ApiResource {
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(self.group, self.version, self.kind), self.plural)
    }

    /// Returns group and version as objects name them, such as `apps/v1`.
    pub fn api_version(&self) -> String {
        self.resource().api_version
    }

    /// Returns the kind's plural for messages, such as `Deployments`.
    pub fn objects(&self) -> String {
        format!("{}s", self.kind)
    }
}
