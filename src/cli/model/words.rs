//! How the commands about models show things.

use std::fmt::Write;

use bellwether_registry::Manifest;
use bellwether_registry::digest::Digest;

/// Bytes, for people.
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

/// As much of a digest as tells two apart.
pub(super) fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

/// A dash for nothing.
pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { text.to_owned() }
}

/// All that is known of a version.
pub(super) fn card(manifest: &Manifest) -> String {
    let mut text = format!("{} {}\n", manifest.name, manifest.version);
    let framework = format!("{} {}", manifest.framework, manifest.framework_version);
    let rows = [
        ("description", manifest.description.clone()),
        ("framework", framework.trim().to_owned()),
        ("size", size(manifest.size)),
        ("checksum", manifest.checksum.to_string()),
        ("registered", format!("{:.0} by {}", manifest.created_at, manifest.created_by)),
        ("tags", manifest.tags.join(", ")),
    ];
    for (what, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {what:<12} {value}");
    }
    for (name, value) in &manifest.performance_metrics {
        let _ = writeln!(text, "  {:<12} {name} = {value}", "metric");
    }
    for (name, value) in &manifest.validation_results {
        let _ = writeln!(text, "  {:<12} {name} = {value}", "validation");
    }
    for file in &manifest.files {
        let _ =
            writeln!(text, "  {:<12} {} ({}, {})", "file", file.path.as_str(), size(file.size), short(&file.checksum));
    }
    text
}
