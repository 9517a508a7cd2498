//! What the types alone cannot say of a profile.

use std::collections::BTreeSet;
use std::time::Duration;

use regex::Regex;

use super::{
    Bus, Cluster, Connection, DiskFault, DiskRole, Firmware, InstallExpect, JoinBy, MediumAs, Profile,
    ProfileError, Within,
};
use crate::image::STAGES;

/// The longest that anything may be waited for.
const LONGEST: Duration = Duration::from_hours(24);

/// What a stand-in control plane can do wrong, and on which requests.
const FAULTS: [&str; 8] = [
    "slow",
    "drop",
    "drop-after-push",
    "truncate",
    "reset",
    "wrong-certificate",
    "expired-certificate",
    "unknown-authority",
];
const FAULTS_ON: [&str; 11] = [
    "git-read",
    "git-push",
    "pull",
    "user",
    "login",
    "repository",
    "register",
    "join",
    "deregister",
    "unknown",
    "any",
];

/// The most disks and network ports; QEMU's machine has room for more, a report has not.
const MAX_PARTS: usize = 16;

impl Profile {
    /// Checks what the types alone cannot say; a profile that was read has been.
    ///
    /// # Errors
    /// [`ProfileError`] with the place and the reason.
    pub fn checked(&self) -> Result<(), ProfileError> {
        self.check()
    }

    pub(super) fn check(&self) -> Result<(), ProfileError> {
        let problem = |what: String| Err(ProfileError(what));
        if !is_name(&self.name, 64) {
            return problem(format!("name = {:?}: letters, digits, `.`, `_` and `-`, at most 64", self.name));
        }
        if let Some(until) = &self.until {
            let known: Vec<_> = STAGES.iter().map(|stage| stage.plan().name.0).collect();
            if !known.contains(until) {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let hint = assay_model::text::did_you_mean(until, &known);
                return problem(format!(
                    "until = {until:?}: there is no such stage{hint}\nstages: {}",
                    known.join(", ")
                ));
            }
        }
        self.check_machine()?;
        self.check_medium()?;
        self.check_phases()?;
        self.check_expectations()?;
        self.power_cut.check(self)?;
        self.check_expressions()?;
        self.check_quarantine()?;
        self.check_matrix()
    }

    fn check_machine(&self) -> Result<(), ProfileError> {
        let problem = |what: String| Err(ProfileError(what));
        let machine = &self.machine;
        if !(1..=64).contains(&machine.cpus) {
            return problem(format!("machine.cpus = {}: 1 to 64", machine.cpus));
        }
        if machine.memory.mib() < 64 {
            return problem(format!("machine.memory = \"{}\": at least 64MiB", machine.memory));
        }
        if machine.disks.len() > MAX_PARTS || machine.nics.len() > MAX_PARTS {
            return problem(format!("more than {MAX_PARTS} disks or network ports"));
        }
        if let Some(wrong) =
            machine.nics.iter().filter_map(|nic| nic.delay_ms).find(|ms| !(1..=10_000).contains(ms))
        {
            return problem(format!("machine.nic: delay-ms = {wrong}: 1 to 10000"));
        }
        let mut names = BTreeSet::new();
        for disk in &machine.disks {
            let at = format!("machine.disk {:?}", disk.name);
            let plain = disk.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if disk.name.is_empty() || disk.name.len() > 20 || !plain {
                return problem(format!(
                    "{at}: a disk's name is its serial number: letters, digits and `-`, at most 20"
                ));
            }
            if !names.insert(&disk.name) {
                return problem(format!("{at}: two disks have this name"));
            }
            if ![512, 4096].contains(&disk.sector_size) {
                return problem(format!("{at}: sector-size = {}: 512 or 4096", disk.sector_size));
            }
            if disk.size.0 == 0 || !disk.size.0.is_multiple_of(4096) {
                return problem(format!("{at}: size = \"{}\": a multiple of 4KiB", disk.size));
            }
            if disk.rotational && matches!(disk.bus, Bus::Nvme | Bus::Virtio | Bus::Usb) {
                return problem(format!("{at}: only a SATA or SCSI disk can say that it rotates"));
            }
            if disk.read_only && disk.bus == Bus::Sata {
                return problem(format!(
                    "{at}: QEMU has no read-only SATA disk; use scsi, usb, nvme or virtio"
                ));
            }
            if disk.read_only && matches!(disk.expect, DiskRole::Boot | DiskRole::Data) {
                return problem(format!("{at}: nothing can be installed onto a read-only disk"));
            }
        }
        if let Some(clock) = &machine.clock
            && !Regex::new(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}$").is_ok_and(|r| r.is_match(clock))
        {
            return problem(format!("machine.clock = {clock:?}: a time such as 1970-01-01T00:00:00"));
        }
        if let Some(port) = machine.progress_port {
            if [0, 80, 443].contains(&port) {
                return problem(format!(
                    "machine.progress-port = {port}: a port beside those of the control plane, 80 and 443"
                ));
            }
            if machine.all_nics(0).iter().all(|(_, nic)| nic.network != Connection::Isolated) {
                return problem(
                    "machine.progress-port: it is on an isolated network; give the machine a nic with one"
                        .to_owned(),
                );
            }
        }
        if machine.arch == super::Architecture::Aarch64 && machine.firmware == Firmware::Bios {
            return problem(
                "machine.firmware: an aarch64 machine has no BIOS; set firmware = \"uefi\"".to_owned(),
            );
        }
        Ok(())
    }

