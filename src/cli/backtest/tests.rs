//! The reading of recordings, and the printed tables.

use bellwether_core::engine::record::{AUDIT_SCHEMA, AuditRecord};
use bellwether_core::ids::{EventId, RolloutId, Weight, Workload};
use bellwether_core::input::event::{Event, Input};
use bellwether_core::measure::block::{Reading, Sample};
use bellwether_core::rollout::decision::{Decision, DecisionKind};
use bellwether_core::rollout::phase::Phase;
use bellwether_core::rollout::reason::Reason;
use bellwether_core::time::Timestamp;
use expect_test::expect;

use super::*;

fn lines(blocks: usize, errors: impl Fn(usize) -> u64) -> Vec<Vec<u8>> {
    let at = |n: usize| Timestamp::from_second(15 * i64::try_from(n).unwrap()).unwrap();
    let ratio = |hits| Some(Reading::Ratio { hits, total: 1000 });
    let block = |n: usize| {
        let sample = Sample::Arms { canary: ratio(errors(n)), stable: ratio(1) };
        Block::new(at(n), at(n + 1), BTreeMap::from([("error-rate".to_owned(), sample)]))
    };
    (0..blocks).map(|n| serde_json::to_vec(&block(n)).unwrap()).collect()
}

fn args(import: Vec<PathBuf>, same: Option<Same>) -> BacktestArgs {
    BacktestArgs {
        file: None,
        policy: None,
        workload: None,
        over: None,
        to: None,
        import,
        query: Vec::new(),
        same,
        stretch: None,
    }
}

const POLICY: &str = r#"
    [metric.error-rate]
    kind = "ratio"
    series = "requests_total"
    hits = { label = "code", matches = "5.." }
    [[policy]]
    name = "shop"
    match = { namespaces = ["*"], workloads = ["*"], images = ["*"] }
    check = [{ metric = "error-rate", judge = "sequential", max = "1%" }]
    step = [{ weight = "10%", min-time = "10m" }]
"#;

