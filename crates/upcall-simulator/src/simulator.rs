//! The simulator: bound, running, and watched through its handle.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast};
use upcall_callback::{KeyError, PrivateKey};

use crate::address::OWN_PATH;
use crate::callback::Tls;
use crate::exchange::Exchange;
use crate::faults::{CurrentFaults, Faults};
use crate::name::BucketName;
use crate::options::{BindError, Options};
use crate::report::CallbackReport;
use crate::request_id::Ids;
use crate::service;
use crate::store::Store;

/// The most connections at a time. More wait to be accepted; a developer's machine never has so many.
const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take to send a request's head.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long requests under way may take to finish at shutdown.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted, as when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many reports a slow listener may be behind before it misses some.
const REPORTS_KEPT: usize = 1024;
/// The name of the key's file in the folder.
const KEY_FILE: &str = "callback_key.pem";
/// The name of the public key below the simulator's own path.
pub(crate) const KEY_RESOURCE: &str = "callback_pub_key.pem";

/// A simulator that listens. Nothing is answered before [`Simulator::run`].
pub struct Simulator {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// Changes and watches a running simulator. A clone shares it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// What all requests have in common.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) store: Store,
    pub(crate) key: PrivateKey,
    pub(crate) key_url: String,
    pub(crate) endpoint: String,
    pub(crate) tls: Tls,
    pub(crate) faults: CurrentFaults,
    pub(crate) reports: broadcast::Sender<CallbackReport>,
    pub(crate) ids: Ids,
}

impl Simulator {
    /// Opens the folder, reads or generates the key, and listens.
    ///
    /// # Errors
    /// If the folder, the key, the certificates or the address cannot be used.
    pub async fn bind(mut options: Options) -> Result<Self, BindError> {
        let folder = |source| BindError::Folder { folder: options.folder.clone(), source };
        let mut buckets = Vec::new();
        for name in &options.buckets {
            buckets.push(BucketName::parse(name).map_err(|_| BindError::BucketName(name.clone()))?);
        }
        let store = Store::open(options.folder.clone()).await.map_err(folder)?;
        for bucket in &buckets {
            store.create_bucket(bucket).await.map_err(folder)?;
        }
        // Making a key, and reading the system's certificates, take long enough to be in the way of other tasks.
        let prepared = options.clone();
        let prepare = move || Ok::<_, BindError>((key(&prepared)?, Tls::new(&prepared.https_trust)?));
        let prepared = tokio::task::spawn_blocking(prepare).await;
        let (key, tls) = prepared.map_err(|error| BindError::Key(Box::new(error)))??;

        let listen = |source| BindError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let endpoint = format!("http://{}", reachable(listener.local_addr().map_err(listen)?));
        let key_url = options.key_url.clone().unwrap_or_else(|| format!("{endpoint}{OWN_PATH}{KEY_RESOURCE}"));
        for name in &mut options.endpoints {
            name.make_ascii_lowercase();
        }
        let faults = CurrentFaults::new(options.faults.clone());
        let reports = broadcast::Sender::new(REPORTS_KEPT);
        let shared = Shared { options, store, key, key_url, endpoint, tls, faults, reports, ids: Ids::default() };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// A handle to this simulator.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// If the operating system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests until `shutdown` is ready; then it finishes those under way, for at most ten seconds.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut shutdown = pin!(shutdown);
        loop {
            let accept = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let serving = graceful.watch(serve(Arc::clone(&self.shared), stream, peer.ip()));
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = serving.await {
                            tracing::debug!(error = &error as &dyn std::error::Error, "a connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        if tokio::time::timeout(SHUTDOWN_TIME, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still under way at the end of the shutdown");
        }
    }
}

impl Handle {
    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.faults.read()
    }

    /// Puts other faults in force, for uploads whose callback has not begun.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.faults.replace(faults);
    }

    /// The key that callbacks verify with, as PEM.
    #[must_use]
    pub fn public_key_pem(&self) -> &str {
        self.shared.key.public_key_pem()
    }

    /// The key's URL as callbacks name it.
    #[must_use]
    pub fn key_url(&self) -> &str {
        &self.shared.key_url
    }

    /// The URL to give an SDK as the endpoint. It is an IP address, which SDKs use in path style.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// Follows the callbacks from now on. A listener that is too slow misses some and is told so.
    #[must_use]
    pub fn reports(&self) -> broadcast::Receiver<CallbackReport> {
        self.shared.reports.subscribe()
    }
}

impl Shared {
    /// Words an error for a request.
    pub(crate) fn error_xml(&self, exchange: &Exchange, code: &str, message: &str, ec: &str) -> String {
        let host = if exchange.host.is_empty() { self.endpoint.as_str() } else { &exchange.host };
        upcall_callback::error_xml(code, message, exchange.id.as_str(), host, Some(ec).filter(|ec| !ec.is_empty()))
    }
}

fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    client: IpAddr,
) -> http1::Connection<
    TokioIo<TcpStream>,
    impl hyper::service::Service<
        http::Request<hyper::body::Incoming>,
        Response = crate::exchange::Answer,
        Error = Infallible,
        Future: Send,
    >,
> {
    let service = service_fn(move |request| {
        let answer = Box::pin(service::answer(Arc::clone(&shared), client, request));
        async move { Ok(answer.await) }
    });
    // An answer's head and body are written apart; without this the body waits for the head's acknowledgement.
    let _ = stream.set_nodelay(true);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service)
}

/// The key that is given, or the folder's, which is made if there is none.
fn key(options: &Options) -> Result<PrivateKey, BindError> {
    let wrong = |error: KeyError| BindError::Key(Box::new(error));
    if let Some(pem) = &options.private_key_pem {
        return PrivateKey::from_pem(pem).map_err(wrong);
    }
    let path = options.folder.join(KEY_FILE);
    match std::fs::read_to_string(&path) {
        Ok(pem) => PrivateKey::from_pem(&pem).map_err(wrong),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = PrivateKey::generate(options.key_bits).map_err(wrong)?;
            keep(&path, &options.folder, &key.to_pem().map_err(wrong)?)
                .map_err(|error| BindError::Key(Box::new(error)))?;
            Ok(key)
        }
        Err(error) => Err(BindError::Key(Box::new(error))),
    }
}

/// Writes a file whole or not at all, readable by its owner only.
fn keep(path: &Path, folder: &Path, text: &str) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// An address that can be connected to, for one that is listened on.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}
