//! The connection: made in the background, kept for as long as the bus lives.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::{self, Context};
use async_nats::{Client, HeaderMap};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use upcall_bus::ConsumerSpec;

use crate::connecting::{ConnectError, Login, Renewed, addresses, connect_options, listed, note, note_failures};
use crate::floor::Floors;
use crate::keeper::Looked;
use crate::names::Names;
use crate::tls::{Certificates, Tls};
use crate::{Auth, Options};

/// How long the server may take over what is not a publication.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How many publications may wait for their acknowledgement on this connection.
pub(crate) const ACKS_PENDING_MAX: usize = 65_536;
/// The longest that a publication waits for its acknowledgement; its own deadline is sooner.
const ACK_TIME: Duration = Duration::from_secs(30);

/// The distributed bus. A clone is the same connection.
#[derive(Clone)]
pub struct NatsBus {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) context: Context,
    pub(crate) options: Options,
    pub(crate) names: Names,
    /// Where the servers are, in words.
    pub(crate) addresses: String,
    pub(crate) link: watch::Receiver<Link>,
    /// Where the bus's own tasks run, whoever calls.
    pub(crate) runtime: Handle,
    readers: Mutex<HashMap<String, Reader>>,
    pub(crate) floors: Floors,
    /// When the server answered a publication last.
    pub(crate) heard_at: Mutex<Option<Instant>>,
    /// The last connection that was given up since it was silent, by its generation.
    pub(crate) given_up: AtomicU64,
    /// The consumers that are looked after.
    pub(crate) kept: Mutex<Vec<ConsumerSpec>>,
    login: Renewed,
    certificates: Certificates,
    pub(crate) looked: watch::Sender<Looked>,
}

/// The connection as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Whether there is one.
    pub connected: bool,
    /// How often one was made: grows with each.
    pub generation: u64,
    /// What went wrong last.
    pub fault: Option<String>,
    /// Whether no server lets us in, and one of them since it does not accept who we are: waiting does not help, and
    /// `fault` says what to set.
    pub refused: bool,
}

impl NatsBus {
    /// Begins to connect, and goes on in the background for as long as it takes: a server that is not there yet is no
    /// error. Runs its tasks on the current runtime.
    ///
    /// # Errors
    /// If the options can't be used, whatever the servers do.
    pub async fn connect(options: Options) -> Result<Self, ConnectError> {
        let urls = addresses(&options)?;
        let (sender, link) = watch::channel(Link::default());
        let (seen, login, addresses) = (sender.clone(), Login::of(&options, &urls), listed(&urls));
        let (renewed, certificates) = (Renewed::new(options.auth.clone()), Certificates::new(&options.tls));
        let client = connect_options(&options, &urls, &renewed, &certificates)
            .await?
            .event_callback(move |event| {
                note(&sender, &event);
                std::future::ready(())
            })
            // Asked before each attempt, and told what the last ones failed of, which the events do not say.
            .reconnect_to_server_callback(move |servers, _| {
                note_failures(&seen, &servers, &login);
                std::future::ready(None)
            })
            .connect(urls)
            .await
            .map_err(|error| ConnectError::Options(error.into()))?;
        let context = jetstream::ContextBuilder::new()
            .timeout(REQUEST_TIME)
            .ack_timeout(ACK_TIME)
            .max_ack_inflight(ACKS_PENDING_MAX)
            .build(client.clone());
        let names = Names::new(&options.stream);
        let looked = watch::channel(Looked::ByNobody).0;
        let shared = Shared {
            client,
            context,
            options,
            names,
            addresses,
            link,
            runtime: Handle::current(),
            readers: Mutex::default(),
            floors: Floors::default(),
            heard_at: Mutex::default(),
            given_up: AtomicU64::new(0),
            kept: Mutex::default(),
            login: renewed,
            certificates,
            looked,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Follows the connection.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.clone()
    }

    /// Waits until there is a connection, for so long at most; no longer where no server lets us in.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn connected_within(&self, wait: Duration) -> Result<(), String> {
        let mut link = self.link();
        match timeout(wait, link.wait_for(|link| link.connected || link.refused)).await {
            Ok(Ok(link)) if link.connected => Ok(()),
            _ => Err(self.why_disconnected()),
        }
    }

    /// Whether the server can be reached, as far as is known now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }

    /// Why there is no connection, in words.
    #[must_use]
    pub fn why_disconnected(&self) -> String {
        let link = self.shared.link.borrow();
        match &link.fault {
            Some(fault) if link.refused => fault.clone(),
            Some(fault) => format!("there is no connection to a NATS server: {fault}"),
            None => format!("there is no connection to a NATS server yet, at {}", self.shared.addresses),
        }
    }

    /// What the server that we are connected to is called: its name, or where it is, if nobody has named it.
    pub(crate) fn server_name(&self) -> String {
        let info = self.client().server_info();
        // Who has no name has its id for one, which nobody can read.
        if info.server_name.is_empty() || info.server_name == info.server_id {
            return format!("at {}", self.shared.addresses);
        }
        info.server_name
    }

    /// Whether [`NatsBus::renew_login`] can do that.
    #[must_use]
    pub fn can_renew_login(&self, auth: &Auth) -> bool {
        self.shared.login.can_renew(auth)
    }

    /// Who we are from the next connection on; the one that there is stays. False where that takes a new bus: only users
    /// with passwords and tokens can follow one another.
    #[must_use]
    pub fn renew_login(&self, auth: &Auth) -> bool {
        self.shared.login.renew(auth)
    }

    /// The certificates that the next connection is made with; the one that there is stays.
    pub fn renew_certificates(&self, tls: &Tls) {
        self.shared.certificates.renew(tls);
    }

    /// The names of streams and bucket.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.shared.names
    }

    /// The connection itself, for what goes beyond the bus, such as requests to services.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Sends what waits to be sent, and closes the connection.
    pub async fn close(&self) {
        // What can't be sent any more is delivered again, or was never acknowledged.
        let _ = timeout(REQUEST_TIME, self.shared.client.flush()).await;
        let _ = self.shared.client.drain().await;
    }
}

impl Shared {
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Takes a consumer's name. One that is just being given back is waited for; `None` if it is taken.
    pub(crate) async fn take_name(self: &Arc<Self>, name: &str) -> Option<Lease> {
        loop {
            let released = {
                let mut readers = self.lock_readers();
                match readers.get(name) {
                    None => {
                        let reader = Reader { leaving: false, gone: Arc::new(Semaphore::new(0)) };
                        readers.insert(name.to_owned(), reader);
                        return Some(Lease { shared: Arc::clone(self), name: name.to_owned() });
                    }
                    Some(reader) if reader.leaving => Arc::clone(&reader.gone),
                    Some(_) => return None,
                }
            };
            // It is closed when the name is free again.
            let _ = released.acquire().await;
        }
    }

    fn lock_readers(&self) -> MutexGuard<'_, HashMap<String, Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has a consumer's name.
struct Reader {
    leaving: bool,
    gone: Arc<Semaphore>,
}

/// A consumer's name, held while it is read.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    name: String,
}

impl Lease {
    /// Announces that the name is about to be given back.
    pub(crate) fn leave(&self) {
        if let Some(reader) = self.shared.lock_readers().get_mut(&self.name) {
            reader.leaving = true;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(reader) = self.shared.lock_readers().remove(&self.name) {
            reader.gone.close();
        }
    }
}

/// A header's value as text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(async_nats::HeaderValue::as_str)
}
