//! The URLs that OSS calls.

use std::net::{IpAddr, Ipv4Addr};

use super::ParameterError;

/// A URL to call, kept as it was written: its path and query go out untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackUrl {
    text: String,
    https: bool,
    authority: String,
    host: String,
    port: u16,
    target: String,
}

impl CallbackUrl {
    /// Reads a URL. The scheme may be absent; then it is http.
    ///
    /// # Errors
    /// [`ParameterError::Url`] if it is none that OSS can call.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        let (https, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((before, _)) if before.contains(['/', '?']) => (false, text),
            Some(_) => return Err(ParameterError::Url),
            None => (false, text),
        };
        let authority_length = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(authority_length);
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (host, port) = split_port(authority, https)?;
        let sendable = |text: &str| !text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || b"#;".contains(&byte));
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte) || byte >= 0x80;
        if host.is_empty() || !host.bytes().all(is_host) || !sendable(&target) {
            return Err(ParameterError::Url);
        }
        let (authority, host) = (authority.to_owned(), host.to_owned());
        Ok(Self { text: text.to_owned(), https, authority, host, port, target })
    }

    /// The URL as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is called by https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Host and, if written, port: what goes into the Host header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host's name or IPv4 address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: as written, or the scheme's.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, raw, as they go onto the wire and into the signature.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }
}

fn split_port(authority: &str, https: bool) -> Result<(&str, u16), ParameterError> {
    match authority.rsplit_once(':') {
        None => Ok((authority, if https { 443 } else { 80 })),
        Some((host, port)) => match port.parse() {
            Ok(number) if number != 0 && !port.starts_with('+') => Ok((host, number)),
            _ => Err(ParameterError::Url),
        },
    }
}

/// Whether OSS refuses to call an address: it is not a public IPv4 address.
#[must_use]
pub fn is_private_address(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return true };
    let [first, second, ..] = address.octets();
    let shared = first == 100 && (64..128).contains(&second);
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || shared
        || first == 0
        || address == Ipv4Addr::BROADCAST
}
