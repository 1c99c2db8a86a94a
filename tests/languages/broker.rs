//! A real server with Upcall's streams, where the example has the permissions that the document gives it.

use async_nats::HeaderMap;
use async_nats::jetstream::{self, consumer::pull, stream::Stream};
use upcall_bus_nats::{Auth, NatsBus, Options};
use upcall_event::{Event, SubjectTemplate};
use upcall_tests::nats::{NatsOptions, NatsServer};

use crate::example::block;

/// The name of the example's consumer.
pub(crate) const NAME: &str = "usage";
const PASSWORD: &str = "secret";

pub(crate) struct Broker {
    server: NatsServer,
    bus: NatsBus,
    context: jetstream::Context,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        let documented = block("", "authorization").replace("$USAGE_PASSWORD", PASSWORD);
        let ours = format!("users: [{{ user: upcall, password: {PASSWORD} }}, {{");
        let config = documented.replacen("users: [{", &ours, 1);
        assert_ne!(config, documented);
        // Whoever says no name is the example.
        let config = format!("{config}\nno_auth_user: {NAME}\n");
        let server = NatsServer::start_with(&NatsOptions { config, ..NatsOptions::default() });
        let mut options = Options::new(server.url());
        options.auth = Auth::Password { user: "upcall".to_owned(), password: PASSWORD.to_owned() };
        let bus = NatsBus::connect(options).await.unwrap();
        bus.link().wait_for(|link| link.connected).await.unwrap();
        bus.provision(&[]).await.unwrap();
        let context = jetstream::new(bus.client().clone());
        Self { server, bus, context }
    }

    pub(crate) fn bus(&self) -> &NatsBus {
        &self.bus
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Publishes an event past the stream's eye for duplicates.
    pub(crate) async fn publish_unrecognised(&self, event: &Event) {
        let subject = SubjectTemplate::default().fill(event).unwrap().to_string();
        self.publish(subject, headers(event), event.to_binary().data).await;
    }

    pub(crate) async fn publish(&self, subject: String, headers: HeaderMap, data: Vec<u8>) {
        self.context.publish_with_headers(subject, headers, data.into()).await.unwrap().await.unwrap();
    }

    /// What the example has to do: messages that it was not sent, and those that it has not settled.
    pub(crate) async fn open(&self) -> Option<(u64, u64)> {
        let names = self.bus.names();
        let mut open = (0, 0);
        for stream in [names.uploads().to_owned(), names.redelivery()] {
            let consumer = self.context.get_consumer_from_stream::<pull::Config, _, _>(NAME, stream).await.ok()?;
            let info = consumer.cached_info();
            open = (open.0 + info.num_pending, open.1 + u64::try_from(info.num_ack_pending).unwrap());
        }
        Some(open)
    }

    pub(crate) async fn stream(&self, name: &str) -> Stream {
        self.context.get_stream(name).await.unwrap()
    }
}

/// The headers of an event.
pub(crate) fn headers(event: &Event) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in event.to_binary().headers {
        headers.insert(name, value);
    }
    headers
}
