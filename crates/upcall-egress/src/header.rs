//! Headers that somebody configured.

use http::{HeaderName, HeaderValue};

/// A header that can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// The name is none.
    #[error("is no header's name")]
    Name,
    /// The header belongs to the connection, which the client makes.
    #[error("is a header that is made with the request")]
    Taken,
    /// The value is none. It is not shown: it may be a secret.
    #[error("can't be a header's value: it is empty, or holds a line break or another control character")]
    Value,
}

/// Reads a header. Its value will not be shown anywhere.
///
/// # Errors
/// If the name or the value can't be sent, or the header is one of the connection's.
pub fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidHeader> {
    let name: HeaderName = name.parse().map_err(|_| InvalidHeader::Name)?;
    if TAKEN.contains(&name.as_str()) {
        return Err(InvalidHeader::Taken);
    }
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| InvalidHeader::Value)?;
    if value.is_empty() {
        return Err(InvalidHeader::Value);
    }
    value.set_sensitive(true);
    Ok((name, value))
}

const TAKEN: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_can_not_break_out_of_its_header() {
        let (name, value) = header("Authorization", "Bearer hunter2\n").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer hunter2"));
        assert!(!format!("{value:?}").contains("hunter2"));
        assert_eq!(header("a", "b\r\nx: y"), Err(InvalidHeader::Value));
        assert_eq!(header("a", " "), Err(InvalidHeader::Value));
        assert_eq!(header("a b", "c"), Err(InvalidHeader::Name));
        assert_eq!(header("Host", "c"), Err(InvalidHeader::Taken));
    }
}
