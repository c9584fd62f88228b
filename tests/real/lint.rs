//! Linters for the shipped files: actionlint for GitHub's workflows and the shell in them, shellcheck for the stages, and
//! promtool for the alerts and the queries of the dashboard.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::paths::cache;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

/// Returns the trials. They need the linters, and not the plane.
pub fn trials() -> Vec<Trial> {
    vec![
        trial("lint::actionlint_passes_the_shipped_workflows", workflows),
        trial("lint::shellcheck_passes_the_shipped_stages", stages),
        trial("lint::promtool_passes_the_shipped_alerts_and_their_cases", alerts),
        trial("lint::promtool_passes_the_queries_of_the_dashboard", dashboard),
    ]
}

/// Returns a trial that needs no plane.
pub fn trial(name: &'static str, lint: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || lint().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// Checks the workflows in a repository with the layout of the runbook, because actionlint checks a call of a workflow
/// against the called one.
fn workflows() -> Result<()> {
    let repository = tempfile::tempdir()?;
    let place = repository.path().join(".github/workflows");
    fs::create_dir_all(&place)?;
    fs::create_dir(repository.path().join(".git"))?;
    for file in files("deploy/github")?.into_iter().chain(files(".github/workflows")?) {
        fs::copy(&file, place.join(file.file_name().context("the entry has no name")?))?;
    }
    let shellcheck = program("shellcheck")?;
    let mut lint = Command::new(program("actionlint")?);
    lint.args(["-no-color", "-shellcheck"]).arg(shellcheck);
    succeeds(lint.current_dir(repository.path()))
}

fn stages() -> Result<()> {
    let mut lint = Command::new(program("shellcheck")?);
    let more = [
        "shell/pipeline.sh",
        "shell/hooks/quality",
        "shell/hooks/test",
        "deb.sh",
        "debian/postinst",
        "debian/prerm",
        "image.sh",
        "release.sh",
    ];
    let more = more.map(|name| root().join("deploy").join(name));
    lint.arg("--external-sources").args(files("deploy/shell/stages")?).args(more);
    succeeds(&mut lint)
}

fn alerts() -> Result<()> {
    let rules = root().join("deploy/prometheus");
    succeeds(Command::new(program("promtool")?).args(["check", "rules"]).arg(rules.join("rules.yml")))?;
    succeeds(Command::new(program("promtool")?).args(["test", "rules"]).arg(rules.join("rules.test.yml")))
}

/// Checks the dashboard's queries as rules that record them, with values for Grafana's variables.
fn dashboard() -> Result<()> {
    let text = fs::read_to_string(root().join("deploy/grafana/bellwether.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let targets = panel["targets"].as_array().into_iter().flatten();
        queries.extend(targets.filter_map(|target| target["expr"].as_str()));
    }
    let annotations = dashboard["annotations"]["list"].as_array().into_iter().flatten();
    queries.extend(annotations.filter_map(|annotation| annotation["expr"].as_str()));
    ensure!(queries.len() > 30, "only {} queries", queries.len());
    let rule = |(at, query): (usize, &&str)| {
        let query = query.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*");
        json!({"record": format!("dashboard:query{at}"), "expr": query})
    };
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string())?;
    succeeds(Command::new(program("promtool")?).args(["check", "rules"]).arg(file.path()))
}

/// Returns the root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files of a folder of the checkout.
///
/// # Errors
/// The folder can't be read, or has none.
pub fn files(folder: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root().join(folder))?;
    let files: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    ensure!(!files.is_empty(), "{folder} has no files");
    Ok(files)
}

/// Returns the path of an installed program.
///
/// # Errors
/// It is not installed.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = cache()?.join("bin").join(name);
    ensure!(path.exists(), "{} is missing; run tests/provision", path.display());
    Ok(path)
}

/// Returns a copy of the tests' program in `folder`, without its debug information.
///
/// # Errors
/// It can't be written.
pub fn stripped_program(folder: &Path) -> Result<PathBuf> {
    let stripped = folder.join("bellwether");
    succeeds(Command::new("strip").arg("-o").arg(&stripped).arg(env!("CARGO_BIN_EXE_bellwether")))?;
    Ok(stripped)
}

/// Runs a command.
///
/// # Errors
/// It fails; the error has its output.
pub fn succeeds(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let text = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    Ok(())
}
