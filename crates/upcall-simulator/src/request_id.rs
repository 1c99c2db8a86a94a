//! Request ids as OSS makes them.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

/// Identifies a request: 24 upper-case hex digits, of which the first 8 are the Unix time in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes ids. They are unlikely to be guessed or to repeat, and promise neither.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// Seeded by the operating system.
    random: RandomState,
    made: AtomicU64,
}

impl Ids {
    /// Makes the id of a request that arrives now.
    pub(crate) fn request(&self) -> RequestId {
        let seconds = Timestamp::now().as_second();
        RequestId(format!("{:08X}{:016X}", seconds & 0xFFFF_FFFF, self.number()))
    }

    /// Makes the id of a multipart upload: 32 upper-case hex digits.
    pub(crate) fn upload(&self) -> String {
        format!("{:016X}{:016X}", self.number(), self.number())
    }

    fn number(&self) -> u64 {
        self.random.hash_one(self.made.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_begins_with_the_time() {
        let before = Timestamp::now().as_second();
        let id = Ids::default().request().to_string();
        assert_eq!(id.len(), 24);
        assert!(id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')));
        let seconds = i64::from_str_radix(&id[..8], 16).unwrap();
        assert!((before..=before + 60).contains(&seconds));
    }

    #[test]
    fn ids_differ() {
        let ids = Ids::default();
        assert_ne!(ids.request(), ids.request());
        assert_ne!(ids.upload(), ids.upload());
    }
}
