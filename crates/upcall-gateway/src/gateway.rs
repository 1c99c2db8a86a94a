//! The gateway: bound first, then run, then shut down in order.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::admin::{self, Admin};
use crate::callback::{self, Shared};
use crate::clock::Clock;
use crate::error::{ErrorKind, RequestErrorKind};
use crate::function;
use crate::listener::{self, Listener};
use crate::measure::Measures;
use crate::options::{Limits, Options, ShutdownOptions};
use crate::places::{Places, Renewing};
use crate::quarantine::{self, Keeper};
use crate::rejections::Rejections;
use crate::routes::{InvalidRoutes, RouteTable};
use crate::site::{Site, SiteHandle};

/// Connections to the admin pages at a time: some scrapers, probes and people.
const ADMIN_CONNECTIONS_MAX: usize = 64;
/// How long one of them may last, which has one request: a large page over a slow line takes some seconds.
const ADMIN_CONNECTION_TIME: Duration = Duration::from_secs(30);

/// Takes callbacks in. Bound, it does not accept yet; [`Gateway::run`] does.
pub struct Gateway {
    callbacks: Option<Listener>,
    shared: Arc<Shared>,
    /// The admin pages, and those for health alone.
    pages: Vec<(Listener, Router)>,
    keeper: Option<Keeper>,
    local_addr: Option<SocketAddr>,
    admin_addr: Option<SocketAddr>,
    health_addr: Option<SocketAddr>,
    accepting: Arc<AtomicBool>,
    shutdown: ShutdownOptions,
}

/// Why a gateway can't be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The routes have mistakes, all of which are named.
    #[error("the routes have mistakes: {}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Routes {
        /// Every mistake.
        mistakes: Vec<InvalidRoutes>,
    },
    /// An address can't be listened on.
    #[error("{address} can't be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What was underneath.
        source: io::Error,
    },
}

/// Connections were cut off because their requests did not finish in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{connections} connections did not finish in time")]
pub struct Unfinished {
    /// How many.
    pub connections: usize,
}

impl Gateway {
    /// Checks the options and binds the addresses. Nothing is bound before the options are right.
    ///
    /// # Errors
    /// If the routes have mistakes, or an address can't be listened on.
    #[expect(clippy::unused_async, reason = "sockets are bound within a runtime")]
    pub async fn bind(options: Options) -> Result<Self, BindError> {
        let routes = match (options.listen, options.routes) {
            (None, routes) if routes.is_empty() => RouteTable::default(),
            (_, routes) => RouteTable::new(routes).map_err(|mistakes| BindError::Routes { mistakes })?,
        };
        let listen = |address| {
            let bound = listener::bind(address).and_then(|socket| Ok((socket.local_addr()?, socket)));
            bound.map_err(|source| BindError::Listen { address, source })
        };
        let (local_addr, callbacks) = options.listen.map(listen).transpose()?.unzip();
        let (admin_addr, admin) = options.admin.map(listen).transpose()?.unzip();
        let (health_addr, health) = options.health.map(listen).transpose()?.unzip();

        // Where no callbacks are taken none are refused.
        let quarantine = options.quarantine.filter(|_| callbacks.is_some());
        let quarantine = quarantine.map(|quarantine| quarantine::open(quarantine, &options.metrics));
        let (quarantine, keeper) = quarantine.unzip();
        let limits = options.limits;
        let (metrics, measures) = (options.metrics.clone(), Measures::new(options.metrics, &routes));
        let shared = Arc::new(Shared {
            site: ArcSwap::from_pointee(Site::new(routes, options.original_target, options.verifier, &metrics)),
            measures,
            limits,
            permits: Semaphore::new(limits.callbacks_max),
            long_bodies_kib: Semaphore::new(callback::LONG_BODIES_KIB),
            tracing_peers: options.tracing_peers,
            clock: Clock::default(),
            rejections: Rejections::new(limits.log_lines_per_second),
            quarantine,
            observer: options.observer,
            function: options.function,
            leaving: AtomicBool::new(false),
        });
        let accepting = Arc::new(AtomicBool::new(true));
        let pages = Arc::new(Admin {
            shared: Arc::clone(&shared),
            checks: options.ready_checks,
            accepting: Arc::clone(&accepting),
            log: options.log.map(admin::log::Log::new),
            configuration: options.configuration,
        });
        let admin = admin.map(|socket| (pages_listener(socket), admin::router(Arc::clone(&pages))));
        let health = health.map(|socket| (pages_listener(socket), admin::health(pages)));
        let pages = admin.into_iter().chain(health).collect();
        let errors = Arc::clone(&shared);
        let callbacks = callbacks.map(|socket| Listener {
            socket,
            http: listener::http(&limits),
            places: Places::Refusing(Arc::new(Semaphore::new(limits.connections_max))),
            time: None,
            counts: Some(Arc::clone(&shared)),
            on_error: Arc::new(move |kind| {
                if kind == RequestErrorKind::TooManyConnections {
                    errors.measures.metrics.connections_refused.get().inc();
                }
                errors.measures.without_route.count_error(ErrorKind::Request(kind));
            }),
        });
        let shutdown = options.shutdown;
        Ok(Self { callbacks, shared, pages, keeper, local_addr, admin_addr, health_addr, accepting, shutdown })
    }

