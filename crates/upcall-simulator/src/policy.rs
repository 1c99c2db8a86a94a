//! The policy of a PostObject form: who signed it, until when it holds, and what it demands.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;

use crate::error::OssError;
use crate::form::Fields;
use crate::options::Credentials;
use crate::receive::UPLOAD_BYTES_MAX;

/// What a form says besides its fields' plain values.
pub(crate) struct Claims<'a> {
    /// The bucket that it was posted to.
    pub(crate) bucket: &'a str,
    /// The object's key, with `${filename}` filled in.
    pub(crate) key: &'a str,
    /// The object's type.
    pub(crate) content_type: &'a str,
}

#[derive(Debug, Deserialize)]
struct Policy {
    expiration: Timestamp,
    conditions: Vec<Value>,
}

/// Checks a form against its policy. Tells how many bytes the file may have.
///
/// What no condition names, the uploader may choose, the callback included. A form without a policy is refused: it
/// could upload to nobody's bucket but one that all the world may write to.
pub(crate) fn check(
    fields: &Fields,
    claims: &Claims<'_>,
    credentials: &Credentials,
    now: Timestamp,
) -> Result<RangeInclusive<u64>, OssError> {
    let encoded = fields
        .value("policy")
        .ok_or_else(|| OssError::access_denied("You have no right to access this object because of bucket acl."))?;
    check_signature(fields, encoded, credentials)?;
    let policy: Option<Policy> =
        STANDARD.decode(encoded.trim()).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let policy =
        policy.ok_or_else(|| OssError::invalid_policy("Invalid Policy: it is no Base64 of a policy in JSON."))?;
    if policy.expiration <= now {
        return Err(OssError::access_denied("Invalid according to Policy: Policy expired."));
    }
    let mut lengths = 0..=UPLOAD_BYTES_MAX;
    for condition in &policy.conditions {
        match length_range(condition) {
            Some(range) => lengths = range,
            None => check_condition(condition, fields, claims)?,
        }
    }
    Ok(lengths)
}

fn check_signature(fields: &Fields, policy: &str, credentials: &Credentials) -> Result<(), OssError> {
    let secret = credentials.access_key_secret.as_str();
    if fields.value("x-oss-signature-version") == Some("OSS4-HMAC-SHA256") {
        let credential = fields.value("x-oss-credential").unwrap_or_default();
        let scope: Vec<&str> = credential.split('/').collect();
        let [id, date, region, "oss", "aliyun_v4_request"] = scope[..] else {
            return Err(OssError::invalid_argument(
                "The x-oss-credential is not of the form that OSS4-HMAC-SHA256 has.",
            ));
        };
        if !fields.value("x-oss-date").unwrap_or_default().starts_with(date) {
            return Err(OssError::signature_does_not_match());
        }
        known(id, credentials)?;
        let mut key = format!("aliyun_v4{secret}").into_bytes();
        for part in [date, region, "oss", "aliyun_v4_request"] {
            key = hmac::<Hmac<Sha256>>(&key, part.as_bytes()).finalize().into_bytes().to_vec();
        }
        let signature = from_hex(fields.value("x-oss-signature").unwrap_or_default());
        let mac = hmac::<Hmac<Sha256>>(&key, policy.as_bytes());
        return mac.verify_slice(&signature).map_err(|_| OssError::signature_does_not_match());
    }
    known(fields.value("OSSAccessKeyId").unwrap_or_default(), credentials)?;
    let signature = STANDARD.decode(fields.value("Signature").unwrap_or_default()).unwrap_or_default();
    let mac = hmac::<Hmac<Sha1>>(secret.as_bytes(), policy.as_bytes());
    mac.verify_slice(&signature).map_err(|_| OssError::signature_does_not_match())
}

fn known(id: &str, credentials: &Credentials) -> Result<(), OssError> {
    if id == credentials.access_key_id { Ok(()) } else { Err(OssError::invalid_access_key()) }
}

fn hmac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> M {
    let mut mac = <M as Mac>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(message);
    mac
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map_while(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Reads `["content-length-range", MIN, MAX]`.
fn length_range(condition: &Value) -> Option<RangeInclusive<u64>> {
    match condition.as_array()?.as_slice() {
        [name, min, max] if name == "content-length-range" => Some(number(min)?..=number(max)?),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn check_condition(condition: &Value, fields: &Fields, claims: &Claims<'_>) -> Result<(), OssError> {
    let actual = |name: &str| match name.to_ascii_lowercase().as_str() {
        "bucket" => Some(claims.bucket),
        "key" => Some(claims.key),
        "content-type" => Some(claims.content_type),
        _ => fields.value(name),
    };
    let met = match condition {
        Value::Object(pairs) => {
            pairs.iter().all(|(name, wanted)| wanted.as_str().is_some_and(|wanted| actual(name) == Some(wanted)))
        }
        Value::Array(parts) => {
            let [Value::String(operator), Value::String(name), wanted] = parts.as_slice() else {
                return Err(unknown(condition));
            };
            let actual = actual(name.strip_prefix('$').unwrap_or(name)).unwrap_or_default();
            let among = |wanted: &Value| wanted.as_array().map(|wanted| wanted.iter().any(|wanted| wanted == actual));
            match (operator.to_ascii_lowercase().as_str(), wanted) {
                ("eq", Value::String(wanted)) => actual == wanted,
                ("starts-with", Value::String(wanted)) => actual.starts_with(wanted.as_str()),
                ("in", wanted) => among(wanted).ok_or_else(|| unknown(condition))?,
                ("not-in", wanted) => !among(wanted).ok_or_else(|| unknown(condition))?,
                _ => return Err(unknown(condition)),
            }
        }
        _ => return Err(unknown(condition)),
    };
    let failed = || format!("Invalid according to Policy: Policy Condition failed: {condition}");
    if met { Ok(()) } else { Err(OssError::access_denied(failed())) }
}

fn unknown(condition: &Value) -> OssError {
    OssError::invalid_policy(format!("Invalid Policy: Invalid condition: {condition}"))
}

#[cfg(test)]
mod tests;
