//! The answer to a request of the HTTP trigger, in the form of its event.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// Writes an answer as the HTTP trigger takes it from a function. A body that is no text goes as Base64.
#[must_use]
pub fn http_answer<'h>(status: u16, headers: impl Iterator<Item = (&'h str, &'h str)>, body: &[u8]) -> Vec<u8> {
    let headers: BTreeMap<&str, &str> = headers.collect();
    let (body, is_encoded) = match str::from_utf8(body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (STANDARD.encode(body), true),
    };
    json!({ "statusCode": status, "headers": headers, "isBase64Encoded": is_encoded, "body": body })
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_documented_json() {
        let headers = [("content-type", "application/json"), ("content-length", "15")];
        let answer = http_answer(200, headers.into_iter(), br#"{"Status":"OK"}"#);
        assert_eq!(
            String::from_utf8(answer).unwrap(),
            r#"{"body":"{\"Status\":\"OK\"}","headers":{"content-length":"15","content-type":"application/json"},"isBase64Encoded":false,"statusCode":200}"#
        );
        let answer: serde_json::Value = serde_json::from_slice(&http_answer(200, [].into_iter(), &[255])).unwrap();
        assert_eq!((&answer["body"], &answer["isBase64Encoded"]), (&json!("/w=="), &json!(true)));
    }
}
