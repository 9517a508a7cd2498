//! Asks every disk for its health: `smartctl` before and after a short self-test.
//!
//! All disks at once, each with its own time limits: a sick disk that hangs must not keep the others
//! from being read, and is itself recorded. What the numbers mean is not decided here.

mod disks;
pub mod parse;
mod selftest;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use assay_model::host::smart::{
    DiskClass, SelfTest, SelfTestOutcome, SmartDisk, SmartEvidence, SmartSupport,
};
use assay_model::text::{clean, clean_to};
use assay_process::{Cmd, ProcessError};
use futures::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use self::disks::KernelDisk;
use self::parse::Parsed;
use self::selftest::SelfTestLog;
use crate::Machine;

/// A process in uninterruptible sleep survives SIGKILL; this long after its limit it is left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(5);
/// Most that is kept of one `smartctl` output.
const MAX_OUTPUT: usize = 4 * 1024 * 1024;
/// How often the log may show no sign of a test before it counts as never started.
const POLLS_WITHOUT_A_SIGN: u32 = 3;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct SmartOptions {
    /// One call of `smartctl`.
    pub command: Duration,
    /// Whether to start self-tests.
    pub self_test: bool,
    /// Between two looks at a running self-test.
    pub poll: Duration,
    /// The longest that a self-test is waited for, whatever the disk says.
    pub self_test_cap: Duration,
}

impl Default for SmartOptions {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(90),
            self_test: true,
            poll: Duration::from_secs(5),
            self_test_cap: Duration::from_mins(10),
        }
    }
}

/// What the probe brings back.
#[derive(Clone, Debug, Default)]
pub struct SmartProbe {
    /// What the judge reads.
    pub evidence: SmartEvidence,
    /// Raw output: `smart-<serial>.txt`, `.json`, and `-before.json` from before the self-test.
    pub artifacts: Vec<(String, Vec<u8>)>,
}

