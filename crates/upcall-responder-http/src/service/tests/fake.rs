//! A service on a socket, whose every byte the test chooses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{LONG, OK, ask};
use crate::service::{AskError, HttpService, Options, Reply, RootCertStore};

/// What the service does once it has read a request.
#[derive(Clone)]
pub(super) enum Act {
    Say(Vec<u8>),
    SayAndHang(Vec<u8>),
    Close,
}

/// A service, and what it has seen.
pub(super) struct Fake {
    port: u16,
    roots: RootCertStore,
    pub(super) connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Acts by how many requests there were before.
    pub(super) async fn start(act: impl Fn(usize) -> Act + Clone + Send + 'static) -> Self {
        Self::serve(act, None).await
    }

    pub(super) async fn saying(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref().to_vec();
        Self::start(move |_| Act::Say(bytes.clone())).await
    }

    /// A service with a certificate for this name.
    pub(super) async fn with_tls(name: &str) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let tls = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let mut fake = Self::serve(|_| Act::Say(OK.into()), Some(TlsAcceptor::from(Arc::new(tls)))).await;
        fake.roots.add(cert.der().clone()).unwrap();
        fake
    }

    async fn serve(act: impl Fn(usize) -> Act + Clone + Send + 'static, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let fake =
            Self { port, roots: RootCertStore::empty(), connections: connections.clone(), requests: requests.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (act, tls, requests) = (act.clone(), tls.clone(), requests.clone());
                tokio::spawn(async move {
                    match tls {
                        None => converse(stream, act, requests).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, act, requests).await;
                            }
                        }
                    }
                });
            }
        });
        fake
    }

    pub(super) fn service(&self, scheme: &str, authorization: Option<&str>) -> HttpService {
        let url = format!("{scheme}://localhost:{}/upcall?x=1", self.port).parse().unwrap();
        let authorization = authorization.map(|text| text.parse().unwrap());
        HttpService::trusting(self.roots.clone(), Options { url, authorization }).unwrap()
    }

    pub(super) async fn ask(&self) -> Result<Reply, AskError> {
        ask(&self.service("http", None)).await
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    act: impl Fn(usize) -> Act,
    requests: Arc<Mutex<Vec<String>>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        let before = {
            let mut requests = requests.lock().unwrap();
            requests.push(request);
            requests.len() - 1
        };
        match act(before) {
            Act::Say(bytes) => drop(stream.write_all(&bytes).await),
            Act::SayAndHang(bytes) => {
                let _ = stream.write_all(&bytes).await;
                // Until the other side gives up.
                let _ = timeout(LONG, stream.read(&mut [0])).await;
                return;
            }
            Act::Close => return,
        }
    }
}

/// A request with its length, or nothing once the connection is closed.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}
