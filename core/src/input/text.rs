//! The length of the texts that an event brings from outside. They are copied into reasons, the history, effects and
//! notifications, so each is shortened before an engine takes the event in.

use super::event::{Event, MAX_RECEIPT_BYTES, Outcome};
use super::status::{Acceptance, DeploymentStatus, WorkloadStatus};
use crate::measure::block::{Block, Gap, Sample};

/// The longest text from outside, in bytes.
pub const MAX_TEXT_BYTES: usize = 2 << 10;
/// The end of a text that was shortened.
const ELLIPSIS: &str = "…";

impl Event {
    /// Shortens the texts for people to [`MAX_TEXT_BYTES`]. Names, images and identities stay as they are.
    pub fn shorten_texts(&mut self) {
        match self {
            Event::Requested { request, .. } => request.reason.iter_mut().for_each(shorten),
            Event::Deployed { artifact, .. } => artifact.iter_mut().for_each(shorten),
            Event::Commanded { command, .. } => command.reason.iter_mut().for_each(shorten),
            Event::Tested { report, .. } => report.summary.iter_mut().for_each(shorten),
            Event::Observed { status, .. } => shorten_status(status),
            Event::Measured { block, .. } => shorten_block(block),
            Event::Performed { outcome, .. } => shorten_outcome(outcome),
            Event::Uncovered { .. } | Event::Tick => {}
        }
    }
}

/// Shortens a text to [`MAX_TEXT_BYTES`], and ends it with an ellipsis if it was longer.
fn shorten(text: &mut String) {
    shorten_to(text, MAX_TEXT_BYTES);
}

/// Shortens a text to `max` bytes, and ends it with an ellipsis if it was longer.
fn shorten_to(text: &mut String, max: usize) {
    if text.len() > max {
        let fits = (0..=max - ELLIPSIS.len()).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(fits.unwrap_or(0));
        text.push_str(ELLIPSIS);
    }
}

fn shorten_outcome(outcome: &mut Outcome) {
    match outcome {
        Outcome::Failed(failure) => shorten(&mut failure.message),
        Outcome::Probed { problems, .. } => problems.iter_mut().for_each(shorten),
        Outcome::Preflight(preflight) => shorten_status(&mut preflight.status),
        Outcome::Sent { receipt } => shorten_to(receipt, MAX_RECEIPT_BYTES),
        Outcome::Done | Outcome::Pointed { .. } => {}
    }
}

fn shorten_status(status: &mut WorkloadStatus) {
    let WorkloadStatus { stable, canary, baseline, route, route_by, released } = status;
    for DeploymentStatus { problem, template_by, replicas_by, .. } in [stable, canary, baseline].into_iter().flatten() {
        template_by.iter_mut().chain(replicas_by).for_each(shorten);
        if let Some(problem) = problem {
            [&mut problem.object, &mut problem.reason, &mut problem.message].into_iter().for_each(shorten);
        }
    }
    if let Some(Acceptance::Refused(message)) = route.as_mut().map(|route| &mut route.accepted) {
        shorten(message);
    }
    route_by.iter_mut().for_each(shorten);
    if let Some(author) = released.as_mut().map(|release| &mut release.author) {
        shorten(&mut author.by);
        author.why.iter_mut().for_each(shorten);
    }
}

fn shorten_block(block: &mut Block) {
    let strata = block.strata.iter_mut().flat_map(|(_, strata)| strata.iter_mut());
    for (_, sample) in block.metrics.iter_mut().chain(block.cold.iter_mut()).chain(strata) {
        let Sample::Gap(gap) = sample else { continue };
        match gap {
            Gap::Unanswered { error: text }
            | Gap::Partial { warning: text }
            | Gap::Malformed { problem: text }
            | Gap::Fell { series: text }
            | Gap::Vanished { series: text }
            | Gap::NotANumber { series: text } => shorten(text),
            Gap::Stale { .. } | Gap::NoBaseline => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_with_an_ellipsis_at_a_whole_character() {
        for (text, expected) in [
            ("x".repeat(MAX_TEXT_BYTES), "x".repeat(MAX_TEXT_BYTES)),
            ("x".repeat(MAX_TEXT_BYTES + 1), "x".repeat(MAX_TEXT_BYTES - 3) + ELLIPSIS),
            ("é".repeat(MAX_TEXT_BYTES), "é".repeat((MAX_TEXT_BYTES - 3) / 2) + ELLIPSIS),
        ] {
            let mut shortened = text;
            shorten(&mut shortened);
            assert_eq!(shortened, expected);
            assert!(shortened.len() <= MAX_TEXT_BYTES);
        }
    }
}
