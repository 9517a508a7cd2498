//! What `stress-ng` and `stressapptest` show: whether the hardware failed, the tool did, or all was well for as long
//! as it should have been.

use assay_model::host::cpu_stress::{Ended, ToolRun};
use assay_model::text::clean;
use assay_model::{Finding, Severity, Verdict};

use super::{Amount, Said};

/// `stress-ng` found a wrong result.
const STRESSOR_FAILED: i32 = 2;
/// The kinds of work that were asked of it.
const WORK: [&str; 2] = ["cpu", "vm"];
/// A tool may end this much earlier than it was asked to, in seconds.
const EARLY_S: f64 = 2.0;

pub(super) fn stress_ng(run: &ToolRun, amount: Amount, said: &mut Said) {
    let tool = "stress-ng";
    match run.ended {
        Ended::NotStarted | Ended::Stopped => {
            said.lacks("processors were not under load to the end".to_owned());
        }
        Ended::Missing => {
            said.lacks(format!("processors were not put under load: {tool} is missing in the live image"));
        }
        Ended::Hung | Ended::Broken => said.errors.push(did_not_end(tool, run)),
        Ended::Finished => match run.exit {
            Some(0) => worked(run, amount, said),
            Some(STRESSOR_FAILED) if !run.out_of_memory || found_wrong(run) => failed(tool, run, said),
            _ => said.errors.push(could_not_work(tool, run)),
        },
    }
}

fn worked(run: &ToolRun, amount: Amount, said: &mut Said) {
    let done =
        |name: &str| run.work.iter().filter(|work| work.name == name).map(|work| work.done).sum::<f64>();
    let idle: Vec<&str> = WORK.into_iter().filter(|name| done(name) <= 0.0).collect();
    let asked = f64::from(run.asked_s);
    let seen = format!("{:.0} s, {:.0} operations", run.seconds, WORK.into_iter().map(done).sum::<f64>());
    let expected = format!("{} s, all results right", amount.load_s);
    let problem = if !idle.is_empty() {
        Some(format!("stress-ng ended well but did no work of kind {}", idle.join(", ")))
    } else if run.asked_s < amount.load_s {
        Some(format!(
            "processors were to be under load for {} s and were for {} s",
            amount.load_s, run.asked_s
        ))
    } else if run.seconds + EARLY_S < asked {
        Some(format!("stress-ng ended after {:.0} s instead of {asked:.0}", run.seconds))
    } else {
        None
    };
    let verdict = if problem.is_some() { Verdict::Unverified } else { Verdict::Pass };
    said.check("processors and memory under load", verdict, expected, seen);
    if let Some(problem) = problem {
        said.lacks(problem);
    }
    // It says that something failed and that all went well: both are told, and the exit code counts.
    if found_wrong(run) {
        let message = format!("stress-ng complained and ended well all the same: {}", words(run));
        let next =
            "Read what it wrote (stress-ng.txt); if it names a wrong result, retry in the profile burnin.";
        said.findings.push(
            Finding::new("StressFailed", Severity::Warning, message, next)
                .part("cpu", None, None)
                .evidence("stress-ng.txt"),
        );
    }
}

pub(super) fn stressapptest(run: &ToolRun, amount: Amount, required: bool, said: &mut Said) {
    let tool = "stressapptest";
    if amount.copy_s == 0 {
        return;
    }
    let gap = match run.ended {
        Ended::NotStarted | Ended::Stopped => format!("{tool} did not run to its end"),
        Ended::Missing => format!("{tool} is missing in the live image and did not run"),
        Ended::Hung | Ended::Broken => did_not_end(tool, run),
        Ended::Finished if run.errors.is_some_and(|errors| errors > 0) || names_hardware(run) => {
            return failed(tool, run, said);
        }
        Ended::Finished if run.passed == Some(true) && run.errors == Some(0) => {
            let copied = run.work.first().map_or(0.0, |work| work.done);
            let early = run.seconds + EARLY_S < f64::from(run.asked_s) || run.asked_s < amount.copy_s;
            if copied > 0.0 && !early {
                said.check(
                    "memory copied and checked",
                    Verdict::Pass,
                    format!("{} s, no error", amount.copy_s),
                    format!("{:.0} s, {copied:.0} MiB", run.seconds),
                );
                return;
            }
            format!("{tool} says that all is well after {:.0} s and {copied:.0} MiB only", run.seconds)
        }
        Ended::Finished => could_not_work(tool, run),
    };
    // Nothing hangs on it unless the spec says so: memory and processors were tested beside it.
    if required {
        said.lacks(gap);
    } else {
        said.unverified.push(gap);
    }
}

fn failed(tool: &str, run: &ToolRun, said: &mut Said) {
    let message = format!("{tool} found wrong results: {}", words(run));
    let next =
        "Test the memory alone (Memtest86, or the modules in halves); if it is sound, replace the processor.";
    let artifact = format!("{tool}.txt");
    said.check(
        format!("{tool}: results"),
        Verdict::Fail,
        "all right".to_owned(),
        run.errors.map_or_else(|| words(run), |errors| format!("{errors} errors")),
    );
    said.findings.push(
        Finding::new("StressFailed", Severity::Critical, message, next)
            .part("cpu", None, None)
            .evidence(artifact),
    );
}

/// Whether it says itself that a result was wrong.
fn found_wrong(run: &ToolRun) -> bool {
    run.complaints.iter().any(|line| line.to_lowercase().contains("fail:"))
}

fn names_hardware(run: &ToolRun) -> bool {
    run.complaints.iter().any(|line| {
        let line = line.to_lowercase();
        ["discovered hw problems", "hardware error", "miscompare"].iter().any(|sign| line.contains(sign))
    })
}

fn did_not_end(tool: &str, run: &ToolRun) -> String {
    format!("{tool} did not come to its end: {}", words(run))
}

fn could_not_work(tool: &str, run: &ToolRun) -> String {
    let how = match (run.exit, run.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    };
    let memory = if run.out_of_memory { "; the kernel took its memory away" } else { "" };
    format!("{tool} could not do its work ({how}{memory}): {}", words(run))
}

/// What it complained of.
fn words(run: &ToolRun) -> String {
    let said: Vec<String> = run.complaints.iter().take(3).map(|line| clean(line)).collect();
    if said.is_empty() { "it said nothing more".to_owned() } else { said.join("; ") }
}
