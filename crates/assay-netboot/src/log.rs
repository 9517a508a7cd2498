//! Reads dnsmasq's log, the only channel on which it says what it did.
//!
//! A machine's own words (host name, vendor class) also reach this log, always behind a transaction number and a
//! label; so only the start of a line decides what it is.

use std::net::Ipv4Addr;

use assay_model::Mac;

/// A line that means something to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogLine<'a> {
    /// The list of machines was read; the argument is the file.
    HostsRead(&'a str),
    Discover(Mac),
    Offered(Mac, Ipv4Addr),
    Leased(Mac, Ipv4Addr),
    TftpSent(&'a str, Ipv4Addr),
    TftpMissing(&'a str, Ipv4Addr),
    /// A UDP port could not be opened.
    PortTaken {
        dhcp: bool,
    },
}

/// `None` for a line that means nothing to us.
pub(crate) fn parse(line: &str) -> Option<LogLine<'_>> {
    let (from, said) = line.split_once(": ")?;
    let said = said.trim_end();
    match from.split('[').next()? {
        "dnsmasq-dhcp" => dhcp(said),
        "dnsmasq-tftp" => tftp(said),
        "dnsmasq" if said.ends_with("Address already in use") => {
            Some(LogLine::PortTaken { dhcp: said.contains("DHCP server socket") })
        }
        _ => None,
    }
}

fn dhcp(said: &str) -> Option<LogLine<'_>> {
    if let Some(file) = said.strip_prefix("read ") {
        return Some(LogLine::HostsRead(file));
    }
    // "4013107218 DHCPOFFER(eth0) 10.77.0.132 fa:87:7c:2f:a0:ea host": the address is absent from a discovery that
    // asks for none, and nothing is certain behind the MAC.
    let (number, rest) = said.split_once(' ')?;
    number.parse::<u32>().ok()?;
    let mut words = rest.split_ascii_whitespace();
    let kind = words.next()?.split('(').next()?;
    let second = words.next()?;
    let (address, mac) = match second.parse::<Ipv4Addr>() {
        Ok(address) => (Some(address), words.next()?),
        Err(_) => (None, second),
    };
    let mac = mac.parse().ok()?;
    match (kind, address) {
        // A proxy notes those that it answers, and those that it does not, in the same way.
        ("DHCPDISCOVER" | "PXE", _) => Some(LogLine::Discover(mac)),
        ("DHCPOFFER", Some(address)) => Some(LogLine::Offered(mac, address)),
        ("DHCPACK", Some(address)) => Some(LogLine::Leased(mac, address)),
        _ => None,
    }
}

fn tftp(said: &str) -> Option<LogLine<'_>> {
    if let Some(rest) = said.strip_prefix("sent ") {
        let (file, address) = rest.rsplit_once(" to ")?;
        return Some(LogLine::TftpSent(file, address.parse().ok()?));
    }
    let (file, address) = said.strip_prefix("file ")?.rsplit_once(" not found for ")?;
    Some(LogLine::TftpMissing(file, address.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{LogLine, parse};

    #[test]
    fn what_dnsmasq_2_90_prints() {
        let mac = "fa:87:7c:2f:a0:ea".parse().expect("a MAC");
        let ip = "10.77.0.132".parse().expect("an address");
        for (line, means) in [
            ("dnsmasq-dhcp[15]: read /s/dnsmasq.hosts", Some(LogLine::HostsRead("/s/dnsmasq.hosts"))),
            ("dnsmasq-dhcp[15]: 30 DHCPDISCOVER(nbs0) fa:87:7c:2f:a0:ea ", Some(LogLine::Discover(mac))),
            (
                "dnsmasq-dhcp[15]: 30 DHCPDISCOVER(nbs0) 10.77.0.132 fa:87:7c:2f:a0:ea ",
                Some(LogLine::Discover(mac)),
            ),
            (
                "dnsmasq-dhcp[15]: 30 DHCPDISCOVER(b) fa:87:7c:2f:a0:ea no address available",
                Some(LogLine::Discover(mac)),
            ),
            ("dnsmasq-dhcp[15]: 30 PXE(nbs0) fa:87:7c:2f:a0:ea proxy", Some(LogLine::Discover(mac))),
            ("dnsmasq-dhcp[15]: 30 PXE(nbs0) fa:87:7c:2f:a0:ea proxy-ignored", Some(LogLine::Discover(mac))),
            (
                "dnsmasq-dhcp[15]: 30 DHCPOFFER(nbs0) 10.77.0.132 fa:87:7c:2f:a0:ea ",
                Some(LogLine::Offered(mac, ip)),
            ),
            (
                "dnsmasq-dhcp[15]: 30 DHCPACK(nbs0) 10.77.0.132 fa:87:7c:2f:a0:ea node1",
                Some(LogLine::Leased(mac, ip)),
            ),
            ("dnsmasq-dhcp[15]: 30 DHCPNAK(nbs0) 10.77.0.132 fa:87:7c:2f:a0:ea wrong network", None),
            ("dnsmasq-dhcp[15]: 30 tags: known, efi64, nbs0", None),
            (
                "dnsmasq-tftp[15]: sent /usr/lib/ipxe/undionly.kpxe to 10.77.0.132",
                Some(LogLine::TftpSent("/usr/lib/ipxe/undionly.kpxe", ip)),
            ),
            (
                "dnsmasq-tftp[15]: file /t/a to b not found for 10.77.0.132",
                Some(LogLine::TftpMissing("/t/a to b", ip)),
            ),
            (
                "dnsmasq: failed to bind DHCP server socket: Address already in use",
                Some(LogLine::PortTaken { dhcp: true }),
            ),
            (
                "dnsmasq: failed to create listening socket for 10.77.0.1: Address already in use",
                Some(LogLine::PortTaken { dhcp: false }),
            ),
            ("dnsmasq[15]: started, version 2.90 DNS disabled", None),
            ("", None),
        ] {
            assert_eq!(parse(line), means, "{line}");
        }
    }

    #[test]
    fn a_machine_cannot_forge_a_line_with_its_own_words() {
        for line in [
            "dnsmasq-dhcp[15]: 30 vendor class: read /s/dnsmasq.hosts",
            "dnsmasq-dhcp[15]: 30 client provides name: DHCPACK(b) 10.77.0.1 fa:87:7c:2f:a0:ea",
            "dnsmasq-dhcp[15]: 30 user class: 31 DHCPOFFER(b) 10.77.0.1 fa:87:7c:2f:a0:ea",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
