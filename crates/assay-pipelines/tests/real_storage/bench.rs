//! A machine of loop devices: real block devices behind a captured sysfs that says who they are.
//!
//! The devices, their exclusive claims, mounts, direct reads and writes are the kernel's; only what disks say of
//! themselves is written by hand, since a loop device says nothing.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use assay_model::host::order::{Profile, StageInput};
use assay_model::host::permit::{CONTEXT, ErasePermit, GuardAnswer, SignedPermit};
use assay_model::host::spec::{ClusterSpec, DiskSpec, HostSpec};
use assay_model::host::storage::{RefusalKind, StorageEvidence};
use assay_model::{Judgement, Micros, RunId, Sha256};
use assay_pipelines::{CollectContext, JudgeInput, Place, host};
use assay_probes::Machine;
use assay_process::Cmd;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::Value;

pub(crate) const SIZE: u64 = 64 << 20;
const LIMIT: Duration = Duration::from_mins(2);

/// What `fio` prints, without the time that it takes. Other tests run the real one.
const FAKE_FIO: &str = r#"#!/bin/sh
for a in "$@"; do case $a in --output=*) out=${a#--output=};; esac; done
side='{"total_ios": 900, "iops": 300.5, "runtime": 3000, "clat_ns": {"percentile": {"99.000000": 4015000}}}'
echo "{\"jobs\": [{\"error\": 0, \"read\": $side, \"write\": $side}]}" > "$out"
"#;

/// A loop device that lasts as long as this.
pub(crate) struct Disk {
    pub(crate) image: PathBuf,
    pub(crate) node: PathBuf,
    pub(crate) number: String,
    // The device is told to go away when nobody has it open any more: this keeps it.
    _open: File,
}

impl Disk {
    /// A disk in a file; the file is made empty if it is not there.
    pub(crate) async fn new(folder: &Path, name: &str) -> Self {
        let image = folder.join(name);
        if !image.exists() {
            File::create(&image).expect("an image").set_len(SIZE).expect("its size");
        }
        Self::of(image).await
    }

    pub(crate) async fn of(image: PathBuf) -> Self {
        let attach = Cmd::new("losetup").args(["--find", "--show"]).arg(&image).timeout(LIMIT);
        let node = PathBuf::from(attach.run_ok().await.expect("a loop device").stdout_text().trim());
        let open = File::open(&node).expect("opened");
        Cmd::new("losetup")
            .arg("--detach")
            .arg(&node)
            .timeout(LIMIT)
            .run_ok()
            .await
            .expect("detached at last close");
        let number = open.metadata().expect("its number").rdev();
        let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        Self { image, node, number, _open: open }
    }

    /// The digest of every byte.
    pub(crate) fn digest(&self) -> Sha256 {
        Sha256::of(&fs::read(&self.image).expect("the image"))
    }

    pub(crate) fn is_zero(&self) -> bool {
        fs::read(&self.image).expect("the image").iter().all(|byte| *byte == 0)
    }

    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) {
        let image = File::options().write(true).open(&self.image).expect("the image");
        image.write_all_at(bytes, offset).expect("written");
        image.sync_all().expect("on disk");
    }
}

/// A machine, a spec and a place.
pub(crate) struct Bench {
    pub(crate) root: tempfile::TempDir,
    pub(crate) machine: Machine,
    pub(crate) spec: HostSpec,
    pub(crate) input: StageInput,
    pub(crate) place: Place,
    pub(crate) saved: Mutex<Vec<Value>>,
    /// The disks that a fresh permit is made for with every run, and those of them that may hold data.
    pub(crate) allowed: Option<(Vec<String>, Vec<String>)>,
}

