//! Every way to be let in by a server, and what is said when it does not let us in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use serde_json::{Value, json};
use tokio::time::timeout;
use upcall_bus_nats::{Auth, ConnectError, Identity, InvalidIdentity, NatsBus, Options, Tls};
use upcall_tests::authority::Authority;
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{self, NatsOptions, NatsServer};

fn server(config: &str) -> NatsServer {
    NatsServer::start_with(&NatsOptions { config: config.to_owned(), ..NatsOptions::default() })
}

fn options(server: &NatsServer, auth: Auth) -> Options {
    Options { auth, ..Options::new(server.url()) }
}

/// Connects, and uses JetStream.
async fn gets_in(options: Options) {
    let bus = NatsBus::connect(options).await.unwrap();
    let mut link = bus.link();
    let connected = timeout(PATIENCE, link.wait_for(|link| link.connected)).await;
    assert!(connected.is_ok(), "no connection: {:?}", bus.fault());
    bus.provision(&[]).await.unwrap();
    bus.close().await;
}

/// Is not let in, and told why in these words, also in `/ready`.
async fn is_kept_out(options: Options, words: &str) {
    let bus = NatsBus::connect(options).await.unwrap();
    let mut link = bus.link();
    let told = |fault: &Option<String>| fault.as_ref().is_some_and(|fault| fault.contains(words));
    let waited = timeout(PATIENCE, link.wait_for(|link| told(&link.fault))).await.is_ok();
    assert!(waited, "not told: {:?}", bus.link().borrow().fault);
    assert!(!bus.is_connected());
    let (fault, refused) = (bus.fault().unwrap(), bus.link().borrow().refused);
    assert_eq!(fault.starts_with("there is no connection to a NATS server: "), !refused, "{fault}");
    assert_eq!(fault.contains(" refused the login "), refused, "{fault}");
    assert!(fault.contains(words), "{fault}");
    bus.close().await;
}

