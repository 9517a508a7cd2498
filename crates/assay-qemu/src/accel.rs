//! Whether KVM works here, found out by using it.
//!
//! `/dev/kvm` proves nothing. It has been seen to refuse a processor model, and to accept everything and then
//! interpret the guest so slowly that a kernel seems to hang after its first message. So a boot sector
//! (`payload.s`) is run first in software emulation and then under KVM. It switches to long mode with paging,
//! reads processor registers, takes timer interrupts, does some 60 million instructions of work whose result it
//! checks, and says so on the serial port. KVM is used only if it gets through, and in a time that makes it
//! worth using. What this does not show: that a given kernel likes the host's processor. The answer is kept in a
//! file for as long as kernel and QEMU stay the same.

use std::{
    fs::{self, OpenOptions},
    path::PathBuf,
    time::Duration,
};

use assay_process::{Cmd, ProcessError};
use serde::{Deserialize, Serialize};

use crate::{QemuError, error::io_error};

/// The assembled `payload.s`; a test assembles it again and compares.
const PAYLOAD: &[u8; 512] = &[
    0xfa, 0xfc, 0x66, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0x66, 0xb8, 0x01,
    0x00, 0x00, 0x80, 0x0f, 0xa2, 0x66, 0x0f, 0xba, 0xe2, 0x1d, 0x73, 0x54, 0x66, 0x31, 0xc0, 0xbf, 0x00,
    0x10, 0xb9, 0x00, 0x10, 0x66, 0xf3, 0xab, 0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, 0xc7, 0x06, 0x00, 0x20,
    0x03, 0x30, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0x0f, 0x01, 0x16, 0x80, 0x7d, 0x0f, 0x20, 0xe0, 0x0c,
    0x20, 0x0f, 0x22, 0xe0, 0x66, 0xb8, 0x00, 0x10, 0x00, 0x00, 0x0f, 0x22, 0xd8, 0x66, 0xb9, 0x80, 0x00,
    0x00, 0xc0, 0x0f, 0x32, 0x66, 0x0f, 0xba, 0xe8, 0x08, 0x0f, 0x30, 0x0f, 0x20, 0xc0, 0x66, 0x0d, 0x01,
    0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, 0xea, 0x74, 0x7c, 0x08, 0x00, 0xf4, 0xeb, 0xfd, 0xb8, 0x10, 0x00,
    0x00, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0x00, 0x00, 0xb9, 0x80, 0x00, 0x00,
    0xc0, 0x0f, 0x32, 0x0f, 0xba, 0xe0, 0x0a, 0x0f, 0x83, 0xc4, 0x00, 0x00, 0x00, 0xb9, 0x1b, 0x00, 0x00,
    0x00, 0x0f, 0x32, 0x0f, 0xba, 0xe0, 0x0b, 0x0f, 0x83, 0xb3, 0x00, 0x00, 0x00, 0xbf, 0x00, 0x42, 0x00,
    0x00, 0xb8, 0x00, 0x00, 0x08, 0x00, 0x66, 0xb8, 0x5d, 0x7d, 0xab, 0xb8, 0x00, 0x8e, 0x00, 0x00, 0xab,
    0x0f, 0x01, 0x1c, 0x25, 0x86, 0x7d, 0x00, 0x00, 0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, 0xb0,
    0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, 0xb0, 0xfe, 0xe6, 0x21, 0xb0, 0xff, 0xe6, 0xa1, 0xb0, 0x34,
    0xe6, 0x43, 0xb0, 0x9c, 0xe6, 0x40, 0xb0, 0x2e, 0xe6, 0x40, 0x31, 0xdb, 0x0f, 0x31, 0x89, 0xc5, 0xfb,
    0xf4, 0x83, 0xfb, 0x05, 0x72, 0xfa, 0xfa, 0x0f, 0x31, 0x39, 0xe8, 0x74, 0x5e, 0xb8, 0x01, 0x00, 0x00,
    0x00, 0x45, 0x31, 0xc0, 0xb9, 0x00, 0x00, 0x80, 0x00, 0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00, 0x05, 0x5f,
    0xf3, 0x6e, 0x3c, 0x89, 0xca, 0x81, 0xe2, 0xff, 0xff, 0x03, 0x00, 0x89, 0x04, 0x95, 0x00, 0x00, 0x10,
    0x00, 0x44, 0x03, 0x04, 0x95, 0x00, 0x00, 0x10, 0x00, 0xff, 0xc9, 0x75, 0xda, 0x41, 0x81, 0xf8, 0x00,
    0x00, 0x40, 0x8a, 0x75, 0x22, 0xbe, 0x90, 0x7d, 0x00, 0x00, 0xac, 0x84, 0xc0, 0x74, 0x14, 0x88, 0xc4,
    0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, 0x88, 0xe0, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb,
    0xe7, 0xb0, 0x10, 0xe6, 0xf4, 0xfa, 0xf4, 0xeb, 0xfc, 0xff, 0xc3, 0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58,
    0x48, 0xcf, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9a,
    0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x92, 0x00, 0x00, 0x17, 0x00, 0x68, 0x7d, 0x00, 0x00, 0x0f,
    0x02, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x61, 0x73, 0x73, 0x61, 0x79, 0x3a, 0x20, 0x70,
    0x61, 0x79, 0x6c, 0x6f, 0x61, 0x64, 0x20, 0x6f, 0x6b, 0x0a, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x55, 0xaa,
];

