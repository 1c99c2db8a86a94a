//! What is exported is short, whoever wrote it: names and values may come from anybody who can send a request.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;

/// The longest text of a span, in bytes. A subject and the reason of a refusal fit, nearly always.
const SPAN_TEXT_BYTES_MAX: usize = 256;
/// The longest text of a log line, in bytes: an error has its causes behind it.
const LINE_TEXT_BYTES_MAX: usize = 4096;
/// Stands for what was left out.
const LEFT_OUT: char = '…';

/// Shortens every text of a span.
pub(crate) fn span(span: &mut Span) {
    const MAX: usize = SPAN_TEXT_BYTES_MAX;
    text(&mut span.name, MAX);
    attributes(&mut span.attributes, MAX);
    for event in &mut span.events {
        text(&mut event.name, MAX);
        attributes(&mut event.attributes, MAX);
    }
    for link in &mut span.links {
        attributes(&mut link.attributes, MAX);
    }
    if let Some(status) = &mut span.status {
        text(&mut status.message, MAX);
    }
}

/// Shortens every text of a log line.
pub(crate) fn line(line: &mut LogRecord) {
    if let Some(body) = &mut line.body {
        value(body, LINE_TEXT_BYTES_MAX);
    }
    attributes(&mut line.attributes, LINE_TEXT_BYTES_MAX);
}

fn attributes(attributes: &mut [KeyValue], bytes_max: usize) {
    for attribute in attributes {
        text(&mut attribute.key, bytes_max);
        if let Some(any) = &mut attribute.value {
            value(any, bytes_max);
        }
    }
}

fn value(any: &mut AnyValue, bytes_max: usize) {
    match &mut any.value {
        Some(Value::StringValue(string)) => text(string, bytes_max),
        Some(Value::BytesValue(bytes)) => {
            bytes.truncate(bytes_max);
            bytes.shrink_to_fit();
        }
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(|any| value(any, bytes_max)),
        Some(Value::KvlistValue(list)) => attributes(&mut list.values, bytes_max),
        Some(_) | None => {}
    }
}

fn text(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - LEFT_OUT.len_utf8()));
        text.push(LEFT_OUT);
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_never_longer_than_it_may_be_and_keeps_its_beginning(original in "\\PC{0,400}", max in 3_usize..300) {
            let mut short = original.clone();
            text(&mut short, max);
            prop_assert!(short.len() <= max.max(original.len().min(max)));
            if original.len() <= max {
                prop_assert_eq!(&short, &original);
            } else {
                let kept = short.strip_suffix(LEFT_OUT);
                prop_assert!(kept.is_some_and(|kept| original.starts_with(kept)), "{:?}", short);
            }
        }
    }

    #[test]
    fn whatever_a_span_or_a_line_says_is_short() {
        let long = || "ü".repeat(8000);
        let pair = |any| KeyValue { key: "key".to_owned(), value: Some(any), ..KeyValue::default() };
        let string = || AnyValue { value: Some(Value::StringValue(long())) };
        let nested = AnyValue {
            value: Some(Value::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList {
                values: vec![pair(string())],
            })),
        };
        let mut big = Span {
            name: long(),
            attributes: vec![pair(string()), pair(nested.clone())],
            events: vec![opentelemetry_proto::tonic::trace::v1::span::Event {
                name: long(),
                attributes: vec![pair(string())],
                ..Default::default()
            }],
            status: Some(opentelemetry_proto::tonic::trace::v1::Status { message: long(), ..Default::default() }),
            ..Span::default()
        };
        span(&mut big);
        let bytes = prost::Message::encoded_len(&big);
        assert!(bytes < 7 * SPAN_TEXT_BYTES_MAX, "{bytes}");
        let mut big = LogRecord { body: Some(string()), attributes: vec![pair(nested)], ..LogRecord::default() };
        line(&mut big);
        let bytes = prost::Message::encoded_len(&big);
        assert!(bytes < 3 * LINE_TEXT_BYTES_MAX, "{bytes}");
    }
}
