//! `assay image`, as a newcomer uses it: real media in real machines, without a server and without root.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::report::Report;
use assay_model::{RunResult, Severity, Verdict};
use assay_process::{Cmd, Output};

/// A whole installation in software emulation, on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_mins(12);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository").to_owned()
}

fn assay() -> Cmd {
    Cmd::new(env!("CARGO_BIN_EXE_assay")).timeout(LIMIT)
}

/// What a failed expectation shows.
fn said(output: &Output) -> String {
    format!("{}\n{}", output.stdout_text(), output.stderr_text())
}

fn report(out: &Path) -> Report {
    let text = std::fs::read(out.join("report.json")).expect("a report");
    serde_json::from_slice(&text).expect("it reads")
}

/// The verdict of each stage, in order.
fn verdicts(report: &Report) -> Vec<(String, Option<Verdict>)> {
    report.stages.iter().map(|stage| (stage.name.clone(), stage.verdict)).collect()
}

/// iPXE's own image boots, and never installs anything: its screen is all it has.
#[tokio::test]
async fn a_medium_that_only_boots_is_read_off_its_screen() {
    let folder = tempfile::tempdir().expect("a folder");
    let profile = folder.path().join("ipxe.toml");
    std::fs::write(&profile, "name = \"ipxe\"\n[boot]\nrung = \"bootloader\"\ntimeout = \"90s\"\n")
        .expect("written");
    let out = folder.path().join("out");
    let tested = assay()
        .args(["image", "test", "/usr/lib/ipxe/ipxe.iso", "--profile"])
        .arg(&profile)
        .arg("--junit")
        .arg(folder.path().join("junit.xml"))
        .arg("--out")
        .arg(&out)
        .run()
        .await
        .expect("it ran");
    assert_eq!(tested.code(), Some(0), "{}", said(&tested));
    let report = report(&out);
    assert_eq!(report.run.result, Some(RunResult::Pass));
    let expected =
        ["Prepare", "Inspect", "Boot", "Install", "Reboot", "Identify", "Join", "Reconcile", "Reporting"];
    let seen: Vec<_> = verdicts(&report);
    assert_eq!(seen.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
    let skipped = seen.iter().filter(|(_, verdict)| *verdict == Some(Verdict::Skip)).count();
    assert_eq!(skipped, 5, "nothing was asked of them, and that is said: {seen:?}");
    let screen =
        std::fs::read_to_string(out.join("artifacts/installer-screen.txt")).expect("what was on the screen");
    assert!(screen.contains("iPXE"), "{screen}");
    let junit = std::fs::read_to_string(folder.path().join("junit.xml")).expect("JUnit");
    assert!(junit.contains(r#"tests="9" skipped="5" failures="0" errors="0""#), "{junit}");
    let verified = assay().arg("verify").arg(out.join("bundle.tar")).run().await.expect("it ran");
    assert_eq!(verified.code(), Some(0), "{}", said(&verified));
    // The profile is in there and the medium is not: which one it has to be is said, and another one is not taken.
    let again = async |more: &[&Path], code: i32| {
        let command = assay().arg("reproduce").arg(out.join("bundle.tar")).args(more.iter().copied());
        let asked = command.arg("--out").arg(folder.path().join("again")).run().await.expect("it ran");
        assert_eq!(asked.code(), Some(code), "{}", said(&asked));
        said(&asked)
    };
    let wanted = again(&[], 5).await;
    let digest =
        wanted.split("SHA-256 ").nth(1).and_then(|rest| rest.get(..64)).expect("a digest").to_owned();
    assert!(wanted.contains("--medium FILE"), "{wanted}");
    let other = again(&["--medium".as_ref(), &profile], 5).await;
    assert!(other.contains("is another medium") && other.contains(&digest), "{other}");
    let same = again(&["--medium".as_ref(), "/usr/lib/ipxe/ipxe.iso".as_ref()], 0).await;
    assert!(same.contains("reproduced: pass again, every stage as before"), "{same}");
}

/// The same image under a profile that asks for more than it does.
#[tokio::test]
async fn a_medium_that_never_installs_fails_a_profile_that_wants_it_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let profile = folder.path().join("ipxe.toml");
    let text = "name = \"ipxe\"\n[boot]\nrung = \"bootloader\"\n[console]\nsilence = \"40s\"\n\
                [[phase]]\nname = \"installed\"\nmarker = \"Installation complete\"\ntimeout = \"60s\"\n";
    std::fs::write(&profile, text).expect("written");
    let out = folder.path().join("out");
    let command = assay().args(["image", "test", "/usr/lib/ipxe/ipxe.iso", "--profile"]).arg(&profile);
    let tested = command.arg("--out").arg(&out).run().await.expect("it ran");
    assert_eq!(tested.code(), Some(1), "{}", said(&tested));
    let report = report(&out);
    assert_eq!(report.run.failed_stage.as_deref(), Some("Install"));
    // It finds nothing on the network and gives the machine back to its BIOS, which says so.
    let critical = report.findings.iter().filter(|finding| finding.severity == Severity::Critical);
    assert_eq!(critical.map(|finding| finding.code.as_str()).collect::<Vec<_>>(), ["NoBootableDevice"]);
    let pictures = report.artifacts.iter().filter(|artifact| artifact.name.contains("failure")).count();
    assert_eq!(pictures, 1, "the screen as it was when it failed");
}

/// An emulator that dies under the first machine, and is sound afterwards.
const DIES_ONCE: &str = r#"#!/bin/bash
case "$*" in
*guest=assay-*) if mkdir "$(dirname "$0")/died" 2>/dev/null; then exec timeout -s ABRT 2 "$REAL" "$@"; fi ;;
esac
exec "$REAL" "$@"
"#;

#[tokio::test]
async fn an_emulator_that_dies_is_not_the_image_s_failure_and_the_run_begins_anew() {
    const QEMU: &str = "qemu-system-x86_64";
    let folder = tempfile::tempdir().expect("a folder");
    let real = assay_process::find_program(QEMU).expect("QEMU");
    let shim = folder.path().join(QEMU);
    std::fs::write(&shim, DIES_ONCE).expect("written");
    std::fs::set_permissions(&shim, Permissions::from_mode(0o755)).expect("executable");
    let profile = repository().join("examples/images/ipxe.toml");
    let out = folder.path().join("out");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH"));
    let tested = assay()
        .args(["image", "test", "/usr/lib/ipxe/ipxe.iso", "--profile"])
        .arg(&profile)
        .arg("--out")
        .arg(&out)
        .env("PATH", path)
        .env("REAL", real)
        .run()
        .await
        .expect("it ran");
    assert_eq!(tested.code(), Some(0), "{}", said(&tested));
    let report = report(&out);
    let boot = report.stages.iter().find(|stage| stage.name == "Boot").expect("it booted");
    assert_eq!((boot.verdict, boot.attempt), (Some(Verdict::Pass), 2));
    assert!(boot.lost_attempts[0].contains("QEMU ended"), "{:?}", boot.lost_attempts);
}

/// The reference installer under UEFI, from a stick with staged files to what a cluster makes of its registration.
#[tokio::test]
async fn the_reference_installer_is_proven_end_to_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let iso = folder.path().join("reference.iso");
    let build = Cmd::new(repository().join("examples/images/reference/build")).arg(&iso).timeout(LIMIT);
    build.run_ok().await.expect("the reference installer is built");
    let out = folder.path().join("out");
    let tested = assay()
        .args(["image", "test"])
        .arg(&iso)
        .arg("--profile")
        .arg(repository().join("examples/images/reference.toml"))
        .args(["--main", "--firmware", "uefi", "--out"])
        .arg(&out)
        .run()
        .await
        .expect("it ran");
    assert_eq!(tested.code(), Some(0), "{}", said(&tested));
    let report = report(&out);
    assert_eq!(report.run.target, "reference[firmware=uefi]");
    assert!(
        report.stages.iter().all(|stage| stage.verdict == Some(Verdict::Pass)),
        "{:?}",
        verdicts(&report)
    );
    let checks: Vec<_> = report.stages.iter().flat_map(|stage| &stage.checks).collect();
    for (name, seen) in [
        ("disk USB0", "the same, byte for byte"),
        ("disk RO0", "the same, byte for byte"),
        ("typing", "0 bytes and keys"),
        ("de-registration", "merged, taken out, nothing left"),
    ] {
        assert!(checks.iter().any(|check| check.name == name && check.seen == seen), "{name}");
    }
    let html = std::fs::read_to_string(out.join("report.html")).expect("a report");
    assert!(html.matches("data:image/png;base64,").count() >= 5, "its screens are on the report");
    let serial = std::fs::read_to_string(out.join("artifacts/installer-serial.txt")).expect("a transcript");
    assert!(serial.contains("ZETA CLUSTER NODE INSTALL COMPLETE"), "{serial}");
    let told = std::fs::read_to_string(out.join("artifacts/installer-progress.txt")).expect("the other port");
    assert!(told.contains("phase first-boot begin") && told.contains("phase first-boot end 0"), "{told}");
}
