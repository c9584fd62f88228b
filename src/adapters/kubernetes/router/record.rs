//! The record of a route: an annotation with the weights before the canary joined it, by workload.
//!
//! Effect and epoch are in the record and not in annotations of their own, because two workloads on one route belong to
//! partitions whose epochs are independent.

use std::collections::BTreeMap;

use bellwether_core::ids::Workload;
use kube::core::DynamicObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::adapters::kubernetes::marks::{self, ORIGINAL_WEIGHTS};
use crate::adapters::kubernetes::patch::PatchDraft;

/// Returns the workload's record; `None` if the route has none that can be read.
pub fn read<R: DeserializeOwned>(route: &DynamicObject, workload: &Workload) -> Option<R> {
    read_all(route).remove(&workload.name)
}

/// Writes the workload's record, or removes it if `record` is `None`. Records of other workloads are kept.
pub fn write<R>(route: &DynamicObject, workload: &Workload, record: Option<R>, draft: &mut PatchDraft)
where
    R: Serialize + DeserializeOwned,
{
    let mut records: BTreeMap<String, R> = read_all(route);
    match record {
        Some(record) => records.insert(workload.name.clone(), record),
        None => records.remove(&workload.name),
    };
    let exists = marks::annotation(&route.metadata, ORIGINAL_WEIGHTS).is_some();
    match (records.is_empty(), exists) {
        (true, true) => draft.remove(&["metadata", "annotations", ORIGINAL_WEIGHTS]),
        (true, false) => (),
        (false, _) => draft.annotate(ORIGINAL_WEIGHTS, json!(records).to_string()),
    }
}

/// Returns the epochs of all records.
pub fn epochs(route: &DynamicObject) -> Vec<u64> {
    let records: BTreeMap<String, Value> = read_all(route);
    records.values().filter_map(|record| record.get("epoch")?.as_u64()).collect()
}

/// Returns the names of the workloads with a record.
pub fn workloads(route: &DynamicObject) -> Vec<String> {
    let records: BTreeMap<String, Value> = read_all(route);
    records.into_keys().collect()
}

fn read_all<R: DeserializeOwned>(route: &DynamicObject) -> BTreeMap<String, R> {
    marks::annotation(&route.metadata, ORIGINAL_WEIGHTS)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}
