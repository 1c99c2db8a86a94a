//! The suite that every sink passes, with a receiver that looks by `webhook-id` whether it knows an event.

use async_trait::async_trait;
use upcall_consumer::conformance::{Abilities, Target};
use upcall_egress::testing::Receiver;

use super::*;

upcall_consumer::conformance_tests!(async || Endpoint(Receiver::start("webhook-id", 500).await));

struct Endpoint(Receiver);

#[async_trait]
impl Target for Endpoint {
    async fn sink(&self) -> Arc<dyn Sink> {
        let endpoint = format!("http://{}/hook?token=hunter2", self.0.address()).parse().unwrap();
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
        self.0.known().iter().map(|id| id.parse().unwrap()).collect()
    }

    fn abilities(&self) -> Abilities {
        Abilities { order: false, ..Abilities::default() }
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
