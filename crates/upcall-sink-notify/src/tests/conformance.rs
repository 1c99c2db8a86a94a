//! The suite that every sink passes, with a receiver of JSON that looks by `idempotency-key` whether it knows an event.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use upcall_consumer::Sink;
use upcall_consumer::conformance::Target;
use upcall_egress::testing::{Act, Request, serve};
use upcall_egress::{ClientOptions, Guard};
use upcall_event::{Event, EventId};
use upcall_responder::AnswerTemplate;

use crate::notice::Message;
use crate::{JsonPost, NotifySink, Options, Service};

upcall_consumer::conformance_tests!(relay);

async fn relay() -> Relay {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay { address: listener.local_addr().unwrap(), state: Arc::default(), listening: Mutex::default() };
    relay.listen(listener);
    relay
}

/// Whoever relays messages further.
struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    told: Vec<EventId>,
    refused: BTreeSet<EventId>,
    is_slow: bool,
}

impl Relay {
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
        let id: EventId = request.header("idempotency-key").unwrap().parse().unwrap();
        if self.refused.contains(&id) {
            return Act::answer(422, "", "refused");
        }
        if !self.told.contains(&id) {
            self.told.push(id);
        }
        let answer = Act::answer(200, "", "");
        if self.is_slow { Act::Later(Duration::from_secs(3), Box::new(answer)) } else { answer }
    }
}

#[async_trait]
impl Target for Relay {
    async fn sink(&self) -> Arc<dyn Sink> {
        let body = serde_json::json!({ "text": "New upload: ${object}" });
        let post = JsonPost {
            endpoint: format!("http://{}/notify", self.address).parse().unwrap(),
            body: AnswerTemplate::new(&body).unwrap(),
            headers: [].into_iter().collect(),
        };
        let guard = Guard::new(vec!["127.0.0.1".parse().unwrap()]);
        let options = Options {
            service: Service::Json(Box::new(post)),
            message: Message::default(),
            digest: None,
            rates: Vec::new(),
            client: ClientOptions { guard, timeout: Duration::from_secs(1), ..ClientOptions::default() },
            patience: Duration::from_secs(10),
        };
        Arc::new(NotifySink::new(options).unwrap())
    }

    async fn effects(&self) -> Vec<EventId> {
        self.state.lock().unwrap().told.clone()
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
