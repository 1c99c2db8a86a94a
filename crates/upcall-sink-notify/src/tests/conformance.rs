//! The suite that every sink passes, with a receiver of JSON that looks by `idempotency-key` whether it knows an event.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use upcall_consumer::Sink;
use upcall_consumer::conformance::Target;
use upcall_egress::testing::Receiver;
use upcall_egress::{ClientOptions, Guard};
use upcall_event::{Event, EventId};
use upcall_responder::AnswerTemplate;

use crate::notice::Message;
use crate::{JsonPost, NotifySink, Options, Service};

upcall_consumer::conformance_tests!(async || Relay(Receiver::start("idempotency-key", 422).await));

/// Whoever relays messages further.
struct Relay(Receiver);

#[async_trait]
impl Target for Relay {
    async fn sink(&self) -> Arc<dyn Sink> {
        let body = serde_json::json!({ "text": "New upload: ${object}" });
        let post = JsonPost {
            endpoint: format!("http://{}/notify", self.0.address()).parse().unwrap(),
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
        self.0.known().iter().map(|id| id.parse().unwrap()).collect()
    }

    async fn stop(&self) {
        self.0.stop().await;
    }

    async fn slow_down(&self) {
        self.0.slow_down();
    }

    async fn refuse(&self, event: &Event) {
        self.0.refuse(event.id.to_string());
    }

    async fn heal(&self) {
        self.0.heal().await;
    }
}
