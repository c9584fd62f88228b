//! Runs the workflows in `deploy/github` on GitHub's terms.
//!
//! - A called workflow sees its declared inputs, and the secrets that its caller passes or all by `secrets: inherit`.
//! - A job with an environment has the environment's variables, and its secrets only by `secrets: inherit`
//!   (actions/runner#1490 and #4453: without it they are empty).
//! - A job begins with a fresh machine; only outputs reach later jobs. An empty variable is set, and empty.
//! - A step runs by `bash -e`. Actions are played by the little that the workflows need of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::expression::{Contexts, evaluate, holds, interpolate, written};
use super::machine::{Environment, Machine};
use super::workflow;

/// The settings of the repository, as its owner makes them by docs/pipeline.md.
#[derive(Clone)]
pub struct Repository {
    pub variables: Map<String, Value>,
    pub secrets: Map<String, Value>,
    /// Secrets by the name of their environment.
    pub environments: BTreeMap<&'static str, Map<String, Value>>,
}

/// The end of one job of a run.
#[derive(Debug)]
pub struct GithubJob {
    pub name: String,
    /// Name of the job's environment; empty if it has none.
    pub environment: String,
    /// Exit code of the step that failed; 0 if none did.
    pub code: i32,
    pub log: String,
    pub uploaded: Vec<String>,
}

/// Runs `pipeline.yml` for an event and returns the jobs that ran, up to the first that failed.
pub fn run(machine: &Machine, repository: &Repository, event: &str, reference: &str) -> Vec<GithubJob> {
    let github = json!({
        "event_name": event, "ref": reference, "actor": "ada", "token": "token-of-the-run", "repository": "acme/shop",
        "repository_owner": "acme", "workflow": "Pipeline", "run_number": 7, "run_id": 12, "server_url": "https://git.example",
        "sha": "5f1d7a84db00d2fce00b31a7fc73224f08d2c2c8",
    });
    let caller = workflow("pipeline.yml");
    let mut needs = Map::new();
    let mut jobs = Vec::new();
    let mut waiting: Vec<(&String, &Value)> = caller["jobs"].as_object().unwrap().iter().collect();
    while let Some(at) = waiting.iter().position(|(_, call)| wanted(call).iter().all(|name| needs.contains_key(name))) {
        let (name, call) = waiting.remove(at);
        let mine: Map<String, Value> =
            wanted(call).into_iter().map(|name| (name.clone(), needs[&name].clone())).collect();
        let contexts = Contexts::from_iter([
            ("github".to_owned(), github.clone()),
            ("vars".to_owned(), Value::Object(repository.variables.clone())),
            ("secrets".to_owned(), Value::Object(repository.secrets.clone())),
            ("needs".to_owned(), Value::Object(mine.clone())),
        ]);
        // A job whose need was skipped is skipped, too.
        let skipped = mine.values().any(|need| need["result"] != "success");
        let condition = call["if"].as_str().is_none_or(|text| holds(&evaluate(text, &contexts)));
        if skipped || !condition {
            needs.insert(name.clone(), json!({ "result": "skipped", "outputs": {} }));
            continue;
        }
        let (outputs, ran) = Stage { machine, repository, contexts, call }.run();
        jobs.extend(ran);
        if jobs.last().is_none_or(|job| job.code != 0) {
            return jobs;
        }
        needs.insert(name.clone(), json!({ "result": "success", "outputs": outputs }));
    }
    assert!(waiting.is_empty(), "jobs that can never run: {waiting:?}");
    jobs
}

fn wanted(call: &Value) -> Vec<String> {
    let names = call["needs"].as_array().cloned().unwrap_or_else(|| vec![call["needs"].clone()]);
    names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A job of the caller that calls the workflow of one stage.
struct Stage<'a> {
    machine: &'a Machine,
    repository: &'a Repository,
    contexts: Contexts,
    call: &'a Value,
}

