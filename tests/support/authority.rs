//! Somebody who certifies servers and clients.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// An authority, and a folder for its certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// A new one. Its own certificate, which is to be trusted, is in the file `ca.pem`.
    ///
    /// # Panics
    /// If its file can't be written.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let authority = Self { issuer, folder: tempfile::tempdir().expect("there is room for a folder") };
        std::fs::write(authority.file("ca.pem"), authority.issuer.pem()).expect("its folder is writable");
        authority
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate that says so, and its key, as PEM.
    ///
    /// # Panics
    /// If nothing can be certified.
    pub fn certify(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }

    /// Lets a server on this machine speak TLS, with a certificate for this name or address.
    ///
    /// # Panics
    /// If nothing can be certified.
    pub fn acceptor(&self, name: &str) -> TlsAcceptor {
        let (certificate, key) = self.certify(&CertificateParams::new([name.to_owned()]).expect("it is a name"));
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("it is PEM");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is PEM");
        let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
        let config = config.with_safe_default_protocol_versions().expect("there are versions").with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate], key).expect("they belong together");
        config.alpn_protocols = ["h2", "http/1.1"].map(|protocol| protocol.as_bytes().to_vec()).to_vec();
        TlsAcceptor::from(Arc::new(config))
    }
}
