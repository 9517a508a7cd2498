//! A folder of one test, recipes checked out into it, and the command.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::recipe::Rung;
use assay_model::report::{Report, ReportStage};
use assay_model::{Severity, Verdict};
use assay_process::{Child, Cmd, Output, Signal};
use tempfile::TempDir;

use crate::traces::Traces;

/// A whole run on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_mins(6);
/// How long the command may take to say a line that is waited for.
const SOON: Duration = Duration::from_mins(3);
/// All images from nothing.
const BUILD_LIMIT: Duration = Duration::from_mins(15);

/// What a test works in.
pub(crate) struct World {
    folder: TempDir,
    images: PathBuf,
}

/// A run that came to its end.
pub(crate) struct Tested {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) out: PathBuf,
}

/// A run that is under way.
pub(crate) struct Running {
    child: Child,
    pub(crate) said: Vec<String>,
    pub(crate) out: PathBuf,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self { images: images().await, folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A canary's repository.
    pub(crate) async fn checkout(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        let checkout = Cmd::new(repository().join("examples/recipes/checkout")).arg(name).arg(&folder);
        checkout.run_ok().await.expect("a repository");
        folder
    }

    /// `assay recipe test RECIPE …`, with the images. All that it makes on the side is below this test's folder.
    pub(crate) fn command(&self, recipe: &Path, out: &Path) -> Cmd {
        let temporary = self.path("t");
        std::fs::create_dir_all(&temporary).expect("a folder");
        let command = Cmd::new(env!("CARGO_BIN_EXE_assay")).args(["recipe", "test"]).arg(recipe);
        command
            .arg("--images")
            .arg(&self.images)
            .arg("--out")
            .arg(out)
            .env("TMPDIR", temporary)
            .timeout(LIMIT)
    }

    /// Runs it to its end, and sees that nothing of it stays.
    pub(crate) async fn test(&self, recipe: &Path, more: &[&str]) -> Tested {
        let tested = self.test_with(recipe, |command| command.args(more)).await;
        self.is_clean();
        tested
    }

    pub(crate) async fn test_with(&self, recipe: &Path, more: impl FnOnce(Cmd) -> Cmd) -> Tested {
        let out = self.out(recipe);
        let output = more(self.command(recipe, &out)).run().await.expect("it ran");
        Tested { code: output.code(), said: said(&output), out }
    }

    /// `assay reproduce` with the evidence of a run, carried elsewhere: its exit code, what it says, and its folder.
    pub(crate) async fn reproduce(&self, tested: &Tested) -> (Option<i32>, serde_json::Value, PathBuf) {
        let (bundle, out) = (self.path("carried.tar"), self.path("reproduced"));
        std::fs::copy(tested.out.join("bundle.tar"), &bundle).expect("carried");
        let command = Cmd::new(env!("CARGO_BIN_EXE_assay")).arg("reproduce").arg(&bundle);
        let command = command.arg("--images").arg(&self.images).args(["--no-registries", "--json", "--out"]);
        let output =
            command.arg(&out).env("TMPDIR", self.path("t")).timeout(LIMIT).run().await.expect("it ran");
        let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        (output.code(), told, out)
    }

    /// Starts it; the test says when it is to end.
    pub(crate) async fn start(&self, recipe: &Path, more: &[&str]) -> Running {
        let out = self.out(recipe);
        let child = self.command(recipe, &out).args(more).spawn().await.expect("it starts");
        Running { child, said: Vec::new(), out }
    }

    /// What is on this machine of this test's runs, beside the folder of evidence.
    pub(crate) fn traces(&self) -> Traces {
        Traces::of(self.folder.path())
    }

    /// Nothing runs, is mounted, is counted or lies about.
    pub(crate) fn is_clean(&self) {
        let traces = self.traces();
        assert!(traces.is_none(), "{traces:#?}");
        let left = files_in(&self.path("t"));
        assert!(left.is_empty(), "temporary files stay: {left:?}");
    }

    /// Another folder for each run.
    fn out(&self, recipe: &Path) -> PathBuf {
        let name = recipe.file_name().expect("a name").to_string_lossy().into_owned();
        (1..=1000)
            .map(|n| self.path(&format!("out-{name}-{n}")))
            .find(|path| !path.exists())
            .inspect(|path| {
                std::fs::create_dir(path).expect("a folder");
            })
            .expect("one that is not there")
    }
}

impl Tested {
    pub(crate) fn report(&self) -> Report {
        report(&self.out).unwrap_or_else(|| panic!("no report: {}", self.said))
    }
}

impl Running {
    /// Waits until it says a line with `word`.
    pub(crate) async fn says(&mut self, word: &str) {
        let said = &mut self.said;
        let child = &mut self.child;
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

    pub(crate) fn signal(&self, signal: Signal) {
        self.child.signal(signal).expect("it runs");
    }

    /// Waits for its end; the exit code, none after a signal.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        while let Some(line) = self.child.next_line().await {
            self.said.push(line.text);
        }
        self.child.wait().await.expect("it ends").code()
    }
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository").to_owned()
}

