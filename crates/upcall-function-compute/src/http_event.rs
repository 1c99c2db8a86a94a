//! A request of the HTTP trigger, in the form of an event.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A request of the HTTP trigger, in the form of an event (version 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpEvent {
    /// The method.
    pub method: String,
    /// The headers, in no order. A name may come more than once.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
    path: String,
    query: Query,
}

/// What is left of the query: its parameters, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Query {
    None,
    /// One parameter.
    One(String, String),
    /// Several parameters, in an order that is lost, or one several times.
    Lost,
}

/// The event does not hold the query as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the event does not hold the query as it was sent: there may be one parameter, of letters, digits and -._~ alone"
)]
pub struct Unverifiable;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_path: String,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    query_parameters: Option<Map<String, Value>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
    request_context: Context,
}

#[derive(Deserialize)]
struct Context {
    http: Http,
}

#[derive(Deserialize)]
struct Http {
    method: String,
}

impl HttpEvent {
    pub(crate) fn read(json: Value) -> Option<Self> {
        let Raw { raw_path, headers, query_parameters, body, is_base64_encoded, request_context } =
            serde_json::from_value(json).ok()?;
        let body = body.unwrap_or_default();
        let body = if is_base64_encoded { STANDARD.decode(body).ok()? } else { body.into_bytes() };
        let mut pairs = Vec::new();
        for (name, value) in headers {
            match value {
                Value::String(value) => pairs.push((name, value)),
                Value::Array(values) => {
                    for value in values {
                        pairs.push((name.clone(), value.as_str()?.to_owned()));
                    }
                }
                _ => return None,
            }
        }
        let mut parameters = query_parameters.unwrap_or_default().into_iter();
        let query = match (parameters.next(), parameters.next()) {
            (None, _) => Query::None,
            (Some((name, Value::String(value))), None) => Query::One(name, value),
            _ => Query::Lost,
        };
        Some(Self { method: request_context.http.method, headers: pairs, body, path: raw_path, query })
    }

    /// The target as it was sent, where the event holds enough to know it.
    ///
    /// A query is there as a map of decoded values: neither the order of parameters nor their encoding is known. So one
    /// parameter is taken whose name and value no encoder changes, and nothing is guessed.
    ///
    /// # Errors
    /// If the query may have been another one.
    pub fn target(&self) -> Result<String, Unverifiable> {
        match &self.query {
            Query::None => Ok(self.path.clone()),
            Query::One(name, value) if is_plain(name) && is_plain(value) => Ok(format!("{}?{name}={value}", self.path)),
            Query::One(..) | Query::Lost => Err(Unverifiable),
        }
    }
}

/// Whether there is one way only to write this in a query: unreserved characters, of RFC 3986. Nothing at all may have been
/// written with `=` or without.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Event;

    /// As Alibaba Cloud documents it.
    const DOCUMENTED: &str = r#"{"version":"v1","rawPath":"/example","body":"Hello FC!","isBase64Encoded":false,
        "headers":{"Header1":"value1,value2","header2":"value3"},"queryParameters":{"parameter1":"value1"},
        "requestContext":{"accountId":"123456*********","domainName":"<http-trigger-id>.<region-id>.fcapp.run","domainPrefix":"<http-trigger-id>",
        "http":{"method":"GET","path":"/example","protocol":"HTTP/1.1","sourceIp":"11.11.11.**","userAgent":"PostmanRuntime/7.32.3"},
        "requestId":"1-64f6cd87-*************","time":"2023-09-05T06:41:11Z","timeEpoch":"1693896071895"}}"#;

    fn parse(text: &str) -> HttpEvent {
        match Event::parse(text.as_bytes()) {
            Ok(Event::Http(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_documented_event_is_read() {
        let event = parse(DOCUMENTED);
        assert_eq!((event.method.as_str(), event.body.as_slice()), ("GET", &b"Hello FC!"[..]));
        assert_eq!(event.target().as_deref(), Ok("/example?parameter1=value1"));
        let headers: Vec<_> = event.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, [("Header1", "value1,value2"), ("header2", "value3")]);
    }

    #[test]
    fn a_body_may_be_encoded() {
        let event = parse(&DOCUMENTED.replace("Hello FC!", "AP8=").replace("false", "true"));
        assert_eq!(event.body, [0, 255]);
    }

    #[test]
    fn a_query_that_may_have_been_another_one_is_not_guessed() {
        let target = |query: Value| {
            let mut json: Value = serde_json::from_str(DOCUMENTED).unwrap();
            json["queryParameters"] = query;
            parse(&json.to_string()).target()
        };
        assert_eq!(target(json!({})).as_deref(), Ok("/example"));
        assert_eq!(target(Value::Null).as_deref(), Ok("/example"));
        for lost in [
            json!({ "a": "1", "b": "2" }),
            json!({ "a": ["1", "2"] }),
            json!({ "a": "" }),
            json!({ "": "a" }),
            json!({ "a": "b c" }),
            json!({ "a": "b/c" }),
            json!({ "a": "\u{e9}" }),
        ] {
            assert_eq!(target(lost.clone()), Err(Unverifiable), "{lost}");
        }
    }

    #[test]
    fn what_is_no_event_of_a_trigger_is_none() {
        for other in [
            "",
            "null",
            "[]",
            "{}",
            "\"text\"",
            r#"{"events":{}}"#,
            r#"{"requestContext":{}}"#,
            r#"{"events":[],"requestContext":{"http":{"method":"POST"}},"rawPath":"/"}"#,
        ] {
            assert!(Event::parse(other.as_bytes()).is_err(), "{other}");
        }
        assert_eq!(Event::parse(br#"{"events":[]}"#), Ok(Event::Oss));
    }

    proptest! {
        /// Whatever a client of the HTTP trigger sends, it does not become an event of the OSS trigger.
        #[test]
        fn a_clients_request_stays_one(body in "\\PC*", path in "/\\PC*", name in "\\PC+", value in "\\PC*") {
            let json = json!({ "version": "v1", "rawPath": path, "body": body, "isBase64Encoded": false, "headers": { &name: value },
                "queryParameters": { &name: value }, "requestContext": { "http": { "method": "POST" } } });
            let Ok(Event::Http(event)) = Event::parse(json.to_string().as_bytes()) else { panic!("another event") };
            prop_assert_eq!(&event.body, body.as_bytes());
            if let Ok(target) = event.target() {
                prop_assert_eq!(target, format!("{path}?{name}={value}"));
            }
        }

        #[test]
        fn nothing_that_is_handed_over_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::parse(&bytes);
        }
    }
}
