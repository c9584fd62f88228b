//! `bellwether audit`: the acts of people and tools, with their time, their author, the proof of the author and the result.
//!
//! The records of the decisions are read by the names of their fields, so that those of other versions can be read as well.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context as _;
use bellwether_core::engine::view::{RolloutView, is_workload, short_workload};
use bellwether_core::ids::Scope;
use bellwether_core::time::{Span, Timestamp};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::api::ApiClient;
use super::table::table;
use super::{Common, Output, print, replay, tell};
use crate::clock::{Clock as _, SystemClock};
use crate::exit;

/// The arguments of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// List only acts on this workload, as `name`, `namespace/name` or cluster/namespace/Deployment/name.
    workload: Option<String>,
    /// List only acts of the last time, as in 7d.
    #[arg(long, value_name = "TIME")]
    since: Option<Span>,
    /// File with the records, one JSON object per line, instead of the decisions topic or the journal.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Ask the daemon (--api) for the decisions that it shows, instead of reading the records.
    #[arg(long, conflicts_with = "file")]
    shown: bool,
}

/// An act of a person or a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Act {
    /// The time at which the daemon received it.
    at: Timestamp,
    /// The author: the user of the token, or the name of the key; without a proof, the source of the event.
    who: String,
    /// The proof of the author: `token`, `key` or `none`.
    proof: &'static str,
    /// The source that the event names.
    source: String,
    /// The event's id; `None` if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// The act, such as `request` or `approve release`.
    act: String,
    /// The workload's key.
    workload: String,
    /// The namespace or cluster that the act is about, of which the workload is one; `None` if it is about the workload alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The author's reason; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The first decision on it, or the reason why it was not carried out, as a sentence; `None` if it led to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    /// Whether it was not carried out, and how: `refused`, or `ignored` for a late or expired one. `None` if it was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    turned_away: Option<String>,
}

/// Prints the acts, the oldest first.
///
/// # Errors
/// The records can't be read, or the daemon does not answer.
pub async fn run(args: &AuditArgs, common: &Common) -> anyhow::Result<u8> {
    let mut acts = if args.shown {
        shown(common).await?
    } else {
        let mut acts = Vec::new();
        for line in replay::records(args.file.as_deref(), common).await? {
            let is_no_json =
                |error: serde_json::Error| line.unreadable(&format!("it is not a record of decisions: {error}"));
            let record: Value = serde_json::from_slice(&line.json).map_err(is_no_json)?;
            if record.get("inputs").or(record.get("refused")).is_none() {
                return Err(line.unreadable(&"it is not a record of decisions, which has `inputs`"));
            }
            acts.extend(of_record(&record));
        }
        acts
    };
    let since = args.since.map(|span| span.before(SystemClock.now()));
    acts.retain(|act| args.workload.as_deref().is_none_or(|wanted| is_workload(&act.workload, wanted)));
    acts.retain(|act| since.is_none_or(|since| act.at >= since));
    acts.sort_by(|a, b| (a.at, &a.workload).cmp(&(b.at, &b.workload)));
    each_once(&mut acts);
    match common.output {
        Output::Json => print(&(serde_json::to_string_pretty(&acts).context("can't encode the acts as JSON")? + "\n")),
        Output::Table if acts.is_empty() => tell("no act of a person or a tool is recorded\n"),
        Output::Table => print(&list(&acts)),
    }
    Ok(exit::OK)
}

/// Returns the acts in the decisions of the rollouts that the daemon shows. A request is known by the decision that it led to.
async fn shown(common: &Common) -> anyhow::Result<Vec<Act>> {
    let rollouts = ApiClient::of(common)?.rollouts(&[]).await?;
    let of_rollout = |rollout: &RolloutView| -> Vec<Act> {
        let by_someone = rollout.history.iter().filter_map(|decision| Some((decision, decision.by.as_deref()?)));
        by_someone
            .map(|(decision, by)| {
                let Sender { who, proof, source } = Sender::of(by);
                let (act, result) = (decision.decision.clone(), Some(decision.reason.clone()));
                let workload = rollout.workload.clone();
                Act {
                    at: decision.at,
                    who,
                    proof,
                    source,
                    event: None,
                    act,
                    workload,
                    scope: None,
                    reason: None,
                    result,
                    turned_away: None,
                }
            })
            .collect()
    };
    Ok(rollouts.iter().flat_map(of_rollout).collect())
}

