//! Random access, measured by `fio`: 4 KiB, 32 requests at a time, past the cache.
//!
//! `fio` opens the disk by its path. That is safe only while the caller holds the disk open: as long as its descriptor
//! is there, the kernel gives neither the disk's name nor its number to another one. Its report is read from a file,
//! as errors are mixed into what it prints; what it writes is known again by the wipe probe.

use std::path::Path;
use std::time::Duration;

use assay_model::host::storage::{RandomRate, RandomSpeed};
use assay_model::text::{clean, clean_to};
use assay_process::Cmd;
use serde_json::Value;

use crate::Machine;
use crate::wipe_probe::FIO_PATTERN;

/// Beyond the time that was asked for: starting, laying out, and requests that are slow to come back.
const AIR: Duration = Duration::from_mins(2);
/// Longest report that is read.
const MAX_REPORT: usize = 4 << 20;
/// Errors that are kept.
const MAX_ERRORS: usize = 5;

/// What `fio` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FioOptions {
    /// For how long each of reading and writing.
    pub each: Duration,
    /// Whether only zeros are written, for a disk that was zeroed before.
    pub zeros: bool,
}

/// What it said.
#[derive(Clone, Debug, Default)]
pub struct FioOutcome {
    /// Rates, and what went wrong.
    pub speed: RandomSpeed,
    /// Its reports, as one JSON object with `read` and `write`.
    pub raw: Vec<u8>,
}

/// Measures one disk, reading first. Whatever goes wrong stands in the outcome.
pub async fn measure(machine: &Machine, disk: &Path, options: FioOptions) -> FioOutcome {
    let mut outcome = FioOutcome::default();
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(problem) => {
            outcome.speed.errors.push(format!("there is no room for the report of fio: {problem}"));
            return outcome;
        }
    };
    let mut reports = serde_json::Map::new();
    for (direction, key) in [("randread", "read"), ("randwrite", "write")] {
        let (report, errors) = one(machine, disk, options, direction, folder.path()).await;
        let rate = report.as_ref().and_then(|report| rate(report, key));
        if rate.is_none() && errors.is_empty() {
            outcome.speed.errors.push(format!("fio {direction} reported nothing that can be read"));
        }
        outcome.speed.errors.extend(errors);
        match key {
            "read" => outcome.speed.read = rate,
            _ => outcome.speed.write = rate,
        }
        reports.insert(key.to_owned(), report.unwrap_or(Value::Null));
    }
    outcome.raw = serde_json::to_vec_pretty(&reports).unwrap_or_default();
    outcome
}

async fn one(
    machine: &Machine,
    disk: &Path,
    options: FioOptions,
    direction: &str,
    folder: &Path,
) -> (Option<Value>, Vec<String>) {
    let report = folder.join(format!("{direction}.json"));
    let content = if options.zeros {
        "--zero_buffers=1".to_owned()
    } else {
        format!("--buffer_pattern=\"{}\"", String::from_utf8_lossy(&FIO_PATTERN))
    };
    let fixed = [
        "--name=assay",
        "--direct=1",
        "--ioengine=libaio",
        "--bs=4k",
        "--iodepth=32",
        "--time_based",
        "--randrepeat=0",
        "--norandommap",
        "--random_generator=tausworthe64",
        "--eta=never",
        "--output-format=json",
        "--lat_percentiles=0",
        "--clat_percentiles=1",
        "--percentile_list=50:99:99.9",
    ];
    let result = Cmd::new(machine.tool("fio"))
        .args(fixed)
        .args([format!("--rw={direction}"), format!("--runtime={}", options.each.as_secs().max(1)), content])
        .arg(format!("--filename={}", disk.display()))
        .arg(format!("--output={}", report.display()))
        // Files that it leaves lying are not left in a read-only root.
        .cwd(folder)
        .timeout(options.each + AIR)
        .max_output(MAX_REPORT)
        .run()
        .await;
    let mut errors = Vec::new();
    match &result {
        Ok(output) if output.success() => {}
        Ok(output) => errors.push(clean_to(&format!("fio {direction}: {}", output.last_words()), 300)),
        Err(problem) => errors.push(clean_to(&format!("fio {direction}: {problem}"), 300)),
    }
    let text = crate::files::text(&report).unwrap_or_default();
    // Errors may stand before the object, even in the file.
    let (before, object) = text.split_at(text.find('{').unwrap_or(text.len()));
    errors.extend(before.lines().filter(|line| line.contains("error") || line.contains("err=")).map(clean));
    let parsed: Option<Value> = serde_json::from_str(object).ok();
    if let Some(error) = parsed.as_ref().and_then(job_error) {
        errors.push(format!("fio {direction} met error {error} of the system"));
    }
    errors.truncate(MAX_ERRORS);
    (parsed, errors)
}

fn job_error(report: &Value) -> Option<i64> {
    report.pointer("/jobs/0/error")?.as_i64().filter(|error| *error != 0)
}

