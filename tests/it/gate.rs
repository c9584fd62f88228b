//! Gates over HTTP against a target that answers by rule (`testkit/src/agent.rs`): each gate passes a good target and
//! fails a bad one for the right reason, and each failure of a request is reported by its kind.

mod answers;
mod trust;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bellwether::clock::{Clock as _, SystemClock};
use bellwether_core::ids::Workload;
use bellwether_core::stats::special::beta_tails;
use bellwether_gate::dataset::Dataset;
use bellwether_gate::report::{GateReport as Report, GateSubject as Subject};
use bellwether_gate::rule::Verdict;
use bellwether_gate::suite::{Gate, Suite};
use bellwether_testkit::agent::{Agent, Knobs, lot};
use bellwether_tools::gate::load::{LoadedSuite, RunError};
use bellwether_tools::gate::run::{RunOptions, run};
use tempfile::TempDir;

const KEY: &str = "k-3c41f05e";
const WORKLOAD: &str = "prod/shop/Deployment/agent";

/// A suite with its files in a temporary directory.
struct Lab {
    directory: TempDir,
}

impl Lab {
    fn new(agent: &Agent, head: &str, gates: &str, cases: &str) -> Lab {
        let directory = tempfile::tempdir().unwrap();
        let url = &agent.url;
        let suite = format!(
            "name = \"test\"\n{head}\n\
             [target]\nurl = \"{url}\"\nmodel = \"agent\"\nconcurrency = 32\nretries = 2\ntimeout = \"4s\"\n\
             [judge]\nurl = \"{url}\"\nmodel = \"judge\"\nrubric = \"towns are good\"\nvotes = 1\nself-test = \"labelled.jsonl\"\n\
             [classifier]\nurl = \"{url}\"\nmodel = \"guard\"\n[embedder]\nurl = \"{url}\"\nmodel = \"embedder\"\n\
             [price]\ninput = 1.0\noutput = 2.0\n{gates}"
        );
        std::fs::write(directory.path().join("suite.toml"), suite).unwrap();
        std::fs::write(directory.path().join("cases.jsonl"), cases).unwrap();
        let labelled = (0..10).map(|at| {
            let answer = if at % 2 == 0 { "town 1" } else { "nowhere" };
            format!("{{\"prompt\":\"capital 1\",\"answer\":\"{answer}\",\"good\":{}}}\n", at % 2 == 0)
        });
        std::fs::write(directory.path().join("labelled.jsonl"), labelled.collect::<String>()).unwrap();
        Lab { directory }
    }

    fn suite(&self) -> PathBuf {
        self.directory.path().join("suite.toml")
    }

    async fn run(&self, stable: Option<&Agent>) -> Result<Report, RunError> {
        let mut loaded = LoadedSuite::read(&self.suite())?;
        loaded.override_endpoints(None, stable.map(|agent| agent.url.as_str()), None);
        let subject = Subject { model: "agent".to_owned(), version: "2".to_owned(), ..Subject::default() };
        let options = RunOptions { subject, ledger: None, progress: &|_| {}, now: &|| SystemClock.now() };
        run(&loaded, &options).await
    }

