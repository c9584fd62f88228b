//! Counts two arms that another tool moves, from the metrics store alone: nothing is kept from call to call.
//!
//! The start is a fixed instant of the grid: the one that was asked for, or the first at which the canary was counted. From there each
//! call reads the same blocks. The start and the restarts of the pods are unknown, so that counts before a pod's first scrape are left
//! out in both arms, and a decrease of a counter is a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bellwether_core::ids::{Workload, WorkloadKind};
use bellwether_core::measure::block::{Block, Sample};
use bellwether_core::measure::metric::Metric;
use bellwether_core::measure::watch::{ArmKey, Watch};
use bellwether_core::time::{Span, TimeRange, Timestamp};
use bellwether_lab::backtest::canaries::canaries;

use super::{Options, grid, history};
use crate::clock::Clock;
use crate::ports::{ArmsBlocks, ArmsReader, ArmsRequest, Metrics, NamedArm, PodDirectory, PodFacts};

/// The most blocks since the start.
const MOST_BLOCKS: u64 = 2000;
/// The most blocks among which the start of the canary is looked for.
const MOST_SEARCHED: u64 = 1440;
/// The blocks with counts of the stable alone after which the canary is gone.
const GONE: usize = 2;
/// The uids that stand for the arms. Their own are not known.
const UIDS: [&str; 2] = ["the stable", "the canary"];

/// The arms of other tools in a metrics store.
pub struct NamedArms {
    metrics: Arc<dyn Metrics>,
    clock: Arc<dyn Clock>,
    cluster: String,
    options: Options,
}

impl NamedArms {
    /// Returns a reader of the arms in a cluster.
    pub fn new(metrics: Arc<dyn Metrics>, clock: Arc<dyn Clock>, cluster: String, options: Options) -> NamedArms {
        NamedArms { metrics, clock, cluster, options }
    }

    /// Returns the start of the canary: the first instant of the grid from the one that was asked for on, or else the one at which the
    /// canary was first counted.
    ///
    /// # Errors
    /// The canary was counted already at the beginning of the time in which its start is looked for.
    async fn start(&self, request: &ArmsRequest, end: Timestamp) -> Result<Start, String> {
        let interval = self.options.interval;
        if let Some(since) = request.since {
            let last = grid(self.options.lag.after(since), interval, self.options.lag).1;
            return Ok(Start::At(if last < since { interval.after(last) } else { last }));
        }
        let length = Span::from_millis(MOST_SEARCHED.saturating_mul(interval.as_millis()));
        let range = TimeRange { from: length.before(end), to: end, step: interval };
        let seen = self.blocks(request, self.watch(request, request.policy.measured_metrics(), true), range).await;
        let Some(found) = canaries(&seen).last().map(|found| found.blocks) else { return Ok(Start::Absent(seen)) };
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(Start::Absent(seen)) };
        let alone = seen.iter().filter(|block| block.from >= last.to && has_stable(block)).count();
        if alone >= GONE {
            return Ok(Start::Absent(seen));
        }
        if first.from <= range.from {
            return Err(format!(
                "the canary {} was counted {length} ago already, before which its start is not looked for; name it with `since`",
                request.canary.name
            ));
        }
        Ok(Start::At(first.from))
    }

    fn watch(&self, request: &ArmsRequest, metrics: BTreeMap<String, Metric>, has_canary: bool) -> Watch {
        let arm = |arm: &NamedArm, uid: &str| ArmKey {
            deployment_uid: uid.to_owned(),
            pod_hash: arm.hash.clone(),
            name: arm.name.clone(),
        };
        let workload = Workload {
            cluster: self.cluster.clone(),
            namespace: request.namespace.clone(),
            kind: WorkloadKind::Deployment,
            name: request.stable.name.clone(),
        };
        let [stable, canary] = UIDS;
        let learned: BTreeSet<String> =
            request.policy.per_process_metrics().into_iter().filter(|name| metrics.contains_key(name)).collect();
        Watch {
            per_process: learned.clone(),
            per_pod: learned,
            warm_up: request.policy.warm_up,
            canary: has_canary.then(|| arm(&request.canary, canary)),
            ..Watch::of_stable(workload, metrics, arm(&request.stable, stable), Timestamp::UNIX_EPOCH)
        }
    }

    async fn blocks(&self, request: &ArmsRequest, watch: Watch, range: TimeRange) -> Vec<Block> {
        history::blocks(Arc::clone(&self.metrics), NamedPods::of(request), watch, range, self.options).await
    }
}

