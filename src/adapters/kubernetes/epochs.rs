//! The epochs that the objects of a cluster carry, for a new journal that is to continue above them.

use bellwether_core::input::event::Failure;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};

use super::kind::KINDS;
use super::marks::{self, EPOCH};
use super::router::{self, ROUTERS};
use super::server::Server;

/// Returns every object with an epoch, and the epoch; a namespace of `None` means all of them.
///
/// # Errors
/// A list could not be read.
pub async fn carried(server: &Server, namespace: Option<&str>) -> Result<Vec<(String, u64)>, Failure> {
    let mut found = Vec::new();
    for kind in KINDS.iter().map(|kind| kind.api_kind()) {
        let objects = server.list_if_known(kind, namespace).await?;
        found.extend(objects.iter().filter_map(|object| of_object(kind.kind, &object.metadata)));
    }
    for resource in ROUTERS.iter().filter_map(|router| router.resource()) {
        for route in server.list_if_known(resource, namespace).await? {
            let epochs = router::epochs(&route);
            found.extend(epochs.into_iter().map(|epoch| (title(resource.kind, &route.metadata), epoch)));
        }
    }
    let services: Api<Service> = namespace.map_or_else(|| Api::all(server.client.clone()), |name| server.of(name));
    let services = server.list("Services", services, &ListParams::default()).await?;
    found.extend(services.iter().filter_map(|service| of_object("Service", &service.metadata)));
    Ok(found)
}

fn of_object(kind: &str, metadata: &ObjectMeta) -> Option<(String, u64)> {
    let epoch = marks::annotation(metadata, EPOCH)?.parse().ok()?;
    Some((title(kind, metadata), epoch))
}

fn title(kind: &str, metadata: &ObjectMeta) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{kind} {}/{}", text(&metadata.namespace), text(&metadata.name))
}