/// Returns the acts of a record: its inputs that people and tools have sent, or the act that was refused.
fn of_record(record: &Value) -> Vec<Act> {
    if record["refused"].is_object() {
        return refused(record).into_iter().collect();
    }
    let part = |key: &str| record["workload"][key].as_str().unwrap_or_default();
    let workload = match record["workload"].as_str() {
        Some(key) => key.to_owned(),
        None => format!("{}/{}/{}/{}", part("cluster"), part("namespace"), part("kind"), part("name")),
    };
    let inputs = record["inputs"].as_array().into_iter().flatten();
    inputs
        .filter_map(|input| {
            // The decisions on an input are made at the time of the input.
            let is_on_it = |decision: &&Value| decision["at"] == input["at"];
            let decision = record["decisions"].as_array().into_iter().flatten().find(is_on_it);
            let result = decision.and_then(|decision| decision["why"].as_str()).map(str::to_owned);
            Some(Act { result, ..of_input(input, &workload)? })
        })
        .collect()
}

/// Returns the act of a record of a refusal.
fn refused(record: &Value) -> Option<Act> {
    let refused = &record["refused"];
    let text = |key: &str| refused[key].as_str().map(str::to_owned);
    Some(Act { result: text("why"), turned_away: text("result"), ..of_input(refused, record["scope"].as_str()?)? })
}

/// Returns the act of an event with its time, without its result; `None` for an event of the daemon itself.
fn of_input(input: &Value, workload: &str) -> Option<Act> {
    let event = &input["event"];
    let id = &event["id"];
    let Sender { who, proof, source } = Sender::of(id["source"].as_str()?);
    let reason = event["command"]["reason"].as_str().or(event["request"]["reason"].as_str());
    Some(Act {
        at: input["at"].as_str()?.parse().ok()?,
        who,
        proof,
        source,
        event: id["id"].as_str().map(str::to_owned),
        act: act(event)?,
        workload: workload.to_owned(),
        scope: wide_scope(event),
        reason: reason.map(str::to_owned),
        result: None,
        turned_away: None,
    })
}

/// Returns the act of an event, such as `promote --full`; `None` for an event of the daemon itself.
fn act(event: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match event["event"].as_str()? {
        "requested" => {
            let images = event["request"]["images"].as_object().into_iter().flat_map(serde_json::Map::values);
            let images: Vec<String> = images.chain(event["request"].get("image")).map(text).collect();
            Some(format!("request {}", images.join(", ")).trim_end().to_owned())
        }
        "deployed" => Some(format!("deployed {}", text(&event["artifact"])).trim_end().to_owned()),
        "tested" => Some(format!("tested {}", text(&event["report"]["suite"])).trim_end().to_owned()),
        "commanded" => {
            let verb = &event["command"]["verb"];
            let mut act = text(&verb["verb"]);
            if verb["full"].as_bool() == Some(true) {
                act += " --full";
            }
            let more = [text(&verb["approval"]), text(&verb["until"])].join(" ");
            Some(format!("{act} {}", more.trim()).trim_end().to_owned())
        }
        _ => None,
    }
}

/// Returns the scope of a command that is about more than one workload.
fn wide_scope(event: &Value) -> Option<String> {
    let scope: Scope = event["command"]["scope"].as_str()?.parse().ok()?;
    scope.workload().is_none().then(|| scope.to_string())
}

