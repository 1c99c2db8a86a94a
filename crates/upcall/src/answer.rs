//! Who answers on a route, as its configuration says.

use std::sync::Arc;

use anyhow::Context;
use upcall_bus_nats::{NatsBus, NatsService};
use upcall_gateway::RouteOptions;
use upcall_responder::{Asking, Responder, Service};
use upcall_responder_http::HttpService;

use crate::config::{AnswerBy, Route};

/// Builds what answers on a route.
pub(crate) fn bind(route: Route, nats: Option<&NatsBus>) -> anyhow::Result<RouteOptions> {
    let responder = match route.answer.clone() {
        AnswerBy::Template(template) => Responder::Template(template),
        AnswerBy::Http { service, options } => {
            let service = HttpService::new(service)
                .with_context(|| format!("the service of route {} can't be asked", route.policy.name()))?;
            Responder::Service(Asking { service: Arc::new(service) as Arc<dyn Service>, options })
        }
        AnswerBy::Request { subject, options } => {
            // That there is one was checked with the configuration.
            let nats = nats.context("a request is answered on NATS, and there is no bus.nats")?;
            let service = NatsService::new(nats.clone(), subject);
            Responder::Service(Asking { service: Arc::new(service) as Arc<dyn Service>, options })
        }
    };
    Ok(route.bound(responder))
}
