//! Webhooks as receivers in other languages verify them: by the examples of `docs/sinks.md`, as they are printed there,
//! and by the official libraries of Standard Webhooks.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use upcall_egress::testing::{Request, Server};
use upcall_tests::executable::{Running, workspace};
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::signer::Signer;
use upcall_tests::skip;

use crate::example::{node, python};

const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Source: RFC 8032, 7.1, test 1; and its public key.
const KEY: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const PUBLIC_KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const OBJECTS: [&str; 3] = ["a.txt", "dir/ä ö.txt", "100%.txt"];

/// Verifies what is on its standard input by the official library, and says that it did.
const PYTHON_CHECK: &str = "
import json, sys
from standardwebhooks import Webhook, WebhookVerificationError
given = json.load(sys.stdin)
webhook = Webhook(given['secret'])
webhook.verify(given['body'].encode(), given['headers'])
try:
    webhook.verify(given['body'].encode() + b' ', given['headers'])
except WebhookVerificationError:
    print('verified')
";

/// The same in Node.js; and the Ed25519 signature, by what is built in.
const NODE_CHECK: &str = r#"
import { createPublicKey, verify } from "node:crypto";
import { Webhook } from "standardwebhooks";
let text = "";
for await (const chunk of process.stdin) text += chunk;
const given = JSON.parse(text);
const webhook = new Webhook(given.secret);
webhook.verify(given.body, given.headers);
let refused = false;
try { webhook.verify(given.body + " ", given.headers); } catch { refused = true; }
const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: given.public_key }, format: "jwk" });
const signed = Buffer.from(`${given.headers["webhook-id"]}.${given.headers["webhook-timestamp"]}.${given.body}`);
const [, signature] = given.headers["webhook-signature"].split(" ").find((one) => one.startsWith("v1a,")).split(",");
if (refused && verify(null, signed, key, Buffer.from(signature, "base64"))) console.log("verified");
"#;

/// A receiver that is run with a language, where its library is installed.
struct Receiver {
    folder: TempDir,
    command: fn() -> Command,
    file: &'static str,
}

impl Receiver {
    fn python(program: &str) -> Option<Self> {
        let has_library =
            python().args(["-c", "import standardwebhooks"]).output().is_ok_and(|said| said.status.success());
        has_library.then(|| Self::new(python, "receiver.py", program))
    }

    fn node(program: &str) -> Option<Self> {
        let packages = workspace().join(".cache/node/node_modules");
        if !packages.join("standardwebhooks").is_dir() {
            return None;
        }
        let receiver = Self::new(node, "receiver.mjs", program);
        std::os::unix::fs::symlink(packages, receiver.folder.path().join("node_modules")).unwrap();
        Some(receiver)
    }

    fn new(command: fn() -> Command, file: &'static str, program: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file), program).unwrap();
        Self { folder, command, file }
    }

    fn run(&self) -> Command {
        let mut command = (self.command)();
        command.arg(self.file).current_dir(self.folder.path()).env("PYTHONUNBUFFERED", "1");
        command
    }

    /// Starts a server, and waits until it listens.
    fn serve(&self, secret: &str) -> (Running, SocketAddr) {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = self.run();
        let running = Running::spawn(command.env("PORT", address.port().to_string()).env("WEBHOOK_SECRET", secret));
        wait_until("the receiver listens", || TcpStream::connect(address).is_ok());
        (running, address)
    }

    /// Has a program that reads JSON say what it thinks of it.
    fn judge(&self, given: &Value) -> String {
        let file = self.folder.path().join("given.json");
        std::fs::write(&file, given.to_string()).unwrap();
        let mut command = self.run();
        let said = command.stdin(Stdio::from(std::fs::File::open(file).unwrap())).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }
}

fn skipped(language: &str) {
    skip(&format!("webhooks in {language}: the language or its library is not installed (tests/run installs them)"));
}

/// The one block of the document in this language.
fn block(fence: &str) -> String {
    let document = std::fs::read_to_string(workspace().join("docs/sinks.md")).unwrap();
    let mut blocks = document.split("\n```").skip(1).step_by(2);
    let found = blocks.find_map(|block| {
        block.split_once('\n').filter(|(info, text)| *info == fence && text.contains("standardwebhooks"))
    });
    found.unwrap_or_else(|| panic!("docs/sinks.md has no receiver in {fence}")).1.to_owned()
}

