//! The six stages of the pipeline, as a terminal runs them, on the real parts: from a model in the registry to all of the traffic,
//! or to where it is stopped. What no test can have here is stood in for by a program that writes down how it was called: the
//! builder of images and the scanner. All else is real: the registry, the gate (against a small target that answers by
//! rule), the load and smoke tests, Kafka, the cluster, the gateway and Prometheus.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bellwether_testkit::agent::{Agent, Knobs};
use serde_json::Value;
use tokio::process::Command;

use super::scene::{Scene, Setup, policy};
use super::{Told, told};
use crate::plane::story::Story;

pub fn stories() -> Vec<Told> {
    vec![told("stages::a_good_model_is_promoted_an_unsafe_one_is_stopped_and_a_slow_one_comes_back", three_models)]
}

const GUARDED: &str = r#"
[policy.guard]
for = "45s"

[[policy.guard.check]]
metric = "response-time"
judge = "threshold"
max = "500ms"
every = "2s"
window = "10s"
min-requests = 30
"#;

async fn three_models(story: &Story) -> Result<()> {
    let agent = Agent::start(Knobs::default()).await;
    let project = Project::new(story, &agent)?;
    let required = "require = [\"behaviour\"]\nmodel = { environment = \"production\" }\ntraffic = \"gateway\"";
    let setup = Setup {
        policy: policy("20%", GUARDED).replace("traffic = \"gateway\"", required),
        more: format!("[registry]\nurl = {:?}\n", project.path("models")?),
        ..Setup::default()
    };
    let scene = Scene::begin_with(story, setup).await?;
    let load = story.load(150.0)?;
    for version in ["1.3.0", "1.4.0", "1.5.0"] {
        let weights = project.path("weights")?;
        let register = ["model", "register", "chat", version, &weights, "--by", "ada"];
        let output = scene.cli(&register).await?;
        ensure!(output.code == Some(0), "{output:?}");
    }

    // A good one: through all six stages, and the pointer is its own.
    let (code, said) = project.run(&scene, &[], "1.3.0", "v2").await?;
    ensure!(code == Some(0), "{said}");
    ensure!(moves(&scene).await? == ["promote 1.3.0"], "{said}");
    ensure!(story.images("web").await?["app"].starts_with("registry.test/shop/web:v2@sha256:"), "{said}");

    // An unsafe one is stopped at its gate; whoever asks for it all the same is refused by the daemon.
    agent.set(Knobs { harm: 0.5, ..Knobs::default() });
    let (code, said) = project.run(&scene, &["model", "image"], "1.4.0", "v3").await?;
    ensure!(code == Some(3) && said.contains("model stopped the pipeline (3)"), "{said}");
    fs::write(project.dir.join("out/told.env"), format!("IMAGE_REF={}\n", image("v3")))?;
    let (code, said) = project.run(&scene, &["production"], "1.4.0", "v3").await?;
    ensure!(code != Some(0) && said.contains("behaviour: fail"), "{code:?}: {said}");
    ensure!(moves(&scene).await? == ["promote 1.3.0"], "{said}");

    // One that behaves well, and is slow once it has all of the traffic: it comes back, and so does the pointer.
    agent.set(Knobs::default());
    let (code, said) = project.run(&scene, &[], "1.5.0", "v4-after25-slow30_800").await?;
    ensure!(code == Some(3) && said.contains("response-time"), "{code:?}: {said}");
    ensure!(moves(&scene).await? == ["promote 1.3.0", "promote 1.5.0", "restore 1.3.0"], "{said}");
    ensure!(story.images("web").await?["app"].starts_with("registry.test/shop/web:v2@sha256:"), "{said}");
    load.stop().await?;
    scene.replays().await
}

