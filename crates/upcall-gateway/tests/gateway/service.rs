//! An HTTP service that computes answers, or fails to, as told.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use upcall_event::Event;
use upcall_gateway::RouteOptions;
use upcall_responder::{AnswerTemplate, Asking, AskingOptions, Responder, VetoAnswer, When};
use upcall_responder_http::{HttpService, Options};

use crate::support::{LONG, route};

/// What the service does with a question. It closes the connection behind its answer.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Say(Vec<u8>),
    SayAndHang(Vec<u8>),
    Close,
}

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    act: Arc<Mutex<Act>>,
    asked: Arc<Mutex<Vec<Event>>>,
}

impl Service {
    pub(crate) async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (act, asked) = (Arc::new(Mutex::new(act)), Arc::new(Mutex::new(Vec::new())));
        let service = Self { address, act: Arc::clone(&act), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (act, asked) = (Arc::clone(&act), Arc::clone(&asked));
                tokio::spawn(async move {
                    // Who asks is bounded, too.
                    let _ = timeout(LONG, serve(stream, &act, &asked)).await;
                });
            }
        });
        service
    }

    /// A service at an address where nobody listens.
    pub(crate) async fn missing() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, act: Arc::new(Mutex::new(Act::Close)), asked: Arc::default() }
    }

    pub(crate) fn act(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    pub(crate) fn asked(&self) -> Vec<Event> {
        self.asked.lock().unwrap().clone()
    }

    /// A route that asks this service, for at most 250 ms.
    pub(crate) fn route(&self, name: &str, adjust: impl FnOnce(&mut AskingOptions)) -> RouteOptions {
        let mut options = AskingOptions { timeout: Duration::from_millis(250), ..AskingOptions::default() };
        adjust(&mut options);
        let url = format!("http://{}/upcall", self.address).parse().unwrap();
        let service = Arc::new(HttpService::new(Options { url, authorization: None }).unwrap());
        let responder = Responder::Service(Asking { service, options });
        RouteOptions { responder, ..route(name, &format!("/oss/{name}"), None) }
    }
}

/// Shorthands for options.
pub(crate) trait Adjust {
    fn before(&mut self) -> &mut Self;
    fn fallback(&mut self) -> &mut Self;
    fn relay(&mut self) -> &mut Self;
    fn concurrency(&mut self, questions: usize) -> &mut Self;
}

impl Adjust for AskingOptions {
    fn before(&mut self) -> &mut Self {
        self.when = When::Before;
        self
    }

    fn fallback(&mut self) -> &mut Self {
        let template = serde_json::json!({ "Status": "later", "object": "${object}" });
        self.fallback = Some(AnswerTemplate::new(&template).unwrap());
        self
    }

    fn relay(&mut self) -> &mut Self {
        self.veto = VetoAnswer::Relay;
        self
    }

    fn concurrency(&mut self, questions: usize) -> &mut Self {
        self.concurrency = NonZeroUsize::new(questions).unwrap();
        self
    }
}

/// An HTTP answer with its length.
pub(crate) fn response(status: u16, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} Status\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn serve(mut stream: TcpStream, act: &Mutex<Act>, asked: &Mutex<Vec<Event>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let event = loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        if let Ok(event) = Event::from_structured(&request[at + 4..]) {
            break event;
        }
    };
    asked.lock().unwrap().push(event);
    let act = act.lock().unwrap().clone();
    match act {
        Act::Say(bytes) => stream.write_all(&bytes).await,
        Act::SayAndHang(bytes) => {
            stream.write_all(&bytes).await?;
            // Until who asks gives up.
            stream.read(&mut [0]).await.map(drop)
        }
        Act::Close => Ok(()),
    }
}
