//! The settings of the sampler.

use bellwether_core::time::Span;

/// The settings of the sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Distance between two ticks.
    pub interval: Span,
    /// Distance between a tick and the instant that it reads. At least the scrape interval plus the time until a sample
    /// is visible to queries; with less, the last events of a burst are counted one block too late.
    pub lag: Span,
    /// Distance between two scrapes of a target. A sample older than 2.5 scrape intervals is stale.
    pub scrape_interval: Span,
    /// Value of the parameter `{{window}}` of raw queries.
    pub window: Span,
}

/// The scrape intervals after which a sample is stale.
pub const STALE_INTERVALS: f64 = 2.5;

impl Options {
    /// Returns the age above which a sample is stale, in seconds.
    pub fn stale_seconds(&self) -> f64 {
        STALE_INTERVALS * self.scrape_interval.as_secs_f64()
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            interval: Span::from_secs(15),
            lag: Span::from_secs(15),
            scrape_interval: Span::from_secs(15),
            window: Span::from_secs(300),
        }
    }
}
