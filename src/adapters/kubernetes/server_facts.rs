//! Facts about the API server itself: its clock, and the versions of the routes' APIs that it has.

use bellwether_core::input::event::Failure;
use bellwether_core::policy::RouterKind;
use kube::client::Body;

use super::failure;
use super::router;
use super::server::Server;
use crate::clock::{Clock, server_ahead_ms};

/// The API of a router's routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteApi {
    /// The API that the router uses, as in `gateway.networking.k8s.io/v1`.
    pub wanted: String,
    /// The kind of the routes.
    pub kind: &'static str,
    /// Whether the API server has the kind in this version.
    pub is_served: bool,
    /// The versions of the group that the API server has, as in `v1beta1`.
    pub versions: Vec<String>,
}

/// Returns the API server's clock minus this machine's in milliseconds, by the header `Date`; `None` without one.
///
/// # Errors
/// The API server did not answer.
pub async fn clock_ahead_ms(server: &Server, clock: &dyn Clock) -> Result<Option<i64>, Failure> {
    const OPERATION: &str = "reading the API server's clock";
    let request = http::Request::get("/version").body(Body::empty()).map_err(|error| {
        failure::new(bellwether_core::input::event::FailureKind::Refused, format!("{OPERATION}: {error}"))
    })?;
    let answer = server.call(OPERATION, server.client.send(request)).await?;
    Ok(server_ahead_ms(answer.headers(), clock.now()))
}

/// Returns the API of a router's routes; `None` for a router without routes.
///
/// # Errors
/// The API server did not answer.
pub async fn route_api(server: &Server, router: RouterKind) -> Result<Option<RouteApi>, Failure> {
    let Some(resource) = router::provider(router).resource() else { return Ok(None) };
    let groups = server.call("listing API groups", server.client.list_api_groups()).await?.groups;
    let group = groups.into_iter().find(|group| group.name == resource.group);
    let versions: Vec<String> =
        group.map(|group| group.versions.into_iter().map(|version| version.version).collect()).unwrap_or_default();
    let wanted = resource.api_version();
    let is_served = versions.iter().any(|version| version == resource.version) && {
        let resources = server.client.list_api_group_resources(&wanted);
        let resources = server.call("listing API resources", resources).await?.resources;
        resources.iter().any(|found| found.name == resource.plural)
    };
    Ok(Some(RouteApi { wanted, kind: resource.kind, is_served, versions }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapters::kubernetes::fake_api::FakeApi;
    use crate::clock::SystemClock;

    fn with_versions(versions: &[&str], resources: &[&str]) -> FakeApi {
        let mut api = FakeApi::with_stable();
        let entry = |version: &&str| json!({"groupVersion": format!("gateway.networking.k8s.io/{version}"), "version": version});
        let versions: Vec<_> = versions.iter().map(entry).collect();
        api.set(
            "/apis",
            json!({"kind": "APIGroupList", "apiVersion": "v1",
            "groups": [{"name": "gateway.networking.k8s.io", "versions": versions}]}),
        );
        let resource = |name: &&str| json!({"name": name, "singularName": "", "namespaced": true, "kind": "HTTPRoute", "verbs": []});
        api.set("/apis/gateway.networking.k8s.io/v1", json!({"kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": "gateway.networking.k8s.io/v1", "resources": resources.iter().map(resource).collect::<Vec<_>>()}));
        api
    }

    #[tokio::test]
    async fn an_api_server_without_the_version_of_routes_is_told_from_one_with_it() {
        for (versions, resources, served) in [
            (&["v1", "v1beta1"][..], &["httproutes"][..], true),
            (&["v1"], &["gateways"], false),
            (&["v1beta1"], &[], false),
        ] {
            let ask = async |server: Server| route_api(&server, RouterKind::Gateway).await.unwrap().unwrap();
            let (api, _) = with_versions(versions, resources).run(ask).await;
            assert_eq!((api.is_served, api.versions), (served, versions.iter().map(|v| (*v).to_owned()).collect()));
        }
        let ask = async |server: Server| route_api(&server, RouterKind::Replicas).await.unwrap();
        assert_eq!(FakeApi::with_stable().run(ask).await.0, None);
    }

    #[tokio::test]
    async fn the_clock_of_the_api_server_is_compared_with_ours() {
        let ask = async |server: Server| clock_ahead_ms(&server, &SystemClock).await.unwrap();
        let (ahead, _) = FakeApi::with_stable().run(ask).await;
        assert!(ahead.is_some_and(|ahead| ahead.abs() < 5_000), "{ahead:?}");
    }
}
