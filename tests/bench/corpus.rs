//! Callbacks as OSS sends them, each one different and each one signed.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use upcall_callback::{PrivateKey, Target};

/// The path that is called.
pub(crate) const PATH: &str = "/oss/bench";
/// The URL that the callbacks name their key by. Nothing is fetched: the gateway is told the key.
pub(crate) const KEY_URL: &str = "http://bench.invalid/key.pem";
/// How many callbacks have a request id of the same second: about as many as one gateway answers.
const CALLBACKS_A_SECOND: usize = 30_000;

/// Signed callbacks and the key that they are signed with.
pub(crate) struct Corpus {
    /// The public key, for the gateway's configuration.
    pub(crate) public_key_pem: String,
    signatures: Vec<String>,
}

impl Corpus {
    /// Takes `count` callbacks out of a file in this folder, or signs them and writes it: signing takes long.
    pub(crate) fn load(folder: &Path, count: usize) -> anyhow::Result<Self> {
        let (key_path, signatures_path) = (folder.join("key.pem"), folder.join("signatures-2.txt"));
        let read = std::fs::read_to_string(&key_path).ok().zip(std::fs::read_to_string(&signatures_path).ok());
        if let Some((key, signatures)) = read {
            let signatures: Vec<String> = signatures.lines().take(count).map(str::to_owned).collect();
            if signatures.len() == count {
                let key = PrivateKey::from_pem(&key).context("the kept key can't be read")?;
                return Ok(Self { public_key_pem: key.public_key_pem().to_owned(), signatures });
            }
        }
        eprintln!("signing {count} callbacks, once");
        let key = PrivateKey::generate(512)?;
        let signatures = sign(&key, count)?;
        std::fs::create_dir_all(folder)?;
        std::fs::write(key_path, key.to_pem()?)?;
        std::fs::write(signatures_path, signatures.join("\n"))?;
        Ok(Self { public_key_pem: key.public_key_pem().to_owned(), signatures })
    }

    /// The requests, whole, as they go over the wire.
    pub(crate) fn requests(&self, close: bool) -> Arc<Vec<Vec<u8>>> {
        let connection = if close { "close" } else { "keep-alive" };
        let key_url = STANDARD.encode(KEY_URL);
        let request = |(number, authorization): (usize, &String)| {
            let body = body(number);
            let mut text = String::with_capacity(1024);
            write!(
                text,
                "POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {connection}\r\nContent-Length: {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-MD5: G5H/anNzgdvMS2AsvXpi6A==\r\n\
                 Date: Sun, 02 Jun 2019 15:13:06 GMT\r\nUser-Agent: aliyun-oss-callback\r\n\
                 authorization: {authorization}\r\nx-oss-pub-key-url: {key_url}\r\nx-oss-additional-headers: \r\n\
                 x-oss-bucket: examplebucket\r\nx-oss-owner: 1000000000000001\r\nx-oss-request-id: {}\r\n\
                 x-oss-requester: 1000000000000001\r\nx-oss-signature-version: 1.0\r\nx-oss-tag: CALLBACK\r\n\r\n{body}",
                body.len(),
                request_id(number),
            )
            .expect("writing to a string does not fail");
            text.into_bytes()
        };
        Arc::new(self.signatures.iter().enumerate().map(request).collect())
    }
}

fn sign(key: &PrivateKey, count: usize) -> anyhow::Result<Vec<String>> {
    let target = Target::parse(PATH).context("the path is a target")?;
    let threads = available_parallelism()?.get();
    let mut parts = vec![Vec::new(); threads];
    std::thread::scope(|scope| {
        for (thread, part) in parts.iter_mut().enumerate() {
            let target = &target;
            let numbers = (count * thread / threads)..(count * (thread + 1) / threads);
            scope.spawn(move || *part = numbers.map(|number| key.sign(target, body(number).as_bytes())).collect());
        }
    });
    Ok(parts.concat())
}

/// A body as the documented callbackBody makes it, with its request id last.
fn body(number: usize) -> String {
    format!(
        "bucket=examplebucket&object=exampledir%2Fphotos%2F{number:08}.jpg&etag=D8E8FCA2DC0F896FD7CB4CB0031BA249&size=1048576\
         &mimeType=image%2Fjpeg&imageInfo.height=278&imageInfo.width=200&imageInfo.format=jpg&crc64=17834398232350201234\
         &operation=PutObject&clientIp=203.0.113.7&x%3Auser=42&reqId={}",
        request_id(number)
    )
}

/// As OSS makes them: the first 8 digits are the Unix time in seconds, the others look random (splitmix64).
fn request_id(number: usize) -> String {
    let second = 0x5CF3_E782 + number / CALLBACKS_A_SECOND;
    let mut mixed = (number as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    format!("{second:08X}{:016X}", mixed ^ (mixed >> 31))
}
