//! Bodies in the form of a URL's query.

use std::borrow::Cow;

use serde_json::Value;

use crate::target::hex_digit;

use super::{Body, BodyError, Fields, Repair, json, variable_at_start};

/// Reads a form. `%20` and `+` are spaces.
///
/// Lenient decoders pass a broken escape on, and replace what is no UTF-8; here both make the form unreadable. In all
/// else this is the format that `serde_urlencoded` reads, with which the tests compare it.
pub(super) fn parse(text: &str) -> Result<Body<'_>, BodyError> {
    let mut fields = Fields::default();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        fields.push(decode(name)?, Value::String(decode(value)?.into_owned()))?;
    }
    Ok(Body { fields: fields.into_vec(), repairs: Vec::new() })
}

/// Reads a form template that OSS filled in as JSON, where no value is a string: `size=5385&height=`. What is more than
/// that is refused; the rest means the same as a form.
pub(super) fn parse_bare_filled_as_json(text: &str) -> Result<Body<'_>, BodyError> {
    let Body { repairs, .. } = parse_filled_as_json(text)?;
    Ok(Body { repairs, ..parse(text)? })
}

/// Reads a form template that OSS filled in as JSON: `filename="a/b.png"&size=5385&type=avatar`.
///
/// A value in quotes is a JSON string, so an `&` inside it separates nothing. A bare value is JSON if it is a
/// number, `true`, `false` or `null`, empty if nothing is there, and otherwise a constant of the template. Doubled
/// quotes are not repaired here: `a=""&b=""` are two empty values, and can't be one between doubled quotes as well.
pub(super) fn parse_filled_as_json(text: &str) -> Result<Body<'_>, BodyError> {
    let mut fields = Fields::default();
    let mut repairs = vec![Repair::FormFilledAsJson];
    let mut rest = text;
    while !rest.is_empty() {
        let (name, value) = rest
            .split_once('=')
            .filter(|(name, _)| !name.is_empty() && name.bytes().all(is_plain_name))
            .ok_or_else(|| BodyError::unreadable("it is neither a JSON object nor `name=value` pairs"))?;
        let (value, behind) = if value.starts_with('"') { json::string(value)? } else { bare(name, value)? };
        if value.is_null() {
            repairs.push(Repair::EmptyValue);
        }
        fields.push(Cow::Borrowed(name), value)?;
        rest = match behind.strip_prefix('&') {
            Some(rest) => rest,
            None if behind.is_empty() => behind,
            None => return Err(BodyError::unreadable(format!("something stands behind the value of {name:?}"))),
        };
    }
    Ok(Body { fields: fields.into_vec(), repairs })
}

/// Refuses JSON that came as a form where a string may or may not have been percent-encoded.
pub(super) fn refuse_encoded_strings(body: &Body<'_>) -> Result<(), BodyError> {
    fn is_plain(value: &Value) -> bool {
        match value {
            Value::String(text) => !text.contains(['%', '+']),
            Value::Array(items) => items.iter().all(is_plain),
            Value::Object(members) => members.values().all(is_plain),
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
        }
    }
    match body.fields.iter().find(|(_, value)| !is_plain(value)) {
        Some((name, _)) => Err(BodyError::unreadable(format!(
            "it is JSON that was sent as a form, so {name:?} may be percent-encoded or not; set callbackBodyType to application/json"
        ))),
        None => Ok(()),
    }
}

fn bare<'t>(name: &str, text: &'t str) -> Result<(Value, &'t str), BodyError> {
    let (value, _) = text.split_once('&').unwrap_or((text, ""));
    let behind = &text[value.len()..];
    if value.is_empty() {
        return Ok((Value::Null, behind));
    }
    if let Some(variable) = variable_at_start(value) {
        return Err(BodyError::NotFilledIn { name: name.to_owned(), variable: variable.to_owned() });
    }
    match serde_json::from_str::<Value>(value) {
        // A number that would be written otherwise, such as `1e3`, stays the text that it is.
        Ok(Value::Number(number)) if number.to_string() != value => return Ok((Value::from(value), behind)),
        Ok(scalar @ (Value::Null | Value::Bool(_) | Value::Number(_))) => return Ok((scalar, behind)),
        _ if value.contains(['"', '%', '+', '{', '}', '[', ']', '\\']) => {}
        _ => return Ok((Value::from(value), behind)),
    }
    Err(BodyError::unreadable(format!("the bare value {:?} has more than one meaning", shorten(value))))
}

fn is_plain_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.:[]".contains(&byte) || byte >= 0x80
}

/// Decodes a name or a value.
fn decode(text: &str) -> Result<Cow<'_, str>, BodyError> {
    let bytes = text.as_bytes();
    let Some(first) = bytes.iter().position(|byte| matches!(byte, b'%' | b'+')) else { return Ok(Cow::Borrowed(text)) };
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut rest = bytes[first..].iter().copied();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match (rest.next().and_then(hex_digit), rest.next().and_then(hex_digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(BodyError::unreadable("a `%` in the form is not followed by two hex digits")),
            },
            other => other,
        });
    }
    let decoded =
        String::from_utf8(decoded).map_err(|_| BodyError::unreadable("an escape in the form is not UTF-8"))?;
    Ok(Cow::Owned(decoded))
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
