//! Which addresses may be called.

use std::net::IpAddr;

use crate::address::{kind_of, reached};
use crate::{Endpoint, Kind, Network};

/// Admits public addresses, and of the others those that were allowed.
///
/// Whoever can choose a URL, or what a name resolves to, must not thereby reach what only this machine reaches.
/// A metadata address is admitted only where it was allowed by itself, not as part of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    allowed: Vec<Network>,
}

/// An address that may not be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {kind}, and is not allowed. Add it to `allow_networks` if it may be")]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// Why it is not a public one.
    pub kind: Kind,
}

impl Guard {
    /// A guard that admits these networks beside the public addresses.
    #[must_use]
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { allowed }
    }

    /// Says whether an address may be called.
    ///
    /// # Errors
    /// If it is not a public one, and not allowed.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        let Some(kind) = kind_of(address) else { return Ok(()) };
        let reached = reached(address);
        let is_allowed = self.allowed.iter().any(|network| {
            (network.contains(address) || network.contains(reached)) && (kind != Kind::Metadata || network.is_single())
        });
        if is_allowed { Ok(()) } else { Err(Refused { address, kind }) }
    }

    /// Says whether an endpoint may be called whose URL has an address for a host. A name's addresses are checked when
    /// it is connected to.
    ///
    /// # Errors
    /// If the address may not be called.
    pub fn check_endpoint(&self, endpoint: &Endpoint) -> Result<(), Refused> {
        endpoint.address().map_or(Ok(()), |address| self.check(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        Guard::new(allowed.iter().map(|network| network.parse().unwrap()).collect())
    }

    #[track_caller]
    fn check(guard: &Guard, address: &str, admitted: bool) {
        assert_eq!(guard.check(address.parse().unwrap()).is_ok(), admitted, "{address} by {guard:?}");
    }

    #[test]
    fn what_is_allowed_is_admitted_in_every_form_and_nothing_beside_it() {
        let guard = guard(&["10.1.0.0/16", "fd00:1::/32"]);
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00:1::1", "8.8.8.8"] {
            check(&guard, address, true);
        }
        for address in ["10.2.0.1", "::ffff:10.2.0.1", "127.0.0.1", "fd00:2::1", "::10.1.2.3", "2002:a01:203::"] {
            check(&guard, address, false);
        }
    }

    #[test]
    fn metadata_is_admitted_only_where_it_is_named_by_itself() {
        let wide = guard(&["0.0.0.0/0", "::/0", "169.254.169.254/31"]);
        for address in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "::ffff:100.100.100.200"] {
            check(&wide, address, false);
        }
        check(&wide, "100.100.2.136", true);
        check(&guard(&["100.100.100.200"]), "100.100.100.200", true);
    }
}
