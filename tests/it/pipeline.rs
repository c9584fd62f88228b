//! Checks of the pipelines in `deploy/`: actions are pinned, jobs have minimal permissions, GitHub, GitLab and the shell
//! run the same stages, and each job runs with exactly the inputs, secrets and environments that its file declares.

mod expression;
mod github;
mod gitlab;
mod hooks;
mod machine;
mod runs;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

const STAGES: [&str; 6] = ["quality", "tests", "model", "image", "staging", "production"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Returns each workflow's file name, text and parsed content.
fn workflows() -> Vec<(String, String, Value)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join("deploy/github"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_name().unwrap().to_string_lossy().into_owned(), text, value)
        })
        .collect()
}

/// Returns a parsed workflow by its file name.
fn workflow(name: &str) -> Value {
    serde_saphyr::from_str(&text(format!("deploy/github/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn jobs(workflow: &Value) -> impl Iterator<Item = (&String, &Value)> {
    workflow["jobs"].as_object().unwrap().iter()
}

#[test]
fn every_action_is_pinned_to_a_commit_and_names_its_version() {
    let mut pinned = 0;
    for (name, text, _) in workflows() {
        for line in text.lines().filter(|line| line.trim_start().trim_start_matches("- ").starts_with("uses:")) {
            let (_, uses) = line.split_once("uses:").unwrap();
            if uses.trim().starts_with("./") {
                continue;
            }
            let (action, version) = uses.split_once('#').unwrap_or_else(|| panic!("{name}: {line} names no version"));
            let commit = action.trim().split_once('@').map(|(_, commit)| commit).unwrap_or_default();
            assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{name}: {line}");
            assert!(version.trim().starts_with('v'), "{name}: {line}");
            pinned += 1;
        }
    }
    assert!(pinned >= 12);
}

#[test]
fn every_job_has_minimal_permissions_and_a_timeout() {
    for (name, _, workflow) in workflows() {
        assert_eq!(
            workflow["permissions"],
            serde_json::json!({}),
            "{name}: a job has only the permissions that it lists"
        );
        for (job, steps) in jobs(&workflow) {
            assert!(steps["permissions"].is_object(), "{name}: {job} has no permissions of its own");
            // A job that calls another workflow has that workflow's timeout.
            assert!(steps["timeout-minutes"].is_u64() || steps["uses"].is_string(), "{name}: {job} has no timeout");
            let writes: Vec<&String> = steps["permissions"]
                .as_object()
                .unwrap()
                .iter()
                .filter(|(_, access)| *access == "write")
                .map(|(permission, _)| permission)
                .collect();
            let allowed = match job.as_str() {
                "image" => vec!["id-token", "packages", "security-events"],
                "quality" => vec!["security-events"],
                "model" | "staging" => vec!["id-token"],
                _ => vec![],
            };
            assert_eq!(writes, allowed, "{name}: {job}");
        }
    }
}

#[test]
fn no_script_contains_an_expression() {
    for (name, _, workflow) in workflows() {
        for (job, steps) in jobs(&workflow) {
            for step in steps["steps"].as_array().into_iter().flatten() {
                let run = step["run"].as_str().unwrap_or_default();
                assert!(!run.contains("${{"), "{name}: {job}: {run:?} would run the value as code");
            }
        }
    }
}

#[test]
fn the_caller_passes_all_inputs_and_permissions_of_the_stages() {
    let all = workflows();
    let (_, _, caller) = all.iter().find(|(name, ..)| name == "pipeline.yml").unwrap();
    for stage in STAGES {
        let (_, _, called) = all.iter().find(|(name, ..)| *name == format!("stage-{stage}.yml")).unwrap();
        let call = &caller["jobs"][stage];
        assert_eq!(call["uses"], format!("./.github/workflows/stage-{stage}.yml"));
        assert_eq!(call["permissions"], called["jobs"][stage]["permissions"], "{stage}");
        let inputs = called["on"]["workflow_call"]["inputs"].as_object().unwrap();
        let given = call["with"].as_object();
        for (input, schema) in inputs.iter().filter(|(_, schema)| schema["required"] == true) {
            assert!(given.is_some_and(|given| given.contains_key(input)), "{stage}: {input}: {schema}");
        }
        assert!(given.into_iter().flatten().all(|(input, _)| inputs.contains_key(input)), "{stage}: {given:?}");
    }
}

#[test]
fn github_gitlab_and_the_shell_run_the_same_stages() {
    let gitlab = text("deploy/gitlab/bellwether.gitlab-ci.yml");
    let parsed: Value = serde_saphyr::from_str(&gitlab).unwrap();
    let shell = text("deploy/shell/pipeline.sh");
    assert_eq!(parsed["stages"], serde_json::json!(STAGES));
    assert!(shell.contains(&format!("all=({})", STAGES.join(" "))));
    for stage in STAGES {
        let line = format!("\"$SCRIPTS/stages/{stage}.sh\"");
        assert!(text(format!("deploy/github/stage-{stage}.yml")).contains(&line), "{stage}");
        let script = parsed[stage]["script"].as_array().unwrap();
        assert_eq!(script.last().unwrap(), &line, "{stage}");
        assert!(parsed[stage]["timeout"].is_string() || parsed[".stage"]["timeout"].is_string(), "{stage}");
        let path = root().join(format!("deploy/shell/stages/{stage}.sh"));
        use std::os::unix::fs::PermissionsExt as _;
        assert!(path.metadata().unwrap().permissions().mode() & 0o111 == 0o111, "{} is not executable", path.display());
    }
}

/// docs/pipeline.md must document every variable that a stage reads.
#[test]
fn every_variable_of_a_stage_is_documented() {
    let documented = text("docs/pipeline.md");
    for stage in STAGES {
        let script = text(format!("deploy/shell/stages/{stage}.sh"));
        let script = script + &text("deploy/shell/hooks/quality") + &text("deploy/shell/hooks/test");
        let variables: BTreeSet<&str> = script
            .split("${")
            .skip(1)
            .filter_map(|rest| rest.split([':', '}']).next())
            .filter(|name| name.len() > 3 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
            .filter(|name| *name != "BASH_SOURCE")
            .collect();
        for variable in variables {
            assert!(
                documented.contains(&format!("`{variable}`")),
                "{stage} reads {variable}; document it in docs/pipeline.md"
            );
        }
    }
}

/// docs/pipeline.md must list every variable and secret that the owner of a repository has to set.
#[test]
fn every_setting_of_the_repository_is_documented() {
    let documented = text("docs/pipeline.md");
    let settings = regex::Regex::new(r"\b(?:vars|secrets)\.([A-Z0-9_]+)").unwrap();
    let mut found = BTreeSet::new();
    for (name, text, _) in workflows() {
        for setting in settings.captures_iter(&text).map(|captures| captures[1].to_owned()) {
            assert!(
                documented.contains(&format!("`{setting}`")),
                "{name} reads {setting}; document it in docs/pipeline.md"
            );
            found.insert(setting);
        }
    }
    assert!(found.len() >= 12, "{found:?}");
}

/// A project with hooks, and programs that only log their calls. The environment sets their exit codes.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Project {
        let project = Project(tempfile::tempdir().unwrap());
        let digest = "0".repeat(64);
        project.program(
            "bin/bellwether",
            &format!(
                r#"echo "bellwether $*" >>"$LOG"
            case "$1 $2" in
            "model get") echo '{{ "checksum": "sha256:{digest}" }}' ;;
            "gate run") exit "${{GATE:-0}}" ;;
            "emit request") echo assistant-0123456789 ;;
            "status assistant-0123456789") exit "${{ROLLED:-0}}" ;;
            "load http://staging/") exit "${{LOADED:-0}}" ;;
            esac"#
            ),
        );
        project.program(
            "bin/docker",
            &format!(
                r#"echo "docker $1 $2" >>"$LOG"
            while [ "$1" != --metadata-file ]; do shift; done
            echo '{{ "containerimage.digest": "sha256:{digest}" }}' >"$2""#
            ),
        );
        for name in ["grype", "cosign"] {
            project.program(&format!("bin/{name}"), &format!("echo \"{name} $1 $2\" >>\"$LOG\""));
        }
        // The deployment has an init container of the agent's repository, and two containers of others.
        project.program(
            "bin/kubectl",
            r#"echo "kubectl $*" | tr '\n' ' ' | sed 's/ --output .*//; s/ *$//' >>"$LOG"; echo >>"$LOG"
            [ "$3" != get ] || printf '%s\n' 'ref r/assistant:0' 'weights r/bellwether:1' 'agent r/assistant:0@sha256:ab' 'log r/log:1'"#,
        );
        for hook in ["quality", "test"] {
            project.program(&format!("ci/{hook}"), &format!("echo \"{hook}\" >>\"$LOG\""));
        }
        project.program("ci/serve", r#"echo "serve $1" >>"$LOG"; echo http://model"#);
        project
    }

    fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs the whole pipeline, and returns its exit code and the logged calls.
    fn run(&self, more: &[(&str, &str)]) -> (i32, Vec<String>) {
        let (home, log) = (self.0.path(), self.0.path().join("log"));
        let defaults = [
            ("MODEL_NAME", "assistant"),
            ("MODEL_VERSION", "2.4.0"),
            ("IMAGE", "r/assistant"),
            ("IMAGE_TAG", "1"),
            ("IMAGE_CONTEXT", "."),
            ("BELLWETHER_REGISTRY__URL", "s3://models"),
            ("BELLWETHER_API", "http://bellwether"),
            ("TARGET_TOKEN", "hush"),
            ("TMPDIR", "/tmp"),
            ("STAGING_URL", "http://staging"),
            ("STAGING_WORKLOAD", "shop/assistant"),
            ("WORKLOAD", "prod/shop/Deployment/assistant"),
            ("KAFKA_PASSWORD", "hush"),
        ];
        let output = std::process::Command::new(root().join("deploy/shell/pipeline.sh"))
            .current_dir(home)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", home.join("bin").display()))
            .env("LOG", &log)
            .envs(defaults.into_iter().chain(more.iter().copied()))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let calls = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        assert!(!calls.contains("hush") && !stderr.contains("hush"), "{calls}\n{stderr}");
        let calls = regex::Regex::new(r"/tmp/tmp\.\w+|/dev/fd/\d+").unwrap().replace_all(&calls, "PATH").into_owned();
        let secret = home.join("out/.KAFKA_PASSWORD");
        assert!(!secret.exists(), "a secret is left in a folder that is uploaded");
        (output.status.code().unwrap_or_else(|| panic!("{stderr}")), calls.lines().map(str::to_owned).collect())
    }
}

