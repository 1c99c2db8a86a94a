//! Servers that prove who they are, and demand encryption.

use rcgen::CertificateParams;
use upcall_consumer::Sink;
use upcall_sink_sql::{Options, SqlSink};
use upcall_telemetry::error_chain;
use upcall_tests::authority::Authority;
use upcall_tests::sql::{Engine, SqlOptions, SqlServer};

use crate::events::{apply, upload};
use crate::site::{new_database, uploads};

/// The name that servers have a certificate for; to their address it is not valid.
const NAME: &str = "localhost";

#[test]
fn postgres_is_believed_by_its_certificate_and_by_nothing_less() {
    let hba = "hostssl all all 127.0.0.1/32 trust\nhostssl all all ::1/128 trust\n";
    let arguments = ["-c", "ssl=on", "-c", "ssl_cert_file=server.pem", "-c", "ssl_key_file=server-key.pem"];
    check(Engine::Postgres, &arguments, &[("pg_hba.conf", hba)], &["no encryption"]);
}

#[test]
fn mariadb_is_believed_by_its_certificate_and_by_nothing_less() {
    let arguments = ["--ssl-cert=server.pem", "--ssl-key=server-key.pem", "--require-secure-transport=ON"];
    // Older ones do not say why.
    check(Engine::MariaDb, &arguments, &[], &["insecure transport", "Access denied"]);
}

#[test]
fn encryption_that_postgres_does_not_have_is_not_done_without() {
    is_not_done_without(Engine::Postgres);
}

#[test]
fn encryption_that_mariadb_does_not_have_is_not_done_without() {
    is_not_done_without(Engine::MariaDb);
}

/// How a URL demands something, as the documentation has it for each engine.
#[derive(Debug, Clone, Copy)]
enum Demand {
    Plain,
    Encrypted,
    Authority,
    Identity,
}

impl Demand {
    fn query(self, engine: Engine, authority: &Authority) -> String {
        let ca = authority.file("ca.pem").display().to_string();
        let (mode, root) = match engine {
            Engine::Postgres => ("sslmode", "sslrootcert"),
            Engine::MariaDb => ("ssl-mode", "ssl-ca"),
        };
        let value = match (self, engine) {
            (Self::Plain, Engine::Postgres) => "disable",
            (Self::Plain, Engine::MariaDb) => "DISABLED",
            (Self::Encrypted, Engine::Postgres) => "require",
            (Self::Encrypted, Engine::MariaDb) => "REQUIRED",
            (Self::Authority, Engine::Postgres) => "verify-ca",
            (Self::Authority, Engine::MariaDb) => "VERIFY_CA",
            (Self::Identity, Engine::Postgres) => "verify-full",
            (Self::Identity, Engine::MariaDb) => "VERIFY_IDENTITY",
        };
        match self {
            Self::Plain | Self::Encrypted => format!("?{mode}={value}"),
            Self::Authority | Self::Identity => format!("?{mode}={value}&{root}={ca}"),
        }
    }
}

/// A server whose certificate is of one authority, and takes nothing that is not encrypted; `refusals` is what it may
/// say to that.
fn check(engine: Engine, arguments: &[&str], files: &[(&str, &str)], refusals: &[&str]) {
    if engine.is_missing("TLS to databases") {
        return;
    }
    let (ours, stranger) = (Authority::new("ours"), Authority::new("another"));
    let (certificate, key) = ours.certify(&CertificateParams::new(vec![NAME.to_owned()]).unwrap());
    let own = [("server.pem", certificate.as_str()), ("server-key.pem", key.as_str())];
    let server = SqlServer::start_with(
        engine,
        &SqlOptions {
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            files: files.iter().chain(&own).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        },
    );
    in_runtime(async {
        let by_address = new_database(&server).await;
        let by_name = by_address.replace("127.0.0.1", NAME);
        let to = |url: &str, demand: Demand, authority| format!("{url}{}", demand.query(engine, authority));

        gets_in(&to(&by_name, Demand::Identity, &ours), 1).await;
        gets_in(&to(&by_address, Demand::Authority, &ours), 2).await;
        gets_in(&to(&by_address, Demand::Encrypted, &ours), 3).await;
        // As whoever has not thought of it connects.
        gets_in(&by_address, 4).await;

        for (url, why) in [
            (to(&by_name, Demand::Identity, &stranger), &["certificate"][..]),
            (to(&by_name, Demand::Authority, &stranger), &["certificate"]),
            (to(&by_address, Demand::Identity, &ours), &["certificate"]),
            (to(&by_address, Demand::Plain, &ours), refusals),
        ] {
            let complaint = complaint(&url).await;
            assert!(why.iter().any(|why| complaint.contains(why)), "{url}: {complaint}");
        }
    });
}

fn is_not_done_without(engine: Engine) {
    if engine.is_missing("TLS to databases") {
        return;
    }
    // Newer ones make themselves a certificate.
    let arguments = if engine == Engine::MariaDb { vec!["--skip-ssl".to_owned()] } else { Vec::new() };
    let server = SqlServer::start_with(engine, &SqlOptions { arguments, files: Vec::new() });
    in_runtime(async {
        let url = new_database(&server).await;
        let authority = Authority::new("ours");
        for demand in [Demand::Encrypted, Demand::Authority, Demand::Identity] {
            let complaint = complaint(&format!("{url}{}", demand.query(engine, &authority))).await;
            assert!(complaint.contains("TLS"), "{demand:?}: {complaint}");
        }
    });
}

fn in_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

async fn gets_in(url: &str, number: u64) {
    let sink = SqlSink::new(Options::new(url, uploads())).unwrap();
    sink.prepare().await.unwrap_or_else(|error| panic!("{url}: {}", error_chain(&*error)));
    apply(&sink, &[upload(number, &number.to_string(), 0)]).await;
    sink.close().await;
}

/// Why a sink does not get in.
async fn complaint(url: &str) -> String {
    let sink = SqlSink::new(Options::new(url, uploads())).unwrap();
    let complaint = sink.prepare().await.err().unwrap_or_else(|| panic!("{url} was let in"));
    error_chain(&*complaint)
}
