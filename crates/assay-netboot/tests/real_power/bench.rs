//! A network namespace with a BMC in it: `ipmi_sim`, whose machine is a shell script with a file for a power switch.
//!
//! Needs root and the tools. Without them the tests fail and say so: skipped tests would look like passed ones.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use assay_netboot::power::{Credential, IpmiSettings, PowerDriver, Secret, Site};
use assay_process::{Child, Cmd};
use tempfile::TempDir;
use tokio::time::timeout;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(crate) const USER: &str = "assay";
pub(crate) const PASSWORD: &str = "s3cret$HOME'x";
/// Only a test that fails waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A namespace, removed on drop, also when a test panics.
pub(crate) struct Netns(pub(crate) String);

/// A BMC with its machine.
pub(crate) struct Bmc {
    pub(crate) netns: Netns,
    pub(crate) folder: TempDir,
    pub(crate) child: Child,
}

impl Netns {
    pub(crate) async fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make network namespaces and need root: run them with sudo, or leave them out with `-E 'not binary(/^real_/)'`"
        );
        let netns = Self(format!("asp{}x{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        ip(&["netns", "add", &netns.0]).await;
        ip(&["-n", &netns.0, "link", "set", "lo", "up"]).await;
        netns
    }
}

impl Bmc {
    /// A BMC that answers on 127.0.0.1 in a namespace of its own; its machine is off.
    pub(crate) async fn new() -> Self {
        Self::with_script("").await
    }

    /// As [`Bmc::new`], with something done in the shell before each word between the BMC and the machine.
    pub(crate) async fn with_script(before: &str) -> Self {
        let netns = Netns::new().await;
        let folder = tempfile::Builder::new().prefix("assay-bmc-").tempdir().expect("a folder");
        let place = folder.path().display().to_string();
        let script = format!(
            "#!/bin/sh\ncd {place}\n{before}\ncase \"$2 $3\" in\n\
             \"get power\") echo \"power:$(cat power)\" ;;\n\
             \"set power\") [ -e stuck ] || echo \"$4\" > power; echo \"$4\" >> switched ;;\n\
             \"get boot\") echo \"boot:$(cat boot)\" ;;\n\
             \"set boot\") [ -e deaf ] || echo \"$4\" > boot ;;\n\
             *) exit 1 ;;\nesac\n"
        );
        let conf = format!(
            "name \"test\"\nset_working_mc 0x20\nstartlan 1\naddr 127.0.0.1 623\npriv_limit admin\n\
             allowed_auths_operator md5\nallowed_auths_admin md5\nguid a123456789abcdefa123456789abcdef\nendlan\n\
             chassis_control \"{place}/chassis 0x20\"\n\
             user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 md5\n",
        );
        let commands =
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n";
        for (name, text) in [
            ("chassis", script.as_str()),
            ("conf", &conf),
            ("commands", commands),
            ("power", "0\n"),
            ("boot", "none\n"),
        ] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        fs::set_permissions(folder.path().join("chassis"), fs::Permissions::from_mode(0o755))
            .expect("a mode");
        let child = Cmd::new("ipmi_sim")
            .args(["-n", "-c", &format!("{place}/conf"), "-f", &format!("{place}/commands"), "-s", &place])
            .netns(Some(&netns.0))
            .spawn()
            .await
            .expect("ipmi_sim starts; it is in Debian's package openipmi");
        let bmc = Self { netns, folder, child };
        let listening = async {
            while !bmc.listens() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, listening).await.expect("it listens");
        bmc
    }

    pub(crate) fn settings() -> IpmiSettings {
        let mut settings = IpmiSettings::new("127.0.0.1", "test");
        // ipmi_sim does not say which suites it has, and ipmitool asks for ten seconds.
        settings.cipher_suite = Some(3);
        settings.timeout_s = 20;
        settings
    }

    pub(crate) fn driver(&self) -> PowerDriver {
        self.driver_of(Self::settings(), USER, PASSWORD)
    }

    pub(crate) fn driver_of(&self, settings: IpmiSettings, user: &str, password: &str) -> PowerDriver {
        let credential = Credential { user: user.to_owned(), password: Secret::new(password) };
        PowerDriver::ipmi(settings, credential, &self.site()).expect("a driver")
    }

    pub(crate) fn site(&self) -> Site {
        Site { netns: Some(self.netns.0.clone()), interface: None }
    }

    /// What a file of the machine holds.
    pub(crate) fn holds(&self, name: &str) -> String {
        fs::read_to_string(self.path(name))
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether its UDP port is open, by the kernel's table of its namespace.
    fn listens(&self) -> bool {
        let table = fs::read_to_string(format!("/proc/{}/net/udp", self.child.pid()));
        table.expect("ipmi_sim runs").contains(&format!(":{:04X} ", 623))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let name = self.0.clone();
        // A runtime of its own: this also runs while a test panics.
        let removing = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(Cmd::new("ip").args(["netns", "del", &name]).timeout(PATIENCE).run_ok())
        });
        if !matches!(removing.join(), Ok(Ok(_))) {
            eprintln!("namespace {} is left over", self.0);
        }
    }
}

pub(crate) async fn ip(args: &[&str]) {
    Cmd::new("ip").args(args.iter().copied()).timeout(PATIENCE).run_ok().await.expect("ip");
}
