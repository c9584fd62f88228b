//! The requests of the canary that are not counted where they should be, and those that a gateway counts while its pods are cold.

use bellwether_core::input::event::Event;
use bellwether_core::measure::block::{Block, Reading, Sample};
use bellwether_core::measure::metric::ArmSource;
use bellwether_core::measure::watch::Watch;
use bellwether_core::policy::Policy;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Span;
use bellwether_sim::story::{GRID, Story, policy, workload};
use serde_json::json;
use std::collections::BTreeMap;

const HOUR: u64 = 3600;
/// The requests of a pod in a block, where ten of the stable and two of the canary share 1,000 requests a second by 9:1.
const OF_STABLE: u64 = 1350;
const OF_CANARY: u64 = 750;

/// The failed requests and all requests of each pod that is counted in a block.
#[derive(Clone)]
struct Counted {
    canary: Vec<(u64, u64)>,
    stable: Vec<(u64, u64)>,
}

fn counted(canary: &[u64], stable: &[u64]) -> Counted {
    let none_failed = |pods: &[u64]| pods.iter().map(|requests| (0, *requests)).collect();
    Counted { canary: none_failed(canary), stable: none_failed(stable) }
}

fn judged(warm_up: &str) -> Policy {
    policy(json!({ "warm-up": warm_up, "max-hold": "20m", "check": [{ "metric": "error-rate", "max": "5%" }] }))
}

/// Runs a rollout to its end. `counts` returns the counts of the block that ends when the canary has had traffic for these
/// seconds.
fn run(policy: Policy, counts: impl Fn(u64) -> Counted) -> (Ending, Story) {
    let mut story = Story::new(policy);
    story.silent = true;
    story.request("v2");
    let mut seconds = 0;
    for _ in 0..2 * HOUR {
        if let Some(ending) = story.run(1) {
            return (ending, story);
        }
        let has_traffic = story.model.share(&workload(), story.now) > 0.0;
        seconds = if has_traffic { seconds + 1 } else { 0 };
        if story.now.as_second() % GRID == 0 {
            let counted = if has_traffic { counts(seconds) } else { counted(&[0, 0], &[OF_STABLE; 10]) };
            for watch in story.engine.watches() {
                let block = block(&story, &watch, &counted);
                story.tell(Event::Measured { workload: watch.workload, block });
            }
        }
    }
    panic!("no end: {:#?}", story.whys());
}

fn block(story: &Story, watch: &Watch, counted: &Counted) -> Block {
    let from = Span::from_secs(GRID as u64).before(story.now);
    let ratio = |(hits, total): &(u64, u64)| Reading::Ratio { hits: *hits, total: *total };
    let sum = |pods: &[(u64, u64)]| {
        let sum = pods.iter().fold((0, 0), |sum, pod| (sum.0 + pod.0, sum.1 + pod.1));
        (!pods.is_empty()).then(|| ratio(&sum))
    };
    let canary = sum(&counted.canary).filter(|_| watch.canary.is_some());
    let sample = Sample::Arms { canary, stable: sum(&counted.stable) };
    let mut block = Block::new(from, story.now, BTreeMap::from([("error-rate".to_owned(), sample)]));
    let by_pod = matches!(watch.metrics["error-rate"].arms, ArmSource::Pods);
    if by_pod && watch.canary.is_some() {
        let names = (0..).map(|n| format!("web-canary-{n}"));
        let pods = names.zip(counted.canary.iter().map(ratio)).collect();
        block.pods.insert("error-rate".to_owned(), pods);
        block.processes.insert("error-rate".to_owned(), counted.stable.iter().map(ratio).collect());
    }
    block
}

#[test]
fn a_canary_of_which_each_pod_answers_is_promoted() {
    let (ending, story) = run(judged("0s"), |_| counted(&[OF_CANARY; 2], &[OF_STABLE; 10]));
    assert_eq!(ending, Ending::Promoted, "{:#?}", story.whys());
}

#[test]
fn a_ready_pod_that_answers_nothing_gives_the_rollout_up_without_blame() {
    // It hangs and is scraped, it can't be scraped, or it hangs after some minutes.
    let hangs = |_: u64| counted(&[OF_CANARY, 0], &[OF_STABLE; 10]);
    let is_not_scraped = |_: u64| counted(&[OF_CANARY], &[OF_STABLE; 10]);
    let hangs_later = |second: u64| counted(&[OF_CANARY, if second < 100 { OF_CANARY } else { 0 }], &[OF_STABLE; 10]);
    for counts in [&hangs as &dyn Fn(u64) -> Counted, &is_not_scraped, &hangs_later] {
        let slow = Policy { steps: judged("0s").steps.iter().cloned().map(longer).collect(), ..judged("0s") };
        let (ending, story) = run(slow, counts);
        assert_eq!(ending, Ending::GivenUp, "{:#?}", story.whys());
        let why = story.whys().into_iter().find(|why| why.contains("in 1 of the canary's 2 ready pods"));
        assert!(why.is_some_and(|why| why.contains("hangs or can't be scraped")), "{:#?}", story.whys());
        assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty());
    }
}

