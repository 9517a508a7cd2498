//! Finds a program before it is started, so that a missing one is an error with a remedy.
//!
//! Without this, `ip netns exec NS tool` would report a missing `tool` as exit code 255 of `ip`. Administrators'
//! programs live in `/usr/sbin`, which is not on an ordinary user's PATH in Debian, so the `sbin` folders are
//! searched after PATH.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::ProcessError;

const ALSO_SEARCHED: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where `program` is, searching PATH and then the `sbin` folders.
///
/// # Errors
/// [`ProcessError::NotFound`], with the package to install in its hint.
pub fn find_program(program: impl AsRef<OsStr>) -> Result<PathBuf, ProcessError> {
    find_on(program.as_ref(), None)
}

/// As [`find_program`]. A `path` given by the caller is searched alone.
pub(crate) fn find_on(program: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, ProcessError> {
    let not_found =
        |hint: String| ProcessError::NotFound { program: program.to_string_lossy().into_owned(), hint };
    if program.as_encoded_bytes().contains(&b'/') {
        return if is_executable(Path::new(program)) {
            Ok(PathBuf::from(program))
        } else {
            Err(not_found(
                "no executable file is at that path; correct the path or its permissions".to_owned(),
            ))
        };
    }
    let own = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    let folders: Vec<PathBuf> = match path {
        Some(path) => env::split_paths(path).collect(),
        None => env::split_paths(&own).chain(ALSO_SEARCHED.iter().map(PathBuf::from)).collect(),
    };
    if let Some(found) = folders.iter().map(|folder| folder.join(program)).find(|file| is_executable(file)) {
        return Ok(found);
    }
    Err(not_found(match package_of(&program.to_string_lossy()) {
        Some(package) => format!("install it with `apt-get install {package}`"),
        None => "install it, or add its folder to PATH".to_owned(),
    }))
}

/// The Debian package that contains `program`, for the programs Assay uses.
pub fn package_of(program: &str) -> Option<&'static str> {
    Some(match program {
        "badblocks" | "mkfs.ext4" | "dumpe2fs" => "e2fsprogs",
        "blkid" | "lsblk" | "losetup" | "mount" | "nsenter" | "unshare" | "wipefs" => "util-linux",
        "busybox" => "busybox-static",
        "bwrap" => "bubblewrap",
        "chromium" => "chromium",
        "chromedriver" => "chromium-driver",
        "cpio" => "cpio",
        "dmidecode" => "dmidecode",
        "dnsmasq" => "dnsmasq-base",
        "docker" | "dockerd" => "docker.io",
        "docker-registry" => "docker-registry",
        "containerd" => "containerd",
        "etcd" => "etcd-server",
        "ethtool" => "ethtool",
        "fio" => "fio",
        "git" => "git",
        "ip" | "tc" | "bridge" => "iproute2",
        "ipmitool" => "ipmitool",
        "iperf3" => "iperf3",
        "isoinfo" => "genisoimage",
        "lspci" => "pciutils",
        "mcopy" | "mdir" | "mformat" | "mmd" => "mtools",
        "mkfs.vfat" => "dosfstools",
        "mksquashfs" | "unsquashfs" => "squashfs-tools",
        "mmdebstrap" => "mmdebstrap",
        "nft" => "nftables",
        "node" => "nodejs",
        "nvme" => "nvme-cli",
        "nvidia-smi" => "nvidia-smi",
        "qemu-img" | "qemu-io" | "qemu-nbd" => "qemu-utils",
        "qemu-system-aarch64" => "qemu-system-arm",
        "qemu-system-x86_64" => "qemu-system-x86",
        "restic" => "restic",
        "sensors" => "lm-sensors",
        "sgdisk" => "gdisk",
        "skopeo" => "skopeo",
        "smartctl" => "smartmontools",
        "ssh" | "ssh-keygen" => "openssh-client",
        "stress-ng" => "stress-ng",
        "stressapptest" => "stressapptest",
        "swtpm" => "swtpm",
        "xorriso" => "xorriso",
        "zstd" => "zstd",
        _ => return None,
    })
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