const MARKER: &str = "assay: payload ok";
/// The debug-exit port turns the payload's 0x10 into this.
const EXIT_CODE: i32 = 0x21;
const TCG_LIMIT: Duration = Duration::from_mins(1);
/// KVM that works needs a fraction of a second; this leaves room for a busy machine.
const KVM_LIMIT: Duration = Duration::from_secs(5);

/// How guests are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "accel", rename_all = "lowercase")]
pub enum Accel {
    /// On the processor.
    Kvm,
    /// In software.
    Tcg {
        /// Why not on the processor.
        reason: String,
    },
}

/// The means to find out.
#[derive(Debug, Clone)]
pub struct AccelProbe {
    /// The QEMU to ask.
    pub qemu: PathBuf,
    /// The device whose absence or protection answers at once.
    pub kvm_device: PathBuf,
    /// Where the answer is kept; its folder must exist.
    pub cache: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cached {
    kernel: String,
    qemu: String,
    answer: Accel,
}

impl AccelProbe {
    /// The usual QEMU and device, with the answer kept in `cache`.
    pub fn new(cache: PathBuf) -> Self {
        Self { qemu: PathBuf::from("qemu-system-x86_64"), kvm_device: PathBuf::from("/dev/kvm"), cache }
    }

    /// The answer, from the cache where kernel and QEMU are still the ones that were asked.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU is missing or cannot even emulate.
    pub async fn accel(&self) -> Result<Accel, QemuError> {
        let device = OpenOptions::new().read(true).write(true).open(&self.kvm_device);
        if let Err(error) = device {
            let reason = format!("{} cannot be opened: {error}", self.kvm_device.display());
            return Ok(Accel::Tcg { reason });
        }
        let version = Cmd::new(&self.qemu).arg("--version").run_ok().await?;
        let qemu = version.stdout_text().lines().next().unwrap_or_default().to_owned();
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        if let Some(answer) = self.cached(&kernel, &qemu) {
            return Ok(answer);
        }
        let answer = self.probe().await?;
        if let Accel::Tcg { reason } = &answer {
            tracing::warn!(%reason, "KVM is not usable here; machines run in software emulation and are slower");
        }
        let cached = Cached { kernel, qemu, answer };
        let bytes = serde_json::to_vec_pretty(&cached).map_err(std::io::Error::other);
        bytes.and_then(|bytes| fs::write(&self.cache, bytes)).map_err(io_error("writing", &self.cache))?;
        Ok(cached.answer)
    }

    /// How long the payload takes now, run like that: what one runner's times are to another's.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU is missing or the payload does not get through.
    pub async fn time(&self, accel: &Accel) -> Result<Duration, QemuError> {
        let image = self.image()?;
        let how = match accel {
            Accel::Kvm => ["kvm", "host"],
            Accel::Tcg { .. } => ["tcg", "max"],
        };
        let took = self.boot(image.path(), how, TCG_LIMIT).await?;
        took.map_err(|said| QemuError::NoEmulation { said })
    }

    /// Boots the payload both ways, whatever was found before.
    ///
    /// # Errors
    /// [`QemuError`] when QEMU is missing or cannot even emulate.
    pub async fn probe(&self) -> Result<Accel, QemuError> {
        let image = self.image()?;
        let emulated = self.boot(image.path(), ["tcg", "max"], TCG_LIMIT).await?;
        let emulated = emulated.map_err(|said| QemuError::NoEmulation { said })?;
        let limit = KVM_LIMIT.max(emulated * 4);
        let answer = match self.boot(image.path(), ["kvm", "host"], limit).await? {
            Ok(_) => Accel::Kvm,
            Err(said) => Accel::Tcg {
                reason: format!(
                    "{} is there, but under KVM a boot sector {said}; in software emulation it took {} ms",
                    self.kvm_device.display(),
                    emulated.as_millis()
                ),
            },
        };
        Ok(answer)
    }

    /// The payload as a disk of its own: two may probe at once.
    fn image(&self) -> Result<tempfile::NamedTempFile, QemuError> {
        let folder = self.cache.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| std::path::Path::new("."));
        // SeaBIOS does not boot from a disk of a single sector.
        let mut disk = PAYLOAD.to_vec();
        disk.resize(1024 * 1024, 0);
        let image = tempfile::Builder::new().prefix("payload-").suffix(".img").tempfile_in(folder);
        let image = image.map_err(io_error("making a file in", folder))?;
        fs::write(image.path(), disk).map_err(io_error("writing", image.path()))?;
        Ok(image)
    }

