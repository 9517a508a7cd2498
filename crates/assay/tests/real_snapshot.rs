//! `assay image test --from-phase`: a run that goes on from where an earlier one was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::Verdict;
use assay_model::report::{Report, ReportStage};
use assay_process::{Cmd, Output};

/// A whole installation in software emulation, on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_mins(12);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository").to_owned()
}

/// What becomes of the reference's machine, so that it can be kept while it runs: no disk on NVMe, and still a faster one
/// to boot from.
const WITHOUT_NVME: [(&str, &str); 2] =
    [("bus = \"nvme\"", "bus = \"sata\""), ("bus = \"sata\"", "bus = \"sata\"\nrotational = true")];

/// The reference installer and its profile, on another machine.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder") };
        let build = Cmd::new(repository().join("examples/images/reference/build")).arg(bench.iso());
        build.timeout(LIMIT).run_ok().await.expect("the reference installer is built");
        bench
    }

    fn iso(&self) -> PathBuf {
        self.folder.path().join("reference.iso")
    }

    /// Tests the image; what is changed in the profile is given as words and what stands in their place.
    async fn test(&self, name: &str, changed: (&str, &str)) -> (Output, Report) {
        let examples = repository().join("examples/images");
        let text = std::fs::read_to_string(examples.join("reference.toml")).expect("the profile");
        assert!(text.contains(changed.0), "{} is not in the profile", changed.0);
        let [ssd, hdd] = WITHOUT_NVME;
        let text = text.replace(hdd.0, hdd.1).replace(ssd.0, ssd.1).replace(changed.0, changed.1);
        let profile = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&profile, text).expect("written");
        let tree = self.folder.path().join("cluster-nodes");
        if !tree.exists() {
            std::os::unix::fs::symlink(examples.join("cluster-nodes"), tree).expect("linked");
        }
        let out = self.folder.path().join(name);
        let output = Cmd::new(env!("CARGO_BIN_EXE_assay"))
            .args(["image", "test"])
            .arg(self.iso())
            .args(["--from-phase", "welcome", "--until", "Join", "--profile"])
            .arg(&profile)
            .arg("--out")
            .arg(&out)
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .timeout(LIMIT)
            .run()
            .await
            .expect("it ran");
        let report = std::fs::read(out.join("report.json")).unwrap_or_else(|_| panic!("{}", said(&output)));
        (output, serde_json::from_slice(&report).expect("it reads"))
    }
}

fn said(output: &Output) -> String {
    format!("{}\n{}", output.stdout_text(), output.stderr_text())
}

fn stage<'a>(report: &'a Report, name: &str) -> &'a ReportStage {
    report.stages.iter().find(|stage| stage.name == name).expect(name)
}

#[tokio::test]
async fn a_machine_that_was_installed_once_is_looked_at_again_from_its_snapshot() {
    let bench = Bench::new().await;
    let same = ("name = \"reference\"", "name = \"reference\"");
    let (output, whole) = bench.test("whole", same).await;
    assert_eq!(output.code(), Some(0), "{}", said(&output));
    assert!(!stage(&whole, "Install").message.contains("not done again"));

    let (output, again) = bench.test("again", same).await;
    assert_eq!(output.code(), Some(0), "{}", said(&output));
    let seen: Vec<_> = stage(&again, "Prepare").checks.iter().filter(|c| c.name == "snapshot").collect();
    assert!(seen.len() == 1 && seen[0].seen.contains("as it was after phase welcome"), "{seen:?}");
    for name in ["Boot", "Install"] {
        assert!(stage(&again, name).message.contains("not done again"), "{}", stage(&again, name).message);
    }
    for name in ["Reboot", "Identify", "Join"] {
        let stage = stage(&again, name);
        assert_eq!(stage.verdict, Some(Verdict::Pass), "{name}: {}", stage.message);
        assert!(!stage.message.contains("not done again"), "{name}: {}", stage.message);
    }
    let reboot = &stage(&again, "Reboot").message;
    assert!(reboot.contains("from phase welcome on"), "{reboot}");
    // The same machine: it is the one that was installed, and its transcript begins where it was switched on.
    assert_eq!(stage(&again, "Identify").message, stage(&whole, "Identify").message);
    let transcript = bench.folder.path().join("again/artifacts/installed-serial.txt");
    let transcript = std::fs::read_to_string(transcript).expect("a transcript");
    assert!(transcript.contains("Linux version") || transcript.contains("Welcome to"), "{transcript}");

    // What is asked of it now is judged now: from the same snapshot, a field that it does not have.
    let (output, wrong) =
        bench.test("wrong", ("\"/kind\" = \"ClusterNode\"", "\"/kind\" = \"Pigeon\"")).await;
    assert_eq!(output.code(), Some(1), "{}", said(&output));
    assert!(stage(&wrong, "Install").message.contains("not done again"));
    assert!(wrong.findings.iter().any(|finding| finding.code == "PayloadFieldWrong"), "{:?}", wrong.findings);
}

#[tokio::test]
async fn a_phase_that_there_is_not_is_refused_before_anything_is_started() {
    let output = Cmd::new(env!("CARGO_BIN_EXE_assay"))
        .args(["image", "test", "/usr/lib/ipxe/ipxe.iso", "--from-phase", "welcom", "--profile"])
        .arg(repository().join("examples/images/reference.toml"))
        .run()
        .await
        .expect("it ran");
    assert_ne!(output.code(), Some(0));
    assert!(said(&output).contains("did you mean `welcome`"), "{}", said(&output));
}
