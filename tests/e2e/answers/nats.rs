//! An application with a service on NATS.

use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use upcall_tests::nats::{NatsOptions, NatsServer};

use super::application::{Application, Said, said};

const SUBJECT: &str = "app.avatars.answer";

/// An application with a service on NATS, and the server.
pub(super) struct NatsApplication {
    server: NatsServer,
    runtime: Runtime,
    client: Client,
    serving: Option<JoinHandle<()>>,
}

impl NatsApplication {
    pub(super) fn start() -> Self {
        // So that it is not the server which refuses an answer of 2 MB.
        let server = NatsServer::start_with(&NatsOptions { config: "max_payload: 4MB".into(), ..Default::default() });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async_nats::connect(server.url())).unwrap();
        let mut application = Self { server, runtime, client, serving: None };
        application.start_again();
        application
    }
}

impl Application for NatsApplication {
    fn bus(&self) -> String {
        format!("[bus.nats]\nurl = \"{}\"\n", self.server.url())
    }

    fn response(&self) -> String {
        format!("[route.response.request]\nsubject = \"{SUBJECT}\"\n")
    }

    fn start_again(&mut self) {
        let client = self.client.clone();
        let mut questions = self.runtime.block_on(async {
            let questions = client.subscribe(SUBJECT).await.unwrap();
            client.flush().await.unwrap();
            questions
        });
        self.serving = Some(self.runtime.spawn(async move {
            while let Some(question) = questions.next().await {
                let (reply, headers) = (question.reply.unwrap(), question.headers.unwrap_or_default());
                let data: Value = serde_json::from_slice(&question.payload).unwrap();
                let id = headers.get("ce-id").map(ToString::to_string).unwrap_or_default();
                let published = match said(data["object"].as_str().unwrap_or_default(), &id) {
                    Said::Answer(answer) => client.publish(reply, answer.into()).await,
                    Said::No(reason) => {
                        let mut headers = HeaderMap::new();
                        headers.insert("Nats-Service-Error-Code", "403");
                        headers.insert("Nats-Service-Error", reason);
                        let payload = format!("{{\"reason\":\"{reason}\"}}");
                        client.publish_with_headers(reply, headers, payload.into()).await
                    }
                    Said::Nothing => Ok(()),
                };
                published.unwrap();
            }
        }));
    }

    fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            self.runtime.block_on(async {
                let _ = serving.await;
                // Dropping the subscription has told the server, before this.
                self.client.flush().await.unwrap();
            });
        }
    }
}
