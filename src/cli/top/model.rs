//! The state of the screen: the rollouts, the selected one, the filter, and the keys that change them.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches some kinds and treats all others alike")]

use bellwether_core::engine::view::RolloutView;
use ratatui::crossterm::event::{KeyCode, KeyModifiers};

use crate::show::standing::Standing;

/// The number of rows that a page key goes.
const PAGE: usize = 10;
/// The maximum length of the text that is searched for.
const MOST_TYPED: usize = 64;

/// The consequence of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopOutcome {
    /// The screen is drawn anew.
    Draw,
    /// The list is asked for anew.
    Ask,
    /// The command ends.
    Quit,
}

/// The state of the screen.
#[derive(Debug, Clone, PartialEq)]
pub struct TopModel {
    /// The daemon's URL.
    pub api: String,
    /// The namespace of the rollouts; `None` for all.
    pub namespace: Option<String>,
    /// Whether colours are drawn.
    pub colours: bool,
    /// The rollouts, in the order in which people want to see them.
    rollouts: Vec<RolloutView>,
    /// The id of the selected rollout; `None` before the first list.
    selected: Option<String>,
    /// The one standing that is listed; `None` for all.
    pub standing: Option<Standing>,
    /// The text that a workload, a policy or a rollout's id contains; empty for all.
    pub search: String,
    /// Whether keys are typed into `search`.
    pub types: bool,
    /// Whether the selected rollout has the whole screen.
    pub is_wide: bool,
    /// Whether the keys are explained.
    pub has_help: bool,
    /// The first line of the details that is shown.
    pub scroll: u16,
    /// Whether the daemon tells of changes.
    pub is_live: bool,
    /// The problem of the last answer, or of asking.
    pub problem: Option<String>,
}

impl TopModel {
    /// Returns the state before the first list.
    pub fn new(api: &str, namespace: Option<String>, colours: bool) -> TopModel {
        TopModel {
            api: api.to_owned(),
            namespace,
            colours,
            rollouts: Vec::new(),
            selected: None,
            standing: None,
            search: String::new(),
            types: false,
            is_wide: false,
            has_help: false,
            scroll: 0,
            is_live: false,
            problem: Some("asking the daemon".to_owned()),
        }
    }

    /// Takes a new list. The selected rollout stays selected.
    pub fn take(&mut self, mut rollouts: Vec<RolloutView>, is_live: bool, problem: Option<String>) {
        rollouts.sort_by_cached_key(|rollout| {
            let changed = rollout.ended.unwrap_or(rollout.since);
            (Standing::of(rollout), std::cmp::Reverse(changed), rollout.id.clone())
        });
        self.rollouts = rollouts;
        self.is_live = is_live;
        self.problem = problem;
        self.keep_selected();
    }

    /// Notes that the daemon could not be asked.
    pub fn fail(&mut self, error: &anyhow::Error) {
        self.is_live = false;
        self.problem = Some(error.to_string());
    }

    /// Returns the rollouts that the filter lets through.
    pub fn shown(&self) -> Vec<&RolloutView> {
        let search = self.search.to_lowercase();
        let is_found = |rollout: &&RolloutView| {
            let texts = [&rollout.workload, &rollout.policy, &rollout.id];
            search.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&search))
        };
        let is_wanted = |rollout: &&RolloutView| self.standing.is_none_or(|wanted| Standing::of(rollout) == wanted);
        self.rollouts.iter().filter(is_wanted).filter(is_found).collect()
    }

    /// Returns the number of rollouts of each standing that has one.
    pub fn counts(&self) -> Vec<(Standing, usize)> {
        let count = |standing| self.rollouts.iter().filter(|rollout| Standing::of(rollout) == standing).count();
        Standing::ALL.into_iter().map(|standing| (standing, count(standing))).filter(|(_, count)| *count > 0).collect()
    }

    /// Returns the number of all rollouts.
    pub fn total(&self) -> usize {
        self.rollouts.len()
    }

    /// Returns the place of the selected rollout in the shown ones.
    pub fn place(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.shown().iter().position(|rollout| rollout.id == *selected)
    }

    /// Returns the selected rollout; `None` if none is shown.
    pub fn current(&self) -> Option<&RolloutView> {
        self.shown().get(self.place()?).copied()
    }

    /// Selects the first rollout if the selected one is not shown.
    fn keep_selected(&mut self) {
        if self.place().is_none() {
            self.select(0);
        }
    }

    fn select(&mut self, place: usize) {
        let shown = self.shown();
        let place = place.min(shown.len().saturating_sub(1));
        self.selected = shown.get(place).map(|rollout| rollout.id.clone());
        self.scroll = 0;
    }

    fn go(&mut self, by: isize) {
        self.select(self.place().unwrap_or_default().saturating_add_signed(by));
    }

    /// Handles a key.
    pub fn press(&mut self, key: KeyCode, modifiers: KeyModifiers) -> TopOutcome {
        if key == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL) {
            return TopOutcome::Quit;
        }
        if self.types {
            return self.type_key(key);
        }
        if self.has_help {
            self.has_help = false;
            return if key == KeyCode::Char('q') { TopOutcome::Quit } else { TopOutcome::Draw };
        }
        match key {
            KeyCode::Char('q') => return TopOutcome::Quit,
            KeyCode::Esc if self.is_wide => self.is_wide = false,
            KeyCode::Esc if !self.search.is_empty() || self.standing.is_some() => {
                self.search.clear();
                self.standing = None;
                self.keep_selected();
            }
            KeyCode::Esc => return TopOutcome::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-(PAGE as isize)),
            KeyCode::PageDown => self.go(PAGE as isize),
            KeyCode::Home | KeyCode::Char('g') => self.select(0),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            KeyCode::Enter => self.is_wide = !self.is_wide,
            KeyCode::Char(' ') => self.scroll = self.scroll.saturating_add(5),
            KeyCode::Backspace => self.scroll = self.scroll.saturating_sub(5),
            KeyCode::Tab | KeyCode::Char('f') => {
                self.standing = self.next_standing();
                self.keep_selected();
            }
            KeyCode::Char('/') => self.types = true,
            KeyCode::Char('?' | 'h') => self.has_help = true,
            KeyCode::Char('r') => return TopOutcome::Ask,
            _ => {}
        }
        TopOutcome::Draw
    }

    fn type_key(&mut self, key: KeyCode) -> TopOutcome {
        match key {
            KeyCode::Enter => self.types = false,
            KeyCode::Esc => {
                self.types = false;
                self.search.clear();
            }
            KeyCode::Backspace => drop(self.search.pop()),
            KeyCode::Char(typed) if self.search.chars().count() < MOST_TYPED => self.search.push(typed),
            _ => {}
        }
        self.keep_selected();
        TopOutcome::Draw
    }

    /// Returns the next standing that has a rollout, and after the last one all.
    fn next_standing(&self) -> Option<Standing> {
        let present: Vec<Standing> = self.counts().into_iter().map(|(standing, _)| standing).collect();
        match self.standing {
            None => present.first().copied(),
            Some(now) => present.into_iter().find(|standing| *standing > now),
        }
    }
}