pub(crate) fn report(out: &Path) -> Option<Report> {
    let text = std::fs::read(out.join("report.json")).ok()?;
    Some(serde_json::from_slice(&text).expect("it reads"))
}

pub(crate) fn stage<'a>(report: &'a Report, name: &str) -> &'a ReportStage {
    report.stages.iter().find(|stage| stage.name == name).unwrap_or_else(|| panic!("no stage {name}"))
}

/// The verdict of each stage, in order: `Lint pass, Install fail`.
pub(crate) fn verdicts(report: &Report) -> String {
    let one =
        |stage: &ReportStage| format!("{} {}", stage.name, stage.verdict.map_or("none", Verdict::as_str));
    report.stages.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `2: pass pass fail pass pass`: the level, and the rungs from the lowest.
pub(crate) fn ladder(report: &Report) -> String {
    let ladder = report.ladder.as_ref().expect("a recipe has one");
    let rungs: Vec<&str> = Rung::ALL.into_iter().map(|rung| ladder.status(rung).as_str()).collect();
    format!("{}: {}", ladder.level, rungs.join(" "))
}

/// Critical findings, `Install CrashLoop`.
pub(crate) fn critical(report: &Report) -> Vec<String> {
    let critical = report.findings.iter().filter(|finding| finding.severity == Severity::Critical);
    let mut words: Vec<String> = critical
        .map(|f| format!("{} {}", f.stage.as_ref().map_or("run", |stage| stage.as_str()), f.code))
        .collect();
    words.dedup();
    words
}

/// What a check saw, of any stage.
pub(crate) fn seen(report: &Report) -> BTreeMap<String, String> {
    let checks = report.stages.iter().flat_map(|stage| &stage.checks);
    checks.map(|check| (check.name.clone(), check.seen.clone())).collect()
}

fn said(output: &Output) -> String {
    format!("{}\n{}", output.stdout_text(), output.stderr_text())
}

fn files_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The canaries' images: built once, shared by all tests, and built anew when what they are made from has changed.
async fn images() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recipe-images");
    std::fs::create_dir_all(&place).expect("a folder");
    let lock = std::fs::File::create(place.join("lock")).expect("a file to lock");
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .expect("no panic")
        .expect("locked");
    let sources = repository().join("examples/recipes/images");
    let made_of = digest(&sources);
    let (archives, stamp) = (place.join("archives"), place.join("made-of"));
    if std::fs::read_to_string(&stamp).ok().as_ref() != Some(&made_of) {
        let build = Cmd::new(sources.join("build"))
            .arg("--out")
            .arg(&archives)
            .arg("--cache")
            .arg(place.join("layers"));
        build.timeout(BUILD_LIMIT).run_ok().await.expect("the images are built");
        std::fs::write(&stamp, made_of).expect("written");
    }
    drop(lock);
    archives
}

fn digest(folder: &Path) -> String {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        (&file, std::fs::read(&file).expect("a file")).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}
