//! The private side, for whoever plays OSS: the simulator, `upcall sign` and tests.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::rand_core::OsRng;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};

use super::{BITS_MAX, BITS_MIN, KeyError, MD5_DIGEST_INFO, PublicKey, md5};
use crate::Target;
use crate::candidate::StringToSign;

/// A private key that signs callbacks as OSS does.
#[derive(Clone)]
pub struct PrivateKey {
    key: RsaPrivateKey,
    public: PublicKey,
    public_pem: String,
}

impl PrivateKey {
    /// Makes a new key from the operating system's randomness. OSS's own key has 512 bits.
    ///
    /// # Errors
    /// If there are no keys of so many bits.
    pub fn generate(bits: usize) -> Result<Self, KeyError> {
        if !(BITS_MIN..=BITS_MAX).contains(&bits) {
            return Err(KeyError::Size { bits });
        }
        Self::new(RsaPrivateKey::new(&mut OsRng, bits).map_err(|_| KeyError::Size { bits })?)
    }

    /// Reads a private key in PEM, either PKCS#8 (`BEGIN PRIVATE KEY`) or PKCS#1 (`BEGIN RSA PRIVATE KEY`).
    ///
    /// # Errors
    /// If it is none, or is of a size or with numbers that are not taken.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pem = pem.trim();
        let key = RsaPrivateKey::from_pkcs8_pem(pem)
            .or_else(|_| RsaPrivateKey::from_pkcs1_pem(pem).map_err(|_| KeyError::Format))?;
        Self::new(key)
    }

    fn new(key: RsaPrivateKey) -> Result<Self, KeyError> {
        let public = RsaPublicKey::from(&key);
        let public_pem = public.to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Format)?;
        Ok(Self { public: PublicKey::prepare(&public)?, public_pem, key })
    }

    /// Writes the key as PKCS#8 in PEM.
    ///
    /// # Errors
    /// If the key can't be expressed so.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.key.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).map_err(|_| KeyError::Format)
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The public key as SPKI in PEM, as OSS serves its own.
    #[must_use]
    pub fn public_key_pem(&self) -> &str {
        &self.public_pem
    }

    /// Signs a callback: the value of its `authorization` header.
    #[must_use]
    pub fn sign(&self, target: &Target<'_>, body: &[u8]) -> String {
        let digest = md5(&StringToSign::documented(target, body).pieces());
        let scheme = Pkcs1v15Sign { hash_len: Some(digest.len()), prefix: MD5_DIGEST_INFO.into() };
        let signature = self.key.sign(scheme, &digest).expect("a key of at least 512 bits can sign an MD5");
        STANDARD.encode(signature)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public).finish_non_exhaustive()
    }
}
