//! What kind of address an address is. What is not a public one is in a table here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Why an address is not a public one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It tells a cloud's machines who they are, and often their passwords.
    Metadata,
    /// It is no address of anybody, such as `0.0.0.0`. Many systems take it for their own.
    Unspecified,
    /// It is this machine.
    Loopback,
    /// It is a private network's, such as `10.0.0.0/8` or `fc00::/7`.
    Private,
    /// It is a network behind a carrier or inside a cloud, `100.64.0.0/10`.
    Shared,
    /// It is the same cable's, such as `169.254.0.0/16` or `fe80::/10`.
    LinkLocal,
    /// It is many machines'.
    Multicast,
    /// It is for examples, tests, or a use that nobody has found.
    Reserved,
    /// It leads to an IPv4 address by a way that is out of use, such as `2002::/16`.
    Transition,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "a cloud's metadata address",
            Self::Unspecified => "no machine's address",
            Self::Loopback => "this machine's own address",
            Self::Private => "a private address",
            Self::Shared => "an address of a carrier's or a cloud's inner network",
            Self::LinkLocal => "a link-local address",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
            Self::Transition => "an address that leads to IPv4 by a way out of use",
        })
    }
}

/// The address that is reached: the IPv4 address where an IPv6 address only wraps one, as behind NAT64.
pub(crate) fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(wrapped) if NAT64.contains(&wrapped) => {
            let [.., a, b, c, d] = wrapped.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        other => other,
    }
}

/// Why an address is not a public one; `None` if it is.
pub(crate) fn kind_of(address: IpAddr) -> Option<Kind> {
    let address = reached(address);
    if METADATA.contains(&address) {
        return Some(Kind::Metadata);
    }
    match address {
        IpAddr::V4(address) => V4.iter().find(|(network, _)| network.contains(&address)).map(|(_, kind)| *kind),
        IpAddr::V6(address) => {
            let listed = V6.iter().find(|(network, _)| network.contains(&address)).map(|(_, kind)| *kind);
            listed.or_else(|| (!GLOBAL.contains(&address)).then_some(Kind::Reserved))
        }
    }
}

/// Where clouds tell machines about themselves: AWS, Google and most others; Alibaba Cloud; AWS over IPv6; Azure's
/// agent, which has a public address.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Source: IANA IPv4 Special-Purpose Address Registry, but for what it says is globally reachable.
const V4: &[(Ipv4Net, Kind)] = &[
    (v4([0, 0, 0, 0], 8), Kind::Unspecified),
    (v4([10, 0, 0, 0], 8), Kind::Private),
    (v4([100, 64, 0, 0], 10), Kind::Shared),
    (v4([127, 0, 0, 0], 8), Kind::Loopback),
    (v4([169, 254, 0, 0], 16), Kind::LinkLocal),
    (v4([172, 16, 0, 0], 12), Kind::Private),
    (v4([192, 0, 0, 0], 24), Kind::Reserved),
    (v4([192, 0, 2, 0], 24), Kind::Reserved),
    (v4([192, 88, 99, 0], 24), Kind::Transition),
    (v4([192, 168, 0, 0], 16), Kind::Private),
    (v4([198, 18, 0, 0], 15), Kind::Reserved),
    (v4([198, 51, 100, 0], 24), Kind::Reserved),
    (v4([203, 0, 113, 0], 24), Kind::Reserved),
    (v4([224, 0, 0, 0], 4), Kind::Multicast),
    (v4([240, 0, 0, 0], 4), Kind::Reserved),
];

/// Where IPv6 addresses that are anybody's public ones come from so far.
const GLOBAL: Ipv6Net = v6([0x2000, 0, 0, 0], 3);
/// IPv4 addresses as a translator shows them to networks that have IPv6 only (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);

/// Source: IANA IPv6 Special-Purpose Address Registry.
const V6: &[(Ipv6Net, Kind)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), Kind::Loopback),
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), Kind::Unspecified),
    // `::10.0.0.1`, "IPv4-compatible".
    (v6([0, 0, 0, 0], 96), Kind::Transition),
    (v6([0x64, 0xff9b, 1, 0], 48), Kind::Private),
    // Teredo is in 2001::/32, 6to4 is 2002::/16.
    (v6([0x2001, 0, 0, 0], 32), Kind::Transition),
    (v6([0x2001, 0, 0, 0], 23), Kind::Reserved),
    (v6([0x2001, 0xdb8, 0, 0], 32), Kind::Reserved),
    (v6([0x2002, 0, 0, 0], 16), Kind::Transition),
    (v6([0x3fff, 0, 0, 0], 20), Kind::Reserved),
    (v6([0xfc00, 0, 0, 0], 7), Kind::Private),
    (v6([0xfe80, 0, 0, 0], 10), Kind::LinkLocal),
    // "Site-local", given up, and still routed inside some sites.
    (v6([0xfec0, 0, 0, 0], 10), Kind::Private),
    (v6([0xff00, 0, 0, 0], 8), Kind::Multicast),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d]: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Option<Kind>, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(kind_of(address.parse().unwrap()), kind, "{address}");
        }
    }

    #[test]
    fn every_address_that_is_not_public_is_known_as_what_it_is() {
        check(Some(Kind::Unspecified), &["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"]);
        check(Some(Kind::Loopback), &["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]);
        check(Some(Kind::Private), &["10.0.0.0", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"]);
        check(Some(Kind::Private), &["fc00::1", "fdff:ffff::1", "fec0::1", "64:ff9b:1::1", "::ffff:10.0.0.1"]);
        check(Some(Kind::Private), &["64:ff9b::10.0.0.1", "64:ff9b::192.168.1.1"]);
        check(Some(Kind::Shared), &["100.64.0.0", "100.127.255.255", "::ffff:100.100.2.136"]);
        check(Some(Kind::LinkLocal), &["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "::ffff:169.254.1.1"]);
        check(Some(Kind::Metadata), &["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"]);
        check(Some(Kind::Metadata), &["168.63.129.16", "::ffff:100.100.100.200", "64:ff9b::169.254.169.254"]);
        check(Some(Kind::Multicast), &["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"]);
        check(Some(Kind::Reserved), &["192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1"]);
        check(Some(Kind::Reserved), &["203.0.113.1", "240.0.0.1", "255.255.255.255", "2001:db8::1", "3fff::1"]);
        check(Some(Kind::Reserved), &["2001:10::1", "2001:2::1", "100::1", "4000::1", "5f00::1", "1::1"]);
        check(Some(Kind::Transition), &["::10.0.0.1", "::8.8.8.8", "2002:a00:1::", "2002:808:808::1", "2001::1"]);
        check(Some(Kind::Transition), &["192.88.99.1"]);
    }

    #[test]
    fn public_addresses_are_public_also_behind_nat64() {
        check(None, &["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"]);
        check(None, &["126.255.255.255", "128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0"]);
        check(None, &["192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"]);
        check(None, &["2400:3200::1", "2606:4700:4700::1111", "2001:200::1", "2a00::1"]);
        check(None, &["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]);
    }
}
