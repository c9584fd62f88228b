//! Whole runs against agents that call their tools inside.

use std::path::Path;

use bellwether_core::time::Timestamp;
use bellwether_gate::report::{GateReport, GateSubject};
use bellwether_gate::rule::Verdict;
use serde_json::json;

use super::agent::{Agent, Habit};
use crate::gate::load::LoadedSuite;
use crate::gate::run::{RunOptions, run};

const RULES: &str = "limits.forbidden = { max = \"10%\", none = true }\nlimits.right-tools = { min = \"80%\" }\nlimits.steps-per-task = { max = 7 }";

fn write(directory: &Path, url: &str, head: &str, traces: &str, cases: &str) -> LoadedSuite {
    let suite = format!(
        "name = \"agents\"\n[target]\nurl = \"{url}\"\nmodel = \"m\"\nstream = false\nretries = 1\n{head}\n[traces]\n{traces}\n\
         [[gate]]\nkind = \"tools\"\ncalls = \"traces\"\ndataset = \"cases.jsonl\"\nmin-cases = 40\n{RULES}\n"
    );
    std::fs::write(directory.join("suite.toml"), suite).unwrap();
    std::fs::write(directory.join("cases.jsonl"), cases).unwrap();
    LoadedSuite::read(&directory.join("suite.toml")).unwrap()
}

/// Forty tasks that ask for the calls of the recorded exports, in this order, with these arguments, and no others.
fn tasks() -> String {
    let task = |at: usize| {
        json!({ "id": format!("t{at}"), "prompt": format!("task {at}"), "tool-order": "listed", "max-calls": 2,
                "expect-tools": ["find_order", { "name": "refund", "arguments": { "number": "7" } }],
                "forbid-tools": ["drop_customer", { "name": "refund", "arguments": { "number": "8" } }] })
    };
    (0..40).map(|at| task(at).to_string() + "\n").collect()
}

async fn result_of(loaded: &LoadedSuite, agent: &Agent) -> GateReport {
    let progress = |message: &str| {
        if let Some((_, url)) = message.split_once("traces are received on ") {
            agent.export_to(url);
        }
    };
    let now = || "2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap();
    let options = RunOptions { subject: GateSubject::default(), ledger: None, progress: &progress, now: &now };
    run(loaded, &options).await.unwrap()
}

/// The waits of an agent whose traces are there before its answer, come after it, and do not come.
const PROMPT: &str = "listen = \"127.0.0.1:0\"\nwait = \"60s\"\nquiet = \"10ms\"";
const PATIENT: &str = "listen = \"127.0.0.1:0\"\nwait = \"60s\"\nquiet = \"5s\"";
const HASTY: &str = "listen = \"127.0.0.1:0\"\nwait = \"2s\"\nquiet = \"10ms\"";

#[tokio::test]
async fn calls_inside_an_agent_are_judged_by_its_traces_and_never_by_their_absence() {
    let rows = [
        (Habit::Good, PROMPT, "concurrency = 40", Verdict::Pass, ": pass"),
        (Habit::Disorderly, PATIENT, "concurrency = 40", Verdict::Pass, ": pass"),
        (Habit::Forbidden, PROMPT, "concurrency = 40", Verdict::Fail, "4 of 40 tasks called a forbidden tool"),
        (Habit::FirstFails, PROMPT, "concurrency = 40", Verdict::Fail, "40 of 40 tasks called a forbidden tool"),
        (
            Habit::Silent,
            HASTY,
            "",
            Verdict::Error,
            "the first 3 cases have no whole trace: no trace came within 2 s; let the agent continue the traceparent",
        ),
        (
            Habit::Partial,
            HASTY,
            "",
            Verdict::Error,
            "a trace came with 7 spans and without its first one, whose parent is the request",
        ),
        (Habit::Endless, HASTY, "", Verdict::Error, "the trace of a request has more than 5000 spans"),
        (
            Habit::CallsUntraced,
            PROMPT,
            "",
            Verdict::Error,
            "no call of a tool was seen in the traces of the target to 40 tasks",
        ),
        (
            Habit::Late,
            PROMPT,
            "concurrency = 1",
            Verdict::Error,
            "39 without a whole trace); at most 2 % may be missing: a call came after its trace had been read",
        ),
    ];
    for (habit, traces, head, verdict, says) in rows {
        let (agent, directory) = (Agent::start(habit).await, tempfile::tempdir().unwrap());
        let loaded = write(directory.path(), &agent.url, head, traces, &tasks());
        let report = result_of(&loaded, &agent).await;
        let sentence = &report.gates[0].sentence;
        assert_eq!(report.verdict, verdict, "{habit:?}: {sentence}");
        assert!(sentence.contains(says), "{habit:?}: {sentence}");
        if habit == Habit::Silent {
            assert_eq!(agent.requests(), 3, "the others are not asked in vain");
        }
        if habit == Habit::Good {
            let steps = report.gates[0].claims.iter().find(|claim| claim.metric == "steps-per-task").unwrap();
            assert_eq!(steps.estimate, Some(3.0));
        }
        if habit == Habit::Late {
            // A late call is in the ledger: the same run again asks those tasks again, and does not take the old answers.
            assert_eq!(result_of(&loaded, &agent).await.verdict, Verdict::Error);
            assert_eq!(agent.requests(), 40 + 39);
        }
    }
}

