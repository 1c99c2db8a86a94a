use super::*;

const SECRET: &str = "secret";

/// Signatures over the policy without conditions, made with Python's hmac module as the protocol's section on PostObject says.
const V1_SIGNATURE: &str = "b1u88Z/xQumQz44mWsaglJRk8jQ=";
const V4_SIGNATURE: &str = "11e60c9aa6431775a974315cb306ff0f799c23b8922a1b82860ece8a19bba1f9";

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn policy(conditions: &str) -> String {
    STANDARD.encode(format!(r#"{{"expiration":"2026-01-01T01:00:00.000Z","conditions":{conditions}}}"#))
}

fn check_fields(fields: &[(&str, &str)]) -> Result<RangeInclusive<u64>, OssError> {
    let credentials = Credentials { access_key_id: "ak".to_owned(), access_key_secret: SECRET.to_owned() };
    let claims = Claims { bucket: "examplebucket", key: "dir/a.png", content_type: "image/png" };
    check(&Fields::of(fields), &claims, &credentials, now())
}

/// Checks a form whose policy is signed as V1 wants it.
fn check_conditions(conditions: &str, fields: &[(&str, &str)]) -> Result<RangeInclusive<u64>, OssError> {
    let policy = policy(conditions);
    let mac = hmac::<Hmac<Sha1>>(SECRET.as_bytes(), policy.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let mut all = vec![("policy", policy.as_str()), ("OSSAccessKeyId", "ak"), ("Signature", signature.as_str())];
    all.extend_from_slice(fields);
    check_fields(&all)
}

#[test]
fn v1_is_known_from_outside() {
    let policy = policy("[]");
    let fields = |signature| [("policy", policy.as_str()), ("ossaccesskeyid", "ak"), ("signature", signature)].to_vec();
    assert_eq!(check_fields(&fields(V1_SIGNATURE)), Ok(0..=UPLOAD_BYTES_MAX));
    let wrong = V1_SIGNATURE.replacen(|letter: char| letter.is_ascii_lowercase(), "A", 1);
    assert_eq!(check_fields(&fields(&wrong)), Err(OssError::signature_does_not_match()));
}

#[test]
fn v4_is_known_from_outside() {
    let policy = policy("[]");
    let fields = |id, signature| {
        vec![
            ("policy", policy.as_str()),
            ("x-oss-signature-version", "OSS4-HMAC-SHA256"),
            ("x-oss-credential", id),
            ("x-oss-date", "20260101T000000Z"),
            ("x-oss-signature", signature),
        ]
    };
    let credential = "ak/20260101/cn-hangzhou/oss/aliyun_v4_request";
    assert_eq!(check_fields(&fields(credential, V4_SIGNATURE)), Ok(0..=UPLOAD_BYTES_MAX));
    assert_eq!(check_fields(&fields(credential, "00")), Err(OssError::signature_does_not_match()));
    let other_date = "ak/20260102/cn-hangzhou/oss/aliyun_v4_request";
    assert_eq!(check_fields(&fields(other_date, V4_SIGNATURE)), Err(OssError::signature_does_not_match()));
    let other_id = "other/20260101/cn-hangzhou/oss/aliyun_v4_request";
    assert_eq!(check_fields(&fields(other_id, V4_SIGNATURE)), Err(OssError::invalid_access_key()));
    assert_eq!(check_fields(&fields("ak", V4_SIGNATURE)).unwrap_err().code, "InvalidArgument");
}

#[test]
fn a_form_without_a_policy_is_refused() {
    assert_eq!(check_fields(&[]).unwrap_err().code, "AccessDenied");
}

#[test]
fn a_policy_expires() {
    let policy = STANDARD.encode(r#"{"expiration":"2026-01-01T00:00:00.000Z","conditions":[]}"#);
    let mac = hmac::<Hmac<Sha1>>(SECRET.as_bytes(), policy.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let refused = check_fields(&[("policy", &policy), ("OSSAccessKeyId", "ak"), ("Signature", &signature)]);
    assert_eq!(refused.unwrap_err().message, "Invalid according to Policy: Policy expired.");
}

#[test]
fn conditions_hold_what_they_name() {
    let callback = [("callback", "e30=")];
    for (conditions, fields, met) in [
        (r#"[{"bucket":"examplebucket"},["eq","$key","dir/a.png"]]"#, &[][..], true),
        (r#"[{"bucket":"otherbucket"}]"#, &[], false),
        (r#"[["starts-with","$key","dir/"]]"#, &[], true),
        (r#"[["starts-with","$key","other/"]]"#, &[], false),
        (r#"[["starts-with","$x-oss-meta-a",""]]"#, &[], true),
        (r#"[["in","$content-type",["image/png","image/jpeg"]]]"#, &[], true),
        (r#"[["in","$content-type",["text/plain"]]]"#, &[], false),
        (r#"[["not-in","$content-type",["image/png"]]]"#, &[], false),
        (r#"[{"callback":"e30="}]"#, &callback, true),
        (r#"[{"callback":"other"}]"#, &callback, false),
        (r#"[{"callback":"e30="}]"#, &[], false),
        // What no condition names, the uploader may add.
        ("[]", &callback, true),
        (r#"[{"x:user":"42"}]"#, &[("x:user", "42")], true),
        (r#"[{"x:user":"42"}]"#, &[("x:user", "43")], false),
    ] {
        match check_conditions(conditions, fields) {
            Ok(_) => assert!(met, "{conditions} was met"),
            Err(error) => {
                assert!(!met, "{conditions} was not met");
                assert!(
                    error.message.starts_with("Invalid according to Policy: Policy Condition failed: "),
                    "{error:?}"
                );
            }
        }
    }
}

#[test]
fn the_length_is_bounded_as_the_policy_says() {
    assert_eq!(check_conditions(r#"[["content-length-range",1,10]]"#, &[]), Ok(1..=10));
}

#[test]
fn a_condition_that_is_none_is_refused() {
    for conditions in [r#"["x"]"#, r#"[["like","$key","a"]]"#, r#"[["eq","$key"]]"#, r#"[["in","$key","a"]]"#] {
        assert_eq!(check_conditions(conditions, &[]).unwrap_err().code, "InvalidPolicyDocument", "{conditions}");
    }
}
