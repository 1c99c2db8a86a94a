//! A receiver that a sink's suite can break.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::{Act, Request, serve};

/// How late a slow receiver answers: later than any client of these tests waits.
const LATE: Duration = Duration::from_secs(3);

/// A receiver that looks by a header whether it knows what it is sent. It can be stopped, slowed down and healed.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    listening: Mutex<Option<Listening>>,
}

struct Listening {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct State {
    header: &'static str,
    refusal: u16,
    known: Vec<String>,
    refused: BTreeSet<String>,
    is_slow: bool,
}

impl Receiver {
    /// One that finds an id in this header, and refuses with this status what it is told to refuse.
    pub async fn start(header: &'static str, refusal: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State { header, refusal, known: Vec::new(), refused: BTreeSet::new(), is_slow: false };
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
            listening: Mutex::default(),
        };
        receiver.listen(listener);
        receiver
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The ids that it has taken, each once, in the order in which they came.
    #[must_use]
    pub fn known(&self) -> Vec<String> {
        self.state.lock().unwrap().known.clone()
    }

    /// Breaks every connection, and takes none.
    pub async fn stop(&self) {
        let listening = self.listening.lock().unwrap().take();
        if let Some(Listening { stop, task }) = listening {
            drop(stop);
            task.await.unwrap();
        }
    }

    /// Answers late from now on.
    pub fn slow_down(&self) {
        self.state.lock().unwrap().is_slow = true;
    }

    /// Refuses this id from now on.
    pub fn refuse(&self, id: String) {
        self.state.lock().unwrap().refused.insert(id);
    }

    /// Is as it was at the start, but for what it knows.
    pub async fn heal(&self) {
        {
            let mut state = self.state.lock().unwrap();
            state.refused.clear();
            state.is_slow = false;
        }
        let is_stopped = self.listening.lock().unwrap().is_none();
        if is_stopped {
            self.listen(TcpListener::bind(self.address).await.unwrap());
        }
    }

    fn listen(&self, listener: TcpListener) {
        let state = self.state.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let accept = async {
                while let Ok((stream, _)) = listener.accept().await {
                    let state = state.clone();
                    connections.spawn(serve(stream, move |request, _| state.lock().unwrap().take(request)));
                }
            };
            tokio::select! {
                () = accept => {}
                _ = stopped => {}
            }
            // One that is answering at this moment on another thread has ended, too, when this is over.
            connections.shutdown().await;
        });
        *self.listening.lock().unwrap() = Some(Listening { stop, task });
    }
}

impl State {
    fn take(&mut self, request: &Request) -> Act {
        let id = request.header(self.header).unwrap().to_owned();
        if self.refused.contains(&id) {
            return Act::answer(self.refusal, "", "refused");
        }
        if !self.known.contains(&id) {
            self.known.push(id);
        }
        let answer = Act::answer(200, "", "");
        if self.is_slow { Act::Later(LATE, Box::new(answer)) } else { answer }
    }
}