#[tokio::test]
async fn each_turn_of_a_task_has_a_trace_of_its_own() {
    // The agent makes the same calls in each turn, which only the first turn allows.
    let task = |at: usize, forbid: &str| {
        json!({ "id": format!("t{at}"), "prompt": format!("task {at}"), "expect-tools": ["find_order", "refund"], "max-calls": 2,
                "turns": [{ "prompt": "and now?", "expect-tools": ["find_order"], "forbid-tools": [forbid], "max-calls": 2 }] })
    };
    for (forbid, verdict) in [("drop_customer", Verdict::Pass), ("refund", Verdict::Fail)] {
        let (agent, directory) = (Agent::start(Habit::Good).await, tempfile::tempdir().unwrap());
        let cases: String = (0..40).map(|at| task(at, forbid).to_string() + "\n").collect();
        let loaded = write(directory.path(), &agent.url, "concurrency = 40", PROMPT, &cases);
        let report = result_of(&loaded, &agent).await;
        assert_eq!(report.verdict, verdict, "{}", report.gates[0].sentence);
        assert_eq!(agent.requests(), 80);
    }
}

#[tokio::test]
async fn recorded_tasks_are_judged_without_a_request() {
    let (agent, directory) = (Agent::start(Habit::Good).await, tempfile::tempdir().unwrap());
    let call = |name: &str, number: &str| json!({ "function": name, "arguments": { "number": number } });
    let sample = |at: usize, number: &str| {
        json!({ "id": format!("t{at}"), "epoch": 1, "messages": [
            { "role": "user", "content": "p" },
            { "role": "assistant", "content": "", "tool_calls": [call("find_order", "7"), call("refund", number)] },
            { "role": "assistant", "content": "done" } ] })
    };
    // `eight` tasks pay another order back, which is forbidden; the log lacks the last `lacking` ones.
    for (eight, lacking, verdict, says) in [
        (0, 0, Verdict::Pass, ": pass"),
        (9, 0, Verdict::Fail, "9 of 40 tasks called a forbidden tool"),
        (0, 5, Verdict::Error, "the log of `traces.inspect` has no sample with the case's id and epoch"),
    ] {
        let samples: Vec<_> = (0..40 - lacking).map(|at| sample(at, if at < eight { "8" } else { "7" })).collect();
        let log = json!({ "status": "success", "samples": samples }).to_string();
        std::fs::write(directory.path().join("log.json"), log).unwrap();
        let loaded = write(directory.path(), &agent.url, "", "inspect = \"log.json\"", &tasks());
        let report = result_of(&loaded, &agent).await;
        assert_eq!(report.verdict, verdict, "{}", report.gates[0].sentence);
        assert!(report.gates[0].sentence.contains(says), "{}", report.gates[0].sentence);
    }
    assert_eq!(agent.requests(), 0);
}
