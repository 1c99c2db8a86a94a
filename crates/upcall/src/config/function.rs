//! `[function_compute]`: an instance on Function Compute.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use toml::Value;
use upcall_function_compute::{DEFAULT_PORT, PORT_VARIABLE};
use upcall_gateway::InvokedBy;

use super::reader::{Reader, Section};
use super::setting::{Setting, word};
use super::{Bus, Consumer, Route};

/// How an instance on Function Compute is invoked.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    pub(crate) invoked_by: InvokedBy,
    pub(crate) notification_wait: Duration,
    /// Where Function Compute sends its requests.
    pub(super) listen: SocketAddr,
}

impl Setting for InvokedBy {
    const KIND: &'static str = "\"http\" or \"events\"";

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &[("http", Self::Http), ("events", Self::Events)])
    }
}

/// Reads `[function_compute]`.
pub(super) fn read(mut section: Section<'_>) -> Function {
    let invoked_by = section.or(
        "invoked_by",
        "http",
        "What invokes the function: OSS's callbacks by the HTTP trigger (`http`), or events (`events`): notifications of the \
         OSS trigger, and requests that the HTTP trigger hands over as events. What it is not invoked by is refused.",
    );
    let notification_wait = section.or(
        "notification_wait",
        "10s",
        "How old an upload must be before its notification is published, so that its callback, which says more, goes first.",
    );
    let port = std::env::var(PORT_VARIABLE).ok().map_or(Ok(DEFAULT_PORT), |port| port.parse());
    let port = port.unwrap_or_else(|_| {
        section.mistake_here(format!("can't listen: the environment variable {PORT_VARIABLE} is no port"));
        DEFAULT_PORT
    });
    Function { invoked_by, notification_wait, listen: (Ipv4Addr::UNSPECIFIED, port).into() }
}

/// Reports what an instance can't do, and routes that expect of the process what only an instance does.
pub(super) fn report(
    reader: &Reader,
    function: Option<&Function>,
    bus: &Bus,
    routes: &[Option<Route>],
    consumers: &[Option<Consumer>],
) {
    let notified = routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.as_ref().is_some_and(|route| route.policy.takes_notifications()));
    let Some(function) = function else {
        for (at, _) in notified {
            reader.mistake(
                format!("route[{at}].notifications"),
                "needs `[function_compute]` with `invoked_by = \"events\"`: nothing else is handed notifications",
            );
        }
        return;
    };
    if function.invoked_by == InvokedBy::Http {
        for (at, _) in notified {
            reader.mistake(
                format!("route[{at}].notifications"),
                "needs `[function_compute]` with `invoked_by = \"events\"`, in a function of its own: nobody signs \
                 notifications, and whoever can reach an HTTP trigger must not be able to make some",
            );
        }
    }
    if bus.nats.is_none() {
        reader.mistake(
            "bus.nats",
            "is missing: an instance on Function Compute has no disk that outlives it, so events go to NATS",
        );
    } else if bus.journal.is_some() {
        reader.mistake(
            "bus.journal",
            "is of no use on Function Compute: the instance's disk goes with it, and nothing is relayed while it is \
             frozen. Leave it out, and `nats.ack` at `\"broker\"`",
        );
    }
    for at in 0..consumers.len() {
        reader.mistake(
            format!("consumer[{at}]"),
            "can't run on Function Compute, which freezes the instance when a request is answered. Run consumers in a \
             process of their own, on the same NATS",
        );
    }
}
