//! The event as a CloudEvent 1.0: structured (one JSON document) or binary (headers and data).

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Event, EventId, TraceContext, UploadCompleted, escape};

/// The CloudEvents `type` of our event. A change that readers could trip over gets a new number.
pub const EVENT_TYPE: &str = "upcall.upload.completed.v1";
/// The CloudEvents version.
pub const SPEC_VERSION: &str = "1.0";
const CONTENT_TYPE: &str = "application/json";

/// The structured form, as it is written and as the schema describes it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(
    title = "UploadCompleted",
    description = "An upload to object storage, completed and authenticated: a CloudEvent in JSON format."
)]
pub(crate) struct Envelope<'a> {
    /// The version of CloudEvents: `1.0`.
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    /// The event's id: the same upload has the same id. 32 lower-case hex digits.
    #[schemars(with = "String", regex(pattern = "^[0-9a-f]{32}$"))]
    id: EventId,
    /// The event's type: `upcall.upload.completed.v1`.
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    /// Where it happened: `/oss/BUCKET`.
    #[serde(borrow)]
    source: Cow<'a, str>,
    /// The object's key.
    #[serde(borrow)]
    subject: Cow<'a, str>,
    /// When the gateway took the callback in (RFC 3339, UTC).
    time: Timestamp,
    /// The type of `data`: `application/json`.
    #[serde(borrow)]
    datacontenttype: Cow<'a, str>,
    /// The trace that the event belongs to, as W3C Trace Context has it. Absent where nothing is traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    traceparent: Option<Cow<'a, str>>,
    /// What tracing systems have to tell each other, as W3C Trace Context has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    tracestate: Option<Cow<'a, str>>,
    /// What is known about the upload.
    data: Cow<'a, UploadCompleted>,
}

/// The structured form, read only as far as the binary form needs it.
#[derive(Deserialize)]
struct Outline<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    id: EventId,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tracestate: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// An event as headers and data, for transports that carry both.
///
/// Header values are percent-encoded as the HTTP binding of CloudEvents prescribes, so that they are printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryEvent {
    /// `ce-…` attributes, `content-type`, and `traceparent` and `tracestate` where there is a trace; names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The JSON of [`UploadCompleted`].
    pub data: Vec<u8>,
}

