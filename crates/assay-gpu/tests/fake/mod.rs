//! A driver without GPUs: its two libraries, compiled from C for the test, answering from a capture.
//!
//! The libraries are loaded as the real ones are, so loading, symbols and layouts of structures are exercised for real.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use assay_process::Cmd;

/// A folder with the two libraries and their capture.
pub(crate) struct FakeDriver {
    folder: tempfile::TempDir,
}

impl FakeDriver {
    /// Compiles both libraries. `changes` are lines over [`healthy()`]; a line `-key` takes one away.
    pub(crate) async fn with(changes: &str) -> Self {
        let fake = Self { folder: tempfile::tempdir().expect("a folder") };
        let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assay-gpu/tests/fake");
        for name in ["nvml", "cuda"] {
            let compiled = Cmd::new("cc")
                .args(["-O2", "-w", "-shared", "-fPIC", "-o"])
                .arg(fake.folder.path().join(format!("lib{name}.so")))
                .arg(sources.join(format!("{name}.c")))
                .arg("-lm")
                .run_ok()
                .await;
            compiled.expect("cc compiles the fake driver");
        }
        fake.change(changes);
        fake
    }

    /// Another capture from now on.
    pub(crate) fn change(&self, changes: &str) {
        let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let mut lines: Vec<String> = healthy().lines().map(str::to_owned).collect();
        for change in changes.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let wanted = change.strip_prefix('-').unwrap_or(change);
            lines.retain(|line| key(line) != key(wanted));
            if !change.starts_with('-') {
                lines.push(change.to_owned());
            }
        }
        std::fs::write(self.folder.path().join("capture"), lines.join("\n") + "\n").expect("written");
    }

    /// The management library.
    pub(crate) fn nvml(&self) -> OsString {
        self.folder.path().join("libnvml.so").into()
    }

    /// The compute library.
    pub(crate) fn cuda(&self) -> OsString {
        self.folder.path().join("libcuda.so").into()
    }
}

/// Two boards that have nothing wrong with them, idle until a kernel is launched.
pub(crate) fn healthy() -> String {
    let mut text = String::from("driver 550.54.15\ncount 2\n");
    for (gpu, bus) in [(0, "01"), (1, "C1")] {
        for line in [
            format!("bus 00000000:{bus}:00.0"),
            "name NVIDIA A100-PCIE-40GB".to_owned(),
            format!("uuid GPU-00000000-0000-0000-0000-00000000000{gpu}"),
            format!("serial 15601210{gpu}"),
            "vbios 92.00.25.00.08".to_owned(),
            "cores 6912".to_owned(),
            "bits 5120".to_owned(),
            "smmax 1410".to_owned(),
            "memmax 1215".to_owned(),
            "memory 16777216".to_owned(),
            "free 16000000".to_owned(),
            "ecc 1".to_owned(),
            "vc 0\n#.vu 0\n#.ac 0\n#.au 0".to_owned(),
            "rc 0\n#.ru 0\n#.rp 0\n#.rf 0".to_owned(),
            "temp 31;58".to_owned(),
            "slowdown 89\n#.shutdown 94".to_owned(),
            "power 34000;240000\n#.limit 250000".to_owned(),
            "gen 1;4\n#.width 16\n#.genmax 4\n#.widthmax 16".to_owned(),
            "replays 0\n#.persistence 1\n#.throttle 1;4\n#.sm 210;1410".to_owned(),
        ] {
            let _ = writeln!(text, "{gpu}.{}", line.replace('#', &gpu.to_string()));
        }
    }
    text
}
