//! dnsmasq's configuration as a pure function of ours.
//!
//! Everybody on the segment gets an address, so that a machine that is none of our business is not held up; the
//! name of a boot loader goes only to machines in the hosts file, so that everybody else's firmware goes on to its
//! own disk at once.
//!
//! Beside a DHCP server that is there already, it is a proxy: the other server gives addresses, and ours says to
//! machines in the hosts file, and to nobody else, what to boot.

use std::{
    ffi::OsString,
    fmt::Write as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::NetbootError;

/// Where Debian's `ipxe` package puts its boot loaders.
pub const DEFAULT_TFTP_ROOT: &str = "/usr/lib/ipxe";

/// dnsmasq refuses leases shorter than this.
const SHORTEST_LEASE: Duration = Duration::from_mins(2);

/// Which files under `tftp_root` firmware is told to load. Both defaults use the firmware's own network driver
/// and that one port only: it works wherever the firmware got as far as asking, and a machine with many ports does
/// not try the others first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaders {
    /// For BIOS firmware.
    pub bios: String,
    /// For 64-bit x86 UEFI firmware.
    pub uefi: String,
}

impl Default for Loaders {
    fn default() -> Self {
        Self { bios: "undionly.kpxe".to_owned(), uefi: "snponly.efi".to_owned() }
    }
}

/// What to serve and where. The interface belongs to Assay: nothing else on this machine may answer DHCP on it, and
/// nothing else on the network either, unless `proxy` is set.
#[derive(Debug, Clone)]
pub struct NetbootConfig {
    /// The interface to serve on; it must exist and carry `address`.
    pub interface: String,
    /// The network namespace of the interface; `None` is the host's own.
    pub netns: Option<String>,
    /// Our address on it.
    pub address: Ipv4Addr,
    /// The prefix length of the network.
    pub prefix_len: u8,
    /// Another DHCP server gives the addresses; ours only says what to boot. Range and lease are then of no meaning.
    pub proxy: bool,
    /// First address to lease.
    pub range_start: Ipv4Addr,
    /// Last address to lease.
    pub range_end: Ipv4Addr,
    /// How long a lease lasts; at least two minutes.
    pub lease: Duration,
    /// Where the server is reached from the network, such as `http://10.77.0.1:8080`; `/boot/MAC.ipxe` is appended.
    pub boot_url: String,
    /// A folder of our own for configuration, the list of machines and the leases; created if missing.
    pub state_dir: PathBuf,
    /// The folder of the boot loaders; see [`DEFAULT_TFTP_ROOT`].
    pub tftp_root: PathBuf,
    /// The boot loaders in it.
    pub loaders: Loaders,
    /// The PATH on which dnsmasq is looked for; `None` is the usual one.
    pub search_path: Option<OsString>,
}

impl NetbootConfig {
    /// dnsmasq's configuration file.
    pub(crate) fn conf_file(&self) -> PathBuf {
        self.state_dir.join("dnsmasq.conf")
    }

    /// The machines that may boot from here, one MAC a line.
    pub(crate) fn hosts_file(&self) -> PathBuf {
        self.state_dir.join("dnsmasq.hosts")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.state_dir.join("dnsmasq.pid")
    }

    fn leases_file(&self) -> PathBuf {
        self.state_dir.join("dnsmasq.leases")
    }

    /// Refuses what dnsmasq would misread, or read as something else.
    pub(crate) fn validate(&self) -> Result<(), NetbootError> {
        let name_char = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if self.interface.is_empty() || self.interface.len() > 15 || !self.interface.chars().all(name_char) {
            return bad("interface", &self.interface, "give the name of one network interface");
        }
        if !(8..=30).contains(&self.prefix_len) {
            return bad("prefix_len", &self.prefix_len, "must be from 8 to 30");
        }
        if !self.proxy {
            self.validate_leases()?;
        }
        self.validate_places()
    }

    fn validate_leases(&self) -> Result<(), NetbootError> {
        let mask = self.netmask().to_bits();
        let (own, first, last) =
            (self.address.to_bits(), self.range_start.to_bits(), self.range_end.to_bits());
        for (field, address) in [("range_start", self.range_start), ("range_end", self.range_end)] {
            let bits = address.to_bits();
            if bits & mask != own & mask {
                return bad(field, &address, "is outside the network of `address`");
            }
            if bits & !mask == 0 || bits | mask == u32::MAX {
                return bad(field, &address, "is the network's own or its broadcast address");
            }
        }
        if first > last {
            return bad("range_end", &self.range_end, "is before range_start");
        }
        if (first..=last).contains(&own) {
            return bad("address", &self.address, "is inside the range to lease; move the range");
        }
        if self.lease < SHORTEST_LEASE {
            return bad("lease", &format!("{:?}", self.lease), "must be at least two minutes");
        }
        Ok(())
    }

