//! `upcall health`: asks a running Upcall how it is, where there is neither a shell nor curl.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};

use crate::config::admin_of;
use crate::terminal::printable_lines;
use crate::whereabouts;

/// Ask a running Upcall on this machine how it is
///
/// For health checks where there is no curl, such as in a container. Asks the admin port of the process that runs with the
/// configuration whether it lives, or with --ready, whether it takes callbacks. The exit status is 0 if so, and 1 if not.
/// Whatever has become of the file since: on Linux the process itself says where its admin port is.
/// A process that has just been started listens a moment later: --wait asks again until all is well.
///
/// Examples:
///   upcall health -c upcall.toml --ready
///   systemctl restart upcall && upcall health -c /etc/upcall/upcall.toml --ready --wait 30s
#[derive(Args)]
#[command(verbatim_doc_comment)]
#[command(group = ArgGroup::new("asked").args(["config", "admin"]).required(true))]
pub(crate) struct Arguments {
    /// The configuration file that it runs with
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its admin address, in place of a configuration
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Whether it is ready, and not only alive
    #[arg(long)]
    ready: bool,
    /// For how long to ask again while it is not
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// How long each step may take: a health check that hangs says as much as one that fails.
const STEP_TIME: Duration = Duration::from_secs(2);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// How soon it is asked again.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let target = if arguments.ready { "/ready" } else { "/live" };
    let begun = Instant::now();
    loop {
        let answer = ask(reachable(admin(arguments)?), target);
        let is_well = matches!(&answer, Ok(answer) if answer.is_well);
        let left = arguments.wait.saturating_sub(begun.elapsed());
        if is_well || left.is_zero() {
            println!("{}", printable_lines(&answer?.body));
            return Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        std::thread::sleep(PAUSE.min(left));
    }
}

/// Where the process is asked.
fn admin(arguments: &Arguments) -> anyhow::Result<SocketAddr> {
    match (arguments.admin, &arguments.config) {
        (Some(admin), _) => Ok(admin),
        // The file may say something else by now, which was refused, and is not in force.
        (None, Some(file)) => match whereabouts::ask(file) {
            Some(admin) => Ok(admin),
            None => Ok(admin_of(file)?),
        },
        (None, None) => bail!("there is nobody to ask"),
    }
}

/// What the admin port says.
struct Answer {
    is_well: bool,
    body: String,
}

/// Where a listener on all addresses is reached from its own machine.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}

fn ask(admin: SocketAddr, target: &str) -> anyhow::Result<Answer> {
    let answer = get(admin, target).with_context(|| format!("{admin} can't be asked"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is no HTTP")?;
    Ok(Answer { is_well: head.split(' ').nth(1) == Some("200"), body: body.to_owned() })
}

fn get(admin: SocketAddr, target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, STEP_TIME)?;
    stream.set_read_timeout(Some(STEP_TIME))?;
    stream.set_write_timeout(Some(STEP_TIME))?;
    write!(stream, "GET {target} HTTP/1.0\r\nHost: {admin}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_its_own_machine() {
        let reached = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:9090"), "127.0.0.1:9090");
        assert_eq!(reached("[::]:9090"), "[::1]:9090");
        assert_eq!(reached("10.1.2.3:9090"), "10.1.2.3:9090");
    }
}
