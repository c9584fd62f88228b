//! Other tools' results, each in its own form: three that passed, one that failed, one that could not be run, one left out.

use bellwether_gate::import::{From, Wanted, import};
use bellwether_gate::observation::Missing;
use bellwether_gate::report::{Report, Subject};
use bellwether_gate::rule::Verdict;

fn read(from: From, text: &str, min: &str, plain: bool) -> Result<Report, String> {
    let wanted = Wanted {
        name: "behaviour".to_owned(),
        min_pass: min.to_owned(),
        plain,
        subject: Subject { model: "m".to_owned(), version: "1".to_owned(), digest: "sha256:ab".to_owned() },
        at: "2026-11-26T10:00:00Z".parse().unwrap(),
    };
    import(from, text, &wanted).map_err(|error| error.to_string())
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
fn all_forms_come_to_the_same() {
    let forms = [
        (From::Promptfoo, PROMPTFOO),
        (From::Inspect, INSPECT),
        (From::Deepeval, DEEPEVAL),
        (From::Junit, JUNIT),
        (From::Jsonl, JSONL),
    ];
    for (from, text) in forms {
        let report = read(from, text, "50%", true).unwrap();
        let gate = &report.gates[0];
        assert_eq!((gate.dataset.cases, gate.missing[&Missing::Malformed]), (5, 1), "{from:?}");
        // One of five that could not be run is more than 2 %.
        assert_eq!(report.verdict, Verdict::Error, "{from:?}");
        assert!(gate.sentence.contains("429"), "{from:?}: {}", gate.sentence);
        assert_eq!(report.imported_from, from.name());
        assert_eq!(Report::parse(&report.to_json().unwrap()).unwrap(), report);
    }
}

#[test]
fn a_handful_that_all_passed_is_inconclusive_by_its_bound() {
    let passed = |n: usize| (0..n).map(|at| format!("{{\"id\":\"{at}\",\"passed\":true}}\n")).collect::<String>();
    let verdict = |n: usize, plain: bool| read(From::Jsonl, &passed(n), "95%", plain).unwrap();
    assert_eq!(verdict(40, false).verdict, Verdict::Inconclusive, "{}", verdict(40, false).to_text());
    assert_eq!(verdict(59, false).verdict, Verdict::Pass, "{}", verdict(59, false).to_text());
    assert_eq!(verdict(40, true).verdict, Verdict::Pass);
    assert_eq!(
        verdict(59, false).gates[0].sentence,
        "behaviour: 59 of 59 tests passed, at least 95 % with 95 % confidence; limit ≥ 95 %: pass"
    );
}

#[test]
fn what_is_not_a_tools_is_said_so() {
    let rows = [
        (From::Promptfoo, "{}", "results.results"),
        (From::Inspect, "{\"samples\":[{}]}", "sample 0 has no id"),
        (From::Deepeval, "[]", "testCases"),
        (From::Junit, "<html/>", "no testsuite"),
        (From::Junit, "<testsuite><testcase/></testsuite>", "no name"),
        (From::Junit, "<testsuite/>", "no case"),
        (From::Jsonl, "{\"id\":\"a\"}", "line 1: case \"a\" has neither"),
        (From::Jsonl, "", "no case"),
        (From::Promptfoo, "not json", "not JSON"),
    ];
    for (from, text, part) in rows {
        let error = read(from, text, "50%", false).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    assert!(read(From::Jsonl, JSONL, "half", false).unwrap_err().contains("a percentage"));
}
