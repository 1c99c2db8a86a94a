//! A callback as the application server takes it in: from bytes off the wire to fields that OSS signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::{Body, BodyError, Candidate, KeyUrl, KeyUrlError, PublicKey, Target, candidate};

/// The longest signature that is looked at: that of a 4096-bit key.
const SIGNATURE_BYTES_MAX: usize = 512;

/// What came off the wire; nothing of it is believed.
#[derive(Debug, Clone, Copy)]
pub struct CallbackRequest<'a> {
    /// The target that OSS called.
    pub target: &'a Target<'a>,
    /// The body, raw.
    pub body: &'a [u8],
    /// The `authorization` header.
    pub authorization: Option<&'a str>,
    /// The `x-oss-pub-key-url` header.
    pub pub_key_url: Option<&'a str>,
    /// The `content-type` header. Not signed.
    pub content_type: Option<&'a str>,
    /// The `x-oss-bucket` header. Not signed.
    pub bucket: Option<&'a str>,
    /// The `x-oss-request-id` header. Not signed.
    pub request_id: Option<&'a str>,
}

/// A callback with readable headers and an allowed key URL, whose signature nobody has looked at.
#[derive(Debug, Clone)]
pub struct Unverified<'a> {
    request: CallbackRequest<'a>,
    signature: Vec<u8>,
    key_url: Option<KeyUrl>,
}

/// A callback whose target and body were signed. Only [`Unverified::verify`] makes one.
#[derive(Debug, Clone)]
pub struct Verified<'a> {
    request: CallbackRequest<'a>,
    candidate: Candidate,
}

/// Why a request can't be a callback of OSS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no `authorization` header.
    #[error("the authorization header is missing")]
    SignatureMissing,
    /// The `authorization` header is not Base64 of a signature.
    #[error("the authorization header is not Base64 of a signature")]
    SignatureEncoding,
    /// The `x-oss-pub-key-url` header is refused.
    #[error(transparent)]
    KeyUrl(#[from] KeyUrlError),
}

/// The signature is not that of this key over this callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match the request: it was made with another key, or for another path, query or body")]
pub struct SignatureMismatch;

impl<'a> CallbackRequest<'a> {
    /// Reads the headers. `is_trusted_url` says which key URLs the operator trusts beside those of OSS.
    ///
    /// # Errors
    /// If a header that is needed is missing, unreadable, or names a key that may not be used.
    pub fn parse(self, is_trusted_url: impl Fn(&str) -> bool) -> Result<Unverified<'a>, RequestError> {
        let authorization = self.authorization.ok_or(RequestError::SignatureMissing)?.trim();
        if authorization.len() > SIGNATURE_BYTES_MAX.div_ceil(3) * 4 {
            return Err(RequestError::SignatureEncoding);
        }
        let signature = STANDARD.decode(authorization).map_err(|_| RequestError::SignatureEncoding)?;
        let key_url = self.pub_key_url.map(|value| KeyUrl::from_header(value, is_trusted_url)).transpose()?;
        Ok(Unverified { request: self, signature, key_url })
    }
}

impl<'a> Unverified<'a> {
    /// Which key the callback says it is signed with. Old callbacks don't say; they mean OSS's one key.
    #[must_use]
    pub fn key_url(&self) -> Option<&KeyUrl> {
        self.key_url.as_ref()
    }

    /// Verifies the signature over the few strings that OSS may have signed, most likely first.
    ///
    /// # Errors
    /// If none of them verifies.
    pub fn verify(self, key: &PublicKey) -> Result<Verified<'a>, SignatureMismatch> {
        let signed = key.open(&self.signature).ok_or(SignatureMismatch)?;
        let accepts = |string: candidate::StringToSign<'_>| signed.is_of(&string.pieces());
        match candidate::find(self.request.target, self.request.body, accepts) {
            Some(candidate) => Ok(Verified { request: self.request, candidate }),
            None => Err(SignatureMismatch),
        }
    }
}

impl<'a> Verified<'a> {
    /// Which of the possible strings was signed.
    #[must_use]
    pub fn candidate(&self) -> Candidate {
        self.candidate
    }

    /// The string that was signed.
    #[must_use]
    pub fn string_to_sign(&self) -> Vec<u8> {
        candidate::join(self.candidate, self.request.target, self.request.body)
    }

    /// The body's fields.
    ///
    /// # Errors
    /// If the body has no one meaning. It is authentic all the same: OSS fills in templates and validates nothing.
    pub fn body(&self) -> Result<Body<'a>, BodyError> {
        Body::parse(self.request.content_type, self.request.body)
    }

    /// The `x-oss-bucket` header, which nobody signed.
    #[must_use]
    pub fn unsigned_bucket(&self) -> Option<&'a str> {
        self.request.bucket
    }

    /// The `x-oss-request-id` header, which nobody signed.
    #[must_use]
    pub fn unsigned_request_id(&self) -> Option<&'a str> {
        self.request.request_id
    }
}