/// The start of the canary.
enum Start {
    /// An instant of the grid.
    At(Timestamp),
    /// The canary is not counted in these blocks, or not any more.
    Absent(Vec<Block>),
}

fn has_stable(block: &Block) -> bool {
    block.metrics.iter().any(|(_, sample)| matches!(sample, Sample::Arms { stable: Some(_), .. }))
}

#[async_trait]
impl ArmsReader for NamedArms {
    async fn read(&self, request: ArmsRequest) -> Result<ArmsBlocks, String> {
        let interval = self.options.interval;
        let end = grid(self.clock.now(), interval, self.options.lag).1;
        let start = match self.start(&request, end).await? {
            Start::At(start) => start,
            Start::Absent(seen) => {
                return Ok(ArmsBlocks {
                    before: Vec::new(),
                    blocks: seen.into_iter().next_back().into_iter().collect(),
                });
            }
        };
        let most = Span::from_millis(MOST_BLOCKS.saturating_mul(interval.as_millis()));
        if Span::between(start, end) > most {
            return Err(format!("{start} is longer ago than {most}, for which blocks are read; name a later `since`"));
        }
        let criteria = request.policy.learned_criteria();
        let is_learned = |name: &String| criteria.iter().any(|criterion| criterion.metric == *name);
        let learned = request.policy.measured_metrics().into_iter().filter(|(name, _)| is_learned(name)).collect();
        let before = self.watch(&request, learned, false);
        let before = history::before(Arc::clone(&self.metrics), NamedPods::of(&request), before, start, self.options);
        let since = TimeRange { from: start, to: end, step: interval };
        let judged = self.blocks(&request, self.watch(&request, request.policy.measured_metrics(), true), since);
        let (before, blocks) = futures::join!(before, judged);
        Ok(ArmsBlocks { before, blocks })
    }
}

/// A directory of pods by their names alone.
struct NamedPods {
    stable: NamedArm,
    canary: NamedArm,
}

impl NamedPods {
    fn of(request: &ArmsRequest) -> Arc<NamedPods> {
        Arc::new(NamedPods { stable: request.stable.clone(), canary: request.canary.clone() })
    }
}

impl PodDirectory for NamedPods {
    fn locate(&self, _: &str, pod: &str) -> Option<Arc<PodFacts>> {
        let mut arms = [&self.stable, &self.canary].into_iter().zip(UIDS);
        arms.find_map(|(arm, uid)| Some(PodFacts::by_name(uid, arm.hash_of(pod)?).into()))
    }

    fn service(&self, _: &Workload) -> Option<(String, u16)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::judge::numbers::Verdict;

    use super::*;
    use crate::clock::StillClock;
    use crate::config;
    use crate::sampling::tests::store::Store;

    const POLICY: &str = r#"
        [metric.error-rate]
        kind = "ratio"
        series = "requests_total"
        hits = { label = "code", matches = "5.." }
        [[policy]]
        name = "judged"
        match = { namespaces = ["*"], workloads = ["*"], images = ["*"] }
        check = [{ metric = "error-rate", max = "2%" }]
        step = [{ weight = "10%", min-time = "30m" }]
    "#;
    /// The second of the canary's first sample.
    const BEGUN: i64 = 6_000;
    const END: i64 = 9_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Two pods of the stable, of whose requests one of 200 fails, and two of a canary, of whose requests every `bad`th fails until the
    /// second 7,500, and none from then on. Each pod gets 10 requests per second.
    fn store(bad: i64) -> Arc<Store> {
        let store = Store::default();
        for second in (0..=END).step_by(15) {
            let stable = ["web-aaa-1", "web-aaa-2"].map(|pod| (pod, 10 * second, 10 * second / 200));
            let age = second - BEGUN;
            let failed = 10 * age.min(1_500) / bad;
            let canary = ["web-bbb-1", "web-bbb-2"].map(|pod| (pod, 10 * age, failed));
            let pods = stable.into_iter().chain(canary.into_iter().filter(|_| age >= 0));
            for (pod, all, failed) in pods {
                let labels = |code| [("namespace", "shop"), ("pod", pod), ("container", "app"), ("code", code)];
                store.put("requests_total", &labels("200"), at(second), (all - failed) as f64);
                store.put("requests_total", &labels("500"), at(second), failed as f64);
                store.put("up", &labels("")[..3], at(second), 1.0);
            }
        }
        Arc::new(store)
    }

