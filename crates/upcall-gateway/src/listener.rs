//! Accepting connections and serving HTTP/1 on them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::answer;
use crate::callback::{Peer, Shared};
use crate::error::{ErrorKind, RequestErrorKind};
use crate::options::Limits;
use crate::raw::AlwaysJson;

/// Connections that the kernel holds until they are accepted. With one per callback, a burst must fit.
const BACKLOG: u32 = 4096;
/// How long accepting rests after an error such as too many open files, which does not go away by itself.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves one listener.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) router: Router,
    pub(crate) http: http1::Builder,
    pub(crate) connections: Arc<Semaphore>,
    /// Counts connections; absent for the admin listener.
    pub(crate) counts: Option<Arc<Shared>>,
    /// Hears of requests that the HTTP library refused by itself.
    pub(crate) on_error: Arc<dyn Fn(RequestErrorKind) + Send + Sync>,
}

/// Binds an address.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait for the last connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How HTTP/1 is spoken within the limits.
pub(crate) fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_header_size(limits.head_bytes_max)
        // A client that closes its sending side, as some do behind the request, still gets its answer.
        .half_close(true);
    http
}

impl Listener {
    /// Accepts until `stop`, and gives back what is needed to wait for the connections that are left.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) -> GracefulShutdown {
        let graceful = GracefulShutdown::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => return graceful,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer, &graceful),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, graceful: &GracefulShutdown) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            (self.on_error)(RequestErrorKind::TooManyConnections);
            // Written if the socket takes it at once, which a new one does; then it closes.
            let _ = stream.try_write(&answer::error_bytes(ErrorKind::Request(RequestErrorKind::TooManyConnections)));
            return;
        };
        // An error means that the connection is gone already.
        let _ = stream.set_nodelay(true);
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let answer = router.call(request.map(Body::new));
            async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let io = AlwaysJson::new(TokioIo::new(stream), Arc::clone(&self.on_error));
        let connection = graceful.watch(self.http.serve_connection(io, service));
        let counts = self.counts.clone();
        tokio::spawn(async move {
            let _counted = counts.as_deref().map(|shared| shared.measures.count_connection());
            // A connection that breaks concerns nobody but its client.
            let _ = connection.await;
            drop(permit);
        });
    }
}

/// Whether an error of accepting is about one connection only, which is gone.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted)
}
