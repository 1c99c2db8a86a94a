//! Against a local TLS server that passes for OSS's host.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use upcall_callback::V1_PEM;

use super::*;

const HOST: &str = "gosspublic.alicdn.com";

struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    roots: RootCertStore,
}

impl Server {
    /// Answers every request for a certificate's name with these bytes.
    async fn start(name: &str, answer: Vec<u8>) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let tls = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, counter) = (acceptor.clone(), answer.clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    counter.fetch_add(1, Ordering::SeqCst);
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { address, requests, roots }
    }

    async fn fetch(&self, url: &str) -> Result<Option<String>, Source> {
        let (address, roots) = (self.address, self.roots.clone());
        let fetcher = HttpsFetcher::trusting(roots, |client| client.resolve(HOST, address)).unwrap();
        fetcher.fetch(url).await
    }
}

fn url(port: u16) -> String {
    format!("https://{HOST}:{port}/key.pem")
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n{body}").into_bytes()
}

async fn fetch(name: &str, answer: Vec<u8>) -> (Result<Option<String>, Source>, usize) {
    let server = Server::start(name, answer).await;
    let result = server.fetch(&url(server.address.port())).await;
    (result, server.requests.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_key_is_fetched_over_https() {
    let (result, _) = fetch(HOST, answer("200 OK", "", V1_PEM)).await;
    assert_eq!(result.unwrap().as_deref(), Some(V1_PEM));
}

#[tokio::test]
async fn a_host_that_has_no_such_key_says_so_and_one_that_is_out_of_order_does_not() {
    for status in ["404 Not Found", "403 Forbidden", "410 Gone"] {
        let (result, _) = fetch(HOST, answer(status, "", "<Error/>")).await;
        assert_eq!(result.unwrap(), None, "{status}");
    }
    for status in ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"] {
        let (result, _) = fetch(HOST, answer(status, "", V1_PEM)).await;
        assert!(result.is_err(), "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let (result, requests) = fetch(HOST, answer("302 Found", "location: /other.pem\r\n", "")).await;
    assert_eq!((result.unwrap_err().to_string().as_str(), requests), ("the answer has status 302, not 200", 1));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let (result, _) = fetch(HOST, answer("200 OK", "", &"x".repeat(ANSWER_BYTES_MAX + 1))).await;
    assert!(result.unwrap_err().to_string().contains("more than 16384 bytes"));
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused_before_anything_is_asked() {
    let (result, requests) = fetch("evil.example", answer("200 OK", "", V1_PEM)).await;
    assert!(result.is_err());
    assert_eq!(requests, 0);
}

#[tokio::test]
async fn plain_http_is_never_spoken() {
    let server = Server::start(HOST, Vec::new()).await;
    assert!(server.fetch(&url(server.address.port()).replace("https", "http")).await.is_err());
}
