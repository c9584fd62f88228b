//! The little language of image tags: what a pod does follows from the image that it runs.
//!
//! `registry.test/shop/web:v2-err5-slow10_800` is version `v2`: 5 of each 100 requests fail and 10 of each 100 take 800 ms.
//!
//! | mark | what it does |
//! | --- | --- |
//! | `err<percent>` | that share of the requests gets a 500 |
//! | `slow<percent>_<ms>` | that share takes so long |
//! | `after<seconds>` | the marks to its right begin so long after the pod's start |
//! | `until<seconds>` | the marks to its right end so long after the pod's start: it is cold at first |
//! | `nopull` | the image cannot be pulled (the pod never runs; see `stages.yaml`) |
//! | `crash` | the container ends at once, again and again (likewise) |
//!
//! The shares are exact, not random: a test that counts can compare.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Behaviour {
    errors: Vec<Share>,
    delays: Vec<(Share, Duration)>,
}

/// What the pod does with one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    pub fails: bool,
    pub delay: Duration,
}

impl Answer {
    /// Both happen.
    pub fn and(self, other: Answer) -> Answer {
        Answer { fails: self.fails || other.fails, delay: self.delay.max(other.delay) }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Share {
    percent: f64,
    after: Duration,
    until: Duration,
}

/// The tag of an image; the whole of it is what a pod calls its version.
pub fn tag(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    image.rsplit_once(':').map_or("latest", |(_, tag)| tag)
}

impl Behaviour {
    /// Everything after the first `-` of the tag has to be a mark: a slip of the pen in a story is an error, not a pod
    /// that behaves well.
    pub fn of(image: &str) -> Result<Self> {
        let mut behaviour = Self::default();
        let mut when = (Duration::ZERO, Duration::MAX);
        for mark in tag(image).split('-').skip(1) {
            behaviour.add(mark, &mut when).with_context(|| format!("the mark `{mark}` of the image {image}"))?;
        }
        Ok(behaviour)
    }

    fn add(&mut self, mark: &str, when: &mut (Duration, Duration)) -> Result<()> {
        let (after, until) = *when;
        if let Some(percent) = mark.strip_prefix("err") {
            self.errors.push(Share { percent: parse_percent(percent)?, after, until });
        } else if let Some(slow) = mark.strip_prefix("slow") {
            let (percent, ms) = slow.split_once('_').context("slow<percent>_<ms>")?;
            let share = Share { percent: parse_percent(percent)?, after, until };
            self.delays.push((share, Duration::from_millis(ms.parse()?)));
        } else if let Some(seconds) = mark.strip_prefix("after") {
            when.0 = Duration::from_secs(seconds.parse()?);
        } else if let Some(seconds) = mark.strip_prefix("until") {
            when.1 = Duration::from_secs(seconds.parse()?);
        } else {
            ensure!(["nopull", "crash"].contains(&mark), "no such mark; see tests/real/plane/behaviour.rs");
        }
        Ok(())
    }

    /// What happens to request number `n` of a pod that has run for `age`.
    pub fn answer(&self, n: u64, age: Duration) -> Answer {
        let fails = self.errors.iter().any(|share| share.hits(n, age, 61));
        let delays = self.delays.iter().filter(|(share, _)| share.hits(n, age, 979));
        Answer { fails, delay: delays.map(|(_, delay)| *delay).max().unwrap_or_default() }
    }
}

impl Share {
    /// Whole percents are exact in each hundred requests, tenths in each thousand. `stride` has no factor in common with
    /// either, so it visits every place once and spreads the hits; another stride for the delays keeps them from always
    /// falling on the same requests as the errors.
    fn hits(&self, n: u64, age: Duration, stride: u64) -> bool {
        let block = if self.percent.fract() == 0.0 { 100 } else { 1000 };
        let place = (n % block) * stride % block;
        (self.after..self.until).contains(&age) && (place as f64) < self.percent * block as f64 / 100.0
    }
}

fn parse_percent(text: &str) -> Result<f64> {
    let percent: f64 = text.parse()?;
    ensure!((0.0..=100.0).contains(&percent), "{percent} is no share in percent");
    Ok(percent)
}
