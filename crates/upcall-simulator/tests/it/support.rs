//! A running simulator, HTTP by hand, and an application server that answers what the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use upcall_simulator::{Handle, Options, Simulator};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A request or an answer, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) line: String,
    /// The headers in their order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The value of a header.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.optional(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// The value of a header that may be absent.
    pub(crate) fn optional(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    /// The text of an XML element in the body.
    #[track_caller]
    pub(crate) fn element(&self, name: &str) -> String {
        let document = roxmltree::Document::parse(self.text()).unwrap();
        let node = document.descendants().find(|node| node.has_tag_name(name));
        node.unwrap_or_else(|| panic!("no {name} in {}", self.text())).text().unwrap_or_default().to_owned()
    }

    /// The texts of all XML elements of a name.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(self.text()).unwrap();
        let nodes = document.descendants().filter(|node| node.has_tag_name(name));
        nodes.map(|node| node.text().unwrap_or_default().to_owned()).collect()
    }
}

/// Reads one message whose length is given or whose end is the connection's.
pub(crate) async fn read_message(stream: &mut (impl AsyncRead + Unpin), bodiless: bool) -> Message {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the head is whole"));
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> =
        lines.map(|line| line.split_once(':').unwrap()).map(|(n, v)| (n.to_lowercase(), v.trim().to_owned())).collect();
    let mut message = Message { line, headers, body: Vec::new() };
    match message.optional("content-length").map(|length| length.parse().unwrap()) {
        _ if bodiless => {}
        Some(length) => {
            message.body = vec![0; length];
            stream.read_exact(&mut message.body).await.expect("the body is whole");
        }
        None => drop(stream.read_to_end(&mut message.body).await),
    }
    message
}

/// A simulator that runs until it is dropped.
pub(crate) struct Harness {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) folder: tempfile::TempDir,
    _stop: oneshot::Sender<()>,
}

impl Harness {
    /// Starts a simulator with short times.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a simulator with other options.
    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::new(folder.path());
        change(&mut options);
        let simulator = Simulator::bind(options).await.unwrap();
        let (address, handle) = (simulator.address().unwrap(), simulator.handle());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(simulator.run(async move { drop(stopped.await) }));
        Self { address, handle, folder, _stop: stop }
    }

    /// Sends a request in path style and reads the answer.
    pub(crate) async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Message {
        let mut request =
            format!("{method} {target} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(&[request.as_bytes(), b"\r\n", body].concat()).await.unwrap();
            read_message(&mut stream, method == "HEAD").await
        };
        tokio::time::timeout(PATIENCE, exchange).await.expect("the simulator answers")
    }

    /// Uploads `hello` to `examplebucket` with a callback.
    pub(crate) async fn put(&self, key: &str, callback: &str) -> Message {
        self.send("PUT", &format!("/examplebucket/{key}"), &[("x-oss-callback", callback)], b"hello").await
    }

    /// Whether an object is there.
    pub(crate) async fn has(&self, key: &str) -> bool {
        self.send("HEAD", &format!("/examplebucket/{key}"), &[], b"").await.status() == 200
    }
}

/// Writes a callback parameter.
pub(crate) fn callback(members: &Value) -> String {
    STANDARD.encode(members.to_string())
}

/// Writes a callback parameter for URLs, with a usual body.
pub(crate) fn callback_to(urls: &str) -> String {
    callback(&json!({"callbackUrl": urls, "callbackBody": "bucket=${bucket}&object=${object}&reqId=${reqId}"}))
}

/// Words a JSON answer as an application server should.
pub(crate) fn ok(json: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len()).into_bytes()
}

/// An application server that keeps what it is sent.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Message>>>,
}

impl App {
    /// Answers every request with these bytes. None at all means that it never answers.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Message>>>::default();
        let (kept, answer) = (Arc::clone(&received), answer.into());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, Arc::clone(&kept), answer.clone()));
            }
        });
        Self { address, received }
    }

    /// Answers one connection.
    pub(crate) async fn serve(
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        received: Arc<Mutex<Vec<Message>>>,
        answer: Vec<u8>,
    ) {
        let request = read_message(&mut stream, false).await;
        received.lock().unwrap().push(request);
        if answer.is_empty() {
            // Until the other side gives up.
            drop(stream.read_u8().await);
        } else {
            // The other side may have given up.
            drop(stream.write_all(&answer).await);
            drop(stream.shutdown().await);
        }
    }

    /// A URL of this server.
    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// What it was sent so far.
    pub(crate) fn received(&self) -> Vec<Message> {
        self.received.lock().unwrap().clone()
    }
}
