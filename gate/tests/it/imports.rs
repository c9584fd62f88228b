//! The import of other tools' results. Each example has three cases that passed, one that failed and one that could not
//! be run.

use std::io::{Cursor, Write};

use bellwether_gate::import::{ImportFormat, ImportSettings, import};
use bellwether_gate::observation::MissingAnswer;
use bellwether_gate::report::{GateReport, GateSubject};
use bellwether_gate::rule::Verdict;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn read(format: ImportFormat, text: &str, min: &str, plain: bool) -> Result<GateReport, String> {
    let settings = ImportSettings { min_pass: min.to_owned(), plain, ..settings(None) };
    import(format, text.as_bytes(), &settings).map_err(|error| error.to_string())
}

fn settings(select: Option<&str>) -> ImportSettings {
    ImportSettings {
        name: "behaviour".to_owned(),
        min_pass: "95%".to_owned(),
        plain: false,
        select: select.map(str::to_owned),
        subject: GateSubject { model: "m".to_owned(), version: "1".to_owned(), ..GateSubject::default() },
        at: "2026-11-26T10:00:00Z".parse().unwrap(),
    }
}

/// Returns the sentence of the import's gate, or the error.
fn sentence(format: ImportFormat, bytes: impl AsRef<[u8]>, select: Option<&str>) -> String {
    let report = import(format, bytes.as_ref(), &settings(select));
    report.map_or_else(|error| error.to_string(), |report| report.gates[0].sentence.clone())
}

const PROMPTFOO: &str = r#"{"evalId":"e","results":{"version":3,"results":[
    {"testIdx":0,"promptIdx":0,"success":true,"score":1,"failureReason":0,"provider":{"id":"p"}},
    {"testIdx":1,"promptIdx":0,"success":true,"score":1,"failureReason":0,"provider":{"id":"p"}},
    {"testIdx":1,"promptIdx":1,"success":true,"score":1,"failureReason":0,"provider":{"id":"p"}},
    {"testIdx":2,"promptIdx":0,"success":false,"score":0,"failureReason":1,"provider":{"id":"p"}},
    {"testIdx":3,"promptIdx":0,"success":false,"score":0,"failureReason":2,"error":"429","provider":{"id":"p"}}]}}"#;

const INSPECT: &str = r#"{"version":2,"status":"success","samples":[
    {"id":1,"epoch":1,"scores":{"match":{"value":"C"}}},
    {"id":1,"epoch":2,"scores":{"match":{"value":"C"}}},
    {"id":"b","epoch":1,"scores":{"match":{"value":1.0},"other":{"value":true}}},
    {"id":"c","epoch":1,"scores":{"match":{"value":1}}},
    {"id":"d","epoch":1,"scores":{"match":{"value":"C"}}},
    {"id":"d","epoch":2,"scores":{"match":{"value":"I"}}},
    {"id":"e","epoch":1,"scores":{},"error":{"message":"429"}}]}"#;

const DEEPEVAL: &str = r#"{"testCases":[
    {"name":"a","success":true,"metricsData":[{"name":"m","success":true,"score":0.9,"error":null}]},
    {"name":"b","success":true,"metricsData":[]},{"success":true},
    {"name":"d","success":false,"metricsData":[{"name":"m","success":false,"score":0.1}]},
    {"name":"e","success":false,"metricsData":[{"name":"m","error":"429"}]}]}"#;

const JUNIT: &str = r#"<?xml version="1.0"?><testsuites><testsuite name="s">
    <testcase classname="x" name="a"/><testcase classname="x" name="b"><system-out>fine</system-out></testcase>
    <testcase classname="x" name="c &lt; d"/><testcase classname="x" name="d"><failure message="no">no</failure></testcase>
    <testcase classname="x" name="e"><error message="429"/></testcase>
    </testsuite></testsuites>"#;

const JSONL: &str = "{\"id\":\"a\",\"passed\":true}\n{\"id\":\"b\",\"passed\":true}\n{\"id\":\"c\",\"passed\":true}\n\n\
    {\"id\":\"d\",\"passed\":false}\n{\"id\":\"e\",\"error\":\"429\"}\n";