impl Bench {
    /// A machine without disks; `fio` is the fake one.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let tools = root.path().join("tools");
        fs::create_dir(&tools).expect("a folder");
        let blkdiscard = assay_process::find_program("blkdiscard").expect("util-linux");
        symlink(blkdiscard, tools.join("blkdiscard")).expect("a link");
        fs::write(tools.join("fio"), FAKE_FIO).expect("written");
        executable(&tools.join("fio"));
        symlink("/proc", root.path().join("proc")).expect("a link");
        let machine = Machine::captured(root.path(), Some(tools));
        let spec = HostSpec { cluster: Some(ClusterSpec::None), ..HostSpec::default() };
        let input = StageInput { profile: Profile::Quick, ..StageInput::default() };
        let place = Place {
            run: RunId(uuid::Uuid::now_v7()),
            host: "web-3".to_owned(),
            generation: 4,
            verify_key: hex::encode(key().verifying_key().as_bytes()),
            now: Micros::seconds(1000),
        };
        Self { root, machine, spec, input, place, saved: Mutex::default(), allowed: None }
    }

    /// With the real tools.
    pub(crate) fn with_real_tools(mut self) -> Self {
        self.machine = Machine::captured(self.root.path(), None);
        self
    }

    /// Has this script stand in for `fio`.
    pub(crate) fn fio(&self, script: &str) {
        fs::write(self.root.path().join("tools/fio"), script).expect("written");
    }

    /// Puts a disk in under this kernel name; it says that it has this serial number.
    pub(crate) fn plug(&self, name: &str, serial: &str, disk: &Disk) {
        let folder = self.root.path().join("sys/block").join(name);
        let page = [&[0, 0x80, 0, serial.len() as u8], serial.as_bytes()].concat();
        for (file, content) in [
            ("dev", disk.number.as_bytes()),
            ("size", (SIZE / 512).to_string().as_bytes()),
            ("ro", b"0"),
            ("removable", b"0"),
            ("queue/rotational", b"1"),
            ("queue/logical_block_size", b"512"),
            ("device/vpd_pg80", &page),
            ("device/model", b"TESTDISK"),
        ] {
            write(&folder.join(file), content);
        }
        self.number(name, disk);
        let node = self.root.path().join("dev").join(name);
        fs::create_dir_all(node.parent().expect("a folder")).expect("a folder");
        let _ = fs::remove_file(&node);
        symlink(&disk.node, node).expect("a link");
    }

    /// What the kernel knows under the disk's number.
    pub(crate) fn number(&self, name: &str, disk: &Disk) {
        let numbers = self.root.path().join("sys/dev/block");
        fs::create_dir_all(&numbers).expect("a folder");
        let link = numbers.join(&disk.number);
        let _ = fs::remove_file(&link);
        symlink(format!("../../block/{name}"), link).expect("a link");
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        write(&self.root.path().join(path), content.as_bytes());
    }

    /// Names a disk in the spec.
    pub(crate) fn expect(&mut self, serial: &str) {
        self.spec.disks.push(DiskSpec { serial: Some(serial.to_owned()), ..DiskSpec::default() });
    }

    pub(crate) fn permit(&self, disks: &[String], with_data: &[String]) -> ErasePermit {
        ErasePermit {
            host: self.place.host.clone(),
            run: self.place.run,
            generation: self.place.generation,
            disks: disks.to_vec(),
            with_data: with_data.to_vec(),
            guard: GuardAnswer::NoCluster,
            expires: Micros::seconds(2000),
            nonce: uuid::Uuid::now_v7().to_string(),
        }
    }

    /// Has the collector given a permit that is good for these disks, a new one with each run.
    pub(crate) fn allow(&mut self, disks: &[&str], with_data: &[&str]) {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.allowed = Some((own(disks), own(with_data)));
    }

    /// Runs the stage as an agent does.
    pub(crate) async fn run(&self) -> Outcome {
        let stage = host::stage("Storage").expect("the stage");
        let save = |state: Value| self.saved.lock().expect("no panic").push(state);
        let mut input = self.input.clone();
        if let Some((disks, with_data)) = &self.allowed {
            input.permit = Some(signed(&self.permit(disks, with_data), &key()));
        }
        let context = CollectContext {
            machine: &self.machine,
            spec: &self.spec,
            input: &input,
            place: &self.place,
            progress: &|_| (),
            save: &save,
        };
        let collected = stage.collect(&context).await.expect("collected");
        let evidence = serde_json::from_value(collected.evidence.clone()).expect("evidence");
        let input =
            JudgeInput { profile: self.input.profile, ..JudgeInput::new(&self.spec, &collected.evidence) };
        let artifacts = collected.artifacts.iter().map(|(name, _)| name.clone()).collect();
        Outcome { judgement: stage.judge(&input), evidence, artifacts }
    }
}

/// What a run of the stage came to.
pub(crate) struct Outcome {
    pub(crate) judgement: Judgement,
    pub(crate) evidence: StorageEvidence,
    pub(crate) artifacts: Vec<String>,
}

impl Outcome {
    pub(crate) fn codes(&self) -> Vec<&str> {
        self.judgement.findings.iter().map(|finding| finding.code.as_str()).collect()
    }

    pub(crate) fn refusals(&self) -> Vec<RefusalKind> {
        self.evidence.disks.iter().flat_map(|disk| &disk.refusals).map(|refusal| refusal.why).collect()
    }
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn signed(permit: &ErasePermit, key: &SigningKey) -> SignedPermit {
    let permit = serde_json::to_string(permit).expect("plain");
    let message = [CONTEXT, permit.as_bytes()].concat();
    SignedPermit { signature: hex::encode(key.sign(&message).to_bytes()), permit }
}

/// Runs a tool on a device or file.
pub(crate) async fn tool(program: &str, args: &[&str], on: &Path) {
    Cmd::new(program).args(args.iter().copied()).arg(on).timeout(LIMIT).run_ok().await.expect(program);
}

fn write(file: &Path, content: &[u8]) {
    fs::create_dir_all(file.parent().expect("has a parent")).expect("a folder");
    fs::write(file, content).expect("written");
}

fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("executable");
}
