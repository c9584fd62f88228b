//! The standing of a rollout: the one word by which the console and `bellwether top` group, colour and mark it.

use bellwether_core::engine::view::RolloutView;

/// The standing of a rollout. The order is the one in which people want to see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its journal entries can't be read.
    Unreadable,
    /// It is held, and may ask a person.
    Held,
    /// It goes on.
    Running,
    /// It waits for its beginning.
    Queued,
    /// It has ended in a rollback.
    RolledBack,
    /// It has ended without a verdict on the version: given up, aborted, superseded, refused or unchanged.
    Stopped,
    /// It has ended in a promotion.
    Promoted,
}

impl Standing {
    /// All standings, in their order.
    pub const ALL: [Standing; 7] = [
        Standing::Unreadable,
        Standing::Held,
        Standing::Running,
        Standing::Queued,
        Standing::RolledBack,
        Standing::Stopped,
        Standing::Promoted,
    ];

    /// Returns the standing of a rollout.
    pub fn of(rollout: &RolloutView) -> Standing {
        match (rollout.outcome.as_deref(), rollout.phase.as_str()) {
            (Some("promoted"), _) => Standing::Promoted,
            (Some("rolled-back"), _) => Standing::RolledBack,
            (Some(_), _) => Standing::Stopped,
            (None, RolloutView::UNREADABLE) => Standing::Unreadable,
            (None, RolloutView::QUEUED) => Standing::Queued,
            (None, _) if rollout.held.is_some() => Standing::Held,
            (None, _) => Standing::Running,
        }
    }

    /// Returns its name in links and CSS classes.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Unreadable => "unreadable",
            Standing::Held => "held",
            Standing::Running => "running",
            Standing::Queued => "queued",
            Standing::RolledBack => "rolled-back",
            Standing::Stopped => "stopped",
            Standing::Promoted => "promoted",
        }
    }

    /// Returns its name for people.
    pub fn label(self) -> &'static str {
        match self {
            Standing::RolledBack => "rolled back",
            Standing::Unreadable
            | Standing::Held
            | Standing::Running
            | Standing::Queued
            | Standing::Stopped
            | Standing::Promoted => self.name(),
        }
    }

    /// Returns the sign beside its name, so that the colour is never the only one.
    pub fn sign(self) -> &'static str {
        match self {
            Standing::Unreadable => "!",
            Standing::Held => "‖",
            Standing::Running => "▶",
            Standing::Queued => "…",
            Standing::RolledBack => "✖",
            Standing::Stopped => "■",
            Standing::Promoted => "✔",
        }
    }

    /// Returns its place among all standings.
    pub fn place(self) -> usize {
        self as usize
    }
}

/// The sign, the words and the CSS class of a rollout's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Badge {
    /// The sign.
    pub sign: &'static str,
    /// The words: the outcome, `held`, or the phase.
    pub words: String,
    /// The CSS class.
    pub class: &'static str,
}

impl Badge {
    /// Returns the badge of a rollout.
    pub fn of(rollout: &RolloutView) -> Badge {
        let standing = Standing::of(rollout);
        let words = match standing {
            Standing::Running => rollout.phase.clone(),
            Standing::Stopped => rollout.outcome.clone().unwrap_or_default().replace('-', " "),
            Standing::Unreadable | Standing::Held | Standing::Queued | Standing::RolledBack | Standing::Promoted => {
                standing.label().to_owned()
            }
        };
        Badge { sign: standing.sign(), words, class: standing.name() }
    }

    /// Returns the badge of a check's verdict.
    pub fn of_verdict(verdict: &str) -> Badge {
        let (sign, class) = match verdict {
            "pass" => ("✔", "promoted"),
            "regressed" => ("✖", "rolled-back"),
            "insufficient" => ("…", "queued"),
            "blind" => ("?", "held"),
            _ => ("", "stopped"),
        };
        Badge { sign, words: verdict.to_owned(), class }
    }
}