/// Keeps one of the acts that each workload of a namespace or cluster has recorded.
fn each_once(acts: &mut Vec<Act>) {
    let mut known = BTreeSet::new();
    acts.retain(|act| act.scope.is_none() || known.insert((act.source.clone(), act.event.clone())));
}

/// The sender of an event, as its source tells it.
#[derive(Debug, PartialEq, Eq)]
struct Sender {
    who: String,
    proof: &'static str,
    source: String,
}

impl Sender {
    /// Reads a source. The daemon has appended the identities that it has verified.
    fn of(source: &str) -> Sender {
        let marks = [("#user=", "token"), ("#key=", "key")];
        // A source has no mark of its own, so the first one is the daemon's, also if a user's name has another.
        let first = marks.into_iter().filter_map(|(mark, proof)| Some((source.find(mark)?, mark, proof))).min();
        match first {
            Some((at, mark, proof)) => {
                Sender { who: source[at + mark.len()..].to_owned(), proof, source: source[..at].to_owned() }
            }
            None => Sender { who: source.to_owned(), proof: "none", source: source.to_owned() },
        }
    }
}

/// Returns a table with a row for each act.
fn list(acts: &[Act]) -> String {
    let rows: Vec<Vec<String>> = acts
        .iter()
        .map(|act| {
            let reason = act.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            vec![
                format!("{:.0}", act.at),
                act.who.clone(),
                act.proof.to_owned(),
                act.source.clone(),
                act.scope.clone().unwrap_or_else(|| short_workload(&act.workload)),
                format!("{}{reason}", act.act),
                match (&act.turned_away, &act.result) {
                    (Some(how), Some(why)) => format!("{how}: {why}"),
                    (_, Some(result)) => result.clone(),
                    (_, None) => "–".to_owned(),
                },
            ]
        })
        .collect();
    table(&["TIME", "WHO", "PROOF", "SOURCE", "ABOUT", "ACT", "RESULT"], &rows)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn record() -> Value {
        let workload = json!({ "cluster": "prod", "namespace": "shop", "kind": "Deployment", "name": "web" });
        let input = |at: &str, event: Value| json!({ "at": at, "event": event });
        let id = |source: &str, id: &str| json!({ "source": source, "id": id });
        json!({
            "schema": "a later version", "engine": "9.0.0", "workload": workload, "n": 3,
            "inputs": [
                input("2026-11-30T08:00:00Z", json!({ "event": "requested", "id": id("/ci/shop#key=ci", "r1"),
                    "request": { "images": { "app": "registry.example/web:2" }, "reason": "release 2" } })),
                input("2026-11-30T08:00:05Z", json!({ "event": "tick" })),
                input("2026-11-30T08:10:00Z", json!({ "event": "commanded", "id": id("/cli#user=jane@example.com", "c1"),
                    "command": { "verb": { "verb": "promote", "full": true }, "reason": "it is urgent" } })),
                input("2026-11-30T08:11:00Z", json!({ "event": "commanded", "id": id("/chat", "c2"),
                    "command": { "verb": { "verb": "approve", "approval": "release" } } })),
            ],
            "decisions": [
                { "at": "2026-11-30T08:00:00Z", "why": "The rollout begins." },
                { "at": "2026-11-30T08:10:00Z", "why": "Promoted by jane." },
                { "at": "2026-11-30T08:10:00Z", "why": "A second decision." },
            ],
        })
    }

    #[test]
    fn the_acts_of_a_record_have_author_proof_and_result() {
        expect![[r#"
            TIME                  WHO               PROOF  SOURCE    ABOUT     ACT                                         RESULT
            2026-11-30T08:00:00Z  ci                key    /ci/shop  shop/web  request registry.example/web:2 (release 2)  The rollout begins.
            2026-11-30T08:10:00Z  jane@example.com  token  /cli      shop/web  promote --full (it is urgent)               Promoted by jane.
            2026-11-30T08:11:00Z  /chat             none   /chat     shop/web  approve release                             –
        "#]]
        .assert_eq(&list(&of_record(&record())));
    }

    #[test]
    fn a_refused_act_has_its_reason_as_the_result() {
        let event = json!({ "event": "commanded", "id": { "source": "/cli#user=jane", "id": "c1" },
            "command": { "scope": "prod/shop/Deployment/web", "verb": { "verb": "approve", "approval": "release" } } });
        let record = |result: &str, why: &str| {
            let refused = json!({ "at": "2026-11-30T08:00:00Z", "event": event, "result": result, "why": why });
            json!({ "schema": 1, "engine": "0.1.0", "scope": "prod/shop/Deployment/web", "refused": refused })
        };
        let acts = [record("refused", "jane has requested it herself"), record("ignored", "it is late")];
        let acts: Vec<Act> = acts.iter().flat_map(of_record).collect();
        expect![[r#"
            TIME                  WHO   PROOF  SOURCE  ABOUT     ACT              RESULT
            2026-11-30T08:00:00Z  jane  token  /cli    shop/web  approve release  refused: jane has requested it herself
            2026-11-30T08:00:00Z  jane  token  /cli    shop/web  approve release  ignored: it is late
        "#]]
        .assert_eq(&list(&acts));
        assert_eq!(acts[0].workload, "prod/shop/Deployment/web");
    }

    #[test]
    fn a_freeze_of_a_namespace_is_one_act_about_the_namespace() {
        let event = json!({ "event": "commanded", "id": { "source": "/cli", "id": "f1" },
            "command": { "scope": "prod/shop", "verb": { "verb": "freeze", "until": "2026-12-01T00:00:00Z" } } });
        let of = |name: &str| {
            let workload = format!("prod/shop/Deployment/{name}");
            json!({ "workload": workload, "inputs": [{ "at": "2026-11-30T08:00:00Z", "event": event }], "decisions": [] })
        };
        let mut acts: Vec<Act> = ["cart", "web"].iter().flat_map(|name| of_record(&of(name))).collect();
        each_once(&mut acts);
        let listed = list(&acts);
        assert!(acts.len() == 1 && listed.contains("prod/shop  freeze 2026-12-01T00:00:00Z"), "{listed}");
    }

    #[test]
    fn a_user_with_a_mark_in_the_name_stays_a_user() {
        let sender = Sender::of("/cli#user=eve#key=ci");
        assert_eq!((sender.who.as_str(), sender.proof, sender.source.as_str()), ("eve#key=ci", "token", "/cli"));
    }

    #[test]
    fn a_workload_is_found_by_each_of_its_spellings() {
        let key = "prod/shop/Deployment/web";
        for (wanted, is) in [("web", true), ("shop/web", true), (key, true), ("we", false), ("other/web", false)] {
            assert_eq!(is_workload(key, wanted), is, "{wanted}");
        }
    }

    #[test]
    fn the_inputs_of_this_version_are_read() {
        use bellwether_core::ids::EventId;
        use bellwether_core::input::command::{Command, Verb};
        use bellwether_core::input::event::{Event, Input};
        let event = Event::Commanded {
            id: EventId { source: "/cli#user=ann".to_owned(), id: "1".to_owned() },
            time: None,
            command: Command {
                scope: "prod/shop/Deployment/web".parse().unwrap(),
                verb: Verb::Approve { approval: Some("release".to_owned()) },
                rollout: None,
                reason: Some("tested".to_owned()),
            },
        };
        let input = Input { at: "2026-11-30T08:00:00Z".parse().unwrap(), sight: None, event };
        let record = json!({ "workload": "prod/shop/Deployment/web", "inputs": [input], "decisions": [] });
        let acts = of_record(&record);
        assert_eq!(acts.len(), 1, "{record}");
        assert_eq!((acts[0].who.as_str(), acts[0].act.as_str()), ("ann", "approve release"));
        assert_eq!(acts[0].reason.as_deref(), Some("tested"));
    }
}
