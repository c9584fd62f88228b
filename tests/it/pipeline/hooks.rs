//! The hooks that ship in `deploy/shell/hooks` and the release script, run with stand-ins for their tools.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A project in Python, and tools that record their calls. A tool that FAIL names exits with 1.
struct Project(TempDir);

impl Project {
    fn new() -> Project {
        let project = Project(tempfile::tempdir().unwrap());
        for name in ["ruff", "flake8", "black", "isort", "mypy", "bandit", "pip-audit", "python3", "docker", "grype"] {
            let script =
                format!("echo \"{name} $*\" >>\"$LOG\"; case $FAIL in *\" {name} \"*) exit ${{CODE:-1}};; esac");
            project.program(name, &script);
        }
        std::fs::write(project.path("requirements.txt"), "httpx==0.28.1\n").unwrap();
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script of `deploy/` and returns its exit code, its standard error and the calls of the tools.
    fn run(&self, script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, Vec<String>) {
        let log = self.path("log");
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(script))
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("LOG", &log)
            .env("FAIL", "")
            .envs(BTreeMap::from_iter(environment.iter().copied()))
            .output()
            .unwrap();
        let calls = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        let calls = calls.lines().map(str::to_owned).collect();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned(), calls)
    }
}

/// Returns the tools of the calls in their order, without the installation and repeated ones.
fn tools(calls: &[String]) -> Vec<&str> {
    let mut tools: Vec<&str> =
        calls.iter().filter_map(|call| call.split(' ').next()).filter(|tool| *tool != "python3").collect();
    tools.dedup();
    tools
}

#[test]
fn the_checks_are_those_of_the_article_and_a_project_can_change_them() {
    let project = Project::new();
    let (code, log, calls) = project.run("shell/hooks/quality", &["out"], &[]);
    assert_eq!((code, tools(&calls)), (0, vec!["ruff", "black", "isort", "bandit", "pip-audit"]), "{log}");
    assert!(calls.iter().any(|call| call.contains("--output-format sarif")), "{calls:?}");
    assert!(calls.iter().any(|call| call == "pip-audit --requirement requirements.txt --desc on"), "{calls:?}");
    let (code, _, calls) =
        project.run("shell/hooks/quality", &["out"], &[("CHECKS", "flake8 mypy"), ("SOURCES", "src lib")]);
    assert_eq!((code, tools(&calls)), (0, vec!["flake8", "mypy"]));
    assert!(calls.iter().any(|call| call == "mypy src lib"), "{calls:?}");
    let (code, log, _) = project.run("shell/hooks/quality", &["out"], &[("CHECKS", "pylint")]);
    assert!(code == 1 && log.contains("CHECKS names pylint"), "{code}: {log}");
    // Hashes are checked where the file has them.
    std::fs::write(project.path("requirements.txt"), "httpx==0.28.1 --hash=sha256:00\n").unwrap();
    let (_, _, calls) = project.run("shell/hooks/quality", &["out"], &[("CHECKS", "pip-audit")]);
    assert!(calls.last().is_some_and(|call| call.ends_with("--require-hashes")), "{calls:?}");
}

#[test]
fn every_check_runs_and_a_finding_fails_the_stage() {
    let project = Project::new();
    let (code, log, calls) = project.run("shell/hooks/quality", &["out"], &[("FAIL", " black bandit ")]);
    assert_eq!((code, tools(&calls).last().copied()), (3, Some("pip-audit")));
    assert!(log.contains("failed: black bandit"), "{log}");
}

#[test]
fn pytest_runs_with_coverage_and_its_codes_are_told_apart() {
    let project = Project::new();
    let (code, log, calls) = project.run("shell/hooks/test", &["out"], &[("COVERAGE_MIN", "80")]);
    assert_eq!(code, 0, "{log}");
    let pytest = calls.last().unwrap();
    for part in
        ["-m pytest --junitxml=out/tests.xml", "--cov-report=xml:out/coverage.xml", "--cov=src", "--cov-fail-under=80"]
    {
        assert!(pytest.contains(part), "{pytest}");
    }
    // Failed tests fail the stage. Anything else, such as no tests at all, is an error.
    for (status, wanted) in [("1", 3), ("2", 1), ("5", 1)] {
        project.program("python3", &format!("case \"$*\" in *pytest*) exit {status};; esac"));
        assert_eq!(project.run("shell/hooks/test", &["out"], &[]).0, wanted, "pytest's {status}");
    }
}

#[test]
fn a_severe_vulnerability_fails_the_stage_by_either_scanner() {
    let project = Project::new();
    // The scanner's code for a vulnerability is 2, and 1 for an error of its own.
    for (code, wanted) in [("2", 3), ("1", 1)] {
        let (found, log, _) = project.run("shell/stages/quality.sh", &[], &[("FAIL", " grype "), ("CODE", code)]);
        assert_eq!(found, wanted, "{log}");
    }
    let vulnerable = r#"echo "trivy $*" >>"$LOG"; case "$*" in *"--severity CRITICAL --exit-code 3"*) exit 3;; esac"#;
    project.program("trivy", vulnerable);
    for (fail_on, wanted) in [("critical", 3), ("high", 0)] {
        let environment = [("SCANNER", "trivy"), ("FAIL_ON", fail_on)];
        let (found, log, calls) = project.run("shell/stages/quality.sh", &[], &environment);
        assert_eq!(found, wanted, "{log}");
        assert!(calls.iter().any(|call| call.contains("--format sarif --output out/dependencies.sarif")), "{calls:?}");
    }
}

#[test]
fn a_release_has_a_program_for_each_platform_with_its_checksum() {
    let project = Project::new();
    project.program(
        "docker",
        r#"for last; do :; done; folder=${last#*dest=}
        for platform in linux_amd64 linux_arm64; do mkdir -p "$folder/$platform"; echo "$platform" >"$folder/$platform/bellwether"; done"#,
    );
    let dist = project.path("dist");
    let (code, log, _) = project.run("release.sh", &["1.2.0", dist.to_str().unwrap()], &[]);
    assert_eq!(code, 0, "{log}");
    let sums = std::fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    let names: Vec<&str> = sums.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["bellwether-1.2.0-linux-amd64", "bellwether-1.2.0-linux-arm64"]);
    let check =
        Command::new("sha256sum").args(["--check", "--status", "SHA256SUMS"]).current_dir(&dist).status().unwrap();
    assert!(check.success());
}
