//! What `upcall dev` says at its start: where everything is, and an upload to paste.

use std::net::SocketAddr;
use std::path::Path;

use upcall_callback::{BodyType, CallbackParameter, CallbackUrl};
use upcall_simulator::Handle;

use super::BUCKET;
use crate::command::sign;

/// Where the gateway takes the callbacks of the simulated OSS.
pub(super) const CALLBACK_PATH: &str = "/oss/callback";

/// Where the simulated OSS keeps its key, in the folder of the data.
const KEY_FILE: &str = "oss/callback_key.pem";

/// The template that a callback should have: it names the bucket and the request id, so that every event has an id that
/// rests on signed content only.
const CALLBACK_BODY: &str = concat!(
    r#"{"bucket":${bucket},"object":${object},"etag":${etag},"size":${size},"mimeType":${mimeType},"#,
    r#""crc64":${crc64},"reqId":${reqId},"operation":${operation},"clientIp":${clientIp}}"#,
);

/// The guide, for these addresses (of callbacks, and of the admin listener) and this folder.
pub(super) fn text(oss: &Handle, (callbacks, admin): (SocketAddr, Option<SocketAddr>), data: &Path) -> String {
    let endpoint = oss.endpoint();
    let callback_url = format!("http://{callbacks}{CALLBACK_PATH}");
    let callback = parameter(&callback_url).map(|parameter| parameter.to_base64()).unwrap_or_default();
    let admin = admin.map(|admin| format!("http://{admin}/ready  /metrics  /rejections")).unwrap_or_default();
    let data = data.display().to_string();
    let upcall = std::env::args().next().unwrap_or_else(|| "upcall".to_owned());
    let sign = sign(&upcall, &callback_url, oss, Path::new(&data));
    format!(
        "Upcall is ready.

  OSS (simulated)  {endpoint}  with the bucket {BUCKET}
  callbacks        {callback_url}
  operators        {admin}
  data             {data}

Upload a file, in another terminal:

  curl -sS -i -X PUT {endpoint}/{BUCKET}/hello.txt --data-binary 'Hello, OSS!' \\
    -H 'Content-Type: text/plain' \\
    -H 'x-oss-callback: {callback}'

Or send a callback alone, without an upload:

  {sign}

Then look at what became of it:

  {upcall} tail --journal {data}
  sqlite3 {data}/catalog.db 'SELECT * FROM uploads'

The callbackBody of that upload, to use in your own:

  {CALLBACK_BODY}

Callbacks, as they pass:"
    )
}

/// The command that sends a callback, with the options whose defaults are others.
fn sign(upcall: &str, callback_url: &str, oss: &Handle, data: &Path) -> String {
    let mut command = format!("{upcall} sign {callback_url}");
    let key = data.join(KEY_FILE);
    if key != Path::new(sign::DEFAULT_KEY) {
        command.push_str(&format!(" --key {}", key.display()));
    }
    if oss.key_url() != sign::DEFAULT_KEY_URL {
        command.push_str(&format!(" --key-url {}", oss.key_url()));
    }
    command
}

fn parameter(callback_url: &str) -> Option<CallbackParameter> {
    let urls = vec![CallbackUrl::parse(callback_url).ok()?];
    Some(CallbackParameter { urls, host: None, body: CALLBACK_BODY.to_owned(), body_type: BodyType::Json, sni: false })
}
