//! Bodies in the form of a URL's query.

use std::borrow::Cow;

use serde_json::Value;

use super::{Body, BodyError, Fields, Repair, json, variable_at_start};

/// Reads a form. `%20` and `+` are spaces.
pub(super) fn parse(text: &str) -> Result<Body, BodyError> {
    refuse_broken_escapes(text)?;
    let pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> =
        serde_urlencoded::from_str(text).map_err(|_| BodyError::unreadable("it is no form"))?;
    let mut fields = Fields::default();
    for (name, value) in pairs {
        fields.push(name.into_owned(), Value::String(value.into_owned()))?;
    }
    Ok(Body { fields: fields.into_vec(), repairs: Vec::new() })
}

/// Reads a form template that OSS filled in as JSON: `filename="a/b.png"&size=5385&type=avatar`.
///
/// A value in quotes is a JSON string, so an `&` inside it separates nothing. A bare value is JSON if it is a
/// number, `true`, `false` or `null`, empty if nothing is there, and otherwise a constant of the template. Doubled
/// quotes are not repaired here: `a=""&b=""` are two empty values, and can't be one between doubled quotes as well.
pub(super) fn parse_filled_as_json(text: &str) -> Result<Body, BodyError> {
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
        fields.push(name.to_owned(), value)?;
        rest = match behind.strip_prefix('&') {
            Some(rest) => rest,
            None if behind.is_empty() => behind,
            None => return Err(BodyError::unreadable(format!("something stands behind the value of {name:?}"))),
        };
    }
    Ok(Body { fields: fields.into_vec(), repairs })
}

/// Refuses JSON that came as a form where a string may or may not have been percent-encoded.
pub(super) fn refuse_encoded_strings(body: &Body) -> Result<(), BodyError> {
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
        Ok(scalar @ (Value::Null | Value::Bool(_) | Value::Number(_))) => return Ok((scalar, behind)),
        _ if value.contains(['"', '%', '+', '{', '}', '[', ']', '\\']) => {}
        _ => return Ok((Value::from(value), behind)),
    }
    Err(BodyError::unreadable(format!("the bare value {:?} has more than one meaning", shorten(value))))
}

fn is_plain_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.:[]".contains(&byte) || byte >= 0x80
}

/// Refuses what a lenient decoder would pass on or replace: `%` without two digits, and escapes that are no UTF-8.
fn refuse_broken_escapes(text: &str) -> Result<(), BodyError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let digit =
        |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(BodyError::unreadable("a `%` in the form is not followed by two hex digits")),
            },
            other => other,
        });
    }
    match str::from_utf8(&decoded) {
        Ok(_) => Ok(()),
        Err(_) => Err(BodyError::unreadable("an escape in the form is not UTF-8")),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
