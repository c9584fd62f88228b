//! Exports and files, as agents and collectors send and write them.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_gate::observation::{GateArm, ObservationKey};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::agent::{BATCH, PARENT, SINGLES, TRACE, call_span, export};
use crate::gate::traces::files::FollowedFiles;
use crate::gate::traces::inspect::InspectLog;
use crate::gate::traces::otlp::{MAX_EXPORT, OtlpEncoding, OtlpError, decode, gunzip};
use crate::gate::traces::receiver::Receiver;
use crate::gate::traces::span::{RawSpan, TraceSpan, TracedCalls, calls};
use crate::gate::traces::store::TraceStore;

const LONG: Duration = Duration::from_secs(60);

fn read(spans: Vec<RawSpan>) -> TracedCalls {
    calls(&spans.into_iter().map(TraceSpan::read).collect::<Vec<_>>())
}

fn told(traced: &TracedCalls) -> Vec<(&str, Option<&str>)> {
    traced.calls.iter().map(|call| (call.name.as_str(), call.arguments.as_deref())).collect()
}

/// Reads spans that are given as JSON: id, parent, name, start and attributes.
fn spans(list: &[(&str, &str, &str, u64, Value)]) -> TracedCalls {
    let one = |(id, parent, name, start, attributes): &(&str, &str, &str, u64, Value)| RawSpan {
        trace: TRACE.to_owned(),
        id: (*id).to_owned(),
        parent: (*parent).to_owned(),
        name: (*name).to_owned(),
        start: *start,
        attributes: attributes.as_object().unwrap().clone().into_iter().collect(),
    };
    read(list.iter().map(one).collect())
}

