//! Accepting connections and serving HTTP/1 on them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::callback::Shared;
use crate::error::{ErrorKind, RequestErrorKind};
use crate::options::Limits;
use crate::places::Places;
use crate::raw::AlwaysJson;

/// Connections that the kernel holds until they are accepted. With one per callback, a burst must fit.
const BACKLOG: u32 = 4096;
/// How long accepting rests after an error such as too many open files, which does not go away by itself.
const ACCEPT_REST: Duration = Duration::from_millis(50);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves one listener.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) http: http1::Builder,
    pub(crate) places: Places,
    /// How long a connection may last, if not for as long as it is used.
    pub(crate) time: Option<Duration>,
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
        // An answer is short: copying it behind its head costs less than two buffers.
        .writev(false)
        // A client that closes its sending side, as some do behind the request, still gets its answer.
        .half_close(true);
    http
}

impl Listener {
    /// Accepts until `stop`, has requests answered, and gives back what is needed to wait for the connections that are
    /// left.
    pub(crate) async fn run<F, B>(
        self,
        answer: impl Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + 'static,
        stop: impl Future<Output = ()>,
    ) -> GracefulShutdown
    where
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let graceful = GracefulShutdown::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => {
                    self.serve_waiting(&answer, &graceful);
                    return graceful;
                }
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer, answer.clone(), &graceful),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    /// Serves connections that the kernel has accepted for us: with the listener they would be reset.
    fn serve_waiting<F, B>(
        &self,
        answer: &(impl Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + 'static),
        graceful: &GracefulShutdown,
    ) where
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        // As many as can wait. An error is of one connection, or there is none left.
        for _ in 0..BACKLOG {
            let Some(Ok((stream, peer))) = self.socket.accept().now_or_never() else { return };
            self.serve(stream, peer, answer.clone(), graceful);
        }
    }

    fn serve<F, B>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        answer: impl Fn(SocketAddr, Request<Incoming>) -> F + Send + 'static,
        graceful: &GracefulShutdown,
    ) where
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let permit = match &self.places {
            Places::Renewing(_) => None,
            Places::Refusing(places) => {
                let Ok(permit) = Arc::clone(places).try_acquire_owned() else {
                    let kind = RequestErrorKind::TooManyConnections;
                    (self.on_error)(kind);
                    // Written if the socket takes it at once, which a new one does; then it closes.
                    let _ = stream.try_write(&crate::answer::error_bytes(ErrorKind::Request(kind)));
                    return;
                };
                Some(permit)
            }
        };
        // An error means that the connection is gone already.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let answer = answer(peer, request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let io = AlwaysJson::new(TokioIo::new(stream), Arc::clone(&self.on_error));
        let connection = graceful.watch(self.http.serve_connection(io, service));
        let (counts, time) = (self.counts.clone(), self.time);
        let task = tokio::spawn(async move {
            let _counted = counts.as_deref().map(|shared| shared.measures.count_connection());
            // A connection that breaks, or takes too long, concerns nobody but its client.
            match time {
                None => drop(connection.await),
                Some(time) => drop(timeout(time, connection).await),
            }
            drop(permit);
        });
        if let Places::Renewing(places) = &self.places {
            places.take(task.abort_handle());
        }
    }
}

/// Whether an error of accepting is about one connection only, which is gone.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted)
}
