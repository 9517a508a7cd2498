//! Wake-on-LAN: a packet with the card's address sixteen times over, to everybody on the segment.
//!
//! It can switch on and nothing else: nobody answers, so nothing is confirmed, and a machine that is on takes no
//! notice. The run then waits for the machine to show up, as it does where a person switches.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use assay_model::Mac;
use socket2::{Domain, Socket, Type};

use super::{Ask, PowerError, PowerState, Site, WolSettings};
use crate::netns::within;

/// Broadcasts are not repeated by anybody if they are lost.
const COPIES: usize = 3;

/// One network card that listens.
#[derive(Debug)]
pub(super) struct Wol {
    settings: WolSettings,
    site: Site,
}

impl Wol {
    pub(super) fn new(settings: WolSettings, site: Site) -> Self {
        Self { settings, site }
    }

    pub(super) fn name(&self) -> String {
        format!("{} (Wake-on-LAN)", self.settings.mac)
    }

    pub(super) async fn ask(&self, ask: Ask) -> Result<(), PowerError> {
        let cannot = |doing, said: &str| {
            Err(PowerError::Unsupported { bmc: self.name(), doing, said: said.to_owned() })
        };
        match ask {
            Ask::Set(PowerState::On) => self.wake().await.map(drop),
            Ask::Set(PowerState::Off) => cannot(
                "power off",
                "Wake-on-LAN can only switch on; switch the machine off by hand, or use its BMC",
            ),
            Ask::State => cannot("the power state", "Wake-on-LAN does not tell; look at the machine"),
            Ask::NetbootNext => {
                cannot("boot from the network next", "set the firmware's boot order to the network first")
            }
        }
    }

    /// Sends the packet. Says what that does and does not mean.
    pub(super) async fn wake(&self) -> Result<String, PowerError> {
        let WolSettings { mac, broadcast, port } = self.settings;
        let interface = self.site.interface.clone();
        let target = SocketAddrV4::new(broadcast, port);
        let sending = within(self.site.netns.as_deref(), move || send(mac, target, interface.as_deref()));
        sending.await.map_err(|source| PowerError::Io {
            doing: format!("sending the Wake-on-LAN packet for {mac} to {target}"),
            source,
        })?;
        Ok(format!(
            "the Wake-on-LAN packet for {mac} was sent to {target}; nobody confirms it, and a machine that is on \
             stays as it is: restart such a one by hand"
        ))
    }
}

fn send(mac: Mac, target: SocketAddrV4, interface: Option<&str>) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_broadcast(true)?;
    if let Some(interface) = interface {
        // Without a route to everybody, the kernel would otherwise not know where to send it.
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into())?;
    let packet = magic_packet(mac);
    for _ in 0..COPIES {
        socket.send_to(&packet, &target.into())?;
    }
    Ok(())
}

/// Six bytes of ones, then the address sixteen times.
fn magic_packet(mac: Mac) -> Vec<u8> {
    let mut packet = vec![0xff; 6];
    packet.extend(mac.0.repeat(16));
    packet
}

#[cfg(test)]
mod tests {
    use assay_model::Mac;

    use super::magic_packet;

    #[test]
    fn the_packet_is_the_one_that_cards_listen_for() {
        let packet = magic_packet(Mac([1, 2, 3, 4, 5, 6]));
        assert_eq!(packet.len(), 102);
        assert_eq!(packet[..6], [0xff; 6]);
        assert!(packet[6..].chunks(6).all(|chunk| chunk == [1, 2, 3, 4, 5, 6]));
    }
}
