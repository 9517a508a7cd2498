//! What each fact means: purely, and tested as tables. The facts themselves are found in the parent module.

use std::io;
use std::path::{Path, PathBuf};

use assay_process::{ProcessError, package_of};
use assay_qemu::{Accel, QemuError};
use serde::Serialize;

/// Below this, a live image and one run's evidence do not fit.
const SPACE_NEEDED: u64 = 512 << 20;
/// Below this, there is room for a few dozen runs only.
const SPACE_WANTED: u64 = 4 << 30;

/// How a fact is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// It works.
    Ok,
    /// Assay works, and something does not or is slow.
    Warning,
    /// Something that Assay needs does not work.
    Problem,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// What was looked at.
    pub(super) what: &'static str,
    /// How it is to be taken.
    pub(super) level: Level,
    /// What was found.
    pub(super) found: String,
    /// What to do about it.
    pub(super) todo: Option<String>,
}

/// A live image as it lies in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// The digest in its manifest.
    pub(super) digest: String,
    /// Its kernel.
    pub(super) kernel: String,
    /// Files that are missing or not as the manifest says, with why.
    pub(super) wrong: Vec<String>,
    /// Files that not every user may read.
    pub(super) private: Vec<String>,
}

/// Who holds a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortUse {
    /// Nobody.
    Free,
    /// The server of this data folder.
    Ours,
    /// Somebody.
    Taken,
}

pub(super) fn privileges(root: bool) -> Line {
    const WHAT: &str = "privileges";
    if root {
        return ok(WHAT, "root; the control plane is started as a user of its own");
    }
    warning(
        WHAT,
        "not root: `assay serve` works, a runner does not",
        "Use sudo for `assay up`, `assay runner`, `assay lab` and `assay prove`.",
    )
}

/// Whether recipes can be tested, by a daemon that was started and ended.
pub(super) fn recipes(tried: Result<&bool, &String>) -> Line {
    const WHAT: &str = "recipes";
    match tried {
        Ok(true) => ok(WHAT, "a Docker daemon of a run's own was started and ended"),
        Ok(false) => warning(
            WHAT,
            "a Docker daemon of a run's own was started and ended; the kernel has no IPVS, so services' own addresses are \
             replaced by those of their tasks, and every such change is told",
            "Nothing, or a kernel with ip_vs to test recipes as they are written.",
        ),
        Err(why) => warning(WHAT, why, "`assay recipe test` needs this; everything else works without it."),
    }
}

/// Whether recipes can be tested in a swarm that others use, too.
pub(super) fn shared_swarm(found: Result<&bool, &String>) -> Line {
    const WHAT: &str = "shared swarm";
    match found {
        Ok(true) => ok(WHAT, "recipes can be deployed into it from here"),
        Ok(false) => warning(
            WHAT,
            "recipes can be deployed into it from here; the kernel has no IPVS, so services' own addresses are replaced by those of \
             their tasks, and every such change is told",
            "Nothing, or a kernel with ip_vs to test recipes as they are written.",
        ),
        Err(why) => {
            problem(WHAT, why, "Leave --shared-swarm away to test each recipe in a daemon of its own.")
        }
    }
}

/// Whether strangers' recipes can be tested, each in a virtual machine; that these run at all is told in a line of its own.
pub(super) fn guests(found: Result<&String, &String>) -> Line {
    const WHAT: &str = "recipes of strangers";
    match found {
        Ok(image) => ok(WHAT, &format!("each in a virtual machine, with the guest image {image}")),
        Err(why) => {
            warning(WHAT, why, "Without it runs of pull requests from forks wait for another runner.")
        }
    }
}

pub(super) fn emulation(accel: Result<&Accel, &QemuError>) -> Line {
    const WHAT: &str = "virtual machines";
    match accel {
        Ok(Accel::Kvm) => ok(WHAT, "run on the processor (KVM): a payload was booted"),
        Ok(Accel::Tcg { reason }) => warning(
            WHAT,
            &format!("run in software emulation, several times slower: {reason}"),
            "Only simulated machines need it: load the kernel's kvm module, or allow nested virtualisation in the hypervisor.",
        ),
        Err(error) => problem(
            WHAT,
            &error.to_string(),
            "Without QEMU there is no lab; real machines can be vetted all the same.",
        ),
    }
}

/// A program that Assay cannot do without (or the lab, for a warning).
pub(super) fn program(what: &'static str, found: Result<&PathBuf, &ProcessError>, level: Level) -> Line {
    match found {
        Ok(path) => ok(what, &path.display().to_string()),
        Err(ProcessError::NotFound { program, .. }) => {
            let package = package_of(program);
            let todo = package.map_or_else(
                || format!("Install {program}, or add its folder to PATH."),
                |package| format!("Install it: apt-get install {package}"),
            );
            line(what, level, "not found", Some(todo))
        }
        Err(error) => line(what, level, &error.to_string(), None),
    }
}

