//! Whole runs of the pipelines that ship, by the runners of [`super::github`] and [`super::gitlab`].

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::github::{self, Repository};
use super::gitlab;
use super::machine::{DIGEST, Environment, Machine, SECRETS, WEIGHTS};

const WORKLOAD: &str = "prod-eu/shop/Deployment/assistant";

fn secret(name: &str) -> (String, Value) {
    (name.to_owned(), Value::from(format!("secret-of-{name}")))
}

/// The repository of a project that has followed docs/pipeline.md.
fn repository(machine: &Machine) -> Repository {
    let variables = json!({
        "BELLWETHER_URL": "https://files.example/bellwether",
        "BELLWETHER_SHA256": machine.sha256,
        "MODEL_VERSION": "2.4.0",
        "MODEL_REGISTRY_URL": machine.registry(),
        "MODEL_REGISTRY_ROLE": "arn:aws:iam::1:role/models",
        "AWS_REGION": "eu-central-1",
        "MODEL_TARGET": machine.agent.url,
        "STAGING_URL": machine.staging(),
        "KAFKA_BROKERS": "kafka.example:9093",
        "BELLWETHER_API": "http://bellwether.example",
        "STAGING_BELLWETHER_API": "http://bellwether.staging.example",
    });
    let Value::Object(variables) = variables else { unreachable!() };
    let gate = ["TARGET_TOKEN", "JUDGE_TOKEN", "CLASSIFIER_TOKEN"];
    let environments = BTreeMap::from([
        ("staging", SECRETS.map(secret).into_iter().collect()),
        ("production", Map::from_iter([secret("KAFKA_PASSWORD")])),
    ]);
    Repository { variables, secrets: gate.map(secret).into_iter().collect(), environments }
}

/// The variables of a GitLab project that has followed docs/pipeline.md.
fn project(machine: &Machine) -> Environment {
    let repository = repository(machine);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Environment = repository.variables.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    all.extend(SECRETS.map(|name| (name.to_owned(), format!("secret-of-{name}"))));
    all.insert("STAGE_IMAGE_DIGEST".to_owned(), DIGEST.to_owned());
    all.insert("IDENTITY_AUDIENCE".to_owned(), "sts.amazonaws.com".to_owned());
    all
}

