//! What OSS makes of the application server's answer, and what the uploader gets to see.

use std::fmt::Write;
use std::time::Duration;

/// The longest answer that OSS relays, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The head of an application server's answer, as far as OSS judges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerHead<'a> {
    /// The status.
    pub status: u16,
    /// The `content-length` header.
    pub content_length: Option<&'a str>,
}

/// Why a callback failed. The object is stored all the same, and the uploader gets 203 with this as XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallbackFailure {
    /// Any status but 200, redirects included.
    Status(u16),
    /// No connection.
    NoConnection,
    /// More than OSS's patience.
    Timeout {
        /// How long it took.
        cost: Duration,
        /// How long it may take.
        limit: Duration,
    },
    /// The answer is not JSON, or begins with a byte order mark.
    NotJson,
    /// There is no Content-Length.
    LengthMissing,
    /// Content-Length is no positive number.
    LengthInvalid,
    /// Content-Length is beyond what OSS relays.
    LengthTooLong,
    /// The template names image values, and the object can't be read as an image.
    ImageInfo,
}

impl CallbackFailure {
    /// The status that the uploader gets.
    pub const STATUS: u16 = 203;
    /// The `Code` of the XML.
    pub const CODE: &str = "CallbackFailed";

    /// The `Message` of the XML, spelt as OSS spells it.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Status(status) => format!("Error status : {status}."),
            Self::NoConnection => {
                "Error status : -1.OSS can not connect to your callbackUrl, please check it.".to_owned()
            }
            Self::Timeout { cost, limit } => {
                let (cost, limit) = (cost.as_millis(), limit.as_millis());
                format!("Callback reply timeout, cost:{cost}ms, timeout:{limit}ms (-4, errno 115)")
            }
            Self::NotJson => "Response body is not valid json format.".to_owned(),
            Self::LengthMissing => "Error Status : 400.User server missing content-length.".to_owned(),
            Self::LengthInvalid => "Error Status : 400.User server return invalid conent-length value.".to_owned(),
            Self::LengthTooLong => "Error Status : 400.User server return too long content-length value.".to_owned(),
            Self::ImageInfo => "Get image info failed.".to_owned(),
        }
    }

    /// The `EC` of the XML, where it is known.
    #[must_use]
    pub fn ec(&self) -> Option<&'static str> {
        match self {
            Self::Status(_) | Self::NoConnection => Some("0007-00000203"),
            Self::Timeout { .. } => Some("0007-00000202"),
            Self::NotJson => Some("0007-00000205"),
            Self::LengthMissing | Self::LengthInvalid | Self::LengthTooLong => None,
            Self::ImageInfo => Some("0007-00000301"),
        }
    }
}

/// Judges the head of an answer: what its body's length is, if OSS reads it at all.
///
/// # Errors
/// With what the uploader is told.
pub fn check_answer_head(head: AnswerHead<'_>) -> Result<usize, CallbackFailure> {
    if head.status != 200 {
        return Err(CallbackFailure::Status(head.status));
    }
    let text = head.content_length.ok_or(CallbackFailure::LengthMissing)?.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CallbackFailure::LengthInvalid);
    }
    // Digits that are no usize are many.
    match text.parse() {
        Ok(0) => Err(CallbackFailure::LengthInvalid),
        Ok(length) if length <= ANSWER_BYTES_MAX => Ok(length),
        _ => Err(CallbackFailure::LengthTooLong),
    }
}

/// Judges a whole answer.
///
/// # Errors
/// With what the uploader is told.
pub fn check_answer(head: AnswerHead<'_>, body: &[u8]) -> Result<(), CallbackFailure> {
    let length = check_answer_head(head)?;
    // serde_json takes no byte order mark either, but would skip over strings that are not UTF-8.
    match str::from_utf8(body).map(serde_json::from_str::<serde::de::IgnoredAny>) {
        Ok(Ok(_)) if body.len() == length => Ok(()),
        _ => Err(CallbackFailure::NotJson),
    }
}

/// Writes an error as OSS does.
#[must_use]
pub fn error_xml(code: &str, message: &str, request_id: &str, host_id: &str, ec: Option<&str>) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\n");
    let elements = [
        ("Code", Some(code)),
        ("Message", Some(message)),
        ("RequestId", Some(request_id)),
        ("HostId", Some(host_id)),
        ("EC", ec),
    ];
    for (name, text) in elements {
        if let Some(text) = text {
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            writeln!(xml, "  <{name}>{text}</{name}>").expect("writing to a string does not fail");
        }
    }
    xml.push_str("</Error>\n");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, content_length: Option<&str>, body: &str, expected: Result<(), CallbackFailure>) {
        assert_eq!(check_answer(AnswerHead { status, content_length }, body.as_bytes()), expected);
    }

    #[test]
    fn only_200_with_its_length_and_json_is_relayed() {
        check(200, Some("15"), r#"{"Status":"OK"}"#, Ok(()));
        check(200, Some("4"), "null", Ok(()));
        check(204, Some("2"), "{}", Err(CallbackFailure::Status(204)));
        check(302, None, "", Err(CallbackFailure::Status(302)));
        check(200, None, "{}", Err(CallbackFailure::LengthMissing));
        check(200, Some("0"), "", Err(CallbackFailure::LengthInvalid));
        check(200, Some("-1"), "", Err(CallbackFailure::LengthInvalid));
        check(200, Some("1048577"), "", Err(CallbackFailure::LengthTooLong));
        let longest = format!("[{}]", " ".repeat(ANSWER_BYTES_MAX - 2));
        check(200, Some("1048576"), &longest, Ok(()));
        check(200, Some("99999999999999999999999"), "", Err(CallbackFailure::LengthTooLong));
        check(200, Some("5"), "hello", Err(CallbackFailure::NotJson));
        check(200, Some("5"), "\u{feff}{}", Err(CallbackFailure::NotJson));
        check(200, Some("3"), "{}", Err(CallbackFailure::NotJson));
        let head = AnswerHead { status: 200, content_length: Some("3") };
        assert_eq!(check_answer(head, b"\"\xff\""), Err(CallbackFailure::NotJson));
    }

    #[test]
    fn errors_are_xml_whatever_they_say() {
        let xml = error_xml("CallbackFailed", "a <b> & c", "R", "h", Some("0007-00000203"));
        assert!(
            xml.contains("<Message>a &lt;b&gt; &amp; c</Message>") && xml.contains("<EC>0007-00000203</EC>"),
            "{xml}"
        );
        assert!(!error_xml("C", "m", "r", "h", None).contains("EC"));
    }
}
