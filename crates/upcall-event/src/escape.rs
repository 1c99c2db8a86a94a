//! Percent-encoding, where CloudEvents asks for it.

/// Encodes a CloudEvents attribute for a header: whatever is not printable ASCII, and space, `"` and `%`
/// (CloudEvents HTTP binding 1.0.2, §3.1.3.2).
pub(crate) fn header_value(text: &str) -> String {
    percent_encode(text, |byte| (0x21..0x7f).contains(&byte) && byte != b'"' && byte != b'%')
}

/// Encodes a path segment of a URI: whatever is not unreserved (RFC 3986, §2.3).
pub(crate) fn uri_segment(text: &str) -> String {
    percent_encode(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// Encodes every byte that `stays` does not keep as `%` and two upper-case hex digits.
pub(crate) fn percent_encode(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    push_percent_encoded(&mut encoded, text, stays);
    encoded
}

/// Appends the encoded text.
pub(crate) fn push_percent_encoded(encoded: &mut String, text: &str, stays: impl Fn(u8) -> bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}
