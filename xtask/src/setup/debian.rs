//! Debian packages: what is missing, and how it is installed.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{place, tool};

/// From the distribution itself, beside QEMU and npm, which have rules of their own below.
const PACKAGES: [&str; 73] = [
    "acpica-tools",
    "apache2-utils",
    "apt-utils",
    "binutils",
    "btrfs-progs",
    "bubblewrap",
    "busybox-static",
    "chromium",
    "chromium-driver",
    "cpio",
    "cryptsetup-bin",
    "curl",
    "debian-archive-keyring",
    "debian-installer-12-netboot-amd64",
    "debian-installer-12-netboot-arm64",
    "dmidecode",
    "dnsmasq-base",
    "docker-registry",
    "dosfstools",
    "dpkg-dev",
    "e2fsprogs",
    "etcd-server",
    "ethtool",
    "exfatprogs",
    "fdisk",
    "fio",
    "gcc",
    "gdisk",
    "git",
    "golang-1.19-go",
    "golang-github-modern-go-reflect2-dev",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "grub-rescue-pc",
    "iperf3",
    "ipmitool",
    "iproute2",
    "iptables",
    "ipxe",
    "libc6-dev",
    "lvm2",
    "make",
    "mdadm",
    "memtest86+",
    "mmdebstrap",
    "mtools",
    "nbdkit",
    "ntfs-3g",
    "openipmi",
    "ovmf",
    "postgresql",
    "postgresql-15",
    "python3-aiosmtpd",
    "python3-pytest",
    "python3-venv",
    "qemu-efi-aarch64",
    "restic",
    "rsync",
    "sg3-utils",
    "skopeo",
    "smartmontools",
    "sqlite3",
    "squashfs-tools",
    "stress-ng",
    "stressapptest",
    "swtpm",
    "swtpm-tools",
    "util-linux",
    "xfsprogs",
    "xorriso",
    "xz-utils",
    "zstd",
];
/// Debian's Docker engine. Tests start daemons of their own from it; none has to run.
const DOCKER: &str = "docker.io";
/// Of one version: they share packages.
const QEMU: [&str; 2] = ["qemu-system-arm", "qemu-system-x86"];
/// What backports has. Debian 12's own 7.2 lacks devices that the lab's machines have.
const QEMU_AT_LEAST: u32 = 10;
/// What reads our lock file's format.
const NPM_AT_LEAST: u32 = 9;

const BACKPORTS: &str = "bookworm-backports";
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/assay-backports.list";
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// Something to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    name: &'static str,
    from_backports: bool,
    why: String,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suite = if self.from_backports { " from bookworm-backports" } else { "" };
        write!(f, "Debian package {}{suite} ({})", self.name, self.why)
    }
}

/// What is not installed, or too old.
pub(super) fn missing() -> Result<Vec<Package>> {
    let names: Vec<&str> = PACKAGES.into_iter().chain(QEMU).collect();
    // The exit status only says that some are unknown, which the lines say better.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package}\t${db:Status-Abbrev}\t${Version}\n"])
        .args(&names)
        .stdin(Stdio::null())
        .output()
        .with_context(|| {
            format!("cannot ask dpkg what is installed; elsewhere than on Debian 12, install these yourself: {} npm", names.join(" "))
        })?;
    let npm = tool::ask("npm", &["--version"]);
    let engine =
        tool::ask("/usr/sbin/dockerd", &["--version"]).or_else(|| tool::ask("dockerd", &["--version"]));
    Ok(lacking(&String::from_utf8_lossy(&output.stdout), npm.as_deref(), engine.is_some()))
}

