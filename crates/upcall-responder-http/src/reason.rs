//! Why a service vetoed, as far as its answer says.

use reqwest::StatusCode;
use serde_json::Value;

/// Members of a JSON body that say why, most specific first. `detail` is that of problem details (RFC 9457).
const MEMBERS: &[&str] = &["reason", "message", "detail"];
/// The longest text that is taken for a reason, in bytes. What is longer is a page.
const TEXT_BYTES_MAX: usize = 256;

/// The reason: what the JSON says, else a short text, else the status.
pub(crate) fn reason(status: StatusCode, body: &[u8]) -> String {
    from_body(body).unwrap_or_else(|| format!("the service answered with status {status}"))
}

fn from_body(body: &[u8]) -> Option<String> {
    let reason = match serde_json::from_slice(body) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(mut members)) => {
            let said = MEMBERS.iter().filter_map(|name| match members.remove(*name) {
                Some(Value::String(text)) if !text.trim().is_empty() => Some(text),
                _ => None,
            });
            return said.into_iter().next();
        }
        Ok(_) => return None,
        Err(_) => str::from_utf8(body).ok().filter(|text| is_short_text(text))?.to_owned(),
    };
    (!reason.trim().is_empty()).then_some(reason)
}

fn is_short_text(text: &str) -> bool {
    // Not a page of HTML, and not JSON that is broken.
    text.len() <= TEXT_BYTES_MAX && !text.trim_start().starts_with(['<', '{', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: &str) {
        assert_eq!(reason(StatusCode::FORBIDDEN, body.as_bytes()), expected);
    }

    #[test]
    fn a_service_says_why_in_json_or_in_a_short_text() {
        check(r#"{"reason":"quota used up"}"#, "quota used up");
        check(r#"{"message":"no","reason":"quota used up"}"#, "quota used up");
        check(r#"{"message":"no such album","code":7}"#, "no such album");
        check(r#"{"type":"about:blank","title":"Forbidden","detail":"not yours"}"#, "not yours");
        check(r#"{"reason":7,"message":"no"}"#, "no");
        check(r#""not yours""#, "not yours");
        check("not yours", "not yours");
    }

    #[test]
    fn the_status_stands_for_what_says_nothing() {
        let status = "the service answered with status 403 Forbidden";
        for body in ["", " ", "{}", "[]", "7", r#"{"reason":""}"#, "<html>no</html>", r#"{"reason""#] {
            check(body, status);
        }
        check(&"x".repeat(TEXT_BYTES_MAX + 1), status);
        assert_eq!(reason(StatusCode::FORBIDDEN, b"\xff"), status);
    }
}
