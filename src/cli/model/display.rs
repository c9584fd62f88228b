//! The output of the `model` commands.

use std::fmt::Write;

use anyhow::Context;
use bellwether_registry::{Digest, Manifest};
use serde::Serialize;

use crate::cli::{Output, print};

/// Prints `data` as JSON, or as the text that `table` makes of it.
pub(super) fn show<T: Serialize>(output: Output, data: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    match output {
        Output::Json => print(&(serde_json::to_string_pretty(data).context("can't encode the answer as JSON")? + "\n")),
        Output::Table => print(&table(data)),
    }
    Ok(())
}

/// Formats a size in bytes with a decimal unit, as in `1.5 GB`.
pub(super) fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in units {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" || value >= 99.95 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// Returns the first 12 digits of a digest, enough to tell two apart.
pub(super) fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

/// Returns the text, or a dash if it is empty.
pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { text.to_owned() }
}

/// Formats a version's manifest as several lines.
pub(super) fn describe(manifest: &Manifest) -> String {
    let mut text = format!("{} {}\n", manifest.name, manifest.version);
    let framework = format!("{} {}", manifest.framework, manifest.framework_version);
    let rows = [
        ("description", manifest.description.clone()),
        ("framework", framework.trim().to_owned()),
        ("size", size(manifest.size)),
        ("checksum", manifest.checksum.to_string()),
        ("registered", format!("{:.0} by {}", manifest.created_at, manifest.created_by)),
        ("tags", manifest.tags.join(", ")),
        ("made from", manifest.provenance.base.join(", ")),
        ("licence", manifest.provenance.license.clone()),
        ("datasets", manifest.provenance.datasets.join(", ")),
        ("commit", manifest.provenance.commit.clone()),
    ];
    for (label, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {label:<12} {value}");
    }
    for (name, value) in &manifest.performance_metrics {
        let _ = writeln!(text, "  {:<12} {name} = {value}", "metric");
    }
    for (name, value) in &manifest.validation_results {
        let _ = writeln!(text, "  {:<12} {name} = {value}", "validation");
    }
    for finding in &manifest.accepted {
        let _ = writeln!(text, "  {:<12} {finding}", "accepted");
    }
    for file in &manifest.files {
        let _ =
            writeln!(text, "  {:<12} {} ({}, {})", "file", file.path.as_str(), size(file.size), short(&file.checksum));
    }
    text
}
