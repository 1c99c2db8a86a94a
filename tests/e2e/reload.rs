//! Another configuration, taken up while the process runs.

mod certificates;
mod files;

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::Connection;
use serde_json::Value;
use upcall_tests::conservation::sum;
use upcall_tests::http::{Answer, exchange, get, wait_until};
use upcall_tests::nats::{NatsOptions, NatsServer, is_missing};
use upcall_tests::signer::{KEY_URL, Signer};

use crate::serve::Served;

const RELOADS: u64 = 50;
const UPLOADERS: u64 = 4;

/// A gateway whose configuration is written anew.
struct Site {
    served: Served,
    signer: Signer,
    file: PathBuf,
    uploads: AtomicU64,
    folder: tempfile::TempDir,
}

impl Site {
    /// With the keys of `more` beside a listener, a journal, and a signer's key.
    fn start(more: &str) -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
        let file = folder.path().join("upcall.toml");
        write(&file, &signer, more);
        Self { served: Served::start(&file), signer, file, uploads: AtomicU64::new(0), folder }
    }

    fn write(&self, more: &str) {
        write(&self.file, &self.signer, more);
    }

    fn hang_up(&self) {
        let sent = Command::new("kill").args(["-HUP", &self.served.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Writes another configuration, and waits until it has been dealt with so.
    fn reload(&self, more: &str, outcome: &str) {
        let before = self.reloads(outcome);
        self.write(more);
        self.hang_up();
        wait_until(outcome, || self.reloads(outcome) > before);
    }

    fn reloads(&self, outcome: &str) -> f64 {
        sum(&get(self.served.admin, "/metrics").unwrap().text(), "upcall_config_reloads_total", &[("outcome", outcome)])
    }

    fn in_force(&self) -> Value {
        get(self.served.admin, "/config").unwrap().json()
    }

    fn upload(&self, path: &str) -> Answer {
        self.uploader().upload(path)
    }

    /// What can be used by several threads.
    fn uploader(&self) -> Uploader<'_> {
        Uploader { callbacks: self.served.callbacks, signer: &self.signer, uploads: &self.uploads }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

struct Uploader<'s> {
    callbacks: SocketAddr,
    signer: &'s Signer,
    uploads: &'s AtomicU64,
}

impl Uploader<'_> {
    fn upload(&self, path: &str) -> Answer {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let (object, request_id) = (format!("{number}.png"), format!("5CF3E7821AB22D0F{number:08X}"));
        exchange(self.callbacks, &self.signer.upload(path, "examplebucket", &object, &request_id)).unwrap()
    }
}

/// In one step, as whoever writes a configuration should.
fn write(file: &Path, signer: &Signer, more: &str) {
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n[bus]\njournal = \"./journal\"\n\n{}\n{more}\n",
        signer.configuration()
    );
    let half = file.with_extension("new");
    std::fs::write(&half, text).unwrap();
    std::fs::rename(half, file).unwrap();
}

fn route(name: &str, answer: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\npath = \"/oss/{name}\"\nresponse = {{ said = \"{answer}\" }}\n")
}

#[test]
fn routes_change_at_a_sighup_and_when_the_file_has_changed() {
    let site = Site::start(&route("one", "first"));
    assert_eq!(site.upload("/oss/one").json()["said"], "first");
    assert_eq!(site.upload("/oss/two").status, 404);
    let since = site.in_force()["in_force_since"].clone();
    site.reload(&format!("{}{}", route("one", "second"), route("two", "new")), "applied");
    assert_eq!(site.upload("/oss/one").json()["said"], "second");
    assert_eq!(site.upload("/oss/two").json()["said"], "new");
    let in_force = site.in_force();
    assert_ne!(in_force["in_force_since"], since);
    assert_eq!((&in_force["reloads"], &in_force["refused"]), (&1.into(), &Value::Null));

    // Without a signal.
    site.write(&route("two", "newer"));
    wait_until("the file is read again", || site.reloads("applied") == 2.0);
    assert_eq!(site.upload("/oss/two").json()["said"], "newer");
    assert_eq!(site.upload("/oss/one").status, 404);
    site.hang_up();
    wait_until("there is nothing new", || site.reloads("unchanged") == 1.0);
}