    fn check_medium(&self) -> Result<(), ProfileError> {
        let problem = |what: String| Err(ProfileError(what));
        let medium = &self.medium;
        if medium.kind == MediumAs::Cd && !(medium.files.is_empty() && medium.flash.is_empty()) {
            return problem(
                "medium: files are staged onto a stick, not onto a CD; set as = \"usb\"".to_owned(),
            );
        }
        for file in &medium.files {
            let at = format!("medium.file {:?}", file.path);
            if !file.path.starts_with('/') || file.path.contains("..") {
                return problem(format!("{at}: a path from the partition's root, beginning with `/`"));
            }
            if file.content.is_some() == file.from.is_some() {
                return problem(format!("{at}: either `content` or `from`"));
            }
            let written_here = file.content.as_ref().is_some_and(|content| !content.contains("{token}"));
            if file.secret && written_here {
                return problem(format!(
                    "{at}: a secret does not stand in a profile, which is kept with the run; take it `from` a file"
                ));
            }
        }
        let replies = self.phases.iter().flat_map(|phase| &phase.replies);
        if medium.zero_typing && replies.count() > 0 {
            return problem(
                "medium.zero-typing: phases have replies; an image that needs them is not typed to"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn check_phases(&self) -> Result<(), ProfileError> {
        let problem = |what: String| Err(ProfileError(what));
        let mut names = BTreeSet::new();
        let mut last = Within::Boot;
        if let Some(success) = &self.install.success
            && self.success_phase().is_none()
        {
            return problem(format!(
                "install.success = {success:?}: there is no such phase of the installation"
            ));
        }
        for phase in &self.phases {
            let at = format!("phase {:?}", phase.name);
            if !is_name(&phase.name, 40) {
                return problem(format!("{at}: letters, digits, `_` and `-`, at most 40"));
            }
            if !names.insert(&phase.name) {
                return problem(format!("{at}: two phases have this name"));
            }
            if (phase.stage as u8) < (last as u8) {
                return problem(format!(
                    "{at}: it comes after a phase of a later stage; phases stand in their order"
                ));
            }
            last = phase.stage;
            if phase.timeout.0.is_zero() {
                return problem(format!("{at}: timeout = \"0s\" is no time at all"));
            }
            if phase.timeout.0 > LONGEST {
                return problem(format!("{at}: timeout = \"{}\" is more than a day", phase.timeout));
            }
            for reply in &phase.replies {
                if reply.text.is_none() && reply.keys.is_empty() {
                    return problem(format!("{at}, reply on {:?}: either `text` or `keys`", reply.on));
                }
            }
        }
        Ok(())
    }

    /// What is expected of an installation needs one; and what is named has to be there.
    fn check_expectations(&self) -> Result<(), ProfileError> {
        let problem = |what: String| Err(ProfileError(what));
        let times = [
            ("boot.timeout", self.boot.timeout),
            ("install.timeout", self.install.timeout),
            ("reboot.timeout", self.reboot.timeout),
            ("console.prompt", self.console.prompt),
            ("console.silence", self.console.silence),
        ];
        for (at, time) in times.into_iter().chain(self.join.as_ref().map(|join| ("join.within", join.within)))
        {
            if time.0 > LONGEST {
                return problem(format!("{at} = \"{time}\" is more than a day"));
            }
        }
        let installs = self.phases.iter().any(|phase| phase.stage == Within::Install);
        for (table, there) in [("identify", self.identify.is_some()), ("join", self.join.is_some())] {
            if there && !installs {
                return problem(format!(
                    "[{table}]: nothing is installed: the profile has no phase of an installation"
                ));
            }
        }
        for code in &self.console.allow {
            let known: Vec<&str> = assay_console::catalogue::patterns().map(|pattern| pattern.code).collect();
            if !known.contains(&code.as_str()) {
                let hint = assay_model::text::did_you_mean(code, &known);
                return problem(format!("console.allow: the failure catalogue has no code `{code}`{hint}"));
            }
        }
        if self.install.expect == InstallExpect::Refused {
            let words =
                self.phases.iter().any(|phase| !phase.fail.is_empty()) || !self.console.fail.is_empty();
            if !words {
                return problem(
                    "install.expect = \"refused\": name the line by which it refuses, under `fail` of a phase".to_owned(),
                );
            }
            if self.power_cut.cuts() {
                return problem(
                    "install.expect = \"refused\": [power-cut] cuts an installation that is to succeed"
                        .to_owned(),
                );
            }
        }
        let disks = self.machine.all_disks();
        for disk in &disks {
            let at = format!("machine.disk {:?}", disk.name);
            match &disk.fault {
                Some(
                    DiskFault::WriteError { at: place }
                    | DiskFault::ReadError { at: place }
                    | DiskFault::Full { at: place },
                ) if place.0 >= disk.size.0 => {
                    return problem(format!("{at}: fault at {place}: the disk ends at {}", disk.size));
                }
                Some(DiskFault::Pulled { after })
                    if !self.phases.iter().any(|phase| phase.name == *after) =>
                {
                    return problem(format!("{at}: fault after {after:?}: there is no such phase"));
                }
                _ => {}
            }
        }
        for content in self.identify.iter().flat_map(|identify| &identify.contents) {
            if !disks.iter().any(|disk| disk.expect == content.disk) {
                return problem(format!(
                    "identify.content {:?}: no disk of the machine has `expect = \"{}\"`",
                    content.label,
                    format!("{:?}", content.disk).to_lowercase()
                ));
            }
        }
        if let Some(reconcile) = &self.reconcile {
            let joins = self.join.as_ref();
            if joins.is_none_or(|join| join.by != JoinBy::Git) {
                return problem(
                    "[reconcile]: what is reconciled is a registration by git ([join] by = \"git\")"
                        .to_owned(),
                );
            }
            let live = reconcile.on == Cluster::Live;
            if live && reconcile.serve.is_none() {
                return problem(
                    "[reconcile] on = \"live\": `serve` is missing: the address at which the cluster finds the \
                     repository, such as serve = \"192.0.2.7:8418\""
                        .to_owned(),
                );
            }
            let foreign =
                match (live, &reconcile.kubeconfig, reconcile.serve, reconcile.definitions.is_empty()) {
                    (false, Some(_), _, _) => Some("kubeconfig"),
                    (false, None, Some(_), _) => Some("serve"),
                    (true, _, _, false) => Some("definitions"),
                    _ => None,
                };
            if let Some(foreign) = foreign {
                let which = if live { "isolated" } else { "live" };
                return problem(format!("[reconcile]: `{foreign}` is for on = \"{which}\""));
            }
            if let Some(bad) = reconcile.ignore.iter().find(|pointer| !pointer.starts_with('/')) {
                return problem(format!("reconcile.ignore: {bad:?} is no JSON Pointer; one begins with `/`"));
            }
        }
        for fault in self.join.iter().flat_map(|join| &join.faults) {
            let status = fault.what.parse::<u16>().is_ok_and(|code| (400..=599).contains(&code));
            if !status && !FAULTS.contains(&fault.what.as_str()) {
                let hint = assay_model::text::did_you_mean(&fault.what, &FAULTS);
                return problem(format!(
                    "join.fault: `{}` is no fault{hint}\nfaults: 400 to 599, {}",
                    fault.what,
                    FAULTS.join(", ")
                ));
            }
            if !FAULTS_ON.contains(&fault.on.as_str()) {
                let hint = assay_model::text::did_you_mean(&fault.on, &FAULTS_ON);
                return problem(format!(
                    "join.fault: there are no requests `{}`{hint}\nrequests: {}",
                    fault.on,
                    FAULTS_ON.join(", ")
                ));
            }
        }
        Ok(())
    }

    fn check_expressions(&self) -> Result<(), ProfileError> {
        let mut all: Vec<(String, &str)> = Vec::new();
        for phase in &self.phases {
            all.push((format!("phase {:?}: marker", phase.name), &phase.marker));
            all.extend(
                phase.fail.iter().map(|fail| (format!("phase {:?}: fail", phase.name), fail.as_str())),
            );
            all.extend(
                phase.replies.iter().map(|r| (format!("phase {:?}: reply", phase.name), r.on.as_str())),
            );
        }
        all.extend(self.console.fail.iter().map(|fail| ("console.fail".to_owned(), fail.as_str())));
        all.extend(self.console.secrets.iter().map(|one| ("console.secrets".to_owned(), one.as_str())));
        all.extend(self.inspect.volume_id.iter().map(|one| ("inspect.volume-id".to_owned(), one.as_str())));
        for file in &self.medium.files {
            all.extend(
                file.read.iter().map(|read| (format!("medium.file {:?}: read", file.path), read.as_str())),
            );
        }
        if let Some(identify) = &self.identify {
            all.push(("identify.hostname".to_owned(), &identify.hostname));
            let named = [
                ("identify.banner", Some(&identify.banner)),
                ("identify.announced", identify.announced.as_ref()),
            ];
            for (at, expression) in named.into_iter().filter_map(|(at, e)| Some((at, e?))) {
                all.push((at.to_owned(), expression));
                if !expression.contains("(?P<host>") && !expression.contains("(?<host>") {
                    return Err(ProfileError(format!(
                        "{at}: the group that is the name must be called `host`: (?P<host>…)"
                    )));
                }
            }
        }
        for (at, expression) in all {
            if let Err(error) = Regex::new(expression) {
                return Err(ProfileError(format!("{at}: not a regular expression\n{error}")));
            }
        }
        Ok(())
    }
}

pub(super) fn is_name(name: &str, most: usize) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    // A name becomes a folder's: dots alone would be another folder.
    plain && name.len() <= most && name.bytes().any(|b| b != b'.')
}
