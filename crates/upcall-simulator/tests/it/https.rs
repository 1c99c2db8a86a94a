//! Callbacks by https.

use std::sync::{Arc, Mutex};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use upcall_simulator::HttpsTrust;

use crate::support::{App, Harness, Message, callback, ok};

/// A server with a certificate of its own for `localhost`: its port, its certificate, and the names it was called by.
async fn server() -> (u16, String, Arc<Mutex<Vec<Option<String>>>>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = Arc::<Mutex<Vec<Option<String>>>>::default();
    let called = Arc::clone(&names);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust the certificate goes away.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            called.lock().unwrap().push(stream.get_ref().1.server_name().map(str::to_owned));
            App::serve(stream, Arc::<Mutex<Vec<Message>>>::default(), ok(r#"{"by":"https"}"#)).await;
        }
    });
    (port, cert.pem(), names)
}

async fn call(trust: HttpsTrust, port: u16, sni: bool) -> Message {
    let simulator = Harness::with(|options| options.https_trust = trust).await;
    let url = format!("https://localhost:{port}/cb");
    simulator.put("a", &callback(&json!({"callbackUrl": url, "callbackBody": "a", "callbackSNI": sni}))).await
}

#[tokio::test]
async fn the_host_is_named_only_where_the_callback_says_so() {
    let (port, pem, names) = server().await;
    for sni in [true, false] {
        let answer = call(HttpsTrust::Certificates(pem.clone()), port, sni).await;
        assert_eq!((answer.status(), answer.text()), (200, r#"{"by":"https"}"#));
    }
    assert_eq!(*names.lock().unwrap(), [Some("localhost".to_owned()), None]);
}

#[tokio::test]
async fn a_certificate_is_trusted_only_as_the_options_say() {
    let (port, _, _) = server().await;
    assert_eq!(call(HttpsTrust::Everything, port, true).await.status(), 200);
    let refused = call(HttpsTrust::System, port, true).await;
    assert_eq!((refused.status(), refused.element("Message").as_str()), (203, "Error status : 502."));
}
