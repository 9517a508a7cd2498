//! What a runner that was killed left behind: virtual machines that nobody watches any more, and their disks.
//!
//! QEMU does not end with the process that started it, and holds memory and processors for ever. Each run's things lie
//! in a folder of its own below the runner's, and a machine names that folder on its command line: that is how it is
//! known. Only a runner that begins looks for them; the folder is its alone.

use std::path::Path;
use std::time::Duration;

use assay_process::Detached;
use tracing::{info, warn};

/// What the programs are called that a bench starts.
const PROGRAMS: [&str; 3] = ["qemu-system-", "swtpm", "assay"];
/// How a run's folder begins.
const RUN: &str = "run-";
/// How long a machine may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Ends what is left of earlier runs below `benches` and removes their folders.
pub(crate) async fn clear(benches: &Path) {
    let Ok(entries) = std::fs::read_dir(benches) else { return };
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(RUN) {
            continue;
        }
        let folder = entry.path();
        for pid in naming(&folder) {
            // It may have ended by itself meanwhile.
            let Ok(process) = Detached::of(pid) else { continue };
            match process.stop(GRACE).await {
                Ok(_) => {
                    info!(process.pid = pid, "ended what an earlier runner had left: {}", folder.display());
                }
                Err(why) => {
                    warn!(process.pid = pid, "an earlier runner's machine cannot be ended: {why}");
                }
            }
        }
        if let Err(why) = std::fs::remove_dir_all(&folder) {
            warn!("an earlier run's folder cannot be removed: {}: {why}", folder.display());
        }
    }
}

/// The processes of a bench that name something in this folder.
fn naming(folder: &Path) -> Vec<u32> {
    let prefix = format!("{}/", folder.display());
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        *pid != std::process::id()
            && std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_ours(&line, &prefix))
    })
    .collect()
}

/// Whether a command line (arguments that end with NUL) is one that a bench starts, with something below `prefix`.
fn is_ours(cmdline: &[u8], prefix: &str) -> bool {
    let text = String::from_utf8_lossy(cmdline);
    let mut words = text.split('\0');
    let program = words.next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    PROGRAMS.iter().any(|ours| program.starts_with(ours)) && words.any(|word| word.contains(prefix))
}

#[cfg(test)]
mod tests {
    use assay_process::Cmd;

    use super::*;

    #[test]
    fn only_what_a_bench_starts_and_only_of_this_folder() {
        let ours = |words: &[&str]| is_ours(words.join("\0").as_bytes(), "/b/run-1/");
        assert!(ours(&["/usr/bin/qemu-system-x86_64", "-blockdev", "filename=/b/run-1/disk.raw"]));
        assert!(ours(&["swtpm", "socket", "--tpmstate", "dir=/b/run-1/tpm"]));
        assert!(!ours(&["/usr/bin/qemu-system-x86_64", "filename=/b/run-12/disk.raw"]));
        assert!(!ours(&["less", "/b/run-1/log"]), "somebody looks at it");
        assert!(!ours(&[""]));
    }

    #[tokio::test]
    async fn a_machine_that_was_left_is_ended_and_its_folder_removed() {
        let benches = tempfile::tempdir().expect("a folder");
        let (left, other) = (benches.path().join("run-abc"), benches.path().join("kept"));
        for folder in [&left, &other] {
            std::fs::create_dir(folder).expect("made");
            std::fs::write(folder.join("disk"), "x\n").expect("written");
        }
        // A program of that name that does nothing for ever.
        let program = benches.path().join("qemu-system-none");
        std::fs::copy("/usr/bin/tail", &program).expect("copied");
        let start = async |folder: &Path| {
            let command = Cmd::new(program.as_os_str()).arg("-f").arg(folder.join("disk"));
            let mut child = command.spawn().await.expect("it starts");
            assert_eq!(child.next_line().await.expect("its file").text, "x");
            child
        };
        let (mut orphan, mut bystander) = (start(&left).await, start(&other).await);
        clear(benches.path()).await;
        assert!(!left.exists() && other.exists());
        let ended = orphan.wait().await.expect("it has ended");
        assert!(!ended.success());
        assert!(Detached::of(bystander.pid()).expect("it is there").is_alive());
        bystander.stop(GRACE).await.expect("it ends");
        clear(&benches.path().join("nowhere")).await;
    }
}
