//! The keys that callbacks are signed with: RSA, PKCS#1 v1.5 padding, MD5.
//!
//! Verifying handles nothing but public data, so it need not run in constant time.

mod modulus;
mod private;

use std::fmt;
use std::sync::{Arc, LazyLock};

use md5::{Digest, Md5};
use rsa::RsaPublicKey;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use sha2::Sha256;

pub use private::PrivateKey;

use modulus::Modulus;

/// The key that OSS signs every callback with, in all of Alibaba Cloud.
pub const V1_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKs/JBGzwUB2aVht4crBx3oIPBLNsjGs
C0fTXv+nvlmklvkcolvpvXLTjaxUHR3W9LXxQ2EHXAJfCB+6H2YF1k8CAwEAAQ==
-----END PUBLIC KEY-----
";

/// The ASN.1 that precedes an MD5 digest in a signature. Source: RFC 8017, §9.2, note 1.
const MD5_DIGEST_INFO: [u8; 18] = *b"\x30\x20\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x05\x05\x00\x04\x10";

/// The smallest key that is taken: OSS's own has no more.
const BITS_MIN: usize = 512;
/// The largest key that is taken, so that a fetched key can't make verification slow.
const BITS_MAX: usize = 4096;

/// A public key, prepared for verifying. A clone shares it.
#[derive(Clone)]
pub struct PublicKey {
    prepared: Arc<Prepared>,
}

struct Prepared {
    modulus: Modulus,
    exponent: u64,
    bits: usize,
    fingerprint: String,
}

/// What a signature was made of: the padded digest, if it is a signature at all.
pub(crate) struct SignedBlock {
    bytes: [u8; BITS_MAX / 8],
    length: usize,
}

impl SignedBlock {
    /// Whether the signature is one over this message, which is given in pieces.
    pub(crate) fn is_of(&self, message: &[&[u8]]) -> bool {
        let mut expected = [0; BITS_MAX / 8];
        let expected = &mut expected[..self.length];
        pad(&md5(message), expected);
        self.bytes[..self.length] == *expected
    }
}

/// Why a key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is no RSA key in PEM (for a public key `BEGIN PUBLIC KEY` or `BEGIN RSA PUBLIC KEY`).
    #[error("it is no RSA key in PEM format")]
    Format,
    /// The modulus has a number of bits that is not taken.
    #[error("it has {bits} bits; 512 to 4096 are taken")]
    Size {
        /// How many it has.
        bits: usize,
    },
    /// The modulus is even, or the exponent even, one, or longer than 33 bits.
    #[error("its modulus or its exponent is not that of an RSA key")]
    Numbers,
}

impl PublicKey {
    /// Reads a public key in PEM, either SPKI (`BEGIN PUBLIC KEY`) or PKCS#1 (`BEGIN RSA PUBLIC KEY`).
    ///
    /// # Errors
    /// If it is none, or is of a size or with numbers that are not taken.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pem = pem.trim();
        let key = RsaPublicKey::from_public_key_pem(pem)
            .or_else(|_| RsaPublicKey::from_pkcs1_pem(pem).map_err(|_| KeyError::Format))?;
        Self::prepare(&key)
    }

    /// OSS's own key ([`V1_PEM`]).
    #[must_use]
    pub fn v1() -> &'static Self {
        static V1: LazyLock<PublicKey> = LazyLock::new(|| PublicKey::from_pem(V1_PEM).expect("the constant is a key"));
        &V1
    }

    /// The modulus's length in bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.prepared.bits
    }

    /// The SHA-256 of modulus and exponent in hex: tells keys apart in logs.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.prepared.fingerprint
    }

    /// Verifies a signature over a message that is given in pieces.
    ///
    /// The padding is not parsed: the whole block is compared with the one that the message must have.
    #[must_use]
    pub fn verify(&self, message: &[&[u8]], signature: &[u8]) -> bool {
        self.open(signature).is_some_and(|block| block.is_of(message))
    }

    /// Computes what was signed; `None` if the signature is not as long as the modulus, or not less than it.
    pub(crate) fn open(&self, signature: &[u8]) -> Option<SignedBlock> {
        let mut block = SignedBlock { bytes: [0; BITS_MAX / 8], length: self.prepared.bits.div_ceil(8) };
        self.prepared
            .modulus
            .power(signature, self.prepared.exponent, &mut block.bytes[..block.length])
            .then_some(block)
    }

    fn prepare(key: &RsaPublicKey) -> Result<Self, KeyError> {
        let bits = key.n().bits();
        if !(BITS_MIN..=BITS_MAX).contains(&bits) {
            return Err(KeyError::Size { bits });
        }
        let (n, e) = (key.n().to_bytes_be(), key.e().to_bytes_be());
        let exponent = e.iter().try_fold(0_u64, |e, byte| (e < 1 << 33).then_some(e << 8 | u64::from(*byte)));
        let exponent = exponent.filter(|e| e % 2 == 1 && *e > 1 && *e < 1 << 33).ok_or(KeyError::Numbers)?;
        let modulus = Modulus::new(&n).ok_or(KeyError::Numbers)?;
        let fingerprint = Sha256::new().chain_update(&n).chain_update([0]).chain_update(&e).finalize();
        let fingerprint = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { prepared: Arc::new(Prepared { modulus, exponent, bits, fingerprint }) })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("bits", &self.bits()).field("fingerprint", &self.fingerprint()).finish()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl Eq for PublicKey {}

/// The MD5 of a message that is given in pieces.
fn md5(message: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Md5::new();
    for piece in message {
        hasher.update(piece);
    }
    hasher.finalize().into()
}

/// Fills a block with the padding of a digest. Source: RFC 8017, §9.2 (EMSA-PKCS1-v1_5).
fn pad(digest: &[u8; 16], block: &mut [u8]) {
    let info_at = block.len() - digest.len() - MD5_DIGEST_INFO.len();
    let digest_at = block.len() - digest.len();
    block[0] = 0;
    block[1] = 1;
    block[2..info_at - 1].fill(0xff);
    block[info_at - 1] = 0;
    block[info_at..digest_at].copy_from_slice(&MD5_DIGEST_INFO);
    block[digest_at..].copy_from_slice(digest);
}