/// Installs them, as root or through sudo.
pub(super) fn install(packages: &[Package]) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_bookworm(&release) {
        let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
        bail!(
            "this installs packages on Debian 12 (bookworm) only, and this is {}; install these yourself: {}",
            field(&release, "PRETTY_NAME").unwrap_or("another system"),
            names.join(" ")
        );
    }
    let root = Root::find()?;
    if packages.iter().any(|package| package.from_backports) && !backports_known() {
        eprintln!("setup: adding {BACKPORTS} in {BACKPORTS_FILE}");
        root.write(BACKPORTS_FILE, &backports_source())?;
    }
    apt(&root, &["update"])?;
    let (backports, stable): (Vec<&Package>, Vec<&Package>) =
        packages.iter().partition(|package| package.from_backports);
    if !stable.is_empty() {
        apt(&root, &install_args(&stable, &[]))?;
    }
    if !backports.is_empty() {
        apt(&root, &install_args(&backports, &["-t", BACKPORTS]))?;
    }
    let still = missing()?;
    if still.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = still.iter().map(ToString::to_string).collect();
    bail!("apt-get succeeded, yet these are still missing: {}", names.join("; "))
}

/// Decides from dpkg's lines (name, status, version), from what npm says, and from whether there is a Docker engine.
fn lacking(dpkg: &str, npm: Option<&str>, engine: bool) -> Vec<Package> {
    let installed: BTreeMap<&str, &str> = dpkg
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let (name, status, version) = (columns.next()?, columns.next()?, columns.next()?);
            // The second letter is the state; a package on hold ("hi") is installed, too.
            (status.chars().nth(1) == Some('i')).then_some((name, version))
        })
        .collect();
    let not_installed = |name| Package { name, from_backports: false, why: "not installed".to_owned() };
    let mut lacking: Vec<Package> =
        PACKAGES.into_iter().filter(|name| !installed.contains_key(name)).map(not_installed).collect();
    // Whoever has an engine keeps it: Debian's and Docker's own packages exclude each other.
    if !engine {
        lacking.push(not_installed(DOCKER));
    }
    for name in QEMU {
        let why = match installed.get(name) {
            None => "not installed".to_owned(),
            Some(version) if major(version).is_none_or(|major| major < QEMU_AT_LEAST) => {
                format!("{version} is installed; {QEMU_AT_LEAST} is needed")
            }
            Some(_) => continue,
        };
        lacking.push(Package { name, from_backports: true, why });
    }
    if npm.and_then(major).is_none_or(|major| major < NPM_AT_LEAST) {
        let why = npm.map_or_else(
            || "npm is not installed".to_owned(),
            |version| format!("npm {} is installed; {NPM_AT_LEAST} is needed", version.trim()),
        );
        for name in ["nodejs", "npm"] {
            lacking.push(Package { name, from_backports: false, why: why.clone() });
        }
    }
    lacking
}

/// The first number of a version, after Debian's epoch.
fn major(version: &str) -> Option<u32> {
    let version = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
    version.trim().split(['.', '+', '-', '~']).next()?.parse().ok()
}

fn is_bookworm(release: &str) -> bool {
    field(release, "ID") == Some("debian") && field(release, "VERSION_CODENAME") == Some("bookworm")
}

/// A field of os-release.
fn field<'a>(release: &'a str, name: &str) -> Option<&'a str> {
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"'))
}

fn backports_known() -> bool {
    tool::ask("apt-get", &["indextargets", "--format", "$(RELEASE)"])
        .is_some_and(|suites| suites.lines().any(|suite| suite == BACKPORTS))
}

fn backports_source() -> String {
    let mirror = env::var("ASSAY_DEBIAN_MIRROR").unwrap_or_else(|_| DEFAULT_MIRROR.to_owned());
    format!(
        "# Made by `cargo xtask setup`: the lab needs the QEMU that is there.\ndeb {mirror} {BACKPORTS} main\n"
    )
}

fn install_args<'a>(packages: &[&'a Package], options: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["install", "--yes", "--no-install-recommends"];
    args.extend(options);
    args.extend(packages.iter().map(|package| package.name));
    args
}

fn apt(root: &Root, args: &[&str]) -> Result<()> {
    let mut apt = root.command("apt-get");
    // Another apt may be at work (an unattended upgrade): wait for it instead of failing.
    apt.args(["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3"]).args(args).stdin(Stdio::null());
    eprintln!("setup: {}", tool::show(&apt));
    tool::run(apt)
}

