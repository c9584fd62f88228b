//! The texts of a plan.

use std::fmt;

use super::forecast::{Detection, Fault, ProofPlan};
use super::looks::SimulatedSteps;
use super::traffic::CheckTraffic;
use bellwether_core::measure::metric::Unit;
use bellwether_core::time::Span;

/// Writes a median of simulated times, in whole minutes from ten minutes on.
fn about(time: Span) -> String {
    let minute = 60_000;
    let ms = time.as_millis();
    let rounded = if ms < 10 * minute { ms } else { (ms + minute / 2) / minute * minute };
    format!("about {}", Span::from_millis(rounded))
}

/// Writes a share of the runs. A share of 0 is written as a bound, because it is not certain.
fn share(share: f64, runs: u64) -> String {
    match share {
        0.0 => format!("fewer than 1 in {runs}"),
        1.0 => "all".to_owned(),
        share => Unit::Percent.show(share),
    }
}

impl fmt::Display for Fault {
    /// Writes the share and its multiple, as in `0.2 % (2x)` or `2 % (limit x2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = Unit::Percent.show(self.share);
        match self.times {
            Some(times) => write!(f, "{share} ({times}x)"),
            None => write!(f, "{share} (limit x2)"),
        }
    }
}

impl fmt::Display for CheckTraffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests/s, {} bad, ", Unit::Number.show(self.rps), Unit::Percent.show(self.share))?;
        match self.clusters {
            Some(clusters) => write!(f, "clusters of {:.1} in {} pods", clusters.phi, clusters.pods),
            None => write!(f, "clusters unknown, φ assumed to be {}", self.phi()),
        }
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Detection::Allowed => f.write_str("allowed by limit and margin"),
            Detection::Within { after } => f.write_str(&about(*after)),
            Detection::Later { after, weight } => {
                let time = after.map_or_else(|| "more than a day".to_owned(), about);
                write!(f, "{time}: not within the step; ")?;
                match (weight, after) {
                    (Some(weight), _) => write!(f, "raise the weight to {weight}"),
                    (None, Some(_)) => f.write_str("no weight up to 50 % would do, a longer step would"),
                    (None, None) => f.write_str("no weight up to 50 % would do"),
                }
            }
            Detection::Looks(steps) => steps.fmt(f),
        }
    }
}

impl fmt::Display for SimulatedSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rolled back", share(self.rolled_back, self.runs))?;
        if let Some(after) = self.after {
            write!(f, ", {}", about(after))?;
        }
        if self.undecided > 0.5 {
            write!(
                f,
                "; at its end too few requests to judge, or over the limit, in {}",
                share(self.undecided, self.runs)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for ProofPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a version like the present one is shown to be good enough after ")?;
        let time = self.after.map_or_else(|| "more than a day".to_owned(), about);
        match (self.within, self.weight) {
            (true, _) => f.write_str(&time),
            (false, Some(weight)) => {
                write!(f, "{time}, later than the steps last; raise the last step's weight to {weight}")
            }
            (false, None) => write!(
                f,
                "{time}, later than the steps last; no last weight up to 50 % would do, so make the step longer or set \
                 proof = \"no-alarm\""
            ),
        }
    }
}
