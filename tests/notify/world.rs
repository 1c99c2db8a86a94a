//! A gateway with consumers that tell people, and the servers that these are told by.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use upcall_tests::executable::Running;
use upcall_tests::http::exchange;
use upcall_tests::signer::{FORM, Signer};
use upcall_tests::skip;

/// A name of an object that tries to be more than that, percent-encoded as OSS does it.
pub(crate) const TRICK: &str = "dir%2F%3C%21here%3E%20%40everyone%20%3C%40U1%3E%20%3Cat%20user_id%3D%22all%22%3E%5Bx%5D%28https%3A%2F%2Fevil.example%29%0D%0ABcc%3A%20x%40evil.example%20%E5%B9%B4%E5%BA%A6.jpg";

/// The Python of the tests, if it has what these tests need.
pub(crate) fn python() -> Option<String> {
    let python = std::env::var("UPCALL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_server =
        Command::new(&python).args(["-c", "import aiosmtpd"]).output().is_ok_and(|output| output.status.success());
    if !has_server {
        skip("mail and chat: aiosmtpd is not installed (tests/run installs it)");
    }
    has_server.then_some(python)
}

/// A server in Python that says its port on its first line, and what it was told on the others.
pub(crate) struct Told {
    process: Running,
    /// Where it listens.
    pub(crate) port: u64,
}

impl Told {
    pub(crate) fn start(python: &str, script: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("notify").join(script);
        let mut process = Running::spawn(Command::new(python).arg(script).args(arguments));
        let port = process.wait_for("port", |line| serde_json::from_str::<Value>(line).ok()?["port"].as_u64());
        Self { process, port }
    }

    /// Waits for the next thing that it was told.
    pub(crate) fn next(&mut self) -> Value {
        self.process.wait_for("message", |line| serde_json::from_str(line).ok())
    }

    /// What else it was told.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        self.process.rest().to_vec()
    }
}

/// A gateway with these consumers.
pub(crate) struct World {
    pub(crate) process: Running,
    signer: Signer,
    callbacks: SocketAddr,
    pub(crate) file: PathBuf,
}

impl World {
    pub(crate) fn start(folder: &Path, consumers: &str) -> Self {
        let signer = Signer::new();
        let file = folder.join("upcall.toml");
        let text = format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[bus]\njournal = \"./journal\"\n{keys}\n\
             [[route]]\nname = \"test\"\npath = \"/oss/test\"\n{consumers}",
            keys = signer.configuration(),
        );
        std::fs::write(&file, text).unwrap();
        let mut process = Running::start(&["serve", "-c", file.to_str().unwrap()]);
        let callbacks = process.wait_for("line with its addresses", |line| {
            line.split("callbacks=").nth(1)?.split_whitespace().next()?.trim_matches('"').parse().ok()
        });
        Self { process, signer, callbacks, file }
    }

    /// Uploads an object, whose name is percent-encoded.
    pub(crate) fn upload(&self, object: &str, request_id: &str) {
        let body = format!("bucket=examplebucket&object={object}&size=1234567&reqId={request_id}&clientIp=203.0.113.7");
        let answer = exchange(self.callbacks, &self.signer.request("/oss/test", FORM, &body)).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// What `upcall dead list` says.
    pub(crate) fn dead(&self) -> String {
        let output = Command::new(upcall_tests::executable::path())
            .args(["dead", "list", "-c", self.file.to_str().unwrap()])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