fn rate(report: &Value, key: &str) -> Option<RandomRate> {
    let side = report.pointer(&format!("/jobs/0/{key}"))?;
    let number = |pointer: &str| side.pointer(pointer).and_then(Value::as_f64);
    let requests = side.pointer("/total_ios")?.as_u64().filter(|requests| *requests > 0)?;
    Some(RandomRate {
        iops: number("/iops")?,
        p99_us: (number("/clat_ns/percentile/99.000000")? / 1000.0).round() as u64,
        requests,
        seconds: number("/runtime")? / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A tool that prints what the real one does, into the file that it was told.
    async fn with_fake(report: &str, status: i32) -> FioOutcome {
        let folder = tempfile::tempdir().expect("a folder");
        let tool = folder.path().join("fio");
        std::fs::write(folder.path().join("report"), report).expect("written");
        let script = format!(
            "#!/bin/sh\nfor a in \"$@\"; do case $a in --output=*) cp {}/report \"${{a#--output=}}\";; esac; done\nexit {status}\n",
            folder.path().display()
        );
        std::fs::write(&tool, script).expect("written");
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let machine = Machine::captured(folder.path(), Some(folder.path().to_owned()));
        measure(&machine, Path::new("/dev/null"), FioOptions { each: Duration::from_secs(1), zeros: true })
            .await
    }

    const GOOD: &str = r#"{"jobs": [{"error": 0,
        "read": {"total_ios": 900, "iops": 300.5, "runtime": 3000, "clat_ns": {"percentile": {"99.000000": 4015000}}},
        "write": {"total_ios": 600, "iops": 200.0, "runtime": 3000, "clat_ns": {"percentile": {"99.000000": 9000400}}}}]}"#;

    #[tokio::test]
    async fn rates_and_tail_latencies_are_read() {
        let speed = with_fake(GOOD, 0).await.speed;
        assert_eq!(speed.errors, Vec::<String>::new());
        let (read, write) = (speed.read.expect("read"), speed.write.expect("written"));
        assert_eq!((read.p99_us, read.requests, write.p99_us), (4015, 900, 9000));
        assert!((read.iops - 300.5).abs() < 1e-9 && (write.seconds - 3.0).abs() < 1e-9);
    }

    #[tokio::test]
    async fn errors_before_the_report_and_in_it_are_kept() {
        let said = "fio: pid=332, err=61/file:io_u.c:1889, func=io_u error, error=No data available\n";
        let outcome = with_fake(&format!("{said}{}", GOOD.replace("\"error\": 0", "\"error\": 61")), 1).await;
        let errors = outcome.speed.errors.join("\n");
        assert!(errors.contains("err=61") && errors.contains("met error 61"), "{errors}");
        assert!(outcome.speed.read.is_some(), "what was measured is kept");
    }

    #[tokio::test]
    async fn a_report_of_nothing_is_no_measurement() {
        for report in ["", "{}", &GOOD.replace("900", "0").replace("600", "0")] {
            let speed = with_fake(report, 0).await.speed;
            assert!(speed.read.is_none() && speed.write.is_none() && !speed.errors.is_empty(), "{report}");
        }
    }

    #[tokio::test]
    async fn a_missing_tool_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = Machine::captured(folder.path(), Some(folder.path().to_owned()));
        let options = FioOptions { each: Duration::from_secs(1), zeros: false };
        let speed = measure(&machine, Path::new("/dev/null"), options).await.speed;
        assert!(speed.errors[0].contains("fio"), "{:?}", speed.errors);
    }

    #[tokio::test]
    async fn odd_ends_and_odd_reports_are_errors_and_never_a_clean_measurement() {
        let garbage = "\u{1b}[2J\u{0}\u{fffd}fio fio fio";
        for (report, status) in
            [(garbage, 0), (garbage, 1), ("[]", 0), ("{\"jobs\": 7}", 0), ("{\"jobs\": [", 0)]
        {
            let speed = with_fake(report, status).await.speed;
            assert!(speed.read.is_none() && speed.write.is_none() && !speed.errors.is_empty(), "{report}");
            assert!(!speed.errors.concat().contains('\u{1b}'), "{:?}", speed.errors);
        }
        // Numbers of a run that failed are kept, and so is that it failed.
        let speed = with_fake(GOOD, 77).await.speed;
        assert!(speed.read.is_some() && speed.errors.len() == 2, "{:?}", speed.errors);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_stopped() {
        let folder = tempfile::tempdir().expect("a folder");
        let tool = folder.path().join("fio");
        std::fs::write(&tool, "#!/bin/sh\nexec sleep 100000\n").expect("written");
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let machine = Machine::captured(folder.path(), Some(folder.path().to_owned()));
        let options = FioOptions { each: Duration::from_secs(1), zeros: true };
        let speed = measure(&machine, Path::new("/dev/null"), options).await.speed;
        assert!(speed.read.is_none() && speed.write.is_none());
        assert!(
            speed.errors.iter().all(|error| error.contains("within 121s")) && speed.errors.len() == 2,
            "{:?}",
            speed.errors
        );
    }
}
