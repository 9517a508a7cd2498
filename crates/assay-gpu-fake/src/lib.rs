//! A driver without GPUs: its two libraries, compiled from C where they are needed, answering from a capture.
//!
//! The libraries are loaded as the real ones are, so loading, symbols and layouts of structures are exercised for real.
//! What a capture can say stands in `capture.h`, and which faults arise at work in `cuda.c`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{fs, io};

use assay_process::{Cmd, ProcessError};

/// The two libraries, each from the file of its name.
const SOURCES: [(&str, &str); 3] = [
    ("capture.h", include_str!("capture.h")),
    ("nvml.c", include_str!("nvml.c")),
    ("cuda.c", include_str!("cuda.c")),
];
/// The answers, read from beside the libraries.
const CAPTURE: &str = "capture";

/// Why there is no such driver.
#[derive(Debug, thiserror::Error)]
pub enum FakeError {
    /// No compiler, or it fails.
    #[error(
        "the libraries of a driver without GPUs cannot be compiled; is a C compiler installed (apt install gcc libc6-dev)?"
    )]
    Compile(#[source] ProcessError),
    /// A file cannot be written.
    #[error("the libraries of a driver without GPUs cannot be written")]
    Write(#[source] io::Error),
}

/// A folder with the two libraries and their capture.
#[derive(Debug)]
pub struct FakeDriver {
    folder: tempfile::TempDir,
}

impl FakeDriver {
    /// Compiles both libraries; `changes` as in [`capture`].
    ///
    /// # Errors
    /// No C compiler, or no room for files.
    pub async fn compile(changes: &str) -> Result<Self, FakeError> {
        let fake = Self { folder: tempfile::tempdir().map_err(FakeError::Write)? };
        for (name, source) in SOURCES {
            fs::write(fake.at(name), source).map_err(FakeError::Write)?;
        }
        for (library, source) in [(fake.nvml(), "nvml.c"), (fake.cuda(), "cuda.c")] {
            let cc = Cmd::new("cc").args(["-O2", "-w", "-shared", "-fPIC", "-o"]);
            cc.arg(library).arg(fake.at(source)).arg("-lm").run_ok().await.map_err(FakeError::Compile)?;
        }
        fake.change(changes).map_err(FakeError::Write)?;
        Ok(fake)
    }

    /// As [`Self::compile`], for tests.
    ///
    /// # Panics
    /// Where that fails.
    pub async fn with(changes: &str) -> Self {
        Self::compile(changes).await.expect("the fake driver compiles")
    }

    /// Another capture from now on; `changes` as in [`capture`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn change(&self, changes: &str) -> io::Result<()> {
        fs::write(self.at(CAPTURE), capture(changes))
    }

    /// The management library.
    pub fn nvml(&self) -> OsString {
        self.at("libnvml.so").into()
    }

    /// The compute library.
    pub fn cuda(&self) -> OsString {
        self.at("libcuda.so").into()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What the libraries are to answer: two boards in good order, but for `changes`, a line each in place of the one with
/// the same key. A line `-key` takes one away.
pub fn capture(changes: &str) -> String {
    let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = healthy().lines().map(str::to_owned).collect();
    for change in changes.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let wanted = change.strip_prefix('-').unwrap_or(change);
        lines.retain(|line| key(line) != key(wanted));
        if !change.starts_with('-') {
            lines.push(change.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

/// Two boards that have nothing wrong with them, idle until a kernel is launched.
fn healthy() -> String {
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
