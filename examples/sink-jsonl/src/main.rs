//! Runs the sink on NATS: `sink-jsonl nats://127.0.0.1:4222 FOLDER`, until Ctrl-C.

use std::error::Error;
use std::sync::Arc;

use sink_jsonl::JsonLines;
use upcall_bus::{ConsumerSpec, Start};
use upcall_bus_nats::NatsBus;
use upcall_consumer::{Consumer, Options};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, folder] = &arguments[..] else { return Err("usage: sink-jsonl NATS_URL FOLDER".into()) };
    let bus = NatsBus::connect(upcall_bus_nats::Options::new(url)).await?;
    let spec = ConsumerSpec { name: "jsonl".parse()?, filter: ">".parse()?, start: Start::Oldest };
    let sink = Arc::new(JsonLines::new(folder));
    let consumer = Consumer::new(Arc::new(bus.clone()), sink, Options::new(spec));
    consumer.run(async { drop(tokio::signal::ctrl_c().await) }).await?;
    bus.close().await;
    Ok(())
}
