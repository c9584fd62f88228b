//! The `mann-whitney` judge: Kayenta's classification over the check's window, for those who come from there.
//!
//! Each block of the window gives one value per arm: the share of bad requests, the quantile, the gauge. Ranks tell whether
//! the canary's values lie to the bad side of the stable's ([`mann_whitney`]); the check's limit says which side that is, and
//! its number is not used. Blocks of 15 s take the place of Kayenta's minutes. It keeps that rule's weaknesses: a value knows
//! nothing of its requests, and nothing pays for looking again. Two things are not taken over: what can't be tested is
//! `insufficient`, where Kayenta passes it; and fewer than five values on a side are not tested, since of four against four
//! nothing is as rare as 2 % (of two against two, a quarter of equal versions is called different).

use crate::judge::verdict::{LEAST, RankFinding};
use crate::measure::metric::{Metric, Unit};
use crate::measure::window::{Arm, Ring};
use crate::policy::Check;
use crate::stats::mann_whitney::{self, MannWhitneySettings};
use crate::time::Span;

/// Compares the window that ends with the newest block.
pub fn rank(check: &Check, metric: &Metric, settings: &MannWhitneySettings, ring: &Ring) -> RankFinding {
    let values = |side| values(check, metric, ring, side);
    let (subject, stable) = (values(Arm::Canary), values(Arm::Stable));
    let plain = RankFinding { label: None, shift: None, subject: subject.len(), stable: stable.len() };
    if subject.len().min(stable.len()) < LEAST {
        return plain;
    }
    let conclusion = mann_whitney::judge(&stable, &subject, settings);
    RankFinding { label: Some(conclusion.label), shift: conclusion.shift, ..plain }
}

/// One value a block, in percent or milliseconds: in units as small as shares and seconds the rule finds nothing.
fn values(check: &Check, metric: &Metric, ring: &Ring, side: Arm) -> Vec<f64> {
    let Some(end) = ring.last() else { return Vec::new() };
    let start = check.window.before(end);
    let scale = match metric.unit() {
        Unit::Percent => 100.0,
        Unit::Seconds => 1000.0,
        Unit::Milliseconds | Unit::PerSecond | Unit::Number => 1.0,
    };
    let within = ring.blocks().filter(|block| block.to > start);
    let measured = within.filter_map(|block| {
        let length = Span::between(block.from, block.to);
        ring.measure_at(&check.metric, side, length, check.quantile, block.to)
    });
    let counted = measured.filter(|measure| measure.n > 0 || !metric.kind.counts_requests());
    counted.map(|measure| scale * measure.value).collect()
}
