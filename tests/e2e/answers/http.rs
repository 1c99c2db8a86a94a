//! An application with an HTTP service.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use upcall_tests::executable::PATIENCE;

use super::application::{Application, Said, said};

/// An application with an HTTP service.
pub(super) struct HttpApplication {
    address: SocketAddr,
    serving: Option<Serving>,
}

struct Serving {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl HttpApplication {
    pub(super) fn start() -> Self {
        let mut application = Self { address: ([127, 0, 0, 1], 0).into(), serving: None };
        application.start_again();
        application
    }
}

impl Application for HttpApplication {
    fn bus(&self) -> String {
        String::new()
    }

    fn response(&self) -> String {
        format!("[route.response.http]\nurl = \"http://{}/upcall\"\n", self.address)
    }

    fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A connection that breaks is its client's affair.
                    Ok((stream, _)) => drop(std::thread::spawn(move || drop(answer(stream)))),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        self.serving = Some(Serving { stop, thread });
    }

    fn stop(&mut self) {
        if let Some(Serving { stop, thread }) = self.serving.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
    }
}

impl Drop for HttpApplication {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut request, mut chunk) = (Vec::new(), [0; 8192]);
    let event: Value = loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..read]);
        let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        if let Ok(event) = serde_json::from_slice(&request[at + 4..]) {
            break event;
        }
    };
    let object = event["data"]["object"].as_str().unwrap_or_default();
    let (status, body) = match said(object, event["id"].as_str().unwrap_or_default()) {
        Said::Answer(body) => ("200 OK", body),
        Said::No(reason) => ("403 Forbidden", format!("{{\"reason\":\"{reason}\"}}")),
        // Until the gateway gives up.
        Said::Nothing => return stream.read(&mut chunk).map(drop),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}