#[test]
fn a_good_version_passes_all_stages() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let (code, calls) = Project::new().run(&[]);
    let calls = calls.join("\n").replace(&digest, "DIGEST");
    assert_eq!(code, 0, "{calls}");
    expect_test::expect![[r#"
        quality
        grype dir:. --exclude
        test
        bellwether model get assistant 2.4.0 --to PATH --output json
        serve PATH
        bellwether gate run ci/gate.toml --target http://model --subject assistant@2.4.0 --digest DIGEST --report out/gate.json --markdown out/gate.md
        bellwether model attach assistant 2.4.0 out/gate.json
        bellwether load http://model/chat/completions --rate 5/s --duration 2m --warm-up 10s --report out/benchmark.json --body-file ci/questions.jsonl --threshold p95<=10s --threshold errors<=2% --bearer-token-file PATH
        serve stop
        docker buildx build
        grype registry:r/assistant@DIGEST --platform
        grype registry:r/assistant@DIGEST --platform
        cosign sign --yes
        kubectl --namespace shop get deployment assistant
        kubectl --namespace shop set image deployment/assistant ref=r/assistant:1@DIGEST agent=r/assistant:1@DIGEST
        kubectl --namespace shop rollout status deployment/assistant --timeout 30m
        bellwether smoke ci/smoke.toml --base http://staging --junit out/smoke.xml --report out/smoke.json --bearer-token-file PATH
        bellwether gate run ci/gate.toml --target http://staging/v1 --image r/assistant:1@DIGEST --report out/staging-gate.json --markdown out/staging-gate.md --subject assistant@2.4.0 --digest DIGEST
        bellwether model attach assistant 2.4.0 out/staging-gate.json
        bellwether gate publish out/staging-gate.json --workload prod/shop/Deployment/assistant --environment staging
        bellwether load http://staging/ --rate 20/s --duration 300s --warm-up 15s --report out/load.json --threshold p95<=1s --threshold errors<=1% --bearer-token-file PATH
        bellwether emit request --workload prod/shop/Deployment/assistant --image r/assistant:1@DIGEST --reason pipeline --model assistant@2.4.0
        bellwether status assistant-0123456789 --wait --timeout 2h
        bellwether why assistant-0123456789"#]]
    .assert_eq(&calls);
}

#[test]
fn a_failed_stage_ends_the_pipeline_with_its_exit_code() {
    let project = Project::new();
    // An unsafe model fails its gate: the report is attached, the server is stopped, and nothing is built.
    let (code, calls) = project.run(&[("GATE", "3")]);
    assert_eq!((code, calls.last().map(String::as_str)), (3, Some("serve stop")), "{calls:?}");
    assert!(calls.iter().any(|call| call.contains("model attach")), "{calls:?}");
    // A gate that could not run has no result, so no report is attached.
    let (code, calls) = project.run(&[("GATE", "1")]);
    assert!(code == 1 && !calls.iter().any(|call| call.contains("model attach")), "{calls:?}");
    // An inconclusive load test ends the pipeline like a failed one.
    let (code, calls) = project.run(&[("LOADED", "4")]);
    assert!(code == 4 && calls.last().is_some_and(|call| call.starts_with("bellwether load")), "{calls:?}");
    let (code, calls) = project.run(&[("ROLLED", "3")]);
    assert_eq!(code, 3, "{calls:?}");
    assert!(calls.last().is_some_and(|call| call.starts_with("bellwether why")), "{calls:?}");
    // A missing variable ends the pipeline before anything is requested.
    let (code, calls) = project.run(&[("WORKLOAD", "")]);
    assert!(code == 1 && !calls.iter().any(|call| call.contains("emit request")), "{calls:?}");
}

/// Checks the syntax with the shell itself; `tests/run real` runs the linters.
#[test]
fn the_scripts_are_valid_shell() {
    let stages = std::fs::read_dir(root().join("deploy/shell/stages")).unwrap().map(|entry| entry.unwrap().path());
    for script in stages.chain([root().join("deploy/shell/pipeline.sh")]) {
        let output = std::process::Command::new("bash").arg("-n").arg(&script).output().unwrap();
        assert!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    }
}