    /// How long the payload took, or what went wrong with it in words that follow "a boot sector".
    async fn boot(
        &self,
        image: &std::path::Path,
        [accel, cpu]: [&str; 2],
        limit: Duration,
    ) -> Result<Result<Duration, String>, QemuError> {
        let drive = format!("if=ide,format=raw,file={}", image.display().to_string().replace(',', ",,"));
        let command = Cmd::new(&self.qemu)
            .args(["-machine", "q35", "-accel", accel, "-cpu", cpu, "-m", "64", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio", "-drive", &drive])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .timeout(limit);
        match command.run().await {
            Err(ProcessError::Timeout { .. }) => {
                Ok(Err(format!("did not get through within {} s", limit.as_secs())))
            }
            Err(error) => Err(error.into()),
            Ok(output) => {
                let said = output.stdout_text().contains(MARKER);
                if said && output.code() == Some(EXIT_CODE) {
                    return Ok(Ok(output.elapsed));
                }
                let words = output.stderr_text();
                let last = words.trim().lines().last().unwrap_or("nothing was said").to_owned();
                Ok(Err(format!("ended without its marker ({last})")))
            }
        }
    }

    fn cached(&self, kernel: &str, qemu: &str) -> Option<Accel> {
        // A cache that is missing, damaged or of another version is asked again.
        let cached: Cached = serde_json::from_slice(&fs::read(&self.cache).ok()?).ok()?;
        (cached.kernel == kernel && cached.qemu == qemu).then_some(cached.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Assembles the source, so that nobody has to trust the bytes.
    #[tokio::test]
    async fn the_payload_is_its_source() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = include_str!("payload.s");
        let cmd = |program: &str, arguments: &str| {
            Cmd::new(program).args(arguments.split(' ')).cwd(folder.path()).stdin(source.as_bytes())
        };
        cmd("as", "--64 -o payload.o -").run_ok().await.expect("assembled");
        cmd("ld", "-e 0x7c00 -Ttext 0x7c00 --oformat binary -o payload payload.o")
            .run_ok()
            .await
            .expect("linked");
        assert_eq!(fs::read(folder.path().join("payload")).expect("read"), PAYLOAD);
    }

    #[test]
    fn the_sum_that_the_payload_expects_is_right() {
        let mut value = 1_u32;
        let mut sum = 0_u32;
        for _ in 0..0x0080_0000 {
            value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sum = sum.wrapping_add(value);
        }
        let line = format!(".set WORK_SUM, {sum:#010x}");
        assert!(include_str!("payload.s").contains(&line), "{line}");
    }

    fn probe(folder: &tempfile::TempDir) -> AccelProbe {
        AccelProbe::new(folder.path().join("accel.json"))
    }

    #[tokio::test]
    async fn a_missing_device_is_emulation_with_a_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let probe = AccelProbe { kvm_device: folder.path().join("kvm"), ..probe(&folder) };
        let Accel::Tcg { reason } = probe.accel().await.expect("an answer") else {
            panic!("there is no such device");
        };
        assert!(reason.contains("cannot be opened"), "{reason}");
        assert!(!probe.cache.exists(), "permissions change; this is not kept");
    }

    /// A QEMU that emulates honestly and is broken with KVM in the two ways that were seen.
    #[tokio::test]
    async fn kvm_that_asserts_or_hangs_is_emulation_with_a_reason_and_is_remembered() {
        use std::os::unix::fs::PermissionsExt;
        let real = assay_process::find_program("qemu-system-x86_64").expect("QEMU is installed");
        for (broken, words) in [
            ("echo 'failed to set MSR 0x10a' >&2; exit 134", "failed to set MSR 0x10a"),
            ("exec sleep 1000", "did not get through within"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let fake = folder.path().join("qemu");
            let script = format!(
                "#!/bin/sh\necho run >> {}/count\ncase \"$*\" in *'-accel kvm'*) {broken};; esac\nexec {} \"$@\"\n",
                folder.path().display(),
                real.display()
            );
            fs::write(&fake, script).expect("written");
            fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("executable");
            let probe = AccelProbe {
                qemu: fake,
                // Something that can be opened everywhere.
                kvm_device: PathBuf::from("/dev/null"),
                ..probe(&folder)
            };
            let runs = || fs::read_to_string(folder.path().join("count")).expect("counted").lines().count();
            let answer = probe.accel().await.expect("an answer");
            let Accel::Tcg { reason } = &answer else {
                panic!("{broken} was taken for a working KVM");
            };
            assert!(reason.contains(words), "{reason}");
            assert_eq!(runs(), 3, "the version, emulation, KVM");
            assert_eq!(probe.accel().await.expect("an answer"), answer);
            assert_eq!(runs(), 4, "only the version is asked again");
        }
    }

    #[tokio::test]
    async fn the_real_qemu_gives_an_answer_that_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let probe = probe(&folder);
        let answer = probe.accel().await.expect("emulation works at least");
        if let Accel::Tcg { reason } = &answer {
            assert!(reason.contains("/dev/kvm"), "{reason}");
        }
        assert_eq!(probe.accel().await.expect("again"), answer);
    }

    #[tokio::test]
    async fn a_qemu_that_runs_nothing_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let probe = AccelProbe { qemu: PathBuf::from("false"), ..probe(&folder) };
        let error = probe.probe().await.expect_err("`false` is no QEMU");
        assert!(matches!(error, QemuError::NoEmulation { .. }), "{error}");
    }
}
