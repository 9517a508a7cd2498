//! Machines that die under test: what they kept of their last moments, and the verdict on the stage that killed them.
//!
//! A machine that reboots, crashes or hangs in a stage has failed it: trying again silently would turn a broken
//! machine green as soon as it got lucky once.

use assay_model::event::CrashRecord;
use assay_model::view::{AttemptView, StageView};
use assay_model::{Check, EventBody, Finding, Judgement, RunId, RunView, Severity, StageName, Verdict, text};
use assay_store::Changes;

use crate::decide::Death;
use crate::{Engine, EngineError};

/// Most records kept of one boot; a machine that panics in a loop leaves the same one over and over.
const MAX_RECORDS: usize = 64;
/// Longest part of a record's own name in the name of its artifact.
const MAX_NAME: usize = 80;
/// Longest line quoted.
const MAX_CAUSE: usize = 300;

/// What a line that tells why a machine died looks like, the most telling first.
const TELLING: [&str; 12] = [
    "Kernel panic",
    "Machine Check",
    "Machine check",
    "machine check",
    "[Hardware Error]",
    "BUG:",
    "kernel BUG at",
    "Oops",
    "general protection fault",
    "watchdog: ",
    "soft lockup",
    "thermal",
];

impl Engine {
    /// What the agent's boot found of the one before it, as name and text. Each record becomes an artifact. Said
    /// again by the same boot, it changes nothing.
    pub async fn post_mortem(&self, run: RunId, records: Vec<(String, String)>) -> Result<(), EngineError> {
        let view = self.view(run).await?;
        let told_already = |view: &RunView| {
            let boot = view.enrolled.as_ref().map(|e| e.boot);
            view.status.sealed || boot.is_none() || view.post_mortem.as_ref().map(|told| told.boot) == boot
        };
        if told_already(&view) {
            return Ok(());
        }
        let boot = view.enrolled.as_ref().map_or(0, |e| e.boot);
        let texts: Vec<&str> = records.iter().map(|(_, text)| text.as_str()).collect();
        let cause = cause(&texts);
        let about = view.open_attempt().map(|(stage, attempt)| (stage.plan.name.clone(), attempt.attempt));
        let (mut told, mut events) = (Vec::new(), Vec::new());
        for (place, (name, text)) in records.into_iter().take(MAX_RECORDS).enumerate() {
            let bytes = text.into_bytes();
            let size = bytes.len() as u64;
            let digest = self.artifacts.put(bytes).await?;
            let file = file_name(boot, place, &name);
            self.artifacts.link_run(view.created.number, &file, digest).await?;
            told.push(CrashRecord { name: file.clone(), digest });
            events.push(EventBody::ArtifactStored {
                stage: about.as_ref().map(|(stage, _)| stage.clone()),
                attempt: about.as_ref().map_or(0, |(_, attempt)| *attempt),
                name: file,
                digest,
                bytes: size,
                late: false,
            });
        }
        events.push(EventBody::PostMortem { boot, records: told, cause });
        self.transact(run, |fresh| {
            // A newer boot has its own to tell; of this one nobody waits any more.
            if told_already(fresh) || fresh.enrolled.as_ref().map(|e| e.boot) != Some(boot) {
                return Ok(Changes::default());
            }
            Ok(Changes { events, writes: Vec::new() })
        })
        .await
        .map(drop)
    }
}

/// The verdict on a stage in which the machine died.
pub(crate) fn judgement(run: &RunView, stage: &StageView, attempt: &AttemptView, how: &Death) -> Judgement {
    let name = &stage.plan.name;
    let boot = run.enrolled.as_ref().map(|e| e.boot);
    let told = run.post_mortem.as_ref().filter(|told| Some(told.boot) == boot);
    let records: &[CrashRecord] = told.map_or(&[], |told| &told.records);
    let cause = told.and_then(|told| told.cause.as_deref());
    let (message, next_step) = sentences(name, how, cause, !records.is_empty());
    let mut finding = Finding::new(how.code(), Severity::Critical, &message, next_step)
        .stage(name)
        .part("system", None, None);
    finding.evidence = match how {
        // Nothing came back: what an earlier boot told is not about this death.
        Death::Gone { .. } => Vec::new(),
        _ => records.iter().map(|record| record.name.clone()).collect(),
    };
    let check = Check {
        name: "the machine stays up".to_owned(),
        verdict: Verdict::Fail,
        expected: format!("boot {} to the end of the stage", boot_of(run, attempt)),
        seen: how.code().to_owned(),
    };
    Judgement {
        verdict: Verdict::Fail,
        message,
        checks: vec![check],
        findings: vec![finding],
        coverage: Vec::new(),
        unverified: vec!["the machine died before it could say what it had found".to_owned()],
    }
}

