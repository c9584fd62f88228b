//! The table: the outcomes of each row, counted.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::bars::Bar;
use super::oracle::{End, Outcome};

/// The outcomes of one row and one kind of version.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The outcomes, in the order of the seeds.
    pub outcomes: Vec<Outcome>,
}

impl Summary {
    /// Adds an outcome.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Returns the share of outcomes for which something holds, 0 to 1.
    pub fn share(&self, holds: impl Fn(&Outcome) -> bool) -> f64 {
        let count = self.outcomes.iter().filter(|outcome| holds(outcome)).count();
        count as f64 / self.outcomes.len().max(1) as f64
    }

    /// Returns the mean of a number over all outcomes.
    pub fn mean(&self, number: impl Fn(&Outcome) -> f64) -> f64 {
        self.outcomes.iter().map(number).sum::<f64>() / self.outcomes.len().max(1) as f64
    }

    /// Returns the median time to the end in minutes, of the outcomes for which something holds; 0 if there is none.
    pub fn median_minutes(&self, holds: impl Fn(&Outcome) -> bool) -> f64 {
        let mut minutes: Vec<f64> =
            self.outcomes.iter().filter(|outcome| holds(outcome)).map(|outcome| outcome.minutes).collect();
        minutes.sort_by(f64::total_cmp);
        minutes.get(minutes.len() / 2).copied().unwrap_or(0.0)
    }

    /// Returns the table's header.
    pub fn header() -> &'static str {
        "| row | version | runs | promoted | rolled back | quarantined | given up | other end | no end | reached stable | serves | wrong version | extra failed | unserved | unready s | unanswered s | minutes | bars missed |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    }

    /// Returns the line with a name, for good or bad versions.
    pub fn line(&self, name: &str, good: bool) -> String {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let ends = |end: End| percent(self.share(|outcome| outcome.end == end));
        let missed: Vec<String> = Bar::missed(self).iter().map(|bar| format!("{bar:?}")).collect();
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {} |",
            name,
            if good { "good" } else { "bad" },
            self.outcomes.len(),
            ends(End::Promoted),
            ends(End::RolledBack),
            percent(self.share(|outcome| outcome.quarantined)),
            ends(End::GivenUp),
            ends(End::Other),
            ends(End::Unended),
            percent(self.share(|outcome| outcome.reached_stable)),
            percent(self.share(|outcome| outcome.serves)),
            percent(self.share(|outcome| outcome.misplaced)),
            self.mean(|outcome| outcome.extra_failed),
            self.mean(|outcome| outcome.unserved),
            self.mean(|outcome| outcome.unready_secs),
            self.mean(|outcome| outcome.unanswered_secs),
            self.median_minutes(|outcome| outcome.end != End::Unended),
            missed.join(", "),
        )
    }

    /// Returns the reasons of the wrong outcomes, the commonest first, each with a seed.
    pub fn reasons(&self) -> Vec<String> {
        let mut kinds: BTreeMap<String, (usize, &Outcome)> = BTreeMap::new();
        for outcome in self.outcomes.iter().filter(|outcome| !outcome.is_right()) {
            let fault = outcome.fault.map(|fault| format!(" ({})", fault.name())).unwrap_or_default();
            let kind = format!("{:?}{fault}: {}", outcome.end, without_numbers(&outcome.why));
            kinds.entry(kind).or_insert((0, outcome)).0 += 1;
        }
        let mut ranked: Vec<(usize, &Outcome)> = kinds.into_values().collect();
        ranked.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let line = |(count, outcome): &(usize, &Outcome)| {
            let fault = outcome.fault.map(|fault| format!(" ({})", fault.name())).unwrap_or_default();
            let mut line = format!("{count}x {:?}{fault}, seed {}: ", outcome.end, outcome.seed);
            let _ = write!(line, "{}", outcome.why.chars().take(220).collect::<String>());
            line
        };
        ranked.iter().map(line).collect()
    }
}

/// Returns the beginning of a sentence with its numbers replaced, so that sentences of one kind are equal.
fn without_numbers(text: &str) -> String {
    let mut kind = String::new();
    for c in text.chars().take(50) {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !kind.ends_with('#') {
            kind.push(c);
        }
    }
    kind
}