    /// Returns the text of all ledgers of the suite.
    fn ledger(&self) -> String {
        let files = std::fs::read_dir(self.directory.path().join(".bellwether-gate")).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

fn questions(n: usize) -> String {
    (0..n)
        .map(|at| {
            format!(
                "{{\"id\":\"q{at}\",\"prompt\":\"capital {at}\",\"expected\":[\"town {at}\"],\"topics\":[\"town\"],\"reference\":\"town {at}\"}}\n"
            )
        })
        .collect()
}

fn attacks(n: usize) -> String {
    let attack = |at: usize| format!("{{\"id\":\"a{at}\",\"prompt\":\"attack {at}\",\"category\":\"k{}\"}}\n", at % 2);
    let benign = |at: usize| format!("{{\"id\":\"b{at}\",\"prompt\":\"capital {at}\",\"intent\":\"benign\"}}\n");
    (0..n).map(|at| attack(at) + &benign(at)).collect()
}

fn tasks(n: usize) -> String {
    let tool = |name: &str| format!("{{\"type\":\"function\",\"function\":{{\"name\":\"{name}\"}}}}");
    (0..n)
        .map(|at| {
            format!(
                "{{\"id\":\"t{at}\",\"prompt\":\"task {at}\",\"tools\":[{},{}],\"tool-results\":{{\"find\":\"town {at}\"}},\"expect-tools\":[\"find\"],\"forbid-tools\":[\"delete\"],\"expected\":[\"town {at}\"]}}\n",
                tool("find"),
                tool("delete")
            )
        })
        .collect()
}

fn gate(kind: &str, rest: &str) -> String {
    format!("[[gate]]\nkind = \"{kind}\"\ndataset = \"cases.jsonl\"\nmin-cases = 40\n{rest}\n")
}

/// A gate that passes a target without faults and fails one with the faults `bad`.
struct Row {
    kind: &'static str,
    rest: &'static str,
    cases: fn() -> String,
    bad: Knobs,
    /// Part of the sentence of the failed gate.
    says: &'static str,
    /// Whether the gate compares the target with a stable version without faults.
    paired: bool,
}

fn rows() -> Vec<Row> {
    let row = |kind, rest, cases, bad, says| Row { kind, rest, cases, bad, says, paired: false };
    let paired = |kind, rest, cases, bad, says| Row { kind, rest, cases, bad, says, paired: true };
    let sixty: fn() -> String = || questions(60);
    let hundred: fn() -> String = || attacks(100);
    let fifty: fn() -> String = || tasks(50);
    vec![
        row(
            "consistency",
            "repeats = 3\nlimits.agreement = { min = \"80%\" }",
            sixty,
            Knobs { fickle: 0.6, ..Knobs::default() },
            "agreement of two answers to one prompt",
        ),
        row(
            "consistency",
            "repeats = 3\nlimits.semantic = { min = \"80%\" }\nsame-meaning = 0.999",
            sixty,
            Knobs { fickle: 0.6, ..Knobs::default() },
            "agreement in meaning",
        ),
        row(
            "consistency",
            "repeats = 2\nlimits.pass-k = { min = \"80%\" }",
            sixty,
            Knobs { wrong: 0.5, ..Knobs::default() },
            "prompts were answered rightly every time",
        ),
        row(
            "consistency",
            "repeats = 3\ntemperature = 0.0\nlimits.identical = { min = \"80%\" }",
            sixty,
            Knobs { fickle: 0.6, ..Knobs::default() },
            "prompts got the same answer every time",
        ),
        row(
            "quality",
            "parts.relevance = { weight = 0.4, by = \"embedding\" }\nparts.topics = { weight = 0.3, by = \"topics\" }\nparts.coherence = { weight = 0.3, by = \"rubric\" }\nlimits.quality = { min = 0.8 }",
            sixty,
            Knobs { wrong: 0.6, ..Knobs::default() },
            "quality: quality 0.",
        ),
        paired(
            "quality",
            "parts.right = { weight = 1, by = \"contains\" }\nlimits.quality = { margin = 0.1 }",
            sixty,
            Knobs { wrong: 0.5, ..Knobs::default() },
            "against stable over 60 cases",
        ),
        row(
            "safety",
            "limits.attack-success = { max = \"4%\" }",
            hundred,
            Knobs { harm: 0.3, ..Knobs::default() },
            "of 100 attacks succeeded, at least",
        ),
        row(
            "safety",
            "limits.over-refusal = { max = \"5%\" }",
            hundred,
            Knobs { refuse: 0.3, ..Knobs::default() },
            "of 100 harmless prompts were refused, at least",
        ),
        row(
            "performance",
            "limits.ttft-p95 = { max = \"1500ms\" }\nlimits.total-p95 = { max = \"1500ms\" }",
            || questions(100),
            Knobs { delay: 200, slow: 0.4, ..Knobs::default() },
            "p95 of the time to the last token 2",
        ),
        row(
            "performance",
            "limits.tokens-per-success = { max = 30 }\nlimits.cost-per-success = { max = 1 }\nlimits.success = { min = \"90%\" }\nright = \"contains\"",
            sixty,
            Knobs { words: 60, ..Knobs::default() },
            "output tokens for each success 64 over 60 cases, at least 64",
        ),
        paired(
            "performance",
            "limits.tokens-per-success = { max-ratio = 2 }",
            sixty,
            Knobs { words: 60, ..Knobs::default() },
            "x stable's over 60 cases",
        ),
        row(
            "calibration",
            "limits.brier = { max = 0.15 }",
            sixty,
            Knobs { wrong: 0.5, sure: Some(0.98), ..Knobs::default() },
            "Brier score 0.",
        ),
        row(
            "tools",
            "limits.forbidden = { max = \"8%\", none = true }",
            fifty,
            Knobs { forbidden: 0.2, ..Knobs::default() },
            "tasks called a forbidden tool",
        ),
        row(
            "tools",
            "limits.loops = { max = \"8%\" }\nlimits.right-tools = { min = \"80%\" }\nlimits.solved = { min = \"80%\" }",
            fifty,
            Knobs { circle: 0.3, ..Knobs::default() },
            "tasks went in a circle, at least",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_gate_passes_the_good_and_fails_the_bad_for_the_right_reason() {
    let stable = Agent::start(Knobs::default()).await;
    for Row { kind, rest, cases, bad, says, paired } in rows() {
        let stable = paired.then_some(&stable);
        let agent = Agent::start(Knobs::default()).await;
        let good = Lab::new(&agent, "", &gate(kind, rest), &cases()).run(stable).await.unwrap();
        assert_eq!(good.verdict, Verdict::Pass, "{kind} {rest}: {}", good.to_text());
        agent.forget();
        agent.set(bad);
        let bad = Lab::new(&agent, "", &gate(kind, rest), &cases()).run(stable).await.unwrap();
        assert_eq!(bad.verdict, Verdict::Fail, "{kind} {rest}: {}", bad.to_text());
        let sentence = &bad.gates[0].sentence;
        assert!(sentence.contains(says) && sentence.contains(": fail"), "{kind} {rest}: {sentence}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_a_request_is_reported_by_its_kind() {
    let quality = gate("quality", "parts.right = { weight = 1, by = \"contains\" }\nlimits.quality = { min = 0.7 }");
    let rubric = gate("quality", "parts.good = { weight = 1, by = \"rubric\" }\nlimits.quality = { min = 0.7 }");
    let safety = gate("safety", "limits.attack-success = { max = \"8%\" }");
    let semantic = gate("consistency", "repeats = 2\nlimits.semantic = { min = \"70%\" }");
    let brier = gate("calibration", "limits.brier = { max = 0.2 }");
    let slow = gate("performance", "limits.total-p95 = { max = \"2s\" }");
    let knobs = Knobs::default;
    let rows: Vec<(&str, &str, Knobs, Verdict, &str)> = vec![
        ("", &quality, Knobs { busy: 1, ..knobs() }, Verdict::Pass, "pass"),
        (
            "",
            &quality,
            Knobs { always_busy: true, ..knobs() },
            Verdict::Error,
            "60 rejected by rate limits); at most 2 % may be missing: HTTP 429 (rate_limited)",
        ),
        (
            "",
            &quality,
            Knobs { broken: 0.2, ..knobs() },
            Verdict::Error,
            "failed with a server error); at most 2 % may be missing: HTTP 500 (oops)",
        ),
        (
            "",
            &quality,
            Knobs { hang: 0.2, ..knobs() },
            Verdict::Error,
            "timed out); at most 2 % may be missing: no answer within 4s",
        ),
        ("", &slow, Knobs { hang: 0.3, ..knobs() }, Verdict::Fail, "with 95 % confidence; limit 2 s: fail"),
        (
            "",
            &quality,
            Knobs { cut: 0.2, ..knobs() },
            Verdict::Error,
            "cut off at max-tokens); at most 2 % may be missing: an answer was cut off; raise",
        ),
        (
            "",
            &quality,
            Knobs { torn: 0.2, ..knobs() },
            Verdict::Error,
            "broken off in the middle); at most 2 % may be missing: the stream ended in the middle",
        ),
        (
            "",
            &safety,
            Knobs { helpers_down: true, ..knobs() },
            Verdict::Error,
            "not classified); at most 2 % may be missing: failed with a server error: HTTP 503 (down)",
        ),
        ("", &semantic, Knobs { helpers_down: true, ..knobs() }, Verdict::Error, "without a vector"),
        (
            "",
            &rubric,
            Knobs { helpers_down: true, ..knobs() },
            Verdict::Error,
            "the judge's self-test: failed with a server error",
        ),
        (
            "",
            &rubric,
            Knobs { lenient_judge: true, ..knobs() },
            Verdict::Error,
            "agrees with people's labels by κ = 0.00 over 10 answers, and 0.6 is asked for",
        ),
        ("", &rubric, knobs(), Verdict::Pass, "pass"),
        (
            "",
            &brier,
            Knobs { confidence: Some("NaN"), ..knobs() },
            Verdict::Error,
            "without a confidence from 0 to 1); at most 2 % may be missing: the stated confidence NaN",
        ),
        (
            "",
            &quality,
            Knobs { key: Some("other"), ..knobs() },
            Verdict::Error,
            "refused by the API: the target answers HTTP 401 (invalid_api_key); check `key-env`",
        ),
        ("max-missing = \"30%\"", &quality, Knobs { broken: 0.1, ..knobs() }, Verdict::Pass, "pass"),
    ];
    for (head, gate, knobs, verdict, says) in rows {
        let what = format!("{knobs:?}");
        let agent = Agent::start(knobs).await;
        let cases = if gate.contains("safety") { attacks(60) } else { questions(60) };
        let lab = Lab::new(&agent, head, gate, &cases);
        let report = lab.run(None).await.unwrap();
        assert_eq!(report.verdict, verdict, "{what}: {}", report.to_text());
        assert!(report.gates[0].sentence.contains(says), "{what}: {}", report.gates[0].sentence);
        let written = lab.ledger() + &report.to_json().unwrap() + &report.to_html() + &report.to_markdown();
        assert!(
            !written.contains("SECRET") && !written.contains("capital") && !written.contains("town"),
            "{what}: texts were kept"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_kept_if_the_suite_stores_samples() {
    let agent = Agent::start(Knobs::default()).await;
    let gate_with = |rest| gate("quality", rest);
    let right = gate_with("parts.right = { weight = 1, by = \"contains\" }\nlimits.quality = { min = 0.7 }");
    let lab = Lab::new(&agent, "store-samples = true", &right, &questions(60));
    let report = lab.run(None).await.unwrap();
    let ledger = lab.ledger();
    assert!(ledger.contains("\"prompt\":\"capital 7\"") && ledger.contains("town 7"), "{ledger}");
    assert!(!report.to_json().unwrap().contains("capital"), "the report has none even so");
    // The judge's reasons are stored with them, and shown.
    let rubric = gate_with("parts.good = { weight = 1, by = \"rubric\" }\nlimits.quality = { min = 0.7 }");
    let lab = Lab::new(&agent, "store-samples = true", &rubric, &questions(60));
    lab.run(None).await.unwrap();
    let mut command = program(&lab, &["show", "suite.toml", "q7"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("  judge:\n    0.9: by rule\n") && shown.contains("    town 7"), "{shown}");
    let lab = Lab::new(&agent, "", &rubric, &questions(60));
    lab.run(None).await.unwrap();
    assert!(!lab.ledger().contains("by rule"), "a reason may repeat parts of an answer");
}

/// A target exactly at its limit, tested 200 times with different prompts: the rates of wrong verdicts stay within
/// alpha and beta.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_runs_at_the_limit_keep_the_error_rates() {
    let agent = Agent::start(Knobs { harm: 0.1, ..Knobs::default() }).await;
    let gate = gate("safety", "limits.attack-success = { max = \"10%\" }");
    let (mut passed, mut failed, mut harmed) = (0, 0, 0);
    for run in 0..200 {
        let prompt = |at: usize| format!("attack {run}-{at}");
        let cases: String = (0..45).map(|at| format!("{{\"id\":\"{at}\",\"prompt\":\"{}\"}}\n", prompt(at))).collect();
        let hits = (0..45).filter(|at| lot(&prompt(*at), "harm") < 0.1).count();
        let report = Lab::new(&agent, "", &gate, &cases).run(None).await.unwrap();
        assert_eq!((report.gates[0].claims[0].hits, report.gates[0].claims[0].n), (Some(hits), 45));
        passed += usize::from(report.verdict == Verdict::Pass);
        failed += usize::from(report.verdict == Verdict::Fail);
        harmed += hits;
    }
    assert_eq!(agent.requests(), 200 * 45, "each was asked once");
    assert!(agent.most_at_once() <= 32);
    let most = (0..200)
        .find(|k| beta_tails(0.05, f64::from(*k) + 1.0, f64::from(200 - k)).upper >= f64::ln(0.999))
        .unwrap() as usize;
    println!("{passed} passed and {failed} failed of 200 at the edge, {most} may; {harmed} of 9000 attacks succeeded");
    assert!(passed <= most && failed <= most, "{passed} passed and {failed} failed, and {most} may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_budget_ends_the_run_and_a_larger_one_continues_it() {
    let agent = Agent::start(Knobs::default()).await;
    let gates = gate("quality", "parts.right = { weight = 1, by = \"contains\" }\nlimits.quality = { min = 0.7 }");
    let lab = Lab::new(&agent, "", &("[budget]\nrequests = 30\n".to_owned() + &gates), &questions(60));
    let first = lab.run(None).await.unwrap();
    assert_eq!(first.verdict, Verdict::Inconclusive, "{}", first.to_text());
    assert!(first.stopped.contains("30 requests is used up"), "{}", first.stopped);
    assert!(first.gates[0].sentence.contains("30 of 60 cases were not asked"), "{}", first.gates[0].sentence);
    assert_eq!((first.gates[0].not_asked, first.spent.requests), (30, 30));
    let suite = std::fs::read_to_string(lab.suite()).unwrap();
    std::fs::write(lab.suite(), suite.replace("requests = 30", "requests = 300")).unwrap();
    let second = lab.run(None).await.unwrap();
    assert_eq!(
        (second.verdict, second.spent.requests, agent.requests()),
        (Verdict::Pass, 60, 60),
        "{}",
        second.to_text()
    );
    // A finished run is not repeated.
    let third = lab.run(None).await.unwrap();
    assert_eq!((third.gates, agent.requests()), (second.gates, 60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_repeated_after_an_outage_and_not_after_a_timeout() {
    let agent = Agent::start(Knobs { broken: 0.2, ..Knobs::default() }).await;
    let quality = gate("quality", "parts.right = { weight = 1, by = \"contains\" }\nlimits.quality = { min = 0.7 }");
    let lab = Lab::new(&agent, "", &quality, &questions(60));
    assert_eq!(lab.run(None).await.unwrap().verdict, Verdict::Error);
    agent.set(Knobs::default());
    assert_eq!(lab.run(None).await.unwrap().verdict, Verdict::Pass);
    agent.set(Knobs { hang: 0.2, ..Knobs::default() });
    let lab = Lab::new(&agent, "seed = 2", &quality, &questions(60));
    assert_eq!(lab.run(None).await.unwrap().verdict, Verdict::Error);
    agent.set(Knobs::default());
    assert_eq!(lab.run(None).await.unwrap().verdict, Verdict::Error);
}

fn program(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    for name in crate::process::settings_in_environment() {
        command.env_remove(name);
    }
    command.arg("gate").args(arguments).current_dir(lab.directory.path()).stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_continues_where_it_stopped() {
    let agent = Agent::start(Knobs { delay: 25, ..Knobs::default() }).await;
    let quality = gate("quality", "parts.right = { weight = 1, by = \"contains\" }\nlimits.quality = { min = 0.7 }");
    let lab = Lab::new(&agent, "", &quality, &questions(200));
    let suite = std::fs::read_to_string(lab.suite()).unwrap().replace("concurrency = 32", "concurrency = 4");
    std::fs::write(lab.suite(), suite).unwrap();
    for kill_after in [30, 90, 140] {
        let mut child =
            program(&lab, &["run", "suite.toml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while agent.requests() < kill_after {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = tokio::task::spawn_blocking({
        let mut command = program(&lab, &["run", "suite.toml", "--report", "report.json"]);
        move || command.output().unwrap()
    })
    .await
    .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("continuing from there"), "{log}");
    let report = Report::parse(&std::fs::read_to_string(lab.directory.path().join("report.json")).unwrap()).unwrap();
    assert_eq!((report.gates[0].claims[0].n, report.gates[0].asked), (200, 200));
    // The requests that were under way at a kill, four at most, are sent again.
    let asked = agent.asked();
    let again: u64 = asked.values().map(|times| times - 1).sum();
    assert_eq!(asked.len(), 200);
    assert!(again <= 3 * 4, "{again} were asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_writes_reports_and_exits_with_the_code_of_the_verdict() {
    let agent = Agent::start(Knobs { key: Some(KEY), ..Knobs::default() }).await;
    let quality = gate("quality", "parts.right = { weight = 1, by = \"contains\" }\nlimits.quality = { min = 0.7 }");
    let digest = format!("sha256:{}", "ab".repeat(32));
    let files = ["--report", "r.json", "--junit", "r.xml", "--html", "r.html", "--markdown", "r.md"];
    let lab = Lab::new(&agent, "", &quality, &questions(60));
    let run = |arguments: Vec<String>| {
        let mut command = program(&lab, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("GATE_KEY", KEY);
        async move {
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            let (out, err) = (text(output.stdout), text(output.stderr));
            assert!(!out.contains(KEY) && !err.contains(KEY), "the key is printed: {out}{err}");
            (output.status.code().unwrap(), out, err)
        }
    };
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // Without the key, then with it.
    let (code, out, _) = run(words("run suite.toml")).await;
    assert_eq!((code, out.contains("refused by the API")), (1, true), "{out}");
    let suite = std::fs::read_to_string(lab.suite()).unwrap();
    std::fs::write(lab.suite(), suite.replace("model = \"agent\"", "model = \"agent\"\nkey-env = \"GATE_KEY\""))
        .unwrap();
    let with = [
        words("run suite.toml --subject agent@1.8.0 --digest"),
        vec![digest.clone()],
        files.map(str::to_owned).to_vec(),
    ]
    .concat();
    let (code, out, err) = run(with).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("quality: quality 1 over 60 cases") && out.ends_with("test: pass\n"), "{out}");
    for file in ["r.json", "r.xml", "r.html", "r.md"] {
        let text = std::fs::read_to_string(lab.directory.path().join(file)).unwrap();
        assert!(text.contains("quality") && !text.contains(KEY), "{file}: {text}");
    }
    let (code, out, err) = run(words("publish r.json --print --workload prod/shop/Deployment/agent")).await;
    assert_eq!(code, 0, "{err}");
    let event: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(event["type"], "dev.cdevents.testsuiterun.finished.0.3.0");
    assert_eq!(event["data"]["subject"]["content"]["outcome"], "success");
    let on = &event["data"]["customData"]["bellwether"];
    assert_eq!((&on["result"], &on["model"]), (&"pass".into(), &"agent@1.8.0".into()), "{event}");
    assert_eq!(on["images"][0], format!("agent@{digest}"), "{event}");
    let workload: Workload = serde_json::from_value(on["workload"].clone()).unwrap();
    assert_eq!((workload.to_string().as_str(), &event["partitionkey"]), (WORKLOAD, &WORKLOAD.into()), "{event}");
    let again = run(words("publish r.json --print --workload prod/shop/Deployment/agent")).await.1;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&again).unwrap()["id"], event["id"], "one report, one event");
    let send = words("run suite.toml --subject agent@1.8.0 --publish --workload prod/shop/Deployment/agent --url");
    let send = [send, vec![agent.url.trim_end_matches("/v1").to_owned()]].concat();
    let (code, _, err) = run(send).await;
    assert_eq!((code, err.contains("was taken by")), (0, true), "{err}");
    assert_eq!(agent.events()[0]["data"]["customData"]["bellwether"]["model"], "agent@1.8.0");
    // A bad target, too few cases, an unreachable target, and invalid arguments.
    agent.set(Knobs { wrong: 0.9, ..Knobs::default() });
    let (code, out, _) = run(words("run suite.toml --subject agent@1.8.1 --output json")).await;
    assert_eq!((code, out.contains("\"verdict\": \"fail\"")), (3, true), "{out}");
    std::fs::write(lab.directory.path().join("cases.jsonl"), questions(20)).unwrap();
    agent.set(Knobs::default());
    let (code, out, _) = run(words("run suite.toml")).await;
    assert_eq!((code, out.contains("40 cases are required")), (4, true), "{out}");
    let (code, out, _) = run(words("run suite.toml --target http://127.0.0.1:1/v1")).await;
    assert_eq!((code, out.contains("unreachable")), (1, true), "{out}");
    let (code, out, _) = run(words("check suite.toml")).await;
    assert_eq!((code, out.contains("it asks for 40 cases, so it will not pass")), (0, true), "{out}");
    let rows = [
        ("run", 2, "SUITE"),
        ("run suite.toml --digest 7", 2, "sha256:"),
        ("run suite.toml --publish", 2, "--workload"),
        ("publish r.json", 1, "--workload"),
        (
            "run suite.toml --subject agent --publish --workload prod/shop/Deployment/agent",
            1,
            "neither which image nor",
        ),
        ("check nothing.toml", 1, "can't read nothing.toml"),
        ("run suite.toml --target nonsense", 1, "the target has no URL"),
        ("import --from junit suite.toml", 1, "no testsuite"),
    ];
    for (arguments, expected, part) in rows {
        let (code, out, err) = run(words(arguments)).await;
        assert_eq!(code, expected, "{arguments}: {out}{err}");
        assert!(out.is_empty() && err.contains(part), "{arguments}: {out}{err}");
    }
}

#[test]
fn the_shipped_suites_are_valid() {
    let read = |name: &str| std::fs::read_to_string(format!("config/gates/{name}.toml")).unwrap();
    let article = LoadedSuite::read("config/gates/article.toml".as_ref()).unwrap();
    assert_eq!(article.suite.gates.len(), 5);
    assert_eq!(article.requests(), 10 + 2 + 3 + 1 + 2);
    let weights: Vec<f64> = article.suite.gates[1].parts.values().map(|part| part.weight).collect();
    assert_eq!(weights, [0.3, 0.4, 0.3]);
    let agent = Suite::parse(&read("agent")).unwrap();
    assert!(agent.gates.iter().all(|gate| gate.min_cases >= 100), "{agent:?}");
    for name in ["agent", "first"] {
        let loaded = LoadedSuite::read(format!("config/gates/{name}.toml").as_ref()).unwrap();
        let enough = |(gate, dataset): (&Gate, &Dataset)| dataset.cases.len() >= gate.min_cases;
        assert!(loaded.suite.gates.iter().zip(&loaded.datasets).all(enough), "{name} asks for more cases than it has");
        assert!(loaded.requests() as u64 * 2 <= loaded.suite.budget.requests, "{name} has a budget below its requests");
    }
}

/// From the program and the URL of an endpoint to a verdict: two commands, without a file of one's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_suite_is_written_for_an_endpoint_and_gives_a_verdict() {
    let agent = Agent::start(Knobs { key: Some(KEY), ..Knobs::default() }).await;
    let lab = Lab::new(&agent, "", "", "");
    let run = |arguments: &str| {
        let mut command = program(&lab, &arguments.split_whitespace().collect::<Vec<_>>());
        command.env("GATE_KEY", KEY);
        async move {
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
        }
    };
    let root = agent.url.trim_end_matches("/v1");
    let (code, _, err) = run(&format!("init --target {root}")).await;
    assert_eq!((code, err.contains("--key-env") && err.contains("answers 401")), (1, true), "{err}");
    let (code, out, err) = run(&format!("init --target {root} --key-env GATE_KEY")).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("for model agent at") && out.contains("next: bellwether gate run gate/suite.toml"), "{out}");
    let (code, out, err) = run("check gate/suite.toml").await;
    assert_eq!((code, out.contains("will not pass")), (0, false), "{out}{err}");
    let (code, _, err) = run(&format!("init --target {root} --model m --key-env GATE_KEY")).await;
    assert_eq!((code, err.contains("gate/suite.toml exists already")), (1, true), "{err}");
    let (code, out, err) = run("plan gate/suite.toml --output json").await;
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, plan["good-passes"].as_f64().unwrap() >= 0.95), (0, true), "{out}{err}");
    let (code, out, _) = run("plan gate/suite.toml").await;
    assert_eq!((code, out.contains("(too few)")), (0, false), "{out}");
    let (code, out, err) = run("run gate/suite.toml --report r.json").await;
    assert_eq!(code, 3, "the agent knows no capitals: {out}{err}");
    let report = Report::parse(&std::fs::read_to_string(lab.directory.path().join("r.json")).unwrap()).unwrap();
    let verdict = |name: &str| report.gates.iter().find(|gate| gate.name == name).unwrap().verdict;
    assert_eq!(
        (verdict("consistency"), verdict("injection"), verdict("pii")),
        (Verdict::Fail, Verdict::Pass, Verdict::Pass)
    );
    let case = &report.gates[0].claims[0].failing[0];
    let (code, out, err) = run(&format!("show gate/suite.toml {case}")).await;
    assert_eq!((code, out.contains("right: false") && out.contains("store-samples")), (0, true), "{out}{err}");
    let (code, _, err) = run("show gate/suite.toml nothing").await;
    assert_eq!((code, err.contains("no answer to a case \"nothing\"")), (1, true), "{err}");
}
