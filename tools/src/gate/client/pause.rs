//! The pauses before retries: the server's, or our own that double, both with some chance in them, so that many clients
//! that failed at the same moment do not come back at the same moment.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// Our own pause before the first retry; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Our own longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause of a server that is waited; with a longer one the request has no answer.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// The longest time by which a server's pause is extended by chance.
const LONGEST_EXTENSION: Duration = Duration::from_secs(1);

/// The pauses before the retries of one request.
#[derive(Debug)]
pub(super) struct Pauses {
    own: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { own: FIRST_PAUSE }
    }
}

impl Pauses {
    /// Returns the next pause: at least the server's if it asks for one, and otherwise between half of our own and all
    /// of it.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.own;
        self.own = own.saturating_mul(2).min(LONGEST_PAUSE);
        match asked {
            Some(asked) => asked + (asked / 10).min(LONGEST_EXTENSION).mul_f64(chance()),
            None => own.mul_f64(0.5 + chance() / 2.0),
        }
    }
}

/// Returns a number from 0 to 1 that differs in each call and process.
fn chance() -> f64 {
    // The keys of the standard library's hasher are random.
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

/// Returns the pause that a server asks for: `retry-after-ms` in milliseconds (OpenAI and Azure send it), or
/// `Retry-After` in seconds or as a date, which is compared with the server's own `Date`. `None` if it asks for none, or
/// in another form.
pub(super) fn asked_pause(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    if let Some(pause) = number("retry-after-ms").and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()) {
        return Some(pause);
    }
    if let Some(seconds) = number(RETRY_AFTER.as_str()) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = |name: &str| httpdate::parse_http_date(text(name)?).ok();
    let (until, now) = (date(RETRY_AFTER.as_str())?, date(DATE.as_str())?);
    Some(until.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_pause_is_taken_in_seconds_in_milliseconds_and_as_a_date() {
        let pause = |pairs: &[(&'static str, &str)]| {
            asked_pause(&HeaderMap::from_iter(
                pairs.iter().map(|(name, text)| (name.parse().unwrap(), text.parse().unwrap())),
            ))
        };
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(pause(&[("retry-after", "3")]), Some(Duration::from_secs(3)));
        assert_eq!(pause(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        assert_eq!(pause(&[("retry-after", "3"), ("retry-after-ms", "2500")]), Some(Duration::from_millis(2500)));
        assert_eq!(pause(&[("retry-after", "Wed, 21 Oct 2026 07:29:30 GMT"), date]), Some(Duration::from_secs(90)));
        assert_eq!(pause(&[("retry-after", "Wed, 21 Oct 2026 07:00:00 GMT"), date]), Some(Duration::ZERO));
        for text in ["-1", "NaN", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(pause(&[("retry-after", text)]), None, "{text}");
        }
    }

    #[test]
    fn a_pause_is_never_shorter_than_the_server_asks_and_never_grows_without_bound() {
        let mut pauses = Pauses::default();
        let asked = Duration::from_secs(120);
        for _ in 0..100 {
            let pause = pauses.next(Some(asked));
            assert!(pause >= asked && pause <= asked + LONGEST_EXTENSION, "{pause:?}");
        }
        let own: Vec<Duration> = (0..100).map(|_| pauses.next(None)).collect();
        assert!(own.iter().all(|pause| *pause <= LONGEST_PAUSE && *pause >= LONGEST_PAUSE / 2), "{own:?}");
        assert!(own.iter().collect::<std::collections::BTreeSet<_>>().len() > 90, "they differ: {own:?}");
        assert!(Pauses::default().next(None) <= FIRST_PAUSE);
    }
}
