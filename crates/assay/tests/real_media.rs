//! Media that others made, from Debian packages, under their profiles in `examples/images`: what a medium really does must be
//! what the run says. FAI's takes a quarter of an hour and is run by hand; see `examples/images/fai.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::report::Report;
use assay_model::{RunResult, Verdict};
use assay_process::{Cmd, Output};

/// A boot and a few prompts in software emulation, on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_mins(12);

const MEMTEST: &str = "/usr/lib/memtest86+/memtest86+x64.iso";
const IPXE: &str = "/usr/lib/ipxe/ipxe.iso";
const GRUB: &str = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso";

/// A medium that has been tested.
struct Tested {
    output: Output,
    report: Report,
    screen: String,
    _folder: tempfile::TempDir,
}

impl Tested {
    fn said(&self) -> String {
        format!("{}\n{}\n{}", self.output.stdout_text(), self.output.stderr_text(), self.screen)
    }

    /// It passed, and nothing but its boot was asked of it.
    fn only_booted(&self) {
        assert_eq!(self.output.code(), Some(0), "{}", self.said());
        assert_eq!(self.report.run.result, Some(RunResult::Pass));
        for stage in &self.report.stages {
            let expected = match stage.name.as_str() {
                "Prepare" | "Inspect" | "Boot" | "Reporting" => Verdict::Pass,
                _ => Verdict::Skip,
            };
            assert_eq!(stage.verdict, Some(expected), "{}: {}", stage.name, self.said());
        }
    }

    /// It failed there, for that and nothing else that is critical; what the finding says.
    fn failed(&self, stage: &str, code: &str) -> &str {
        assert_eq!(self.output.code(), Some(1), "{}", self.said());
        assert_eq!(self.report.run.failed_stage.as_deref(), Some(stage), "{}", self.said());
        let critical: Vec<_> = self
            .report
            .findings
            .iter()
            .filter(|finding| finding.severity == assay_model::Severity::Critical)
            .map(|finding| (finding.code.as_str(), finding.message.as_str()))
            .collect();
        let [(seen, message)] = critical[..] else { panic!("{critical:?}") };
        assert_eq!(seen, code, "{message}");
        message
    }
}

fn images() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository");
    repository.join("examples/images")
}

/// The example profile of that name.
fn profile(name: &str) -> String {
    std::fs::read_to_string(images().join(format!("{name}.toml"))).expect("the profile")
}

async fn test(medium: impl AsRef<Path>, profile: &str, firmware: &str) -> Tested {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("profile.toml");
    std::fs::write(&file, profile).expect("written");
    let out = folder.path().join("out");
    let output = Cmd::new(env!("CARGO_BIN_EXE_assay"))
        .timeout(LIMIT)
        .args(["image", "test"])
        .arg(medium.as_ref())
        .arg("--profile")
        .arg(&file)
        .args(["--firmware", firmware, "--out"])
        .arg(&out)
        .run()
        .await
        .expect("it ran");
    let said = format!("{}\n{}", output.stdout_text(), output.stderr_text());
    let report = std::fs::read(out.join("report.json")).unwrap_or_else(|error| panic!("{error}: {said}"));
    let report = serde_json::from_slice(&report).expect("a report");
    // Where the machine was never switched on there is none.
    let screen = std::fs::read_to_string(out.join("artifacts/installer-screen.txt")).unwrap_or_default();
    Tested { output, report, screen, _folder: folder }
}

/// It has no serial console at all, and draws with the text mode's font under BIOS and with its own under UEFI.
#[tokio::test]
async fn memtest86plus_boots_with_either_firmware_and_is_read_off_its_screen() {
    for firmware in ["bios", "uefi"] {
        let tested = test(MEMTEST, &profile("memtest86plus"), firmware).await;
        tested.only_booted();
        for word in ["Memtest86+ v", "Pattern:", "<F1>"] {
            assert!(tested.screen.contains(word), "{firmware}: {}", tested.screen);
        }
    }
}

#[tokio::test]
async fn ipxe_boots_with_either_firmware_and_finds_nothing_on_the_network() {
    for firmware in ["bios", "uefi"] {
        let tested = test(IPXE, &profile("ipxe"), firmware).await;
        tested.only_booted();
        // Its phases are what it says on its screen: an address, and that there is nothing to boot.
        let boot = tested.report.stages.iter().find(|stage| stage.name == "Boot").expect("it booted");
        let phases = boot.coverage.iter().find(|coverage| coverage.what == "phases");
        assert!(phases.is_some_and(|seen| seen.covered == 2), "{firmware}: {boot:?}");
    }
}

/// It has no kernel. That is right for what it is, and the end for who takes it for an installer.
#[tokio::test]
async fn grubs_rescue_cd_shows_its_menu_and_installs_nothing() {
    test(GRUB, &profile("grub-rescue"), "bios").await.only_booted();
    let wanted = "\n[[phase]]\nname = \"installed\"\nmarker = \"Installation complete\"\ntimeout = \"2m\"\n";
    let tested = test(GRUB, &format!("{}{wanted}", profile("grub-rescue")), "bios").await;
    let message = tested.failed("Install", "GrubNoKernel");
    assert!(message.contains("you need to load the kernel first"), "{message}");
    // The package has no loader for UEFI on this CD; nothing needs to be booted to see that.
    let uefi = profile("grub-rescue").replace(r#"boots = ["bios"]"#, r#"boots = ["uefi"]"#);
    let tested = test(GRUB, &uefi, "uefi").await;
    tested.failed("Inspect", "NotBootable");
}

/// On a network without a mirror it asks for another one, in a window on its screen. The run names the window.
#[tokio::test]
async fn debians_installer_without_a_mirror_is_told_by_what_it_asks() {
    let folder = tempfile::tempdir().expect("a folder");
    let iso = folder.path().join("netboot.iso");
    let build = Cmd::new(images().join("debian-netboot/build")).arg(&iso).timeout(LIMIT);
    build.run_ok().await.expect("the CD is built");
    let tested = test(&iso, &profile("debian-netboot"), "bios").await;
    let message = tested.failed("Install", "StuckPrompt");
    for part in
        ["[!!] Choose a mirror of the Debian archive", "Bad archive mirror", "<Go Back>", "<Continue>"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// Firmware that starts only what is signed starts Debian's own chain, and names what it refuses.
#[tokio::test]
async fn secure_boot_starts_a_signed_medium_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let iso = folder.path().join("signed.iso");
    let build = Cmd::new(images().join("debian-signed/build")).arg(&iso).timeout(LIMIT);
    build.run_ok().await.expect("the CD is built");
    test(&iso, &profile("debian-secure-boot"), "secure-boot").await.only_booted();
    let tested = test(IPXE, &profile("ipxe"), "secure-boot").await;
    let message = tested.failed("Boot", "SecureBootViolation");
    assert!(message.contains("Access Denied"), "{message}");
}

#[tokio::test]
async fn a_medium_for_64_bit_arm_comes_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let iso = folder.path().join("arm64.iso");
    let build =
        Cmd::new(images().join("debian-signed/build")).arg(&iso).args(["--arch", "arm64"]).timeout(LIMIT);
    build.run_ok().await.expect("the CD is built");
    test(&iso, &profile("debian-arm64"), "uefi").await.only_booted();
}