/// Files of a package that must all be there.
pub(super) fn files(what: &'static str, missing: &[PathBuf], package: &str, level: Level) -> Line {
    if missing.is_empty() {
        return ok(what, "installed");
    }
    let names: Vec<_> = missing.iter().map(|path| path.display().to_string()).collect();
    line(
        what,
        level,
        &format!("missing: {}", names.join(", ")),
        Some(format!("Install it: apt-get install {package}")),
    )
}

/// `tried` is what came of making a namespace, a bridge and a tap; `None` when that was not allowed to be tried.
pub(super) fn namespaces(tried: Option<Result<(), String>>) -> Line {
    const WHAT: &str = "network namespaces";
    match tried {
        None => warning(WHAT, "not tried: that needs root", "Run `sudo assay doctor` to know."),
        Some(Ok(())) => ok(WHAT, "made one with a bridge and a tap, and removed it"),
        Some(Err(why)) => problem(
            WHAT,
            &why,
            "Simulated machines need them: in a container, grant CAP_NET_ADMIN and CAP_SYS_ADMIN and pass /dev/net/tun; else load the modules tun and bridge.",
        ),
    }
}

pub(super) fn image(folder: &Path, found: &Result<Image, String>) -> Line {
    const WHAT: &str = "live image";
    const BUILD: &str = "Build it with `cargo xtask live-image`, or name its folder with --live-image.";
    let image = match found {
        Err(why) => return problem(WHAT, why, BUILD),
        Ok(image) => image,
    };
    let folder = folder.display();
    if !image.wrong.is_empty() {
        return problem(WHAT, &format!("{folder}: {}", image.wrong.join(", ")), BUILD);
    }
    let digest = image.digest.get(..12).unwrap_or(&image.digest);
    let found = format!("{folder}: {digest}, kernel {}", image.kernel);
    if image.private.is_empty() {
        return ok(WHAT, &found);
    }
    let todo = format!("The control plane runs as another user: chmod a+r {}", image.private.join(" "));
    warning(WHAT, &format!("{found}, but not readable for everyone"), &todo)
}

/// `free` is the space for ordinary users; an error is what came of writing there.
pub(super) fn data(folder: &Path, free: &io::Result<u64>) -> Line {
    const WHAT: &str = "data folder";
    let folder = folder.display();
    let free = match free {
        Err(why) => {
            return problem(
                WHAT,
                &format!("{folder} cannot be written: {why}"),
                "Name another with --data or ASSAY_DATA, or correct its permissions.",
            );
        }
        Ok(free) => *free,
    };
    let found = format!("{folder} is writable, {} MiB free", free >> 20);
    match free {
        free if free < SPACE_NEEDED => problem(
            WHAT,
            &found,
            "Make room: at least 512 MiB are needed, or name another folder with --data.",
        ),
        free if free < SPACE_WANTED => {
            warning(WHAT, &found, "Make room: runs keep their evidence here, a few MiB each.")
        }
        _ => ok(WHAT, &found),
    }
}

/// The ports of a server that is started without options. `assay up` needs the first only.
pub(super) fn ports(ports: &[(u16, PortUse)]) -> Line {
    const WHAT: &str = "ports";
    let of = |wanted: PortUse| -> Vec<String> {
        ports.iter().filter(|(_, used)| *used == wanted).map(|(port, _)| port.to_string()).collect()
    };
    let taken = of(PortUse::Taken);
    if taken.is_empty() {
        let ours = of(PortUse::Ours);
        let free = of(PortUse::Free);
        return match (ours.is_empty(), free.is_empty()) {
            (true, _) => ok(WHAT, &format!("{} are free", free.join(", "))),
            (false, true) => ok(WHAT, "the server of this data folder listens there"),
            (false, false) => ok(
                WHAT,
                &format!(
                    "the server of this data folder listens on {}; {} are free",
                    ours.join(", "),
                    free.join(", ")
                ),
            ),
        };
    }
    let found = format!("{} used by another program", taken.join(", "));
    let todo = "Stop it, or choose other addresses with --listen (and --boot-listen, --agent-listen of `assay serve`).";
    let first = ports.first().is_some_and(|(_, used)| *used == PortUse::Taken);
    if first { problem(WHAT, &found, todo) } else { warning(WHAT, &found, todo) }
}

/// The worst of all.
pub(super) fn worst(lines: &[Line]) -> Level {
    let of = |level| lines.iter().any(|line| line.level == level);
    match (of(Level::Problem), of(Level::Warning)) {
        (true, _) => Level::Problem,
        (false, true) => Level::Warning,
        (false, false) => Level::Ok,
    }
}

fn ok(what: &'static str, found: &str) -> Line {
    line(what, Level::Ok, found, None)
}

fn warning(what: &'static str, found: &str, todo: &str) -> Line {
    line(what, Level::Warning, found, Some(todo.to_owned()))
}

