//! `upcall serve` as a custom runtime on Function Compute.

mod events;
mod freezing;
mod lifecycle;
mod telemetry;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use upcall_tests::executable::{self, Running};
use upcall_tests::http::{Answer, exchange};
use upcall_tests::nats::{NatsOptions, NatsServer};
use upcall_tests::signer::Signer;

/// How long OSS waits.
const PATIENCE_OF_OSS: Duration = Duration::from_secs(5);
/// The id that the invocations of the tests have.
const INVOCATION: &str = "1-64f6cd87-0123456789abcdef";
/// What an instance is handed as its credentials.
const SECRET: &str = "TheTemporaryAccessKeySecret";

/// An instance, with its NATS server's URL and the configuration of whoever looks into that.
struct Instance {
    process: Running,
    address: SocketAddr,
    signer: Signer,
    folder: tempfile::TempDir,
}

/// A server that soon gives up a client that says nothing.
fn impatient() -> NatsServer {
    let config = "ping_interval: \"1s\"\nping_max: 1".to_owned();
    NatsServer::start_with(&NatsOptions { config, ..NatsOptions::default() })
}

impl Instance {
    /// Starts an instance whose NATS is at this address. `route` has the route's keys, and what else there is.
    fn start(nats: SocketAddr, function: &str, route: &str) -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
        let bus = format!("[bus.nats]\nurl = \"nats://{nats}\"\n");
        let file = folder.path().join("function.toml");
        let text = format!(
            "[gateway]\nadmin = \"127.0.0.1:0\"\n[function_compute]\n{function}\n{bus}\n{}\n\
             [[route]]\nname = \"test\"\npath = \"/oss/test\"\n{route}\n",
            signer.configuration()
        );
        std::fs::write(&file, text).unwrap();
        // For whoever looks at the bus from outside.
        let outside = format!("{bus}\n[[route]]\nname = \"test\"\npath = \"/oss/test\"\n");
        std::fs::write(folder.path().join("outside.toml"), outside).unwrap();
        let mut command = Command::new(executable::path());
        command.args(["serve", "-c"]).arg(&file).env("FC_SERVER_PORT", "0");
        let mut process = Running::spawn(&mut command);
        let address: SocketAddr = process.wait_for("line with its address", |line| {
            line.split("callbacks=").nth(1)?.split_whitespace().next()?.parse().ok()
        });
        let mut instance = Self { process, address: ([127, 0, 0, 1], address.port()).into(), signer, folder };
        assert_eq!(instance.control("/initialize").status, 200);
        instance
    }

    /// Sends a request of a client on, as Function Compute does.
    fn pass_on(&mut self, request: &[u8], control: &str) -> Answer {
        exchange(self.address, &with_headers(request, control)).unwrap()
    }

    /// Asks as Function Compute itself does.
    fn control(&mut self, path: &str) -> Answer {
        let request = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n");
        self.pass_on(request.as_bytes(), path)
    }

    /// Invokes with an event.
    fn invoke(&mut self, event: &Value) -> Answer {
        let body = event.to_string();
        let request =
            format!("POST /invoke HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.pass_on(request.as_bytes(), "/invoke")
    }

    /// The callback of an upload.
    fn callback(&self, object: &str, request_id: &str) -> Vec<u8> {
        self.signer.upload("/oss/test", "examplebucket", object, request_id)
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    fn outside(&self) -> PathBuf {
        self.folder.path().join("outside.toml")
    }

    /// The events on the bus, oldest first.
    fn events(&self) -> Vec<Value> {
        told(&self.outside(), &["tail", "-n", "100", "--no-follow", "--json"])
    }

    /// The callbacks in quarantine.
    fn quarantined(&self) -> Vec<Value> {
        told(&self.outside(), &["quarantine", "list", "--json"])
    }
}

/// What a command prints, an object a line.
fn told(configuration: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(executable::path()).args(arguments).arg("-c").arg(configuration).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The request with what Function Compute adds to each.
fn with_headers(request: &[u8], control: &str) -> Vec<u8> {
    let head = request.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
    let added = format!(
        "x-fc-control-path: {control}\r\nx-fc-request-id: {INVOCATION}\r\nx-fc-access-key-id: STS.TheTemporaryAccessKeyId\r\n\
         x-fc-access-key-secret: {SECRET}\r\nx-fc-security-token: TheTemporarySecurityToken\r\nx-fc-function-handler: x\r\n"
    );
    [&request[..head], added.as_bytes(), &request[head..]].concat()
}
