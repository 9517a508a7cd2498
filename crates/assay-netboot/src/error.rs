//! Why netboot cannot be offered, worded so that the operator knows what to do.

use std::{io, net::Ipv4Addr, path::PathBuf, time::Duration};

use assay_process::ProcessError;

/// What keeps dnsmasq from serving.
#[derive(Debug, thiserror::Error)]
pub enum NetbootError {
    /// A setting cannot work.
    #[error("netboot setting `{field}` = `{value}`: {problem}")]
    BadConfig {
        /// The field of the configuration.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// dnsmasq or `ip` is not installed, the namespace is missing, or a child could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A boot loader that firmware would be told to load is not there.
    #[error("the boot loader {path} is missing: install it with `apt-get install ipxe`, or correct tftp_root", path = path.display())]
    LoaderMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The interface does not exist.
    #[error("network interface `{interface}` does not exist in {place}: `ip link` there lists those that do")]
    InterfaceMissing {
        /// The interface asked for.
        interface: String,
        /// The namespace that was looked into.
        place: String,
    },
    /// The interface exists without the address that machines are told to boot from.
    #[error(
        "`{interface}` in {place} has no address {address}/{prefix_len}: add it with `ip addr add {address}/{prefix_len} dev {interface}`"
    )]
    AddressMissing {
        /// The interface.
        interface: String,
        /// The namespace that was looked into.
        place: String,
        /// The address that it should have.
        address: Ipv4Addr,
        /// The prefix length that it should have.
        prefix_len: u8,
    },
    /// Another program answers on the port, so machines might be answered by it and not by Assay.
    #[error(
        "UDP port {port} ({service}) on `{interface}` in {place} is taken by another program: find it with \
         `ss -ulpn 'sport = :{port}'`, stop it or give Assay an interface of its own"
    )]
    PortTaken {
        /// 67 or 69.
        port: u16,
        /// DHCP or TFTP.
        service: &'static str,
        /// The interface.
        interface: String,
        /// The namespace.
        place: String,
    },
    /// Ports below 1024 are closed to this user.
    #[error(
        "UDP port {port} may not be opened by this user: netboot needs root (or CAP_NET_BIND_SERVICE, CAP_NET_RAW and CAP_NET_ADMIN)"
    )]
    NotPermitted {
        /// 67 or 69.
        port: u16,
    },
    /// A file in the state folder cannot be written or a port cannot be examined.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// dnsmasq ended, or said nothing of being ready, right after its start.
    #[error("dnsmasq did not start; it said: {message}")]
    StartFailed {
        /// Its last words.
        message: String,
    },
    /// The list of machines is written, but no running dnsmasq has read it yet.
    #[error(
        "dnsmasq has not confirmed the new list of machines within {after:?}; the list is written and will be in \
         force when dnsmasq is up again (it is being restarted)"
    )]
    NotConfirmed {
        /// How long it was waited for.
        after: Duration,
    },
    /// The supervisor was stopped.
    #[error("netboot is stopped: start it again before allowing machines")]
    Stopped,
}

impl NetbootError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
