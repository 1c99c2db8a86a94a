use proptest::prelude::*;

use super::*;

fn encode(value: &Value) -> String {
    STANDARD.encode(value.to_string())
}

#[track_caller]
fn refuse(value: &Value, expected: ParameterError) {
    assert_eq!(CallbackParameter::from_base64(&encode(value)), Err(expected), "{value}");
}

#[test]
fn every_fault_of_a_parameter_has_its_message() {
    use ParameterError::*;
    let with = |name: &str, value: Value| {
        let mut object = json!({"callbackUrl": "http://example.com/a", "callbackBody": "object=${object}"});
        object[name] = value;
        object
    };
    assert_eq!(CallbackParameter::from_base64(&"A".repeat(PARAMETER_BYTES_MAX + 1)), Err(TooLong));
    assert_eq!(CallbackParameter::from_base64("{}"), Err(Base64));
    assert_eq!(CallbackParameter::from_base64(&STANDARD.encode("{")), Err(Json));
    refuse(&json!([]), Json);
    refuse(&json!({"callbackBody": "a"}), Url);
    for url in [
        "",
        ";",
        "ftp://a/",
        "http://",
        "http:///a",
        "http://a:0/",
        "http://a:x/",
        "http://a:+80/",
        "http://a:65536/",
        "http://a:/",
        "http://a\\@b/",
        "http://a b/",
        "a/ b",
        "http://u@h/",
        "http://[::1]/",
    ] {
        refuse(&with("callbackUrl", url.into()), Url);
    }
    assert_eq!(CallbackUrl::parse("a/;b"), Err(Url), "it would be two when sent");
    refuse(&with("callbackUrl", "a;b;c;d;e;f".into()), TooManyUrls);
    refuse(&with("callbackHost", "a\r\nb".into()), Host);
    refuse(&with("callbackHost", 1.into()), Host);
    refuse(&with("callbackBody", "".into()), BodyEmpty);
    refuse(&json!({"callbackUrl": "a"}), BodyEmpty);
    refuse(&with("callbackBody", 1.into()), Body);
    refuse(&with("callbackBody", "a=${object".into()), Body);
    refuse(&with("callbackBody", "a=${nothing}".into()), Body);
    refuse(&with("callbackBody", "a=$ {object}".into()), LeftBrace);
    refuse(&with("callbackBodyType", true.into()), BodyType);
    refuse(&with("callbackBodyType", "text/plain".into()), BodyTypeUnsupported);
    assert_eq!(CallbackVars::from_base64(&"A".repeat(PARAMETER_BYTES_MAX + 1)), Err(VarsTooLong));
    assert_eq!(CallbackVars::from_base64("{}"), Err(VarsBase64));
    assert_eq!(CallbackVars::from_base64(&STANDARD.encode("{")), Err(VarsJson));
}

#[test]
fn error_codes_are_told_apart() {
    let mut codes: Vec<&str> = ParameterError::ALL.iter().map(|error| error.ec()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), ParameterError::ALL.len());
}

#[test]
fn urls_keep_their_target_untouched() {
    let parts = |text: &str| {
        let url = CallbackUrl::parse(text).unwrap();
        (url.is_https(), url.host().to_owned(), url.port(), url.target().to_owned(), url.authority().to_owned())
    };
    let expect = |https, host: &str, port, target: &str, authority: &str| {
        (https, host.to_owned(), port, target.to_owned(), authority.to_owned())
    };
    assert_eq!(parts("http://h/a/../%2F?b=%20&c"), expect(false, "h", 80, "/a/../%2F?b=%20&c", "h"));
    assert_eq!(parts("HTTPS://h:8443"), expect(true, "h", 8443, "/", "h:8443"));
    assert_eq!(parts("example.com/a?u=http://x/"), expect(false, "example.com", 80, "/a?u=http://x/", "example.com"));
    assert_eq!(parts("127.0.0.1:9000?x"), expect(false, "127.0.0.1", 9000, "/?x", "127.0.0.1:9000"));
}

#[test]
fn only_public_ipv4_addresses_are_public() {
    for private in [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",
        "::1",
        "2001:db8::1",
    ] {
        assert!(is_private_address(private.parse().unwrap()), "{private}");
    }
    assert!(!is_private_address("8.8.8.8".parse().unwrap()));
}

#[test]
fn variables_have_a_prefix_and_are_lower_case() {
    assert!(CallbackVars::from_base64(&encode(&json!({"x:user": "42"}))).is_ok());
    for wrong in [json!({"user": "42"}), json!({"x:User": "42"}), json!({"x:n": 1})] {
        assert_eq!(CallbackVars::from_base64(&encode(&wrong)), Err(ParameterError::VarsJson));
    }
    let form = CallbackVars::from_form([("key", "a"), ("x:user", "42")]);
    assert_eq!(form.0, [("x:user".to_owned(), "42".to_owned())].into());
}

proptest! {
    #[test]
    fn a_parameter_survives_its_base64(
        hosts in prop::collection::vec("[a-z]{1,8}(:[1-9][0-9]{0,3})?(/[a-z%0-9+]{0,8}){0,3}(\\?[a-z=&%]{0,8})?", 1..=5),
        host in prop::option::of("[a-z.]{1,10}"),
        body in "[^$]{1,20}(\\$\\{(object|x:user)\\})?",
        json in any::<bool>(), sni in any::<bool>(),
    ) {
        let urls = hosts.iter().map(|url| CallbackUrl::parse(url).unwrap()).collect();
        let body_type = if json { BodyType::Json } else { BodyType::Form };
        let parameter = CallbackParameter { urls, host, body, body_type, sni };
        prop_assert_eq!(CallbackParameter::from_base64(&parameter.to_base64()), Ok(parameter));
    }

    #[test]
    fn variables_survive_their_base64(vars in prop::collection::btree_map("x:[a-z_]{0,8}", any::<String>(), 0..5)) {
        let vars = CallbackVars(vars);
        prop_assert_eq!(CallbackVars::from_base64(&vars.to_base64()), Ok(vars));
    }

    #[test]
    fn nothing_makes_it_panic(text in any::<String>()) {
        let _ = CallbackParameter::from_base64(&text);
        let _ = CallbackParameter::from_base64(&STANDARD.encode(&text));
        let _ = CallbackUrl::parse(&text);
    }
}
