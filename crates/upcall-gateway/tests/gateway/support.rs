//! A gateway on a free port, a bus that behaves as told, and callbacks as OSS sends them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use upcall_bus::{Deadline, Message, PublishError, PublishErrorKind, Publisher, Receipt};
use upcall_callback::{AnswerHead, PrivateKey, Target, check_answer};
use upcall_gateway::{Gateway, Options, RouteOptions, Unfinished};
use upcall_responder::Responder;
use upcall_telemetry::metrics::Metrics;
use upcall_verifier::{Keys, Route, TrustedKey, Verifier};

/// Nothing here takes longer, unless it is broken.
pub(crate) const LONG: Duration = Duration::from_secs(20);
pub(crate) const BODY: &str =
    "bucket=examplebucket&object=dir%2Fa.png&size=7&reqId=5CF3E7821AB22D0FDB867000&x%3Auser=42";
pub(crate) const REQUEST_ID: &str = "5CF3E7821AB22D0FDB86704D";
const KEY_URL: &str = "http://127.0.0.1:9000/key.pem";
static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(512).unwrap());

/// What the bus does with an event.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Behaviour {
    #[default]
    Store,
    Duplicate,
    Fail(PublishErrorKind),
    Hang,
    Panic,
}

#[derive(Default)]
pub(crate) struct Bus {
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) published: Mutex<Vec<Message>>,
    /// What was left of the last event's deadline.
    pub(crate) left: Mutex<Option<Duration>>,
    /// Is notified when an event has arrived.
    pub(crate) arrived: Notify,
}

#[async_trait]
impl Publisher for Bus {
    async fn publish(&self, message: Message, deadline: Deadline) -> Result<Receipt, PublishError> {
        *self.left.lock().unwrap() = Some(deadline.remaining());
        self.published.lock().unwrap().push(message);
        self.arrived.notify_one();
        let behaviour = *self.behaviour.lock().unwrap();
        match behaviour {
            Behaviour::Store => Ok(Receipt::Stored),
            Behaviour::Duplicate => Ok(Receipt::Duplicate),
            Behaviour::Fail(kind) => Err(kind.into()),
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Panic => panic!("a faulty bus"),
        }
    }
}

/// A running gateway; it ends when this is dropped, or in order by [`Running::stop`].
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) health: Option<SocketAddr>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<Result<(), Unfinished>>,
}

/// A route at `/oss/avatars`, and whatever `adjust` makes of the options.
pub(crate) async fn start(adjust: impl FnOnce(&mut Options)) -> Running {
    let bus = Arc::new(Bus::default());
    let trusted = TrustedKey { url: KEY_URL.to_owned(), pem: KEY.public_key_pem().to_owned() };
    let metrics = Metrics::new();
    let keys = Keys::new([trusted], None, &metrics).unwrap();
    let verifier = Verifier::new(keys, Arc::clone(&bus) as Arc<dyn Publisher>);
    let any_port = "127.0.0.1:0".parse().unwrap();
    let mut options = Options::new(any_port, verifier, metrics);
    options.admin = Some(any_port);
    options.routes = vec![route("avatars", "/oss/avatars", None)];
    adjust(&mut options);
    let gateway = Gateway::bind(options).await.unwrap();
    let (address, admin) = (gateway.local_addr().unwrap(), gateway.admin_addr().unwrap());
    let health = gateway.health_addr();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(gateway.run(async {
        let _ = stopped.await;
    }));
    Running { address, admin, health, bus, stop: Some(stop), task }
}

pub(crate) fn route(name: &str, path: &str, public_path: Option<&str>) -> RouteOptions {
    let policy = upcall_verifier::RouteOptions { name: name.to_owned(), ..Default::default() };
    let answer = serde_json::json!({ "Status": "OK", "object": "${object}", "size": "${size}" });
    RouteOptions {
        path: path.to_owned(),
        public_path: public_path.map(str::to_owned),
        policy: Route::new(policy).unwrap(),
        responder: Responder::new(&answer).unwrap(),
    }
}