    /// Exchanges routes and keys while the gateway runs.
    #[must_use]
    pub fn site(&self) -> SiteHandle {
        SiteHandle(Arc::clone(&self.shared))
    }

    /// Where callbacks arrive, if they do; tells the port where the options left it open.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Where the admin pages are.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Where health alone is told, if it is.
    #[must_use]
    pub fn health_addr(&self) -> Option<SocketAddr> {
        self.health_addr
    }

    /// Takes callbacks in until `shutdown`; then says that it is not ready, goes on accepting for the grace, stops
    /// accepting, and lets requests finish.
    ///
    /// # Errors
    /// If requests did not finish in time. Their connections end with the runtime.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Unfinished> {
        let Self { callbacks, shared, pages, keeper, accepting, shutdown: ShutdownOptions { grace, drain }, .. } = self;
        let (stop_pages, pages_stop) = watch::channel(());
        let serve = |(listener, router): (Listener, Router)| {
            let answer = move |_, request| admin::answer(router.clone(), request);
            let mut stops = pages_stop.clone();
            tokio::spawn(listener.run(answer, async move {
                // Either way it is time.
                let _ = stops.changed().await;
            }))
        };
        let pages: Vec<_> = pages.into_iter().map(serve).collect();
        let (stop_keeper, keeper_stops) = oneshot::channel::<()>();
        let keeper = keeper.map(|keeper| {
            tokio::spawn(keeper.run(async {
                // Either way it is time.
                let _ = keeper_stops.await;
            }))
        });
        let leaving = Arc::clone(&shared);
        let stop = async move {
            shutdown.await;
            accepting.store(false, Ordering::Relaxed);
            leaving.leaving.store(true, Ordering::Relaxed);
            if grace > Duration::ZERO {
                sleep(grace).await;
            }
        };
        let drained = match callbacks {
            Some(callbacks) => {
                let answering = Arc::clone(&shared);
                let graceful = match shared.function {
                    None => {
                        let answer = move |peer, request| callback::answer(Arc::clone(&answering), peer, request);
                        callbacks.run(answer, stop).await
                    }
                    Some(_) => {
                        let answer = move |peer, request| function::answer(Arc::clone(&answering), peer, request);
                        callbacks.run(answer, stop).await
                    }
                };
                let connections = graceful.count();
                timeout(drain, graceful.shutdown()).await.map_err(|_| Unfinished { connections })
            }
            None => {
                stop.await;
                Ok(())
            }
        };
        drop(stop_keeper);
        if let Some(keeper) = keeper
            && timeout(quarantine::LAST_TIME, keeper).await.is_err()
        {
            warn!("the bus does not take the last rejected callbacks into quarantine");
        }
        drop(stop_pages);
        for pages in pages {
            let _ = pages.await;
        }
        drained
    }
}

/// Listens for those who ask for pages: one request a connection, so that the oldest one is one that stalls.
fn pages_listener(socket: TcpListener) -> Listener {
    let mut http = listener::http(&Limits::default());
    http.keep_alive(false);
    Listener {
        socket,
        http,
        places: Places::Renewing(Renewing::new(ADMIN_CONNECTIONS_MAX)),
        time: Some(ADMIN_CONNECTION_TIME),
        counts: None,
        on_error: Arc::new(|_| {}),
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("local_addr", &self.local_addr)
            .field("admin_addr", &self.admin_addr)
            .field("health_addr", &self.health_addr)
            .finish_non_exhaustive()
    }
}
