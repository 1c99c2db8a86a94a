//! Signing and verifying, against the `rsa` crate and against forgers.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use proptest::prelude::*;
use rsa::pkcs8::{EncodePublicKey, LineEnding};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BigUint, Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey, rand_core::OsRng};
use upcall_callback::{CallbackRequest, Candidate, KeyError, PrivateKey, PublicKey, Target};

const MD5_DIGEST_INFO: [u8; 18] = *b"\x30\x20\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02\x05\x05\x00\x04\x10";

/// A key for the reference implementation, and the same one for ours.
struct Key {
    reference: RsaPrivateKey,
    ours: PublicKey,
}

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let sizes = [(512, 65537), (512, 3), (513, 65537), (520, 65537), (640, 17), (1024, 65537), (1025, 3)];
    let key = |(bits, exponent): (usize, u32)| {
        let reference = RsaPrivateKey::new_with_exp(&mut OsRng, bits, &BigUint::from(exponent)).unwrap();
        Key { ours: prepare(&RsaPublicKey::from(&reference)).unwrap(), reference }
    };
    sizes.map(key).into()
});

static SIGNER: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(512).unwrap());

fn prepare(key: &RsaPublicKey) -> Result<PublicKey, KeyError> {
    PublicKey::from_pem(&key.to_public_key_pem(LineEnding::LF).unwrap())
}

fn scheme() -> Pkcs1v15Sign {
    Pkcs1v15Sign { hash_len: Some(16), prefix: MD5_DIGEST_INFO.into() }
}

/// Verifies by ours and by the reference, and asserts that they agree.
fn verify(key: &Key, message: &[u8], signature: &[u8]) -> bool {
    let ours = key.ours.verify(&[message], signature);
    let (head, tail) = message.split_at(message.len() / 2);
    assert_eq!(key.ours.verify(&[head, b"", tail], signature), ours);
    let reference = RsaPublicKey::from(&key.reference).verify(scheme(), &Md5::digest(message), signature).is_ok();
    assert_eq!(ours, reference, "{message:?} {signature:?}");
    ours
}

/// `signature` to the power of e, as a block: what a verifier looks at.
fn block(key: &Key, signature: &BigUint) -> Vec<u8> {
    let power = signature.modpow(key.reference.e(), key.reference.n()).to_bytes_be();
    [vec![0; key.reference.size() - power.len()], power].concat()
}

/// The signature whose block is `block`.
fn sign_block(key: &Key, block: &[u8]) -> Vec<u8> {
    let signature = BigUint::from_bytes_be(block).modpow(key.reference.d(), key.reference.n()).to_bytes_be();
    [vec![0; key.reference.size() - signature.len()], signature].concat()
}

