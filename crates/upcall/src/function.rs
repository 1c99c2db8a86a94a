//! What an instance on Function Compute is built for.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use upcall_bus_nats::NatsBus;
use upcall_gateway::{Before, FunctionOptions};
use upcall_telemetry_otlp::{Flush, Handle};

use crate::config;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Has a new instance wait for the bus, and each answer for what there is to tell of it.
pub(crate) fn options(config: &config::Function, nats: Option<NatsBus>, telemetry: Option<Handle>) -> FunctionOptions {
    let prepare = move || -> Work {
        let nats = nats.clone();
        Box::pin(async move {
            if let Some(nats) = nats {
                nats.first_look().await;
            }
        })
    };
    let flush = move |before: Before, limit: Duration| -> Work {
        let telemetry = telemetry.clone();
        let flush = Flush { limit, metrics: before != Before::Answer, insists: before == Before::Stop };
        Box::pin(async move {
            if let Some(telemetry) = telemetry {
                telemetry.flush(flush).await;
            }
        })
    };
    FunctionOptions {
        invoked_by: config.invoked_by,
        notification_wait: config.notification_wait,
        prepare: Arc::new(prepare),
        flush: Arc::new(flush),
    }
}
