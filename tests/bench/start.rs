//! From the start of a process to its first answer, as an instance on Function Compute.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use upcall_tests::executable;
use upcall_tests::nats::NatsServer;

use crate::server::free_address;

/// How long a start may take.
const START_MAX: Duration = Duration::from_secs(10);
const INITIALIZE: &[u8] = b"POST /initialize HTTP/1.0\r\nx-fc-control-path: /initialize\r\nContent-Length: 0\r\n\r\n";

/// Starts instances one after the other, with streams that are there, and prints how long they took.
pub(crate) fn measure(rounds: usize) -> anyhow::Result<()> {
    let (nats, folder) = (NatsServer::start(), tempfile::tempdir()?);
    let file = folder.path().join("upcall.toml");
    let text = format!(
        "[gateway]\nadmin = \"127.0.0.1:0\"\n[function_compute]\n[bus.nats]\nurl = {:?}\n[[route]]\nname = \"a\"\npath = \"/a\"\n",
        nats.url()
    );
    std::fs::write(&file, text)?;
    let (mut accepted, mut ready) = (Vec::new(), Vec::new());
    // The first one makes the streams.
    for round in 0..=rounds {
        let address = free_address()?;
        let begin = Instant::now();
        let mut child = Command::new(executable::path())
            .args(["serve", "-c"])
            .arg(&file)
            .env("FC_SERVER_PORT", address.port().to_string())
            .stderr(Stdio::null())
            .spawn()?;
        let times = first_answer(address, begin);
        child.kill()?;
        child.wait()?;
        let (accepts, answers) = times?;
        if round > 0 {
            accepted.push(accepts);
            ready.push(answers);
        }
    }
    for (what, mut times) in [("accepts connections", accepted), ("has answered /initialize, connected to NATS", ready)]
    {
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{what}: {:.1} ms (median of {rounds}), {:.1} ms at most", ms(median), ms(longest));
    }
    Ok(())
}

fn first_answer(address: SocketAddr, begin: Instant) -> anyhow::Result<(Duration, Duration)> {
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) if begin.elapsed() > START_MAX => bail!("it does not listen: {error}"),
            Err(_) => std::thread::sleep(Duration::from_micros(500)),
        }
    };
    let accepts = begin.elapsed();
    stream.write_all(INITIALIZE)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("there is no answer")?;
    if !answer.starts_with("HTTP/1.0 200") && !answer.starts_with("HTTP/1.1 200") {
        bail!("it answers {answer}");
    }
    Ok((accepts, begin.elapsed()))
}
