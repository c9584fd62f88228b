//! What ships for pipelines, read by those who know the languages: GitHub's workflows by actionlint (which reads the shell
//! in them too), and the stages by shellcheck.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::plane;

/// They need programs, and no plane.
pub fn trials() -> Vec<Trial> {
    vec![trial("lint::the_workflows_are_good", workflows), trial("lint::the_stages_are_good", stages)]
}

fn trial(name: &'static str, lint: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || lint().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// In a repository as the runbook says to make it, since a call is checked against the workflow that it calls.
fn workflows() -> Result<()> {
    let repository = tempfile::tempdir()?;
    let place = repository.path().join(".github/workflows");
    fs::create_dir_all(&place)?;
    fs::create_dir(repository.path().join(".git"))?;
    for file in files("deploy/github")? {
        fs::copy(&file, place.join(file.file_name().context("a file has a name")?))?;
    }
    let shellcheck = program("shellcheck")?;
    let mut lint = Command::new(program("actionlint")?);
    lint.args(["-no-color", "-shellcheck"]).arg(shellcheck);
    succeeds(lint.current_dir(repository.path()))
}

fn stages() -> Result<()> {
    let mut lint = Command::new(program("shellcheck")?);
    lint.arg("--external-sources").args(files("deploy/shell/stages")?).arg(root().join("deploy/shell/pipeline.sh"));
    succeeds(&mut lint)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root().join(folder))?;
    Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?)
}

fn program(name: &str) -> Result<PathBuf> {
    let path = plane::cache()?.join("bin").join(name);
    ensure!(path.exists(), "{} is missing; tests/provision builds it", path.display());
    Ok(path)
}

fn succeeds(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}