#[test]
fn what_is_wrong_or_needs_a_restart_is_refused_as_a_whole_and_named() {
    let site = Site::start(&route("one", "first"));
    let refused = |expected: &[&str]| {
        let refused = site.in_force()["refused"]["reasons"].to_string();
        let metrics = get(site.served.admin, "/metrics").unwrap().text();
        assert!(metrics.contains("upcall_config_refused 1"), "{metrics}");
        expected.iter().for_each(|expected| assert!(refused.contains(expected), "{expected}: {refused}"));
        assert_eq!(site.upload("/oss/one").json()["said"], "first");
        assert_eq!(site.upload("/oss/two").status, 404, "nothing of it is applied");
    };
    let wrong = "[[consumer]]\nname = \"c\"\n";
    site.reload(&format!("{}{}{wrong}", route("one", "second"), route("two", "${sise}")), "invalid");
    refused(&["route[1].response.said: ${sise}", "consumer[0]: has no sink"]);

    let bound = "[gateway.limits]\ncallbacks = 7\n[log]\nformat = \"json\"\n";
    site.reload(&format!("{}{}{bound}", route("one", "second"), route("two", "new")), "needs_restart");
    refused(&["gateway.limits.callbacks: has changed, which needs a restart", "log.format"]);

    let taken = format!("{}{}", route("one", "second"), route("two", "new").replace("/oss/two", "/oss/one"));
    site.reload(&taken, "invalid");
    refused(&["can't be told apart"]);

    // What is missing may come later than what names it, when nothing that is known changes any more.
    let later = format!(
        "{}subject = \"x.y\"\n[[keys.trusted]]\nurl = \"http://test.invalid/later\"\nfile = \"later.pem\"\n",
        route("two", "new")
    );
    site.write(&later);
    wait_until("the file is read by itself", || site.in_force()["refused"].to_string().contains("keys.trusted[1]"));
    refused(&["keys.trusted[1].file: names", "can't be read"]);
    std::fs::write(site.path("later.pem"), Signer::new().public_key_pem()).unwrap();
    wait_until("the file has come", || site.reloads("applied") == 1.0);
    assert_eq!(site.upload("/oss/two").json()["said"], "new");
    assert!(get(site.served.admin, "/metrics").unwrap().text().contains("upcall_config_refused 0"));
}

#[test]
fn keys_and_secrets_are_exchanged_as_kubernetes_exchanges_them() {
    let (first, second) = (Signer::new(), Signer::new());
    let folder = tempfile::tempdir().unwrap();
    let database = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let put = |version: &str, key: &Signer, secret: &str| {
        let data = folder.path().join(version);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("key.pem"), key.public_key_pem()).unwrap();
        std::fs::write(data.join("secret"), secret).unwrap();
        let link = folder.path().join("..data_new");
        symlink(version, &link).unwrap();
        std::fs::rename(link, folder.path().join("..data")).unwrap();
    };
    put("..v1", &first, &database("old.db"));
    for name in ["key.pem", "secret"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    let mount = folder.path().display();
    // The signer of every site has the usual URL.
    let url = KEY_URL.replace("key.pem", "rotated.pem");
    let site = Site::start(&format!(
        "[[keys.trusted]]\nurl = \"{url}\"\nfile = \"{mount}/key.pem\"\n{}\
         [[consumer]]\nname = \"catalog\"\nstart = \"new\"\n\
         sql = {{ url = {{ file = \"{mount}/secret\" }}, table = \"uploads\" }}\n",
        route("one", "first")
    ));
    wait_until("the first database is made", || folder.path().join("old.db").exists());
    let upload = |signer: &Signer| {
        let request = String::from_utf8(signer.upload("/oss/one", "examplebucket", "a.png", &uuid(&site))).unwrap();
        let named = |url: &str| base64(url);
        exchange(site.served.callbacks, request.replace(&named(KEY_URL), &named(&url)).as_bytes()).unwrap().status
    };
    assert_eq!((upload(&first), upload(&second)), (200, 403));
    let rows = |name: &str| {
        let catalog = folder.path().join(name);
        let count =
            || Connection::open(&catalog)?.query_row("SELECT count(*) FROM uploads", (), |row| row.get::<_, u64>(0));
        if catalog.exists() { count().unwrap_or_default() } else { 0 }
    };
    wait_until("the secret is used", || rows("old.db") == 1);
    put("..v2", &second, &database("new.db"));
    wait_until("the files are read again", || site.reloads("applied") == 1.0);
    assert_eq!((upload(&first), upload(&second)), (403, 200));
    wait_until("the new secret is used", || rows("new.db") == 1);
    assert_eq!(rows("old.db"), 1);
}

