//! The behaviour of a pod, which follows from the tag of the image that it runs.
//!
//! `registry.test/shop/web:v2-err5-slow10_800` is version `v2`: 5 of each 100 requests fail, and 10 of each 100 take
//! 800 ms. The version is followed by marks:
//!
//! | mark | effect |
//! | --- | --- |
//! | `err<percent>` | this share of the requests gets a 500 |
//! | `slow<percent>_<ms>` | this share of the requests takes this long |
//! | `after<seconds>` | the marks to its right begin this long after the start of the pod |
//! | `until<seconds>` | the marks to its right end this long after the start of the pod |
//! | `late` | the pod is ready 5 s after its creation (see `stages.yaml`) |
//! | `nopull` | the image can't be pulled, so the pod never runs (see `stages.yaml`) |
//! | `crash` | the container ends at once, again and again (see `stages.yaml`) |
//!
//! The shares are exact and not random, so a test can compare counts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The behaviour of a pod over its life.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Behaviour {
    errors: Vec<Share>,
    delays: Vec<(Share, Duration)>,
}

/// The answer to one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedAnswer {
    /// Whether it is a 500; otherwise it is a 200.
    pub fails: bool,
    /// Time before it is sent.
    pub delay: Duration,
}

impl PlannedAnswer {
    /// Returns the answer with the faults of both: it fails if one fails, and has the longer delay.
    pub fn and(self, other: PlannedAnswer) -> PlannedAnswer {
        PlannedAnswer { fails: self.fails || other.fails, delay: self.delay.max(other.delay) }
    }
}

/// A share of the requests in a span of the pod's life.
#[derive(Debug, Clone, PartialEq)]
struct Share {
    /// From 0 to 100.
    percent: f64,
    after: Duration,
    until: Duration,
}

/// Returns the tag of an image. A pod reports the whole tag as its version.
pub fn tag(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    image.rsplit_once(':').map_or("latest", |(_, tag)| tag)
}

impl Behaviour {
    /// Returns the behaviour of an image.
    ///
    /// # Errors
    /// A part of the tag after the first `-` is not a mark. A typing error in a story must not give a good pod.
    pub fn of(image: &str) -> Result<Self> {
        let mut behaviour = Self::default();
        let mut span = (Duration::ZERO, Duration::MAX);
        for mark in tag(image).split('-').skip(1) {
            behaviour.add(mark, &mut span).with_context(|| format!("the mark `{mark}` of the image {image}"))?;
        }
        Ok(behaviour)
    }

    fn add(&mut self, mark: &str, span: &mut (Duration, Duration)) -> Result<()> {
        let (after, until) = *span;
        if let Some(percent) = mark.strip_prefix("err") {
            self.errors.push(Share { percent: parse_percent(percent)?, after, until });
        } else if let Some(slow) = mark.strip_prefix("slow") {
            let (percent, ms) = slow.split_once('_').context("slow<percent>_<ms>")?;
            let share = Share { percent: parse_percent(percent)?, after, until };
            self.delays.push((share, Duration::from_millis(ms.parse()?)));
        } else if let Some(seconds) = mark.strip_prefix("after") {
            span.0 = Duration::from_secs(seconds.parse()?);
        } else if let Some(seconds) = mark.strip_prefix("until") {
            span.1 = Duration::from_secs(seconds.parse()?);
        } else {
            let known = ["late", "nopull", "crash"].contains(&mark);
            ensure!(known, "there is no such mark; testkit/src/plane/behaviour.rs lists them");
        }
        Ok(())
    }

    /// Returns the answer to request number `n` of a pod, from 0, that has run for `age`.
    pub fn answer(&self, n: u64, age: Duration) -> PlannedAnswer {
        let fails = self.errors.iter().any(|share| share.includes(n, age, 61));
        let delays = self.delays.iter().filter(|(share, _)| share.includes(n, age, 979));
        PlannedAnswer { fails, delay: delays.map(|(_, delay)| *delay).max().unwrap_or_default() }
    }
}

impl Share {
    /// Returns whether the share includes request `n`. Whole percents are exact in each hundred requests, and tenths in
    /// each thousand. `stride` has no factor in common with either, so it visits every position once and spreads the
    /// share. Delays have another stride than errors, so that they do not always hit the same requests.
    fn includes(&self, n: u64, age: Duration, stride: u64) -> bool {
        let block = if self.percent.fract() == 0.0 { 100 } else { 1000 };
        let position = (n % block) * stride % block;
        (self.after..self.until).contains(&age) && (position as f64) < self.percent * block as f64 / 100.0
    }
}

fn parse_percent(text: &str) -> Result<f64> {
    let percent: f64 = text.parse()?;
    ensure!((0.0..=100.0).contains(&percent), "{percent} is not a percentage from 0 to 100");
    Ok(percent)
}
