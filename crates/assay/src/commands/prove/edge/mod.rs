//! Stand-ins inside the guest, for what no simulated device can do wrong: an ATA attribute, a count of media errors,
//! a memory controller that counts, a GPU.
//!
//! They travel as one more initrd beside the real live image, for all machines of a stand alike, and do nothing on a
//! machine whose firmware does not ask for one. What is faked is the tool's answer, the kernel's file or the driver's
//! library, which is where the product's own code begins; entries that need one are marked `made_by = "edge"`.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use assay_gpu_fake::{FakeDriver, capture};

const NAME: &str = "lab-edge.initrd";
/// The agent starts when the stand-ins are in place, and does not when one is not there.
const DROP_IN: &str = "[Service]\nExecStartPre=/usr/lib/assay-lab/edge\n";
/// What the GPUs' driver answers: one board, and what is wrong with it.
const GPUS: [(&str, &str); 2] = [("gpu-healthy", ""), ("gpu-ecc", "0.vu 0;3")];
const ONE_GPU: &str = "count 1\n0.bus 00000000:C1:00.0\n";
const TEXTS: [(&str, u32, &str); 7] = [
    ("usr/lib/systemd/system/assay-agent.service.d/lab-edge.conf", 0o644, DROP_IN),
    ("usr/lib/assay-lab/edge", 0o755, include_str!("edge.sh")),
    ("usr/lib/assay-lab/smart-reallocated.awk", 0o644, include_str!("smart-reallocated.awk")),
    ("usr/lib/assay-lab/smart-pending.awk", 0o644, include_str!("smart-pending.awk")),
    ("usr/lib/assay-lab/smart-media-errors.awk", 0o644, include_str!("smart-media-errors.awk")),
    ("usr/lib/assay-lab/smart-predicts.awk", 0o644, include_str!("smart-predicts.awk")),
    ("usr/lib/assay-lab/smart-worn.awk", 0o644, include_str!("smart-worn.awk")),
];

/// A file in the guest, by its path without the leading `/`.
struct File {
    path: String,
    mode: u32,
    data: Vec<u8>,
}

/// Makes the folder `into` with the files of the live image `image` and the stand-ins.
pub(super) async fn beside_the_image(image: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir(into).with_context(|| into.display().to_string())?;
    std::fs::set_permissions(into, std::fs::Permissions::from_mode(0o755))?;
    for file in std::fs::read_dir(image).with_context(|| image.display().to_string())? {
        let file = file.with_context(|| image.display().to_string())?;
        if file.path().is_file() {
            let link = into.join(file.file_name());
            std::os::unix::fs::symlink(file.path(), &link).with_context(|| link.display().to_string())?;
        }
    }
    let path = into.join(NAME);
    std::fs::write(&path, archive(&files().await?)).with_context(|| path.display().to_string())
}

async fn files() -> Result<Vec<File>> {
    let text = |(path, mode, text): (&str, u32, &str)| File {
        path: path.to_owned(),
        mode,
        data: text.as_bytes().to_vec(),
    };
    let mut files: Vec<File> = TEXTS.into_iter().map(text).collect();
    let driver = FakeDriver::compile("").await?;
    for (name, library) in [("libnvidia-ml.so.1", driver.nvml()), ("libcuda.so.1", driver.cuda())] {
        let data = std::fs::read(&library).with_context(|| library.display().to_string())?;
        files.push(File { path: format!("usr/lib/assay-lab/gpu/{name}"), mode: 0o755, data });
    }
    for (name, fault) in GPUS {
        let path = format!("usr/lib/assay-lab/{name}.capture");
        files.push(File { path, mode: 0o644, data: capture(&format!("{ONE_GPU}{fault}")).into_bytes() });
    }
    Ok(files)
}

/// An archive that the kernel unpacks (cpio, "newc"): folders before what is in them.
fn archive(files: &[File]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut folders: Vec<String> = Vec::new();
    for File { path, mode, data } in files {
        let name = format!("overlay/{path}");
        for (at, _) in name.match_indices('/') {
            let folder = name[..at].to_owned();
            if !folders.contains(&folder) {
                member(&mut out, &folder, 0o040_755, b"");
                folders.push(folder);
            }
        }
        member(&mut out, &name, 0o100_000 | mode, data);
    }
    member(&mut out, "TRAILER!!!", 0, b"");
    out
}