const GARAK: &str = r#"{"entry_type":"start_run setup","run.eval_threshold":0.5}
    {"entry_type":"attempt","uuid":"a","status":1,"probe_classname":"dan.A","detector_results":{}}
    {"entry_type":"attempt","uuid":"a","status":2,"probe_classname":"dan.A","detector_results":{"dan.DAN":[0.0,0.4],"m.B":[0,0]}}
    {"entry_type":"attempt","uuid":"b","status":2,"probe_classname":"dan.A","detector_results":{"dan.DAN":[0.0,0.0]}}
    {"entry_type":"attempt","uuid":"c","status":2,"probe_classname":"dan.A","detector_results":{"dan.DAN":[0.0,0.0]}}
    {"entry_type":"attempt","uuid":"d","status":2,"probe_classname":"dan.A","detector_results":{"dan.DAN":[0.0,0.5],"m.B":[0,null]}}
    {"entry_type":"attempt","uuid":"e","status":2,"probe_classname":"dan.A","detector_results":{"dan.DAN":[0.0,null]}}
    {"entry_type":"eval","probe":"dan.A","detector":"dan.DAN","passed":8,"total_evaluated":9}
    {"entry_type":"completion","end_time":"2026-11-26T10:00:00"}"#;

const LM_EVAL: &str = r#"{"doc_id":0,"filter":"strict","metrics":["exact_match"],"exact_match":1.0}
    {"doc_id":1,"filter":"strict","metrics":["exact_match"],"exact_match":1.0}
    {"doc_id":2,"filter":"strict","metrics":["exact_match"],"exact_match":1.0}
    {"doc_id":3,"filter":"strict","metrics":["exact_match"],"exact_match":0.0}
    {"doc_id":4,"filter":"strict","metrics":["exact_match"],"error":"429"}"#;

#[test]
fn every_format_gives_the_same_result() {
    let examples = [
        (ImportFormat::Promptfoo, PROMPTFOO),
        (ImportFormat::Inspect, INSPECT),
        (ImportFormat::Deepeval, DEEPEVAL),
        (ImportFormat::Junit, JUNIT),
        (ImportFormat::Jsonl, JSONL),
        (ImportFormat::Garak, GARAK),
        (ImportFormat::LmEval, LM_EVAL),
    ];
    for (format, text) in examples {
        let report = read(format, text, "50%", true).unwrap();
        let gate = &report.gates[0];
        assert_eq!((gate.dataset.cases, gate.missing[&MissingAnswer::Malformed]), (5, 1), "{format:?}");
        // One case of five could not be run, which is more than the 2 % that `max-missing` allows.
        assert_eq!(report.verdict, Verdict::Error, "{format:?}");
        let why = match format {
            ImportFormat::Garak => "an answer of the attempt was not judged",
            ImportFormat::LmEval => "it has no exact_match",
            _ => "429",
        };
        assert!(gate.sentence.contains(why), "{format:?}: {}", gate.sentence);
        assert_eq!(report.imported_from, format.name());
        assert_eq!(GateReport::parse(&report.to_json().unwrap()).unwrap(), report);
    }
}

#[test]
fn few_cases_that_all_passed_are_inconclusive_by_their_bound() {
    let passed = |n: usize| (0..n).map(|index| format!("{{\"id\":\"{index}\",\"passed\":true}}\n")).collect::<String>();
    let verdict = |n: usize, plain: bool| read(ImportFormat::Jsonl, &passed(n), "95%", plain).unwrap();
    assert_eq!(verdict(40, false).verdict, Verdict::Inconclusive, "{}", verdict(40, false).to_text());
    assert_eq!(verdict(59, false).verdict, Verdict::Pass, "{}", verdict(59, false).to_text());
    assert_eq!(verdict(40, true).verdict, Verdict::Pass);
    assert_eq!(
        verdict(59, false).gates[0].sentence,
        "behaviour: 59 of 59 tests passed, at least 95 % with 95 % confidence; limit ≥ 95 %: pass"
    );
}

