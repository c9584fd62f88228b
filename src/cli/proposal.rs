//! Configurations that a command proposes: the parts that `init` and `import` write alike.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use bellwether_core::measure::metric::Metric;
use bellwether_core::time::Span;
use rustix::fs::{Access, access};
use serde::Serialize;

use super::print;

/// Returns a text as TOML writes it.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Returns texts as a list of TOML.
pub fn quoted_list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(quoted).collect();
    format!("[{}]", quoted.join(", "))
}

/// Formats a length of time as policies write it, in its largest whole unit.
pub fn time(span: Span) -> String {
    let millis = span.as_millis();
    match millis {
        0 => "0s".to_owned(),
        ms if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        ms if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        ms if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// Formats a share as policies write it, to a millionth of a percent.
pub fn percent(share: f64) -> String {
    format!("{}%", decimal(share * 100.0))
}

/// Formats a number with at most six places after the point.
pub fn decimal(number: f64) -> String {
    let text = format!("{number:.6}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

/// Returns the table of the journal: Kafka with these brokers, or one process with a file.
pub fn journal(brokers: Option<&str>) -> String {
    match brokers {
        Some(brokers) => format!("\n[kafka]\nbrokers = {}\n", quoted(brokers)),
        None => "\n[journal]\n# One process with one file, because no brokers were given (--brokers). Several replicas need Kafka.\n\
                 kind = \"embedded\"\n\n[http]\n# Events come over HTTP, from this machine alone.\nevents = true\n"
            .to_owned(),
    }
}

/// Returns the key `namespaces` of the table of Kubernetes.
pub fn namespaces<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    format!(
        "# The rights in these namespaces are enough. An empty list means all.\nnamespaces = {}\n",
        quoted_list(names)
    )
}

/// The metrics as they are written into a configuration.
#[derive(Serialize)]
struct MetricTables<'a> {
    metric: BTreeMap<&'a str, &'a Metric>,
}

/// Returns the tables of metrics, without the defaults that each metric has.
pub fn metric_tables<'a>(metrics: impl IntoIterator<Item = (&'a str, &'a Metric)>) -> String {
    // A metric that was read from TOML, or has only texts, can be written as TOML.
    let text = toml::to_string(&MetricTables { metric: metrics.into_iter().collect() }).unwrap_or_default();
    let defaults = ["unit = \"seconds\"", "arms = \"pods\""];
    text.lines().filter(|line| !defaults.contains(line)).map(|line| format!("{line}\n")).collect()
}

/// Returns the table of a step.
pub fn step_table(weight: &str, min_time: &str) -> String {
    format!("[[policy.step]]\nweight = \"{weight}\"\nmin-time = \"{min_time}\"\n")
}

/// Checks that a file may be written, before there is something to write.
///
/// # Errors
/// It is a folder, its folder does not exist or can't be written, or it exists and must not be replaced.
pub fn check_target(path: Option<&Path>, force: bool) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let shown = path.display();
    if path.is_dir() {
        bail!("{shown} is a folder; name a file in it, as in {}", path.join("bellwether.toml").display());
    }
    if path.exists() && !force {
        bail!("{shown} exists; name another file, or replace it with --force");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("{shown} can't be written: there is no folder {}; make it, or name another file", folder.display());
    }
    let place = if path.exists() { path } else { folder };
    access(place, Access::WRITE_OK).with_context(|| not_written(path))
}

fn not_written(path: &Path) -> String {
    format!("{} can't be written; name a file in a folder that you may write", path.display())
}

/// Writes a proposal to a file, or to standard output.
///
/// # Errors
/// The file exists and must not be replaced, or it can't be written.
pub fn put(text: &str, path: Option<&Path>, force: bool) -> anyhow::Result<()> {
    let Some(path) = path else {
        print(text);
        return Ok(());
    };
    let mut options = OpenOptions::new();
    options.write(true);
    // Another process may have created the file meanwhile, so the check is made again with the creation.
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(path).with_context(|| match path.exists() && !force {
        true => format!("{} exists; name another file, or replace it with --force", path.display()),
        false => not_written(path),
    })?;
    file.write_all(text.as_bytes()).with_context(|| format!("{} can't be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_not_be_written_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let (there, new) = (folder.path().join("a.toml"), folder.path().join("b.toml"));
        std::fs::write(&there, "").unwrap();
        let refused = |path: &Path, force| {
            check_target(Some(path), force).map_err(|error| error.to_string()).err().unwrap_or_default()
        };
        assert_eq!((refused(&new, false).as_str(), refused(&there, true).as_str()), ("", ""));
        assert!(check_target(None, false).is_ok());
        for (path, part) in [
            (there.clone(), "exists; name another file, or replace it with --force"),
            (folder.path().to_owned(), "is a folder; name a file in it, as in"),
            (folder.path().join("none/b.toml"), "there is no folder"),
        ] {
            let why = refused(&path, false);
            assert!(why.starts_with(&path.display().to_string()) && why.contains(part), "{why}");
        }
        assert!(put("x", Some(&there), false).unwrap_err().to_string().contains("replace it with --force"));
    }

    #[test]
    fn numbers_and_times_are_written_as_a_policy_reads_them() {
        assert_eq!([0.05, 1.0 - 0.95, 0.9999, 0.0].map(percent), ["5%", "5%", "99.99%", "0%"]);
        assert_eq!([1000.0, 0.5, -0.000_000_1].map(decimal), ["1000", "0.5", "0"]);
        let times = [0, 500, 1000, 90_000, 120_000, 7_200_000];
        assert_eq!(times.map(|ms| time(Span::from_millis(ms))), ["0s", "500ms", "1s", "90s", "2m", "2h"]);
    }
}
