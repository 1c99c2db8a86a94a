//! Networks of addresses, as in `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A network of addresses, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// Text that names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// It has another form.
    #[error(
        "{0:?} is no network: write an address, such as `10.1.2.3`, or one with a prefix, such as `10.0.0.0/8` or `fd00::/8`"
    )]
    Form(String),
    /// It has bits behind the prefix, so that somebody may have meant another one.
    #[error(
        "{text:?} has bits set behind its prefix: write `{network}` for the network, or `{address}` for the address"
    )]
    HostBits {
        /// As it was written.
        text: String,
        /// The network that it is in.
        network: IpNet,
        /// The address that it names.
        address: IpAddr,
    },
}

impl Network {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    pub(crate) fn is_single(&self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let is_plain = |network: &IpNet| network.addr().to_canonical() == network.addr();
        let network = network.filter(is_plain).ok_or_else(|| InvalidNetwork::Form(text.to_owned()))?;
        if network.trunc() != network {
            let (text, address) = (text.to_owned(), network.addr());
            return Err(InvalidNetwork::HostBits { text, network: network.trunc(), address });
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_address_or_one_with_an_exact_prefix() {
        for (text, shown) in [("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32"), ("fd00::/8", "fd00::/8")] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        }
        for wrong in ["", "10", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/", "fd00::1/8", "::ffff:10.0.0.0/104", "a/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong:?}");
        }
        let error = "127.0.0.1/8".parse::<Network>().unwrap_err().to_string();
        assert!(error.contains("write `127.0.0.0/8` for the network, or `127.0.0.1` for the address"), "{error}");
    }
}
