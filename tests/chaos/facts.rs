//! What the callbacks of a run say: everything follows from an upload's number, so that whatever arrives can be checked.

use serde_json::{Value, json};
use upcall_event::EventId;

/// The bucket of every upload.
pub const BUCKET: &str = "examplebucket";
/// The route that the callbacks arrive on.
pub const ROUTE: &str = "uploads";

/// The uploads' request ids begin with this: the time in them is long ago.
const REQUEST_ID_PREFIX: &str = "5CF3E782";

/// One upload, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upload(pub u64);

impl Upload {
    /// The upload that has this request id, if it can be one.
    pub fn with_request_id(id: &str) -> Option<Self> {
        u64::from_str_radix(id.strip_prefix(REQUEST_ID_PREFIX)?, 16).ok().map(Self)
    }

    /// Its request id at OSS.
    pub fn request_id(self) -> String {
        format!("{REQUEST_ID_PREFIX}{:016X}", self.0)
    }

    /// The id that its event must have, by whatever way it came.
    pub fn event_id(self) -> String {
        EventId::from_request(BUCKET, &self.object(), &self.request_id()).to_string()
    }

    /// The callback's body, as OSS fills it in.
    pub fn body(self) -> String {
        let Self(number) = self;
        let object = encoded(&self.object());
        format!(
            "bucket={BUCKET}&object={object}&etag={etag}&size={size}&mimeType=image%2Fjpeg&crc64={crc64}\
             &imageInfo.width={width}&imageInfo.height=1080&imageInfo.format=jpg&operation=PutObject&reqId={request_id}\
             &clientIp=203.0.113.7&x:user={number}&note={note}",
            etag = self.etag(),
            size = self.size(),
            crc64 = u64::MAX - number,
            width = 1 + number % 4_000,
            request_id = self.request_id(),
            note = encoded(&self.note()),
        )
    }

    /// The event's data, whole.
    pub fn data(self) -> Value {
        let Self(number) = self;
        json!({
            "bucket": BUCKET,
            "object": self.object(),
            "etag": self.etag(),
            "size": self.size(),
            "mime_type": "image/jpeg",
            "crc64": (u64::MAX - number).to_string(),
            "content_md5": null,
            "image": { "width": 1 + number % 4_000, "height": 1080, "format": "jpg" },
            "operation": "PutObject",
            "request_id": self.request_id(),
            "client_ip": "203.0.113.7",
            "vpc_id": null,
            "vars": { "user": number.to_string() },
            "extra": { "note": self.note() },
            "route": ROUTE,
            "bucket_from": "body",
            "proof": ["signature"],
            "origin": "callback",
        })
    }

    /// Looks up whose data this is, and whether it says what the callback said.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn of(event_id: &str, data: &Value) -> Result<Self, String> {
        let request_id = data["request_id"].as_str().unwrap_or_default();
        let upload = Self::with_request_id(request_id).ok_or_else(|| format!("{request_id:?} was never issued"))?;
        let (wanted, wanted_id) = (upload.data(), upload.event_id());
        if event_id != wanted_id {
            return Err(format!("{request_id} has the event id {event_id}, not {wanted_id}"));
        }
        if *data != wanted {
            return Err(format!("{request_id} says {data}, not {wanted}"));
        }
        Ok(upload)
    }

    /// Each upload is of an object of its own, some with a name that has to be encoded.
    fn object(self) -> String {
        let Self(number) = self;
        match number % 3 {
            0 => format!("photos/{number}.jpg"),
            1 => format!("photos/täglich +50%/{number}.jpg"),
            _ => format!("照片/{}/{number}.jpg", "deep/".repeat(20)),
        }
    }

    fn etag(self) -> String {
        format!("{:032X}", u128::from(self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835))
    }

    fn size(self) -> u64 {
        1 + self.0 * 7_919
    }

    fn note(self) -> String {
        format!("{}: {}", self.0, "none of our fields & kept = so; ".repeat(usize::try_from(self.0 % 8).unwrap_or(0)))
    }
}

fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
