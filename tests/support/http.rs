//! HTTP by hand, over a socket: what is sent is exactly what the test wrote.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::executable::PATIENCE;

/// An answer, taken apart.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("the answer {text:?} is not JSON: {error}"))
    }

    /// The code of an error answer.
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends bytes, and reads the one answer to them.
///
/// # Errors
/// If there is no connection, or it breaks before the answer is whole.
pub fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(request)?;
    read_answer(&mut stream)
}

/// Sends a request without a body.
///
/// # Errors
/// As [`exchange`].
pub fn get(address: SocketAddr, target: &str) -> std::io::Result<Answer> {
    exchange(address, format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
}

/// Reads one answer from a stream: its head, and as much body as Content-Length says (without it: until the end).
///
/// # Errors
/// If the stream ends or breaks before.
pub fn read_answer(stream: &mut impl Read) -> std::io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        if let Some(answer) = parse(&bytes, false) {
            return Ok(answer);
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return parse(&bytes, true).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn parse(bytes: &[u8], at_end: bool) -> Option<Answer> {
    let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&bytes[..head_length]).ok()?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let headers: Vec<_> = lines.filter_map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let body = &bytes[head_length..];
    let body = match length {
        Some(length) => body.get(..length)?,
        None if at_end => body,
        None => return None,
    };
    Some(Answer { status, headers, body: body.to_vec() })
}

/// Waits until something is so.
///
/// # Panics
/// If it is not so within [`PATIENCE`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
