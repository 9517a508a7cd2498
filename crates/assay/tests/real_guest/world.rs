//! A folder of one test, a recipe checked out into it, and the command.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::report::{Report, ReportStage};
use assay_process::{Child, Cmd, Detached};
use tempfile::TempDir;

use crate::traces::Traces;

/// A whole run in software emulation, on a machine that is busy with other things, with a machine that dies at first.
const LIMIT: Duration = Duration::from_mins(20);
/// How long the command may take to say a line that is waited for.
const SOON: Duration = Duration::from_mins(5);

pub(crate) struct World {
    folder: TempDir,
}

/// A run that came to its end.
pub(crate) struct Tested {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) out: PathBuf,
}

/// A run that is under way.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) said: Vec<String>,
    out: PathBuf,
}

impl World {
    /// With the image of the static site, and the program as it is shipped: without symbols, which a machine would only copy.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("guest-").tempdir().expect("a folder");
        let image = repository().join("target/guest-image/manifest.json");
        assert!(image.is_file(), "there is no guest image; run `cargo xtask guest-image`");
        let build =
            Cmd::new(repository().join("examples/recipes/images/build")).args(["static-web", "--out"]);
        build.arg(folder.path().join("images")).timeout(LIMIT).run_ok().await.expect("images");
        let strip = Cmd::new("strip").arg("-o").arg(folder.path().join("assay"));
        strip.arg(env!("CARGO_BIN_EXE_assay")).timeout(LIMIT).run_ok().await.expect("stripped");
        std::fs::create_dir(folder.path().join("t")).expect("a folder");
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The static site's repository.
    pub(crate) async fn checkout(&self) -> PathBuf {
        let folder = self.path("static-site");
        let checkout =
            Cmd::new(repository().join("examples/recipes/checkout")).arg("static-site").arg(&folder);
        checkout.run_ok().await.expect("a repository");
        folder
    }

    /// Starts `assay recipe test RECIPE --in-vm …`.
    pub(crate) async fn start(&self, recipe: &Path, more: &[&str]) -> Running {
        let out = self.path("out");
        let command = Cmd::new(self.path("assay")).args(["recipe", "test"]).arg(recipe);
        let command = command.args(["--in-vm", "--guest-image"]);
        let command = command.arg(repository().join("target/guest-image"));
        let command = command.arg("--images").arg(self.path("images")).arg("--out").arg(&out);
        let command = command.args(more.iter().copied()).env("TMPDIR", self.path("t")).timeout(LIMIT);
        Running { child: command.spawn().await.expect("it starts"), said: Vec::new(), out }
    }

    /// What is on this machine of this test's runs, beside the folder of evidence.
    pub(crate) fn traces(&self) -> Traces {
        Traces::of(&self.path("t"))
    }

    /// Nothing runs, is mounted, is counted or lies about.
    pub(crate) fn is_clean(&self) {
        let traces = self.traces();
        assert!(traces.is_none(), "{traces:#?}");
        let entries = std::fs::read_dir(self.path("t")).expect("a folder");
        let left: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        assert!(left.is_empty(), "temporary files stay: {left:?}");
    }
}

impl Running {
    /// Waits until it says a line with `word`.
    pub(crate) async fn says(&mut self, word: &str) {
        let Self { child, said, .. } = self;
        let heard = async {
            while let Some(line) = child.next_line().await {
                let found = line.text.contains(word);
                said.push(line.text);
                if found {
                    return true;
                }
            }
            false
        };
        let heard = tokio::time::timeout(SOON, heard).await;
        assert!(matches!(heard, Ok(true)), "it never said `{word}`: {:#?}", self.said);
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Tested {
        let all = async {
            while let Some(line) = self.child.next_line().await {
                self.said.push(line.text);
            }
        };
        let whole = tokio::time::timeout(LIMIT, all).await;
        assert!(whole.is_ok(), "it does not end: {:#?}", self.said);
        let status = self.child.wait().await.expect("it ends");
        Tested { code: status.code(), said: self.said.join("\n"), out: self.out }
    }
}

impl Tested {
    pub(crate) fn report(&self) -> Report {
        let text = std::fs::read(self.out.join("report.json")).unwrap_or_else(|_| panic!("{}", self.said));
        serde_json::from_slice(&text).expect("it reads")
    }

    pub(crate) fn artifact(&self, name: &str) -> String {
        let path = self.out.join("artifacts").join(name);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; {}", path.display(), self.said))
    }
}

pub(crate) fn stage<'a>(report: &'a Report, name: &str) -> &'a ReportStage {
    report.stages.iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage {name}"))
}

/// QEMU among the processes that are in one of a run's namespaces.
pub(crate) fn qemu_of(traces: &Traces) -> Detached {
    Detached::of(qemu_pid(traces)).expect("it is there")
}

/// Its process id.
pub(crate) fn qemu_pid(traces: &Traces) -> u32 {
    let named = |pid: &u32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let network = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
        read("cmdline").starts_with("qemu-system-x86_64") && traces.namespaces.contains(&network)
    };
    let entries = std::fs::read_dir("/proc").expect("processes");
    let mut pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(named).expect("QEMU runs")
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository").to_owned()
}

/// A test of the recipe's own.
pub(crate) fn put(recipe: &Path, name: &str, script: &str) {
    let path = recipe.join("tests").join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(&path, script).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}
