//! Backtests of a policy and of other tools' rules, on good and on bad recordings.

use std::collections::BTreeMap;

use bellwether_core::dice::Random;
use bellwether_core::measure::block::{Block, Gap, Reading, Sample};
use bellwether_core::policy::Policy;
use bellwether_core::time::{Span, Timestamp};
use bellwether_lab::backtest::alarms::{FalseAlarms, false_alarms, one_pod_as_canary};
use bellwether_lab::backtest::rival::Rival;
use bellwether_lab::backtest::{BacktestJudge, Judged, Unfit, length};
use bellwether_lab::rivals::RivalEnd;
use bellwether_lab::rivals::recording::{Form, RecordedQuery};
use serde_json::json;

use bellwether_sim::story::policy;

const HOUR: Span = Span::from_secs(3600);
const STRETCH: Span = Span::from_secs(900);

/// Returns recorded blocks with 1000 requests per arm. `errors` has the errors of canary and stable by block, or `None`
/// for a gap. The stable has two pods, each with half of its requests and errors.
fn recorded(errors: impl Fn(usize) -> Option<(u64, u64)>, blocks: usize) -> Vec<Block> {
    let at = |n: usize| Timestamp::from_second(15 * n as i64).unwrap();
    let ratio = |hits: u64| Reading::Ratio { hits, total: 1000 };
    (0..blocks)
        .map(|n| {
            let sample = match errors(n) {
                Some((canary, stable)) => Sample::Arms { canary: Some(ratio(canary)), stable: Some(ratio(stable)) },
                None => Sample::Gap(Gap::Unanswered { error: "refused".to_owned() }),
            };
            let mut block = Block::new(at(n), at(n + 1), BTreeMap::from([("error-rate".to_owned(), sample)]));
            if let Some((_, stable)) = errors(n) {
                let pod = |hits| Reading::Ratio { hits, total: 500 };
                let pods = vec![pod(stable / 2), pod(stable - stable / 2)];
                block.processes.insert("error-rate".to_owned(), pods);
            }
            block
        })
        .collect()
}

fn ours() -> Policy {
    policy(json!({
        "step": [{ "weight": "10%", "min-time": "5m" }, { "weight": "50%", "min-time": "10m" }],
        "check": [{ "metric": "error-rate", "judge": "sequential", "max": "3%" }, { "metric": "availability", "min": "90%" }],
    }))
}

fn judged(blocks: &[Block]) -> BTreeMap<String, Judged> {
    let rivals = Rival::usual("error-rate", length(blocks)).into_iter().map(BacktestJudge::Theirs);
    let all = [BacktestJudge::Ours(Box::new(ours()))].into_iter().chain(rivals);
    all.map(|judge| judge.fit(blocks).unwrap().judge(blocks, &[]).unwrap())
        .map(|judged| (judged.who.clone(), judged))
        .collect()
}

fn ends(judged: &BTreeMap<String, Judged>) -> Vec<(&str, Option<RivalEnd>, u64)> {
    judged.values().map(|one| (one.who.as_str(), one.end, one.after.as_millis() / 1000)).collect()
}

const PROMOTED: Option<RivalEnd> = Some(RivalEnd::Promoted);
const ROLLED_BACK: Option<RivalEnd> = Some(RivalEnd::RolledBack);

#[test]
fn a_good_version_is_promoted_by_each_judge_at_its_own_end() {
    let judged = judged(&recorded(|n| Some((n as u64 % 3, n as u64 % 3)), 240));
    assert_eq!(
        ends(&judged),
        [
            ("Argo Rollouts", PROMOTED, 3600),
            ("Flagger", PROMOTED, 300),
            ("Kayenta", PROMOTED, 3600),
            ("test", PROMOTED, 900),
            ("the article's rule", PROMOTED, 900),
        ]
    );
    assert!(judged["test"].why.starts_with("error-rate 0.1 % is shown to be ≤"), "{}", judged["test"].why);
}

/// The canary's errors rise from 0.4 % to 2 % in the tenth minute. Flagger has promoted by then, and 2 % is below the
/// article's limit.
#[test]
fn a_late_fault_is_rolled_back_by_judges_that_still_run_and_have_a_lower_limit() {
    let judged = judged(&recorded(|n| Some((if n < 40 { 4 } else { 20 }, 4)), 240));
    let end = |who: &str| judged[who].end;
    assert_eq!((end("test"), end("Argo Rollouts"), end("Kayenta")), (ROLLED_BACK, ROLLED_BACK, ROLLED_BACK));
    assert_eq!((end("Flagger"), end("the article's rule")), (PROMOTED, PROMOTED));
    let ours = &judged["test"];
    assert!(ours.after > Span::from_secs(600) && ours.after < Span::from_secs(700), "{ours}");
    assert!(ours.to_string().starts_with("test: rolled back after 10m"), "{ours}");
    assert!(ours.why.contains("times the stable's"), "{ours}");
}

#[test]
fn an_outage_holds_a_policy_and_ends_two_of_the_other_rules() {
    let judged = judged(&recorded(|n| if (12..80).contains(&n) { None } else { Some((1, 1)) }, 100));
    assert_eq!(judged["the article's rule"].end, ROLLED_BACK);
    assert_eq!(judged["Argo Rollouts"].end, ROLLED_BACK);
    assert!(judged["Argo Rollouts"].why.contains("could not be queried"), "{}", judged["Argo Rollouts"]);
    let short = recorded(|n| if n < 12 { Some((1, 1)) } else { None }, 100);
    let held = BacktestJudge::Ours(Box::new(ours())).fit(&short).unwrap().judge(&short, &[]).unwrap();
    assert_eq!(held.end, Some(RivalEnd::Held), "{held}");
    assert!(held.why.contains("can't be seen"), "{held}");
}

