//! The callback parameter that an uploader sends to OSS, and every fault that OSS refuses it for.

mod error;
mod url;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::body::SYSTEM_VARIABLES;

pub use error::ParameterError;
pub use url::{CallbackUrl, is_private_address};

/// The longest callback and the longest callback-var, in bytes of Base64.
pub const PARAMETER_BYTES_MAX: usize = 5 * 1024;

/// The most URLs that a callback may name.
const URLS_MAX: usize = 5;

/// Whom OSS is to call after an upload, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackParameter {
    /// 1 to 5 URLs, tried in order until the first success.
    pub urls: Vec<CallbackUrl>,
    /// The Host header to send; the URL's host if absent.
    pub host: Option<String>,
    /// The template of the body: constants and `${variable}`.
    pub body: String,
    /// What the body is sent as, and how values are written into it.
    pub body_type: BodyType,
    /// Whether OSS names the host when it connects by https.
    pub sni: bool,
}

/// How OSS writes values into a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyType {
    /// Percent-encoded.
    #[default]
    Form,
    /// As JSON values.
    Json,
}

impl BodyType {
    /// The content type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        }
    }
}

/// The values of the uploader's own variables, by their full names (`x:…`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallbackVars(pub BTreeMap<String, String>);

impl CallbackParameter {
    /// Reads the value of the `x-oss-callback` header, the `callback` query parameter or the form field.
    ///
    /// # Errors
    /// With what OSS refuses the upload for.
    pub fn from_base64(text: &str) -> Result<Self, ParameterError> {
        if text.len() > PARAMETER_BYTES_MAX {
            return Err(ParameterError::TooLong);
        }
        let mut members = decode_object(text, ParameterError::Base64, ParameterError::Json)?;
        let urls = match members.remove("callbackUrl") {
            Some(Value::String(urls)) => parse_urls(&urls)?,
            _ => return Err(ParameterError::Url),
        };
        let host = match members.remove("callbackHost") {
            None => None,
            Some(Value::String(host)) if host.is_empty() => None,
            Some(Value::String(host)) if host.bytes().all(|byte| byte.is_ascii_graphic()) => Some(host),
            Some(_) => return Err(ParameterError::Host),
        };
        let body_type = match members.remove("callbackBodyType") {
            None => BodyType::Form,
            Some(Value::String(name)) => parse_body_type(&name)?,
            Some(_) => return Err(ParameterError::BodyType),
        };
        let body = match members.remove("callbackBody") {
            None => return Err(ParameterError::BodyEmpty),
            Some(Value::String(body)) if body.is_empty() => return Err(ParameterError::BodyEmpty),
            Some(Value::String(body)) => body,
            Some(_) => return Err(ParameterError::Body),
        };
        check_template(&body)?;
        let sni = match members.remove("callbackSNI") {
            Some(Value::Bool(sni)) => sni,
            _ => false,
        };
        Ok(Self { urls, host, body, body_type, sni })
    }

    /// Writes the parameter as an uploader sends it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        let urls: Vec<&str> = self.urls.iter().map(CallbackUrl::as_str).collect();
        let mut object = json!({
            "callbackUrl": urls.join(";"),
            "callbackBody": self.body,
            "callbackBodyType": self.body_type.as_str(),
        });
        if let Some(host) = &self.host {
            object["callbackHost"] = host.as_str().into();
        }
        if self.sni {
            object["callbackSNI"] = true.into();
        }
        STANDARD.encode(object.to_string())
    }
}

impl CallbackVars {
    /// Reads the value of the `x-oss-callback-var` header or the `callback-var` query parameter.
    ///
    /// # Errors
    /// With what OSS refuses the upload for. A name that does not begin with `x:`, or is not in lower case, is not
    /// of the documented form; OSS's own message for it is not known.
    pub fn from_base64(text: &str) -> Result<Self, ParameterError> {
        if text.len() > PARAMETER_BYTES_MAX {
            return Err(ParameterError::VarsTooLong);
        }
        let mut vars = BTreeMap::new();
        for (name, value) in decode_object(text, ParameterError::VarsBase64, ParameterError::VarsJson)? {
            let is_var = name.starts_with("x:") && !name.bytes().any(|byte| byte.is_ascii_uppercase());
            match value {
                Value::String(value) if is_var => drop(vars.insert(name, value)),
                _ => return Err(ParameterError::VarsJson),
            }
        }
        Ok(Self(vars))
    }

    /// Takes the `x:…` fields of a PostObject form.
    #[must_use]
    pub fn from_form<'f>(fields: impl IntoIterator<Item = (&'f str, &'f str)>) -> Self {
        let vars = fields.into_iter().filter(|(name, _)| name.starts_with("x:"));
        Self(vars.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Writes the variables as an uploader sends them.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(json!(self.0).to_string())
    }
}

fn decode_object(
    text: &str,
    not_base64: ParameterError,
    not_json: ParameterError,
) -> Result<Map<String, Value>, ParameterError> {
    let json = STANDARD.decode(text.trim()).map_err(|_| not_base64)?;
    match serde_json::from_slice(&json) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(not_json),
    }
}

fn parse_urls(text: &str) -> Result<Vec<CallbackUrl>, ParameterError> {
    let urls: Vec<&str> = text.split(';').map(str::trim).filter(|url| !url.is_empty()).collect();
    match urls.len() {
        0 => Err(ParameterError::Url),
        1..=URLS_MAX => urls.into_iter().map(CallbackUrl::parse).collect(),
        _ => Err(ParameterError::TooManyUrls),
    }
}

fn parse_body_type(name: &str) -> Result<BodyType, ParameterError> {
    match name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "application/x-www-form-urlencoded" => Ok(BodyType::Form),
        "application/json" => Ok(BodyType::Json),
        _ => Err(ParameterError::BodyTypeUnsupported),
    }
}

/// Every `$` is followed by `{`, a name that OSS knows, and `}`.
fn check_template(body: &str) -> Result<(), ParameterError> {
    let mut rest = body;
    while let Some((_, behind)) = rest.split_once('$') {
        let inner = behind.strip_prefix('{').ok_or(ParameterError::LeftBrace)?;
        let (name, behind) = inner.split_once('}').ok_or(ParameterError::Body)?;
        if !name.starts_with("x:") && !SYSTEM_VARIABLES.contains(&name) {
            return Err(ParameterError::Body);
        }
        rest = behind;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
