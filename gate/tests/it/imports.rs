//! The import of other tools' results. Each example has three cases that passed, one that failed and one that could not
//! be run; two formats have a skipped case as well.

use bellwether_gate::import::{ImportFormat, ImportSettings, import};
use bellwether_gate::observation::MissingAnswer;
use bellwether_gate::report::{GateReport, GateSubject};
use bellwether_gate::rule::Verdict;

fn read(format: ImportFormat, text: &str, min: &str, plain: bool) -> Result<GateReport, String> {
    let settings = ImportSettings {
        name: "behaviour".to_owned(),
        min_pass: min.to_owned(),
        plain,
        subject: GateSubject { model: "m".to_owned(), version: "1".to_owned(), digest: "sha256:ab".to_owned() },
        at: "2026-11-26T10:00:00Z".parse().unwrap(),
    };
    import(format, text, &settings).map_err(|error| error.to_string())
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
    <testcase classname="x" name="e"><error message="429"/></testcase><testcase name="f"><skipped/></testcase>
    </testsuite></testsuites>"#;

const JSONL: &str = "{\"id\":\"a\",\"passed\":true}\n{\"id\":\"b\",\"passed\":true}\n{\"id\":\"c\",\"passed\":true}\n\n\
    {\"id\":\"d\",\"passed\":false}\n{\"id\":\"e\",\"error\":\"429\"}\n{\"id\":\"f\",\"skipped\":true}\n";

#[test]
fn every_format_gives_the_same_result() {
    let examples = [
        (ImportFormat::Promptfoo, PROMPTFOO),
        (ImportFormat::Inspect, INSPECT),
        (ImportFormat::Deepeval, DEEPEVAL),
        (ImportFormat::Junit, JUNIT),
        (ImportFormat::Jsonl, JSONL),
    ];
    for (format, text) in examples {
        let report = read(format, text, "50%", true).unwrap();
        let gate = &report.gates[0];
        assert_eq!((gate.dataset.cases, gate.missing[&MissingAnswer::Malformed]), (5, 1), "{format:?}");
        // One case of five could not be run, which is more than the 2 % that `max-missing` allows.
        assert_eq!(report.verdict, Verdict::Error, "{format:?}");
        assert!(gate.sentence.contains("429"), "{format:?}: {}", gate.sentence);
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
    ];
    for (format, text, part) in rows {
        let error = read(format, text, "50%", false).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    assert!(read(ImportFormat::Jsonl, JSONL, "half", false).unwrap_err().contains("a percentage"));
}