#[test]
fn a_recording_that_ends_too_early_leaves_the_rollout_undecided() {
    let blocks = recorded(|_| Some((1, 1)), 10);
    let judged = BacktestJudge::Ours(Box::new(ours())).fit(&blocks).unwrap().judge(&blocks, &[]).unwrap();
    assert_eq!((judged.end, judged.after), (None, Span::from_secs(150)));
    assert!(judged.to_string().contains("undecided when the recording ends after 2m 30s"), "{judged}");
}

#[test]
fn a_metric_that_was_not_recorded_is_refused_with_the_recorded_ones() {
    let blocks = recorded(|_| Some((1, 1)), 10);
    let other = policy(json!({ "check": [{ "metric": "response-time", "max": "1s" }] }));
    let unfit = BacktestJudge::Ours(Box::new(other)).fit(&blocks).unwrap_err();
    assert_eq!(
        unfit.to_string(),
        "test reads the metric response-time, which was not recorded; the recorded metrics are: error-rate"
    );
    let alone = policy(json!({ "check": [{ "metric": "availability", "min": "90%" }] }));
    assert_eq!(BacktestJudge::Ours(Box::new(alone)).fit(&blocks).unwrap_err(), Unfit::NoCheck("test".to_owned()));
    assert_eq!(BacktestJudge::Ours(Box::new(ours())).fit(&[]).unwrap_err(), Unfit::Empty);
}

/// Twelve hours in which both arms have 0.9 % errors on average, in 48 stretches of fifteen minutes.
#[test]
fn rollbacks_of_equal_arms_are_counted_as_false_alarms_with_their_bound() {
    let mut random = Random::new(3);
    let errors: Vec<(u64, u64)> = (0..48 * 60).map(|_| (random.poisson(9.0), random.poisson(9.0))).collect();
    let blocks = recorded(|n| errors.get(n).copied(), errors.len() + 7);
    let alarms = |judge: BacktestJudge| false_alarms(&judge.fit(&blocks).unwrap(), [&*blocks], STRETCH);
    let ours = alarms(BacktestJudge::Ours(Box::new(ours())));
    assert_eq!((ours.stretches, ours.rolled_back), (48, 0), "{ours:?}");
    // The bound for none of 48: 1 - 0.05^(1/48).
    assert!((ours.at_most - 0.0605).abs() < 1e-3, "{ours:?}");
    let theirs: BTreeMap<String, FalseAlarms> = Rival::usual("error-rate", STRETCH)
        .into_iter()
        .map(|rival| (rival.name.clone(), alarms(BacktestJudge::Theirs(rival))))
        .collect();
    let argo = &theirs["Argo Rollouts"];
    assert!(argo.rolled_back > 10 && argo.undecided == 0 && argo.at_most > argo.rolled_back as f64 / 48.0, "{argo:?}");
    assert_eq!(argo.first.as_ref().map(|first| first.end), Some(ROLLED_BACK));
    assert_eq!(theirs["the article's rule"].rolled_back, 0);
}

#[test]
fn one_of_the_stables_pods_becomes_the_canary() {
    let blocks = recorded(|n| if n == 1 { None } else { Some((500, 7)) }, 3);
    let split = one_pod_as_canary(&blocks, 0);
    assert_eq!(split.len(), 2, "a gap is left out");
    let ratio = |hits| Some(Reading::Ratio { hits, total: 500 });
    assert_eq!(split[0].metrics[&"error-rate".to_owned()], Sample::Arms { canary: ratio(3), stable: ratio(4) });
    assert_eq!(split[0].processes[&"error-rate".to_owned()].len(), 1);
}

#[test]
fn manifests_are_judged_with_flaggers_own_metrics_and_with_given_queries() {
    let blocks = recorded(|_| Some((20, 1)), 240);
    let canary = json!({ "kind": "Canary", "metadata": { "name": "web" }, "spec": { "analysis": {
        "interval": "1m", "threshold": 3, "maxWeight": 50, "stepWeight": 5,
        "metrics": [{ "name": "request-success-rate", "thresholdRange": { "min": 99 } }],
    } } });
    let rival = Rival::from_manifest(&canary, &BTreeMap::new(), &blocks, HOUR).unwrap();
    let judged = BacktestJudge::Theirs(rival).fit(&blocks).unwrap().judge(&blocks, &[]).unwrap();
    assert_eq!((judged.who.as_str(), judged.end), ("Flagger web", ROLLED_BACK));
    let template = json!({ "kind": "AnalysisTemplate", "metadata": { "name": "rate" }, "spec": { "metrics": [{
        "name": "success", "interval": "1m", "successCondition": "result[0] >= 0.95",
        "provider": { "prometheus": { "query": "sum(rate(ok[1m])) / sum(rate(all[1m]))" } },
    }] } });
    let problem = Rival::from_manifest(&template, &BTreeMap::new(), &blocks, HOUR).unwrap_err().to_string();
    assert!(problem.contains("success") && problem.contains("say which recorded metric it is"), "{problem}");
    let query = RecordedQuery {
        metric: "error-rate".to_owned(),
        window: Span::from_secs(60),
        quantile: 0.95,
        form: Form::Success,
    };
    let queries = BTreeMap::from([("success".to_owned(), query)]);
    let rival = Rival::from_manifest(&template, &queries, &blocks, HOUR).unwrap();
    let judged = BacktestJudge::Theirs(rival).fit(&blocks).unwrap().judge(&blocks, &[]).unwrap();
    let hour = Span::from_secs(3600);
    assert_eq!((judged.who.as_str(), judged.end, judged.after), ("Argo Rollouts rate", PROMOTED, hour));
}