/// Upcall with these webhooks, by their ports and formats, and three uploads.
fn upload(folder: &Path, webhooks: &[(u16, &str)]) -> Running {
    let signer = Signer::new();
    let mut text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[bus]\njournal = \"./journal\"\n{}\n\
         [[route]]\nname = \"test\"\npath = \"/oss/test\"\n",
        signer.configuration()
    );
    for (port, format) in webhooks {
        text += &format!(
            "[[consumer]]\nname = \"to-{format}\"\n[consumer.webhook]\nurl = \"http://127.0.0.1:{port}/\"\n\
             allow_networks = [\"127.0.0.1\"]\nsecrets = [\"{OLD}\", \"{KEY}\", \"{NEW}\"]\nformat = \"{format}\"\n"
        );
    }
    let file = folder.join("upcall.toml");
    std::fs::write(&file, text).unwrap();
    let mut upcall = Running::start(&["serve", "-c", file.to_str().unwrap()]);
    let [callbacks, admin] = upcall.wait_for("line with its addresses", |line| {
        let address = |name: &str| line.split(name).nth(1)?.split_whitespace().next()?.trim_matches('"').parse().ok();
        Some::<[SocketAddr; 2]>([address("callbacks=")?, address("admin=")?])
    });
    wait_until("the gateway is ready", || get(admin, "/ready").unwrap().status == 200);
    for object in OBJECTS {
        let encoded: String = object.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let request = signer.upload("/oss/test", "examplebucket", &encoded, "5CF3E7821AB22D0FDB867000");
        assert_eq!(exchange(callbacks, &request).unwrap().status, 200);
    }
    upcall
}

#[test]
fn the_python_receiver_verifies_what_upcall_sends_and_refuses_what_others_send() {
    let Some(receiver) = Receiver::python(&block("python")) else { return skipped("Python") };
    verifies_what_upcall_sends(&receiver);
}

#[test]
fn the_node_receiver_verifies_what_upcall_sends_and_refuses_what_others_send() {
    let Some(receiver) = Receiver::node(&block("js")) else { return skipped("Node.js") };
    verifies_what_upcall_sends(&receiver);
}

/// A receiver that has only one of the secrets, whichever: they are being changed.
fn verifies_what_upcall_sends(receiver: &Receiver) {
    for secret in [OLD, NEW] {
        let (mut running, address) = receiver.serve(secret);
        let forged = "POST / HTTP/1.1\r\nhost: a\r\nwebhook-id: a\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,aGk=\r\n\
                      content-length: 2\r\n\r\n{}";
        assert_eq!(exchange(address, forged.as_bytes()).unwrap().status, 401);
        let folder = tempfile::tempdir().unwrap();
        let _upcall = upload(folder.path(), &[(address.port(), "structured")]);
        let mut missing: Vec<&str> = OBJECTS.to_vec();
        while !missing.is_empty() {
            let verified = running.wait_for("line about a verified event", |line| {
                let (_, verified) = line.split_once("verified ")?;
                Some(verified.split_once(' ')?.1.to_owned())
            });
            missing.retain(|object| *object != verified);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_verified_by_the_official_libraries_of_python_and_node() {
    let receivers = [Receiver::python(PYTHON_CHECK), Receiver::node(NODE_CHECK)];
    let folder = tempfile::tempdir().unwrap();
    let mut servers = BTreeMap::new();
    for format in ["structured", "binary", "s3"] {
        servers.insert(format, Server::answering(200, "", "").await);
    }
    let webhooks: Vec<(u16, &str)> = servers.iter().map(|(format, server)| (server.port, *format)).collect();
    let _upcall = upload(folder.path(), &webhooks);
    for server in servers.values() {
        for request in server.requested(OBJECTS.len()).await {
            for secret in [OLD, NEW] {
                for receiver in receivers.iter().flatten() {
                    assert_eq!(receiver.judge(&given(&request, secret)), "verified", "{}", request.head);
                }
            }
        }
    }
    for (receiver, language) in receivers.iter().zip(["Python", "Node.js"]) {
        if receiver.is_none() {
            skipped(language);
        }
    }
}

fn given(request: &Request, secret: &str) -> Value {
    let headers: BTreeMap<&str, &str> = request.head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
    json!({
        "secret": secret,
        "public_key": PUBLIC_KEY,
        "headers": headers,
        "body": String::from_utf8(request.body.clone()).unwrap(),
    })
}
