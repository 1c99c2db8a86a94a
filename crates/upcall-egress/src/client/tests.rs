//! Against a server on a socket, whose every byte the test chooses.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::{Act, LONG, Server, serve};

/// Answers each look-up with the next of these, and the last one for ever.
struct Script(Mutex<VecDeque<Vec<IpAddr>>>);

#[async_trait]
impl Lookup for Script {
    async fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let mut answers = self.0.lock().unwrap();
        let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        next.ok_or_else(|| io::Error::other("no such name"))
    }
}

fn script(answers: &[&[&str]]) -> Arc<dyn Lookup> {
    let parse = |addresses: &&[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
    Arc::new(Script(Mutex::new(answers.iter().map(parse).collect())))
}

fn options(allowed: &[&str]) -> ClientOptions {
    let guard = Guard::new(allowed.iter().map(|network| network.parse().unwrap()).collect());
    ClientOptions { guard, ..ClientOptions::default() }
}

fn client(options: ClientOptions) -> Client {
    Client::new(options, false).unwrap()
}

async fn post(client: &Client, url: &str) -> Result<Response, Error> {
    let endpoint = url.parse().unwrap();
    let posted = client.post(&endpoint, HeaderMap::new(), Bytes::from_static(b"{}"));
    timeout_at(Instant::now() + LONG, posted).await.expect("an end")
}

async fn post_to(server: &Server, options: ClientOptions) -> Result<Response, Error> {
    post(&client(options), &format!("http://127.0.0.1:{}/x?token=hunter2", server.port)).await
}

#[track_caller]
fn assert_failed(posted: Result<Response, Error>, kind: ErrorKind) {
    let error = posted.unwrap_err();
    assert_eq!(error.kind, kind, "{error:?}");
    let mut shown = format!("{error} {error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        shown += &format!(" {error} {error:?}");
        source = error.source();
    }
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn an_address_that_is_not_public_is_not_called_however_it_is_written() {
    let server = Server::answering(200, "", "").await;
    let client = client(options(&[]));
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0177.0x0.1",
        "127.0.0.1.",
        "[::1]",
        "[::]",
        "0.0.0.0",
        "0",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "localhost",
    ] {
        assert_failed(
            post(&client, &format!("http://{host}:{}/?token=hunter2", server.port)).await,
            ErrorKind::Refused,
        );
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_is_judged_by_what_it_resolves_to() {
    let server = Server::answering(200, "", "").await;
    let url = format!("http://hooks.example.com:{}/", server.port);
    for addresses in [
        &["127.0.0.1"][..],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["10.0.0.1", "192.168.0.1"],
        &["169.254.169.254"],
        &["100.100.100.200"],
        &["fd00:ec2::254"],
        &["64:ff9b::7f00:1"],
        &["2002:7f00:1::"],
    ] {
        let options = ClientOptions { lookup: script(&[addresses]), ..options(&[]) };
        assert_failed(post(&client(options), &url).await, ErrorKind::Refused);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    // Of several addresses those that may be called are.
    let options = ClientOptions { lookup: script(&[&["10.0.0.1", "127.0.0.1"]]), ..options(&["127.0.0.1"]) };
    assert!(post(&client(options), &url).await.is_ok());
}

#[tokio::test]
async fn a_name_that_changes_between_check_and_connect_gains_nothing() {
    // 127.0.0.2 stands for a public address: it is admitted, and 127.0.0.1 is not.
    let inner = Server::answering(200, "", "").await;
    let url = format!("http://hooks.example.com:{}/", inner.port);
    let changing = |answers: &[&[&str]]| ClientOptions { lookup: script(answers), ..options(&["127.0.0.2"]) };
    // Checked once, connected to once: the second answer is not asked for, so the admitted address is what counts.
    assert_failed(post(&client(changing(&[&["127.0.0.2"], &["127.0.0.1"]])), &url).await, ErrorKind::Connect);
    // And the next request, on a new connection, is judged anew.
    let client = client(changing(&[&["127.0.0.2"], &["127.0.0.1"]]));
    assert_failed(post(&client, &url).await, ErrorKind::Connect);
    assert_failed(post(&client, &url).await, ErrorKind::Refused);
    assert_eq!(inner.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_without_addresses_and_a_port_without_a_server_can_not_be_reached() {
    let nowhere = ClientOptions { lookup: script(&[]), ..options(&[]) };
    assert_failed(post(&client(nowhere), "http://hooks.example.com/?token=hunter2").await, ErrorKind::Connect);
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/?token=hunter2");
    assert_failed(post(&client(options(&["127.0.0.1"])), &url).await, ErrorKind::Connect);
}

#[tokio::test]
async fn what_was_posted_arrives_and_connections_are_kept() {
    let server = Server::answering(201, "x-y: z\r\n", "done").await;
    let client = client(options(&["127.0.0.0/8"]));
    for _ in 0..10 {
        let response = post(&client, &format!("http://127.0.0.1:{}/x?token=hunter2", server.port)).await.unwrap();
        assert_eq!((response.status.as_u16(), &response.body[..], response.is_whole), (201, &b"done"[..], true));
        assert_eq!(response.headers["x-y"], "z");
    }
    let requests = server.requests();
    assert_eq!((requests.len(), server.connections.load(Ordering::SeqCst)), (10, 1));
    assert!(requests[0].head.starts_with("POST /x?token=hunter2 HTTP/1.1\r\n"), "{}", requests[0].head);
    assert_eq!(requests[0].body, b"{}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::answering(200, "", "").await;
    let location = format!("location: http://127.0.0.1:{}/\r\n", elsewhere.port);
    let server = Server::answering(307, &location, "").await;
    let response = post_to(&server, options(&["127.0.0.1"])).await.unwrap();
    assert_eq!((response.status.as_u16(), server.requests().len()), (307, 1));
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_is_read_to_a_limit_in_time_and_the_status_stands_whatever_becomes_of_it() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"400\r\n".to_vec(), vec![b'x'; 1024], b"\r\n".to_vec()].concat();
    let short =
        || ClientOptions { timeout: Duration::from_millis(500), body_bytes_max: 5000, ..options(&["127.0.0.1"]) };
    for (act, bytes) in [
        (Act::SayForEver(HEAD.into(), chunk.clone()), 5000),
        (Act::SayAndHang([HEAD, &chunk].concat()), 1024),
        (Act::Say([HEAD, &chunk, b"zz\r\n"].concat()), 1024),
        (Act::SayAndHang(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nno".into()), 2),
    ] {
        let server = Server::start(move |_, _| act.clone()).await;
        let response = post_to(&server, short()).await.unwrap();
        assert_eq!((response.status.as_u16(), response.body.len(), response.is_whole), (200, bytes, false));
    }
}

#[tokio::test]
async fn every_way_to_give_no_answer_has_its_name() {
    for (act, kind) in [
        (Act::SayAndHang(Vec::new()), ErrorKind::Timeout),
        (Act::SayAndHang(b"HTTP/1.1 200 OK\r\ncontent-le".into()), ErrorKind::Timeout),
        (Act::SayForEver(b"HTTP/1.1 200 OK\r\n".into(), b"x: y\r\n".into()), ErrorKind::Other),
        (Act::Close, ErrorKind::Broken),
        (Act::Say(b"SSH-2.0-OpenSSH_9.6\r\n".into()), ErrorKind::Other),
        (Act::Say(b"\x00\xff\r\n\r\n".into()), ErrorKind::Other),
    ] {
        let server = Server::start(move |_, _| act.clone()).await;
        // Only what never ends is waited out.
        let timeout = Duration::from_secs(if kind == ErrorKind::Timeout { 2 } else { 30 });
        let options = ClientOptions { timeout, ..options(&["127.0.0.1"]) };
        assert_failed(post_to(&server, options).await, kind);
        assert_eq!(server.requests().len(), 1, "each is asked once");
    }
}

/// TLS for `localhost`, and the certificate in PEM.
fn server_tls() -> (TlsAcceptor, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let tls = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(tls)), cert.pem())
}

#[tokio::test]
async fn a_connection_whose_encryption_breaks_after_the_request_was_read_is_not_one_that_never_came_about() {
    let (tls, pem) = server_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/?token=hunter2", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let mut stream = tls.accept(listener.accept().await.unwrap().0).await.unwrap();
        assert!(stream.read(&mut [0; 8192]).await.unwrap() > 0);
        // What comes now is not encrypted at all.
        let (plain, _) = stream.get_mut();
        plain.write_all(b"HTTP/1.1 500 crashed\r\n\r\n").await.unwrap();
        drop(timeout_at(Instant::now() + LONG, plain.read(&mut [0; 8192])).await);
    });
    let options = ClientOptions {
        authorities: authorities(pem.as_bytes()).unwrap(),
        lookup: script(&[&["127.0.0.1"]]),
        ..options(&["127.0.0.1"])
    };
    assert_failed(post(&Client::new(options, true).unwrap(), &url).await, ErrorKind::Broken);
}

#[tokio::test]
async fn an_endpoint_over_tls_needs_a_certificate_that_is_trusted() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let port = answering_over_tls(cert.der().clone(), key).await;
    let url = format!("https://localhost:{port}/?token=hunter2");
    let allowed = || ClientOptions { lookup: script(&[&["127.0.0.1"]]), ..options(&["127.0.0.1"]) };
    let trusting = ClientOptions { authorities: authorities(cert.pem().as_bytes()).unwrap(), ..allowed() };
    let client = Client::new(trusting, true).unwrap();
    assert!(post(&client, &url).await.is_ok());
    let other_name = url.replace("localhost", "hooks.example.com");
    assert_failed(post(&client, &other_name).await, ErrorKind::Tls);
    let no_trust = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = ClientOptions { authorities: authorities(no_trust.cert.pem().as_bytes()).unwrap(), ..allowed() };
    assert_failed(post(&Client::new(other, true).unwrap(), &url).await, ErrorKind::Tls);
}

#[tokio::test]
async fn a_failure_of_tls_says_what_to_do() {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signing_key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&signing_key).unwrap();
    let port =
        answering_over_tls(authority.der().clone(), PrivateKeyDer::Pkcs8(signing_key.serialize_der().into())).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            // As a server does that can't read the request.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let unknown =
        answering_over_tls(cert.der().clone(), PrivateKeyDer::Pkcs8(signing_key.serialize_der().into())).await;
    let stranger = generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    for (port, trusted, remedy) in [
        (port, authority.pem(), "that of an authority, not a server's"),
        (unknown, stranger.clone(), "name its authority in `ca`"),
        (plain_port, stranger, "does not speak TLS"),
    ] {
        let authorities = authorities(trusted.as_bytes()).unwrap();
        let options = ClientOptions { authorities, lookup: script(&[&["127.0.0.1"]]), ..options(&["127.0.0.1"]) };
        let client = Client::new(options, true).unwrap();
        let error = post(&client, &format!("https://localhost:{port}/")).await.unwrap_err();
        assert!(error.to_string().contains(remedy), "{remedy}: {error}: {error:?}");
    }
}

/// A server that shows this certificate, and its port.
async fn answering_over_tls(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> u16 {
    let tls = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (tls, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = tls.accept(stream).await {
                tokio::spawn(serve(stream, |_, _| Act::answer(200, "", "")));
            }
        }
    });
    port
}

#[test]
fn authorities_are_certificates_in_pem() {
    let pem = generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
    assert_eq!(authorities(format!("{pem}\n{pem}").as_bytes()).unwrap().len(), 2);
    assert_eq!(authorities(b""), Err(InvalidAuthority));
    assert_eq!(authorities(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"), Err(InvalidAuthority));
}
