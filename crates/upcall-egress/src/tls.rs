//! TLS as each of our clients speaks it, in one place.

use rustls::{ClientConfig, RootCertStore};

/// The authorities that the machine trusts. There may be none.
#[must_use]
pub fn machine_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// TLS 1.2 and 1.3 with servers whose certificates come from these authorities, and without one of our own.
///
/// # Errors
/// If the versions don't go with what encrypts.
pub fn client_tls(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let versions = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}
