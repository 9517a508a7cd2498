//! The egress ledger: every connection and every name that a machine asked for, read off its captured packets.
//!
//! QEMU writes what passes a network card as a pcap file (`filter-dump`). Format: libpcap's, little endian as QEMU
//! writes it, link type Ethernet. Names of questions and addresses are whatever the guest sent: untrusted text.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use assay_model::Mac;
use serde::{Deserialize, Serialize};

/// The most attempts that are told apart; more of them are counted with the last one.
const MAX_ATTEMPTS: usize = 1000;
/// The longest packet that is read.
const MAX_PACKET: u32 = 65_600;

/// What a machine tried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptKind {
    /// It asked a name server for a name.
    Dns {
        /// The name.
        name: String,
        /// The server it asked.
        server: IpAddr,
    },
    /// It opened a TCP connection.
    Tcp {
        /// Where to.
        to: IpAddr,
        /// The port.
        port: u16,
    },
    /// It sent a datagram that is neither DNS nor DHCP.
    Udp {
        /// Where to.
        to: IpAddr,
        /// The port.
        port: u16,
    },
}

/// Something that a machine tried, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What.
    pub what: AttemptKind,
    /// How many packets: connections that are not answered are tried again.
    pub packets: u64,
    /// Whether the other side accepted: a TCP connection was established, a name was answered.
    pub answered: bool,
}

/// Reads the packets in `pcap` that the machine with the address `mac` sent.
///
/// # Errors
/// When the file cannot be read or is no capture. A capture whose end is cut off is read as far as it goes.
pub fn egress(pcap: &Path, mac: Mac) -> io::Result<Vec<Attempt>> {
    read(BufReader::new(File::open(pcap)?), mac)
}

fn read(mut from: impl Read, mac: Mac) -> io::Result<Vec<Attempt>> {
    let mut header = [0; 24];
    from.read_exact(&mut header)?;
    let word = |bytes: &[u8], at: usize| {
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let magic = word(&header, 0);
    if !matches!(magic, 0xA1B2_C3D4 | 0xA1B2_3C4D) || word(&header, 20) != 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a capture of Ethernet packets"));
    }
    let mut ledger: BTreeMap<AttemptKind, (u64, bool)> = BTreeMap::new();
    let mut record = [0; 16];
    let mut packet = Vec::new();
    while from.read_exact(&mut record).is_ok() {
        let length = word(&record, 8);
        if length > MAX_PACKET {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet in the capture is too long"));
        }
        packet.resize(length as usize, 0);
        if from.read_exact(&mut packet).is_err() {
            break;
        }
        let Some(seen) = look(&packet, mac) else { continue };
        match seen {
            Seen::Tried(what) => {
                let room = ledger.len() < MAX_ATTEMPTS;
                match ledger.get_mut(&what) {
                    Some((packets, _)) => *packets += 1,
                    None if room => {
                        ledger.insert(what, (1, false));
                    }
                    None => {}
                }
            }
            Seen::Answered(what) => {
                if let Some((_, answered)) = ledger.get_mut(&what) {
                    *answered = true;
                }
            }
        }
    }
    let attempt = |(what, (packets, answered))| Attempt { what, packets, answered };
    Ok(ledger.into_iter().map(attempt).collect())
}

enum Seen {
    Tried(AttemptKind),
    Answered(AttemptKind),
}

fn look(packet: &[u8], mac: Mac) -> Option<Seen> {
    let sender: [u8; 6] = packet.get(6..12)?.try_into().ok()?;
    let ours = sender == mac.0;
    let kind = u16::from_be_bytes([*packet.get(12)?, *packet.get(13)?]);
    let (protocol, from, to, rest) = match kind {
        0x0800 => ipv4(packet.get(14..)?)?,
        0x86DD => ipv6(packet.get(14..)?)?,
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    let (source, target) = (port(0)?, port(2)?);
    match protocol {
        6 => {
            let flags = *rest.get(13)?;
            let (syn, ack) = (flags & 0x02 != 0, flags & 0x10 != 0);
            match (ours, syn, ack) {
                (true, true, false) => Some(Seen::Tried(AttemptKind::Tcp { to, port: target })),
                (false, true, true) => Some(Seen::Answered(AttemptKind::Tcp { to: from, port: source })),
                _ => None,
            }
        }
        // DHCP, and what finds neighbours and routers, is how a machine gets its address.
        17 if [67, 68, 546, 547].contains(&target) || to.is_multicast() => None,
        17 if target == 53 && ours => {
            Some(Seen::Tried(AttemptKind::Dns { name: question(rest.get(8..)?)?, server: to }))
        }
        17 if source == 53 && !ours => {
            Some(Seen::Answered(AttemptKind::Dns { name: question(rest.get(8..)?)?, server: from }))
        }
        17 if ours && to != IpAddr::V4(Ipv4Addr::BROADCAST) => {
            Some(Seen::Tried(AttemptKind::Udp { to, port: target }))
        }
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    let header = usize::from(packet.first()? & 0x0F) * 4;
    // Only the first piece of a datagram has its ports.
    let piece = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1FFF;
    let address = |at: usize| {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    (header >= 20 && piece == 0).then_some(())?;
    Some((*packet.get(9)?, address(12)?, address(16)?, packet.get(header..)?))
}

fn ipv6(packet: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    let address = |at: usize| {
        let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)))
    };
    Some((*packet.get(6)?, address(8)?, address(24)?, packet.get(40..)?))
}