proptest! {
    #[test]
    fn the_reference_agrees_on_every_signature(
        key in 0..7_usize, message in prop::collection::vec(any::<u8>(), 0..80), at in any::<prop::sample::Index>(), mask in any::<u8>(),
    ) {
        let key = &KEYS[key];
        let mut signature = key.reference.sign(scheme(), &Md5::digest(&message)).unwrap();
        prop_assert!(verify(key, &message, &signature));
        *at.get_mut(&mut signature) ^= mask;
        prop_assert_eq!(verify(key, &message, &signature), mask == 0);
    }

    #[test]
    fn the_reference_agrees_on_noise(key in 0..7_usize, signature in prop::collection::vec(any::<u8>(), 0..140)) {
        prop_assert!(!verify(&KEYS[key], b"message", &signature));
    }

    /// Blocks that a verifier takes which parses the padding instead of comparing it; each differs in one byte.
    #[test]
    fn no_byte_of_the_padding_may_differ(key in 0..7_usize, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let key = &KEYS[key];
        let digest = Md5::digest(b"message");
        let filler = vec![0xff; key.reference.size() - 3 - MD5_DIGEST_INFO.len() - digest.len()];
        let good = [&[0, 1][..], &filler, &[0], &MD5_DIGEST_INFO, &digest].concat();
        let mut block = good.clone();
        *at.get_mut(&mut block) = byte;
        // Only a number below the modulus can be signed.
        prop_assume!(BigUint::from_bytes_be(&block) < *key.reference.n());
        let signature = sign_block(key, &block);
        prop_assert_eq!(verify(key, b"message", &signature), block == good);
    }

    #[test]
    fn what_is_signed_verifies(path in "/[a-z%20+é/]{0,20}", query in prop::option::of("[a-z=&%+]{0,10}"), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let raw = match &query { Some(query) => format!("{path}?{query}"), None => path };
        let Ok(target) = Target::parse(&raw) else { return Ok(()) };
        let signature = SIGNER.sign(&target, &body);
        prop_assert_eq!(candidate(&target, &body, &signature), Some(Candidate::Documented));
    }

    /// A request with one changed byte is taken if and only if one of its strings to sign is the one that was signed:
    /// `%61` is `a`, and a bare `?` may come or not. Nothing else is the same.
    #[test]
    fn one_changed_byte_is_refused(
        path in "/[a-c/+%]{0,8}(%[0-9a-f]{2}){0,2}", query in prop::option::of("[a-c=&]{0,6}"), body in "[a-c&=]{1,6}",
        at in any::<prop::sample::Index>(), byte in b' '..b'~',
    ) {
        let raw = match &query { Some(query) => format!("{path}?{query}"), None => path };
        let Ok(target) = Target::parse(&raw) else { return Ok(()) };
        let signature = SIGNER.sign(&target, body.as_bytes());
        let signed = strings(&raw, &body).remove(0);
        let mut changed = format!("{raw}\n{body}").into_bytes();
        *at.get_mut(&mut changed) = byte;
        let changed = String::from_utf8(changed).unwrap();
        let Some((raw, body)) = changed.split_once('\n') else { return Ok(()) };
        let Ok(target) = Target::parse(raw) else { return Ok(()) };
        let is_the_same = strings(raw, body).contains(&signed);
        prop_assert_eq!(candidate(&target, body.as_bytes(), &signature).is_some(), is_the_same, "{:?}", changed);
    }
}

/// Every string to sign of a request, the documented one first, by the plainest of means.
fn strings(raw: &str, body: &str) -> Vec<Vec<u8>> {
    let (path, query) = raw.split_once('?').map_or((raw, None), |(path, query)| (path, Some(query)));
    let mut strings = Vec::new();
    for path in [path.to_owned(), path.replace('+', " ")] {
        let mut decoded = Vec::new();
        let mut rest = path.as_bytes();
        while let [first, behind @ ..] = rest {
            let escape = behind.get(..2).and_then(|hex| str::from_utf8(hex).ok());
            let escape = escape.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
            match escape.filter(|_| *first == b'%') {
                Some(hex) => {
                    decoded.push(u8::from_str_radix(hex, 16).unwrap());
                    rest = &behind[2..];
                }
                None => {
                    decoded.push(*first);
                    rest = behind;
                }
            }
        }
        let mut queries = vec![query.map(|query| format!("?{query}")).unwrap_or_default()];
        if query.is_none_or(str::is_empty) {
            queries.extend(["".to_owned(), "?".to_owned()]);
        }
        strings.extend(queries.iter().map(|query| [&decoded, query.as_bytes(), b"\n", body.as_bytes()].concat()));
    }
    strings
}

fn candidate(target: &Target<'_>, body: &[u8], signature: &str) -> Option<Candidate> {
    let request = CallbackRequest {
        target,
        body,
        authorization: Some(signature),
        pub_key_url: None,
        content_type: None,
        bucket: None,
        request_id: None,
    };
    request.parse(|_| false).unwrap().verify(SIGNER.public_key()).ok().map(|verified| verified.candidate())
}

/// Bleichenbacher's forgery of 2006: with e = 3, whoever looks only at the start of the block takes a cube root.
#[test]
fn a_cube_root_is_no_signature() {
    let reference = RsaPrivateKey::new_with_exp(&mut OsRng, 1536, &BigUint::from(3_u8)).unwrap();
    let key = Key { ours: prepare(&RsaPublicKey::from(&reference)).unwrap(), reference };
    let digest = Md5::digest(b"message");
    let start = [&[0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0][..], &MD5_DIGEST_INFO, &digest].concat();
    let highest = [start.clone(), vec![0xff; 192 - start.len()]].concat();
    let forged = cube_root(&BigUint::from_bytes_be(&highest));
    assert!(block(&key, &forged).starts_with(&start), "a lenient verifier would take it");
    let forged = forged.to_bytes_be();
    let forged = [vec![0; 192 - forged.len()], forged].concat();
    assert!(!verify(&key, b"message", &forged));
}