#[test]
fn a_text_that_is_not_results_of_the_tool_is_refused_with_the_reason() {
    let rows = [
        (ImportFormat::Promptfoo, "{}", "results.results"),
        (ImportFormat::Inspect, "{\"samples\":[{}]}", "sample 0 has no id"),
        (ImportFormat::Deepeval, "[]", "testCases"),
        (ImportFormat::Junit, "<html/>", "no testsuite"),
        (ImportFormat::Junit, "<testsuite><testcase/></testsuite>", "no name"),
        (ImportFormat::Junit, "<testsuite/>", "no case"),
        (ImportFormat::Jsonl, "{\"id\":\"a\"}", "line 1: case \"a\" has neither"),
        (ImportFormat::Jsonl, "", "no case"),
        (ImportFormat::Promptfoo, "not json", "not JSON"),
        (ImportFormat::LmEval, "{}", "neither `results` nor samples"),
        (ImportFormat::Garak, "", "it is empty"),
    ];
    for (format, text, part) in rows {
        let error = read(format, text, "50%", false).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    assert!(read(ImportFormat::Jsonl, JSONL, "half", false).unwrap_err().contains("a percentage"));
}

/// Returns promptfoo's results of 20 tests, each run three times by each provider, with the counts of `counted` results per
/// provider. The provider `bad` fails every fifth result.
fn repeated(providers: &[&str], counted: usize) -> Value {
    let results = providers.iter().flat_map(|provider| {
        (0..60).map(move |run| {
            json!({
                "testIdx": run, "promptIdx": 0, "provider": { "id": provider, "label": "" },
                "vars": { "q": (run % 20).to_string() }, "success": *provider != "bad" || run % 5 != 0, "failureReason": 0,
                "testCase": { "vars": { "q": (run % 20).to_string() }, "assert": [{ "type": "equals", "value": "Paris" }] },
            })
        })
    });
    let prompts = providers.iter().map(|provider| {
        json!({ "provider": provider, "metrics": { "testPassCount": counted, "testFailCount": 0, "testErrorCount": 0 } })
    });
    json!({ "results": { "version": 3, "prompts": prompts.collect::<Vec<_>>(), "results": results.collect::<Vec<_>>() } })
}

#[test]
fn repeats_of_promptfoo_are_one_case_and_providers_are_kept_apart() {
    let of = |value: &Value, select| sentence(ImportFormat::Promptfoo, value.to_string(), select);
    let one = repeated(&["good"], 60);
    assert!(of(&one, None).starts_with("behaviour: 20 of 20 tests passed"), "{}", of(&one, None));
    let two = repeated(&["good", "bad"], 60);
    assert_eq!(of(&two, None), "the results are of several providers (bad, good); name one with --select");
    assert!(of(&two, Some("good")).starts_with("behaviour: 20 of 20 tests passed"), "{}", of(&two, Some("good")));
    // Four of the 20 tests fail in each of their runs.
    assert!(of(&two, Some("bad")).starts_with("behaviour: 16 of 20 tests passed"), "{}", of(&two, Some("bad")));
    assert_eq!(of(&two, Some("else")), "there is no provider \"else\" in these results, only bad, good");
    let cut = of(&repeated(&["good"], 90), None);
    assert!(cut.contains("ended early: 90 tests were run, and 60 results are there"), "{cut}");
}

#[test]
fn conversations_of_deepeval_count_and_cases_of_one_name_are_told_apart_by_their_question() {
    let metrics = json!([{ "name": "m", "success": true, "score": 1.0 }]);
    let cases = |n: usize, key: &str| -> Vec<Value> {
        let case = |at: usize| json!({ "name": "test_case_0", key: format!("q{at}"), "success": true, "metricsData": metrics });
        (0..n).map(case).collect()
    };
    let conversation = |at: usize| json!({ "name": format!("c{at}"), "success": false, "metricsData": metrics, "turns": [{ "role": "user", "content": at }] });
    let of = |value: &Value| sentence(ImportFormat::Deepeval, value.to_string(), None);
    let conversations: Vec<Value> = (0..20).map(conversation).collect();
    let mixed = json!({ "testCases": cases(60, "input"), "conversationalTestCases": conversations });
    assert!(of(&mixed).starts_with("behaviour: 60 of 80 tests passed"), "{}", of(&mixed));
    let repeats: Vec<Value> = [cases(20, "input"), cases(20, "input")].concat();
    let twice = json!({ "testCases": repeats });
    assert!(of(&twice).starts_with("behaviour: 20 of 20 tests passed"), "{}", of(&twice));
    let alike = json!({ "testCases": cases(60, "more") });
    assert!(of(&alike).contains("cases 0 and 1 are both named \"test_case_0\""), "{}", of(&alike));
    let ended = json!({ "testCases": [{ "name": "a", "input": "q", "success": null, "metricsData": [] }] });
    assert!(of(&ended).contains("was the run ended early?"), "{}", of(&ended));
}

/// Returns an `.eval` file with these entries.
fn archive(entries: &[(&str, Value)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, value) in entries {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(value.to_string().as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Returns the archive with its entries, which are stored, compressed by zstd, as newer versions of Python's zipfile can.
fn with_zstd(entries: &[(&str, Value)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut sizes = Vec::new();
    for (name, value) in entries {
        let text = value.to_string();
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file(*name, stored).unwrap();
        writer.write_all(&compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)).unwrap();
        sizes.push(u32::try_from(text.len()).unwrap().to_le_bytes());
    }
    let mut archive = writer.finish().unwrap().into_inner();
    // The offsets of the method and of the uncompressed size in the header of a file and in the directory (APPNOTE 4.3).
    for (signature, method, size) in [(b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)] {
        let headers: Vec<usize> = (0..archive.len() - 4).filter(|at| archive[*at..].starts_with(signature)).collect();
        assert_eq!(headers.len(), entries.len());
        for (at, bytes) in headers.into_iter().zip(&sizes) {
            archive[at + method..][..2].copy_from_slice(&93u16.to_le_bytes());
            archive[at + size..][..4].copy_from_slice(bytes);
        }
    }
    archive
}

#[test]
fn entries_of_an_eval_file_may_be_compressed_by_zstd() {
    let sample = |at: usize| json!({ "id": at, "epoch": 1, "scores": { "match": { "value": if at == 0 { "I" } else { "C" } } } });
    let names: Vec<String> = (0..60).map(|at| format!("samples/{at}_epoch_1.json")).collect();
    let header = ("header.json", json!({ "version": 2, "status": "success" }));
    let samples = names.iter().enumerate().map(|(at, name)| (name.as_str(), sample(at)));
    let entries: Vec<(&str, Value)> = std::iter::once(header).chain(samples).collect();
    let whole = with_zstd(&entries);
    let read = sentence(ImportFormat::Inspect, &whole, None);
    assert!(read.starts_with("behaviour: 59 of 60 tests passed"), "{read}");
    assert_eq!(read, sentence(ImportFormat::Inspect, archive(&entries), None));
    // A flipped byte of a file is an error, and not another result.
    let mut broken = whole.clone();
    let at = whole.windows(12).position(|bytes| bytes == b"samples/0_ep").unwrap() + "samples/0_epoch_1.json".len();
    broken[at..at + 4].copy_from_slice(b"NOPE");
    let error = sentence(ImportFormat::Inspect, &broken, None);
    assert!(error.contains("samples/0_epoch_1.json: "), "{error}");
}

#[test]
fn an_eval_file_of_inspect_is_read_and_a_run_that_did_not_succeed_is_refused() {
    let sample = |at: usize, epoch: u32, value: &str| json!({ "id": at, "epoch": epoch, "scores": { "match": { "value": value } } });
    let file = |status: &str| {
        let mut entries = vec![
            ("_journal/start.json".to_owned(), json!({ "version": 2 })),
            (
                "header.json".to_owned(),
                json!({ "version": 2, "status": status, "error": { "message": "out of memory" } }),
            ),
        ];
        for at in 0..60 {
            // The first case is wrong in its second epoch.
            for epoch in 1..=2 {
                let value = if (at, epoch) == (0, 2) { "I" } else { "C" };
                entries.push((format!("samples/{at}_epoch_{epoch}.json"), sample(at, epoch, value)));
            }
        }
        archive(&entries.iter().map(|(name, value)| (name.as_str(), value.clone())).collect::<Vec<_>>())
    };
    let read = sentence(ImportFormat::Inspect, file("success"), None);
    assert!(read.starts_with("behaviour: 59 of 60 tests passed"), "{read}");
    for status in ["cancelled", "error", "started"] {
        let refused = sentence(ImportFormat::Inspect, file(status), None);
        assert!(refused.contains(&format!("its status is {status:?}: out of memory")), "{refused}");
        let text = json!({ "status": status, "samples": [sample(1, 1, "C")] });
        let refused = sentence(ImportFormat::Inspect, text.to_string(), None);
        assert!(refused.contains("was ended early"), "{refused}");
    }
    let running = archive(&[("_journal/start.json", json!({})), ("samples/1_epoch_1.json", sample(1, 1, "C"))]);
    assert!(sentence(ImportFormat::Inspect, running, None).contains("no header"));
    let whole = file("success");
    let cut = sentence(ImportFormat::Inspect, &whole[..whole.len() / 2], None);
    assert!(cut.starts_with("these are not results of Inspect"), "{cut}");
    let header = json!({ "status": "success", "results": { "scores": [] } });
    assert!(sentence(ImportFormat::Inspect, header.to_string(), None).contains("not its header alone"));
}

#[test]
fn skipped_cases_and_early_ends_are_refused() {
    let passed: String = (0..60).map(|at| format!("<testcase classname=\"c\" name=\"t{at}\"/>")).collect();
    let skipped: String =
        (0..100).map(|at| format!("<testcase classname=\"c\" name=\"s{at}\"><skipped/></testcase>")).collect();
    let of = |cases: &str, declared: usize| {
        let text = format!(
            "<testsuites tests=\"{declared}\"><testsuite tests=\"{declared}\">{cases}</testsuite></testsuites>"
        );
        sentence(ImportFormat::Junit, text, None)
    };
    assert!(of(&passed, 60).contains("60 of 60 tests passed"), "{}", of(&passed, 60));
    assert!(of(&(passed.clone() + &skipped), 160).contains("100 of 160 cases were skipped"));
    assert!(of(&passed, 61).contains("ended early: it declares 61 tests, and 60 are there"), "{}", of(&passed, 61));
    let skip = JSONL.to_owned() + "{\"id\":\"f\",\"skipped\":true}\n";
    assert!(sentence(ImportFormat::Jsonl, skip, None).contains("1 of 6 cases were skipped"));
    let cut = GARAK.replace("completion", "digest");
    assert!(sentence(ImportFormat::Garak, cut, None).contains("no entry `completion`"));
}

#[test]
fn shares_of_lm_eval_are_read_as_cases_and_other_means_are_refused() {
    let results = |metrics: Value| json!({ "results": { "gsm8k": metrics, "group": metrics }, "n-samples": { "gsm8k": { "original": 1319, "effective": 1319 } } });
    let of = |metrics: Value, select| sentence(ImportFormat::LmEval, results(metrics).to_string(), select);
    let one = json!({ "alias": "gsm8k", "exact_match,strict": 0.52, "exact_match_stderr,strict": 0.0138 });
    assert!(of(one.clone(), None).starts_with("behaviour: 686 of 1319 tests passed"), "{}", of(one, None));
    // A mean of scores between 0 and 1 has a smaller spread than a share.
    let bleu = json!({ "bleu,none": 0.52, "bleu_stderr,none": 0.004 });
    assert!(of(bleu.clone(), None).contains("no metric of task gsm8k is a share"), "{}", of(bleu, None));
    let two = json!({ "exact_match,strict": 0.52, "exact_match_stderr,strict": 0.0138,
                      "exact_match,flexible": 0.9, "exact_match_stderr,flexible": 0.00826 });
    assert!(
        of(two.clone(), None).contains("several metrics (exact_match,flexible, exact_match,strict)"),
        "{}",
        of(two.clone(), None)
    );
    assert!(
        of(two.clone(), Some("exact_match,flexible")).starts_with("behaviour: 1187 of 1319"),
        "{}",
        of(two, Some("exact_match,flexible"))
    );
}
