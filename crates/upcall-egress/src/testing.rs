//! For tests: a server whose every byte the test chooses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod receiver;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

pub use receiver::Receiver;

/// Nothing in a test takes longer, unless it is broken.
pub const LONG: Duration = Duration::from_secs(20);

/// What the server does once it has read a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Writes these bytes, and waits for the next request.
    Say(Vec<u8>),
    /// Writes these bytes, and then nothing until the other side gives up.
    SayAndHang(Vec<u8>),
    /// Writes the first bytes, and then the second ones again and again until the other side gives up.
    SayForEver(Vec<u8>, Vec<u8>),
    /// Does it later.
    Later(Duration, Box<Self>),
    /// Closes the connection.
    Close,
}

/// A request, as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// The request line and the headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A server on a port of this machine, until the test's runtime ends.
pub struct Server {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// How many connections it has accepted.
    pub connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Act {
    /// An answer with this status, these headers (each with its line break) and this body.
    #[must_use]
    pub fn answer(status: u16, headers: &str, body: &str) -> Self {
        let text = format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        Self::Say(text.into())
    }
}

impl Request {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The target in the request line.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

impl Server {
    /// Acts by the request, and by how many there were before.
    pub async fn start(act: impl Fn(&Request, usize) -> Act + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server =
            Self { port: listener.local_addr().unwrap().port(), connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (server.connections.clone(), server.requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, act.clone(), requests.clone()));
            }
        });
        server
    }

    /// Answers always the same.
    pub async fn answering(status: u16, headers: &str, body: &str) -> Self {
        let act = Act::answer(status, headers, body);
        Self::start(move |_, _| act.clone()).await
    }

    /// The requests so far, in the order in which they were read.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until there were so many requests.
    pub async fn requested(&self, requests: usize) -> Vec<Request> {
        let enough = async {
            while self.requests.lock().unwrap().len() < requests {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, enough).await.expect("the requests");
        self.requests()
    }
}

/// Serves one connection that a test has accepted by itself.
pub async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, act: impl Fn(&Request, usize) -> Act) {
    converse(stream, act, Arc::default()).await;
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    act: impl Fn(&Request, usize) -> Act,
    requests: Arc<Mutex<Vec<Request>>>,
) {
    let mut read = Vec::new();
    while let Some(request) = next_request(&mut stream, &mut read).await {
        let before = {
            let mut requests = requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        let mut now = act(&request, before);
        while let Act::Later(wait, then) = now {
            sleep(wait).await;
            now = *then;
        }
        let _ = match now {
            Act::Say(bytes) => stream.write_all(&bytes).await,
            Act::SayAndHang(bytes) => {
                let _ = stream.write_all(&bytes).await;
                drop(timeout(LONG, stream.read(&mut [0])).await);
                return;
            }
            Act::SayForEver(first, then) => {
                let _ = stream.write_all(&first).await;
                while stream.write_all(&then).await.is_ok() {}
                return;
            }
            Act::Later(..) | Act::Close => return,
        };
    }
}

/// A request with its length, or nothing once the connection is closed.
async fn next_request(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = end + 4 + length.map_or(0, |length| length.parse().unwrap());
            if read.len() >= whole {
                let body = read[end + 4..whole].to_vec();
                read.drain(..whole);
                return Some(Request { head, body });
            }
        }
        if stream.read_buf(read).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}