/// Runs a backtest of a recording, and returns the printed tables.
fn backtest(lines: &[Vec<u8>], args: &BacktestArgs) -> anyhow::Result<String> {
    let config = config::of_text(POLICY);
    let tested = cases(lines)?.into_iter().map(|case| test(case, args, &config)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(render(&tested))
}

#[test]
fn each_judge_prints_its_decision_time_and_reason() {
    let text = backtest(&lines(120, |n| if n < 8 { 1 } else { 30 }), &args(Vec::new(), None)).unwrap();
    expect![[r#"
        the recorded blocks
        JUDGE               DECISION     AFTER   REASON
        shop                rolled back  2m 30s  error-rate 0.68 % > 1.25 times the stable's 0.1 % (68 of 10000 requests in 2m 30s against 10 of 10000; evidence 4609, needs 100 at 1 %, not calibrated)
        the article's rule  promoted     15m     the analysis ended without too many failures
        Argo Rollouts       rolled back  6m      success-rate failed 4 times, 3 are allowed; the last answer was 0.97
        Flagger             rolled back  8m      request-success-rate failed 5 times, 5 are allowed; the last answer was 97
        Kayenta             rolled back  30m     the score was 0, at least 95 is required
    "#]].assert_eq(&text);
}

#[test]
fn false_alarms_are_counted_with_their_bound() {
    let text = backtest(&lines(400, |_| 1), &args(Vec::new(), Some(Same::Arms))).unwrap();
    expect![[r#"
        the recorded blocks
        JUDGE               ROLLED BACK  AT MOST (95 %)  UNDECIDED  FIRST FALSE ALARM
        shop                0 of 10      25.9 %          0          –
        the article's rule  0 of 10      25.9 %          10         –
        Argo Rollouts       0 of 10      25.9 %          0          –
        Flagger             0 of 10      25.9 %          0          –
        Kayenta             0 of 10      25.9 %          0          –
    "#]]
    .assert_eq(&text);
    let error = backtest(&lines(400, |_| 1), &args(Vec::new(), Some(Same::Pods))).unwrap_err().to_string();
    assert!(error.contains("no block has the counts of two single pods of the stable"), "{error}");
}

#[test]
fn a_flagger_canary_is_imported_from_yaml() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("canary.yaml");
    let canary = "kind: Canary\nmetadata: { name: web }\nspec:\n  analysis:\n    interval: 1m\n    threshold: 2\n    \
                  stepWeight: 5\n    maxWeight: 50\n    metrics:\n    - name: request-success-rate\n      \
                  thresholdRange: { min: 99 }\n";
    std::fs::write(&file, canary).unwrap();
    let text = backtest(&lines(120, |_| 30), &args(vec![file.clone()], None)).unwrap();
    assert!(text.contains("Flagger web  rolled back  3m"), "{text}");
    std::fs::write(&file, "kind: Rollout\nspec: {}\n").unwrap();
    let error = format!("{:#}", backtest(&lines(9, |_| 0), &args(vec![file], None)).unwrap_err());
    assert!(error.contains("give a manifest of kind"), "{error}");
}

#[test]
fn an_invalid_line_is_reported_by_its_number() {
    let mut bad = lines(3, |_| 0);
    bad.push(br#"{"x": 1}"#.to_vec());
    let error = |lines: &[Vec<u8>]| format!("{:#}", cases(lines).unwrap_err());
    assert!(error(&bad).contains("line 4 is neither a block"), "{}", error(&bad));
    bad[3] = bad[0].clone();
    assert!(error(&bad).contains("line 4: this block begins at 1970-01-01T00:00:00Z, before"), "{}", error(&bad));
    bad[3] = b"nonsense".to_vec();
    assert!(error(&bad).contains("line 4 is not JSON"), "{}", error(&bad));
}

#[test]
fn a_query_argument_has_a_metric_a_form_and_a_window() {
    let mapping: MetricMapping = "rate=error-rate:success:5m".parse().unwrap();
    assert_eq!(mapping.query.form, Form::Success);
    assert_eq!((mapping.name.as_str(), mapping.query.window), ("rate", Span::from_secs(300)));
    assert!("rate".parse::<MetricMapping>().unwrap_err().contains("NAME=METRIC"));
    assert!("rate=a:b".parse::<MetricMapping>().unwrap_err().contains("\"b\" is not a form"));
}

/// Two rollouts of one workload. The block before the first start belongs to no case, and the block after the promotion to
/// the guard.
#[test]
fn records_of_decisions_become_one_case_per_rollout_with_its_recorded_decision() {
    let at = |n: i64| Timestamp::from_second(15 * n).unwrap();
    let workload: Workload = "c/shop/Deployment/web".parse().unwrap();
    let event = |id: &str| EventId { source: "ci".to_owned(), id: id.to_owned() };
    let sample = Sample::Arms { canary: Some(Reading::Ratio { hits: 0, total: 1 }), stable: None };
    let measured = |n: i64| Event::Measured {
        workload: workload.clone(),
        block: Block::new(at(n), at(n + 1), BTreeMap::from([("error-rate".to_owned(), sample.clone())])),
    };
    let decision = |kind, id| Decision {
        rollout: RolloutId::of(&workload, &event(id)),
        workload: workload.clone(),
        n: 0,
        at: at(9),
        kind,
        from: Phase::Stepping,
        to: Phase::Promoting,
        step: 0,
        weight: Weight::FULL,
        ending: None,
        cause: None,
        observed_only: false,
        reason: Reason::Recovered,
        why: "all is well".to_owned(),
    };
    let record = |n, events: Vec<Event>, decisions: Vec<Decision>| {
        let inputs = events.into_iter().map(|event| Input { at: at(n), sight: None, event }).collect();
        let n = u64::try_from(n).unwrap();
        let (engine, workload) = ("0".to_owned(), workload.clone());
        let record = AuditRecord {
            schema: AUDIT_SCHEMA,
            engine,
            workload,
            n,
            basis: None,
            policies: Vec::new(),
            inputs,
            decisions,
        };
        serde_json::to_vec(&record).unwrap()
    };
    let lines = [
        record(0, vec![measured(0)], Vec::new()),
        record(1, Vec::new(), vec![decision(DecisionKind::Start, "1")]),
        record(2, vec![measured(1)], vec![decision(DecisionKind::Advance, "1")]),
        // A refused request of another rollout does not end the first.
        record(3, vec![measured(2)], vec![decision(DecisionKind::Refuse, "0"), decision(DecisionKind::Promote, "1")]),
        record(4, vec![measured(3)], vec![decision(DecisionKind::Finish, "1")]),
        record(5, Vec::new(), vec![decision(DecisionKind::Start, "2")]),
        record(6, vec![measured(4)], Vec::new()),
    ];
    let cases = cases(&lines).unwrap();
    let begins: Vec<Vec<Timestamp>> =
        cases.iter().map(|case| case.blocks.iter().map(|block| block.from).collect()).collect();
    assert_eq!(begins, [vec![at(1), at(2)], vec![at(4)]]);
    assert_eq!(cases[0].recorded.as_deref(), Some("promote at 1970-01-01T00:02:15Z: all is well"));
    assert_eq!((cases[0].workload.as_ref(), cases[1].recorded.as_ref()), (Some(&workload), None));
}
