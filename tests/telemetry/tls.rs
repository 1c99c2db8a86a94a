//! A collector that is spoken to over TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use upcall_tests::authority::Authority;
use upcall_tests::collector::Collector;
use upcall_tests::conservation::sum;
use upcall_tests::executable::{self, Running};
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::signer::Signer;

const PROTOCOLS: [&str; 2] = ["grpc", "http"];

/// A collector with a certificate for a name.
fn collector(authority: &Authority, name: &str) -> Collector {
    Collector::start_tls(authority.acceptor(name))
}

/// A process with a collector, and an upload to it.
struct Uploaded {
    process: Running,
    signer: Signer,
    callbacks: SocketAddr,
    admin: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Uploaded {
    fn start(telemetry: &str, environment: &[(&str, String)]) -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
        let file = crate::serve::configuration(folder.path(), &signer, telemetry);
        let mut command = Command::new(executable::path());
        command.args(["serve", "-c"]).arg(file).envs(environment.iter().cloned());
        let mut process = Running::spawn(&mut command);
        let [callbacks, admin] = process.wait_for("line with its addresses", |line| {
            let address =
                |name: &str| line.split(name).nth(1)?.split_whitespace().next()?.trim_matches('"').parse().ok();
            Some([address("callbacks=")?, address("admin=")?])
        });
        wait_until("the gateway is ready", || get(admin, "/ready").unwrap().status == 200);
        let uploaded = Self { process, signer, callbacks, admin, _folder: folder };
        uploaded.upload("a.png");
        uploaded
    }

    fn upload(&self, object: &str) {
        let request = self.signer.upload("/oss/test", "examplebucket", object, &format!("5CF3E782-{object}"));
        assert_eq!(exchange(self.callbacks, &request).unwrap().status, 200);
    }

    /// How many other configurations have ended so.
    fn reloads(&self, outcome: &str) -> f64 {
        sum(&get(self.admin, "/metrics").unwrap().text(), "upcall_config_reloads_total", &[("outcome", outcome)])
    }
}

#[track_caller]
fn wait_for_everything(collector: &Collector) {
    wait_until("traces, metrics and logs are with the collector", || {
        let kept = collector.kept();
        let has_trace = kept.spans.iter().any(|span| span.item.name == "POST /oss/test");
        has_trace && !kept.metrics.is_empty() && !kept.lines.is_empty()
    });
}

fn ca(file: &Path) -> String {
    format!("ca = {:?}\n", file.display().to_string())
}

#[test]
fn a_collector_is_believed_whose_certificate_is_of_an_authority_that_is_named() {
    let authority = Authority::new("The authority of this test");
    for protocol in PROTOCOLS {
        let collector = collector(&authority, "127.0.0.1");
        let configuration =
            format!("{}sample = 1\n{}", collector.configuration(protocol), ca(&authority.file("ca.pem")));
        let _uploaded = Uploaded::start(&configuration, &[]);
        wait_for_everything(&collector);
    }
}

#[test]
fn the_authority_may_be_named_by_opentelemetrys_own_variable() {
    let authority = Authority::new("The authority of this test");
    for protocol in ["grpc", "http/protobuf"] {
        let collector = collector(&authority, "127.0.0.1");
        let _uploaded = Uploaded::start(
            "",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{}", collector.address())),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.file("ca.pem").display().to_string()),
                ("OTEL_TRACES_SAMPLER", "always_on".to_owned()),
            ],
        );
        wait_for_everything(&collector);
    }
}

/// Uploads, and waits for the one line that says why the collector gets nothing.
#[track_caller]
fn check_refused(collector: &Collector, protocol: &str, authority: &Authority, expected: &str) {
    let configuration = format!("{}sample = 1\n{}", collector.configuration(protocol), ca(&authority.file("ca.pem")));
    let mut uploaded = Uploaded::start(&configuration, &[]);
    let mut said = None;
    wait_until("the log says why", || {
        let lines = uploaded.process.rest();
        said = lines.iter().find(|line| line.contains("the collector does not take")).cloned();
        said.is_some()
    });
    let said = said.unwrap();
    for expected in [expected, &collector.address().to_string()] {
        assert!(said.contains(expected), "{protocol}: {expected}: {said}");
    }
    let kept = collector.kept();
    assert!(kept.content_types.is_empty(), "{protocol}: {:?}", kept.content_types);
}

#[test]
fn a_collector_whose_authority_is_unknown_is_sent_nothing_and_the_log_says_what_to_do() {
    let [theirs, ours] = ["The authority of the collector", "Another one"].map(Authority::new);
    for protocol in PROTOCOLS {
        let collector = collector(&theirs, "127.0.0.1");
        check_refused(&collector, protocol, &ours, "name that authority's certificate in `ca` of [telemetry.otlp]");
    }
}

#[test]
fn a_collector_with_the_certificate_of_another_is_sent_nothing_and_the_log_says_so() {
    let authority = Authority::new("The authority of this test");
    for protocol in PROTOCOLS {
        let collector = collector(&authority, "collector.example.com");
        check_refused(&collector, protocol, &authority, "its certificate is for another name");
    }
}

#[test]
fn an_authority_that_is_none_is_a_mistake_in_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), "not a certificate").unwrap();
    let telemetry = "[telemetry.otlp]\nendpoint = \"https://127.0.0.1:1\"\nca = \"ca.pem\"\n";
    let file = crate::serve::configuration(folder.path(), &Signer::new(), telemetry);
    let output = Command::new(executable::path()).args(["check", "-c"]).arg(file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("telemetry.otlp.ca: names ") && said.contains("in PEM"),
        "{said}"
    );
}

#[test]
fn the_authority_of_a_collector_and_the_key_for_it_are_exchanged_while_the_process_runs() {
    let [theirs, another] = ["The authority of the collector", "Another one"].map(Authority::new);
    for protocol in PROTOCOLS {
        let collector = collector(&theirs, "127.0.0.1");
        let folder = tempfile::tempdir().unwrap();
        let [ca, key] = ["ca.pem", "key"].map(|name| folder.path().join(name));
        std::fs::copy(another.file("ca.pem"), &ca).unwrap();
        std::fs::write(&key, "first").unwrap();
        let uploaded = Uploaded::start(
            &format!(
                "{}sample = 1\nheaders = {{ x-key = {{ file = {:?} }} }}\n{}",
                collector.configuration(protocol),
                key.display().to_string(),
                self::ca(&ca)
            ),
            &[],
        );
        std::fs::write(&key, "second").unwrap();
        std::fs::copy(theirs.file("ca.pem"), &ca).unwrap();
        wait_for_everything(&collector);
        assert!(uploaded.reloads("applied") >= 1.0);
        assert!(collector.kept().keys.iter().all(|key| key == "second"), "{protocol}: {:?}", collector.kept().keys);

        // One that is none is refused, and the one before stays.
        std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
        wait_until("it is refused", || uploaded.reloads("invalid") >= 1.0);
        uploaded.upload("b.png");
        wait_until("the second trace is with the collector", || {
            collector.kept().spans.iter().filter(|span| span.item.name == "POST /oss/test").count() == 2
        });
    }
}
