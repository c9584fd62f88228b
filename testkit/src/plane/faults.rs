//! Faults of the cluster in a sandbox's namespace, each made through the API server as a part of the cluster would make it.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::sandbox::Sandbox;
use super::wait;

const ADMISSION: &str = "admissionregistration.k8s.io/v1";
const SOON: Duration = Duration::from_secs(60);

impl Sandbox {
    /// Sets the condition `Ready` of all pods whose name begins with `prefix`, as a kubelet does after a readiness probe. The
    /// pods answer as before. Returns their number.
    ///
    /// # Errors
    /// The API server refuses a change.
    pub async fn set_ready(&self, prefix: &str, ready: bool) -> Result<usize> {
        let status = if ready { "True" } else { "False" };
        let conditions = ["Ready", "ContainersReady"].map(|kind| json!({"type": kind, "status": status}));
        let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
        let (pods, by) = (self.pods(), PatchParams::default());
        let found = pods.list(&ListParams::default()).await?.items;
        let names: Vec<_> = found.iter().map(ResourceExt::name_any).filter(|name| name.starts_with(prefix)).collect();
        try_join_all(names.iter().map(|name| pods.patch_status(name, &by, &patch))).await?;
        Ok(names.len())
    }

    /// Creates a node with room for `pods` pods, for this sandbox's pods alone: see [`Sandbox::move_to_own_nodes`].
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn create_node(&self, name: &str, pods: u32) -> Result<()> {
        let room = json!({"cpu": "1k", "memory": "1Ti", "pods": pods.to_string()});
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": format!("{name}.{}", self.namespace),
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"sandbox": self.namespace, "kubernetes.io/os": "linux"},
            },
            "spec": {"taints": [{"key": "sandbox", "value": self.namespace, "effect": "NoSchedule"}]},
            "status": {"allocatable": room, "capacity": room},
        });
        self.plane.kubernetes.create(object).await?;
        Ok(())
    }

    /// Moves the pods of a Deployment to this sandbox's own nodes, and waits until they are available there.
    ///
    /// # Errors
    /// The nodes have no room for them.
    pub async fn move_to_own_nodes(&self, deployment: &str, replicas: u32) -> Result<()> {
        let toleration = json!({"key": "sandbox", "operator": "Exists"});
        let spec = json!({"nodeSelector": {"sandbox": self.namespace}, "tolerations": [toleration]});
        let patch = Patch::Strategic(json!({"spec": {"template": {"spec": spec}}}));
        self.deployments().patch(deployment, &PatchParams::default(), &patch).await?;
        self.wait_available(deployment, replicas).await
    }

    /// Freezes the status of all routes: the API server refuses every change of it, while the gateway's data plane follows
    /// the routes as before.
    ///
    /// # Errors
    /// The API server refuses the policy, or does not follow it in time.
    pub async fn freeze_route_status(&self) -> Result<()> {
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": self.namespace}});
        let rule = json!({
            "apiGroups": ["gateway.networking.k8s.io"],
            "apiVersions": ["*"],
            "operations": ["UPDATE"],
            "resources": ["httproutes/status"],
        });
        let policy = json!({
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": self.namespace},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"namespaceSelector": here, "resourceRules": [rule]},
                "validations": [{"expression": "false", "message": "the status is frozen"}],
            },
        });
        let binding = json!({
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": self.namespace},
            "spec": {"policyName": self.namespace, "validationActions": ["Deny"]},
        });
        self.plane.kubernetes.create(policy).await?;
        self.plane.kubernetes.create(binding).await?;
        let by = PatchParams { dry_run: true, ..PatchParams::default() };
        let unchanged = Patch::Merge(json!({"status": {}}));
        wait::until("the API server to refuse the routes' status", SOON, async || {
            let refused = self.routes().patch_status("web", &by, &unchanged).await.err().map(|error| error.to_string());
            ensure!(refused.as_ref().is_some_and(|text| text.contains("the status is frozen")), "{refused:?}");
            Ok(())
        })
        .await
    }

    /// Ends [`Sandbox::freeze_route_status`]. The gateway writes the status again when it next has a reason to.
    ///
    /// # Errors
    /// The status is not frozen, or the API server does not answer.
    pub async fn thaw_route_status(&self) -> Result<()> {
        for kind in ["ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"] {
            let objects = self.plane.kubernetes.objects(ADMISSION, kind, None);
            objects.delete(&self.namespace, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}