/// The greatest number whose cube is not greater.
fn cube_root(cube: &BigUint) -> BigUint {
    let mut root = BigUint::from(0_u8);
    for bit in (0..cube.bits().div_ceil(3)).rev() {
        let higher = &root + (BigUint::from(1_u8) << bit);
        if &higher * &higher * &higher <= *cube {
            root = higher;
        }
    }
    root
}

#[test]
fn a_signature_is_as_long_as_the_modulus_and_below_it() {
    for key in KEYS.iter() {
        let good = key.reference.sign(scheme(), &Md5::digest(b"message")).unwrap();
        assert!(verify(key, b"message", &good));
        assert!(!verify(key, b"message", &[&[0], &good[..]].concat()));
        assert!(!verify(key, b"message", &[&good[..], &[0]].concat()));
        assert!(!verify(key, b"message", &good[1..]));
        assert!(!verify(key, b"message", &[]));
        assert!(!verify(key, b"message", &[0].repeat(good.len())));
        assert!(!verify(key, b"message", &[0xff].repeat(good.len())));
    }
}

#[test]
fn a_signature_has_no_second_spelling() {
    for key in KEYS.iter() {
        let mut aliases = (0..200_u8).filter_map(|message| {
            let good = key.reference.sign(scheme(), &Md5::digest([message])).unwrap();
            // The same number modulo n, if it has as many bytes.
            let alias = (BigUint::from_bytes_be(&good) + key.reference.n()).to_bytes_be();
            (alias.len() == good.len()).then_some((message, alias))
        });
        let (message, alias) = aliases.next().expect("a sum is short enough for one message in many");
        assert!(!verify(key, &[message], &alias));
    }
}

#[test]
fn keys_of_other_sizes_or_with_other_numbers_are_refused() {
    let small = RsaPublicKey::from(&RsaPrivateKey::new(&mut OsRng, 504).unwrap());
    assert_eq!(prepare(&small).unwrap_err(), KeyError::Size { bits: 504 });
    assert_eq!(PrivateKey::generate(511).unwrap_err(), KeyError::Size { bits: 511 });
    assert_eq!(PrivateKey::generate(4097).unwrap_err(), KeyError::Size { bits: 4097 });
    let n = KEYS[0].reference.n();
    let even = RsaPublicKey::new(n + BigUint::from(1_u8), BigUint::from(65537_u32));
    assert!(even.is_err() || prepare(&even.unwrap()) == Err(KeyError::Numbers));
    let even_exponent = RsaPublicKey::new(n.clone(), BigUint::from(65536_u32));
    assert!(even_exponent.is_err() || prepare(&even_exponent.unwrap()) == Err(KeyError::Numbers));
    for text in ["", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", SIGNER.to_pem().unwrap().as_str()] {
        assert_eq!(PublicKey::from_pem(text), Err(KeyError::Format), "{text}");
    }
    assert_eq!(PrivateKey::from_pem(SIGNER.public_key_pem()).unwrap_err(), KeyError::Format);
}

#[test]
fn a_key_survives_its_pem_and_shows_no_secret() {
    let again = PrivateKey::from_pem(&SIGNER.to_pem().unwrap()).unwrap();
    let target = Target::parse("/a").unwrap();
    assert_eq!(again.sign(&target, b"b"), SIGNER.sign(&target, b"b"));
    assert_eq!(&PublicKey::from_pem(SIGNER.public_key_pem()).unwrap(), SIGNER.public_key());
    assert_eq!(SIGNER.public_key().bits(), 512);
    assert_eq!(STANDARD.decode(SIGNER.sign(&target, b"b")).unwrap().len(), 64);
    let shown = format!("{SIGNER:?}");
    assert!(shown.contains(SIGNER.public_key().fingerprint()) && !shown.contains("primes"), "{shown}");
}
