//! The request target of a callback: raw, and decoded as it is signed.

use std::borrow::Cow;

/// A request target, raw, whose decoded path can't be mistaken for more than a path.
///
/// OSS signs the decoded path, then `?` and the raw query, then a line feed and the body. A path that decodes to `?`,
/// CR or LF would let one signature stand for several requests, so no target has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    raw: &'a str,
    raw_path: &'a str,
    path: Cow<'a, str>,
    query: Option<&'a str>,
}

/// Why a request target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is no path with an optional query: it does not begin with `/`, or holds `#`, white space or control characters.
    #[error("the request target is not a path with an optional query")]
    Form,
    /// Its path decodes to `?`, CR or LF.
    #[error("the path holds an encoded `?` or line break, with which one signature could stand for several requests")]
    Ambiguous,
    /// Its path decodes to something that is not UTF-8.
    #[error("the path does not decode to UTF-8")]
    Encoding,
}

impl<'a> Target<'a> {
    /// Takes a request target as it came.
    ///
    /// # Errors
    /// If it is not of the form that OSS sends, or is ambiguous when decoded.
    pub fn parse(raw: &'a str) -> Result<Self, TargetError> {
        let stray = |byte: u8| byte <= b' ' || byte == b'#' || byte == 0x7f;
        if !raw.starts_with('/') || raw.bytes().any(stray) {
            return Err(TargetError::Form);
        }
        let (raw_path, query) = match raw.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (raw, None),
        };
        let path = percent_decode(raw_path).map_err(|_| TargetError::Encoding)?;
        if path.contains(['?', '\r', '\n']) {
            return Err(TargetError::Ambiguous);
        }
        Ok(Self { raw, raw_path, path, query })
    }

    /// The target as it came.
    #[must_use]
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// The percent-decoded path; `+` stays. This is what the route is chosen by.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What stands behind the first `?`, raw. Empty and absent are two things.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The decoded path with `+` taken for a space, where that makes a difference.
    pub(crate) fn path_with_spaces(&self) -> Option<String> {
        if !self.raw_path.contains('+') {
            return None;
        }
        percent_decode(&self.raw_path.replace('+', " ")).ok().map(Cow::into_owned)
    }
}

/// Decodes `%XX`; what is no escape stays as it is, as in Python's and Go's sample servers.
fn percent_decode(text: &str) -> Result<Cow<'_, str>, std::string::FromUtf8Error> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1).copied().and_then(hex_digit), bytes.get(at + 2).copied().and_then(hex_digit)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map(Cow::Owned)
}

/// The value of a hex digit, in either case.
pub(crate) fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn path_and_query_are_told_apart_at_the_first_question_mark() {
        let target = Target::parse("/a%2Fb/+c?x=%31&y=?").unwrap();
        assert_eq!((target.path(), target.query()), ("/a/b/+c", Some("x=%31&y=?")));
        assert_eq!(Target::parse("/a").unwrap().query(), None);
        assert_eq!(Target::parse("/a?").unwrap().query(), Some(""));
    }

    #[test]
    fn a_path_that_decodes_to_more_than_a_path_is_refused() {
        for ambiguous in ["/a%3Fb", "/a%3fb?c", "/a%0Ab", "/a%0D", "/%0a"] {
            assert_eq!(Target::parse(ambiguous), Err(TargetError::Ambiguous), "{ambiguous}");
        }
        assert_eq!(Target::parse("/a%253Fb").unwrap().path(), "/a%3Fb");
        assert!(Target::parse("/a?b%0A%3F").is_ok(), "the query is signed raw");
    }

    #[test]
    fn other_forms_are_refused() {
        for wrong in ["", "a", "http://host/a", "*", "/a b", "/a\nb", "/a#b", "/a\0", "/a\u{7f}"] {
            assert_eq!(Target::parse(wrong), Err(TargetError::Form), "{wrong:?}");
        }
        assert_eq!(Target::parse("/%ff"), Err(TargetError::Encoding));
    }

    proptest! {
        #[test]
        fn no_target_panics_and_the_raw_form_stays(raw in any::<String>()) {
            if let Ok(target) = Target::parse(&raw) {
                prop_assert_eq!(target.raw(), raw.as_str());
            }
        }

        #[test]
        fn an_encoded_path_decodes_to_itself(path in "[^?\r\n]{0,20}") {
            let encoded: String = path.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let raw = format!("/{encoded}");
            let target = Target::parse(&raw).unwrap();
            prop_assert_eq!(&target.path()[1..], path);
        }
    }
}
