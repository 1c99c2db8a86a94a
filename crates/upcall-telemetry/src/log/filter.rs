//! What is logged: a level, or levels by crate.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The levels, and what switches logging off.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A filter that is none.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It says nothing.
    #[error("it is empty; write a level, such as `info`")]
    Empty,
    /// A word stands alone and is no level. It would be taken for a crate of which everything is logged.
    #[error("{word:?} is no level; there are {}, and `CRATE=LEVEL` for one crate", LEVELS.join(", "))]
    NoLevel {
        /// The word.
        word: String,
    },
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Unreadable(#[from] ParseError),
}

/// Checks a filter such as `info` or `info,upcall_gateway=debug`.
///
/// # Errors
/// If it is none.
pub fn check_filter(filter: &str) -> Result<(), FilterError> {
    parse(filter).map(drop)
}

pub(super) fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    if filter.trim().is_empty() {
        return Err(FilterError::Empty);
    }
    let words: Vec<&str> = filter.split(',').map(str::trim).collect();
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    if let Some(word) = words.iter().find(|word| !word.contains(['=', '[']) && !is_level(word)) {
        return Err(FilterError::NoLevel { word: (*word).to_owned() });
    }
    Ok(EnvFilter::try_new(words.join(","))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_no_filter() {
        for filter in ["info", "INFO", "off", "info, upcall_gateway=debug", "warn,upcall[callback{route=a}]=trace"] {
            check_filter(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        }
        for (filter, expected) in [
            ("", "is empty"),
            ("debgu", "\"debgu\" is no level; there are off, error"),
            ("info,upcall_gateway", "is no level"),
            ("info,", "is no level"),
            ("upcall_gateway=loud", "can't be read"),
        ] {
            let error = check_filter(filter).unwrap_err().to_string();
            assert!(error.contains(expected), "{filter}: {error}");
        }
    }
}
