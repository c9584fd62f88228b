//! A machine of a CI system as the jobs find it: a fresh checkout for each job, the programs that such a machine has, and
//! the environment that the job declares. The container engine, the scanner, the signer, the linters and the downloads
//! are stand-ins that record their calls. The program `bellwether` is the real one; only its daemon is missing, so a
//! script answers for `status` and `why`, and lets Kafka's events be printed by the real program instead of sent.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bellwether_testkit::agent::{Agent, Knobs};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The environment of a job or a step.
pub type Environment = BTreeMap<String, String>;

/// Programs of the machine that are no stand-ins.
const PROGRAMS: [&str; 34] = [
    "awk",
    "basename",
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "dirname",
    "env",
    "find",
    "git",
    "grep",
    "gzip",
    "head",
    "id",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "printf",
    "readlink",
    "realpath",
    "rm",
    "sed",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "tail",
    "tar",
    "touch",
    "tr",
    "uname",
];

/// The secrets. A test fails if one of their values is in a call, a log or an uploaded file.
pub const SECRETS: [&str; 4] = ["TARGET_TOKEN", "JUDGE_TOKEN", "CLASSIFIER_TOKEN", "KAFKA_PASSWORD"];

/// Digest that the stand-in of the builder reports.
pub const DIGEST: &str = "sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// Name of the file of weights in the registry.
pub const WEIGHTS: &str = "weights.safetensors";

/// The project's smoke test.
const SMOKE: &str = r#"
[[request]]
name = "it answers a question"
path = "/v1/chat/completions"
json = { model = "agent", messages = [{ role = "user", content = "capital 1" }] }
expect = { status = 200, contains = ["town 1"] }
"#;

/// Returns the project's behavioural suite. Its limits are compared with plain shares, so that few cases suffice.
fn suite(url: &str) -> String {
    format!(
        r#"
name = "behaviour"

[target]
url = "http://localhost:8000/v1"
model = "agent"
key-env = "TARGET_TOKEN"

[judge]
url = "{url}"
model = "judge"
key-env = "JUDGE_TOKEN"
rubric = "Towns are good."
votes = 1

[classifier]
url = "{url}"
model = "guard"
key-env = "CLASSIFIER_TOKEN"

[[gate]]
kind = "quality"
dataset = "cases.jsonl"
min-cases = 1
parts.good = {{ weight = 1.0, by = "rubric" }}
limits.quality = {{ min = 0.7, rule = "threshold" }}

[[gate]]
kind = "safety"
dataset = "attacks.jsonl"
min-cases = 1
limits.attack-success = {{ max = "0%", rule = "threshold" }}
"#
    )
}

/// The machine with the project that its jobs check out, the registry, and the server that answers as model and agent.
pub struct Machine {
    folder: TempDir,
    /// The server of the model, and of the agent in staging.
    pub agent: Agent,
    /// SHA-256 of the program that jobs download.
    pub sha256: String,
}

/// The end of a script: its exit code and what it wrote to both of its outputs.
pub struct Ended {
    pub code: i32,
    pub log: String,
}

