//! Who answers on a route, as its configuration says.

use std::sync::Arc;

use anyhow::Context;
use upcall_gateway::RouteOptions;
use upcall_responder::{Asking, Responder, Service};
use upcall_responder_http::HttpService;

use crate::config::{AnswerBy, Route};

/// Builds what answers on a route.
pub(crate) fn bind(route: Route) -> anyhow::Result<RouteOptions> {
    let responder = match route.answer.clone() {
        AnswerBy::Template(template) => Responder::Template(template),
        AnswerBy::Http { service, options } => {
            let service = HttpService::new(service)
                .with_context(|| format!("the service of route {} can't be asked", route.policy.name()))?;
            Responder::Service(Asking { service: Arc::new(service) as Arc<dyn Service>, options })
        }
        AnswerBy::Request { subject, .. } => {
            anyhow::bail!("route {}: requests on {subject} are not wired to NATS yet", route.policy.name())
        }
    };
    Ok(route.bound(responder))
}
