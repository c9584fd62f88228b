//! The API verbs that the adapter uses. A test compares the shipped roles with them, and `check --online` asks the API
//! server for each.

use bellwether_core::input::event::Failure;
use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use super::api_kind::ApiKind;
use super::foreign;
use super::kind::KINDS;
use super::router::ROUTERS;
use super::server::Server;

/// A verb, an API group (empty for the core group) and a resource.
pub type ApiVerb = (&'static str, &'static str, &'static str);

/// The verbs that do not depend on the kind of the workload or the router.
const COMMON: [ApiVerb; 17] = [
    ("get", "", "namespaces"),
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
    ("list", "autoscaling", "horizontalpodautoscalers"),
    ("list", "gateway.networking.k8s.io", "referencegrants"),
    ("list", "monitoring.coreos.com", "podmonitors"),
    ("list", "monitoring.coreos.com", "servicemonitors"),
    ("list", "monitoring.googleapis.com", "podmonitorings"),
    ("list", "networking.k8s.io", "networkpolicies"),
];
/// The verbs on the workload objects of every kind.
const ON_WORKLOADS: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];
/// The verbs on the revisions of every kind.
const ON_REVISIONS: [&str; 2] = ["list", "watch"];

/// Returns every verb that is used in a namespace with workloads, ordered by API group.
pub fn required() -> Vec<ApiVerb> {
    let on = |kind: &'static ApiKind, verbs: &'static [&'static str]| {
        verbs.iter().map(|verb| (*verb, kind.group, kind.plural))
    };
    let of_kinds =
        KINDS.iter().flat_map(|kind| on(kind.api_kind(), &ON_WORKLOADS).chain(on(kind.revision_kind(), &ON_REVISIONS)));
    let of_routers = ROUTERS.iter().filter_map(|router| Some(on(router.resource()?, router.verbs()))).flatten();
    let foreign = foreign::KINDS.iter().map(|kind| ("list", kind.group, kind.plural));
    let mut all: Vec<ApiVerb> = COMMON.into_iter().chain(of_kinds).chain(of_routers).chain(foreign).collect();
    all.sort_by_key(|(_, group, _)| *group);
    all
}

/// Returns the remedy for missing verbs on a resource: the rule that the Role of the namespace, or without one the ClusterRole, needs.
pub fn missing_rule(verbs: &[&str], group: &str, resource: &str, namespace: Option<&str>) -> String {
    let role = namespace.map_or("the ClusterRole".to_owned(), |name| format!("the Role in namespace {name}"));
    let quoted: Vec<String> = verbs.iter().map(|verb| format!("\"{verb}\"")).collect();
    format!(
        "add to {role} of the service account: - {{apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [{}]}}",
        quoted.join(", ")
    )
}

/// Returns those of the verbs that the API server does not allow to this account. Without a namespace it asks for all
/// namespaces at once.
///
/// # Errors
/// The API server did not answer a question.
pub async fn missing(server: &Server, verbs: Vec<ApiVerb>, namespace: Option<&str>) -> Result<Vec<ApiVerb>, Failure> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(server.client.clone());
    let answers = verbs.into_iter().map(|verb| {
        let (reviews, review) = (reviews.clone(), review(verb, namespace));
        async move {
            let answer =
                server.call("asking for the allowed verbs", reviews.create(&PostParams::default(), &review)).await?;
            Ok::<_, Failure>((!answer.status.is_some_and(|status| status.allowed)).then_some(verb))
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