/// Health cannot be read at all on this machine.
#[derive(Debug, thiserror::Error)]
pub enum SmartError {
    /// `smartctl` is missing or does not start.
    #[error("disk health cannot be read without `smartctl`; install smartmontools in the live image: {0}")]
    NoSmartctl(#[source] ProcessError),
    /// The kernel's list of disks cannot be read.
    #[error("the list of disks in {path} cannot be read; is sysfs mounted? {source}")]
    NoDiskList {
        /// Where it should be.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Reads the health of all disks, with the usual limits. `expected` are serial numbers or WWNs.
pub async fn smart(
    machine: &Machine,
    expected: &[String],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<SmartProbe, SmartError> {
    smart_with(machine, expected, progress, SmartOptions::default()).await
}

/// As [`smart`], with limits of the caller's.
pub async fn smart_with(
    machine: &Machine,
    expected: &[String],
    progress: &(dyn Fn(&str) + Sync),
    options: SmartOptions,
) -> Result<SmartProbe, SmartError> {
    let smartctl = Smartctl { machine, limit: options.command };
    let version = match smartctl.cmd(&["--json", "--version"]).run().await {
        Ok(output) => serde_json::from_slice::<Value>(&output.stdout).ok().as_ref().and_then(parse::version),
        Err(problem) => return Err(SmartError::NoSmartctl(problem)),
    };
    let disks = disks::list(machine).map_err(|source| SmartError::NoDiskList {
        path: machine.path("sys/block").display().to_string(),
        source,
    })?;
    progress(&format!("{} disks found", disks.len()));
    let probed = join_all(disks.iter().map(|disk| probe_disk(&smartctl, disk, progress, options))).await;

    let mut probe = SmartProbe::default();
    let mut names = HashSet::new();
    for (mut disk, files) in probed {
        let mut base = format!("smart-{}", file_name(disk.serial.as_deref().unwrap_or(&disk.name)));
        if !names.insert(base.clone()) {
            base = format!("{base}-{}", file_name(&disk.name));
            names.insert(base.clone());
        }
        for (suffix, bytes) in files {
            let name = format!("{base}{suffix}");
            disk.artifacts.push(name.clone());
            probe.artifacts.push((name, bytes));
        }
        probe.evidence.disks.push(disk);
    }
    probe.evidence.smartctl_version = version;
    probe.evidence.expected_but_absent = expected
        .iter()
        .filter(|wanted| !probe.evidence.disks.iter().any(|disk| answers_to(disk, wanted)))
        .cloned()
        .collect();
    Ok(probe)
}

type Files = Vec<(&'static str, Vec<u8>)>;

async fn probe_disk(
    smartctl: &Smartctl<'_>,
    known: &KernelDisk,
    progress: &(dyn Fn(&str) + Sync),
    options: SmartOptions,
) -> (SmartDisk, Files) {
    let mut disk = SmartDisk {
        name: known.name.clone(),
        serial: known.serial.clone(),
        wwn: known.wwn.clone(),
        model: known.model.clone(),
        class: known.class,
        support: SmartSupport::Virtual,
        before: None,
        after: None,
        self_test: SelfTest::not_run(Some(false), "a virtual disk has no self-test"),
        artifacts: Vec::new(),
        problems: Vec::new(),
    };
    let mut files = Files::new();
    if known.paravirtual {
        return (disk, files);
    }
    let first = match smartctl.json(&known.name, &["--json=o", "-x"]).await {
        Ok(answer) => answer,
        Err(problem) => {
            progress(&format!("{}: {problem}", known.name));
            disk.support = SmartSupport::Unreadable;
            disk.self_test = SelfTest::not_run(None, "its health could not be read");
            disk.problems.push(problem);
            return (disk, files);
        }
    };
    let parsed = parse::parse(&first.json, first.status);
    identify(&mut disk, &parsed);
    disk.support = match parsed.support {
        // A disk made of software that has nothing to say is not a disk that hides something.
        SmartSupport::Unsupported | SmartSupport::Unreadable if known.emulated => SmartSupport::Virtual,
        told => told,
    };
    keep(&mut files, &first, false);
    if disk.support != SmartSupport::Available {
        disk.self_test = SelfTest::not_run(parsed.self_test_supported, "it tells nothing about its health");
        disk.problems.extend(parsed.reading.messages.iter().cloned());
        disk.before = Some(parsed.reading);
        return (disk, files);
    }
    let minutes = parsed.self_test_minutes;
    let supported = parsed.self_test_supported;
    disk.before = Some(parsed.reading);
    disk.self_test = if options.self_test {
        SelfTester { smartctl, disk: &disk, progress, options }.run(supported, minutes).await
    } else {
        SelfTest::not_run(supported, "self-tests are switched off")
    };
    match smartctl.json(&known.name, &["--json=o", "-x"]).await {
        Ok(second) => {
            let again = parse::parse(&second.json, second.status);
            if again.support != SmartSupport::Available {
                disk.problems.push("it answered before the self-test and no longer after it".to_owned());
                disk.problems.extend(again.reading.messages.iter().cloned());
                disk.support = SmartSupport::Unreadable;
            } else if again.serial != parsed.serial {
                disk.problems.push(format!(
                    "{} answered with serial {} before and {} after the self-test",
                    known.name,
                    or_none(parsed.serial.as_deref()),
                    or_none(again.serial.as_deref())
                ));
                disk.support = SmartSupport::Unreadable;
            }
            files.clear();
            keep(&mut files, &second, false);
            keep(&mut files, &first, true);
            disk.after = Some(again.reading);
        }
        Err(problem) => {
            progress(&format!("{}: {problem}", known.name));
            disk.support = SmartSupport::Unreadable;
            disk.problems.push(problem);
        }
    }
    progress(&format!("{}: read, self-test: {}", label(&disk), disk.self_test.detail));
    (disk, files)
}

fn identify(disk: &mut SmartDisk, parsed: &Parsed) {
    if parsed.class != DiskClass::Unknown {
        disk.class = parsed.class;
    }
    // The disk's own answer is preferred: sysfs cuts models to 16 characters.
    for (kept, told) in
        [(&mut disk.serial, &parsed.serial), (&mut disk.model, &parsed.model), (&mut disk.wwn, &parsed.wwn)]
    {
        if told.is_some() {
            kept.clone_from(told);
        }
    }
}

fn keep(files: &mut Files, answer: &Answer, before: bool) {
    if before {
        files.push(("-before.json", answer.raw.clone()));
        return;
    }
    let text = parse::text_of(&answer.json).map_or_else(|| answer.raw.clone(), String::into_bytes);
    files.push((".txt", text));
    files.push((".json", answer.raw.clone()));
}

/// Starts one disk's short self-test and waits for its end.
struct SelfTester<'a> {
    smartctl: &'a Smartctl<'a>,
    disk: &'a SmartDisk,
    progress: &'a (dyn Fn(&str) + Sync),
    options: SmartOptions,
}

impl SelfTester<'_> {
    async fn run(&self, supported: Option<bool>, minutes: Option<u64>) -> SelfTest {
        // SCSI has no flag for it: the only way to know is to try.
        let worth_trying =
            supported == Some(true) || (supported.is_none() && self.disk.class == DiskClass::Scsi);
        if !worth_trying {
            return SelfTest::not_run(supported, "the disk does not offer a self-test");
        }
        let ended = |outcome, seconds, detail: String| SelfTest { supported, outcome, seconds, detail };
        let before = match self.log().await {
            Ok(log) if log.running => {
                let why = "another self-test is running; wait for its end and try again".to_owned();
                return ended(SelfTestOutcome::NotStarted, None, why);
            }
            Ok(log) => log,
            Err(problem) => return ended(SelfTestOutcome::NotStarted, None, problem),
        };
        let name = &self.disk.name;
        let started = Instant::now();
        match self.smartctl.json(name, &["--json", "-t", "short"]).await {
            Ok(answer) if answer.status & 0b111 != 0 => {
                let why = format!("smartctl refused to start it: {}", words(&answer.json, answer.status));
                return ended(SelfTestOutcome::NotStarted, None, why);
            }
            Ok(_) => {}
            Err(problem) => return ended(SelfTestOutcome::NotStarted, None, problem),
        }
        let limit = minutes
            .map_or(self.options.self_test_cap, |minutes| {
                Duration::from_secs(minutes.saturating_mul(120) + 60)
            })
            .min(self.options.self_test_cap);
        (self.progress)(&format!("{}: short self-test, at most {} s", label(self.disk), limit.as_secs()));
        let (mut seen_running, mut without_a_sign) = (false, 0);
        loop {
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                // Left running, it would slow down the stages that measure this disk.
                if let Err(problem) = self.smartctl.json(name, &["--json", "-X"]).await {
                    tracing::warn!(disk = %name, %problem, "a self-test that ran too long could not be stopped");
                }
                let why = format!("still running after {} s", limit.as_secs());
                return ended(SelfTestOutcome::TimedOut, Some(started.elapsed().as_secs()), why);
            }
            sleep(self.options.poll.min(left)).await;
            let log = match self.log().await {
                Ok(log) => log,
                Err(problem) => {
                    return ended(SelfTestOutcome::Aborted, Some(started.elapsed().as_secs()), problem);
                }
            };
            if let Some((outcome, detail)) = log.outcome_since(&before, seen_running) {
                return ended(outcome, Some(started.elapsed().as_secs()), detail);
            }
            seen_running |= log.running;
            without_a_sign = if log.running { 0 } else { without_a_sign + 1 };
            if without_a_sign >= POLLS_WITHOUT_A_SIGN {
                let why =
                    "smartctl reported that it started it, but the disk's log shows no sign of it".to_owned();
                return ended(SelfTestOutcome::NotStarted, None, why);
            }
        }
    }

    async fn log(&self) -> Result<SelfTestLog, String> {
        let which = match self.disk.class {
            DiskClass::Ata => &["--json", "-c", "-l", "xselftest,selftest"][..],
            _ => &["--json", "-l", "selftest"],
        };
        self.smartctl.json(&self.disk.name, which).await.map(|answer| SelfTestLog::of(&answer.json))
    }
}

struct Answer {
    json: Value,
    raw: Vec<u8>,
    status: u8,
}

struct Smartctl<'a> {
    machine: &'a Machine,
    limit: Duration,
}

impl Smartctl<'_> {
    fn cmd(&self, args: &[&str]) -> Cmd {
        Cmd::new(self.machine.tool("smartctl")).args(args).timeout(self.limit).max_output(MAX_OUTPUT)
    }

