//! A throw-away lab for the tests that use the real QEMU and the real network stack.

use std::path::{Path, PathBuf};

use assay_process::Cmd;
use assay_qemu::{Accel, Lab, LabConfig};

/// The machine files of the repository.
pub(crate) fn shipped_machines() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../lab/machines")
}

/// An emulating lab with everything given.
pub(crate) fn open_lab(state: &Path, machines: &Path, netns: &str) -> Lab {
    let mut config = LabConfig::new(state, machines);
    netns.clone_into(&mut config.network.netns);
    config.accel = Some(Accel::Tcg { reason: "for the test".to_owned() });
    Lab::open(config).expect("opened")
}

/// A lab of its own, taken away with everything in it when the test ends in any way.
pub(crate) struct Bench {
    pub(crate) state: tempfile::TempDir,
    pub(crate) netns: String,
}

impl Bench {
    pub(crate) fn new(netns: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: run it as root");
        // The process id keeps two runs of the tests apart.
        let netns = format!("{netns}{}", std::process::id());
        let state = tempfile::Builder::new().prefix("lab").tempdir().expect("a folder");
        Self { state, netns }
    }

    pub(crate) fn lab(&self) -> Lab {
        self.lab_of(&shipped_machines())
    }

    pub(crate) fn lab_of(&self, machines: &Path) -> Lab {
        open_lab(self.state.path(), machines, &self.netns)
    }

    pub(crate) async fn links(&self) -> String {
        let output =
            Cmd::new("ip").args(["-netns", &self.netns, "-oneline", "link"]).run().await.expect("ip runs");
        output.stdout_text().into_owned()
    }

    pub(crate) fn netns_exists(&self) -> bool {
        Path::new("/run/netns").join(&self.netns).exists()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let lab = self.lab();
        // Also when the test has failed, and from inside its runtime: hence a thread of our own.
        let down = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(lab.down())
        });
        let down = down.join().expect("no panic");
        assert!(down.is_ok() || std::thread::panicking(), "{down:?}");
    }
}
