//! Which addresses may be told something: none inside, unless the settings say so.
//!
//! A name is resolved once, all its addresses are checked, and the connection goes to exactly those.
//! Checking a name and then connecting to it would resolve it twice, and whoever owns the name
//! could answer differently the second time.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::DeliveryError;

/// The addresses of a host, if all may be connected to.
pub(crate) async fn resolve(
    host: &str,
    port: u16,
    allow_internal: bool,
) -> Result<Vec<SocketAddr>, DeliveryError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => tokio::net::lookup_host((host, port))
            .await
            .map_err(|e| DeliveryError::Unresolved { host: host.to_owned(), why: e.to_string() })?
            .collect(),
    };
    if found.is_empty() {
        return Err(DeliveryError::Unresolved { host: host.to_owned(), why: "it has no address".to_owned() });
    }
    match found.iter().find(|addr| !allow_internal && is_internal(addr.ip())) {
        Some(inside) => Err(DeliveryError::Internal { host: host.to_owned(), ip: inside.ip() }),
        None => Ok(found),
    }
}

/// The HTTP client's resolver. A literal address never comes here: see [`crate::http`].
pub(crate) struct Guard {
    pub(crate) allow_internal: bool,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_internal = self.allow_internal;
        Box::pin(async move {
            // Port 0 stands for the scheme's own.
            let addresses = resolve(name.as_str(), 0, allow_internal).await.map_err(Blocked)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Carries our error through the HTTP client's.
#[derive(Debug)]
pub(crate) struct Blocked(pub(crate) DeliveryError);

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Blocked {}

/// Whether an address lies inside: this machine, its networks, a provider's metadata service, or
/// anything else that no public receiver has.
pub(crate) fn is_internal(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_internal_v4(ip),
        IpAddr::V6(ip) => is_internal_v6(ip),
    }
}

fn is_internal_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        // "This network", and what is reserved.
        || a == 0
        || a >= 240
        // Carrier-grade NAT (RFC 6598); one provider has its metadata there.
        || (a == 100 && (64..128).contains(&b))
        // Protocol assignments and benchmarking.
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        // A public address at which a provider's virtual machines find their host.
        || ip == Ipv4Addr::new(168, 63, 129, 16)
}

fn is_internal_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let embedded =
        |high: u16, low: u16| is_internal_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
        // Site-local, documentation, discard.
        || (s[0] & 0xffc0) == 0xfec0
        || (s[0] == 0x2001 && s[1] == 0x0db8)
        || (s[0] == 0x0100 && s[1] == 0)
        // An IPv4 address in other clothes: compatible, NAT64 (and its local prefix), 6to4; and Teredo.
        || (s[..6] == [0; 6] && embedded(s[6], s[7]))
        || (s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] && embedded(s[6], s[7]))
        || (s[..3] == [0x64, 0xff9b, 1])
        || (s[0] == 0x2002 && embedded(s[1], s[2]))
        || (s[0] == 0x2001 && s[1] == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_and_outside() {
        let inside = [
            "0.0.0.0",
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "168.63.129.16",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.7",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "100::1",
        ];
        for ip in inside {
            assert!(is_internal(ip.parse().expect(ip)), "{ip}");
        }
        let outside = [
            "1.1.1.1",
            "9.9.9.9",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "::ffff:1.1.1.1",
        ];
        for ip in outside {
            assert!(!is_internal(ip.parse().expect(ip)), "{ip}");
        }
    }

    #[tokio::test]
    async fn a_name_is_refused_for_any_inside_address() {
        let refused = resolve("localhost", 25, false).await.expect_err("this machine");
        assert!(matches!(refused, DeliveryError::Internal { .. }), "{refused}");
        let allowed = resolve("localhost", 25, true).await.expect("allowed");
        assert!(allowed.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 25), "{allowed:?}");
        let literal = resolve("[::1]", 25, false).await.expect_err("this machine");
        assert!(matches!(literal, DeliveryError::Internal { .. }), "{literal}");
        let nowhere = resolve("no-such-host.invalid", 25, true).await.expect_err("no address");
        assert!(matches!(nowhere, DeliveryError::Unresolved { .. }), "{nowhere}");
    }
}
