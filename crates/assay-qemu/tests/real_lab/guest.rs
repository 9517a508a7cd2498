//! A lab machine with a shell in it: boots the live image's kernel directly, with an agent that does as it is told.

use std::{fs, path::PathBuf, time::Duration};

use assay_process::Cmd;
use assay_qemu::{Accel, Lab, LabConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::bench::shipped_machines;

const LIMIT: Duration = Duration::from_mins(3);
const SHELL: &str = r#"#!/bin/bash
exec <>/dev/ttyS0 >&0 2>&1
stty -echo
udevadm settle
echo "shell: ready"
while IFS= read -r line; do
    line=${line%$'\r'}
    [ -n "$line" ] || continue
    eval "$line"
    echo "shell: status $?"
done
"#;

/// What the guest said to a command.
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) status: i32,
}

/// The serial port of a machine whose agent is a shell.
pub(crate) struct Guest {
    serial: UnixStream,
    heard: String,
}

/// A lab that boots the live image with a shell in it, without firmware and network.
pub(crate) fn shell_lab(state: &std::path::Path, netns: &str, disk_server: Vec<std::ffi::OsString>) -> Lab {
    let mut config = LabConfig::new(state, shipped_machines());
    netns.clone_into(&mut config.network.netns);
    config.accel = Some(Accel::Tcg { reason: "for the test".to_owned() });
    config.disk_server = disk_server;
    let image = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/live-image");
    let kernel = image.join("vmlinuz");
    assert!(kernel.exists(), "no live image: build it with `cargo xtask live-image`");
    let initrd = state.join("initrd");
    let kernel = kernel.display().to_string();
    let words =
        ["-kernel", &kernel, "-initrd", &initrd.display().to_string(), "-append", "console=ttyS0,115200"];
    config.more_arguments = words.map(str::to_owned).to_vec();
    Lab::open(config).expect("opened")
}

/// Packs the live image with the shell in place of the agent.
pub(crate) async fn pack_initrd(state: &std::path::Path) {
    let image = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/live-image");
    let agent = state.join("tree/overlay/usr/lib/assay/assay-agent");
    fs::create_dir_all(agent.parent().expect("a folder")).expect("made");
    fs::write(&agent, SHELL).expect("written");
    Cmd::new("chmod").arg("755").arg(&agent).run_ok().await.expect("executable");
    let pack = "find overlay | cpio --quiet -o -H newc > ../agent.initrd";
    Cmd::new("sh").args(["-c", pack]).cwd(state.join("tree")).run_ok().await.expect("cpio is installed");
    let mut whole = fs::read(image.join("base.initrd")).expect("the live image");
    whole.extend(fs::read(state.join("agent.initrd")).expect("packed"));
    fs::write(state.join("initrd"), whole).expect("written");
}

impl Guest {
    /// Waits until the machine's shell is there.
    pub(crate) async fn of(lab: &Lab, name: &str) -> Self {
        let mut guest = Self::speaking(lab, name).await;
        guest.until("shell: ready\n").await;
        guest
    }

    /// The serial port, whoever speaks there.
    pub(crate) async fn speaking(lab: &Lab, name: &str) -> Self {
        let path = lab.folder(name).expect("a folder").serial();
        let serial = UnixStream::connect(&path).await.expect("a serial port");
        Self { serial, heard: String::new() }
    }

    /// Runs a command.
    pub(crate) async fn run(&mut self, command: &str) -> Said {
        self.serial.write_all(format!("{command}\n").as_bytes()).await.expect("sent");
        let text = self.until("shell: status ").await;
        let status = self.until("\n").await;
        Said { text, status: status.trim().parse().expect("a number") }
    }

    /// Runs a command that must succeed.
    pub(crate) async fn ok(&mut self, command: &str) -> String {
        let said = self.run(command).await;
        assert_eq!(said.status, 0, "{command}: {}", said.text);
        said.text
    }

    /// Everything up to `mark`.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        let heard = async {
            loop {
                if let Some(at) = self.heard.find(mark) {
                    let rest = self.heard.split_off(at + mark.len());
                    let mut text = std::mem::replace(&mut self.heard, rest);
                    text.truncate(at);
                    return text;
                }
                let mut bytes = [0; 4096];
                let length = self.serial.read(&mut bytes).await.expect("read");
                assert!(length > 0, "the machine is gone: {}", self.heard);
                self.heard.push_str(&String::from_utf8_lossy(&bytes[..length]).replace('\r', ""));
            }
        };
        let result = tokio::time::timeout(LIMIT, heard).await;
        result.unwrap_or_else(|_| panic!("`{mark}` was not heard in time"))
    }
}
