//! Fills a callbackBody in, exactly as OSS does: without looking at what the template around the values is.

use serde_json::{Value, json};

use crate::{BodyType, CallbackParameter, CallbackVars};

/// What OSS knows about an upload: the values of the system variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the system variable of its name; protocol, \"System variables\"")]
pub struct UploadFacts {
    pub bucket: String,
    pub object: String,
    pub etag: String,
    pub size: u64,
    pub mime_type: String,
    pub image_height: Option<u64>,
    pub image_width: Option<u64>,
    pub image_format: Option<String>,
    pub crc64: Option<u64>,
    pub content_md5: Option<String>,
    pub vpc_id: Option<String>,
    pub client_ip: String,
    pub request_id: String,
    pub operation: String,
}

/// A variable's value. What is absent among the image's values leaves nothing at all, even in JSON.
enum Filled {
    Value(Value),
    Nothing,
}

/// Makes the body that OSS sends.
///
/// In a form each value is percent-encoded. In JSON each value is written as a JSON value, with quotes around strings
/// and none around numbers, whether or not the template is JSON.
#[must_use]
pub fn render_body(parameter: &CallbackParameter, facts: &UploadFacts, vars: &CallbackVars) -> Vec<u8> {
    let mut body = String::with_capacity(parameter.body.len() * 2);
    let mut rest = parameter.body.as_str();
    while let Some((constant, behind)) = rest.split_once("${") {
        let Some((name, behind)) = behind.split_once('}') else { break };
        body.push_str(constant);
        if let Filled::Value(value) = value(name, facts, vars) {
            match parameter.body_type {
                BodyType::Json => body.push_str(&value.to_string()),
                BodyType::Form => push_encoded(&mut body, &value),
            }
        }
        rest = behind;
    }
    body.push_str(rest);
    body.into_bytes()
}

fn value(name: &str, facts: &UploadFacts, vars: &CallbackVars) -> Filled {
    let image = |value: Option<Value>| value.map_or(Filled::Nothing, Filled::Value);
    Filled::Value(match name {
        "bucket" => json!(facts.bucket),
        "object" => json!(facts.object),
        "etag" => json!(facts.etag),
        "size" => json!(facts.size),
        "mimeType" => json!(facts.mime_type),
        "imageInfo.height" => return image(facts.image_height.map(Value::from)),
        "imageInfo.width" => return image(facts.image_width.map(Value::from)),
        "imageInfo.format" => return image(facts.image_format.clone().map(Value::from)),
        "crc64" => return image(facts.crc64.map(Value::from)),
        "contentMd5" => json!(facts.content_md5.as_deref().unwrap_or_default()),
        "vpcId" => json!(facts.vpc_id.as_deref().unwrap_or_default()),
        "clientIp" => json!(facts.client_ip),
        "reqId" => json!(facts.request_id),
        "operation" => json!(facts.operation),
        var => json!(vars.0.get(var).map(String::as_str).unwrap_or_default()),
    })
}

fn push_encoded(body: &mut String, value: &Value) {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            body.push(char::from(byte));
        } else {
            body.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Body, CallbackUrl};

    fn parameter(body: &str, body_type: BodyType) -> CallbackParameter {
        let urls = vec![CallbackUrl::parse("example.com").unwrap()];
        CallbackParameter { urls, host: None, body: body.into(), body_type, sni: false }
    }

    fn facts() -> UploadFacts {
        UploadFacts { bucket: "b".into(), object: "a/b: c.png".into(), size: 5385, ..UploadFacts::default() }
    }

    #[track_caller]
    fn check(template: &str, body_type: BodyType, expected: &str) {
        let vars = CallbackVars([("x:user".to_owned(), "4\"2".to_owned())].into());
        let body = render_body(&parameter(template, body_type), &facts(), &vars);
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn values_are_written_as_oss_writes_them() {
        check("filename=${object}&size=${size}", BodyType::Form, "filename=a%2Fb%3A%20c.png&size=5385");
        check("u=${x:user}&v=${x:other}&w=${imageInfo.width}", BodyType::Form, "u=4%222&v=&w=");
        check(r#"{"object":${object},"size":${size}}"#, BodyType::Json, r#"{"object":"a/b: c.png","size":5385}"#);
        check(
            r#"{"u":${x:user},"height":${imageInfo.height},"w":1}"#,
            BodyType::Json,
            r#"{"u":"4\"2","height":,"w":1}"#,
        );
        check("filename=${object}&size=${size}", BodyType::Json, r#"filename="a/b: c.png"&size=5385"#);
        check("constant", BodyType::Json, "constant");
    }

    proptest! {
        #[test]
        fn what_is_filled_in_is_what_is_read(object in "[^$]{0,30}", user in "[^$]{0,20}", size in any::<u64>(), form_and_json in prop::sample::select(vec![(true, true), (true, false), (false, true)])) {
            // JSON that is filled in as a form is not JSON.
            let (form, json) = form_and_json;
            let template = if form { "o=${object}&s=${size}&u=${x:user}&h=${imageInfo.height}" }
                else { r#"{"o":${object},"s":${size},"u":${x:user},"h":${imageInfo.height}}"# };
            let body_type = if json { BodyType::Json } else { BodyType::Form };
            let facts = UploadFacts { object: object.clone(), size, ..facts() };
            let vars = CallbackVars([("x:user".to_owned(), user.clone())].into());
            let rendered = render_body(&parameter(template, body_type), &facts, &vars);
            let body = Body::parse(Some(body_type.as_str()), &rendered).unwrap();
            prop_assert_eq!(body.field("o").unwrap(), &Value::from(object));
            prop_assert_eq!(body.field("u").unwrap(), &Value::from(user));
            let (size, empty) = if json { (json!(size), Value::Null) } else { (json!(size.to_string()), json!("")) };
            prop_assert_eq!(body.field("s").unwrap(), &size);
            prop_assert_eq!(body.field("h").unwrap(), &empty);
        }
    }
}
