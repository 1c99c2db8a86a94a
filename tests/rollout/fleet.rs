//! Two gateways that keep nothing, NATS behind them, and nginx in front, as `deploy/nginx` has it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::executable::{PATIENCE, Running, workspace};
use crate::http::{get, wait_until};
use crate::nats::NatsServer;
use crate::signer::Signer;
use crate::{nats, skip};

/// How long a gateway still accepts when it is asked to end.
const GRACE: &str = "1s";

/// Says that a test can't run here, where something is missing.
pub fn is_missing(what: &str) -> bool {
    if nats::is_missing(what) {
        return true;
    }
    let is_missing = Command::new(nginx()).arg("-v").stderr(Stdio::null()).status().is_err();
    if is_missing {
        skip(&format!("{what}: nginx is not installed (tests/run installs it)"));
    }
    is_missing
}

/// Debian has it where only root looks.
fn nginx() -> &'static str {
    if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok() { "nginx" } else { "/usr/sbin/nginx" }
}

/// Everything that runs. It ends when this is dropped.
pub(super) struct Fleet {
    gateways: Vec<Option<Running>>,
    admins: Vec<SocketAddr>,
    nginx: Child,
    pub(super) signer: Signer,
    pub(super) address: SocketAddr,
    folder: TempDir,
    _nats: NatsServer,
}

impl Fleet {
    pub(super) fn start() -> Self {
        let (nats, signer) = (NatsServer::start(), Signer::new());
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let [address, first, second, admin, other_admin] = free_addresses();
        for (place, (callbacks, admin)) in [(first, admin), (second, other_admin)].into_iter().enumerate() {
            let text = format!(
                "[gateway]\nlisten = \"{callbacks}\"\nadmin = \"{admin}\"\nshutdown = {{ grace = \"{GRACE}\" }}\n\
                 [bus.nats]\nurl = {:?}\n[[route]]\nname = \"test\"\npath = \"/oss/test\"\n{}",
                nats.url(),
                signer.configuration()
            );
            std::fs::write(folder.path().join(format!("gateway-{place}.toml")), text).expect("its folder is writable");
        }
        let nginx = start_nginx(&folder, address, [first, second]);
        let admins = vec![admin, other_admin];
        let mut fleet = Self { gateways: vec![None, None], admins, nginx, signer, address, folder, _nats: nats };
        fleet.start_gateway(0);
        fleet.start_gateway(1);
        fleet
    }

    /// Has a gateway end in order, and starts it anew once it has.
    pub(super) fn restart(&mut self, number: usize) {
        let place = number % self.gateways.len();
        if let Some(mut gateway) = self.gateways[place].take() {
            assert!(gateway.terminate().success(), "it ends in order");
        }
        self.start_gateway(place);
    }

    /// Has a gateway take no step any more: it hangs, with its connections open.
    pub(super) fn hang(&self, number: usize) {
        self.signal("-STOP", number);
    }

    /// Has it go on.
    pub(super) fn go_on(&self, number: usize) {
        self.signal("-CONT", number);
    }

    fn signal(&self, signal: &str, number: usize) {
        let gateway = self.gateways[number % self.gateways.len()].as_ref().expect("it runs");
        let status = Command::new("kill").args([signal, &gateway.id().to_string()]).status();
        assert!(status.expect("kill is there").success());
    }

    pub(super) fn configuration(&self, place: usize) -> PathBuf {
        self.folder.path().join(format!("gateway-{place}.toml"))
    }

    fn start_gateway(&mut self, place: usize) {
        let file = self.configuration(place);
        let mut gateway = Running::start(&["serve", "-c", file.to_str().expect("the path is text")]);
        gateway.wait_for("line that says that it serves", |line| line.contains("serving").then_some(()));
        let admin = self.admins[place];
        wait_until("the gateway is ready", || get(admin, "/ready").is_ok_and(|answer| answer.status == 200));
        self.gateways[place] = Some(gateway);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // It may have ended by itself. Its workers end with it.
        let pid = self.nginx.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.nginx.wait();
    }
}

/// Starts nginx with the file of `deploy/nginx`, but for its addresses.
fn start_nginx(folder: &TempDir, address: SocketAddr, gateways: [SocketAddr; 2]) -> Child {
    let mut site =
        std::fs::read_to_string(workspace().join("deploy/nginx/upcall.conf")).expect("it is in the checkout");
    // The gateways are in two upstreams.
    let theirs = [("127.0.0.1:8080", 1), ("127.0.0.1:8081", 2), ("127.0.0.1:8082", 2)];
    for ((their, times), own) in theirs.into_iter().zip([address, gateways[0], gateways[1]]) {
        assert_eq!(site.matches(their).count(), times, "{their}");
        site = site.replace(their, &own.to_string());
    }
    let path = folder.path().display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {path}/{kind};\n"))
        .concat();
    let text = format!(
        "daemon off;\nworker_processes 1;\npid {path}/nginx.pid;\nerror_log {path}/nginx.log warn;\n\
         events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, text).expect("its folder is writable");
    let mut start = Command::new(nginx());
    start
        .arg("-c")
        .arg(&file)
        .arg("-e")
        .arg(folder.path().join("nginx.log"))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut nginx = start.spawn().expect("is_missing tells beforehand");
    wait_until("nginx listens", || {
        assert!(nginx.try_wait().expect("it is ours to wait for").is_none(), "nginx has ended");
        TcpStream::connect_timeout(&address, PATIENCE).is_ok()
    });
    nginx
}

/// Addresses that nobody else has at the moment.
fn free_addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let kept: [TcpListener; COUNT] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"));
    kept.map(|listener| listener.local_addr().expect("it is bound"))
}