/// The name in the first question of a DNS message.
fn question(message: &[u8]) -> Option<String> {
    let mut name = String::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            break;
        }
        // A question has no compressed names; 255 bytes is the longest name.
        if length > 63 || name.len() + length > 255 {
            return None;
        }
        let label = message.get(at + 1..at + 1 + length)?;
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '?' }));
        at += 1 + length;
    }
    Some(if name.is_empty() { ".".to_owned() } else { name })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Attempt, AttemptKind, read};

    const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const GATEWAY: [u8; 6] = [0x52, 0x55, 10, 0, 2, 2];

    fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = 0xA1B2_C3D4_u32.to_le_bytes().to_vec();
        bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        bytes.extend(1_u32.to_le_bytes());
        for packet in packets {
            let length = (packet.len() as u32).to_le_bytes();
            bytes.extend([[0; 4], [0; 4], length, length].concat());
            bytes.extend(packet);
        }
        bytes
    }

    fn ip(from: ([u8; 6], [u8; 4]), to: ([u8; 6], [u8; 4]), protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = [to.0, from.0].concat();
        packet.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0]);
        packet.extend(from.1);
        packet.extend(to.1);
        packet.extend(payload);
        packet
    }

    fn tcp(ports: (u16, u16), flags: u8) -> Vec<u8> {
        let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        segment.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        segment
    }

    fn dns(ports: (u16, u16), name: &[&str]) -> Vec<u8> {
        let mut datagram = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), [0, 0], [0, 0]].concat();
        datagram.extend([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name {
            datagram.push(label.len() as u8);
            datagram.extend(label.bytes());
        }
        datagram.extend([0, 0, 1, 0, 1]);
        datagram
    }

    #[test]
    fn what_the_machine_asked_for_is_listed_and_what_was_answered_is_said() {
        let (guest, gate, far) =
            ((GUEST, [10, 0, 2, 15]), (GATEWAY, [10, 0, 2, 100]), (GATEWAY, [93, 184, 216, 34]));
        let bytes = capture(&[
            ip(guest, gate, 6, &tcp((4000, 80), 0x02)),
            ip(gate, guest, 6, &tcp((80, 4000), 0x12)),
            ip(guest, gate, 6, &tcp((4000, 80), 0x10)),
            ip(guest, far, 6, &tcp((4001, 443), 0x02)),
            ip(guest, far, 6, &tcp((4001, 443), 0x02)),
            ip(guest, (GATEWAY, [10, 0, 2, 3]), 17, &dns((5000, 53), &["deb", "example", "org"])),
            ip(guest, (GATEWAY, [255, 255, 255, 255]), 17, &dns((68, 67), &[])),
        ]);
        let ledger = read(&bytes[..], assay_model::Mac(GUEST)).expect("a capture");
        insta::assert_debug_snapshot!(ledger, @r#"
        [
            Attempt {
                what: Dns {
                    name: "deb.example.org",
                    server: 10.0.2.3,
                },
                packets: 1,
                answered: false,
            },
            Attempt {
                what: Tcp {
                    to: 10.0.2.100,
                    port: 80,
                },
                packets: 1,
                answered: true,
            },
            Attempt {
                what: Tcp {
                    to: 93.184.216.34,
                    port: 443,
                },
                packets: 2,
                answered: false,
            },
        ]
        "#);
    }

    #[test]
    fn what_is_cut_off_is_read_as_far_as_it_goes_and_what_is_no_capture_is_refused() {
        let (guest, gate) = ((GUEST, [10, 0, 2, 15]), (GATEWAY, [10, 0, 2, 100]));
        let packets = [tcp((1, 80), 2), tcp((2, 81), 2)].map(|segment| ip(guest, gate, 6, &segment));
        let bytes = capture(&packets);
        let ledger = read(&bytes[..bytes.len() - 5], assay_model::Mac(GUEST)).expect("a capture");
        let to = "10.0.2.100".parse().expect("an address");
        let one = Attempt { what: AttemptKind::Tcp { to, port: 80 }, packets: 1, answered: false };
        assert_eq!(ledger, [one]);
        assert!(read(&b"this is no capture at all"[..], assay_model::Mac(GUEST)).is_err());
        assert!(read(io::empty(), assay_model::Mac(GUEST)).is_err());
        // Every cut of every packet is survived.
        for cut in 0..packets[0].len() {
            assert!(read(&capture(&[packets[0][..cut].to_vec()])[..], assay_model::Mac(GUEST)).is_ok());
        }
    }
}
