//! What the simulator is told before it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Faults;

/// How the simulator is set up. [`Options::new`] gives values that suit a developer's machine.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder that holds everything: buckets, uploads under way, and the key.
    pub folder: PathBuf,
    /// The host names that the endpoint goes by, without port: `BUCKET.NAME` addresses a bucket, `NAME` alone is path
    /// style, as IP addresses are. Names of `aliyuncs.com` always work so.
    pub endpoints: Vec<String>,
    /// Buckets to make at the start.
    pub buckets: Vec<String>,
    /// Whether a bucket comes into being when something is first uploaded to it. OSS answers `NoSuchBucket` instead.
    pub creates_buckets: bool,
    /// The private key to sign with, as PEM. `None` takes the one in the folder, which is generated at the first start.
    pub private_key_pem: Option<String>,
    /// The size of a generated key. OSS signs with 512 bits.
    pub key_bits: usize,
    /// The key's URL as callbacks are to name it. `None` names the simulator's own address.
    pub key_url: Option<String>,
    /// The account id that callbacks name as owner and requester.
    pub owner: String,
    /// Whose PostObject policies are checked. `None` accepts every form.
    pub credentials: Option<Credentials>,
    /// How long a callback may take in all, over all its URLs. OSS gives 5 seconds.
    pub callback_timeout: Duration,
    /// Which servers' certificates are accepted behind https callback URLs.
    pub https_trust: HttpsTrust,
    /// The faults to start with.
    pub faults: Faults,
}

impl Options {
    /// Sets up a simulator in a folder, on a free port of the loopback interface, with OSS's own values and no faults.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            folder: folder.into(),
            endpoints: vec!["localhost".to_owned()],
            buckets: Vec::new(),
            creates_buckets: true,
            private_key_pem: None,
            key_bits: KEY_BITS,
            key_url: None,
            owner: "1000000000000001".to_owned(),
            credentials: None,
            callback_timeout: CALLBACK_TIMEOUT,
            https_trust: HttpsTrust::System,
            faults: Faults::default(),
        }
    }
}

/// The size of OSS's own key.
const KEY_BITS: usize = 512;

/// How long OSS waits for a callback's answer.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// An access key, against which PostObject policies are checked.
#[derive(Clone)]
pub struct Credentials {
    /// The AccessKey ID.
    pub access_key_id: String,
    /// The AccessKey secret.
    pub access_key_secret: String,
}

impl std::fmt::Debug for Credentials {
    /// Leaves out the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Which certificates are accepted from https callback URLs.
#[derive(Debug, Clone, Default)]
pub enum HttpsTrust {
    /// Those that the operating system trusts.
    #[default]
    System,
    /// Those that these certificates (PEM) signed.
    Certificates(String),
    /// All, as a development server's own ones. It proves nothing about who answers.
    Everything,
}

/// Why a simulator could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The folder could not be made or read.
    #[error("the folder {folder} cannot be used")]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// What was underneath.
        source: std::io::Error,
    },
    /// The address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What was underneath.
        source: std::io::Error,
    },
    /// The private key could not be read or generated.
    #[error("the private key cannot be used")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The name of a bucket is none.
    #[error("{0:?} is no name for a bucket")]
    BucketName(String),
    /// The certificates to trust could not be read.
    #[error("the certificates to trust cannot be used")]
    Certificates(#[source] Box<dyn std::error::Error + Send + Sync>),
}