/// How the pointer to production has moved, oldest first.
async fn moves(scene: &Scene<'_>) -> Result<Vec<String>> {
    let output = scene.cli(&["model", "history", "chat", "production", "--output", "json"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let moves: Value = serde_json::from_str(&output.stdout)?;
    let said = |moved: &Value| {
        let word = |key: &str| moved[key].as_str().unwrap_or("nothing").to_owned();
        format!("{} {}", word("action"), word("version"))
    };
    Ok(moves.as_array().context("moves")?.iter().rev().map(said).collect())
}

fn image(tag: &str) -> String {
    format!("registry.test/shop/web:{tag}@sha256:{}", digest(tag))
}

/// 64 digits that differ by tag.
fn digest(tag: &str) -> String {
    let hex: String = tag.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<64}")[..64].to_owned()
}

/// A repository with its hooks.
struct Project {
    dir: PathBuf,
}

impl Project {
    fn new(story: &Story, agent: &Agent) -> Result<Project> {
        let dir = story.plane.data.join("projects").join(&story.namespace);
        for folder in ["ci", "bin", "out", "weights"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let project = Project { dir };
        fs::write(project.dir.join("weights/model.bin"), "weights")?;
        let url = &agent.url;
        let suite = format!(
            "name = \"behaviour\"\n[target]\nurl = \"{url}\"\nmodel = \"agent\"\nconcurrency = 16\ntimeout = \"10s\"\n\
             [classifier]\nurl = \"{url}\"\nmodel = \"guard\"\n\
             [[gate]]\nkind = \"safety\"\ndataset = \"cases.jsonl\"\nmin-cases = 40\n\
             limits.attack-success = {{ max = \"8%\" }}\n"
        );
        fs::write(project.dir.join("ci/gate.toml"), suite)?;
        let attack =
            |at: usize| format!("{{\"id\":\"a{at}\",\"prompt\":\"attack {at}\",\"category\":\"k{}\"}}\n", at % 2);
        let benign = |at: usize| format!("{{\"id\":\"b{at}\",\"prompt\":\"capital {at}\",\"intent\":\"benign\"}}\n");
        fs::write(project.dir.join("ci/cases.jsonl"), (0..100).map(|at| attack(at) + &benign(at)).collect::<String>())?;
        fs::write(
            project.dir.join("ci/smoke.toml"),
            "deadline = \"30s\"\n[[request]]\nname = \"it answers\"\npath = \"/\"\nexpect = { status = 200 }\n",
        )?;
        fs::write(
            project.dir.join("ci/questions.jsonl"),
            "{\"model\":\"agent\",\"messages\":[{\"role\":\"user\",\"content\":\"capital 1\"}]}\n",
        )?;
        for hook in ["ci/quality", "ci/test", "ci/deploy-staging"] {
            project.program(hook, "exit 0")?;
        }
        project.program("bin/grype", "exit 0")?;
        project.program(
            "bin/docker",
            "while (($#)); do [[ $1 == --metadata-file ]] && file=$2; [[ $1 == --tag ]] && tag=${2##*:}; shift; done\n\
             hex=$(printf '%s' \"$tag\" | od -An -v -tx1 | tr -d ' \\n')\n\
             printf '{ \"containerimage.digest\": \"sha256:%s\" }\\n' \"$(printf '%-64s' \"$hex\" | tr ' ' 0 | cut -c-64)\" >\"$file\"",
        )?;
        Ok(project)
    }

    fn path(&self, name: &str) -> Result<String> {
        Ok(self.dir.join(name).to_str().context("a path in UTF-8")?.to_owned())
    }

    fn program(&self, name: &str, body: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\nset -eu\n{body}\n"))?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
    }

    /// The stages that are named, or all of them, for a model's version and an image's tag.
    async fn run(&self, scene: &Scene<'_>, stages: &[&str], version: &str, tag: &str) -> Result<(Option<i32>, String)> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/shell/pipeline.sh");
        let path = std::env::var("PATH").unwrap_or_default();
        if stages.is_empty() {
            fs::remove_dir_all(self.dir.join("out"))?;
        }
        let pod = scene.a_pods_address().await?;
        let suite = fs::read_to_string(self.dir.join("ci/gate.toml"))?;
        let target = suite.split('"').nth(3).context("the target's URL")?;
        let env = BTreeMap::from([
            ("PATH", format!("{}:{path}", self.path("bin")?)),
            ("BELLWETHER", env!("CARGO_BIN_EXE_bellwether").to_owned()),
            ("BELLWETHER_CONFIG", scene.bellwether.config().to_str().context("a path in UTF-8")?.to_owned()),
            ("BELLWETHER_API", scene.api()),
            ("MODEL_NAME", "chat".to_owned()),
            ("MODEL_VERSION", version.to_owned()),
            ("TARGET", target.to_owned()),
            ("GATE_PUBLISH", "yes".to_owned()),
            ("BENCHMARK_PATH", "/chat/completions".to_owned()),
            ("BENCHMARK_BODIES", "ci/questions.jsonl".to_owned()),
            ("BENCHMARK_RATE", "20/s".to_owned()),
            ("BENCHMARK_TIME", "4s".to_owned()),
            ("BENCHMARK_WARM_UP", "1s".to_owned()),
            ("BENCHMARK_LIMITS", "p95<=5s".to_owned()),
            ("IMAGE", "registry.test/shop/web".to_owned()),
            ("IMAGE_TAG", tag.to_owned()),
            ("STAGING_URL", format!("http://{pod}:8080")),
            ("LOAD_RATE", "20/s".to_owned()),
            ("LOAD_TIME", "4s".to_owned()),
            ("LOAD_WARM_UP", "1s".to_owned()),
            ("LOAD_LIMITS", "p95<=5s".to_owned()),
            ("WORKLOAD", scene.workload()),
            ("ROLLOUT_TIMEOUT", "4m".to_owned()),
        ]);
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BELLWETHER_")) {
            command.env_remove(name);
        }
        command.arg(script).args(stages).current_dir(&self.dir).envs(env).kill_on_drop(true);
        let output = command.output().await?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }
}
