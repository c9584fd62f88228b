//! The section `[events]` of the configuration.

use serde::Deserialize;

use super::mapping::Mapping;

/// The translation of other tools' events.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The rules that name the workload of a CDEvent.
    pub mapping: Mapping,
}
