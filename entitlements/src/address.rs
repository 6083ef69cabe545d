//! Networks of addresses: those that are blocked, with a reason, and those whose word about a client's address is believed.

use std::net::IpAddr;

use ipnet::IpNet;

/// Addresses and ranges that may not come in. A lookup costs a step for each length of prefix that occurs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressBlocks {
    /// Sorted; of one network the last reason counts.
    networks: Vec<(IpNet, Box<str>)>,
    /// The lengths of prefix that occur, longest first, for IPv4 and IPv6.
    lengths: [Vec<u8>; 2],
}

/// The text is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address or network: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
pub struct NetworkError {
    pub text: String,
}

/// Reads an address or a network; bits beyond its length are dropped, and IPv4 in IPv6 form is IPv4.
///
/// # Errors
/// [`NetworkError`] for any other text.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let text = text.trim();
    let network = match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address.to_canonical())),
        Err(_) => text.parse::<IpNet>().ok().map(|network| match network {
            IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
                let v4 = v6.addr().to_ipv4_mapped().expect("Invariant: looked at in the guard");
                IpNet::new(v4.into(), v6.prefix_len() - 96).expect("Invariant: at most 32 bits are left")
            }
            other => other.trunc(),
        }),
    };
    network.map(|network| network.trunc()).ok_or_else(|| NetworkError { text: text.chars().take(64).collect() })
}

impl AddressBlocks {
    /// The blocks of these networks and reasons.
    pub fn new(blocks: impl IntoIterator<Item = (IpNet, Box<str>)>) -> AddressBlocks {
        let mut networks: Vec<(IpNet, Box<str>)> = blocks.into_iter().map(|(net, why)| (net.trunc(), why)).collect();
        networks.sort_by_key(|(network, _)| *network);
        networks.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(&mut later.1, &mut earlier.1);
            }
            same
        });
        let lengths = [true, false].map(|v4| {
            let of_kind = networks.iter().filter(|(network, _)| matches!(network, IpNet::V4(_)) == v4);
            let mut lengths: Vec<u8> = of_kind.map(|(network, _)| network.prefix_len()).collect();
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
            lengths
        });
        AddressBlocks { networks, lengths }
    }

    /// These and others; of one network the other's reason counts.
    pub fn with(&self, others: AddressBlocks) -> AddressBlocks {
        AddressBlocks::new(self.networks.iter().cloned().chain(others.networks))
    }

    /// Why `address` is blocked, if it is: the reason of the narrowest network that holds it.
    pub fn reason(&self, address: IpAddr) -> Option<&str> {
        let address = address.to_canonical();
        self.lengths[usize::from(address.is_ipv6())].iter().find_map(|length| {
            let network = IpNet::new(address, *length).ok()?.trunc();
            let found = self.networks.binary_search_by_key(&network, |(network, _)| *network).ok()?;
            Some(&*self.networks[found].1)
        })
    }

    pub fn len(&self) -> usize {
        self.networks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

/// Proxies in front of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
}

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> TrustedProxies {
        TrustedProxies { networks }
    }

    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client's address, given who connected and the `X-Forwarded-For` lines of the request, in order. Each proxy adds
    /// at the end whom it was asked by, so the last address that is no proxy of ours is the client; what stands before it
    /// anybody may have written. Something that is no address ends the search at the last proxy that spoke.
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        for entry in forwarded.rev().flat_map(|line| line.rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            match parse_forwarded(entry.trim()) {
                Some(address) => client = address.to_canonical(),
                None => break,
            }
        }
        client
    }
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1` or `[2001:db8::1]:443`.
fn parse_forwarded(entry: &str) -> Option<IpAddr> {
    let with_port = || Some(entry.parse::<std::net::SocketAddr>().ok()?.ip());
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    entry.parse().ok().or_else(with_port).or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        parse_network(text).unwrap()
    }

    #[test]
    fn the_narrowest_network_says_why() {
        let blocks = AddressBlocks::new(
            [
                ("192.0.2.7", "scraper"),
                ("192.0.2.0/24", "abuse"),
                ("192.0.2.0/24", "abuse, again"),
                ("::ffff:198.51.100.0/120", "mapped"),
                ("2001:db8::/32", "documentation"),
            ]
            .map(|(network, why)| (net(network), why.into())),
        );
        assert_eq!(blocks.len(), 4);
        for (address, reason) in [
            ("192.0.2.7", Some("scraper")),
            ("::ffff:192.0.2.7", Some("scraper")),
            ("192.0.2.8", Some("abuse, again")),
            ("192.0.3.7", None),
            ("198.51.100.255", Some("mapped")),
            ("2001:db8:1::1", Some("documentation")),
            ("2001:db9::1", None),
            ("::1", None),
        ] {
            assert_eq!(blocks.reason(address.parse().unwrap()), reason, "{address}");
        }
        assert!(AddressBlocks::new([(net("0.0.0.0/0"), "all".into())]).reason("8.8.8.8".parse().unwrap()).is_some());
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "localhost", "192.0.2", "192.0.2.0/33", "192.0.2.0/-1", "2001:db8::/129", "1.2.3.4/a"] {
            assert!(parse_network(text).is_err(), "{text}");
        }
        assert_eq!(net(" 192.0.2.9/24 ").to_string(), "192.0.2.0/24");
    }

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], client: &str) {
        let proxies = TrustedProxies::new(vec![net("10.0.0.0/8"), net("127.0.0.1")]);
        let found = proxies.client(peer.parse().unwrap(), forwarded.iter().copied());
        assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {forwarded:?}");
    }

    #[test]
    fn only_proxies_are_believed() {
        check("203.0.113.9", &["198.51.100.1"], "203.0.113.9");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("::ffff:10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1");
        // What stands before the last stranger is the stranger's own claim.
        check("10.0.0.1", &["127.0.0.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["192.0.2.1", "198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &["spoofed, 198.51.100.1, nonsense, 10.0.0.2"], "10.0.0.2");
        check("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1");
        check("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1");
        check("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3");
    }
}