    fn validate_places(&self) -> Result<(), NetbootError> {
        let url_char = |c: char| c.is_ascii_graphic() && !"\"#,\\$'".contains(c);
        let is_http = self.boot_url.starts_with("http://") || self.boot_url.starts_with("https://");
        if !is_http || self.boot_url.ends_with('/') || !self.boot_url.chars().all(url_char) {
            return bad(
                "boot_url",
                &self.boot_url,
                "must look like http://10.77.0.1:8080, without a slash at the end",
            );
        }
        if self.boot_url.len() > 90 {
            return bad("boot_url", &self.boot_url, "is too long for a DHCP answer (90 characters)");
        }
        for (field, path) in [("state_dir", &self.state_dir), ("tftp_root", &self.tftp_root)] {
            if !path.is_absolute() || !is_plain(path) {
                return bad(
                    field,
                    &path.display(),
                    "must be an absolute path without spaces, quotes, commas or `#`",
                );
            }
        }
        for (field, loader) in [("loaders.bios", &self.loaders.bios), ("loaders.uefi", &self.loaders.uefi)] {
            if loader.is_empty() || loader.contains("..") || !is_plain(Path::new(loader)) {
                return bad(field, loader, "must be the name of a file under tftp_root");
            }
        }
        Ok(())
    }

    fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.netmask().to_bits())
    }

    fn netmask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(self.prefix_len.clamp(1, 32))))
    }
}

/// The configuration file. Its values have been checked by [`Netboot::start`](crate::Netboot::start).
pub fn render(config: &NetbootConfig) -> String {
    let NetbootConfig { interface, boot_url, tftp_root, loaders, .. } = config;
    let mut text = String::new();
    let mut section = |comment: &str, lines: &[String]| {
        let _ = writeln!(text, "# {comment}");
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
    };
    section("Written by Assay at every start; changes are lost.", &[]);
    section(
        "A child in the foreground that logs to its parent. It stays root: it reads the private state folder again\n# later, and in a user namespace there is no other user.",
        &[
            "keep-in-foreground".to_owned(),
            "log-facility=-".to_owned(),
            "log-dhcp".to_owned(),
            "user=root".to_owned(),
            format!("pid-file={}", config.pid_file().display()),
        ],
    );
    section(
        "This interface only, and no DNS.",
        &[
            format!("interface={interface}"),
            "except-interface=lo".to_owned(),
            "bind-interfaces".to_owned(),
            "port=0".to_owned(),
            "no-resolv".to_owned(),
            "no-hosts".to_owned(),
        ],
    );
    if config.proxy {
        section(
            "The network has a DHCP server of its own: no addresses from here, and no word to strangers.",
            &[
                format!("dhcp-range={},proxy,{}", config.network(), config.netmask()),
                "dhcp-ignore=tag:!known".to_owned(),
            ],
        );
    } else {
        for (comment, lines) in own_network(config) {
            section(comment, &lines);
        }
    }
    section(
        "Machines that may boot from here carry the tag `known`. Not a tag set in the file: dnsmasq 2.90 frees such\n# tags wrongly when it reads the file again after answering one of its machines, and aborts.",
        &[format!("dhcp-hostsfile={}", config.hosts_file().display())],
    );
    section(
        "Firmware is told apart by its architecture, iPXE by what only iPXE sends.",
        &[
            "dhcp-match=set:bios,option:client-arch,0".to_owned(),
            "dhcp-match=set:uefi,option:client-arch,7".to_owned(),
            "dhcp-match=set:uefi,option:client-arch,9".to_owned(),
            "dhcp-match=set:ipxe,175".to_owned(),
            "dhcp-userclass=set:ipxe,iPXE".to_owned(),
        ],
    );
    // The other server's answers name another place to load from.
    let server = if config.proxy { format!(",,{}", config.address) } else { String::new() };
    section(
        "Firmware loads iPXE; iPXE fills in the MAC of the port it came by and asks the server.",
        &[
            format!("enable-tftp={interface}"),
            format!("tftp-root={}", tftp_root.display()),
            format!("dhcp-boot=tag:known,tag:bios,tag:!ipxe,{}{server}", loaders.bios),
            format!("dhcp-boot=tag:known,tag:uefi,tag:!ipxe,{}{server}", loaders.uefi),
            format!("dhcp-boot=tag:known,tag:ipxe,{boot_url}/boot/${{netX/mac:hexhyp}}.ipxe{server}"),
        ],
    );
    if config.proxy {
        section(
            "UEFI asks a proxy again on port 4011, and is answered there by a menu of one entry.",
            &["BC_EFI", "X86-64_EFI"]
                .map(|arch| format!("pxe-service=tag:known,tag:!ipxe,{arch},\"Assay\",{}", loaders.uefi)),
        );
    } else {
        section(
            "A stranger's firmware is told to boot locally: without this menu of one entry, UEFI asks in vain for a minute.",
            &["x86PC", "BC_EFI", "X86-64_EFI"]
                .map(|arch| format!("pxe-service=tag:!known,{arch},\"Boot locally\",0")),
        );
    }
    text
}