impl Stage<'_> {
    /// Runs the called workflow and returns its outputs and jobs.
    fn run(&self) -> (Value, Vec<GithubJob>) {
        let uses = self.call["uses"].as_str().unwrap();
        let called = workflow(uses.strip_prefix("./.github/workflows/").unwrap());
        let inputs = self.inputs(&called["on"]["workflow_call"]["inputs"], uses);
        let (mut jobs, mut outputs) = (Vec::new(), Map::new());
        for (name, job) in called["jobs"].as_object().unwrap() {
            let secrets = self.secrets(&called["on"]["workflow_call"]["secrets"], job);
            let mut contexts = self.contexts.clone();
            contexts.remove("needs");
            contexts.insert("inputs".to_owned(), Value::Object(inputs.clone()));
            contexts.insert("secrets".to_owned(), Value::Object(secrets));
            contexts.insert("runner".to_owned(), json!({ "temp": std::env::temp_dir() }));
            for entry in matrix(job, &contexts) {
                contexts.insert("matrix".to_owned(), entry);
                let (ended, job_outputs) = self.job(name, job, &contexts);
                jobs.push(ended);
                outputs.insert(name.clone(), json!({ "outputs": job_outputs }));
                if jobs.last().unwrap().code != 0 {
                    return (Value::Null, jobs);
                }
            }
        }
        let contexts = Contexts::from_iter([("jobs".to_owned(), Value::Object(outputs))]);
        let declared = called["on"]["workflow_call"]["outputs"].as_object().cloned().unwrap_or_default();
        let values = declared
            .iter()
            .map(|(name, output)| (name.clone(), interpolate(output["value"].as_str().unwrap(), &contexts)));
        (values.collect(), jobs)
    }

    fn inputs(&self, declared: &Value, uses: &str) -> Map<String, Value> {
        let given = self.call["with"].as_object().cloned().unwrap_or_default();
        let declared = declared.as_object().unwrap();
        for name in given.keys() {
            assert!(declared.contains_key(name), "{uses} has no input {name}");
        }
        let value = |(name, input): (&String, &Value)| {
            let default = || {
                assert!(input["required"] != true, "{uses}: the required input {name} is not given");
                input["default"].clone()
            };
            let given = given.get(name).map(|text| interpolate(&written(text), &self.contexts));
            (name.clone(), given.unwrap_or_else(default))
        };
        declared.iter().map(value).collect()
    }

    fn secrets(&self, declared: &Value, job: &Value) -> Map<String, Value> {
        let names = declared.as_object().into_iter().flatten().map(|(name, _)| name);
        let mut secrets: Map<String, Value> = names.map(|name| (name.clone(), Value::from(""))).collect();
        if self.call["secrets"] == "inherit" {
            secrets.extend(self.repository.secrets.clone());
            let environment = job["environment"].as_str().and_then(|name| self.repository.environments.get(name));
            secrets.extend(environment.cloned().unwrap_or_default());
            return secrets;
        }
        for (name, value) in self.call["secrets"].as_object().into_iter().flatten() {
            assert!(secrets.contains_key(name), "the secret {name} is passed and not declared");
            secrets.insert(name.clone(), interpolate(value.as_str().unwrap(), &self.contexts));
        }
        secrets
    }

    fn job(&self, name: &str, job: &Value, contexts: &Contexts) -> (GithubJob, Value) {
        let workspace = self.machine.checkout();
        let environment = written(&job["environment"]);
        let mut ended =
            GithubJob { name: name.to_owned(), environment, code: 0, log: String::new(), uploaded: Vec::new() };
        let mut contexts = contexts.clone();
        contexts.insert("steps".to_owned(), json!({}));
        for step in job["steps"].as_array().unwrap() {
            let files: Vec<String> = self.machine.uploaded(&workspace);
            contexts.insert("files".to_owned(), json!(files));
            let condition = step["if"].as_str().unwrap_or_default();
            let runs = condition.is_empty() || holds(&evaluate(condition, &contexts));
            if !runs || (ended.code != 0 && !condition.contains("always()")) {
                continue;
            }
            if let Some(action) = step["uses"].as_str() {
                self.action(action, &step["with"], &workspace, &contexts, &mut ended);
                continue;
            }
            let (code, log, outputs) = self.script(job, step, &workspace, &contexts);
            ended.code = if ended.code == 0 { code } else { ended.code };
            ended.log += &log;
            if let Some(id) = step["id"].as_str() {
                contexts["steps"][id] = json!({ "outputs": outputs });
            }
        }
        let outputs = job["outputs"].as_object().cloned().unwrap_or_default();
        // An output that its step has not written is empty, also of a job that passes.
        let outputs = outputs.iter().filter(|_| ended.code == 0);
        let outputs =
            outputs.map(|(name, text)| (name.clone(), interpolate(text.as_str().unwrap(), &contexts))).collect();
        (ended, Value::Object(outputs))
    }

    fn action(&self, action: &str, with: &Value, workspace: &Path, contexts: &Contexts, ended: &mut GithubJob) {
        let with = |name: &str| written(&interpolate(&written(&with[name]), contexts));
        match action.split('@').next().unwrap() {
            "actions/checkout" => assert_eq!(with("persist-credentials"), "false", "{}", ended.name),
            "actions/setup-python" => assert!(!with("python-version").is_empty(), "{}", ended.name),
            "docker/setup-qemu-action" | "sigstore/cosign-installer" => {}
            "actions/upload-artifact" => {
                assert_eq!(
                    (with("path"), with("include-hidden-files")),
                    ("out/".to_owned(), String::new()),
                    "{}",
                    ended.name
                );
                ended.uploaded = self.machine.uploaded(workspace);
            }
            "github/codeql-action/upload-sarif" => {
                let file = workspace.join(with("sarif_file"));
                let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                let report: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(report["version"], "2.1.0", "{}", file.display());
                ended.uploaded.push(with("sarif_file"));
            }
            other => panic!("{}: the test does not know the action {other}", ended.name),
        }
    }

    fn script(&self, job: &Value, step: &Value, workspace: &Path, contexts: &Contexts) -> (i32, String, Value) {
        let output_file = tempfile::NamedTempFile::new().unwrap();
        let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
        let mut environment = Environment::from([
            ("CI".to_owned(), "true".to_owned()),
            ("DOCKER_HOST".to_owned(), "unix:///var/run/docker.sock".to_owned()),
            ("GITHUB_ACTIONS".to_owned(), "true".to_owned()),
            ("GITHUB_OUTPUT".to_owned(), path(&output_file)),
            ("GITHUB_SHA".to_owned(), written(&contexts["github"]["sha"])),
        ]);
        if job["permissions"]["id-token"] == "write" {
            environment.insert("ACTIONS_ID_TOKEN_REQUEST_URL".to_owned(), "https://identity/token".to_owned());
            environment.insert("ACTIONS_ID_TOKEN_REQUEST_TOKEN".to_owned(), "request-token".to_owned());
        }
        for (name, value) in [&job["env"], &step["env"]].into_iter().filter_map(Value::as_object).flatten() {
            environment.insert(name.clone(), written(&interpolate(&written(value), contexts)));
        }
        let ended = self.machine.run(&["bash", "-e"], step["run"].as_str().unwrap(), workspace, &environment);
        let told = std::fs::read_to_string(output_file.path()).unwrap();
        let outputs = told.lines().filter_map(|line| line.split_once('='));
        let outputs = outputs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        (ended.code, ended.log, Value::Object(outputs))
    }
}

/// Returns the entries of a job's matrix; one without values if it has none.
fn matrix(job: &Value, contexts: &Contexts) -> Vec<Value> {
    let Some(matrix) = job["strategy"]["matrix"].as_object() else { return vec![json!({})] };
    let [(name, values)] = Vec::from_iter(matrix)[..] else {
        panic!("the test knows matrices of one name: {matrix:?}")
    };
    let values = if values.is_string() { interpolate(values.as_str().unwrap(), contexts) } else { values.clone() };
    values.as_array().unwrap().iter().map(|value| json!({ name: value })).collect()
}