/// A CloudEvent that is not one of ours, or not whole.
#[derive(Debug, thiserror::Error)]
pub enum MalformedEvent {
    /// The JSON is not that of our event.
    #[error("the event is not JSON of the expected shape")]
    Json(#[from] serde_json::Error),
    /// Another version of CloudEvents.
    #[error("specversion is {0:?}, not 1.0")]
    SpecVersion(String),
    /// Another type of event.
    #[error("type is {0:?}, not upcall.upload.completed.v1")]
    Type(String),
    /// A header that must be there is not.
    #[error("header {0} is missing")]
    MissingHeader(&'static str),
    /// A header's value can't be read.
    #[error("header {name} has the unreadable value {value:?}")]
    Header {
        /// The header.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl Event {
    /// The CloudEvents `source`: `/oss/BUCKET`, percent-encoded where a URI needs it.
    #[must_use]
    pub fn source(&self) -> String {
        format!("/oss/{}", escape::uri_segment(&self.data.bucket))
    }

    /// Writes the structured form: one JSON document.
    #[must_use]
    pub fn to_structured(&self) -> Vec<u8> {
        let parent = self.trace.as_ref().map(TraceContext::parent);
        let envelope = Envelope {
            specversion: SPEC_VERSION.into(),
            id: self.id,
            kind: EVENT_TYPE.into(),
            source: self.source().into(),
            subject: self.data.object.as_str().into(),
            time: self.time,
            datacontenttype: CONTENT_TYPE.into(),
            traceparent: parent.as_ref().map(|parent| parent.as_str().into()),
            tracestate: self.trace.as_ref().and_then(TraceContext::state).map(|state| state.as_str().into()),
            data: Cow::Borrowed(&self.data),
        };
        let mut json = Vec::with_capacity(1024);
        serde_json::to_writer(&mut json, &envelope)
            .expect("strings, numbers and maps with string keys are always JSON");
        json
    }

    /// Reads the structured form.
    ///
    /// # Errors
    /// If it is no JSON, lacks something, or is a CloudEvent of another version or type.
    pub fn from_structured(json: &[u8]) -> Result<Self, MalformedEvent> {
        let envelope: Envelope<'_> = serde_json::from_slice(json)?;
        check_kind(&envelope.specversion, &envelope.kind)?;
        let trace = read_trace(envelope.traceparent.as_deref(), envelope.tracestate.as_deref());
        Ok(Self { id: envelope.id, time: envelope.time, data: envelope.data.into_owned(), trace })
    }

    /// Writes the binary form: attributes as headers, the upload as data.
    #[must_use]
    pub fn to_binary(&self) -> BinaryEvent {
        let mut headers = vec![
            ("ce-specversion", SPEC_VERSION.to_owned()),
            ("ce-id", self.id.to_string()),
            ("ce-type", EVENT_TYPE.to_owned()),
            ("ce-source", escape::header_value(&self.source())),
            ("ce-subject", escape::header_value(&self.data.object)),
            ("ce-time", self.time.to_string()),
            ("content-type", CONTENT_TYPE.to_owned()),
        ];
        headers.extend(self.trace.iter().flat_map(TraceContext::headers));
        let data = serde_json::to_vec(&self.data).expect("strings, numbers and maps with string keys are always JSON");
        BinaryEvent { headers, data }
    }

    /// Reads the binary form. `header` looks a header up by its lower-case name.
    ///
    /// # Errors
    /// If a header or the data is missing, unreadable, or of another version or type.
    pub fn from_binary<'h>(
        header: impl Fn(&'static str) -> Option<&'h str>,
        data: &[u8],
    ) -> Result<Self, MalformedEvent> {
        let required = |name| header(name).ok_or(MalformedEvent::MissingHeader(name));
        let unreadable = |name, value: &str| MalformedEvent::Header { name, value: value.to_owned() };
        check_kind(required("ce-specversion")?, required("ce-type")?)?;
        let (id, time) = (required("ce-id")?, required("ce-time")?);
        Ok(Self {
            id: id.parse().map_err(|_| unreadable("ce-id", id))?,
            time: time.parse().map_err(|_| unreadable("ce-time", time))?,
            data: serde_json::from_slice(data)?,
            trace: read_trace(header(TraceContext::PARENT), header(TraceContext::STATE)),
        })
    }
}

impl BinaryEvent {
    /// Makes the binary form of the structured one, several times as fast as by way of an [`Event`]: what `data` says
    /// is taken over as it is written, unread.
    ///
    /// # Errors
    /// If it is no JSON, lacks something, or is a CloudEvent of another version or type.
    pub fn from_structured(json: &str) -> Result<Self, MalformedEvent> {
        let outline: Outline<'_> = serde_json::from_str(json)?;
        check_kind(&outline.specversion, &outline.kind)?;
        if !outline.data.get().starts_with('{') {
            return Err(MalformedEvent::Json(serde::de::Error::custom("data is no object")));
        }
        let mut headers = vec![
            ("ce-specversion", SPEC_VERSION.to_owned()),
            ("ce-id", outline.id.to_string()),
            ("ce-type", EVENT_TYPE.to_owned()),
            ("ce-source", escape::header_value(&outline.source)),
            ("ce-subject", escape::header_value(&outline.subject)),
            ("ce-time", escape::header_value(&outline.time)),
            ("content-type", CONTENT_TYPE.to_owned()),
        ];
        let trace = read_trace(outline.traceparent.as_deref(), outline.tracestate.as_deref());
        headers.extend(trace.iter().flat_map(TraceContext::headers));
        Ok(Self { headers, data: outline.data.get().as_bytes().to_vec() })
    }

    /// The trace that the event belongs to.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        let header =
            |name| self.headers.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        read_trace(header(TraceContext::PARENT), header(TraceContext::STATE))
    }
}

/// A trace that can't be read is none: it is no reason to lose an event.
fn read_trace(parent: Option<&str>, state: Option<&str>) -> Option<TraceContext> {
    TraceContext::parse(parent?, state).ok()
}

fn check_kind(spec_version: &str, kind: &str) -> Result<(), MalformedEvent> {
    if spec_version != SPEC_VERSION {
        return Err(MalformedEvent::SpecVersion(spec_version.to_owned()));
    }
    if kind != EVENT_TYPE {
        return Err(MalformedEvent::Type(kind.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TraceState;
    use crate::event::tests::example;

    fn read_binary(event: &BinaryEvent) -> Result<Event, MalformedEvent> {
        let header = |name| event.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        Event::from_binary(header, &event.data)
    }

    proptest! {
        #[test]
        fn every_event_survives_both_forms(bucket in any::<String>(), object in any::<String>(), size in any::<Option<u64>>(),
                                           vars in any::<std::collections::BTreeMap<String, String>>(),
                                           trace in any::<Option<([u8; 16], [u8; 8], bool)>>(), has_state in any::<bool>()) {
            let mut event = example();
            event.data.bucket = bucket;
            event.data.object = object;
            event.data.size = size;
            event.data.vars = vars;
            let state = TraceState::parse("vendor=a/b,other=\"quoted\"").ok().filter(|_| has_state);
            let trace = trace.and_then(|(trace, span, is_sampled)| TraceContext::new(trace, span, is_sampled));
            event.trace = trace.map(|trace| trace.with_state(state));
            prop_assert_eq!(&Event::from_structured(&event.to_structured()).unwrap(), &event);
            let binary = event.to_binary();
            prop_assert!(binary.headers.iter().all(|(_, value)| value.bytes().all(|b| (0x20..0x7f).contains(&b))));
            prop_assert_eq!(&read_binary(&binary).unwrap(), &event);
            let structured = String::from_utf8(event.to_structured()).unwrap();
            let converted = BinaryEvent::from_structured(&structured).unwrap();
            prop_assert_eq!(converted.trace(), event.trace);
            prop_assert_eq!(converted, binary);
        }
    }

    #[test]
    fn the_structured_form_is_the_documented_one() {
        let written: serde_json::Value = serde_json::from_slice(&example().to_structured()).unwrap();
        let documented = serde_json::json!({
            "specversion": "1.0", "id": example().id.to_string(), "type": "upcall.upload.completed.v1",
            "source": "/oss/examplebucket", "subject": "exampledir/exampleobject.txt",
            "time": "2026-01-01T00:00:00.123456Z", "datacontenttype": "application/json",
            "data": {
                "bucket": "examplebucket", "object": "exampledir/exampleobject.txt",
                "etag": "D8E8FCA2DC0F896FD7CB4CB0031BA249", "size": 1024, "mime_type": "text/plain",
                "crc64": "17834398232350201234", "content_md5": null,
                "image": {"width": 200, "height": 278, "format": "jpg"}, "operation": "PutObject",
                "request_id": "5CF3E7821AB22D0FDB86704D", "client_ip": "203.0.113.7", "vpc_id": null,
                "vars": {"user": "42"}, "extra": {"anything": "else the body carried"}, "route": "avatars",
                "bucket_from": "body", "proof": ["signature"], "origin": "callback",
            },
        });
        assert_eq!(written, documented);
    }

    #[test]
    fn a_trace_that_is_none_costs_no_event() {
        let mut json: serde_json::Value = serde_json::from_slice(&example().to_structured()).unwrap();
        json["traceparent"] = "00-what".into();
        assert_eq!(Event::from_structured(json.to_string().as_bytes()).unwrap(), example());
        assert_eq!(BinaryEvent::from_structured(&json.to_string()).unwrap().headers, example().to_binary().headers);
        let mut binary = example().to_binary();
        binary.headers.push(("traceparent", "00-what".into()));
        assert_eq!(read_binary(&binary).unwrap(), example());
    }

    #[test]
    fn strange_events_are_refused_and_not_guessed() {
        let with = |key: &str, value: serde_json::Value| {
            let mut json: serde_json::Value = serde_json::from_slice(&example().to_structured()).unwrap();
            json[key] = value;
            let (read, converted) = (Event::from_structured(json.to_string().as_bytes()), json.to_string());
            if !matches!(key, "data") {
                assert_eq!(BinaryEvent::from_structured(&converted).is_ok(), read.is_ok(), "{key}");
            }
            read
        };
        assert!(matches!(with("type", "com.example.other".into()), Err(MalformedEvent::Type(_))));
        assert!(matches!(with("specversion", "0.3".into()), Err(MalformedEvent::SpecVersion(_))));
        assert!(matches!(with("data", serde_json::json!({})), Err(MalformedEvent::Json(_))));
        assert!(matches!(with("id", "x".into()), Err(MalformedEvent::Json(_))));
        assert!(with("someextension", "is fine".into()).is_ok());
        let mut binary = example().to_binary();
        binary.headers.retain(|(name, _)| *name != "ce-id");
        assert!(matches!(read_binary(&binary), Err(MalformedEvent::MissingHeader("ce-id"))));
    }
}
