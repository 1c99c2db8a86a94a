//! The event's identity.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Identifies an upload: 128 bits of a SHA-256 over signed content, written as 32 lower-case hex digits.
///
/// The same upload has the same id through every callback URL, gateway and source, so that every
/// layer can recognise a repetition without asking another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);

impl EventId {
    /// Derives the id of an upload whose request id at OSS is known. The usual case.
    #[must_use]
    pub fn from_request(bucket: &str, object: &str, request_id: &str) -> Self {
        Self::hash("upcall/request/1", &[bucket.as_bytes(), object.as_bytes(), request_id.as_bytes()])
    }

    /// Derives the id of an upload whose body names no request id, from what OSS signed and the request id that the
    /// (unsigned) `x-oss-request-id` header gives.
    ///
    /// Weaker than [`EventId::from_request`]: whoever replays a captured callback can choose the header.
    #[must_use]
    pub fn from_signed(string_to_sign: &[u8], request_id_header: Option<&str>) -> Self {
        Self::hash("upcall/signed/1", &[string_to_sign, request_id_header.unwrap_or_default().as_bytes()])
    }

    /// The id's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Takes an id from its bytes, as a bus stores them.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Hashes parts with their lengths, so that no two lists of parts have the same input.
    fn hash(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(domain.as_bytes());
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    fn hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

/// A string that is not 32 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event id is 32 lower-case hex digits, not {0:?}")]
pub struct InvalidEventId(String);

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut id = [0; 16];
        let pairs = text.as_bytes().chunks_exact(2);
        let right_length = text.len() == 32;
        for (byte, pair) in id.iter_mut().zip(pairs) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(InvalidEventId(text.to_owned()));
            };
            *byte = high << 4 | low;
        }
        if right_length { Ok(Self(id)) } else { Err(InvalidEventId(text.to_owned())) }
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_upload_has_the_same_id_for_ever() {
        // A change of these values breaks deduplication across an upgrade.
        let by_request = EventId::from_request("examplebucket", "a.txt", "5CF3E7821AB22D0FDB86704D");
        assert_eq!(by_request.to_string(), "754473cb82421ab533de1d528d54ff06");
        let by_signature = EventId::from_signed(b"/callback\nobject=a.txt", Some("5CF3E7821AB22D0FDB86704D"));
        assert_eq!(by_signature.to_string(), "21b1762fdb50fce039eb5c8af0318239");
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_id() {
        assert_ne!(EventId::from_request("ab", "c", "r"), EventId::from_request("a", "bc", "r"));
        assert_ne!(EventId::from_signed(b"ab", Some("c")), EventId::from_signed(b"a", Some("bc")));
    }

    #[test]
    fn an_id_survives_its_text() {
        let id = EventId::from_request("b", "o", "r");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "00", &"0".repeat(31), &"0".repeat(33), &"A".repeat(32), &"g".repeat(32), &"é".repeat(16)] {
            assert!(wrong.parse::<EventId>().is_err(), "{wrong:?} was taken for an id");
        }
    }
}
