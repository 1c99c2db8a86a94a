//! Moments and ages, as they are typed.

use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A moment: either RFC 3339, or how long ago it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    text: String,
    when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    At(Timestamp),
    Ago(Duration),
}

impl Moment {
    /// The moment, seen from now.
    ///
    /// # Errors
    /// If it is before all time.
    pub(crate) fn from(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        match self.when {
            When::At(moment) => Ok(moment),
            When::Ago(age) => before(now, age),
        }
    }

    /// As it was typed.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// What was so long before a moment.
///
/// # Errors
/// If that is before all time.
pub(crate) fn before(now: Timestamp, age: Duration) -> anyhow::Result<Timestamp> {
    let age = SignedDuration::try_from(age)?;
    Ok(now.checked_sub(age)?)
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let when = match (text.parse(), humantime::parse_duration(text)) {
            (Ok(moment), _) => When::At(moment),
            (_, Ok(age)) => When::Ago(age),
            _ => return Err("write a moment such as 2026-01-31T12:00:00Z, or an age such as 2h or 7d".to_owned()),
        };
        Ok(Self { text: text.to_owned(), when })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_an_age() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let moment = |text: &str| text.parse::<Moment>().unwrap().from(now).unwrap().to_string();
        assert_eq!(moment("2026-01-30T12:00:00+02:00"), "2026-01-30T10:00:00Z");
        assert_eq!(moment("1h 30m"), "2026-01-31T10:30:00Z");
        assert_eq!(moment("0s"), "2026-01-31T12:00:00Z");
        for wrong in ["", "yesterday", "2026-01-30", "5"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong:?}");
        }
        assert!("1000000years".parse::<Moment>().unwrap().from(now).is_err());
    }
}
