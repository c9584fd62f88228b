//! `bellwether gate init`: writes a suite with cases for an endpoint, from the suite and the datasets that the program
//! contains.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bellwether_tools::gate::load::LoadedSuite;
use bellwether_tools::gate::models::models;
use clap::Args;
use serde_json::json;

use crate::cli::table::counted;
use crate::cli::{Common, Output, print};
use crate::exit;

/// The suite, of which the lines `url` and `model` are replaced.
const SUITE: &str = include_str!("../../../config/gates/first.toml");
const URL_LINE: &str = "url = \"http://localhost:8000/v1\"";
const MODEL_LINE: &str = "model = \"agent\"";

/// The datasets of the suite: the file's name, its cases and the number of cases that are written.
const DATASETS: [(&str, &str, usize); 4] = [
    ("consistency", include_str!("../../../config/gates/cases/consistency.jsonl"), 210),
    ("injection", include_str!("../../../config/gates/cases/injection.jsonl"), 120),
    ("pii", include_str!("../../../config/gates/cases/pii.jsonl"), 120),
    ("over-refusal", include_str!("../../../config/gates/cases/over-refusal.jsonl"), 120),
];

/// The arguments of `gate init`.
#[derive(Debug, Args)]
pub(super) struct GateInitArgs {
    /// The URL of the endpoint, as in http://localhost:8000/v1
    #[arg(long, value_name = "URL")]
    target: String,
    /// The model to ask for (default: the endpoint's only model)
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The environment variable that holds the API key, if the endpoint asks for one
    #[arg(long, value_name = "VARIABLE")]
    key_env: Option<String>,
    /// The directory that is created for the suite and its cases
    #[arg(long, value_name = "DIR", default_value = "gate")]
    dir: PathBuf,
}

/// Writes the suite and its cases, prints the next command and returns the exit code.
///
/// # Errors
/// If a file exists already or can't be written, or if no model is named and the endpoint does not have exactly one.
pub(super) async fn run(args: GateInitArgs, common: &Common) -> anyhow::Result<u8> {
    let suite = args.dir.join("suite.toml");
    let cases = args.dir.join("cases");
    let paths = DATASETS.map(|(name, ..)| cases.join(format!("{name}.jsonl")));
    // Refused before the endpoint is asked, and again by each file that is created.
    if let Some(existing) = std::iter::once(&suite).chain(&paths).find(|path| path.exists()) {
        bail!("{} exists already and is not overwritten; name another directory with --dir", existing.display());
    }
    let url = with_version(&args.target);
    let model = match args.model {
        Some(model) => model,
        None => only_model(&url, args.key_env.as_deref()).await?,
    };
    std::fs::create_dir_all(&cases).with_context(|| format!("can't create {}", cases.display()))?;
    for (path, (_, all, count)) in paths.iter().zip(DATASETS) {
        create(path, &spread(all, count))?;
    }
    create(&suite, &suite_for(&url, &model, args.key_env.as_deref()))?;
    let loaded = LoadedSuite::read(&suite)?;
    let next = format!("bellwether gate run {} --html {}", suite.display(), args.dir.join("report.html").display());
    match common.output {
        Output::Json => {
            let all =
                json!({ "suite": suite, "target": url, "model": model, "requests": loaded.requests(), "next": next });
            print(&format!("{}\n", serde_json::to_string_pretty(&all)?));
        }
        Output::Table => print(&format!(
            "wrote {} for model {model} at {url}: {}, {}\nnext: {next}\n",
            suite.display(),
            counted(loaded.suite.gates.len(), "gate", "gates"),
            counted(loaded.requests(), "request", "requests")
        )),
    }
    Ok(exit::OK)
}

/// Returns the URL without the path of a request, as in `/chat/completions`, and with `/v1` if it has no other path.
fn with_version(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let base = ["/chat/completions", "/completions"].into_iter().find_map(|path| url.strip_suffix(path));
    let url = base.unwrap_or(url);
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if has_path { url.to_owned() } else { format!("{url}/v1") }
}

async fn only_model(url: &str, key_env: Option<&str>) -> anyhow::Result<String> {
    let mut found = models(url, key_env).await?;
    match found.len() {
        0 => bail!("{url}/models names no model; name one with --model"),
        1 => Ok(found.remove(0)),
        n => bail!("{url} has {n} models; name one with --model: {}", found.join(", ")),
    }
}

/// Returns the suite for an endpoint.
fn suite_for(url: &str, model: &str, key_env: Option<&str>) -> String {
    let line = |key: &str, value: &str| format!("{key} = {}", toml::Value::String(value.to_owned()));
    let key = key_env.map_or_else(String::new, |name| format!("\n{}", line("key-env", name)));
    SUITE.replacen(URL_LINE, &line("url", url), 1).replacen(MODEL_LINE, &(line("model", model) + &key), 1)
}

/// Returns `count` lines of a dataset at equal distances, so that all families of its cases remain.
fn spread(all: &str, count: usize) -> String {
    let lines: Vec<&str> = all.lines().collect();
    let count = count.min(lines.len());
    (0..count).map(|at| format!("{}\n", lines[at * lines.len() / count])).collect()
}

fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("can't create {}", path.display()))
}

#[cfg(test)]
mod tests {
    use bellwether_gate::dataset::Dataset;
    use bellwether_gate::plan::{PlanSettings, plan};
    use bellwether_gate::suite::Suite;

    use super::*;

    #[test]
    fn the_written_suite_asks_the_endpoint_and_passes_a_good_version() {
        let suite = Suite::parse(&suite_for("https://h/v1", "a \"b\"\\c", Some("KEY"))).unwrap();
        let target = &suite.target;
        let named = (target.url.as_str(), target.model.as_str(), target.key_env.as_deref());
        assert_eq!(named, ("https://h/v1", "a \"b\"\\c", Some("KEY")));
        let datasets: Vec<Dataset> = suite
            .gates
            .iter()
            .map(|gate| {
                let (name, all, count) = DATASETS.iter().find(|(name, ..)| gate.dataset.contains(name)).unwrap();
                let dataset = Dataset::parse(name, "", &spread(all, *count)).unwrap();
                assert_eq!(dataset.cases.len(), *count);
                dataset
            })
            .collect();
        let plan = plan(&suite, &datasets, PlanSettings::default());
        assert!(plan.good_passes >= 0.95, "{plan:?}");
        assert!(plan.claims.iter().all(|claim| claim.bad_passes <= 0.05), "{plan:?}");
    }

    #[test]
    fn a_url_without_a_path_gets_the_version_of_the_api() {
        for (url, expected) in [
            ("http://localhost:8000", "http://localhost:8000/v1"),
            ("http://localhost:8000/", "http://localhost:8000/v1"),
            ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
            ("https://h/openai/v1", "https://h/openai/v1"),
            ("https://h/openai/v1/chat/completions", "https://h/openai/v1"),
            ("http://localhost:8000/chat/completions/", "http://localhost:8000/v1"),
        ] {
            assert_eq!(with_version(url), expected);
        }
    }
}
