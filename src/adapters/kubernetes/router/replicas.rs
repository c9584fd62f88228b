//! The router that splits by the number of pods: the stable's Service selects the canary's pods too, so there are no
//! routes.

use std::collections::BTreeSet;

use bellwether_core::ids::{Weight, Workload};
use bellwether_core::input::event::Failure;
use bellwether_core::input::status::{PreflightIssue, RouteStatus};
use bellwether_core::policy::{RouteName, RouterKind, Traffic};
use json_patch::Patch;
use kube::core::DynamicObject;

use super::{RouteMark, TrafficRouter};
use crate::adapters::kubernetes::api_kind::ApiKind;
use crate::adapters::kubernetes::kind::FieldPath;

/// The provider of the split by the number of pods.
#[derive(Debug)]
pub struct ReplicaRouter;

impl TrafficRouter for ReplicaRouter {
    fn kind(&self) -> RouterKind {
        RouterKind::Replicas
    }

    fn resource(&self) -> Option<&'static ApiKind> {
        None
    }

    fn rules(&self, _: &DynamicObject, _: &Workload, _: &str, _: Option<&RouteName>) -> Vec<usize> {
        Vec::new()
    }

    /// Returns the first Service: all of them reach the canary's pods.
    fn preflight<'a>(
        &self,
        _: &[DynamicObject],
        _: &Workload,
        services: &[&'a str],
        _: Option<&RouteName>,
    ) -> Result<&'a str, PreflightIssue> {
        services.first().copied().ok_or(PreflightIssue::NoService)
    }

    fn port(&self, _: &DynamicObject, _: &str) -> Option<u16> {
        None
    }

    fn epoch(&self, _: &DynamicObject, _: &Workload) -> Option<u64> {
        None
    }

    fn join(
        &self,
        _: &DynamicObject,
        _: &Workload,
        _: &str,
        _: &Traffic,
        _: &RouteMark,
    ) -> Result<Option<Patch>, Failure> {
        Ok(None)
    }

    fn set_weight(&self, _: &DynamicObject, _: &Workload, _: Weight, _: &RouteMark) -> Result<Option<Patch>, Failure> {
        Ok(None)
    }

    fn leave(&self, _: &DynamicObject, _: &Workload) -> Option<Patch> {
        None
    }

    fn observe(&self, _: &DynamicObject, _: &Workload) -> Option<RouteStatus> {
        None
    }

    fn workloads(&self, _: &DynamicObject) -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn rules_path(&self) -> FieldPath {
        &[]
    }

    fn issues(&self, _: &[DynamicObject], _: &Workload, _: &str, _: &Traffic) -> Vec<PreflightIssue> {
        Vec::new()
    }

    fn reaches(&self, _: &DynamicObject, _: &Workload, _: &str) -> bool {
        false
    }
}
