//! What can be wrong with the options.

/// Why there can be no sink with these options.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The HTTP client can't be made.
    #[error("the client for the service can't be made")]
    Client(#[from] upcall_egress::BuildError),
    /// TLS for mail can't be set up.
    #[error("TLS for mail can't be set up")]
    Tls(#[source] lettre::transport::smtp::Error),
}
