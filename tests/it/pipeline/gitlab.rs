//! Runs the jobs of `deploy/gitlab` on GitLab's terms.
//!
//! - A job's lines run as one script, by `bash` with `errexit` and `pipefail`, in a fresh checkout with the artifacts of
//!   all earlier stages.
//! - It has the variables of GitLab, of the file, of the job and of the project; a later one replaces an earlier one. Names
//!   of variables in values are replaced.
//! - An identity token exists only if the job names its audience, and a container engine only as a service.

use serde_json::{Map, Value};

use super::machine::{Environment, Machine, copy};

/// The end of one job.
#[derive(Debug)]
pub struct GitlabJob {
    pub name: String,
    /// Name of the job's environment; empty if it has none.
    pub environment: String,
    /// Whether a person has to start it, and later stages wait for it.
    pub manual: bool,
    pub code: i32,
    pub log: String,
}

/// Runs the pipeline of a branch and returns the jobs that ran, up to the first that failed.
pub fn run(machine: &Machine, project: &Environment, branch: &str) -> Vec<GitlabJob> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/gitlab/bellwether.gitlab-ci.yml");
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let artifacts = tempfile::tempdir().unwrap();
    let mut jobs: Vec<GitlabJob> = Vec::new();
    for stage in file["stages"].as_array().unwrap() {
        for (name, job) in file.as_object().unwrap() {
            let job = whole(&file, job);
            if name.starts_with('.') || job["stage"] != *stage {
                continue;
            }
            for entry in matrix(&job) {
                let Some(ended) = run_job(machine, project, branch, (name, &job, &entry), &file, artifacts.path())
                else {
                    continue;
                };
                jobs.push(ended);
                if jobs.last().unwrap().code != 0 {
                    return jobs;
                }
            }
        }
    }
    jobs
}

/// Returns the job with the keys that it extends. Maps are merged, and anything else is replaced.
fn whole(file: &Value, job: &Value) -> Value {
    let Some(base) = job["extends"].as_str() else { return job.clone() };
    let mut all = whole(file, &file[base]);
    merge(&mut all, job);
    all
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// Returns the variables of each parallel job; one without variables if the job is not parallel.
fn matrix(job: &Value) -> Vec<Map<String, Value>> {
    let Some(matrix) = job["parallel"]["matrix"].as_array() else { return vec![Map::new()] };
    let one = |entry: &Value| {
        let [(name, values)] = Vec::from_iter(entry.as_object().unwrap())[..] else {
            panic!("{entry}: one variable each")
        };
        let values = values.as_array().cloned().unwrap();
        values.into_iter().map(|value| Map::from_iter([(name.clone(), value)])).collect::<Vec<_>>()
    };
    matrix.iter().flat_map(one).collect()
}

fn run_job(
    machine: &Machine,
    project: &Environment,
    branch: &str,
    (name, job, entry): (&str, &Value, &Map<String, Value>),
    file: &Value,
    artifacts: &std::path::Path,
) -> Option<GitlabJob> {
    let mut environment = predefined(branch);
    for variables in [&file["variables"], &job["variables"]] {
        for (name, value) in variables.as_object().into_iter().flatten() {
            environment.insert(name.clone(), text(value));
        }
    }
    environment.extend(project.clone());
    environment.extend(entry.iter().map(|(name, value)| (name.clone(), text(value))));
    expand(&mut environment);
    let rule = matching(&job["rules"], &environment)?;
    for name in job["id_tokens"].as_object().into_iter().flatten().map(|(name, _)| name) {
        environment.insert(name.clone(), "identity-of-the-job".to_owned());
    }
    let services = job["services"].as_array().cloned().unwrap_or_default();
    if !services.iter().any(|service| text(&service["alias"]) == "docker") {
        environment.remove("DOCKER_HOST");
    }
    assert!(!expanded(&text(&job["image"]), &environment).is_empty(), "{name} has no image");
    let workspace = machine.checkout();
    copy(artifacts, &workspace);
    let lines: Vec<&str> = job["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let ended = machine.run(&["bash", "-eo", "pipefail"], &lines.join("\n"), &workspace, &environment);
    assert_eq!(job["artifacts"]["paths"], serde_json::json!(["out/"]), "{name}");
    // Names that begin with a dot are excluded, as the file says.
    assert!(job["artifacts"]["exclude"].as_array().is_some_and(|rows| rows.contains(&Value::from("out/.*"))), "{name}");
    let uploaded = machine.uploaded(&workspace);
    for path in &uploaded {
        std::fs::create_dir_all(artifacts.join(path).parent().unwrap()).unwrap();
        std::fs::copy(workspace.join(path), artifacts.join(path)).unwrap();
    }
    for report in job["artifacts"]["reports"].as_object().into_iter().flatten().filter(|_| ended.code == 0) {
        let paths = if report.1.is_string() { report.1.clone() } else { report.1["path"].clone() };
        assert!(uploaded.contains(&text(&paths)), "{name}: its report {paths} is not among {uploaded:?}");
    }
    let manual = rule["when"] == "manual" && rule["allow_failure"] == false;
    Some(GitlabJob {
        name: name.to_owned(),
        environment: text(&job["environment"]),
        manual,
        code: ended.code,
        log: ended.log,
    })
}

fn predefined(branch: &str) -> Environment {
    let pairs = [
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_COMMIT_BRANCH", branch),
        ("CI_DEFAULT_BRANCH", "main"),
        ("CI_COMMIT_SHORT_SHA", "5f1d7a84"),
        ("CI_REGISTRY", "registry.example"),
        ("CI_REGISTRY_IMAGE", "registry.example/shop"),
        ("CI_REGISTRY_USER", "ci"),
        ("CI_REGISTRY_PASSWORD", "password-of-the-registry"),
        ("CI_PIPELINE_IID", "7"),
        ("CI_PIPELINE_URL", "https://git.example/pipelines/7"),
        ("CI_PROJECT_PATH", "acme/shop"),
        ("GITLAB_USER_LOGIN", "ada"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn text(value: &Value) -> String {
    super::expression::written(value)
}

/// Replaces the names of variables in all values, to a depth of three.
fn expand(environment: &mut Environment) {
    for _ in 0..3 {
        let before = environment.clone();
        environment.values_mut().for_each(|value| *value = expanded(value, &before));
    }
}

fn expanded(value: &str, environment: &Environment) -> String {
    let mut parts = value.split('$');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        text + environment.get(name).map_or("", String::as_str) + rest
    })
}

/// Returns the rule by which the job runs: the first that matches; `None` if it does not run.
fn matching(rules: &Value, environment: &Environment) -> Option<Value> {
    let Some(rules) = rules.as_array() else { return Some(Value::Null) };
    let holds = |rule: &&Value| {
        let Some(condition) = rule["if"].as_str() else { return true };
        let (left, right) = condition.split_once("==").unwrap_or_else(|| panic!("{condition}: the test knows =="));
        let side = |text: &str| expanded(text.trim().trim_matches('"'), environment);
        side(left) == side(right)
    };
    rules.iter().find(holds).cloned()
}