/// Whether the stage failed because the machine died, and not by its evidence.
pub(crate) fn is_death(judgement: &Judgement) -> bool {
    let codes = ["MachineCrashed", "MachineRebooted", "MachineHung", "MachineDidNotReturn"];
    judgement.findings.iter().any(|f| codes.contains(&f.code.as_str()))
}

fn sentences(stage: &StageName, how: &Death, cause: Option<&str>, kept: bool) -> (String, &'static str) {
    let said = match (cause, kept) {
        (Some(cause), _) => format!(": {cause}"),
        (None, true) => "; it kept a record of that, in which no line says why".to_owned(),
        (None, false) => String::new(),
    };
    match how {
        Death::Crashed => (
            format!("The machine crashed during {stage}{said}"),
            "Read the records; a machine check names the processor, memory or bus to replace, then vet it again.",
        ),
        Death::Rebooted => (
            format!("The machine rebooted by itself during {stage} and kept no record of why"),
            "If somebody reset it, retry; otherwise look at its event log, suspect power supply, overheating or \
             memory, and repair it before it is vetted again.",
        ),
        Death::Hung => (
            format!(
                "The machine fell silent during {stage} and answered only after its power was cycled{said}"
            ),
            "Unless its network was cut, treat it as a hang: read the records and the console log, suspect memory, \
             processor or firmware, and repair it before it is vetted again.",
        ),
        Death::Gone { message } => (
            format!("{message}; it was in {stage}"),
            "Look at the machine's console: is it powered, is the registered port cabled, does it boot from the \
             network first?",
        ),
    }
}

/// The boot that the attempt was given to, counted from 1.
fn boot_of(run: &RunView, attempt: &AttemptView) -> u32 {
    match &run.enrolled {
        Some(e) if e.generation > attempt.generation => e.boot.saturating_sub(1),
        Some(e) => e.boot,
        None => run.boots,
    }
}

/// The line that says most, over all records.
fn cause(records: &[&str]) -> Option<String> {
    TELLING.iter().find_map(|sign| {
        let line = records.iter().flat_map(|text| text.lines()).find(|line| line.contains(sign))?;
        Some(text::clean_to(without_stamp(line), MAX_CAUSE))
    })
}

/// The kernel's level and time in front of a line say nothing to people: `<0>[   12.345678] Kernel panic`.
fn without_stamp(line: &str) -> &str {
    let line = line.trim();
    let line = line.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(line, |(_, rest)| rest);
    let stamped = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match stamped {
        Some((stamp, rest)) if stamp.trim().parse::<f64>().is_ok() => rest.trim_start(),
        _ => line,
    }
}

/// A name for a record's artifact: the record's own may be anything, and two boots may use the same.
fn file_name(boot: u32, place: usize, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let own: String = name.chars().take(MAX_NAME).map(plain).collect();
    format!("crash-{boot}-{}-{own}.txt", place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_most_is_quoted_without_its_stamp() {
        let dmesg = "Panic#1 Part1\n<6>[   10.000001] thermal thermal_zone0: 45 C\n\
            <0>[   12.345678] mce: [Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 8\n\
            <0>[   12.400000] Kernel panic - not syncing: Fatal machine check\n";
        let quoted = |records: &[&str]| cause(records);
        assert_eq!(
            quoted(&["nothing here", dmesg]).as_deref(),
            Some("Kernel panic - not syncing: Fatal machine check")
        );
        assert_eq!(
            quoted(&["[    1.0] BUG: unable to handle page fault for address: 0"]).as_deref(),
            Some("BUG: unable to handle page fault for address: 0")
        );
        assert_eq!(
            quoted(&["mce: [Hardware Error]: CPU 1"]).as_deref(),
            Some("mce: [Hardware Error]: CPU 1")
        );
        assert_eq!(quoted(&["all is well", ""]), None);
        assert_eq!(quoted(&[]), None);
    }

    #[test]
    fn a_record_s_name_becomes_one_plain_file() {
        assert_eq!(
            file_name(2, 0, "dmesg-erst-7000000000000001"),
            "crash-2-1-dmesg-erst-7000000000000001.txt"
        );
        let hostile = file_name(1, 1, &format!("../../etc/{}", "x".repeat(300)));
        assert!(hostile.starts_with("crash-1-2-.._.._etc_xxx") && hostile.len() < 128, "{hostile}");
    }
}