/// Checks the calls of a run that has passed all stages.
fn complete(machine: &Machine) {
    let calls = machine.calls();
    let with = |parts: &[&str]| {
        let found: Vec<&String> = calls.iter().filter(|call| parts.iter().all(|part| call.contains(part))).collect();
        assert!(!found.is_empty(), "no call has {parts:?}: {calls:#?}");
        found
    };
    // The tools of the article.
    for tool in [
        "ruff check",
        "black --check",
        "isort --check",
        "bandit",
        "pip-audit",
        "pytest",
        "grype dir:.",
        "grype registry:",
    ] {
        with(&[tool]);
    }
    with(&["pytest", "--cov"]);
    with(&["docker buildx build", "linux/amd64,linux/arm64"]);
    with(&["cosign sign", DIGEST]);
    // The behavioural suite runs on the model and then on the image in staging. The report of the latter is published.
    assert_eq!(with(&["bellwether gate run"]).len(), 2);
    with(&["gate run", "--image", DIGEST]);
    with(&["gate publish", "--workload", WORKLOAD]);
    assert_eq!(with(&["model attach"]).len(), 2, "{calls:#?}");
    // Staging and production get the same event, for the image by its digest and with its model.
    let requests = with(&["emit request", DIGEST, "--model shop-assistant@2.4.0"]);
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(
        requests[0].contains("staging/shop/Deployment/assistant") && requests[1].contains(WORKLOAD),
        "{requests:?}"
    );
    // The image's context is the commit: no weights, and no reports of earlier stages.
    let context: Vec<&String> = calls.iter().filter(|call| call.starts_with("context ")).collect();
    assert!(context.iter().any(|call| call.ends_with("Dockerfile")), "{context:?}");
    assert!(!context.iter().any(|call| call.contains(WEIGHTS) || call.contains("out/")), "{context:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_to_github_passes_all_stages_with_the_declared_settings_alone() {
    let machine = Machine::new().await;
    let repository = repository(&machine);
    let jobs = tokio::task::block_in_place(|| github::run(&machine, &repository, "push", "refs/heads/main"));
    let last = jobs.last().unwrap();
    assert_eq!((last.name.as_str(), last.code), ("production", 0), "{}\n{:#?}", last.log, machine.calls());
    complete(&machine);
    for name in ["staging", "production"] {
        assert!(jobs.iter().any(|job| job.name == name && job.environment == name), "{name} can't ask for an approval");
    }
    for (job, sarif) in [("quality", "out/dependencies.sarif"), ("image", "out/image.sarif")] {
        let uploaded = &jobs.iter().find(|ended| ended.name == job).unwrap().uploaded;
        assert!(uploaded.iter().any(|file| file == sarif), "{job}: {uploaded:?}");
    }
    assert!(jobs.iter().filter(|job| job.name == "tests").count() >= 3, "{jobs:?}");
}

/// A pull request gets neither an identity nor a secret, so it ends after the tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_on_github_runs_the_stages_without_secrets() {
    let machine = Machine::new().await;
    let repository = Repository { secrets: Map::new(), environments: BTreeMap::new(), ..repository(&machine) };
    let jobs = tokio::task::block_in_place(|| github::run(&machine, &repository, "pull_request", "refs/pull/3/merge"));
    let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    assert!(jobs.iter().all(|job| job.code == 0), "{jobs:#?}");
    assert_eq!(names.first(), Some(&"quality"));
    assert!(names[1..].iter().all(|name| *name == "tests"), "{names:?}");
}

/// Every setting matters: a run without it stops with the name of the setting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_on_github_names_the_setting_that_is_missing() {
    let machine = Machine::new().await;
    for (secret, missing) in [(true, "JUDGE_TOKEN"), (false, "AWS_REGION"), (false, "MODEL_TARGET")] {
        let mut repository = repository(&machine);
        let value = if secret { repository.secrets.get_mut(missing) } else { repository.variables.get_mut(missing) };
        *value.unwrap() = Value::from("");
        let jobs = tokio::task::block_in_place(|| github::run(&machine, &repository, "push", "refs/heads/main"));
        let last = jobs.last().unwrap();
        let named = missing.trim_start_matches("MODEL_");
        assert!(last.name == "model" && last.code == 1 && last.log.contains(named), "{missing}: {last:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_main_branch_of_gitlab_passes_all_stages_with_the_declared_settings_alone() {
    let machine = Machine::new().await;
    let project = project(&machine);
    let jobs = tokio::task::block_in_place(|| gitlab::run(&machine, &project, "main"));
    let last = jobs.last().unwrap();
    assert_eq!((last.name.as_str(), last.code), ("production", 0), "{}\n{:#?}", last.log, machine.calls());
    complete(&machine);
    let manual: Vec<&str> = jobs.iter().filter(|job| job.manual).map(|job| job.environment.as_str()).collect();
    assert_eq!(manual, ["staging", "production"]);
    assert!(jobs.iter().filter(|job| job.name == "tests").count() >= 3, "{jobs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_branch_of_gitlab_runs_the_stages_without_secrets() {
    let machine = Machine::new().await;
    let mut project = project(&machine);
    // Protected variables do not exist there.
    project.retain(|name, _| !SECRETS.contains(&name.as_str()));
    let jobs = tokio::task::block_in_place(|| gitlab::run(&machine, &project, "topic"));
    assert!(jobs.iter().all(|job| job.code == 0 && ["quality", "tests"].contains(&job.name.as_str())), "{jobs:#?}");
}
