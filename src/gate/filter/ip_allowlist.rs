//! The sender's address against a list of networks.

use ipnet::IpNet;

use crate::gate::answer::Reason;
use crate::gate::delivery::{Client, contains};

/// Who may send. An empty list of networks lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpAllowlist {
    Any,
    Networks(Vec<IpNet>),
}

impl IpAllowlist {
    /// Overlapping and adjacent networks are merged, so that the scan is short.
    pub fn networks(networks: &[IpNet]) -> Self {
        IpAllowlist::Networks(IpNet::aggregate(&networks.to_vec()))
    }

    pub fn check(&self, client: Client) -> Result<(), Reason> {
        match (self, client) {
            (IpAllowlist::Any, _) => Ok(()),
            (IpAllowlist::Networks(list), Client::Known(address)) if contains(list, address) => Ok(()),
            (IpAllowlist::Networks(_), Client::Known(_) | Client::Unknown) => Err(Reason::AddressDenied),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_networks_may_send() {
        let list =
            IpAllowlist::networks(&["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        let check = |ip: &str| list.check(Client::Known(ip.parse().unwrap()));
        for inside in ["192.0.2.0", "192.0.2.255", "::ffff:192.0.2.1", "2001:db8::1"] {
            assert_eq!(check(inside), Ok(()), "{inside}");
        }
        for outside in ["192.0.1.255", "192.0.3.0", "2001:db9::1", "::1"] {
            assert_eq!(check(outside), Err(Reason::AddressDenied), "{outside}");
        }
        assert_eq!(list.check(Client::Unknown), Err(Reason::AddressDenied));
        assert_eq!(IpAllowlist::Any.check(Client::Unknown), Ok(()));
        assert_eq!(
            IpAllowlist::networks(&[]).check(Client::Known("192.0.2.1".parse().unwrap())),
            Err(Reason::AddressDenied),
            "an empty list lets nobody in"
        );
    }
}