fn longer(step: bellwether_core::policy::Step) -> bellwether_core::policy::Step {
    bellwether_core::policy::Step { min_time: Span::from_secs(600), ..step }
}

/// The first requests come late, and one pod is scraped before the other.
#[test]
fn the_time_before_the_first_request_speaks_against_no_pod() {
    let (ending, story) = run(judged("0s"), |second| match second {
        0..=118 => counted(&[0, 0], &[OF_STABLE + 150; 10]),
        119..=133 => counted(&[OF_CANARY, 0], &[OF_STABLE; 10]),
        _ => counted(&[OF_CANARY; 2], &[OF_STABLE; 10]),
    });
    assert!(!story.whys().iter().any(|why| why.contains("ready pods")), "{ending:?} {:#?}", story.whys());
}

#[test]
fn pods_without_requests_prove_nothing_where_the_stable_has_such_pods_too() {
    let stable = [&[1500; 9][..], &[0]].concat();
    let (ending, story) = run(judged("0s"), |_| counted(&[OF_CANARY, 0], &stable));
    assert_eq!(ending, Ending::Promoted, "{:#?}", story.whys());
}

#[test]
fn a_canary_that_none_of_its_requests_reach_is_given_up_within_two_minutes() {
    let (ending, story) = run(judged("0s"), |_| counted(&[0, 0], &[OF_STABLE + 150; 10]));
    assert_eq!(ending, Ending::GivenUp, "{:#?}", story.whys());
    let why = "the canary has 0.0 % of the";
    let given_up = story.decisions.iter().find(|decision| decision.why.contains(why)).unwrap();
    let advanced = story.decisions.iter().find(|decision| decision.to == Phase::Stepping).unwrap();
    assert!(Span::between(advanced.at, given_up.at) < Span::from_secs(120), "{:#?}", story.whys());
    assert!(story.engine.state(&workload()).unwrap().quarantine.is_empty());
}

#[test]
fn a_canary_that_gets_twice_its_share_is_held() {
    let (ending, story) = run(judged("0s"), |_| counted(&[1425; 2], &[1215; 10]));
    assert_eq!(ending, Ending::GivenUp, "{:#?}", story.whys());
    let held = |why: &&str| why.contains("the canary has 19.0 % of the") && why.contains("instead of 10 %");
    assert!(story.whys().iter().any(held), "{:#?}", story.whys());
}

/// A gateway whose proxies follow a weight a minute after it has accepted it, in so little traffic that the share is not told.
#[test]
fn a_canary_behind_a_gateway_that_follows_late_is_removed_as_late() {
    let check = json!({ "metric": "error-rate", "judge": "threshold", "max": "5%", "window": "5m", "every": "30s", "min-requests": 5 });
    let drained = |late: u64| {
        let (ending, story) = run(policy(json!({ "drain": "10s", "check": [check.clone()] })), |second| {
            let canary = if second <= late { 0 } else { 1 };
            counted(&[canary; 2], &[2; 10])
        });
        assert_eq!(ending, Ending::Promoted, "{:#?}", story.whys());
        let entered = |phase| story.decisions.iter().find(|decision| decision.to == phase).unwrap().at;
        Span::between(entered(Phase::Returning), entered(Phase::Guarding))
    };
    assert!(drained(0) < Span::from_secs(20), "{}", drained(0));
    assert!(drained(60) > Span::from_secs(40), "{}", drained(60));
}

/// A gateway counts the requests of both versions. The canary's pods are cold at first.
#[test]
fn the_first_requests_of_a_canary_behind_a_gateway_are_not_compared() {
    let ending = |warm_up: &str, failed_of_cold: u64| {
        let mut policy = judged(warm_up);
        policy.metrics.get_mut("error-rate").unwrap().arms =
            ArmSource::Service { label: "service".to_owned(), value: "{{service}}".to_owned() };
        let (ending, story) = run(policy, |second| {
            let failed = if second < 60 { OF_CANARY * failed_of_cold / 100 } else { 0 };
            Counted { canary: vec![(failed, OF_CANARY); 2], ..counted(&[], &[OF_STABLE; 10]) }
        });
        (ending, story.whys().last().unwrap().to_string())
    };
    assert_eq!(ending("1m", 30).0, Ending::Promoted, "{:?}", ending("1m", 30));
    assert_eq!(ending("0s", 30).0, Ending::RolledBack);
    assert_eq!(ending("1m", 70).0, Ending::RolledBack, "more than half of its first requests fail");
}
