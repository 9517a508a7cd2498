//! A small network of namespaces for the tests that use the real thing: a server and a client on one cable.
//!
//! Needs root. Without it the tests fail and say so: skipped tests would look like passed ones.

use std::{
    net::Ipv4Addr,
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use assay_model::Mac;
use assay_process::Cmd;
use tempfile::TempDir;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(crate) const SERVER_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const IP_LIMIT: Duration = Duration::from_secs(20);

/// Two namespaces joined by a cable; removed on drop, also when a test panics.
pub(crate) struct Cable {
    pub(crate) server: String,
    pub(crate) client: String,
    pub(crate) folder: TempDir,
}

/// What a DHCP client was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) ip: String,
    pub(crate) bootfile: Option<String>,
    pub(crate) router: Option<String>,
}

impl Cable {
    pub(crate) async fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make network namespaces and need root: run them with sudo, or leave them out with `-E 'not binary(/^real_/)'`"
        );
        let name = format!("ast{}x{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("assay-netboot-").tempdir().expect("a folder");
        let cable = Self { server: format!("{name}s"), client: format!("{name}c"), folder };
        ip(&["netns", "add", &cable.server]).await;
        ip(&["netns", "add", &cable.client]).await;
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", cable.client.as_str()];
        ip(&[["link", "add", "prov0", "netns", cable.server.as_str()].as_slice(), &peer].concat()).await;
        ip(&["-n", &cable.server, "addr", "add", "10.77.0.1/24", "dev", "prov0"]).await;
        for (ns, link) in
            [(&cable.server, "lo"), (&cable.server, "prov0"), (&cable.client, "lo"), (&cable.client, "eth0")]
        {
            ip(&["-n", ns, "link", "set", link, "up"]).await;
        }
        cable
    }

    /// Asks for an address as firmware does: `arch` is the client architecture, `more` further `udhcpc` options.
    pub(crate) async fn dhcp(&self, mac: Mac, arch: u16, more: &[&str]) -> Lease {
        let script = self.folder.path().join("bound.sh");
        let text = "#!/bin/sh\n[ \"$1\" = bound ] && echo \"got|$ip|$bootfile$boot_file|$router\"\nexit 0\n";
        std::fs::write(&script, text).expect("a script");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a mode");
        self.become_mac(mac).await;
        let output = Cmd::new("busybox")
            .args(["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "10", "-T", "1", "-O", "bootfile", "-s"])
            .arg(script)
            .args(["-x", &format!("0x5d:{arch:04x}")])
            .args(more.iter().copied())
            .netns(Some(&self.client))
            .timeout(IP_LIMIT)
            .run_ok()
            .await
            .expect("an address");
        let text = output.stdout_text().into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("got|")).expect("the client's script ran");
        let mut fields = line.split('|').map(str::to_owned);
        let mut next = || fields.next().expect("three fields");
        let some = |text: String| (!text.is_empty()).then_some(text);
        Lease { ip: next(), bootfile: some(next()), router: some(next()) }
    }

    /// Fetches a file by TFTP from an address of its own; whether it arrived, byte for byte.
    pub(crate) async fn tftp(&self, file: &str) -> Vec<u8> {
        ip(&["-n", &self.client, "addr", "replace", "10.77.0.50/24", "dev", "eth0"]).await;
        let fetched = self.folder.path().join("fetched");
        Cmd::new("busybox")
            .args(["tftp", "-g", "-r", file, "-l"])
            .arg(&fetched)
            .arg(SERVER_IP.to_string())
            .netns(Some(&self.client))
            .timeout(IP_LIMIT)
            .run_ok()
            .await
            .expect("the file");
        std::fs::read(fetched).expect("the file")
    }

    async fn become_mac(&self, mac: Mac) {
        let mac = mac.to_string();
        ip(&["-n", &self.client, "link", "set", "eth0", "down"]).await;
        ip(&["-n", &self.client, "link", "set", "eth0", "address", &mac]).await;
        ip(&["-n", &self.client, "link", "set", "eth0", "up"]).await;
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let names = [self.server.clone(), self.client.clone()];
        // A runtime of its own: this also runs while a test panics.
        let removing = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for name in names {
                    let removed =
                        Cmd::new("ip").args(["netns", "del", &name]).timeout(IP_LIMIT).run_ok().await;
                    if let Err(error) = removed {
                        eprintln!("namespace {name} is left over: {error}");
                    }
                }
            });
        });
        if removing.join().is_err() {
            eprintln!("removing the namespaces of a test failed");
        }
    }
}

pub(crate) async fn ip(args: &[&str]) {
    Cmd::new("ip").args(args.iter().copied()).timeout(IP_LIMIT).run_ok().await.expect("ip");
}