/// The sections for a network without another DHCP server.
fn own_network(config: &NetbootConfig) -> [(&'static str, Vec<String>); 2] {
    let NetbootConfig { interface, range_start, range_end, .. } = config;
    let (netmask, lease) = (config.netmask(), config.lease.as_secs());
    [
        (
            "An address for everybody, but no router and no DNS server: this network leads nowhere.",
            vec![
                "dhcp-authoritative".to_owned(),
                "no-ping".to_owned(),
                format!("dhcp-range={range_start},{range_end},{netmask},{lease}"),
                format!("dhcp-leasefile={}", config.leases_file().display()),
                "dhcp-option=3".to_owned(),
                "dhcp-option=6".to_owned(),
            ],
        ),
        (
            "iPXE waits ten seconds for an IPv6 router before it goes on; this prefix leads nowhere either.",
            vec![
                "enable-ra".to_owned(),
                format!("dhcp-range={},ra-only,64,600", crate::ipv6::PREFIX),
                format!("ra-param={interface},10,0"),
            ],
        ),
    ]
}

fn bad(field: &'static str, value: &dyn ToString, problem: &'static str) -> Result<(), NetbootError> {
    Err(NetbootError::BadConfig { field, value: value.to_string(), problem })
}

fn is_plain(path: &Path) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"#,\\'".contains(c);
    path.to_str().is_some_and(|text| text.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::{Duration, Ipv4Addr, Loaders, NetbootConfig, render};

    fn config() -> NetbootConfig {
        NetbootConfig {
            interface: "prov0".to_owned(),
            netns: Some("assay".to_owned()),
            address: Ipv4Addr::new(10, 77, 0, 1),
            prefix_len: 24,
            proxy: false,
            range_start: Ipv4Addr::new(10, 77, 0, 100),
            range_end: Ipv4Addr::new(10, 77, 0, 200),
            lease: Duration::from_hours(1),
            boot_url: "http://10.77.0.1:8080".to_owned(),
            state_dir: "/var/lib/assay/netboot".into(),
            tftp_root: super::DEFAULT_TFTP_ROOT.into(),
            loaders: Loaders::default(),
            search_path: None,
        }
    }

    #[test]
    fn the_configuration_as_dnsmasq_reads_it() {
        config().validate().expect("a sound configuration");
        insta::assert_snapshot!(render(&config()), @r##"
        # Written by Assay at every start; changes are lost.
        # A child in the foreground that logs to its parent. It stays root: it reads the private state folder again
        # later, and in a user namespace there is no other user.
        keep-in-foreground
        log-facility=-
        log-dhcp
        user=root
        pid-file=/var/lib/assay/netboot/dnsmasq.pid
        # This interface only, and no DNS.
        interface=prov0
        except-interface=lo
        bind-interfaces
        port=0
        no-resolv
        no-hosts
        # An address for everybody, but no router and no DNS server: this network leads nowhere.
        dhcp-authoritative
        no-ping
        dhcp-range=10.77.0.100,10.77.0.200,255.255.255.0,3600
        dhcp-leasefile=/var/lib/assay/netboot/dnsmasq.leases
        dhcp-option=3
        dhcp-option=6
        # iPXE waits ten seconds for an IPv6 router before it goes on; this prefix leads nowhere either.
        enable-ra
        dhcp-range=fd61:7373:6179::,ra-only,64,600
        ra-param=prov0,10,0
        # Machines that may boot from here carry the tag `known`. Not a tag set in the file: dnsmasq 2.90 frees such
        # tags wrongly when it reads the file again after answering one of its machines, and aborts.
        dhcp-hostsfile=/var/lib/assay/netboot/dnsmasq.hosts
        # Firmware is told apart by its architecture, iPXE by what only iPXE sends.
        dhcp-match=set:bios,option:client-arch,0
        dhcp-match=set:uefi,option:client-arch,7
        dhcp-match=set:uefi,option:client-arch,9
        dhcp-match=set:ipxe,175
        dhcp-userclass=set:ipxe,iPXE
        # Firmware loads iPXE; iPXE fills in the MAC of the port it came by and asks the server.
        enable-tftp=prov0
        tftp-root=/usr/lib/ipxe
        dhcp-boot=tag:known,tag:bios,tag:!ipxe,undionly.kpxe
        dhcp-boot=tag:known,tag:uefi,tag:!ipxe,snponly.efi
        dhcp-boot=tag:known,tag:ipxe,http://10.77.0.1:8080/boot/${netX/mac:hexhyp}.ipxe
        # A stranger's firmware is told to boot locally: without this menu of one entry, UEFI asks in vain for a minute.
        pxe-service=tag:!known,x86PC,"Boot locally",0
        pxe-service=tag:!known,BC_EFI,"Boot locally",0
        pxe-service=tag:!known,X86-64_EFI,"Boot locally",0
        "##);
    }

    #[test]
    fn a_proxy_leases_nothing_and_has_no_word_for_strangers() {
        // Range and lease are of no meaning then.
        let config = NetbootConfig { proxy: true, lease: Duration::ZERO, ..config() };
        config.validate().expect("a sound configuration");
        let text = render(&config);
        for line in [
            "dhcp-range=10.77.0.0,proxy,255.255.255.0",
            "dhcp-ignore=tag:!known",
            "dhcp-boot=tag:known,tag:bios,tag:!ipxe,undionly.kpxe,,10.77.0.1",
            "dhcp-boot=tag:known,tag:ipxe,http://10.77.0.1:8080/boot/${netX/mac:hexhyp}.ipxe,,10.77.0.1",
            "pxe-service=tag:known,tag:!ipxe,X86-64_EFI,\"Assay\",snponly.efi",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
        for word in ["dhcp-authoritative", "10.77.0.100", "enable-ra", "dhcp-option=3", "tag:!known,x86PC"] {
            assert!(!text.contains(word), "{word} in\n{text}");
        }
    }

    #[test]
    fn what_dnsmasq_would_misread_is_refused_by_name() {
        let refused = |change: fn(&mut NetbootConfig)| {
            let mut config = config();
            change(&mut config);
            config.validate().expect_err("refused").to_string()
        };
        let messages = [
            refused(|c| c.interface = "eth*".to_owned()),
            refused(|c| c.interface = String::new()),
            refused(|c| c.prefix_len = 32),
            refused(|c| c.range_start = Ipv4Addr::new(10, 78, 0, 5)),
            refused(|c| c.range_end = Ipv4Addr::new(10, 77, 0, 255)),
            refused(|c| c.range_end = Ipv4Addr::new(10, 77, 0, 99)),
            refused(|c| c.address = Ipv4Addr::new(10, 77, 0, 150)),
            refused(|c| c.lease = Duration::from_secs(10)),
            refused(|c| c.boot_url = "10.77.0.1".to_owned()),
            refused(|c| c.boot_url = "http://a\ndhcp-script=/x".to_owned()),
            refused(|c| c.state_dir = "/a b".into()),
            refused(|c| c.tftp_root = "relative".into()),
            refused(|c| c.loaders.uefi = "../../etc/shadow".to_owned()),
        ];
        insta::assert_snapshot!(messages.join("\n"), @r##"
        netboot setting `interface` = `eth*`: give the name of one network interface
        netboot setting `interface` = ``: give the name of one network interface
        netboot setting `prefix_len` = `32`: must be from 8 to 30
        netboot setting `range_start` = `10.78.0.5`: is outside the network of `address`
        netboot setting `range_end` = `10.77.0.255`: is the network's own or its broadcast address
        netboot setting `range_end` = `10.77.0.99`: is before range_start
        netboot setting `address` = `10.77.0.150`: is inside the range to lease; move the range
        netboot setting `lease` = `10s`: must be at least two minutes
        netboot setting `boot_url` = `10.77.0.1`: must look like http://10.77.0.1:8080, without a slash at the end
        netboot setting `boot_url` = `http://a
        dhcp-script=/x`: must look like http://10.77.0.1:8080, without a slash at the end
        netboot setting `state_dir` = `/a b`: must be an absolute path without spaces, quotes, commas or `#`
        netboot setting `tftp_root` = `relative`: must be an absolute path without spaces, quotes, commas or `#`
        netboot setting `loaders.uefi` = `../../etc/shadow`: must be the name of a file under tftp_root
        "##);
    }
}