fn member(out: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
    let (size, name_size) = (data.len(), name.len() + 1);
    // inode, mode, uid, gid, links, time, size, two device numbers twice, the name's length, no checksum.
    let fields = [0, mode as usize, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    out.extend(b"070701");
    for field in fields {
        // A vector takes all that it is given.
        let _ = write!(out, "{field:08x}");
    }
    out.extend(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend(data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use assay_process::Cmd;

    use super::*;

    #[tokio::test]
    async fn the_archive_is_one_and_stands_beside_the_image() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        std::fs::create_dir(&image).expect("made");
        std::fs::write(image.join("vmlinuz"), "kernel").expect("written");
        let into = folder.path().join("both");
        beside_the_image(&image, &into).await.expect("made");
        assert_eq!(std::fs::read(into.join("vmlinuz")).expect("read"), b"kernel");
        let archive = std::fs::read(into.join(NAME)).expect("read");
        let unpack = Cmd::new("cpio").args(["--extract", "--quiet"]).cwd(&image).stdin(archive);
        unpack.run_ok().await.expect("cpio takes it");
        let names: Vec<_> = TEXTS.iter().map(|(name, mode, _)| (*name, *mode)).collect();
        let library = ("usr/lib/assay-lab/gpu/libcuda.so.1", 0o755);
        for (name, mode) in names.into_iter().chain([library, ("usr/lib/assay-lab/gpu-ecc.capture", 0o644)]) {
            let metadata = std::fs::metadata(image.join("overlay").join(name)).expect("unpacked");
            assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
        }
        let unpacked =
            |name: &str| std::fs::read(image.join("overlay/usr/lib/assay-lab").join(name)).expect(name);
        assert_eq!(unpacked("edge"), include_bytes!("edge.sh"));
        assert_eq!(unpacked("gpu/libnvidia-ml.so.1")[..4], *b"\x7fELF");
        let told = String::from_utf8(unpacked("gpu-ecc.capture")).expect("text");
        assert!(told.contains("\ncount 1\n") && told.contains("\n0.vu 0;3\n"), "{told}");
    }

    async fn through(rules: &str, answer: &str) -> serde_json::Value {
        let output = Cmd::new("awk").arg(rules).stdin(answer).run_ok().await.expect("awk is installed");
        serde_json::from_slice(&output.stdout).expect("still JSON")
    }

    #[tokio::test]
    async fn a_stand_in_changes_one_number_of_a_real_answer() {
        let fixture = |name: &str| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assay-probes/src/smart/fixtures");
            std::fs::read_to_string(folder.join(name)).expect("a recorded answer")
        };
        let ata = fixture("ata-qemu.json");
        let raw = |answer: &serde_json::Value, id: u64| {
            let table = answer["ata_smart_attributes"]["table"].as_array().cloned().unwrap_or_default();
            table.iter().find(|row| row["id"] == id).and_then(|row| row["raw"]["value"].as_u64())
        };
        let before: serde_json::Value = serde_json::from_str(&ata).expect("JSON");
        assert_eq!((raw(&before, 5), raw(&before, 197)), (Some(0), None));
        assert_eq!(raw(&through(include_str!("smart-reallocated.awk"), &ata).await, 5), Some(4000));
        assert_eq!(raw(&through(include_str!("smart-pending.awk"), &ata).await, 197), Some(16));
        let scsi = through(include_str!("smart-predicts.awk"), &fixture("scsi-unsupported.json")).await;
        let told = (&scsi["smart_status"]["scsi"]["asc"], &scsi["smart_support"]["available"]);
        assert_eq!(told, (&93.into(), &true.into()));
        let other = through(include_str!("smart-predicts.awk"), &ata).await;
        assert_eq!(other, before, "only SCSI disks do that");
        let nvme = fixture("nvme-qemu-ok.json");
        let log = "nvme_smart_health_information_log";
        assert_eq!(through(include_str!("smart-media-errors.awk"), &nvme).await[log]["media_errors"], 37);
        assert_eq!(through(include_str!("smart-worn.awk"), &nvme).await[log]["percentage_used"], 131);
    }
}
