//! The suite that every sink passes, with a receiver that looks by `webhook-id` whether it knows an event.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use upcall_consumer::conformance::{Abilities, Target};
use upcall_egress::testing::serve;

use super::*;

upcall_consumer::conformance_tests!(receiver);

async fn receiver() -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver =
        Receiver { address: listener.local_addr().unwrap(), state: Arc::default(), listening: Mutex::default() };
    receiver.listen(listener);
    receiver
}

struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    effects: Vec<EventId>,
    refused: BTreeSet<EventId>,
    is_slow: bool,
}

impl Receiver {
    fn listen(&self, listener: TcpListener) {
        let state = self.state.clone();
        let listening = tokio::spawn(async move {
            // When this task is aborted, the connections end with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = state.clone();
                connections.spawn(serve(stream, move |request, _| state.lock().unwrap().take(request)));
            }
        });
        *self.listening.lock().unwrap() = Some(listening);
    }
}

impl State {
    fn take(&mut self, request: &Request) -> Act {
        let id: EventId = request.header("webhook-id").unwrap().parse().unwrap();
        if self.refused.contains(&id) {
            return Act::answer(500, "", "refused");
        }
        if !self.effects.contains(&id) {
            self.effects.push(id);
        }
        let answer = Act::answer(200, "", "");
        if self.is_slow { Act::Later(Duration::from_secs(3), Box::new(answer)) } else { answer }
    }
}

#[async_trait]
impl Target for Receiver {
    async fn sink(&self) -> Arc<dyn Sink> {
        let endpoint = format!("http://{}/hook?token=hunter2", self.address).parse().unwrap();
        let defaults = Options::new(endpoint, vec![SECRET.parse().unwrap()]);
        let guard = Guard::new(vec!["127.0.0.1".parse().unwrap()]);
        let client = ClientOptions { guard, timeout: Duration::from_secs(1), ..ClientOptions::default() };
        let breaker = BreakerOptions {
            open_min: Duration::from_millis(50),
            open_max: Duration::from_millis(500),
            ..defaults.breaker
        };
        Arc::new(sink(Options { client, breaker, ..defaults }))
    }

    async fn effects(&self) -> Vec<EventId> {
        self.state.lock().unwrap().effects.clone()
    }

    fn abilities(&self) -> Abilities {
        Abilities { order: false, ..Abilities::default() }
    }

    async fn stop(&self) {
        let listening = self.listening.lock().unwrap().take();
        if let Some(listening) = listening {
            listening.abort();
            drop(listening.await);
        }
    }

    async fn slow_down(&self) {
        self.state.lock().unwrap().is_slow = true;
    }

    async fn refuse(&self, event: &Event) {
        self.state.lock().unwrap().refused.insert(event.id);
    }

    async fn heal(&self) {
        let is_stopped = {
            let mut state = self.state.lock().unwrap();
            state.refused.clear();
            state.is_slow = false;
            self.listening.lock().unwrap().is_none()
        };
        if is_stopped {
            self.listen(TcpListener::bind(self.address).await.unwrap());
        }
    }
}
