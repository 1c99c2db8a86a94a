//! Mail, to a server whose every answer, and how late it comes, the test chooses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use upcall_consumer::{Sink as _, Verdict};

use super::event;
use super::service::{check, deliver, options};
use crate::{Mail, NotifySink, Options, Security, Service};

/// How long a mail may take until the server has got it.
const TIMEOUT: Duration = Duration::from_millis(500);
/// How late a late answer comes.
const LATE: Duration = Duration::from_millis(1500);

/// What the server answers to a command, and when; `None` closes the connection. It goes by the connection's number, and by
/// how many mails it has got whole.
type Answer = fn(command: &str, connection_and_mails: (usize, usize)) -> Option<(Duration, &'static str)>;

struct Mailbox {
    port: u16,
    /// What it has got whole, each on its connection.
    mails: Arc<Mutex<Vec<usize>>>,
}

impl Mailbox {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, mails) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<usize>>>::default());
        let got = mails.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(converse(stream, connection, answer, got.clone()));
            }
        });
        Self { port, mails }
    }

    fn sink(&self) -> NotifySink {
        let mail = Mail {
            host: "127.0.0.1".to_owned(),
            port: self.port.try_into().ok(),
            security: Security::None,
            credentials: None,
            authorities: Vec::new(),
            from: "upcall@example.com".parse().unwrap(),
            to: vec!["ops@example.com".parse().unwrap()],
            timeout: TIMEOUT,
        };
        NotifySink::new(Options { patience: Duration::from_secs(5), ..options(Service::Mail(mail)) }).unwrap()
    }

    /// The connections on which mails came.
    fn mails(&self) -> Vec<usize> {
        self.mails.lock().unwrap().clone()
    }
}

async fn converse(stream: TcpStream, connection: usize, answer: Answer, mails: Arc<Mutex<Vec<usize>>>) {
    let mut stream = BufReader::new(stream);
    let mut command = "hello".to_owned();
    loop {
        let before = mails.lock().unwrap().len();
        let Some((wait, text)) = answer(&command, (connection, before)) else { return };
        sleep(wait).await;
        if stream.write_all(format!("{text}\r\n").as_bytes()).await.is_err() {
            return;
        }
        let Some(next) = line(&mut stream).await else { return };
        command = next;
        if text.starts_with("354") {
            while command != "." {
                let Some(next) = line(&mut stream).await else { return };
                command = next;
            }
            mails.lock().unwrap().push(connection);
        }
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

/// What a server says that takes everything.
fn plain(command: &str) -> &'static str {
    match command {
        "hello" => "220 here",
        "DATA" => "354 go on",
        _ => "250 OK",
    }
}

fn at_once(text: &'static str) -> Option<(Duration, &'static str)> {
    Some((Duration::ZERO, text))
}

#[tokio::test]
async fn a_mail_whose_answer_comes_late_is_sent_once_and_the_next_one_gets_its_own_answer() {
    let mailbox = Mailbox::start(|command, (_, mails)| match (command, mails) {
        (".", 1) => Some((LATE, "250 queued")),
        (".", _) => at_once("554 5.7.1 rejected as spam"),
        _ => at_once(plain(command)),
    })
    .await;
    let sink = mailbox.sink();
    assert_eq!(deliver(&sink, &[&event("a")]).await, [Verdict::Done]);
    check(&deliver(&sink, &[&event("b")]).await[0], "dead", "rejected as spam");
    assert_eq!(mailbox.mails().len(), 2);
}

#[tokio::test]
async fn a_dialogue_that_was_given_up_leaves_no_answer_for_the_next_mail() {
    // The first sender is accepted late; and every mail is refused in the end.
    let mailbox = Mailbox::start(|command, (connection, _)| match command {
        "." => at_once("554 5.7.1 rejected as spam"),
        "MAIL FROM:<upcall@example.com>" if connection == 0 => Some((LATE, "250 OK")),
        _ => at_once(plain(command)),
    })
    .await;
    let sink = mailbox.sink();
    check(&deliver(&sink, &[&event("a")]).await[0], "unavailable", "takes too long");
    // Until its late answer is there to be mistaken for another.
    sleep(LATE).await;
    sink.prepare().await.unwrap();
    check(&deliver(&sink, &[&event("b")]).await[0], "dead", "rejected as spam");
    assert_eq!(mailbox.mails(), [1], "on a connection of its own");
}

#[tokio::test]
async fn a_mail_that_arrived_and_got_no_answer_counts_as_an_attempt() {
    let closing = Mailbox::start(|command, _| if command == "." { None } else { at_once(plain(command)) }).await;
    check(&deliver(&closing.sink(), &[&event("a")]).await[0], "retry", "did not take the mail");

    let silent = Mailbox::start(|command, _| match command {
        "." => Some((Duration::from_secs(60), "250 queued")),
        _ => at_once(plain(command)),
    })
    .await;
    check(&deliver(&silent.sink(), &[&event("a")]).await[0], "retry", "did not say in time");
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_mail_unless_the_server_has_closed_it() {
    let mailbox = Mailbox::start(|command, (_, mails)| match command {
        "NOOP" if mails == 2 => None,
        _ => at_once(plain(command)),
    })
    .await;
    let sink = mailbox.sink();
    for object in ["a", "b", "c"] {
        assert_eq!(deliver(&sink, &[&event(object)]).await, [Verdict::Done]);
    }
    assert_eq!(mailbox.mails(), [0, 0, 1]);
    sink.close().await;
}
