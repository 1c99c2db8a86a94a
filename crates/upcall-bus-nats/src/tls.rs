//! TLS with certificates that can be exchanged: each connection is made with those that hold then.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore, SignatureScheme};

/// How the connection is encrypted. A `tls://` URL alone encrypts, too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Whether a server that does not encrypt is refused.
    pub required: bool,
    /// Authorities that the server's certificate may come from, beside the machine's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Our certificate, where the server asks for one.
    pub identity: Option<Identity>,
}

/// A certificate of ours, with its chain and its key.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

/// What is no certificate with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// The certificate is none.
    #[error("holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)")]
    Certificate,
    /// The key is none, or of a kind that we can't sign with.
    #[error("holds no private key in PEM (`-----BEGIN PRIVATE KEY-----`) that can be used")]
    Key,
    /// The key is another certificate's.
    #[error("holds the private key of another certificate")]
    Mismatch,
}

impl Identity {
    /// Reads a certificate, with what its chain has besides, and its private key from PEM.
    ///
    /// # Errors
    /// If one of them is none, or they don't belong together.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, InvalidIdentity> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(InvalidIdentity::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| InvalidIdentity::Key)?;
        let key = ring::default_provider().key_provider.load_private_key(key).map_err(|_| InvalidIdentity::Key)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // A key that does not tell what it belongs to is believed.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Self(certified.into())),
            Err(Error::InconsistentKeys(_)) => Err(InvalidIdentity::Mismatch),
            Err(_) => Err(InvalidIdentity::Certificate),
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The certificates that hold, asked at each connection. A clone is the same.
#[derive(Clone)]
pub(crate) struct Certificates(Arc<Asked>);

struct Asked {
    provider: Arc<CryptoProvider>,
    held: Mutex<Held>,
}

struct Held {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    /// Made when it is first needed: most servers are spoken to in the clear, and the machine's authorities are many.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl Certificates {
    pub(crate) fn new(tls: &Tls) -> Self {
        let provider = Arc::new(ring::default_provider());
        Self(Arc::new(Asked { provider, held: Mutex::new(Held::of(tls)) }))
    }

    /// Has the next connection be made with others.
    pub(crate) fn renew(&self, tls: &Tls) {
        *self.0.lock() = Held::of(tls);
    }

    /// How connections are encrypted.
    pub(crate) fn config(&self) -> Result<ClientConfig, Error> {
        let versions =
            ClientConfig::builder_with_provider(Arc::clone(&self.0.provider)).with_safe_default_protocol_versions()?;
        // It is rustls's own verifier that is asked; which authorities it goes by is looked up each time.
        let verified = versions.dangerous().with_custom_certificate_verifier(Arc::clone(&self.0) as _);
        let mut config = verified.with_client_cert_resolver(Arc::clone(&self.0) as _);
        // A session that is gone on with would ask for neither again.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl Held {
    fn of(tls: &Tls) -> Self {
        Self { authorities: tls.authorities.clone(), identity: tls.identity.clone(), verifier: None }
    }
}

impl Asked {
    fn verifier(&self) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let mut held = self.lock();
        if let Some(verifier) = &held.verifier {
            return Ok(Arc::clone(verifier));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for authority in &held.authorities {
            roots.add(authority.clone())?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&self.provider)).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        held.verifier = Some(Arc::clone(&verifier));
        Ok(verifier)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for Asked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.lock().identity.as_ref().map(|Identity(certified)| Arc::clone(certified))
    }

    fn has_certs(&self) -> bool {
        self.lock().identity.is_some()
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}
