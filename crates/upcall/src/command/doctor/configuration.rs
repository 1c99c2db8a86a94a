//! The configuration, seen by what it allows.

use std::net::IpAddr;

use upcall_bus_nats::examine::Finding;

use super::kinds;
use crate::config::Outline;

pub(super) fn examine(config: &Outline) -> Vec<Finding> {
    let mut found = Vec::new();
    let admin = config.admin;
    if is_open(admin.ip()) {
        // There, Prometheus comes from another address.
        let kind = if is_in_pod() { &kinds::ADMIN_IN_POD } else { &kinds::ADMIN_OPEN };
        found.push(kind.found(format!("`gateway.admin` is {admin}")));
    }
    for policy in &config.routes {
        let place = format!("route {}", policy.name());
        if policy.bucket_from_header() {
            found.push(kinds::BUCKET_FROM_HEADER.found(format!("{place} has `bucket_from_header`")));
        }
        if policy.demands().next().is_none() {
            found.push(kinds::SIGNATURE_ONLY.found(format!("{place} demands the signature only")));
        }
        if policy.buckets().is_empty() {
            found.push(kinds::ANY_BUCKET.found(format!("{place} names no `buckets`")));
        }
    }
    if config.fetches_keys {
        found.push(kinds::KEYS_FETCHED.found("`keys.fetch` is on"));
    }
    found
}

/// Whether this runs in a pod of Kubernetes, which tells each of its containers so.
fn is_in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Whether strangers may reach an address, as far as it tells.
fn is_open(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !(address.is_loopback() || address.is_private() || address.is_link_local()),
        IpAddr::V6(address) => !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_open;

    #[test]
    fn an_address_is_open_that_strangers_may_reach() {
        for open in ["0.0.0.0", "::", "203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7"] {
            assert!(is_open(open.parse().unwrap()), "{open}");
        }
        for closed in ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "fd00::1", "fe80::1", "::ffff:127.0.0.1"] {
            assert!(!is_open(closed.parse().unwrap()), "{closed}");
        }
    }
}