/// The calls in the exports of the SDK for Python.
const RECORDED: [(&str, Option<&str>); 2] =
    [("find_order", Some(r#"{"number": "7"}"#)), ("refund", Some(r#"{"number": "7", "euros": 48}"#))];

#[test]
fn the_exports_of_a_real_sdk_are_read() {
    let batch = decode(&gunzip(BATCH).unwrap(), OtlpEncoding::Protobuf).unwrap();
    assert_eq!(batch.len(), 8);
    assert!(batch.iter().all(|span| span.trace == TRACE));
    assert_eq!(batch.iter().filter(|span| span.parent == PARENT).count(), 1);
    let singles: Vec<RawSpan> =
        SINGLES.iter().flat_map(|single| decode(single, OtlpEncoding::Protobuf).unwrap()).collect();
    for spans in [batch, singles.iter().rev().cloned().collect(), singles] {
        let traced = read(spans);
        assert_eq!(told(&traced), RECORDED);
        assert_eq!(traced.steps, Some(3));
    }
}

#[test]
fn json_is_read_as_senders_write_it() {
    let base64 = |hex: &str| {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        STANDARD.encode((0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>())
    };
    let span = |trace: String, id: String, start: Value, arguments: Value| {
        json!({ "resourceSpans": [{ "resource": {}, "scopeSpans": [{ "scope": null, "spans": [{
            "traceId": trace, "spanId": id, "parentSpanId": null, "name": "n", "kind": 1, "later": { "unknown": [1] },
            "startTimeUnixNano": start,
            "attributes": [
                { "key": "gen_ai.operation.name", "value": { "stringValue": "execute_tool" } },
                { "key": "gen_ai.tool.name", "value": { "stringValue": "refund" } },
                { "key": "gen_ai.tool.call.arguments", "value": arguments },
                { "key": "empty", "value": {} }, { "key": "none" },
            ] }] }] }] })
    };
    let structured = json!({ "kvlistValue": { "values": [
        { "key": "n", "value": { "intValue": "7" } }, { "key": "m", "value": { "intValue": 8 } },
        { "key": "of", "value": { "arrayValue": { "values": [{ "boolValue": true }, { "doubleValue": 0.5 }] } } } ] } });
    let text = json!({ "stringValue": "{\"n\":7,\"m\":8,\"of\":[true,0.5]}" });
    for (trace, id) in [
        (TRACE.to_uppercase(), PARENT.to_uppercase()),
        (TRACE.to_owned(), PARENT.to_owned()),
        (base64(TRACE), base64(PARENT)),
    ] {
        for (start, arguments) in
            [(json!("1544712660000000000"), &structured), (json!(1_544_712_660_000_000_000_u64), &text)]
        {
            let body = span(trace.clone(), id.clone(), start, arguments.clone()).to_string();
            let spans = decode(body.as_bytes(), OtlpEncoding::Json).unwrap();
            assert_eq!((spans[0].trace.as_str(), spans[0].id.as_str(), spans[0].parent.as_str()), (TRACE, PARENT, ""));
            assert_eq!(spans[0].start, 1_544_712_660_000_000_000);
            let arguments: Value = serde_json::from_str(read(spans).calls[0].arguments.as_ref().unwrap()).unwrap();
            assert_eq!(arguments, json!({ "n": 7, "m": 8, "of": [true, 0.5] }));
        }
    }
    assert!(decode(b"{}", OtlpEncoding::Json).unwrap().is_empty());
    for body in
        ["", "{\"resourceSpans\":7}", "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"traceId\":\"xyz\"}]}]}]}"]
    {
        assert!(matches!(decode(body.as_bytes(), OtlpEncoding::Json), Err(OtlpError::Malformed(_))), "{body}");
    }
    // Values within values without end are refused, and overflow no stack.
    let deep = format!("{}1{}", "{\"arrayValue\":{\"values\":[".repeat(100_000), "]}}".repeat(100_000));
    let body = format!(
        "{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{{\"attributes\":[{{\"value\":{deep}}}]}}]}}]}}]}}"
    );
    assert!(decode(body.as_bytes(), OtlpEncoding::Json).is_err());
    assert!(decode(&[0x0a, 0xff, 0xff, 0xff], OtlpEncoding::Protobuf).is_err());
    let bomb = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for _ in 0..=MAX_EXPORT >> 20 {
            gzip.write_all(&vec![b' '; 1 << 20]).unwrap();
        }
        gzip.finish().unwrap()
    };
    assert!(bomb.len() < 1_000_000);
    assert_eq!(gunzip(&bomb), Err(OtlpError::TooLarge));
    assert!(matches!(gunzip(b"plain"), Err(OtlpError::Malformed(_))));
}

#[test]
fn a_call_is_counted_once_whichever_convention_tells_it() {
    let tool = |name: &str| json!({ "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name });
    let rows = [
        (
            spans(&[(
                "1",
                "0",
                "x",
                1,
                json!({ "openinference.span.kind": "TOOL", "tool.name": "a", "input.value": "{}" }),
            )]),
            "a",
            Some("{}"),
        ),
        (
            spans(&[(
                "1",
                "0",
                "a",
                1,
                json!({ "langfuse.observation.type": "tool", "langfuse.observation.input": "{}" }),
            )]),
            "a",
            Some("{}"),
        ),
        (
            spans(&[("1", "0", "x", 1, json!({ "traceloop.span.kind": "tool", "traceloop.entity.name": "a" }))]),
            "a",
            None,
        ),
        (spans(&[("1", "0", "execute_tool a", 1, json!({ "gen_ai.operation.name": "execute_tool" }))]), "a", None),
        // The span of an MCP client within that of a framework.
        (
            spans(&[
                ("1", "0", "x", 1, tool("a")),
                ("2", "1", "POST", 2, json!({})),
                ("3", "2", "tools/call a", 3, tool("a")),
            ]),
            "a",
            None,
        ),
    ];
    for (traced, name, arguments) in rows {
        assert_eq!(told(&traced), [(name, arguments)]);
    }
    // A tool that calls another one makes two calls, and a circle of parents ends.
    assert_eq!(spans(&[("1", "0", "", 1, tool("a")), ("2", "1", "", 2, tool("b"))]).calls.len(), 2);
    assert_eq!(spans(&[("1", "2", "", 1, tool("a")), ("2", "1", "", 2, json!({}))]).calls.len(), 1);
    let asks = |parts: Value| json!({ "gen_ai.operation.name": "chat", "gen_ai.output.messages": json!([{ "role": "assistant", "parts": parts }]).to_string() });
    let part =
        |id: Value, name: &str, n: u32| json!({ "type": "tool_call", "id": id, "name": name, "arguments": { "n": n } });
    // Without spans of calls the answers of the model tell them.
    let asked = spans(&[(
        "1",
        "0",
        "",
        1,
        asks(json!([part(json!("c1"), "a", 1), part(json!(null), "b", 2), { "type": "text" }])),
    )]);
    assert_eq!(told(&asked), [("a", Some("{\"n\":1}")), ("b", Some("{\"n\":2}"))]);
    // With both, the same calls are told twice, by id or by arguments; what the span lacks is in the answer.
    let mut with_id = tool("a");
    with_id["gen_ai.tool.call.id"] = json!("c1");
    let both = spans(&[
        (
            "1",
            "0",
            "",
            1,
            asks(json!([part(json!("c1"), "a", 1), part(json!("c2"), "b", 2), part(json!("c3"), "b", 3)])),
        ),
        ("2", "0", "", 2, with_id),
        ("3", "0", "", 3, tool("b")),
    ]);
    assert_eq!(told(&both), [("b", Some("{\"n\":3}")), ("a", Some("{\"n\":1}")), ("b", Some("{\"n\":2}"))]);
    assert_eq!(both.steps, Some(1));
    // Arguments that are too large, or that are no JSON object, are not known, and never others than those of a pattern.
    let large = json!({ "x": "x".repeat(100_000) });
    for (recorded, known) in [
        (json!(large.to_string()), None),
        (large, None),
        (json!("{'number': '7'}"), None),
        (json!("7"), None),
        (json!("{\"args\":[\"7\"],\"kwargs\":{}}"), None),
        (json!("{\"args\":[],\"kwargs\":{\"number\":\"7\"}}"), Some("{\"number\":\"7\"}")),
        (json!({ "number": "7" }), Some("{\"number\":\"7\"}")),
    ] {
        let mut call = tool("a");
        call["gen_ai.tool.call.arguments"] = recorded;
        assert_eq!(told(&spans(&[("1", "0", "", 1, call)])), [("a", known)]);
    }
}

#[tokio::test]
async fn a_trace_is_whole_when_its_first_span_has_come_and_it_is_quiet() {
    let store = TraceStore::default();
    let key = ObservationKey { gate: "g".to_owned(), case: "c".to_owned(), repeat: 0, arm: GateArm::Candidate };
    let (quiet, short) = (Duration::from_secs(2), Duration::from_millis(10));
    let whole = async || store.whole(TRACE, quiet, Instant::now() + short, short).await;
    let single = |at: usize| decode(SINGLES[at], OtlpEncoding::Protobuf).unwrap();
    store.begin(TRACE, PARENT.to_owned());
    assert_eq!(whole().await.unwrap_err(), "no trace came within 0.01 s");
    store.add(single(2));
    assert_eq!(
        whole().await.unwrap_err(),
        "within 0.01 s a trace came with 1 spans and without its first one, whose parent is the request"
    );
    // The first span comes before others, some of them twice.
    let come = async {
        store.add(single(7));
        for at in [5, 4, 4, 2] {
            tokio::time::sleep(Duration::from_millis(50)).await;
            store.add(single(at));
        }
    };
    let (spans, ()) = tokio::join!(store.whole(TRACE, quiet, Instant::now() + LONG, LONG), come);
    assert_eq!(told(&calls(&spans.unwrap())), RECORDED);
    store.end(TRACE, &key);
    // A repeated call is no late one, and a span that is no call changes nothing.
    store.add([single(4), single(3)].concat());
    assert!(store.take_late().is_empty());
    store.add(decode(&export(&[call_span(TRACE, "9999999999999999", "drop")]), OtlpEncoding::Json).unwrap());
    assert_eq!(store.take_late().into_iter().collect::<Vec<_>>(), [key]);
    // Traces of others are not kept.
    store.add(single(7));
    assert!(store.so_far(TRACE).is_empty());
}

#[tokio::test]
async fn the_receiver_answers_in_the_encoding_of_the_export_and_bounds_it() {
    let store = Arc::new(TraceStore::default());
    let receiver = Receiver::open("127.0.0.1:0".parse().unwrap(), store.clone()).await.unwrap();
    let taken = Receiver::open(receiver.address, store.clone()).await;
    assert!(taken.is_err(), "an address that is in use is refused");
    crate::tls::install();
    let http = reqwest::Client::new();
    let url = format!("http://{}/v1/traces", receiver.address);
    let (protobuf, json) = ("application/x-protobuf", "application/json; charset=utf-8");
    let many = vec![b' '; MAX_EXPORT + 1];
    let rows: [(&str, &str, &[u8], u16, &str); 9] = [
        (protobuf, "gzip", BATCH, 200, ""),
        (protobuf, "", SINGLES[7], 200, ""),
        (json, "", b"{}", 200, "{}"),
        (protobuf, "", b"{}", 400, "not an export of traces"),
        (json, "", b"[", 400, "not an export of traces"),
        (json, "gzip", b"{}", 400, "not an export of traces"),
        (json, "", &many, 413, "smaller batches"),
        ("text/plain", "", b"{}", 415, "application/x-protobuf or application/json"),
        (json, "zstd", b"{}", 415, "compress with gzip"),
    ];
    store.begin(TRACE, PARENT.to_owned());
    for (media_type, compression, body, status, says) in rows {
        let mut request = http.post(&url).header("content-type", media_type).body(body.to_vec());
        if !compression.is_empty() {
            request = request.header("content-encoding", compression);
        }
        let answer = request.send().await.unwrap();
        let of = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(answer.status().as_u16(), status, "{media_type} {compression}");
        assert!(media_type.starts_with(&of) || status == 415, "{of}");
        let text = String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned();
        assert!(text.contains(says), "{text}");
    }
    let spans = store.whole(TRACE, Duration::ZERO, Instant::now() + LONG, LONG).await.unwrap();
    // The first span of both recordings, and all others of the batch.
    assert_eq!(spans.len(), 9);
}

#[tokio::test]
async fn files_are_followed_while_another_program_writes_them() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(TraceStore::default());
    store.begin(TRACE, PARENT.to_owned());
    let _followed = FollowedFiles::open(directory.path().to_owned(), store.clone());
    let path = directory.path().join("traces.jsonl");
    let first =
        export(&[json!({ "traceId": TRACE, "spanId": "0000000000000001", "parentSpanId": PARENT, "name": "answer" })]);
    let call = export(&[call_span(TRACE, "0000000000000002", "refund")]);
    let line = |bytes: &[u8]| [bytes, b"\n"].concat();
    std::fs::write(directory.path().join("notes.txt"), "no traces").unwrap();
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"no export\n").unwrap();
    file.write_all(&line(&call)[..40]).unwrap();
    file.sync_all().unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(store.so_far(TRACE).is_empty(), "half a line is no export");
    file.write_all(&line(&call)[40..]).unwrap();
    file.write_all(&line(&export(&[call_span("ffffffffffffffffffffffffffffffff", "0000000000000003", "drop")])))
        .unwrap();
    let until = Instant::now() + LONG;
    while store.so_far(TRACE).is_empty() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.so_far(TRACE).len(), 1);
    // The file is rotated: the old one gets another name, and the new one is shorter. Its last line has no end.
    std::fs::rename(&path, directory.path().join("traces-1.jsonl")).unwrap();
    std::fs::write(&path, &first).unwrap();
    let spans = store.whole(TRACE, Duration::ZERO, Instant::now() + LONG, LONG).await.unwrap();
    assert_eq!(told(&calls(&spans)), [("refund", Some("{\"number\":\"7\"}"))]);
}

#[test]
fn a_recorded_task_has_the_turns_and_calls_of_its_sample() {
    let call = |name: &str| json!({ "id": "c", "function": name, "arguments": { "n": 7 }, "type": "function" });
    let log = json!({ "status": "success", "samples": [
        { "id": "refund", "epoch": 2, "messages": [
            { "role": "system", "content": "s" },
            { "role": "user", "content": "Pay order 7 back." },
            { "role": "assistant", "content": "", "tool_calls": [call("find"), call("refund")] },
            { "role": "tool", "content": "done", "tool_call_id": "c" },
            { "role": "assistant", "content": [{ "type": "text", "text": "Done." }] },
            { "role": "user", "content": "Thanks." },
            { "role": "assistant", "content": "Welcome.", "tool_calls": null },
        ] },
        { "id": 7, "epoch": 1, "messages": [], "error": { "message": "secret prompt" } },
    ] });
    let log = InspectLog::parse(log.to_string().as_bytes()).unwrap();
    let task = log.task("refund", 1).unwrap();
    let turns: Vec<_> =
        task.turns.iter().map(|turn| (turn.calls.len(), turn.steps, turn.text.as_str(), turn.ended)).collect();
    assert_eq!(turns, [(2, 2, "Done.", true), (0, 1, "Welcome.", true)]);
    assert_eq!(task.turns[0].calls[1].arguments.as_deref(), Some("{\"n\":7}"));
    assert_eq!(log.task("7", 0).unwrap().error.as_deref(), Some("the sample ended with an error"));
    assert!(log.task("refund", 0).is_none());
    let broken = json!({ "status": "error", "samples": [] }).to_string();
    assert!(InspectLog::parse(broken.as_bytes()).unwrap_err().contains("status is \"error\""));
    let twice = json!({ "samples": [{ "id": "a" }, { "id": "a" }] }).to_string();
    assert!(InspectLog::parse(twice.as_bytes()).unwrap_err().contains("two samples \"a\""));
}
