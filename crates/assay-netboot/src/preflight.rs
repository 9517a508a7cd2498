//! Finds out before dnsmasq is started what would keep it from serving, or let it serve beside a rival.
//!
//! dnsmasq itself is no help with the last one: two of them share port 67 of one interface without a word (both set
//! SO_REUSEADDR), and machines are then answered by whichever is quicker.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    time::Duration,
};

use assay_process::{Cmd, Detached};
use socket2::{Domain, Socket, Type};
use tokio::fs;

use crate::{
    NetbootConfig, NetbootError,
    netns::{place, within},
};

const GRACE: Duration = Duration::from_secs(2);
const IP_LIMIT: Duration = Duration::from_secs(10);

/// Checks in the order in which an operator would mend things, and removes our own leftover.
pub(crate) async fn check(config: &NetbootConfig) -> Result<(), NetbootError> {
    config.validate()?;
    for loader in [&config.loaders.bios, &config.loaders.uefi] {
        let path = config.tftp_root.join(loader);
        if !path.is_file() {
            return Err(NetbootError::LoaderMissing { path });
        }
    }
    interface(config).await?;
    leftover(config).await?;
    port_is_free(config, 67, "DHCP", Ipv4Addr::UNSPECIFIED).await?;
    if config.proxy {
        port_is_free(config, 4011, "PXE", Ipv4Addr::UNSPECIFIED).await?;
    }
    port_is_free(config, 69, "TFTP", config.address).await
}

async fn interface(config: &NetbootConfig) -> Result<(), NetbootError> {
    let NetbootConfig { interface, address, prefix_len, .. } = config;
    let (interface, place) = (interface.clone(), place(config.netns.as_deref()));
    let shown = Cmd::new("ip")
        .args(["-o", "-4", "addr", "show", "dev", &interface])
        .netns(config.netns.as_deref())
        .timeout(IP_LIMIT)
        .run()
        .await?;
    if !shown.success() {
        return Err(NetbootError::InterfaceMissing { interface, place });
    }
    let wanted = format!("inet {address}/{prefix_len} ");
    if !shown.stdout_text().lines().any(|line| line.contains(&wanted)) {
        return Err(NetbootError::AddressMissing {
            interface,
            place,
            address: *address,
            prefix_len: *prefix_len,
        });
    }
    Ok(())
}

/// Stops the dnsmasq of an earlier life of ours that was killed before it could do so. It is ours only if it runs
/// with our configuration file.
async fn leftover(config: &NetbootConfig) -> Result<(), NetbootError> {
    let Ok(text) = fs::read_to_string(config.pid_file()).await else {
        return Ok(());
    };
    let Some(found) = text.trim().parse().ok().and_then(|pid| Detached::of(pid).ok()) else {
        return Ok(());
    };
    let Ok(command_line) = fs::read(format!("/proc/{}/cmdline", found.pid)).await else {
        return Ok(());
    };
    let ours = config.conf_file();
    if !command_line.split(|byte| *byte == 0).any(|arg| Path::new(&*String::from_utf8_lossy(arg)) == ours) {
        return Ok(());
    }
    tracing::warn!(process.pid = found.pid, "a dnsmasq of an earlier life is still there and is stopped");
    found.stop(GRACE).await.map_err(NetbootError::io("stopping the dnsmasq of an earlier life"))?;
    Ok(())
}

async fn port_is_free(
    config: &NetbootConfig,
    port: u16,
    service: &'static str,
    address: Ipv4Addr,
) -> Result<(), NetbootError> {
    let netns = config.netns.as_deref();
    let interface = config.interface.clone();
    let probe = move || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        // A server that is bound to another interface is none of our business.
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.bind(&SocketAddrV4::new(address, port).into())
    };
    match within(netns, probe).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(port_taken(config, port, service)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(NetbootError::NotPermitted { port })
        }
        Err(source) => Err(NetbootError::Io { doing: format!("trying UDP port {port} ({service})"), source }),
    }
}

pub(crate) fn port_taken(config: &NetbootConfig, port: u16, service: &'static str) -> NetbootError {
    let (interface, place) = (config.interface.clone(), place(config.netns.as_deref()));
    NetbootError::PortTaken { port, service, interface, place }
}