    fn request(since: Option<Timestamp>) -> ArmsRequest {
        let arm = |hash: &str| NamedArm { name: "web".to_owned(), hash: Some(hash.to_owned()) };
        let (policy, namespace) = (config::of_text(POLICY).policies.remove(0), "shop".to_owned());
        ArmsRequest { policy, namespace, canary: arm("bbb"), stable: arm("aaa"), since }
    }

    async fn read(store: &Arc<Store>, now: i64, since: Option<Timestamp>) -> Result<ArmsBlocks, String> {
        let (metrics, clock) = (Arc::clone(store) as Arc<dyn Metrics>, Arc::new(StillClock(at(now))));
        NamedArms::new(metrics, clock, "prod".to_owned(), Options::default()).read(request(since)).await
    }

    #[tokio::test]
    async fn a_later_call_reads_the_same_blocks_and_newer_ones() {
        let store = store(200);
        let (first, again) = (read(&store, 7_000, None).await.unwrap(), read(&store, 7_000, None).await.unwrap());
        assert_eq!((&first.before, &first.blocks), (&again.before, &again.blocks));
        let later = read(&store, 8_500, None).await.unwrap();
        assert!(later.blocks.len() == first.blocks.len() + 100, "{} {}", first.blocks.len(), later.blocks.len());
        assert_eq!((&later.before, &later.blocks[..first.blocks.len()]), (&first.before, &first.blocks[..]));
        let named = read(&store, 8_500, Some(first.blocks[0].from)).await.unwrap();
        assert_eq!((&later.before, &later.blocks), (&named.before, &named.blocks));
        assert!(!first.before.is_empty() && first.blocks[0].to >= at(BEGUN), "{:?}", first.blocks[0]);
        let verdicts =
            [first, later].map(|counted| request(None).policy.judge_alone(&counted.before, &counted.blocks).verdict);
        assert_eq!(verdicts, [Verdict::Insufficient, Verdict::Pass]);
    }

    #[tokio::test]
    async fn a_regression_is_taken_back_by_no_later_call() {
        let store = store(20);
        let policy = request(None).policy;
        let early = read(&store, 6_015, None).await.unwrap();
        let judged = policy.judge_alone(&early.before, &early.blocks);
        assert_eq!(judged.verdict, Verdict::Insufficient, "{}", judged.reason);
        let found = read(&store, 7_500, None).await.unwrap();
        let regressed = policy.judge_alone(&found.before, &found.blocks);
        assert_eq!(regressed.verdict, Verdict::Regressed, "{}", regressed.reason);
        // It has no errors any more.
        let later = read(&store, 9_000, None).await.unwrap();
        assert_eq!(policy.judge_alone(&later.before, &later.blocks), regressed);
        // Calls at each block agree from the first regression on.
        let verdicts: Vec<Verdict> = (0..=later.blocks.len())
            .map(|count| policy.judge_alone(&later.before, &later.blocks[..count]).verdict)
            .collect();
        let first = verdicts.iter().position(|verdict| *verdict == Verdict::Regressed).unwrap();
        assert!(verdicts[first..].iter().all(|verdict| *verdict == Verdict::Regressed), "{verdicts:?}");
    }

    #[tokio::test]
    async fn a_canary_that_is_not_counted_is_insufficient_and_a_store_that_is_away_is_blind() {
        let store = store(200);
        let absent = read(&store, 5_000, None).await.unwrap();
        assert_eq!(absent.blocks.len(), 1);
        let policy = request(None).policy;
        assert_eq!(policy.judge_alone(&absent.before, &absent.blocks).verdict, Verdict::Insufficient);
        store.outage(Some(crate::ports::MetricsError::Unavailable("no route".to_owned())));
        let blind = read(&store, 5_000, None).await.unwrap();
        let judged = policy.judge_alone(&blind.before, &blind.blocks);
        assert_eq!(judged.verdict, Verdict::Blind, "{}", judged.reason);
        let ancient = read(&store, 100_000, Some(at(10))).await.unwrap_err();
        assert!(ancient.contains("name a later `since`"), "{ancient}");
    }
}