impl Running {
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.bus.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn published(&self) -> usize {
        self.bus.published.lock().unwrap().len()
    }

    /// Sends one request on a connection of its own, and reads the answer.
    pub(crate) async fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut connection = self.connect().await;
        connection.write(request).await;
        connection.answer().await
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// Waits until a line of the metrics is as given.
    pub(crate) async fn wait_for_metric(&self, line: &str) {
        let seen = async { while !self.page("/metrics").await.body.lines().any(|other| other == line) {} };
        timeout(LONG, seen).await.unwrap_or_else(|_| panic!("never saw {line}"));
    }

    /// Gets an admin page.
    pub(crate) async fn page(&self, path: &str) -> Answer {
        let mut connection = Connection::open(self.admin).await;
        connection.write(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        connection.answer().await
    }
}

/// The headers of a genuine callback, the length apart.
pub(crate) fn headers(signed: &str, body: &str) -> String {
    format!(
        "host: oss-cn-hangzhou.aliyuncs.com\r\nauthorization: {}\r\nx-oss-pub-key-url: {}\r\n\
        content-type: application/x-www-form-urlencoded\r\nx-oss-bucket: examplebucket\r\nx-oss-request-id: {REQUEST_ID}\r\n",
        KEY.sign(&Target::parse(signed).unwrap(), body.as_bytes()),
        STANDARD.encode(KEY_URL),
    )
}

/// A genuine callback, signed for its target.
pub(crate) fn callback(target: &str) -> String {
    signed_callback(target, target, "")
}

/// A callback whose signature is for another target than the one it goes to, with further headers.
pub(crate) fn signed_callback(target: &str, signed: &str, further: &str) -> String {
    let (headers, length) = (headers(signed, BODY), BODY.len());
    format!("POST {target} HTTP/1.1\r\n{headers}{further}content-length: {length}\r\n\r\n{BODY}")
}

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
    pub(crate) version: String,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads an answer with its Content-Length.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.answer_to("POST").await
    }

    pub(crate) async fn answer_to(&mut self, method: &str) -> Answer {
        timeout(LONG, async {
            let head_length = loop {
                if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at + 4;
                }
                assert!(self.fill().await, "no answer: {:?}", String::from_utf8_lossy(&self.buffer));
            };
            let head = String::from_utf8(self.buffer.drain(..head_length).collect()).unwrap();
            let mut lines = head.lines();
            let (version, status) = lines.next().unwrap().split_once(' ').unwrap();
            let headers: HashMap<_, _> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            assert!(!headers.contains_key("transfer-encoding"), "{head}");
            let length: usize = if method == "HEAD" { 0 } else { headers["content-length"].parse().unwrap() };
            while self.buffer.len() < length {
                assert!(self.fill().await, "the answer is cut off");
            }
            let body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
            Answer { status: status[..3].parse().unwrap(), headers, body, version: version.to_owned() }
        })
        .await
        .expect("an answer in time")
    }

    /// Waits until the other side closes; whatever comes before is an error.
    pub(crate) async fn closed(&mut self) {
        while timeout(LONG, self.fill()).await.expect("closed in time") {}
        assert_eq!(String::from_utf8_lossy(&self.buffer), "");
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 4096];
        // A connection that is reset is closed, too.
        let read = self.stream.read(&mut chunk).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read > 0
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that OSS relays this answer.
    #[track_caller]
    pub(crate) fn assert_accepted(&self) {
        let head =
            AnswerHead { status: self.status, content_length: self.headers.get("content-length").map(String::as_str) };
        assert_eq!(check_answer(head, self.body.as_bytes()), Ok(()), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        assert!(!self.headers.contains_key("content-encoding"));
        assert_eq!(self.json(), serde_json::json!({ "Status": "OK", "object": "dir/a.png", "size": 7 }));
    }

    /// Asserts that this is an error as documented.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, code: &str) {
        assert_eq!((self.status, &self.json()["error"]["code"]), (status, &Value::from(code)), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(self.headers["content-length"], self.body.len().to_string());
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert!(error["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{self:?}");
    }
}
