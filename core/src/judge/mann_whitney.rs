//! The `mann-whitney` judge: Kayenta's classification over a window, for policies that come from there.
//!
//! Each block of the window gives one value per arm: the share of bad requests, the quantile, the gauge. Ranks tell whether the
//! canary's values lie to the bad side of the stable's ([`mann_whitney`]). The check's limit says which side is bad, and its number
//! is not used. Blocks of 15 s take the place of Kayenta's minutes. The rule keeps its weaknesses: a value doesn't count its
//! requests, and repeated looks are not paid for. Two things differ: a comparison that can't be made is `insufficient`, where
//! Kayenta passes it; and fewer than five values on a side are not compared, since of four against four no result is as rare as
//! 2 % (of two against two, a quarter of equal versions is called different).

use serde::{Deserialize, Serialize};

use super::rule::{JudgeRule, Look, Opinion, RawSettings, SettingProblem, Target};
use super::windowed::{self, WindowRule, WindowState};
use crate::measure::metric::{Limit, MetricKind, Unit};
use crate::measure::window::Arm;
use crate::stats::mann_whitney::{self, Direction, MannWhitneySettings};
use crate::time::Span;

mod finding;

use finding::LEAST;
pub use finding::RankFinding;

/// The mann-whitney judge, with the settings of one check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MannWhitney {
    /// When it looks, and how often a breach must be repeated.
    pub window: WindowRule,
    /// Kayenta's settings, and the bad side.
    pub settings: MannWhitneySettings,
}

impl JudgeRule for MannWhitney {
    type State = WindowState;
    type Finding = RankFinding;
    const NAME: &'static str = "mann-whitney";
    const KEYS: &'static [&'static str] = windowed::KEYS;
    const NEEDS_STABLE: bool = true;

    fn read(raw: &RawSettings, target: Target<'_>) -> Result<MannWhitney, Vec<SettingProblem>> {
        if matches!(target.metric.kind, MetricKind::Throughput | MetricKind::Drift | MetricKind::Availability) {
            let remedy = "the mann-whitney judge compares values of both arms, and this metric has none that could be alike; set judge = \"threshold\"";
            return Err(vec![("judge", remedy.to_owned())]);
        }
        let direction = match target.limit {
            Limit::Max(_) => Direction::Increase,
            Limit::Min(_) => Direction::Decrease,
        };
        let settings = MannWhitneySettings { direction, ..MannWhitneySettings::default() };
        Ok(MannWhitney { window: WindowRule::read(raw)?, settings })
    }

    fn begin(&self, _look: &Look<'_>) -> WindowState {
        WindowState::default()
    }

    fn look(&self, state: &mut WindowState, look: &Look<'_>) -> Option<Opinion<RankFinding>> {
        if !state.is_due(self.window, look) {
            return None;
        }
        let finding = self.rank(look);
        let subject = windowed::measure(self.window, look, look.arm);
        let numbers = state.numbers(self.window, look, subject, |_| finding.is_broken());
        Some(Opinion { numbers, finding })
    }

    fn window(&self) -> Span {
        self.window.window
    }

    fn reads_windows(&self) -> bool {
        true
    }
}

impl MannWhitney {
    /// Compares the arms over the window that ends with the newest block.
    fn rank(&self, look: &Look<'_>) -> RankFinding {
        let (subject, stable) = (self.values(look, Arm::Canary), self.values(look, Arm::Stable));
        let plain = RankFinding { label: None, shift: None, subject: subject.len(), stable: stable.len() };
        if subject.len().min(stable.len()) < LEAST {
            return plain;
        }
        let result = mann_whitney::judge(&stable, &subject, &self.settings);
        RankFinding { label: Some(result.label), shift: result.shift, ..plain }
    }

    /// Returns one value per block, in percent or milliseconds: the rule finds nothing in units as large as shares and seconds.
    fn values(&self, look: &Look<'_>, arm: Arm) -> Vec<f64> {
        let Some(end) = look.ring.last() else { return Vec::new() };
        let start = self.window.window.before(end);
        let Target { metric, quantile, .. } = look.target;
        let scale = match metric.unit() {
            Unit::Percent => 100.0,
            Unit::Seconds => 1000.0,
            Unit::Milliseconds | Unit::PerSecond | Unit::Number => 1.0,
        };
        let within = look.ring.blocks().filter(|block| block.to > start);
        let measured = within.filter_map(|block| {
            let length = Span::between(block.from, block.to);
            look.ring.measure_at(look.name, arm, length, quantile, block.to)
        });
        let counted = measured.filter(|measure| measure.n > 0 || !metric.kind.counts_requests());
        counted.map(|measure| scale * measure.value).collect()
    }
}
