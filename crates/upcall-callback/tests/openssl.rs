//! Agreement with the `openssl` command, on keys of many sizes and generated callbacks.
//!
//! Three judgements a callback: openssl's signature is ours byte for byte and we take it, openssl takes ours, and a
//! changed callback is refused by both.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use upcall_callback::{CallbackRequest, Candidate, PrivateKey, PublicKey, Target};

/// Size and public exponent of each key. Sizes off the beaten track have blocks that begin within a byte or a word.
#[rustfmt::skip]
const KEYS: &[(usize, u64)] = &[
    (512, 65537), (512, 65537), (512, 65537), (512, 65537), (512, 65537), (512, 65537), (512, 3), (512, 17),
    (513, 65537), (519, 65537), (520, 65537), (576, 65537), (640, 65537), (767, 3), (768, 65537), (1000, 65537),
    (1023, 65537), (1024, 65537), (1024, 65537), (1024, 4_294_967_297), (1025, 65537), (1536, 65537), (2041, 65537),
    (2047, 65537), (2048, 65537), (2048, 3), (3072, 65537), (4096, 65537),
];
const CALLBACKS_PER_KEY: usize = 40;

#[test]
fn openssl_and_upcall_agree_on_every_callback() {
    let folder = tempfile::tempdir().unwrap();
    let judgements: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let folder = folder.path().join(worker.to_string());
                scope.spawn(move || {
                    std::fs::create_dir(&folder).unwrap();
                    let keys = KEYS.iter().enumerate().filter(|(number, _)| number % 2 == worker);
                    keys.map(|(number, (bits, exponent))| Judge::new(&folder, number, *bits, *exponent).run())
                        .sum::<usize>()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(judgements, KEYS.len() * CALLBACKS_PER_KEY * 3);
}

/// A callback before it is sent: the path is not yet encoded.
#[derive(Debug, Clone)]
struct Callback {
    path: String,
    query: Option<String>,
    body: Vec<u8>,
}

impl Callback {
    /// What is signed, put together without any of our code.
    fn string_to_sign(&self) -> Vec<u8> {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        [self.path.as_bytes(), query.as_bytes(), b"\n", &self.body].concat()
    }

    /// The target on the wire; what may stand raw is encoded every other time.
    fn target(&self) -> String {
        let mut target = String::new();
        for (at, byte) in self.path.bytes().enumerate() {
            let may_be_raw = byte == b'/' || byte == b'+' || byte.is_ascii_alphanumeric();
            match may_be_raw && (at == 0 || at % 2 == 1) {
                true => target.push(char::from(byte)),
                false => target.push_str(&format!("%{byte:02X}")),
            }
        }
        target + &self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default()
    }
}

fn any_callback() -> impl Strategy<Value = Callback> {
    let path = "(/[a-z0-9 +%&=._~äß文😀-]{0,12}){1,3}";
    let query = prop::option::of("[a-zA-Z0-9%+&=?/._-]{0,20}");
    (path, query, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(path, query, body)| Callback {
        path,
        query,
        body,
    })
}

/// A callback, and one that differs from it in one character of path or query or in one byte of the body.
fn callback_and_change() -> impl Strategy<Value = (Callback, Callback)> {
    (any_callback(), any::<prop::sample::Index>(), 0..3_u8, 1..=255_u8).prop_map(|(callback, at, part, mask)| {
        let mut changed = callback.clone();
        // A character that is in none of the alphabets above, so that it is no other spelling of the same.
        let replace = |text: &mut String| {
            let mut characters: Vec<char> = text.chars().collect();
            *at.get_mut(&mut characters) = '!';
            *text = characters.into_iter().collect();
        };
        match (part, &mut changed.query) {
            (0, _) if changed.path.len() > 1 => {
                let mut rest = changed.path.split_off(1);
                replace(&mut rest);
                changed.path.push_str(&rest);
            }
            (1, Some(query)) if !query.is_empty() => replace(query),
            _ if changed.body.is_empty() => changed.body.push(mask),
            _ => *at.get_mut(&mut changed.body) ^= mask,
        }
        (callback, changed)
    })
}

/// One key, as files for openssl and as values of ours.
struct Judge {
    folder: PathBuf,
    private: PrivateKey,
    public: PublicKey,
    runner: TestRunner,
}

impl Judge {
    fn new(folder: &Path, number: usize, bits: usize, exponent: u64) -> Self {
        let folder = folder.to_owned();
        let (bits_option, exponent_option) =
            (format!("rsa_keygen_bits:{bits}"), format!("rsa_keygen_pubexp:{exponent}"));
        let options = ["-algorithm", "RSA", "-pkeyopt", &bits_option, "-pkeyopt", &exponent_option];
        assert!(openssl(&folder, &[&["genpkey", "-out", "key"], &options[..]].concat()), "{bits} bits, e = {exponent}");
        assert!(openssl(&folder, &["pkey", "-in", "key", "-pubout", "-out", "public"]));
        assert!(openssl(&folder, &["rsa", "-in", "key", "-RSAPublicKey_out", "-out", "public-pkcs1"]));
        assert!(openssl(&folder, &["rsa", "-in", "key", "-traditional", "-out", "key-pkcs1"]));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let private = PrivateKey::from_pem(&read("key")).unwrap();
        let public = PublicKey::from_pem(&read("public")).unwrap();
        assert_eq!(public.bits(), bits);
        assert_eq!(PublicKey::from_pem(&read("public-pkcs1")).unwrap(), public);
        assert_eq!(PrivateKey::from_pem(&read("key-pkcs1")).unwrap().public_key(), &public);
        assert_eq!((private.public_key(), private.public_key_pem()), (&public, read("public").as_str()));
        let seed = [u8::try_from(number).unwrap(); 32];
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        Self { runner: TestRunner::new_with_rng(ProptestConfig::default(), rng), folder, private, public }
    }

    /// Returns the number of judgements in which both agreed.
    fn run(mut self) -> usize {
        (0..CALLBACKS_PER_KEY)
            .map(|turn| {
                let (callback, changed) = callback_and_change().new_tree(&mut self.runner).unwrap().current();
                self.judge(&callback, &changed, turn)
            })
            .sum()
    }

    fn judge(&self, callback: &Callback, changed: &Callback, turn: usize) -> usize {
        std::fs::write(self.folder.join("message"), callback.string_to_sign()).unwrap();
        assert!(openssl(&self.folder, &["dgst", "-md5", "-sign", "key", "-out", "signature", "message"]));
        let signature = STANDARD.encode(std::fs::read(self.folder.join("signature")).unwrap());
        assert_eq!(self.verify(callback, &signature), Some(Candidate::Documented), "{callback:?}");

        let target = callback.target();
        let ours = self.private.sign(&Target::parse(&target).unwrap(), &callback.body);
        assert_eq!(ours, signature, "{callback:?}");
        std::fs::write(self.folder.join("signature"), STANDARD.decode(&ours).unwrap()).unwrap();
        assert!(self.openssl_verifies(), "{callback:?}");

        // A changed callback one time, a changed signature the other.
        let mut wrong = STANDARD.decode(&ours).unwrap();
        if turn.is_multiple_of(2) {
            std::fs::write(self.folder.join("message"), changed.string_to_sign()).unwrap();
            assert_eq!(self.verify(changed, &ours), None, "{callback:?} {changed:?}");
        } else {
            let at = turn * 7919 % wrong.len();
            wrong[at] ^= 1 << (turn / 2 % 8);
            std::fs::write(self.folder.join("signature"), &wrong).unwrap();
            assert_eq!(self.verify(callback, &STANDARD.encode(&wrong)), None, "{callback:?}");
        }
        assert!(!self.openssl_verifies(), "{changed:?}");
        3
    }

    fn openssl_verifies(&self) -> bool {
        openssl(&self.folder, &["dgst", "-md5", "-verify", "public", "-signature", "signature", "message"])
    }

    fn verify(&self, callback: &Callback, signature: &str) -> Option<Candidate> {
        let target = callback.target();
        let target = Target::parse(&target).unwrap();
        let request = CallbackRequest {
            target: &target,
            body: &callback.body,
            authorization: Some(signature),
            pub_key_url: None,
            content_type: None,
            bucket: None,
            request_id: None,
        };
        let verified = request.parse(|_| false).unwrap().verify(&self.public).ok()?;
        assert_eq!(verified.string_to_sign(), callback.string_to_sign());
        Some(verified.candidate())
    }
}

/// Runs openssl in a folder, and says whether it succeeded.
fn openssl(folder: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("the openssl command is installed").success()
}
