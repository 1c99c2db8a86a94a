use proptest::prelude::*;
use serde_json::json;

use super::*;

fn body(fields: &[(&str, Value)]) -> Body<'static> {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned().into(), value.clone())).collect();
    Body { fields, repairs: Vec::new() }
}

fn map(fields: &[(&str, &str)]) -> FieldMap {
    FieldMap::new(&fields.iter().map(|(field, name)| ((*field).to_owned(), (*name).to_owned())).collect()).unwrap()
}

#[track_caller]
fn normalized(own: &[(&str, &str)], fields: &[(&str, Value)]) -> Normalized {
    Normalized::new(body(fields), &map(own)).unwrap()
}

#[test]
fn every_variable_of_oss_is_known_by_its_own_name() {
    let found = normalized(
        &[],
        &[
            ("bucket", json!("b")),
            ("object", json!("o")),
            ("etag", json!("E")),
            ("size", json!("7")),
            ("mimeType", json!("image/png")),
            ("imageInfo.height", json!("3")),
            ("imageInfo.width", json!(4)),
            ("imageInfo.format", json!("png")),
            ("crc64", json!(17_834_398_232_350_201_234_u64)),
            ("contentMd5", json!("M")),
            ("vpcId", json!("v")),
            ("clientIp", json!("203.0.113.7")),
            ("reqId", json!("5CF3E7821AB22D0FDB86704D")),
            ("operation", json!("PutObject")),
            ("x:user", json!(42)),
        ],
    );
    let text = |text: &str| Some(text.to_owned());
    let expected = Normalized {
        bucket: text("b"),
        object: text("o"),
        etag: text("E"),
        size: Some(7),
        mime_type: text("image/png"),
        crc64: text("17834398232350201234"),
        content_md5: text("M"),
        image: Some(Image { width: Some(4), height: Some(3), format: text("png") }),
        operation: text("PutObject"),
        request_id: text("5CF3E7821AB22D0FDB86704D"),
        client_ip: text("203.0.113.7"),
        vpc_id: text("v"),
        vars: [("user".to_owned(), "42".to_owned())].into(),
        extra: BTreeMap::new(),
        unread: Vec::new(),
    };
    assert_eq!(found, expected);
}

#[test]
fn image_values_are_found_in_a_nested_object_and_the_rest_of_it_is_kept() {
    let found = normalized(&[], &[("imageInfo", json!({"width": 4, "format": "", "orientation": 6}))]);
    assert_eq!(found.image, Some(Image { width: Some(4), height: None, format: None }));
    assert_eq!(found.extra, [("imageInfo".to_owned(), json!({"orientation": 6}))].into());
    let mapped = normalized(&[("size", "file.bytes")], &[("file", json!({"bytes": 9})), ("size", json!(1))]);
    assert_eq!((mapped.size, &mapped.extra["size"]), (Some(9), &json!(1)));
}

#[test]
fn a_mapped_field_goes_by_its_own_name_only() {
    let own = [("object", "filename"), ("image.width", "w"), ("vars.user", "uid")];
    let fields = [
        ("filename", json!("a.png")),
        ("object", json!("other")),
        ("w", json!("4")),
        ("width", json!("5")),
        ("uid", json!("42")),
        ("x:user", json!("43")),
    ];
    let found = normalized(&own, &fields);
    assert_eq!(found.object.as_deref(), Some("a.png"));
    assert_eq!(found.image.and_then(|image| image.width), Some(4));
    assert_eq!(found.vars, [("user".to_owned(), "42".to_owned())].into());
    let kept: Vec<&str> = found.extra.keys().map(String::as_str).collect();
    assert_eq!(kept, ["object", "width", "x:user"]);
    assert_eq!(normalized(&[], &[("filename", json!("a"))]).object, None, "a file name may be anything");
}

#[test]
fn an_empty_value_is_an_absent_one() {
    let empty = [("etag", json!("")), ("size", Value::Null), ("width", json!("")), ("x:user", json!(""))];
    assert_eq!(normalized(&[], &empty), Normalized::default());
}

#[test]
fn a_value_of_another_type_is_kept_as_it_came_and_not_guessed() {
    for odd in [json!("12kB"), json!("-1"), json!("+1"), json!(1.5), json!(-1), json!(true), json!([1]), json!("1 ")] {
        let found = normalized(&[], &[("size", odd.clone())]);
        assert_eq!((found.size, &found.extra["size"], found.unread.as_slice()), (None, &odd, ["size"].as_slice()));
    }
    let found = normalized(&[], &[("crc64", json!("abc")), ("etag", json!(["E"])), ("x:user", json!({"a": 1}))]);
    assert_eq!((found.crc64, found.etag, found.vars.len()), (None, None, 0));
    assert_eq!(found.extra.len(), 3);
    assert_eq!(found.unread.len(), 3);
}

#[test]
fn two_names_for_one_field_must_agree() {
    let same = normalized(&[], &[("width", json!("4")), ("imageInfo.width", json!(4))]);
    assert_eq!((same.image.and_then(|image| image.width), same.extra.len()), (Some(4), 0));

    let differing = [("mimeType", json!("a/b")), ("mime_type", json!("c/d"))];
    let found = normalized(&[], &differing);
    assert_eq!((found.mime_type, found.extra.len(), found.unread), (None, 2, vec!["mime_type"]));

    let own = map(&[("object", "key")]);
    let nested = body(&[("key", json!("a")), ("object", json!("b"))]);
    assert_eq!(Normalized::new(nested, &own).unwrap().object.as_deref(), Some("a"));
}

#[test]
fn mistakes_in_a_field_map_are_all_named() {
    let fields = [("sise", "s"), ("route", "r"), ("extra.a", "b"), ("etag", ""), ("object", "x"), ("bucket", "x")];
    let fields = fields.iter().map(|(field, name)| ((*field).to_owned(), (*name).to_owned())).collect();
    let mistakes = FieldMap::new(&fields).unwrap_err();
    assert_eq!(mistakes.len(), 5, "{mistakes:?}");
}

proptest! {
    /// Nothing of a body is lost: each value is in a field, a variable, or under `extra`, unless it is empty.
    #[test]
    fn nothing_vanishes(fields in proptest::collection::btree_map("(x:)?[a-z_.]{1,6}|object|size|crc64|reqId|mimeType", "[0-9a-z]{1,8}", 0..12)) {
        let values: Vec<(&str, Value)> = fields.iter().map(|(name, value)| (name.as_str(), json!(value))).collect();
        let found = normalized(&[], &values);
        let in_fields = [
            found.bucket.is_some(), found.object.is_some(), found.etag.is_some(), found.size.is_some(),
            found.mime_type.is_some(), found.crc64.is_some(), found.content_md5.is_some(), found.operation.is_some(),
            found.request_id.is_some(), found.client_ip.is_some(), found.vpc_id.is_some(),
        ];
        let in_image = found.image.map_or(0, |image| {
            usize::from(image.width.is_some()) + usize::from(image.height.is_some()) + usize::from(image.format.is_some())
        });
        let known = in_fields.into_iter().filter(|there| *there).count() + in_image;
        prop_assert_eq!(known + found.vars.len() + found.extra.len(), fields.len());
    }
}
