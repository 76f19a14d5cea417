//! The sender's address against a list of networks.

use ipnet::IpNet;

use crate::gate::delivery::{Client, contains};
use crate::gate::reason::Reason;

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

/// Whether a list that is read again has lost so much that a fault is likelier than a change:
/// an export that failed, a file that was cut short. Counted in networks.
pub fn is_cut_short(before: usize, after: usize) -> bool {
    const FEW: usize = 4;
    let lost = before.saturating_sub(after);
    lost > 0 && (after == 0 || (lost >= FEW && after * 2 < before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_shrinks_is_told_from_one_that_is_cut_short() {
        for (before, after, cut) in [
            (0, 0, false),
            (0, 9, false),
            (9, 9, false),
            (1, 0, true),
            (9, 0, true),
            (9, 5, false),
            (9, 4, true),
            (8, 4, false),
            (7, 3, true),
            (5, 2, false),
            (4, 1, false),
            (1000, 499, true),
        ] {
            assert_eq!(is_cut_short(before, after), cut, "from {before} to {after}");
        }
    }

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
