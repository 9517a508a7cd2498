//! A canary's repository, and a run over it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::Verdict;
use assay_model::report::Report;
use assay_process::Cmd;

/// A whole run, on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_mins(10);

/// A canary, checked out.
pub(crate) struct Canary {
    /// With the recipe under its name, and the images.
    folder: tempfile::TempDir,
    name: String,
    images: PathBuf,
}

/// A run that is over.
pub(crate) struct Run {
    pub(crate) report: Report,
    pub(crate) said: String,
    artifacts: PathBuf,
    _folder: tempfile::TempDir,
}

impl Canary {
    pub(crate) async fn checkout(name: &str) -> Self {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .expect("the repository")
            .join("examples/recipes");
        let folder = tempfile::Builder::new().prefix("sso-").tempdir().expect("a folder");
        let images = folder.path().join("images");
        let built = Cmd::new(recipes.join("images/build").display().to_string())
            .args(["ledger", "postgres", "static-web", "--out"])
            .arg(&images)
            .timeout(LIMIT);
        built.run_ok().await.expect("images are built");
        let to = folder.path().join("recipes").join(name);
        let checkout = Cmd::new(recipes.join("checkout").display().to_string()).arg(name).arg(to);
        checkout.run_ok().await.expect("it is checked out");
        Self { folder, name: name.to_owned(), images }
    }

    /// The folder that the checkout is in.
    pub(crate) fn parent(&self) -> String {
        self.folder.path().join("recipes").display().to_string()
    }

    fn recipe(&self) -> PathBuf {
        self.folder.path().join("recipes").join(&self.name)
    }

    /// Changes a file, as an author does before a commit.
    pub(crate) fn change(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.recipe().join(file);
        let before = std::fs::read_to_string(&path).expect("it is there");
        let after = change(before.clone());
        assert_ne!(before, after);
        std::fs::write(path, after).expect("written");
    }

    /// Makes the ledger a dependency, and a test ask it.
    pub(crate) fn depend_on_ledger(&self) {
        self.change("tests/assay.toml", |settings| {
            format!("{settings}\n[[dependencies]]\nname = \"books\"\nrecipe = \"ledger\"\n")
        });
        let test = self.recipe().join("tests/functional/books");
        let script = "#!/usr/bin/env python3\n# assay-context: 1\nimport json, os, ssl, urllib.request\n\
                      context = json.load(open(os.environ[\"ASSAY_CONTEXT\"]))\n\
                      trust = ssl.create_default_context(cafile=context[\"paths\"][\"ca_file\"])\n\
                      books = context[\"deps\"][\"books\"]\n\
                      assert books[\"url\"] == \"https://books.\" + context[\"domain\"] and books[\"db_password\"]\n\
                      print(urllib.request.urlopen(books[\"url\"] + \"/health\", context=trust).read().decode())\n";
        std::fs::write(&test, script).expect("written");
        std::fs::set_permissions(&test, std::fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// `assay recipe test` over it.
    pub(crate) async fn test(&self, arguments: &[&str]) -> Run {
        let folder = tempfile::Builder::new().prefix("sso-out-").tempdir().expect("a folder");
        let out = folder.path().join("out");
        let ran = Cmd::new(env!("CARGO_BIN_EXE_assay"))
            .args(["recipe", "test"])
            .arg(self.recipe())
            .arg("--images")
            .arg(&self.images)
            .arg("--out")
            .arg(&out)
            .args(arguments.iter().copied())
            .timeout(LIMIT)
            .run()
            .await
            .expect("it ran");
        let said = format!("{}\n{}", ran.stdout_text(), ran.stderr_text());
        let text = std::fs::read(out.join("report.json"))
            .unwrap_or_else(|error| panic!("a report: {error}\n{said}"));
        let report = serde_json::from_slice(&text).expect("it reads");
        Run { report, said, artifacts: out.join("artifacts"), _folder: folder }
    }
}

impl Run {
    pub(crate) fn level(&self) -> Option<u8> {
        let ladder = self.report.ladder.as_ref()?;
        Some(ladder.level)
    }

    pub(crate) fn verdict(&self, stage: &str) -> Option<Verdict> {
        self.report.stages.iter().find(|found| found.name == stage)?.verdict
    }

    /// What was expected of a check, and what was seen.
    pub(crate) fn check(&self, stage: &str, name: &str) -> (String, String) {
        let stage = self.report.stages.iter().find(|found| found.name == stage).expect("the stage");
        let check = stage.checks.iter().find(|check| check.name == name).expect("the check");
        (check.expected.clone(), check.seen.clone())
    }

    pub(crate) fn artifact(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("text")
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.artifacts.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.said))
    }
}
