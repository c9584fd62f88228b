//! The default values of a policy's keys. `config/default.toml` documents the same values; a test compares the two.

use crate::ids::Weight;
use crate::measure::metric::RawLimit;
use crate::time::Span;

pub(super) fn cohort_share() -> Weight {
    Weight::percent(50)
}

pub(super) fn ready_within() -> Span {
    Span::from_secs(300)
}

pub(super) fn promote_within() -> Span {
    Span::from_secs(600)
}

pub(super) fn follows_within() -> Span {
    Span::from_secs(120)
}

pub(super) fn drain() -> Span {
    Span::from_secs(10)
}

pub(super) fn warm_up() -> Span {
    Span::from_secs(60)
}

pub(super) fn block_age() -> Span {
    Span::from_secs(60)
}

pub(super) fn max_hold() -> Span {
    Span::from_secs(3600)
}

pub(super) fn patience() -> Span {
    Span::from_secs(600)
}

pub(super) fn approval_patience() -> Span {
    Span::from_secs(86_400)
}

pub(super) fn alpha() -> RawLimit {
    RawLimit::Text("1%".to_owned())
}

pub(super) fn beta() -> RawLimit {
    RawLimit::Text("5%".to_owned())
}