/// What is said of a server that does not accept who we are: where it is, who we said that we are, and what to set.
fn refusal(server: &NatsServer, who: &str, keys: &str) -> String {
    let address = server.address();
    format!("NATS at {address} refused the login {who} (authorization violation): set {keys} of [bus.nats]")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_gets_in_with_the_password_and_not_with_another() {
    if nats::is_missing("authentication by password") {
        return;
    }
    let server = server("authorization { users: [{ user: upcall, password: \"r:ght\" }] }");
    let password = |password: &str| Auth::Password { user: "upcall".to_owned(), password: password.to_owned() };
    gets_in(options(&server, password("r:ght"))).await;
    let refused = refusal(&server, "of user upcall", "`user` and `password`");
    is_kept_out(options(&server, password("wrong")), &refused).await;
    let all = "`user` and `password`, `token`, `nkey` or `credentials`";
    is_kept_out(options(&server, Auth::None), &refusal(&server, "of somebody without a name", all)).await;
    let in_url = Options::new(server.url().replace("//", "//upcall:wrong@"));
    is_kept_out(in_url, &refusal(&server, "of user upcall", "the user and the password in `url`")).await;
    // As other clients of NATS have it, too.
    gets_in(Options::new(server.url().replace("//", "//upcall:r%3Aght@"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in() {
    if nats::is_missing("authentication by token") {
        return;
    }
    let server = server("authorization { token: right }");
    gets_in(options(&server, Auth::Token("right".to_owned()))).await;
    let refused = refusal(&server, "by this token", "`token`");
    is_kept_out(options(&server, Auth::Token("wrong".to_owned())), &refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_lets_in() {
    if nats::is_missing("authentication by nkey") {
        return;
    }
    let user = KeyPair::new_user();
    let server = server(&format!("authorization {{ users: [{{ nkey: {} }}] }}", user.public_key()));
    gets_in(options(&server, Auth::Nkey(user.seed().unwrap()))).await;
    let refused = refusal(&server, "by this nkey", "`nkey`");
    is_kept_out(options(&server, Auth::Nkey(KeyPair::new_user().seed().unwrap())), &refused).await;
    is_kept_out(options(&server, Auth::Nkey("SUNONSENSE".to_owned())), "the seed of the nkey is none").await;
}

/// A JSON web token as NATS has it, signed with ed25519.
fn token(issuer: &KeyPair, subject: &str, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({ "jti": "upcall", "iat": 0, "iss": issuer.public_key(), "sub": subject, "name": "test", "nats": claims });
    let signed = format!("{}.{}", encode(&head), encode(&body));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn credentials(folder: &Path, account: &KeyPair, user: &KeyPair) -> PathBuf {
    let claims = json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
    let (token, seed) = (token(account, &user.public_key(), &claims), user.seed().unwrap());
    let file = folder.join(format!("{}.creds", user.public_key()));
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_lets_in() {
    if nats::is_missing("authentication by credentials") {
        return;
    }
    let (operator, system, account) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let account_token = |account: &KeyPair, storage: i64| {
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage,
        });
        token(&operator, &account.public_key(), &json!({ "type": "account", "version": 2, "limits": limits }))
    };
    let server = server(&format!(
        "operator: {operator_token}\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload: {{ {system}: {system_token}, {account}: {account_token} }}",
        operator_token = token(&operator, &operator.public_key(), &json!({ "type": "operator", "version": 2 })),
        system = system.public_key(),
        system_token = account_token(&system, 0),
        account = account.public_key(),
        account_token = account_token(&account, -1),
    ));
    let folder = tempfile::tempdir().unwrap();
    let file = credentials(folder.path(), &account, &KeyPair::new_user());
    gets_in(options(&server, Auth::Credentials(file))).await;
    // Of an account that the operator does not know.
    let file = credentials(folder.path(), &KeyPair::new_account(), &KeyPair::new_user());
    let refused = refusal(&server, &format!("by the credentials in {}", file.display()), "`credentials`");
    is_kept_out(options(&server, Auth::Credentials(file)), &refused).await;

    let Err(error) = NatsBus::connect(options(&server, Auth::Credentials(folder.path().join("none")))).await else {
        panic!("there is no such file");
    };
    assert!(matches!(&error, ConnectError::File { path, .. } if path.ends_with("none")), "{error}");
}

/// An authority with certificates for a server on this machine and for a client, as PEM files.
struct Certified(Authority);

impl Certified {
    fn by(name: &str) -> Self {
        let authority = Authority::new(name);
        let write = |name: &str, text: String| std::fs::write(authority.file(name), text).unwrap();
        for (name, purpose) in
            [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
        {
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            params.extended_key_usages = vec![purpose];
            let (certificate, key) = authority.certify(&params);
            write(&format!("{name}.pem"), certificate);
            write(&format!("{name}-key.pem"), key);
        }
        Self(authority)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.file(name)
    }

    /// Believes those that it certifies.
    fn trusting(&self) -> Tls {
        let authorities = upcall_egress::authorities(&std::fs::read(self.file("ca.pem")).unwrap()).unwrap();
        Tls { authorities, ..Tls::default() }
    }

    /// A server that encrypts; with `verify` it asks for a certificate of the client's.
    fn server(&self, verify: bool) -> NatsServer {
        let file = |name| self.file(name).display().to_string();
        server(&format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: {verify} }}",
            file("server.pem"),
            file("server-key.pem"),
            file("ca.pem"),
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_server_is_believed_by_its_authority() {
    if nats::is_missing("TLS") {
        return;
    }
    let authority = Certified::by("ours");
    let server = authority.server(false);
    let trusting = Tls { required: true, ..authority.trusting() };
    gets_in(Options { tls: trusting.clone(), ..Options::new(server.url()) }).await;
    let url = server.url().replace("nats://", "tls://");
    gets_in(Options { tls: authority.trusting(), ..Options::new(url) }).await;
    let another = Certified::by("another").trusting();
    is_kept_out(Options { tls: another.clone(), ..Options::new(server.url()) }, "of an authority that is not trusted")
        .await;

    // Whoever is kept out gets in with what is exchanged meanwhile, and the other way round once there is no connection.
    let bus = NatsBus::connect(Options { tls: another.clone(), ..Options::new(server.url()) }).await.unwrap();
    assert!(bus.connected_within(Duration::from_millis(100)).await.is_err());
    bus.renew_certificates(&trusting);
    bus.connected_within(PATIENCE).await.unwrap();
    bus.renew_certificates(&another);
    assert!(bus.is_connected(), "the connection that there is stays");
    bus.client().force_reconnect().await.unwrap();
    let mut link = bus.link();
    let told = |fault: &Option<String>| fault.as_ref().is_some_and(|fault| fault.contains("not trusted"));
    timeout(PATIENCE, link.wait_for(|link| !link.connected && told(&link.fault))).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_our_certificate_gets_it() {
    if nats::is_missing("mutual TLS") {
        return;
    }
    let authority = Certified::by("ours");
    let server = authority.server(true);
    let [certificate, key] = ["client.pem", "client-key.pem"].map(|name| std::fs::read(authority.file(name)).unwrap());
    let identity = Identity::parse(&certificate, &key).unwrap();
    let tls = Tls { required: true, identity: Some(identity), ..authority.trusting() };
    gets_in(Options { tls: tls.clone(), ..Options::new(server.url()) }).await;
    let without = Tls { identity: None, ..tls };
    let words = "the server asks for a certificate of ours";
    is_kept_out(Options { tls: without, ..Options::new(server.url()) }, words).await;
}

#[test]
fn a_certificate_and_a_key_belong_together() {
    let [ours, another] = ["ours", "another"].map(Certified::by);
    let read = |certified: &Certified, name: &str| std::fs::read(certified.file(name)).unwrap();
    let parse = |certificate: &[u8], key: &[u8]| Identity::parse(certificate, key).err();
    let (certificate, key) = (read(&ours, "client.pem"), read(&ours, "client-key.pem"));
    assert_eq!(parse(&certificate, &key), None);
    assert_eq!(parse(&certificate, &read(&another, "client-key.pem")), Some(InvalidIdentity::Mismatch));
    assert_eq!(parse(&key, &key), Some(InvalidIdentity::Certificate));
    assert_eq!(parse(&certificate[..certificate.len() / 2], &key), Some(InvalidIdentity::Certificate));
    assert_eq!(parse(&certificate, &certificate), Some(InvalidIdentity::Key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_encrypt_is_refused_where_that_is_required() {
    if nats::is_missing("TLS where the server has none") {
        return;
    }
    let server = server("");
    let tls = Tls { required: true, ..Tls::default() };
    is_kept_out(Options { tls, ..Options::new(server.url()) }, "the server does not speak TLS").await;
    assert_eq!(server.monitor("/varz").unwrap()["in_msgs"], 0, "nothing was told to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_one_that_is_there_is_enough() {
    if nats::is_missing("several URLs") {
        return;
    }
    let server = server("");
    let urls = vec!["nats://127.0.0.1:1".to_owned(), server.url(), "nats://127.0.0.1:2".to_owned()];
    gets_in(Options { urls, ..Options::new("") }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_the_login_beside_one_that_is_gone_is_waited_for_no_longer() {
    if nats::is_missing("refused logins") {
        return;
    }
    let server = server("authorization { token: right }");
    let urls = vec!["nats://127.0.0.1:1".to_owned(), server.url()];
    let bus = NatsBus::connect(Options { urls, ..Options::new("") }).await.unwrap();
    let why = timeout(PATIENCE, bus.connected_within(PATIENCE * 2)).await.expect("sooner").unwrap_err();
    assert!(why.contains("127.0.0.1:1: ") && why.contains(" refused the login "), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_after_us_is_connected_to() {
    if nats::is_missing("a server that starts late") {
        return;
    }
    let server = server("");
    server.kill();
    let bus = NatsBus::connect(Options::new(server.url())).await.unwrap();
    let mut link = bus.link();
    let refused = |fault: &Option<String>| fault.as_ref().is_some_and(|fault| fault.contains("onnection refused"));
    timeout(PATIENCE, link.wait_for(|link| refused(&link.fault))).await.expect("it is said why").unwrap();
    server.restart();
    timeout(PATIENCE, link.wait_for(|link| link.connected)).await.expect("a connection").unwrap();
    assert_eq!(link.borrow().fault, None);
    bus.provision(&[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_is_none_is_refused_at_once() {
    for url in ["http://a:4222", "nats://a:port", ""] {
        let refused = timeout(Duration::from_secs(10), NatsBus::connect(Options::new(url))).await.expect("at once");
        assert!(matches!(refused, Err(ConnectError::Url { .. })), "{url:?}");
    }
}
