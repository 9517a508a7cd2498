//! Where a machine's files and tools are.

use std::path::{Path, PathBuf};

/// The machine being probed: `/` on real hardware, a folder with captured files in tests.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
    tools: Option<PathBuf>,
}

impl Machine {
    /// The machine that this program runs on.
    pub fn this() -> Self {
        Self { root: "/".into(), tools: None }
    }

    /// A captured machine: `root` holds `sys/`, `proc/` …; `tools`, when given, is the only folder
    /// in which tools are looked for.
    pub fn captured(root: impl Into<PathBuf>, tools: Option<PathBuf>) -> Self {
        Self { root: root.into(), tools }
    }

    /// A path on this machine: `path("sys/class/net")`.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative.as_ref().strip_prefix("/").unwrap_or(relative.as_ref()))
    }

    /// How to start a tool: its plain name, or its path in the captured tools folder.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.tools.as_ref().map_or_else(|| name.into(), |dir| dir.join(name))
    }
}
