//! The verbs that the adapter uses, once, as a list. The shipped roles are held against it by a test, and
//! `check --online` asks the API server for each.

use bellwether_core::input::event::Failure;
use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use super::server::Server;

/// Verb, API group (empty: the core one), resource.
pub type ApiVerb = (&'static str, &'static str, &'static str);

/// Every verb that is used in a namespace where workloads live.
pub const REQUIRED: &[ApiVerb] = &[
    ("get", "", "persistentvolumeclaims"),
    ("list", "", "pods"),
    ("watch", "", "pods"),
    ("create", "", "events"),
    ("get", "", "services"),
    ("list", "", "services"),
    ("watch", "", "services"),
    ("create", "", "services"),
    ("patch", "", "services"),
    ("delete", "", "services"),
    ("get", "apps", "deployments"),
    ("list", "apps", "deployments"),
    ("watch", "apps", "deployments"),
    ("create", "apps", "deployments"),
    ("patch", "apps", "deployments"),
    ("delete", "apps", "deployments"),
    ("list", "apps", "replicasets"),
    ("watch", "apps", "replicasets"),
    ("list", "autoscaling", "horizontalpodautoscalers"),
    ("list", "gateway.networking.k8s.io", "httproutes"),
    ("watch", "gateway.networking.k8s.io", "httproutes"),
    ("patch", "gateway.networking.k8s.io", "httproutes"),
    ("list", "monitoring.coreos.com", "podmonitors"),
    ("list", "monitoring.coreos.com", "servicemonitors"),
    ("list", "networking.k8s.io", "networkpolicies"),
];

/// The verbs of [`REQUIRED`] that the API server does not allow us; `namespace: None` asks for all namespaces at once.
///
/// # Errors
/// A question was not answered.
pub async fn missing(server: &Server, namespace: Option<&str>) -> Result<Vec<ApiVerb>, Failure> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(server.client.clone());
    let answers = REQUIRED.iter().map(|verb| {
        let (reviews, review) = (reviews.clone(), review(*verb, namespace));
        async move {
            let asked = server.call("asking what we may do", reviews.create(&PostParams::default(), &review)).await?;
            Ok::<_, Failure>((!asked.status.is_some_and(|status| status.allowed)).then_some(*verb))
        }
    });
    Ok(try_join_all(answers).await?.into_iter().flatten().collect())
}

fn review((verb, group, resource): ApiVerb, namespace: Option<&str>) -> SelfSubjectAccessReview {
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: namespace.map(str::to_owned),
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests;
