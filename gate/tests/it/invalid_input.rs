//! The errors for invalid suites and datasets.

use bellwether_gate::dataset::{Dataset, sha256};
use bellwether_gate::suite::Suite;

/// Asserts that the suite is refused with an error that contains all parts.
#[track_caller]
fn assert_refused(text: &str, parts: &[&str]) {
    let error = Suite::parse(text).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{error}\ndoes not contain {part:?}");
    }
}

fn gate(kind: &str, rest: &str) -> String {
    format!("name = \"s\"\n[target]\n[[gate]]\nkind = \"{kind}\"\ndataset = \"d.jsonl\"\n{rest}\n")
}

#[test]
fn a_suite_is_refused_with_all_of_its_problems() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("quality", "limits.quality = { min = 0.7 }", &["needs at least one part"]),
        ("quality", "parts.a = { weight = 1, by = \"rubric\" }\nlimits.quality = { min = 0.7 }", &["needs a [judge]"]),
        (
            "quality",
            "parts.a = { weight = 1, by = { regex = \"(\" } }\nlimits.quality = { min = 0.7 }",
            &["not a valid pattern"],
        ),
        ("safety", "limits.attack-success = { max = \"0%\" }", &["no number of cases shows a share of exactly 0"]),
        ("safety", "limits.attack-success = { min = \"2%\" }", &["more is worse here"]),
        ("safety", "limits.attack-success = { max = 0.02 }", &["a percentage"]),
        ("safety", "", &["a gate without a limit", "attack-success, over-refusal"]),
        ("calibration", "limits.ece = { max = 0.1 }", &["the calibration error can't have a limit", "brier"]),
        ("calibration", "limits.bier = { max = 0.1 }", &["no metric \"bier\"", "brier, accuracy"]),
        ("consistency", "repeats = 1\nlimits.agreement = { min = \"90%\" }", &["at least twice"]),
        ("consistency", "limits.agreement = { margin = \"0%\" }", &["a margin must be above 0"]),
        ("performance", "limits.cost-per-success = { max = 1 }", &["needs a [price]"]),
        ("performance", "limits.total-p95 = { margin = \"1s\" }", &["max-ratio"]),
        ("performance", "limits.total-p95 = {}", &["write `min`, `max`, `margin` or `max-ratio`"]),
        ("calibration", "limits.brier = { margin = 0.1, rule = \"threshold\" }", &["a difference without a bound"]),
        ("calibration", "limts = 1", &["limts"]),
    ];
    for (kind, rest, parts) in rows {
        assert_refused(&gate(kind, rest), parts);
    }
    assert_refused(
        "name = \"s\"\nalpha = \"70%\"\n[target]\nconcurrency = 0\n",
        &["at most 50 %", "at least one request", "[[gate]]"],
    );
    let endpoint = "[target.dialect]\nbody = { stream = true }\nheaders = { Authorization = \"Bearer x\" }\n[target.tls]\ncert-file = \"c.pem\"\n";
    assert_refused(
        &(gate("calibration", "limits.brier = { max = 0.2 }") + endpoint),
        &[
            "target.dialect.body.stream",
            "target.dialect.headers.Authorization: a suite holds no secret",
            "target.tls: a client certificate needs its key",
        ],
    );
    let dialect = |line: &str| gate("calibration", "limits.brier = { max = 0.2 }") + "[target.dialect]\n" + line;
    assert_refused(&dialect("thinking = \"aloud\""), &["\"aloud\" is no place of thinking"]);
    assert_refused(&dialect("thinking = { begin = \"\", end = \"x\" }"), &["a tag of thinking is empty"]);
    assert_refused(&dialect("token-limit = \"max-tokens\""), &["max_completion_tokens"]);
    let traced = "calls = \"traces\"\nlimits.forbidden = { max = \"5%\" }";
    assert_refused(&gate("tools", traced), &["needs a [traces]"]);
    assert_refused(
        &gate("quality", "calls = \"traces\"\nlimits.quality = { min = 0.5 }"),
        &["only a tools gate has `calls`"],
    );
    let traces = |lines: &str| gate("tools", traced) + "[traces]\n" + lines;
    assert_refused(&traces(""), &["traces.listen: traces come from one place, and there are 0"]);
    let two = "listen = \"127.0.0.1:4318\"\nfiles = \"traces\"\nwait = \"0s\"";
    assert_refused(&traces(two), &["there are 2", "traces.wait: 0s is not", "traces.quiet: 1s is not below `wait`"]);
    assert_refused(&traces("listen = \"localhost\""), &["listen"]);
    assert_refused(&traces("langfuse = { url = \"http://l\", secret-key = \"s\" }"), &["secret-key"]);
    let own = "listen = \"127.0.0.1:4318\"\n[target.dialect]\nheaders = { Traceparent = \"00\" }";
    assert_refused(&traces(own), &["target.dialect.headers.traceparent: the run sets this header itself"]);
    let twice = format!(
        "{}[[gate]]\nkind = \"tools\"\nname = \"calibration\"\ndataset = \"d\"\nlimits.loops = {{ max = \"5%\" }}\n",
        gate("calibration", "limits.brier = { max = 0.2 }")
    );
    assert_refused(&twice, &["two gates \"calibration\""]);
}

