//! What webhooks are signed with.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const SYMMETRIC: &str = "whsec_";
const ASYMMETRIC: &str = "whsk_";
/// The sizes of a symmetric secret in bytes. Source: Standard Webhooks 1.0.0, "Signature scheme".
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The receivers' libraries take base64 with padding and without.
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret of Standard Webhooks: `whsec_…`, which the receiver has as well, or `whsk_…`, whose public key the receiver
/// has. It is not shown.
#[derive(Clone)]
pub struct Secret(Kind);

#[derive(Clone)]
enum Kind {
    Symmetric(Hmac<Sha256>),
    Asymmetric(Box<SigningKey>),
}

/// Text that is no secret. It is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// It begins with neither prefix.
    #[error("begins with neither `whsec_` nor `whsk_`; `echo whsec_$(openssl rand -base64 32)` makes one")]
    Prefix,
    /// It is somebody's public key.
    #[error("is a public key, which is the receiver's; the secret one begins with `whsk_`")]
    Public,
    /// What follows is no base64.
    #[error("has no base64 after its prefix")]
    Base64,
    /// It is too short, or too long.
    #[error("has {0} bytes after its prefix; Standard Webhooks takes 24 to 64")]
    Length(usize),
    /// It is no Ed25519 key.
    #[error("is no Ed25519 key of 32 bytes (or 64, with the public key behind it)")]
    Key,
}

impl Secret {
    /// Signs a message, and names the scheme: `v1,…` or `v1a,…`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> String {
        match &self.0 {
            Kind::Symmetric(key) => {
                let mut mac = key.clone();
                mac.update(message);
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            }
            Kind::Asymmetric(key) => format!("v1a,{}", STANDARD.encode(key.sign(message).to_bytes())),
        }
    }

    /// The public key of an asymmetric secret, `whpk_…`, for the receiver.
    #[must_use]
    pub fn public_key(&self) -> Option<String> {
        match &self.0 {
            Kind::Symmetric(_) => None,
            Kind::Asymmetric(key) => Some(format!("whpk_{}", STANDARD.encode(key.verifying_key().as_bytes()))),
        }
    }
}

impl FromStr for Secret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let decode = |base64: &str| TOLERANT.decode(base64).map_err(|_| InvalidSecret::Base64);
        let text = text.trim();
        if text.starts_with("whpk_") {
            return Err(InvalidSecret::Public);
        }
        if let Some(base64) = text.strip_prefix(SYMMETRIC) {
            let bytes = decode(base64)?;
            if !BYTES.contains(&bytes.len()) {
                return Err(InvalidSecret::Length(bytes.len()));
            }
            let key = Hmac::new_from_slice(&bytes).map_err(|_| InvalidSecret::Length(bytes.len()))?;
            return Ok(Self(Kind::Symmetric(key)));
        }
        let bytes = decode(text.strip_prefix(ASYMMETRIC).ok_or(InvalidSecret::Prefix)?)?;
        let key = match <&[u8; 32]>::try_from(&bytes[..]) {
            Ok(seed) => SigningKey::from_bytes(seed),
            Err(_) => {
                let pair = <&[u8; 64]>::try_from(&bytes[..]).map_err(|_| InvalidSecret::Key)?;
                SigningKey::from_keypair_bytes(pair).map_err(|_| InvalidSecret::Key)?
            }
        };
        Ok(Self(Kind::Asymmetric(Box::new(key))))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Symmetric(_) => "Secret(whsec_…)",
            Kind::Asymmetric(_) => "Secret(whsk_…)",
        })
    }
}

/// The value of `webhook-signature`: a signature by each secret, so that receivers may have either during a rotation.
pub(crate) fn signatures(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let message = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    secrets.iter().map(|secret| secret.sign(&message)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        text.parse().unwrap()
    }

    #[test]
    fn signatures_are_those_of_the_specification_and_of_rfc_8032() {
        // Source: the libraries of Standard Webhooks, their test of `sign`.
        let known = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = signatures(&[known], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        // Source: RFC 8032, 7.1, test 1.
        let seed = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
        let signature = [
            0xe5, 0x56, 0x43, 0x00, 0xc3, 0x60, 0xac, 0x72, 0x90, 0x86, 0xe2, 0xcc, 0x80, 0x6e, 0x82, 0x8a, 0x84, 0x87,
            0x7f, 0x1e, 0xb8, 0xe5, 0xd9, 0x74, 0xd8, 0x73, 0xe0, 0x65, 0x22, 0x49, 0x01, 0x55, 0x5f, 0xb8, 0x82, 0x15,
            0x90, 0xa3, 0x3b, 0xac, 0xc6, 0x1e, 0x39, 0x70, 0x1c, 0xf9, 0xb4, 0x6b, 0xd2, 0x5b, 0xf5, 0xf0, 0x59, 0x5b,
            0xbe, 0x24, 0x65, 0x51, 0x41, 0x43, 0x8e, 0x7a, 0x10, 0x0b,
        ];
        assert_eq!(secret(seed).sign(b""), format!("v1a,{}", STANDARD.encode(signature)));
        assert_eq!(secret(seed).public_key().unwrap(), "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    }

    #[test]
    fn during_a_rotation_each_secret_signs() {
        let seed = format!("whsk_{}", STANDARD.encode([7; 32]));
        let pair = SigningKey::from_bytes(&[7; 32]).to_keypair_bytes();
        let pair = format!("whsk_{}", STANDARD.encode(pair));
        let old = format!("whsec_{}", STANDARD.encode([1; 24]));
        let signed = signatures(&[secret(&old), secret(&seed), secret(&pair)], "id", 1, b"body");
        let parts: Vec<&str> = signed.split(' ').collect();
        assert!(parts[0].starts_with("v1,") && parts[1].starts_with("v1a,"), "{signed}");
        assert_eq!(parts[1], parts[2]);
    }

    #[test]
    fn what_is_no_secret_is_refused_and_no_secret_is_shown() {
        for (text, expected) in [
            ("", InvalidSecret::Prefix),
            ("hunter2", InvalidSecret::Prefix),
            ("whsec_", InvalidSecret::Length(0)),
            ("whsec_c2hvcnQ=", InvalidSecret::Length(5)),
            ("whsec_!!", InvalidSecret::Base64),
            ("whsk_c2hvcnQ=", InvalidSecret::Key),
            ("whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", InvalidSecret::Public),
        ] {
            assert_eq!(text.parse::<Secret>().map(|_| ()), Err(expected), "{text:?}");
        }
        let unpadded = secret("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(format!("{unpadded:?}"), "Secret(whsec_…)");
    }
}
