//! The page of this process's health and configuration.

use askama::Template;
use bellwether_core::engine::view::{RolloutView, StatusView};
use bellwether_core::time::Timestamp;

use super::Frame;
use super::text::When;
use crate::http::state::{Conditions, ShownConfig};

/// A line of the configuration, and the comment that names its origin.
struct ConfigLine {
    text: String,
    origin: String,
}

/// A condition of `/readyz`.
struct ConditionRow {
    name: String,
    /// The reason why it does not hold; `None` if it holds.
    problem: Option<String>,
}

/// The page of the health.
#[derive(Template)]
#[template(path = "health.html")]
pub(super) struct HealthPage {
    frame: Frame,
    conditions: Vec<ConditionRow>,
    is_ready: bool,
    /// The seconds since the event loop turned; `None` while it turns.
    silent: Option<u64>,
    running: usize,
    blind: Vec<(String, String)>,
    age: Option<String>,
    read: Option<When>,
    config: Vec<ConfigLine>,
}

/// The most rollouts without sight that are listed.
const MOST_BLIND: usize = 20;

impl HealthPage {
    /// Returns the page, as it is seen at `now`.
    pub(super) fn new(
        frame: Frame,
        conditions: Conditions,
        silent: Option<u64>,
        view: &StatusView,
        age: Option<String>,
        config: Option<ShownConfig>,
        now: Timestamp,
    ) -> HealthPage {
        let running = || view.rollouts.values().map(|rollout| &**rollout).filter(|rollout| rollout.is_running());
        let is_blind = |rollout: &&RolloutView| rollout.checks.iter().any(|check| check.verdict == "blind");
        let named = |rollout: &RolloutView| (rollout.id.clone(), rollout.short_workload());
        HealthPage {
            frame,
            is_ready: conditions.iter().all(|(_, state)| state.is_ok()),
            conditions: conditions
                .into_iter()
                .map(|(name, state)| ConditionRow { name, problem: state.err() })
                .collect(),
            silent,
            running: running().count(),
            blind: running().filter(is_blind).take(MOST_BLIND).map(named).collect(),
            age,
            read: config.as_ref().map(|config| When::seen(config.read, now)),
            config: config.iter().flat_map(|config| config.text.lines()).map(ConfigLine::of).collect(),
        }
    }
}

impl ConfigLine {
    /// Returns a line of `config show --origin` in its two parts.
    fn of(line: &str) -> ConfigLine {
        let (text, origin) = line.rsplit_once(" # ").unwrap_or((line, ""));
        ConfigLine { text: text.trim_end().to_owned(), origin: origin.to_owned() }
    }
}
