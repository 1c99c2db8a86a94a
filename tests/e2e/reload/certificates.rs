//! Certificates, exchanged on disk while callbacks are taken.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use upcall_egress::testing::{self, Act};
use upcall_tests::authority::Authority;
use upcall_tests::http::{get, wait_until};
use upcall_tests::nats::{NatsOptions, NatsServer, is_missing};

use super::{Site, route};

/// Writes a file as whoever exchanges certificates does: in one step.
fn put(file: &Path, text: impl AsRef<[u8]>) {
    let half = file.with_extension("new");
    std::fs::write(&half, text).unwrap();
    std::fs::rename(half, file).unwrap();
}

/// The files of one end of a connection whose both ends have a certificate.
struct End {
    folder: tempfile::TempDir,
    purpose: ExtendedKeyUsagePurpose,
}

impl End {
    fn new(purpose: ExtendedKeyUsagePurpose, authority: &Authority) -> Self {
        let end = Self { folder: tempfile::tempdir().unwrap(), purpose };
        end.certify(authority);
        end
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn named(&self, name: &str) -> String {
        format!("{:?}", self.file(name).display().to_string())
    }

    /// Has it believe this authority, and be certified by it.
    fn certify(&self, authority: &Authority) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![self.purpose.clone()];
        let (certificate, key) = authority.certify(&params);
        put(&self.file("ca.pem"), std::fs::read(authority.file("ca.pem")).unwrap());
        put(&self.file("own.pem"), certificate);
        put(&self.file("key.pem"), key);
    }
}

impl Site {
    fn is_connected_to_nats(&self) -> bool {
        get(self.served.admin, "/metrics").unwrap().text().contains("upcall_nats_ready 1")
    }

    /// Waits until what is refused is refused for this.
    fn wait_for_refusal(&self, reason: &str) {
        let mut refused = String::new();
        wait_until("it is refused", || {
            refused = self.in_force()["refused"]["reasons"].to_string();
            refused.contains(reason)
        });
    }

    fn wait_for_reloads(&self, applied: f64) {
        wait_until("what was exchanged is in force", || {
            self.reloads("applied") >= applied && self.in_force()["refused"].is_null()
        });
    }
}

#[test]
fn certificates_for_nats_are_exchanged_and_no_callback_fails() {
    if is_missing("the exchange of certificates for NATS") {
        return;
    }
    let [first, second] = ["The first authority", "The second authority"].map(Authority::new);
    let theirs = End::new(ExtendedKeyUsagePurpose::ServerAuth, &first);
    let ours = End::new(ExtendedKeyUsagePurpose::ClientAuth, &first);
    let [ca, certificate, key] = ["ca.pem", "own.pem", "key.pem"].map(|name| theirs.named(name));
    let config = format!("tls {{ cert_file: {certificate}, key_file: {key}, ca_file: {ca}, verify: true }}");
    let server = NatsServer::start_with(&NatsOptions { config, ..NatsOptions::default() });
    let [ca, certificate, key] = ["ca.pem", "own.pem", "key.pem"].map(|name| ours.named(name));
    let site = Site::start(&format!(
        "[bus.nats]\nurl = {:?}\ntls = {{ required = true, ca = {ca}, certificate = {certificate}, key = {key} }}\n{}",
        server.url(),
        route("one", "first")
    ));
    wait_until("NATS takes events", || site.is_connected_to_nats());
    let again = |what: &str| {
        server.kill();
        wait_until("the connection is gone", || !site.is_connected_to_nats());
        server.launch();
        wait_until(what, || site.is_connected_to_nats());
    };
    let (done, uploader) = (AtomicBool::new(false), site.uploader());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let answer = uploader.upload("/oss/one");
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ours.certify(&first);
            site.wait_for_reloads(1.0);
            assert!(site.is_connected_to_nats(), "the connection that there is stays");
            again("NATS lets the new certificate in");

            // Half of a file, and the key of another certificate.
            let whole = std::fs::read(ours.file("own.pem")).unwrap();
            put(&ours.file("own.pem"), &whole[..whole.len() / 2]);
            site.wait_for_refusal("bus.nats.tls.certificate: names ");
            put(&ours.file("own.pem"), whole);
            put(&ours.file("key.pem"), first.certify(&CertificateParams::default()).1);
            site.wait_for_refusal("holds the private key of another certificate");
            again("NATS lets the certificate in that was there before");

            theirs.certify(&second);
            ours.certify(&second);
            site.wait_for_reloads(2.0);
            again("both ends are certified by another authority");
        }));
        done.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// An endpoint over TLS, whose certificate can be exchanged.
struct Endpoint {
    address: SocketAddr,
    acceptor: watch::Sender<TlsAcceptor>,
    /// The ids that it was sent, as often as they came.
    ids: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Endpoint {
    fn start(acceptor: TlsAcceptor) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, ids) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let (acceptor, current) = watch::channel(acceptor);
        let seen = Arc::clone(&ids);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut current, seen) = (current.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let acceptor = current.borrow_and_update().clone();
                    // Whoever does not believe us goes away.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let taken = testing::serve(stream, |request, _| {
                        seen.lock().unwrap().push(request.header("webhook-id").unwrap().to_owned());
                        Act::answer(200, "", "")
                    });
                    tokio::select! {
                        () = taken => {}
                        // A server that gets another certificate is started anew.
                        _ = current.changed() => {}
                    }
                });
            }
        });
        Self { address, acceptor, ids, _runtime: runtime }
    }

    fn wait_for(&self, number: usize) {
        wait_until("the events are there", || self.ids.lock().unwrap().len() >= number);
        let mut ids = self.ids.lock().unwrap().clone();
        assert_eq!(ids.len(), number);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), number, "each once");
    }
}

#[test]
fn the_authority_of_an_endpoint_is_exchanged_and_each_event_gets_there_once() {
    let [first, second] = ["The first authority", "The second authority"].map(Authority::new);
    let endpoint = Endpoint::start(first.acceptor("127.0.0.1"));
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let pem = |authority: &Authority| std::fs::read(authority.file("ca.pem")).unwrap();
    put(&ca, pem(&first));
    let site = Site::start(&format!(
        "{}[[consumer]]\nname = \"partner\"\nstart = \"oldest\"\n[consumer.webhook]\nurl = \"https://{}/hook\"\n\
         secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\nallow_networks = [\"127.0.0.0/8\"]\nca = {:?}\n",
        route("one", "first"),
        endpoint.address,
        ca.display().to_string(),
    ));
    let upload = || assert_eq!(site.upload("/oss/one").status, 200);
    upload();
    endpoint.wait_for(1);

    put(&ca, "-----BEGIN CERTIFICATE-----\nMIIB");
    site.wait_for_refusal("consumer[0].webhook.ca: names ");
    upload();
    endpoint.wait_for(2);

    endpoint.acceptor.send_replace(second.acceptor("127.0.0.1"));
    upload();
    wait_until("the endpoint is not believed", || {
        let ready = get(site.served.admin, "/ready").unwrap().json();
        ready["components"].as_array().unwrap().iter().any(|component| {
            component["name"] == "consumer partner"
                && component["reason"].as_str().is_some_and(|reason| reason.contains("UnknownIssuer"))
        })
    });
    put(&ca, pem(&second));
    site.wait_for_reloads(1.0);
    upload();
    endpoint.wait_for(4);
}
