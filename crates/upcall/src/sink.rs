//! From a sink's configuration to the sink.

use std::sync::Arc;

use upcall_sink_command::CommandSink;
use upcall_sink_notify::NotifySink;
use upcall_sink_sql::SqlSink;
use upcall_sink_webhook::WebhookSink;

use crate::config::Sink;

/// Builds the sink. Nothing is connected to yet: that is the consumer's to do.
pub(crate) fn build(sink: Sink) -> anyhow::Result<Arc<dyn upcall_consumer::Sink>> {
    Ok(match sink {
        Sink::Sql(options) => Arc::new(SqlSink::new(options)?),
        Sink::Webhook(options) => Arc::new(WebhookSink::new(*options)?),
        Sink::Notify(options) => Arc::new(NotifySink::new(*options)?),
        Sink::Command(options) => Arc::new(CommandSink::new(options)),
    })
}