/// How to do what only root may.
enum Root {
    Already,
    Sudo,
}

impl Root {
    fn find() -> Result<Self> {
        if place::is_root() {
            return Ok(Self::Already);
        }
        // Without a terminal nobody can type a password, so sudo must work without one.
        if std::io::stdin().is_terminal() && tool::ask("sudo", &["--version"]).is_some()
            || tool::ask("sudo", &["-n", "true"]).is_some()
        {
            return Ok(Self::Sudo);
        }
        bail!("installing packages needs root: run this as root, or set up sudo")
    }

    fn command(&self, program: &str) -> Command {
        // sudo drops the environment, so what apt must know goes on the command line.
        let mut command = match self {
            Self::Already => Command::new("env"),
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.arg("env");
                sudo
            }
        };
        command.args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", program]);
        command
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let mut tee = self.command("tee");
        let mut child = tee
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot write {path}"))?;
        let mut stdin = child.stdin.take().context("tee has no input")?;
        stdin.write_all(text.as_bytes()).with_context(|| format!("cannot write {path}"))?;
        drop(stdin);
        if child.wait()?.success() { Ok(()) } else { bail!("cannot write {path}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dpkg(qemu: &str) -> String {
        let mut lines: Vec<String> = PACKAGES.iter().map(|name| format!("{name}\tii \t1.0")).collect();
        lines.extend(QEMU.map(|name| format!("{name}\tii \t{qemu}")));
        lines.join("\n")
    }

    fn names(lacking: &[Package]) -> Vec<&str> {
        lacking.iter().map(|package| package.name).collect()
    }

    #[test]
    fn nothing_lacks_where_all_is_installed() {
        assert_eq!(lacking(&dpkg("1:10.0.2+ds-2+deb13u1~bpo12+1"), Some("11.19.1\n"), true), []);
    }

    #[test]
    fn everything_lacks_on_a_fresh_system() {
        let lacking = lacking("", None, false);
        assert_eq!(lacking.len(), PACKAGES.len() + QEMU.len() + 3);
        assert!(lacking.iter().all(|package| package.from_backports == QEMU.contains(&package.name)));
    }

    #[test]
    fn the_distributions_own_qemu_is_too_old() {
        let lacking = lacking(&dpkg("1:7.2+dfsg-7+deb12u13"), Some("9.2.0"), true);
        assert_eq!(names(&lacking), QEMU);
        assert_eq!(
            lacking[1].to_string(),
            "Debian package qemu-system-x86 from bookworm-backports (1:7.2+dfsg-7+deb12u13 is installed; 10 is needed)"
        );
    }

    #[test]
    fn a_package_that_was_removed_or_half_installed_is_missing_and_one_on_hold_is_not() {
        let good = dpkg("1:10.0.2");
        assert_eq!(names(&lacking(&good.replace("zstd\tii ", "zstd\trc "), Some("9.2.0"), true)), ["zstd"]);
        assert_eq!(names(&lacking(&good.replace("zstd\tii ", "zstd\tiU "), Some("9.2.0"), true)), ["zstd"]);
        assert_eq!(lacking(&good.replace("zstd\tii ", "zstd\thi "), Some("9.2.0"), true), []);
    }

    #[test]
    fn an_old_npm_is_replaced_and_a_foreign_one_is_left() {
        assert_eq!(names(&lacking(&dpkg("1:10.0.2"), Some("8.19.2"), true)), ["nodejs", "npm"]);
        assert_eq!(lacking(&dpkg("1:10.0.2"), Some("9.2.0"), true), []);
    }

    #[test]
    fn only_bookworm_is_installed_on() {
        let bookworm =
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert!(is_bookworm(bookworm));
        assert!(!is_bookworm(&bookworm.replace("=bookworm", "=trixie")));
        assert!(!is_bookworm(&bookworm.replace("ID=debian", "ID=devuan")));
        assert!(!is_bookworm(""));
        assert_eq!(field(bookworm, "PRETTY_NAME"), Some("Debian GNU/Linux 12 (bookworm)"));
    }
}