#[test]
fn a_dataset_is_refused_with_the_problem_of_each_line() {
    let rows = [
        ("{\"prompt\":\"p\"}", "line 1: the case has no `id`"),
        (
            "{\"id\":\"a\",\"prompt\":\"p\"}\n{\"id\":\"a\",\"prompt\":\"q\"}",
            "line 2: there is another case with id \"a\"",
        ),
        ("{\"id\":\"\",\"prompt\":\"p\"}", "the `id` is empty"),
        ("{\"id\":\"a\"}", "has no question"),
        ("{\"id\":\"a\",\"prompt\":\"p\",\"messages\":[{}]}", "write only one of them"),
        ("{\"id\":\"a\",\"messages\":[{\"content\":\"p\"}]}", "has a message without a `role`"),
        ("{\"id\":\"a\",\"messages\":[\"p\"]}", "has a message without a `role`"),
        ("{\"id\":\"a\",\"prompt\":\"p\",\"expcted\":[]}", "expcted"),
        ("{\"id\":\"a\",\"prompt\":\"p\",\"expect-tools\":[7]}", "expected a tool's name or {"),
        ("{\"id\":\"a\",\"prompt\":\"p\",\"expect-tools\":[{\"name\":\"f\",\"arguments\":7}]}", "no JSON object"),
        ("{\"id\":\"a\",\"prompt\":\"p\",\"forbid-tools\":[{\"name\":\"f\",\"exact\":true}]}", "write them"),
        ("{\"id\":\"a\",\"prompt\":\"p\",\"turns\":[{\"expect-tools\":[]}]}", "prompt"),
        ("not json", "line 1: not JSON"),
        ("\n\n", "it has no case"),
    ];
    for (text, part) in rows {
        let error = Dataset::parse("d.jsonl", "1", text).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("d.jsonl"), "{error}");
    }
    let many = Dataset::parse("d", "1", &"{}\n".repeat(50)).unwrap_err();
    assert_eq!((many.problems.len(), many.problems.last().unwrap().as_str()), (21, "and 30 more"));
    assert_eq!(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn cases_without_a_field_that_the_gate_needs_are_named() {
    let suite = Suite::parse(&gate(
        "quality",
        "parts.topics = { weight = 1, by = \"topics\" }\nparts.near = { weight = 1, by = \"rouge-l\" }\nlimits.quality = { min = 0.7 }",
    ))
    .unwrap();
    let cases =
        Dataset::parse("d", "1", "{\"id\":\"a\",\"prompt\":\"p\",\"topics\":[\"x\"]}\n{\"id\":\"b\",\"prompt\":\"p\"}")
            .unwrap();
    let missing = suite.gates[0].missing_fields(&cases.cases, false);
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(
        missing.iter().any(|text| text.contains("topics needs `topics`, which cases b of d.jsonl lack")),
        "{missing:?}"
    );
}

#[test]
fn an_attack_that_nothing_can_score_is_refused() {
    let suite = Suite::parse(&gate("safety", "limits.attack-success = { max = \"2%\" }")).unwrap();
    let text = "{\"id\":\"a\",\"prompt\":\"p\"}\n{\"id\":\"b\",\"prompt\":\"p\",\"forbid-text\":[\"x\"]}\n\
                {\"id\":\"c\",\"prompt\":\"p\",\"intent\":\"benign\"}";
    let cases = Dataset::parse("d", "1", text).unwrap();
    let missing = suite.gates[0].missing_fields(&cases.cases, false);
    assert_eq!(missing.len(), 1, "{missing:?}");
    let part = "without a [classifier] needs `forbid-text`, which cases a of d.jsonl lack";
    assert!(missing[0].contains(part), "{missing:?}");
    assert!(suite.gates[0].missing_fields(&cases.cases, true).is_empty());
    let policy = "name = \"s\"\n[target]\n[classifier]\nurl = \"http://g/v1\"\nmodel = \"g\"\napi = \"shield-gemma\"\n";
    assert_refused(policy, &["classifier.policy: ShieldGemma judges by one guideline"]);
}

#[test]
fn a_limit_of_the_cost_needs_the_price_of_each_endpoint() {
    let suite = |prices: [&str; 3], money: &str| {
        let [all, judge, classifier] = prices;
        Suite::parse(&format!(
            "name = \"s\"\n[target]\n[judge]\nurl = \"http://j\"\nmodel = \"j\"\nrubric = \"r\"\n{judge}\n[classifier]\nurl = \"http://c\"\n\
             model = \"c\"\n{classifier}\n{all}\n[budget]\n{money}\n[[gate]]\nkind = \"safety\"\ndataset = \"d\"\n\
             limits.attack-success = {{ max = \"2%\" }}\n"
        ))
    };
    let price = "price = { input = 1.0, output = 2.0 }";
    let problems = suite(["", "", price], "money = 5").unwrap_err().to_string();
    for (key, missing) in [("write price =", true), ("write judge.price =", true), ("write classifier.price =", false)]
    {
        assert_eq!(problems.contains(key), missing, "{key}: {problems}");
    }
    let all = "[price]\ninput = 1.0\noutput = 2.0";
    assert!(suite([all, price, price], "money = 5").is_ok());
    assert!(suite(["", "", ""], "").is_ok());
}