fn problem(what: &'static str, found: &str, todo: &str) -> Line {
    line(what, Level::Problem, found, Some(todo.to_owned()))
}

fn line(what: &'static str, level: Level, found: &str, todo: Option<String>) -> Line {
    Line { what, level, found: found.to_owned(), todo }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Level::{Ok as Good, Problem, Warning};

    fn has(line: &Line, level: Level, words: &str) {
        assert_eq!(line.level, level, "{line:?}");
        let said = format!("{} {}", line.found, line.todo.as_deref().unwrap_or_default());
        assert!(said.contains(words), "{said}");
        assert_eq!(
            line.todo.is_none(),
            level == Good,
            "what is not right says what to do, and only that: {line:?}"
        );
    }

    #[test]
    fn privileges_and_emulation() {
        has(&privileges(true), Good, "root");
        has(&privileges(false), Warning, "sudo");
        has(&emulation(Ok(&Accel::Kvm)), Good, "KVM");
        let slow = Accel::Tcg { reason: "/dev/kvm cannot be opened".into() };
        has(&guests(Ok(&"0123456789ab".to_owned())), Good, "0123456789ab");
        has(&guests(Err(&"no image".to_owned())), Warning, "no image");
        has(&emulation(Ok(&slow)), Warning, "/dev/kvm cannot be opened");
        has(&emulation(Err(&QemuError::NoEmulation { said: "nothing".into() })), Problem, "Without QEMU");
    }

    #[test]
    fn programs_name_their_package() {
        let path = PathBuf::from("/usr/sbin/dnsmasq");
        has(&program("dnsmasq", Ok(&path), Problem), Good, "/usr/sbin/dnsmasq");
        let missing = |program: &str| ProcessError::NotFound { program: program.into(), hint: String::new() };
        has(&program("dnsmasq", Err(&missing("dnsmasq")), Problem), Problem, "apt-get install dnsmasq-base");
        has(&program("x", Err(&missing("unheard-of")), Warning), Warning, "Install unheard-of");
        has(&files("UEFI firmware", &[], "ovmf", Warning), Good, "installed");
        has(
            &files("UEFI firmware", &["/a".into(), "/b".into()], "ovmf", Warning),
            Warning,
            "missing: /a, /b Install it: apt-get install ovmf",
        );
    }

    #[test]
    fn namespaces_are_tried() {
        has(&namespaces(None), Warning, "sudo assay doctor");
        has(&namespaces(Some(Ok(()))), Good, "removed it");
        has(&namespaces(Some(Err("ip: Operation not permitted".into()))), Problem, "not permitted");
    }

    #[test]
    fn an_image_is_whole_and_readable() {
        let folder = Path::new("/srv/image");
        let good =
            Image { digest: "0123456789abcdef".into(), kernel: "6.1".into(), wrong: vec![], private: vec![] };
        has(&image(folder, &Ok(good.clone())), Good, "/srv/image: 0123456789ab, kernel 6.1");
        let private = Image { private: vec!["/srv/image/vmlinuz".into()], ..good.clone() };
        has(&image(folder, &Ok(private)), Warning, "chmod a+r /srv/image/vmlinuz");
        let wrong = Image { wrong: vec!["vmlinuz is missing".into()], private: vec!["x".into()], ..good };
        has(&image(folder, &Ok(wrong)), Problem, "vmlinuz is missing");
        has(&image(folder, &Err("no manifest".into())), Problem, "cargo xtask live-image");
    }

    #[test]
    fn the_data_folder_needs_room() {
        let data = |free: io::Result<u64>| data(Path::new("/d"), &free);
        has(&data(Ok(8 << 30)), Good, "8192 MiB free");
        has(&data(Ok(SPACE_WANTED)), Good, "");
        has(&data(Ok(SPACE_WANTED - 1)), Warning, "Make room");
        has(&data(Ok(SPACE_NEEDED - 1)), Problem, "at least 512 MiB");
        has(&data(Err(io::ErrorKind::PermissionDenied.into())), Problem, "--data");
    }

    #[test]
    fn a_port_of_our_own_server_is_no_problem() {
        use PortUse::{Free, Ours, Taken};
        let of = |a, b, c| ports(&[(7300, a), (7301, b), (7302, c)]);
        has(&of(Free, Free, Free), Good, "7300, 7301, 7302 are free");
        has(&of(Ours, Ours, Ours), Good, "listens there");
        has(&of(Ours, Free, Free), Good, "7301, 7302 are free");
        has(&of(Taken, Free, Free), Problem, "7300 used");
        has(&of(Ours, Free, Taken), Warning, "7302 used");
    }

    #[test]
    fn the_worst_decides() {
        let line = |level| line("a", level, "b", None);
        assert_eq!(worst(&[line(Good), line(Warning)]), Warning);
        assert_eq!(worst(&[line(Problem), line(Warning)]), Problem);
        assert_eq!(worst(&[]), Good);
    }
}
