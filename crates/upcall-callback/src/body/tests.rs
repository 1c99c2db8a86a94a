use proptest::prelude::*;
use serde_json::json;

use super::*;

const JSON: Option<&str> = Some("application/json");
const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

#[track_caller]
fn check(content_type: Option<&str>, body: &str, fields: Value, repairs: &[Repair]) {
    let parsed = Body::parse(content_type, body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
    let object: Value = parsed.fields.iter().cloned().collect();
    assert_eq!((object, parsed.repairs.as_slice()), (fields, repairs), "{body}");
}

#[track_caller]
fn refuse(content_type: Option<&str>, body: &str) -> BodyError {
    match Body::parse(content_type, body.as_bytes()) {
        Err(error) => error,
        Ok(parsed) => panic!("{body} was read as {parsed:?}"),
    }
}

#[test]
fn valid_bodies_are_read_as_they_are() {
    check(
        FORM,
        "filename=a%2Fb.png&size=5&x=1+2%203&empty=",
        json!({"filename": "a/b.png", "size": "5", "x": "1 2 3", "empty": ""}),
        &[],
    );
    check(
        JSON,
        r#" {"object":"a/b.png","size":5,"n":null,"o":{"p":[1]}} "#,
        json!({"object": "a/b.png", "size": 5, "n": null, "o": {"p": [1]}}),
        &[],
    );
    check(Some("Application/JSON; charset=utf-8"), "{}", json!({}), &[]);
    check(None, r#"{"a":1}"#, json!({"a": 1}), &[]);
    check(None, "a=1", json!({"a": "1"}), &[]);
    check(FORM, "", json!({}), &[]);
    check(JSON, r#"{"crc64":18446744073709551615}"#, json!({"crc64": u64::MAX}), &[]);
}

#[test]
fn faults_with_one_meaning_are_repaired() {
    use Repair::*;
    check(
        JSON,
        r#"{"object":"a.txt","height":,"width":,"size":3}"#,
        json!({"object": "a.txt", "height": null, "width": null, "size": 3}),
        &[EmptyValue],
    );
    check(JSON, r#"{"object":"a.txt","height":}"#, json!({"object": "a.txt", "height": null}), &[EmptyValue]);
    check(
        JSON,
        r#"{"image":{"height":,"width":},"pair":[,1]}"#,
        json!({"image": {"height": null, "width": null}, "pair": [null, 1]}),
        &[EmptyValue],
    );
    check(JSON, r#"{"object" "a.png","size" 3}"#, json!({"object": "a.png", "size": 3}), &[MissingColon]);
    check(JSON, r#"{"object":"a.png",}"#, json!({"object": "a.png"}), &[TrailingComma]);
    check(
        JSON,
        r#"{"object":""a \"b\".png"","size":"5"}"#,
        json!({"object": "a \"b\".png", "size": "5"}),
        &[DoubledQuotes],
    );
    check(JSON, r#"{"object":"","size":5,}"#, json!({"object": "", "size": 5}), &[TrailingComma]);
    check(JSON, r#"filename="a/b.png"&size=5385"#, json!({"filename": "a/b.png", "size": 5385}), &[FormFilledAsJson]);
    check(
        JSON,
        r#"filename="a&b=\"c\".png"&height=&type=avatar"#,
        json!({"filename": "a&b=\"c\".png", "height": null, "type": "avatar"}),
        &[EmptyValue, FormFilledAsJson],
    );
    check(JSON, r#"a=""&s=5&b="""#, json!({"a": "", "s": 5, "b": ""}), &[FormFilledAsJson]);
    check(FORM, r#"{"object":"a.png","size":5}"#, json!({"object": "a.png", "size": 5}), &[OtherContentType]);
}

#[test]
fn what_has_no_one_meaning_is_unreadable() {
    for body in [
        "{",
        "}",
        r#"{"a""#,
        r#"{"a":"b"#,
        r#"{"a":1}x"#,
        r#"{"a":1,,"b":2}"#,
        r#"{"a":b}"#,
        r#"{a:1}"#,
        r#"{"a":1 "b":2}"#,
        r#"{"a"}"#,
        r#"{"a":01}"#,
        r#"{"a":"""b"}"#,
        r#"{"a":""b"}"#,
        r#"[1]"#,
        "a",
        "=1",
        r#"a="b"c&d=1"#,
        "a=b%2Fc",
        "a=b+c",
        r#"a=b"c"#,
        r#"{"a":${nothing}}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[,]}"#,
        "{\"a\":\u{c}1}",
        r#"{"a":"\ud800"}"#,
        r#"{"a" "size" 3}"#,
        r#"{"a":""x"y"}"#,
        r#"a=""b"""#,
        r#"a=""b""&c=1"#,
        r#"a=""&b""&c=1"#,
        r#"a="x""b"&c=1"#,
        r#"a={"b":1}"#,
    ] {
        assert!(matches!(refuse(JSON, body), BodyError::Unreadable { .. }), "{body}");
    }
    for body in ["a=%", "a=%f", "a=%zz", "a=%ff", r#"{"object":"a%2Fb.png"}"#] {
        assert!(matches!(refuse(FORM, body), BodyError::Unreadable { .. }), "{body}");
    }
    assert!(matches!(Body::parse(FORM, b"a=\xff"), Err(BodyError::Unreadable { .. })));
    let deep = format!("{{\"a\":{}1,}}", "[".repeat(100_000));
    assert!(matches!(refuse(JSON, &deep), BodyError::Unreadable { .. }));
}

#[test]
fn one_name_with_two_values_is_a_conflict() {
    for (content_type, body) in [
        (FORM, "object=a&object=b"),
        (JSON, r#"{"object":"a","object":"b"}"#),
        (JSON, r#"{"object":"a","object":"b",}"#),
        (JSON, r#"object="a"&object="b""#),
        (JSON, r#"{"image":{"object":"a","object":"b"}}"#),
        (JSON, r#"{"images":[{"object":1,"object":1.0}]}"#),
    ] {
        assert_eq!(refuse(content_type, body), BodyError::Conflict { name: "object".into() });
    }
    check(FORM, "object=a&object=a", json!({"object": "a"}), &[]);
}

#[test]
fn a_variable_that_was_not_filled_in_is_reported() {
    for (content_type, body) in [
        (FORM, "bucket=%24%7Bbucket%7D&object=a"),
        (FORM, "bucket=${bucket}&object=a"),
        (JSON, r#"{"bucket":"${bucket}"}"#),
        (JSON, r#"{"bucket":["${x:user}"]}"#),
        (JSON, r#"{"bucket":${bucket},"size":5}"#),
        (JSON, r#"bucket=${bucket}&size=5"#),
    ] {
        assert!(
            matches!(refuse(content_type, body), BodyError::NotFilledIn { name, .. } if name == "bucket"),
            "{body}"
        );
    }
    check(FORM, "a=${nothing}", json!({"a": "${nothing}"}), &[]);
}

#[test]
fn the_number_of_fields_is_bounded() {
    let body: String = (0..=FIELDS_MAX).map(|n| format!("f{n}=&")).collect();
    assert_eq!(refuse(FORM, &body), BodyError::TooManyFields);
    assert_eq!(refuse(FORM, &"a=1&".repeat(FIELDS_MAX + 1)), BodyError::TooManyFields);
}

#[test]
fn the_number_of_values_is_bounded_however_they_are_nested() {
    let array = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(VALUES_MAX));
    let objects = format!(r#"{{"a":[{}{{}}]}}"#, r#"{"b":1},"#.repeat(VALUES_MAX / 2));
    for body in [array, objects] {
        assert_eq!(refuse(JSON, &body), BodyError::TooManyFields);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[^$]{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[^$]{0,6}", inner, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..80), json in any::<bool>()) {
        let _ = Body::parse(if json { JSON } else { FORM }, &body);
    }

    #[test]
    fn nearly_json_makes_it_neither_panic_nor_hang(body in r#"[{}\[\]",:= &a1\\$-]{0,40}"#) {
        let _ = Body::parse(JSON, body.as_bytes());
    }

    #[test]
    fn valid_json_means_what_it_says(members in prop::collection::btree_map("[^$]{0,6}", any_json(), 0..6)) {
        let object: Value = members.into_iter().collect();
        let text = object.to_string();
        let parsed = Body::parse(JSON, text.as_bytes()).unwrap();
        prop_assert_eq!(&parsed.fields.into_iter().collect::<Value>(), &object);
        prop_assert!(parsed.repairs.is_empty());
        // A repair changes nothing else.
        if !object.as_object().unwrap().is_empty() {
            let with_comma = format!("{},}}", &text[..text.len() - 1]);
            let parsed = Body::parse(JSON, with_comma.as_bytes()).unwrap();
            prop_assert_eq!(parsed.fields.into_iter().collect::<Value>(), object);
            prop_assert_eq!(parsed.repairs, vec![Repair::TrailingComma]);
        }
    }

    #[test]
    fn valid_json_is_never_repaired(text in r#"\{("[a\\]{0,2}"[ :]{1,2}("a?"|1|-0|\[\]|\{"a":2\})[, ]{0,2}){0,3}\}"#) {
        let parsed = Body::parse(JSON, text.as_bytes());
        match (serde_json::from_str::<Value>(&text), parsed) {
            (Ok(value), Ok(parsed)) => {
                prop_assert_eq!(parsed.fields.into_iter().collect::<Value>(), value);
                prop_assert_eq!(parsed.repairs, vec![]);
            }
            (Ok(_), Err(error)) => prop_assert!(matches!(error, BodyError::Conflict { .. }), "{}: {}", text, error),
            (Err(_), Ok(parsed)) => prop_assert!(!parsed.repairs.is_empty(), "{}", text),
            (Err(_), Err(_)) => {}
        }
    }

    /// What an uploader names an object adds no field and hides none, whether or not a JSON template quotes the variable too.
    #[test]
    fn a_value_can_not_become_fields(object in r#"[a"&=,:{}\[\] \\]{0,12}"#, template in 0..3_usize) {
        let quoted = Value::from(object.as_str()).to_string();
        let body = match template {
            0 => format!(r#"{{"o":{quoted},"s":5}}"#),
            1 => format!(r#"{{"o":"{quoted}","s":5}}"#),
            _ => format!(r#"o={quoted}&s=5"#),
        };
        match Body::parse(JSON, body.as_bytes()) {
            Ok(parsed) => {
                let expected = vec![("o".into(), Value::from(object)), ("s".into(), Value::from(5))];
                prop_assert_eq!(parsed.fields, expected, "{}", body);
            }
            Err(error) => prop_assert!(template == 1, "{}: {}", body, error),
        }
    }

    /// Nobody signs the content type: whoever repeats a callback with another one gets the same fields, or none.
    #[test]
    fn the_content_type_makes_no_other_event(
        body in prop_oneof![r#"[ab=&"%+0-9E.,:{}\[\]]{0,16}"#, r#"a=("b%2Fc"|1E3|5|)&b=("x"|1|true|)"#, r#"\{"a":("b%2Fc"|5|),"b":("x"|1)\}"#],
    ) {
        let readings = [JSON, FORM, None].map(|content_type| Body::parse(content_type, body.as_bytes()));
        let fields: Vec<_> = readings.iter().flatten().map(|parsed| &parsed.fields).collect();
        prop_assert!(fields.windows(2).all(|pair| pair[0] == pair[1]), "{}: {:?}", body, fields);
    }

    #[test]
    fn a_form_means_what_was_encoded(pairs in prop::collection::btree_map("[^$]{1,6}", "[^$]{0,10}", 0..6)) {
        let body = serde_urlencoded::to_string(&pairs).unwrap();
        let parsed = Body::parse(FORM, body.as_bytes()).unwrap();
        let expected: Vec<_> = pairs.into_iter().map(|(name, value)| (name.into(), Value::from(value))).collect();
        prop_assert_eq!(parsed.fields, expected);
    }

    /// What is read is what the reference reads; what it would read in its lenient ways is refused.
    #[test]
    fn a_form_is_read_as_serde_urlencoded_reads_it(body in "[a=&+%2cC3Bz]{0,20}") {
        let parsed = Body::parse(FORM, body.as_bytes());
        let reference: Vec<(String, String)> = serde_urlencoded::from_str(&body).unwrap();
        match parsed {
            Ok(parsed) => {
                let mut expected: Vec<(Cow<'_, str>, Value)> = Vec::new();
                for (name, value) in reference {
                    let field = (name.into(), value.into());
                    if !expected.contains(&field) {
                        expected.push(field);
                    }
                }
                prop_assert_eq!(parsed.fields, expected);
            }
            Err(BodyError::Conflict { name }) => {
                prop_assert!(reference.iter().filter(|(other, _)| *other == name).count() > 1);
            }
            Err(error) => {
                let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
                let is_broken = body.split('%').skip(1).any(|rest| !is_escape(rest));
                let was_replaced = reference.iter().any(|(name, value)| name.contains('\u{fffd}') || value.contains('\u{fffd}'));
                prop_assert!(is_broken || was_replaced, "{}: {}", body, error);
            }
        }
    }
}
