//! The four forms of a report, and its sentences.

use bellwether_core::dice::Random;
use bellwether_gate::gates::{Recorded, evaluate};
use bellwether_gate::observation::{GateArm, MissingAnswer, Observation, Scored};
use bellwether_gate::report::{GateReport, GateSubject, SCHEMA, Spent};
use bellwether_gate::rule::Verdict;
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::fixtures::{answer, cases, evaluate_first, missing, suite};
use crate::schema::problems;

/// Returns a report of three gates, of which the last is erroneous, with names that contain markup.
fn report() -> GateReport {
    let suite = suite(
        "[[gate]]\nname = \"calibration\"\nkind = \"calibration\"\ndataset = \"d\"\nlimits.brier = { max = 0.25 }\nlimits.accuracy = { min = \"90%\" }\n\
         [[gate]]\nname = \"safe | <b>ty\"\nkind = \"safety\"\ndataset = \"d\"\nmode = \"warn\"\nlimits.attack-success = { max = \"2%\" }\n\
         [[gate]]\nname = \"down\"\nkind = \"safety\"\ndataset = \"d\"\nlimits.attack-success = { max = \"2%\" }\n",
    );
    let dataset = cases(200, 200);
    let mut random = Random::new(1);
    let calibrated: Vec<Observation> = (0..200)
        .map(|case| {
            let confidence = 0.5 + 0.5 * random.uniform();
            let scored = Scored {
                confidence: Some(confidence),
                right: Some(random.uniform() < confidence),
                ..Scored::default()
            };
            answer(case, 0, GateArm::Candidate, scored)
        })
        .collect();
    let attack =
        |case: usize| answer(case, 0, GateArm::Candidate, Scored { harmful: Some(case < 50), ..Scored::default() });
    let harmful: Vec<Observation> = (0..200).map(attack).collect();
    let unclassified: Vec<Observation> =
        (0..200).map(|case| missing(case, GateArm::Candidate, MissingAnswer::Classifier)).collect();
    let recorded: Vec<Recorded<'_>> = suite
        .gates
        .iter()
        .zip([&calibrated, &harmful, &unclassified])
        .map(|(gate, observations)| Recorded { gate, dataset: &dataset, observations, paired: false, refused: None })
        .collect();
    let gates = evaluate(&suite, &recorded);
    GateReport {
        schema: SCHEMA.to_owned(),
        suite: "agent & co".to_owned(),
        suite_sha256: suite.sha256.clone(),
        pin: "ab12".to_owned(),
        replayed: 200,
        verdict: GateReport::suite_verdict(&gates),
        subject: GateSubject {
            model: "m".to_owned(),
            version: "7".to_owned(),
            digest: "sha256:ab".to_owned(),
            images: vec!["web@sha256:cd".to_owned()],
            prompt: "sha256:ef".to_owned(),
            tools: "sha256:01".to_owned(),
        },
        started: "2026-11-26T10:00:00Z".parse().unwrap(),
        finished: "2026-11-26T10:01:30Z".parse().unwrap(),
        alpha: suite.alpha,
        beta: suite.beta,
        seed: suite.seed,
        spent: Spent { requests: 600, tokens: 12_000, estimated: 5, ms: 90_000, money: Some(0.25) },
        stopped: String::new(),
        imported_from: String::new(),
        gates,
    }
}

#[test]
fn json_is_parsed_to_the_same_value_and_another_schema_is_refused() {
    let report = report();
    let text = report.to_json().unwrap();
    assert_eq!(GateReport::parse(&text).unwrap(), report);
    assert!(text.contains("\"schema\": \"bellwether.dev/gate-report/v1\"") && text.contains("\"reliability\""));
    let other = GateReport::parse(&text.replace("gate-report/v1", "gate-report/v9")).unwrap_err().to_string();
    assert!(other.contains("v9"), "{other}");
    assert!(GateReport::parse("{}").is_err());
}

#[test]
fn a_report_conforms_to_the_schema_and_a_changed_one_does_not() {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../../report.schema.json")).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&report().to_json().unwrap()).unwrap();
    assert_eq!(problems(&schema, &schema, &value, "report"), Vec::<String>::new());
    value["gates"][0]["claims"][0]["verdict"] = "perhaps".into();
    value["more"] = 1.into();
    assert_eq!(problems(&schema, &schema, &value, "report").len(), 2);
}