    /// Runs it on a disk. The error is a sentence for the evidence.
    async fn json(&self, disk: &str, args: &[&str]) -> Result<Answer, String> {
        let cmd = self.cmd(args).arg(self.machine.path("dev").join(disk));
        let output = timeout(self.limit + LEFT_BEHIND, cmd.run())
            .await
            .map_err(|_| {
                format!("smartctl hangs on it and cannot be killed (limit {} s)", self.limit.as_secs())
            })?
            .map_err(|problem| match problem {
                ProcessError::Timeout { after, .. } => {
                    format!("smartctl did not end within {} s and was stopped", after.as_secs())
                }
                other => clean_to(&other.to_string(), 1024),
            })?;
        let Some(status) = output.code().and_then(|code| u8::try_from(code).ok()) else {
            return Err(format!("smartctl was ended by signal {}", output.signal().unwrap_or_default()));
        };
        if output.stdout_truncated {
            return Err(format!("smartctl wrote more than {MAX_OUTPUT} bytes"));
        }
        let json: Value = serde_json::from_slice(&output.stdout).map_err(|problem| {
            let said = clean_to(&output.last_words(), 256);
            format!("smartctl exited with {status} and wrote no JSON ({problem}): {said}")
        })?;
        let reported = json.pointer("/smartctl/exit_status").and_then(Value::as_u64);
        if reported.is_some_and(|reported| reported != u64::from(status)) {
            return Err(format!(
                "smartctl exited with {status} but reports {}",
                reported.unwrap_or_default()
            ));
        }
        Ok(Answer { json, raw: output.stdout, status })
    }
}

fn words(json: &Value, status: u8) -> String {
    let said = json.pointer("/smartctl/messages").and_then(Value::as_array);
    let said: Vec<_> =
        said.into_iter().flatten().filter_map(|m| m["string"].as_str()).map(clean).take(4).collect();
    if said.is_empty() { format!("exit status {status}") } else { said.join("; ") }
}

fn label(disk: &SmartDisk) -> String {
    disk.serial
        .as_ref()
        .map_or_else(|| disk.name.clone(), |serial| format!("{} (serial {serial})", disk.name))
}

fn or_none(text: Option<&str>) -> &str {
    text.unwrap_or("none")
}

fn answers_to(disk: &SmartDisk, wanted: &str) -> bool {
    [&disk.serial, &disk.wwn]
        .into_iter()
        .flatten()
        .any(|told| assay_model::host::smart::same_identity(told, wanted))
}

/// Only what is a plain file name everywhere.
fn file_name(raw: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = raw.chars().take(64).map(safe).collect();
    if name.trim_matches('.').is_empty() { "unnamed".to_owned() } else { name }
}
