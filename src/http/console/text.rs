//! Texts of the console's pages: times, places of workloads, and the bar of a rollout's steps.

use bellwether_core::engine::view::RolloutView;
use bellwether_core::time::{Span, Timestamp};

use crate::show::standing::Standing;

/// The most parts of a bar of steps. The steps of a longer policy are shown in proportion.
const MOST_PARTS: usize = 12;

/// An instant, as people and machines read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct When {
    /// The instant in ISO 8601, in UTC, to the second.
    pub(super) iso: String,
    /// The date and time of day, in UTC, such as `2026-03-01 03:07:41`.
    pub(super) clock: String,
    /// The time from or to the present, such as `5m 3s ago` or `in 2h 10m`.
    pub(super) relative: String,
}

impl When {
    /// Returns an instant as it is seen at `now`.
    pub(super) fn seen(at: Timestamp, now: Timestamp) -> When {
        let iso = format!("{at:.0}");
        let relative = match (whole_seconds(at, now), whole_seconds(now, at)) {
            (Span::ZERO, Span::ZERO) => "now".to_owned(),
            (past, Span::ZERO) => format!("{past} ago"),
            (_, ahead) => format!("in {ahead}"),
        };
        When { clock: iso.trim_end_matches('Z').replace('T', " "), iso, relative }
    }
}

fn whole_seconds(from: Timestamp, to: Timestamp) -> Span {
    Span::from_secs(Span::between(from, to).as_millis() / 1000)
}

/// Returns the time of day of an instant in UTC, such as `03:07`, or `03:07:41` with `seconds`.
pub(super) fn time_of_day(at: Timestamp, seconds: bool) -> String {
    let iso = format!("{at:.0}");
    iso.get(11..if seconds { 19 } else { 16 }).unwrap_or_default().to_owned()
}

/// The parts of a workload's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// The cluster; empty if the key has another form.
    pub(super) cluster: &'a str,
    /// The namespace; empty if the key has another form.
    pub(super) namespace: &'a str,
    /// The name, or the whole key.
    pub(super) name: &'a str,
}

impl<'a> Place<'a> {
    /// Returns the parts of `cluster/namespace/kind/name`.
    pub(super) fn of(workload: &'a str) -> Place<'a> {
        let mut parts = workload.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(cluster), Some(namespace), Some(_), Some(name), None) => Place { cluster, namespace, name },
            _ => Place { cluster: "", namespace: "", name: workload },
        }
    }
}

/// Returns the policy's name without its hash.
pub(super) fn policy_name(policy: &str) -> &str {
    policy.split('@').next().unwrap_or(policy)
}

/// The bar of a rollout's steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StepBar {
    /// The parts, from left to right.
    pub(super) parts: Vec<StepPart>,
    /// The bar in words.
    pub(super) words: String,
}

/// A part of a bar, on a width of [`StepBar::WIDTH`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StepPart {
    /// The left end.
    pub(super) x: String,
    /// The width.
    pub(super) width: String,
    /// The CSS class: `done`, `now`, `failed`, `stopped` or `ahead`.
    pub(super) class: &'static str,
}

impl StepBar {
    /// The width of a bar.
    const WIDTH: f64 = 72.0;
    /// The space between two parts.
    const GAP: f64 = 2.0;

    /// Returns the bar of a rollout; `None` if it has no steps.
    pub(super) fn of(rollout: &RolloutView) -> Option<StepBar> {
        let (step, of) = rollout.step.filter(|(_, of)| *of > 0)?;
        let standing = Standing::of(rollout);
        let parts = of.min(MOST_PARTS);
        let current = (step * parts).div_ceil(of).clamp(1, parts);
        let width = (StepBar::WIDTH - StepBar::GAP * (parts - 1) as f64) / parts as f64;
        let class = |part: usize| match (part.cmp(&current), standing) {
            (_, Standing::Promoted) | (std::cmp::Ordering::Less, _) => "done",
            (std::cmp::Ordering::Greater, _) | (_, Standing::Queued) => "ahead",
            (std::cmp::Ordering::Equal, Standing::RolledBack) => "failed",
            (std::cmp::Ordering::Equal, Standing::Stopped) => "stopped",
            (std::cmp::Ordering::Equal, Standing::Unreadable | Standing::Held | Standing::Running) => "now",
        };
        let part = |n: usize| StepPart {
            x: format!("{:.2}", (n - 1) as f64 * (width + StepBar::GAP)),
            width: format!("{width:.2}"),
            class: class(n),
        };
        let words = match standing {
            Standing::Promoted | Standing::Queued if of == 1 => "1 step".to_owned(),
            Standing::Promoted => format!("all {of} steps"),
            Standing::Queued => format!("{of} steps"),
            Standing::Unreadable | Standing::Held | Standing::Running | Standing::RolledBack | Standing::Stopped => {
                format!("step {step} of {of}")
            }
        };
        Some(StepBar { parts: (1..=parts).map(part).collect(), words })
    }
}

/// Returns the canary's share of the counted requests for people, such as `24.7 %`.
pub(super) fn share(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_told_in_words() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (seen, words) in [(100, "now"), (40, "1m ago"), (100 - 7260, "2h 1m ago"), (190, "in 1m 30s")] {
            assert_eq!(When::seen(at(seen), at(100)).relative, words);
        }
        assert_eq!(When::seen(at(41), at(100)).clock, "1970-01-01 00:00:41");
    }

    #[test]
    fn a_workload_with_another_key_is_shown_whole() {
        assert_eq!(Place::of("prod/shop/Deployment/web").name, "web");
        for odd in ["web", "a/b/c/d/e", ""] {
            assert_eq!(Place::of(odd), Place { cluster: "", namespace: "", name: odd });
        }
    }
}