fn uuid(site: &Site) -> String {
    format!("5CF3E7821AB22D0F{:08X}", site.uploads.fetch_add(1, Ordering::Relaxed))
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn consumers_come_change_and_go() {
    let consumer = |name: &str, file: &Path| {
        let program = format!("cat >/dev/null; echo {name} >>{}", file.display());
        format!(
            "[[consumer]]\nname = \"{name}\"\nstart = \"new\"\ncommand = {{ program = \"/bin/sh\", args = [\"-c\", \"{program}\"] }}\n"
        )
    };
    let out = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| out.path().join(name));
    let lines = |file: &Path| std::fs::read_to_string(file).unwrap_or_default().lines().count();
    let site = Site::start(&format!("{}{}", route("a", "x"), consumer("c", &one)));
    let is_ready = |name: &str| {
        let ready = get(site.served.admin, "/ready").unwrap().json();
        let all = ready["components"].as_array().unwrap().clone();
        all.iter().any(|found| found["name"] == format!("consumer {name}") && found["reason"].is_null())
    };
    wait_until("it is at work", || is_ready("c"));
    assert_eq!(site.upload("/oss/a").status, 200);
    wait_until("it has the first", || lines(&one) == 1);

    site.reload(&format!("{}{}{}", route("a", "x"), consumer("d", &two), consumer("c", &one)), "applied");
    wait_until("both are at work", || is_ready("c") && is_ready("d"));
    assert_eq!(site.upload("/oss/a").status, 200);
    wait_until("both have the second", || lines(&one) == 2 && lines(&two) == 1);

    site.reload(&format!("{}{}", route("a", "x"), consumer("d", &one)), "applied");
    wait_until("the other one is at work", || is_ready("d") && !is_ready("c"));
    assert_eq!(site.upload("/oss/a").status, 200);
    wait_until("only one has the third, and puts it elsewhere", || lines(&one) == 3);
    assert_eq!(lines(&two), 1);
    let metrics = get(site.served.admin, "/metrics").unwrap().text();
    assert!(!metrics.contains("upcall_consumer_ready{consumer=\"c\"}"), "{metrics}");
}

#[test]
fn fifty_reloads_under_load_fail_no_callback() {
    let more = |number: u64| format!("{}{}", route("one", &format!("v{number}")), route(&format!("r{number}"), "x"));
    let site = Site::start(&more(0));
    let done = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let uploader = site.uploader();
    std::thread::scope(|scope| {
        for _ in 0..UPLOADERS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let answer = uploader.upload("/oss/one");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert!(answer.json()["said"].as_str().unwrap().starts_with('v'));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 1..=RELOADS {
            let before = answered.load(Ordering::Relaxed);
            site.reload(&more(number), "applied");
            wait_until("callbacks go on", || answered.load(Ordering::Relaxed) > before);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(site.upload("/oss/one").json()["said"], format!("v{RELOADS}"));
    let in_force = site.in_force();
    assert_eq!(in_force["reloads"], RELOADS);
    let metrics = get(site.served.admin, "/metrics").unwrap().text();
    let accepted = sum(&metrics, "upcall_callbacks_total", &[("route", "one"), ("outcome", "accepted")]);
    assert_eq!(accepted, (answered.load(Ordering::Relaxed) + 1) as f64);
}

#[test]
fn a_password_that_nats_and_the_secret_both_change_is_used_at_the_next_connection() {
    if is_missing("the exchange of a password") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (auth, secret) = (folder.path().join("auth.conf"), folder.path().join("password"));
    let put = |password: &str| {
        std::fs::write(&auth, format!("authorization {{ users: [{{ user: upcall, password: {password} }}] }}\n"))
            .unwrap();
        std::fs::write(&secret, password).unwrap();
    };
    put("first-password");
    // Relative to a folder of the server's own, wherever that is.
    let config = format!("include \"../../../../../..{}\"", auth.display());
    let server = NatsServer::start_with(&NatsOptions { config, ..NatsOptions::default() });
    let more = format!(
        "[bus.nats]\nurl = {:?}\nuser = \"upcall\"\npassword = {{ file = {:?} }}\n{}",
        server.url(),
        secret.display().to_string(),
        route("one", "first")
    );
    let site = Site::start(&more);
    let is_connected = || get(site.served.admin, "/metrics").unwrap().text().contains("upcall_nats_ready 1");
    wait_until("NATS takes events", is_connected);
    assert_eq!(site.upload("/oss/one").status, 200);
    put("second-password");
    wait_until("the secret is read again", || site.reloads("applied") == 1.0);
    assert!(is_connected(), "the connection that there is stays");
    server.kill();
    server.launch();
    wait_until("NATS lets it in again", is_connected);
    assert_eq!(site.upload("/oss/one").status, 200);

    // Another way to log in is another bus.
    let nkey = more.replace("user = \"upcall\"", "").replace("password = ", "nkey = ");
    site.reload(&nkey, "needs_restart");
    let nobody = more.lines().filter(|line| !line.starts_with("user = ") && !line.starts_with("password = "));
    site.reload(&nobody.collect::<Vec<_>>().join("\n"), "needs_restart");
    let refused = site.in_force()["refused"]["reasons"].to_string();
    assert!(refused.contains("bus.nats: another way to log in"), "{refused}");
}
