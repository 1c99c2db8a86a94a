//! https to callback URLs.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::options::{BindError, HttpsTrust};

/// Connects by TLS, with and without naming the host.
#[derive(Clone)]
pub(crate) struct Tls {
    named: TlsConnector,
    unnamed: TlsConnector,
}

impl Tls {
    /// Prepares both. It reads files where the operating system's certificates are trusted.
    pub(crate) fn new(trust: &HttpsTrust) -> Result<Self, BindError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let mut config = match trust {
            HttpsTrust::Everything => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustsEverything(provider)))
                .with_no_client_auth(),
            HttpsTrust::System => builder.with_root_certificates(system_roots()).with_no_client_auth(),
            HttpsTrust::Certificates(pem) => builder.with_root_certificates(roots(pem)?).with_no_client_auth(),
        };
        config.enable_sni = true;
        let named = TlsConnector::from(Arc::new(config.clone()));
        config.enable_sni = false;
        Ok(Self { named, unnamed: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands over a connection.
    pub(super) async fn connect(&self, host: &str, sni: bool, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = if sni { &self.named } else { &self.unnamed };
        connector.connect(name, stream).await
    }
}

fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    // A machine without certificates can do without https.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

fn roots(pem: &str) -> Result<RootCertStore, BindError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(certificate.map_err(unusable)?).map_err(unusable)?;
    }
    Ok(store)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> BindError {
    BindError::Certificates(Box::new(error))
}

/// Takes every certificate; still checks that the server has its key.
#[derive(Debug)]
struct TrustsEverything(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsEverything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
