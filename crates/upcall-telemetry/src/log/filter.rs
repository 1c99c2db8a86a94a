//! What is logged: a level, or levels by crate.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The levels, and what switches logging off.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The longest filter, in bytes, and the most levels in it: each is looked at for every place that logs.
const BYTES_MAX: usize = 4096;
const LEVELS_MAX: usize = 64;

/// Libraries that write messages, commands or passwords at `debug`.
const TELLING: [&str; 2] = ["async_nats", "lettre"];

/// A filter that is none.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It says nothing.
    #[error("it is empty; write a level, such as `info`")]
    Empty,
    /// It is too long.
    #[error("it has more than {BYTES_MAX} bytes or {LEVELS_MAX} levels")]
    TooLong,
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
    if filter.len() > BYTES_MAX || words.len() > LEVELS_MAX {
        return Err(FilterError::TooLong);
    }
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    if let Some(word) = words.iter().find(|word| !word.contains(['=', '[']) && !is_level(word)) {
        return Err(FilterError::NoLevel { word: (*word).to_owned() });
    }
    // Values are no regular expressions: one of a hundred letters can take a gigabyte.
    Ok(EnvFilter::builder().with_regex(false).parse(words.join(","))?)
}

/// The most that is logged of a target, whatever a filter says. Our own lines have neither secrets nor bodies at any level;
/// libraries write at `trace` what they read and send, and some do at `debug`.
pub(super) fn most_of(target: &str) -> LevelFilter {
    let is_of =
        |library: &&str| target.strip_prefix(library).is_some_and(|below| below.is_empty() || below.starts_with("::"));
    if target.starts_with("upcall") {
        LevelFilter::TRACE
    } else if TELLING.iter().any(is_of) {
        LevelFilter::INFO
    } else {
        LevelFilter::DEBUG
    }
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
            (&format!("{}info", "upcall_gateway=debug,".repeat(LEVELS_MAX)), "has more than 4096 bytes or 64 levels"),
            (&format!("{}=info", "a".repeat(BYTES_MAX)), "has more than 4096 bytes or 64 levels"),
        ] {
            let error = check_filter(filter).unwrap_err().to_string();
            assert!(error.contains(expected), "{filter}: {error}");
        }
    }

    #[test]
    fn a_value_is_no_regular_expression() {
        let costly = format!("info,x[{{a=(a|b)*a{}}}]=debug", "(a|b)".repeat(25));
        let began = std::time::Instant::now();
        check_filter(&costly).unwrap();
        assert!(began.elapsed() < std::time::Duration::from_secs(2), "it took {:?}", began.elapsed());
    }

    #[test]
    fn what_libraries_tell_of_what_they_send_is_never_logged() {
        for (target, most) in [
            ("upcall_gateway::callback", LevelFilter::TRACE),
            ("upcall", LevelFilter::TRACE),
            ("async_nats", LevelFilter::INFO),
            ("async_nats::connection", LevelFilter::INFO),
            ("async_nats_of_another", LevelFilter::DEBUG),
            ("lettre::transport::smtp::client::async_connection", LevelFilter::INFO),
            ("hyper::proto::h1::io", LevelFilter::DEBUG),
        ] {
            assert_eq!(most_of(target), most, "{target}");
        }
    }
}
