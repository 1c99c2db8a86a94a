//! A TCP proxy whose link breaks when it is told to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

const PIECE_BYTES: usize = 64 * 1024;
/// A slow link passes its bytes in pieces, so many a second.
const PIECES_PER_SECOND: u32 = 20;

/// How the link behind a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    /// Everything passes.
    #[default]
    Whole,
    /// Connections are reset, those that there are and new ones.
    Cut,
    /// Connections stay, and nothing passes: packets are dropped. When the link is whole again, what was sent arrives.
    Blackhole,
    /// Each piece takes this much longer.
    Latency(Duration),
    /// So many bytes pass in a second, each way.
    Slow(u32),
    /// The far end has closed the connections that there are, and the near one never hears of it, not even when the
    /// link is whole again.
    HalfOpen,
}

/// A proxy in front of one server. It ends when this is dropped, and its connections with it.
pub struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
}

impl Proxy {
    /// Starts a proxy, on a free port of this machine and a thread of its own.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        listener.set_nonblocking(true).expect("a socket can be set so");
        let address = listener.local_addr().expect("it is bound");
        let (link, watched) = watch::channel(Link::Whole);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(serve(listener, server, watched));
        });
        Self { address, link }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the link so from now on.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

async fn serve(listener: std::net::TcpListener, server: SocketAddr, mut link: watch::Receiver<Link>) {
    let listener = TcpListener::from_std(listener).expect("the socket was set so");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that is gone already needs no service.
                if let Ok((client, _)) = accepted {
                    tokio::spawn(connection(client, server, link.clone()));
                }
            }
            changed = link.changed() => if changed.is_err() { return },
        }
    }
}

async fn connection(mut client: TcpStream, server: SocketAddr, link: watch::Receiver<Link>) {
    let Ok(mut upstream) = connect(server, link.clone()).await else { return reset(client) };
    // Latency is the link's to add.
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let broken = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = upstream.split();
        let mut watched = link.clone();
        tokio::select! {
            // Either end closes both.
            _ = pass(&mut from_client, &mut to_server, link.clone()) => None,
            _ = pass(&mut from_server, &mut to_client, link.clone()) => None,
            broken = watched.wait_for(|link| matches!(link, Link::Cut | Link::HalfOpen)) => broken.ok().map(|link| *link),
        }
    };
    match broken {
        Some(Link::Cut) => {
            reset(client);
            reset(upstream);
        }
        Some(_) => {
            drop(upstream);
            swallow(client, link).await;
        }
        None => {}
    }
}

/// Reaches the server as soon as the link lets it; fails at once where it is cut.
async fn connect(server: SocketAddr, mut link: watch::Receiver<Link>) -> io::Result<TcpStream> {
    let gone = |_| io::Error::from(io::ErrorKind::ConnectionReset);
    let link = *link.wait_for(|link| !matches!(link, Link::Blackhole | Link::HalfOpen)).await.map_err(gone)?;
    if link == Link::Cut {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let stream = TcpStream::connect(server).await?;
    // A port that nobody listens on can be reached from itself, and would be taken by that.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

async fn pass(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    let gone = |_| io::Error::from(io::ErrorKind::ConnectionReset);
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let now = *link.wait_for(|link| *link != Link::Blackhole).await.map_err(gone)?;
            let piece = match now {
                Link::Latency(delay) => {
                    sleep(delay).await;
                    rest.len()
                }
                Link::Slow(bytes) => {
                    sleep(Duration::from_secs(1) / PIECES_PER_SECOND).await;
                    rest.len().min((bytes / PIECES_PER_SECOND).max(1) as usize)
                }
                _ => rest.len(),
            };
            to.write_all(&rest[..piece]).await?;
            rest = &rest[piece..];
        }
    }
}

/// Takes what a client says, and says nothing, until it goes or is cut off.
async fn swallow(mut client: TcpStream, mut link: watch::Receiver<Link>) {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        tokio::select! {
            read = client.read(&mut buffer) => if matches!(read, Ok(0) | Err(_)) { return },
            cut = link.wait_for(|link| *link == Link::Cut) => {
                drop(cut);
                return reset(client);
            }
        }
    }
}

fn reset(stream: TcpStream) {
    // Without it the end is an orderly one, which is a fault, too.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::time::Instant;

    use super::*;
    use crate::executable::PATIENCE;

    const SHORT: Duration = Duration::from_millis(200);

    /// A server that sends back what it gets, behind a proxy, with a connection to it.
    fn echo() -> (Proxy, TcpStream) {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        let mut stream = dial(&proxy);
        assert_eq!(ask(&mut stream, PATIENCE).unwrap(), *b"ping");
        (proxy, stream)
    }

    fn dial(proxy: &Proxy) -> TcpStream {
        connect(proxy).unwrap()
    }

    fn connect(proxy: &Proxy) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(&proxy.address(), PATIENCE)
    }

    fn ask(stream: &mut TcpStream, patience: Duration) -> io::Result<[u8; 4]> {
        stream.write_all(b"ping")?;
        read(stream, patience)
    }

    fn read(stream: &mut TcpStream, patience: Duration) -> io::Result<[u8; 4]> {
        stream.set_read_timeout(Some(patience))?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    fn is_silence(error: io::Error) -> bool {
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
    }

    #[test]
    fn a_cut_link_resets_connections_until_it_is_whole() {
        let (proxy, mut stream) = echo();
        proxy.set(Link::Cut);
        assert!(!is_silence(read(&mut stream, PATIENCE).unwrap_err()));
        // The reset may come before the connection is made, or after.
        let reset = connect(&proxy).and_then(|mut stream| ask(&mut stream, PATIENCE)).unwrap_err();
        assert!(!is_silence(reset));
        proxy.set(Link::Whole);
        assert_eq!(ask(&mut dial(&proxy), PATIENCE).unwrap(), *b"ping");
    }

    #[test]
    fn a_black_hole_delays_what_was_sent_and_loses_none_of_it() {
        let (proxy, mut stream) = echo();
        proxy.set(Link::Blackhole);
        assert!(is_silence(ask(&mut stream, SHORT).unwrap_err()));
        let mut second = dial(&proxy);
        assert!(is_silence(ask(&mut second, SHORT).unwrap_err()));
        proxy.set(Link::Whole);
        assert_eq!(read(&mut stream, PATIENCE).unwrap(), *b"ping");
        assert_eq!(read(&mut second, PATIENCE).unwrap(), *b"ping");
    }

    #[test]
    fn a_half_open_connection_stays_silent_and_a_new_one_works() {
        let (proxy, mut stream) = echo();
        proxy.set(Link::HalfOpen);
        assert!(is_silence(ask(&mut stream, SHORT).unwrap_err()));
        proxy.set(Link::Whole);
        assert_eq!(ask(&mut dial(&proxy), PATIENCE).unwrap(), *b"ping");
        assert!(is_silence(ask(&mut stream, SHORT).unwrap_err()));
    }

    #[test]
    fn latency_and_bandwidth_take_their_time() {
        let (proxy, mut stream) = echo();
        proxy.set(Link::Latency(SHORT));
        let begin = Instant::now();
        ask(&mut stream, PATIENCE).unwrap();
        assert!(begin.elapsed() >= SHORT * 2, "there and back");
        proxy.set(Link::Slow(1000));
        let begin = Instant::now();
        stream.write_all(&[0; 200]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_exact(&mut [0; 200]).unwrap();
        assert!(begin.elapsed() >= SHORT, "200 bytes at 1000 a second");
    }
}
