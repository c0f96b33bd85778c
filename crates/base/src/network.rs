//! Networks, to say which addresses may be dialled.
//!
//! *Knows:* addresses and prefixes. *Does not know:* names, who dials.

use std::{fmt, net::IpAddr, str::FromStr};

/// A network in CIDR notation, for example `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Whether an address lies in it. An IPv4 address that is written as IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Network, &'static str> {
        let unfit = "is not a network such as 10.0.0.0/8";
        let (address, prefix) = text.split_once('/').ok_or(unfit)?;
        let address: IpAddr = address.parse().map_err(|_| unfit)?;
        let prefix: u32 = prefix.parse().map_err(|_| unfit)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest { Err(unfit) } else { Ok(Network { address, prefix }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_inside_or_outside() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("172.16.0.0/12", "172.31.255.255", true),
            ("172.16.0.0/12", "172.32.0.0", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("127.0.0.1/32", "127.0.0.2", false),
            ("::1/128", "::1", true),
            ("fc00::/7", "fdff::1", true),
            ("fc00::/7", "2001:db8::1", false),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network} {address}");
        }
        for unfit in ["10.0.0.0", "10.0.0.0/33", "a/8", "10.0.0.0/-1"] {
            assert!(unfit.parse::<Network>().is_err(), "{unfit}");
        }
    }
}