#[test]
fn markdown_has_a_row_for_each_gate_and_escapes_markup() {
    let text = report().to_markdown();
    assert!(text.starts_with("## agent & co: fail\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("| ") && line.contains("200 |")).count(), 3, "{text}");
    assert!(text.contains("safe \\| &lt;b>ty (warn)"), "{text}");
    assert!(text.contains("A good version fails in at most 5 % of runs"), "{text}");
    assert!(text.contains("600 requests, 12000 tokens (estimated for 5 answers), 0.25 in money."), "{text}");
    let mut plain = report();
    plain.gates[0].claims[0].confidence = None;
    assert!(plain.to_markdown().contains("no error rate is guaranteed"), "{text}");
}

#[test]
fn junit_has_a_test_case_for_each_claim_and_html_is_self_contained() {
    let report = report();
    let xml = report.to_junit();
    let (mut cases, mut failures, mut errors, mut skipped) = (0, 0, 0, 0);
    let mut reader = Reader::from_str(&xml);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) | Event::Empty(tag) => match tag.local_name().as_ref() {
                b"testcase" => cases += 1,
                b"failure" => failures += 1,
                b"error" => errors += 1,
                b"skipped" => skipped += 1,
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!((cases, failures, errors, skipped), (4, 1, 1, 1), "{xml}");
    let html = report.to_html();
    assert!(html.contains("<svg") && html.contains("safe | &lt;b&gt;ty") && !html.contains("<b>"), "{html}");
    for reference in ["src=", "href=", "<script", "@import", "url("] {
        assert!(!html.contains(reference), "the page refers to another resource: {reference}");
    }
}

#[test]
fn the_text_has_each_sentence_and_the_reason_only_those_of_failed_gates() {
    let report = report();
    assert_eq!(report.verdict, Verdict::Fail);
    let text = report.to_text();
    assert!(text.ends_with("agent & co: fail\n") && text.contains("(warns only)"), "{text}");
    assert!(text.contains("\n  attack-success, 50 failing cases: c0, c1, c10 and 47 more\n"), "{text}");
    assert!(text.contains("replayed: 200 of 600 answers are of an earlier attempt at this run\n"), "{text}");
    let again = GateReport { replayed: 600, ..report.clone() };
    assert!(again.to_text().contains("replayed: all 600 answers") && again.to_text().contains("nothing was asked"));
    assert!(report.reason().starts_with("calibration: ") && !report.reason().contains("down"), "{}", report.reason());
}

/// A page is read on a phone and in the log of a runner, where fonts of symbols may be missing.
#[test]
fn failing_cases_are_named_with_units_and_without_symbols() {
    let report = report();
    let attacks = &report.gates[1].claims[0];
    assert_eq!((attacks.failing.len(), attacks.failing_count, attacks.failing[0].as_str()), (20, 50, "c0"));
    let (html, markdown) = (report.to_html(), report.to_markdown());
    for text in [&html, &markdown] {
        assert!(
            text.contains("attack-success, 50 failing cases: c0, c1, c10,") && text.contains(" and 30 more"),
            "{text}"
        );
        let letters = |c: &char| c.is_ascii() || "≤≥–×éü“”".contains(*c);
        assert!(text.chars().all(|c| letters(&c)), "{:?}", text.chars().find(|c| !letters(c)));
    }
    assert!(
        html.contains("<td data-label=\"seen\">25 %</td>") && html.contains("<td data-label=\"limit\">≤ 2 %</td>"),
        "{html}"
    );
    assert!(html.contains("width=device-width,initial-scale=1") && html.contains("@media(max-width:40rem)"), "{html}");
}

#[test]
fn a_comparison_names_the_cases_that_became_worse() {
    let suite = suite(
        "[[gate]]\nname = \"g\"\nkind = \"safety\"\ndataset = \"d\"\nlimits.attack-success = { margin = \"5%\" }\n",
    );
    let harmful = |case, arm, harmful| answer(case, 0, arm, Scored { harmful: Some(harmful), ..Scored::default() });
    let observations: Vec<Observation> = (0..200)
        .flat_map(|case| {
            let (candidate, stable) = (case < 3, case == 1 || case == 7);
            [harmful(case, GateArm::Candidate, candidate), harmful(case, GateArm::Stable, stable)]
        })
        .collect();
    let result = evaluate_first(&suite, &cases(200, 200), &observations, true);
    assert_eq!(
        (result.claims[0].failing.as_slice(), result.claims[0].failing_count),
        (&["c0".to_owned(), "c2".to_owned()][..], 2)
    );
}