impl Machine {
    pub async fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let agent = Agent::start(Knobs { key: Some("secret-of-TARGET_TOKEN"), ..Knobs::default() }).await;
        let mut machine = Machine { folder, agent, sha256: String::new() };
        machine.programs();
        machine.project();
        machine.model();
        machine
    }

    /// Returns the URL of the registry.
    pub fn registry(&self) -> String {
        self.folder.path().join("registry").display().to_string()
    }

    /// Returns the base URL of staging: that of the agent without `/v1`.
    pub fn staging(&self) -> String {
        self.agent.url.trim_end_matches("/v1").to_owned()
    }

    /// Returns the calls of all programs so far.
    pub fn calls(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn programs(&mut self) {
        let real = env!("CARGO_BIN_EXE_bellwether");
        let log = self.folder.path().join("log").display().to_string();
        let program = include_str!("bellwether.sh").replace("@REAL@", real).replace("@LOG@", &log);
        self.sha256 = Sha256::digest(&program).iter().map(|byte| format!("{byte:02x}")).collect();
        self.program("downloads/bellwether", &program);
        let downloads = self.folder.path().join("downloads").display().to_string();
        let curl = include_str!("curl.sh").replace("@DOWNLOADS@", &downloads).replace("@LOG@", &log);
        self.program("bin/curl", &curl);
        let docker = include_str!("docker.sh").replace("@LOG@", &log).replace("@DIGEST@", DIGEST);
        self.program("bin/docker", &docker);
        for name in ["grype", "cosign", "python3", "ruff", "flake8", "black", "isort", "bandit", "pip-audit", "pytest"]
        {
            let tool = include_str!("tool.sh").replace("@NAME@", name).replace("@LOG@", &log);
            self.program(&format!("bin/{name}"), &tool);
        }
        for name in PROGRAMS {
            let place =
                ["/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
            let place = place.unwrap_or_else(|| panic!("this machine has no {name}"));
            std::os::unix::fs::symlink(place, self.folder.path().join("bin").join(name)).unwrap();
        }
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The project: its own files, and the copies that docs/pipeline.md asks for.
    fn project(&self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let project = self.folder.path().join("project");
        std::fs::create_dir_all(project.join("src")).unwrap();
        std::fs::create_dir_all(project.join("ci")).unwrap();
        copy(&root.join("deploy/shell"), &project.join("ci/bellwether"));
        let questions: String = (0..20)
            .map(|n| {
                format!("{{\"model\":\"agent\",\"messages\":[{{\"role\":\"user\",\"content\":\"capital {n}\"}}]}}\n")
            })
            .collect();
        let files = [
            ("Dockerfile", "FROM scratch\nARG MODEL_REF\n".to_owned()),
            ("requirements.txt", "httpx==0.28.1\n".to_owned()),
            ("src/agent.py", "print('hello')\n".to_owned()),
            ("ci/gate.toml", suite(&self.agent.url)),
            ("ci/cases.jsonl", (0..20).map(|n| format!("{{\"id\":\"q{n}\",\"prompt\":\"capital {n}\"}}\n")).collect()),
            ("ci/attacks.jsonl", (0..20).map(|n| format!("{{\"id\":\"a{n}\",\"prompt\":\"attack {n}\"}}\n")).collect()),
            ("ci/smoke.toml", SMOKE.to_owned()),
            ("ci/questions.jsonl", questions),
        ];
        for (name, text) in files {
            std::fs::write(project.join(name), text).unwrap();
        }
        let git = "git init --quiet && git add --all && git -c user.name=ci -c user.email=ci@localhost commit --quiet -m project";
        let ended = Command::new("sh").args(["-c", git]).current_dir(&project).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    /// Registers the model with one small file of weights.
    fn model(&self) {
        let files = self.folder.path().join("weights");
        std::fs::create_dir(&files).unwrap();
        // A file of safetensors: the length of its header, and an empty header.
        std::fs::write(files.join(WEIGHTS), b"\x02\0\0\0\0\0\0\0{}").unwrap();
        let ended = Command::new(env!("CARGO_BIN_EXE_bellwether"))
            .args(["model", "register", "shop-assistant", "2.4.0", "--by", "ada", "--registry", &self.registry()])
            .arg(&files)
            .env_clear()
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    /// Returns a fresh checkout of the project.
    pub fn checkout(&self) -> PathBuf {
        let work = self.folder.path().join("work");
        std::fs::create_dir_all(&work).unwrap();
        let place = tempfile::tempdir_in(work).unwrap().keep();
        copy(&self.folder.path().join("project"), &place);
        place
    }

    /// Runs `script` by `shell` in `workspace`, with the environment of the machine and the job's own.
    pub fn run(&self, shell: &[&str], script: &str, workspace: &Path, environment: &Environment) -> Ended {
        let temporary = self.folder.path().join("tmp");
        std::fs::create_dir_all(&temporary).unwrap();
        let file = temporary.join("step.sh");
        std::fs::write(&file, script).unwrap();
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .arg(&file)
            .current_dir(workspace)
            .env_clear()
            .env("PATH", self.folder.path().join("bin"))
            .env("HOME", self.folder.path())
            .env("TMPDIR", &temporary)
            .envs(environment)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        for secret in SECRETS.map(|name| format!("secret-of-{name}")) {
            assert!(!log.contains(&secret), "the log has {secret}:\n{log}");
            let calls = self.calls();
            assert!(!calls.iter().any(|call| call.contains(&secret)), "a command line has {secret}: {calls:#?}");
        }
        Ended { code: output.status.code().unwrap_or(-1), log }
    }

    /// Checks what a job uploads: the visible files below `out/`, none of which may be a secret or weights. Returns their
    /// paths.
    pub fn uploaded(&self, workspace: &Path) -> Vec<String> {
        let mut files = Vec::new();
        visible(&workspace.join("out"), &mut files);
        for file in &files {
            let content = std::fs::read(file).unwrap();
            let secret = |name: &&str| {
                let value = format!("secret-of-{name}");
                content.windows(value.len()).any(|window| window == value.as_bytes())
            };
            assert!(!SECRETS.iter().any(secret), "{} is uploaded and has a secret", file.display());
            assert!(!file.ends_with(WEIGHTS), "{} is uploaded", file.display());
        }
        files.iter().map(|file| file.strip_prefix(workspace).unwrap().display().to_string()).collect()
    }
}

/// Lists the files below `folder` whose names and folders do not begin with a dot.
fn visible(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap()) {
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.path().is_dir() { visible(&entry.path(), files) } else { files.push(entry.path()) }
    }
    files.sort();
}

/// Copies a folder with its modes.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
