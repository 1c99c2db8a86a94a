//! Callbacks that OSS really sent and signed.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use serde::Deserialize;
use upcall_callback::{CallbackRequest, Candidate, PublicKey, RequestError, Target, V1_PEM, Verified};

#[derive(Deserialize)]
struct Vectors {
    public_key_pem: String,
    vectors: Vec<Vector>,
}

#[derive(Deserialize, Clone)]
struct Vector {
    id: String,
    path_and_query: String,
    body: String,
    authorization: String,
    pub_key_url: Option<String>,
    string_to_sign: String,
}

fn vectors() -> Vec<Vector> {
    let file = include_str!("../../../tests/vectors/oss-callbacks.json");
    let vectors: Vectors = serde_json::from_str(file).unwrap();
    assert_eq!(vectors.public_key_pem, V1_PEM);
    vectors.vectors
}

fn request<'a>(vector: &'a Vector, target: &'a Target<'a>) -> CallbackRequest<'a> {
    CallbackRequest {
        target,
        body: vector.body.as_bytes(),
        authorization: Some(&vector.authorization),
        pub_key_url: vector.pub_key_url.as_deref(),
        content_type: None,
        bucket: None,
        request_id: None,
    }
}

/// Whether the callback is taken, by whatever step refuses it.
fn is_taken(vector: &Vector) -> bool {
    let Ok(target) = Target::parse(&vector.path_and_query) else { return false };
    match request(vector, &target).parse(|_| false) {
        Ok(unverified) => unverified.verify(PublicKey::v1()).is_ok(),
        Err(RequestError::SignatureEncoding) => false,
        Err(error) => panic!("{}: {error}", vector.id),
    }
}

#[test]
fn what_oss_signed_is_taken_as_documented() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 4);
    for vector in &vectors {
        let target = Target::parse(&vector.path_and_query).unwrap();
        let unverified = request(vector, &target).parse(|_| false).unwrap();
        assert!(unverified.key_url().is_none_or(|url| url.is_v1()), "{}", vector.id);
        let verified: Verified<'_> = unverified.verify(PublicKey::v1()).unwrap();
        assert_eq!(verified.candidate(), Candidate::Documented, "{}", vector.id);
        assert_eq!(String::from_utf8(verified.string_to_sign()).unwrap(), vector.string_to_sign);
        assert!(!verified.body().unwrap().fields.is_empty(), "{}", vector.id);
    }
}

#[test]
fn the_fields_are_those_that_oss_signed() {
    let vectors = vectors();
    let field = |id: &str, name: &str| {
        let vector = vectors.iter().find(|vector| vector.id == id).unwrap();
        let target = Target::parse(&vector.path_and_query).unwrap();
        let verified = request(vector, &target).parse(|_| false).unwrap().verify(PublicKey::v1()).unwrap();
        let body = verified.body().unwrap();
        assert!(body.repairs.is_empty(), "{id}");
        body.field(name).unwrap().clone()
    };
    assert_eq!(field("v1-official-doc", "bucket"), "yonghu-test");
    assert_eq!(field("v3-form-full-headers", "filename"), "headSculpture/jikang2.jpg");
    assert_eq!(field("v3-form-full-headers", "size"), "108904");
    assert_eq!(field("v4-json-body", "size"), 114_020);
}

#[test]
fn one_changed_bit_anywhere_is_refused() {
    for vector in vectors() {
        let mut refused = 0;
        let parts: [fn(&mut Vector) -> &mut String; 3] =
            [|vector| &mut vector.path_and_query, |vector| &mut vector.body, |vector| &mut vector.authorization];
        for part in parts {
            for at in 0..part(&mut vector.clone()).len() {
                for bit in 0..7 {
                    let mut changed = vector.clone();
                    let mut bytes = part(&mut changed).clone().into_bytes();
                    bytes[at] ^= 1 << bit;
                    *part(&mut changed) = String::from_utf8(bytes).unwrap();
                    assert!(!is_taken(&changed), "{}: {:?}", vector.id, part(&mut changed));
                    refused += 1;
                }
            }
        }
        assert!(refused > 700 && is_taken(&vector), "{}", vector.id);
    }
}

#[test]
fn one_byte_more_or_less_is_refused() {
    for vector in vectors() {
        let changes: [fn(&mut Vector); 8] = [
            |vector| vector.body.push('\n'),
            |vector| vector.body.truncate(vector.body.len() - 1),
            |vector| vector.path_and_query.push('/'),
            |vector| vector.path_and_query.truncate(vector.path_and_query.len() - 1),
            |vector| vector.path_and_query.push_str("?x=1"),
            |vector| vector.authorization.insert_str(0, "AAAA"),
            |vector| vector.authorization.truncate(84),
            |vector| vector.authorization.clear(),
        ];
        for change in changes {
            let mut changed = vector.clone();
            change(&mut changed);
            assert!(!is_taken(&changed), "{}", vector.id);
        }
    }
}

#[test]
fn a_path_that_swallows_the_start_of_a_body_is_refused() {
    for vector in vectors() {
        let (head, tail) = vector.body.split_at(vector.body.len() / 2);
        let path = vector.path_and_query.split('?').next().unwrap().to_owned();
        let query = vector.path_and_query.strip_prefix(&path).unwrap().replace('?', "%3F");
        let head = head.replace('%', "%25");
        let forged =
            Vector { path_and_query: format!("{path}{query}%0A{head}"), body: tail.to_owned(), ..vector.clone() };
        // What a verifier that decodes first would hash is what OSS signed.
        assert!(Target::parse(&forged.path_and_query).is_err(), "{}", vector.id);
    }
}
