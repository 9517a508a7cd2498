//! A canary's checkout, its images, the same images with a tag moved, and builds of Assay that are good or broken.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::Sha256;
use assay_model::report::Report;
use assay_pipelines::recipe::over_time::Results;
use assay_process::Cmd;
use serde_json::{Value, json};

/// Several whole runs on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_mins(20);
/// The canary: one service, one volume.
const RECIPE: &str = "static-site";

pub(crate) struct World {
    folder: tempfile::TempDir,
}

fn canaries() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository");
    repository.join("examples/recipes")
}

impl World {
    pub(crate) async fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().expect("a folder") };
        let checkout = Cmd::new(canaries().join("checkout")).arg(RECIPE).arg(world.recipe());
        checkout.run_ok().await.expect("a checkout");
        let build =
            Cmd::new(canaries().join("images/build")).arg("static-web").arg("--out").arg(world.images());
        build.timeout(LIMIT).run_ok().await.expect("images");
        world
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn recipe(&self) -> PathBuf {
        self.path().join(RECIPE)
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.path().join("images")
    }

    /// The same tag, another image behind it: one that ends at once.
    pub(crate) async fn with_moved_tag(&self) -> PathBuf {
        let (moved, files) = (self.path().join("moved"), self.path().join("moved-files"));
        for folder in [&moved, &files] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let tar = |arguments: &[&str]| Cmd::new("tar").args(arguments.iter().copied());
        let archive = self.images().join("static-web-1.0.tar");
        tar(&["-xf"]).arg(&archive).arg("-C").arg(&files).run_ok().await.expect("unpacked");
        let read = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(files.join(name)).expect("a file")).expect("JSON")
        };
        let mut manifest = read("manifest.json");
        let mut config = read(manifest[0]["Config"].as_str().expect("its configuration"));
        config["config"]["Entrypoint"] = json!(["/bin/false"]);
        let text = config.to_string();
        // An image's configuration has its digest for a name.
        let name = format!("{}.json", Sha256::of(text.as_bytes()));
        std::fs::write(files.join(&name), text).expect("written");
        manifest[0]["Config"] = json!(name);
        std::fs::write(files.join("manifest.json"), manifest.to_string()).expect("written");
        let names =
            std::fs::read_dir(&files).expect("a folder").map(|entry| entry.expect("a file").file_name());
        let pack = tar(&["-cf"]).arg(moved.join("static-web-1.0.tar")).arg("-C").arg(&files).args(names);
        pack.run_ok().await.expect("packed");
        moved
    }

    pub(crate) async fn head(&self) -> String {
        let head = Cmd::new("git")
            .arg("-C")
            .arg(self.recipe())
            .args(["rev-parse", "HEAD"])
            .run_ok()
            .await
            .expect("a commit");
        head.stdout_text().trim().to_owned()
    }

    /// A commit on top whose app ends at once.
    pub(crate) async fn with_a_bug(&self) -> String {
        let compose = self.recipe().join("compose.yml");
        let text = std::fs::read_to_string(&compose).expect("a file");
        let bug = text.replace("command: [", "entrypoint: [\"/bin/false\"]\n    command: [");
        assert_ne!(bug, text, "the bug is planted");
        std::fs::write(&compose, bug).expect("written");
        let git = |arguments: &[&str]| {
            let who = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"];
            Cmd::new("git").arg("-C").arg(self.recipe()).args(who).args(arguments.iter().copied())
        };
        git(&["commit", "--quiet", "--all", "--message", "A bug"]).run_ok().await.expect("committed");
        self.head().await
    }

    /// A build of Assay: the one under test, with something said before it starts.
    pub(crate) fn build(&self, name: &str, before: &str) -> PathBuf {
        let program = self.path().join(format!("assay-{name}"));
        let text = format!("#!/bin/sh\n{before}\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_assay"));
        std::fs::write(&program, text).expect("written");
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("executable");
        program
    }

    /// A build that cannot take backups: what it takes for restic fails.
    pub(crate) fn build_with_broken_restic(&self, name: &str) -> PathBuf {
        let tools = self.path().join("tools");
        std::fs::create_dir_all(&tools).expect("a folder");
        let restic = tools.join("restic");
        std::fs::write(&restic, "#!/bin/sh\necho 'Fatal: broken on purpose' >&2\nexit 1\n").expect("written");
        std::fs::set_permissions(&restic, Permissions::from_mode(0o755)).expect("executable");
        self.build(name, &format!("PATH={}:$PATH; export PATH", tools.display()))
    }

    /// One whole run, on a store that keeps its history.
    pub(crate) async fn test(&self, images: &Path, data: &Path, name: &str) -> Results {
        let out = self.path().join(name);
        let cmd = Cmd::new(env!("CARGO_BIN_EXE_assay"))
            .args(["recipe", "test"])
            .arg(self.recipe())
            .args(["--seed", "7"]);
        let cmd =
            cmd.arg("--images").arg(images).arg("--data").arg(data).arg("--out").arg(&out).timeout(LIMIT);
        let said = cmd.run().await.expect("it ran");
        let text = std::fs::read(out.join("results.json"));
        let text =
            text.unwrap_or_else(|error| panic!("{error}\n{}\n{}", said.stdout_text(), said.stderr_text()));
        serde_json::from_slice(&text).expect("results")
    }

    pub(crate) fn report(&self, name: &str) -> Report {
        let text = std::fs::read(self.path().join(name).join("report.json")).expect("a report");
        serde_json::from_slice(&text).expect("it reads")
    }

    pub(crate) async fn ab(
        &self,
        builds: &[&Path],
        commits: &[&str],
        images: &Path,
        stages: &str,
        name: &str,
    ) -> Value {
        let mut cmd = Cmd::new(env!("CARGO_BIN_EXE_assay"))
            .arg("ab")
            .arg(self.recipe())
            .args(["--json", "--tries", "1"]);
        for build in builds {
            cmd = cmd.arg("--harness").arg(*build);
        }
        for commit in commits {
            cmd = cmd.args(["--commit", commit]);
        }
        cmd = cmd
            .arg("--images")
            .arg(images)
            .args(["--stages", stages, "--jobs", "2"])
            .arg("--out")
            .arg(self.path().join(name));
        json_of(cmd).await
    }

    pub(crate) async fn sweep(&self, images: &Path, against: Option<&Path>, name: &str) -> Value {
        let mut cmd = Cmd::new(env!("CARGO_BIN_EXE_assay")).arg("sweep").arg(self.recipe()).arg("--json");
        if let Some(against) = against {
            cmd = cmd.arg("--against").arg(against);
        }
        json_of(cmd.arg("--images").arg(images).arg("--out").arg(self.path().join(name))).await
    }
}

async fn json_of(cmd: Cmd) -> Value {
    let said = cmd.timeout(LIMIT).run().await.expect("it ran");
    let text = said.stdout_text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{}", said.stderr_text()))
}
