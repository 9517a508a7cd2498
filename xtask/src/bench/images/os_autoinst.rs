//! The same medium to the same line by os-autoinst, the driver of openQA, from the command to its end: a peer, not a goal.
//!
//! Debian's package declares not all that it needs: `apt-get install --no-install-recommends os-autoinst libtime-moment-perl
//! libmojo-ioloop-readwriteprocess-perl libjson-validator-perl libcpanel-json-xs-perl liblist-moreutils-perl`. Where it is
//! not installed there is no figure.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::super::{Figure, Goal, median};
use super::{Bench, watching};
use crate::tool;

const MAIN: &str = "use strict; use warnings; use testapi; use autotest; use distribution;
testapi::set_distribution(distribution->new);
autotest::loadtest('tests/up.pm');
1;
";
const TEST: &str = r"package up;
use base 'basetest'; use strict; use warnings; use testapi;
sub run { defined wait_serial(qr/\[zeta-first-boot\] started/, timeout => 600, no_regex => 0) or die 'it is not up'; }
sub test_flags { return { fatal => 1 }; }
1;
";

/// Nothing where os-autoinst is not installed.
pub(super) fn measure(bench: &Bench, rounds: u32) -> Result<Option<Figure>> {
    if tool::ask("isotovideo", &["--version"]).is_none() {
        eprintln!(
            "bench: os-autoinst is not installed or lacks a module, so it is not measured beside Assay"
        );
        return Ok(None);
    }
    let case = bench.folder.join("case");
    fs::create_dir_all(case.join("tests"))?;
    fs::create_dir_all(case.join("needles"))?;
    fs::write(case.join("main.pm"), MAIN)?;
    fs::write(case.join("tests/up.pm"), TEST)?;
    let profile = bench.profile("beside", watching::PROFILE)?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let began = Instant::now();
        let tested = bench.test(&format!("beside-{round}"), &bench.iso, &profile, &["--until", "Boot"])?;
        let assay = began.elapsed().as_secs_f64();
        let kvm = !tested.is_emulated();
        let other = isotovideo(&bench.folder.join(format!("pool-{round}")), &case, &bench.iso, kvm)?;
        ours.push(assay);
        theirs.push(other);
        ratios.push(other / assay);
    }
    Ok(Some(Figure {
        name: "reference medium to its first line, command to end".to_owned(),
        value: median(ours),
        unit: "s",
        peer: Some("os-autoinst"),
        peer_value: Some(median(theirs)),
        ratio: Some(median(ratios)),
        goal: Goal::None,
        ok: true,
        command: String::new(),
        note: format!("medians of {rounds} rounds in turns"),
    }))
}

/// Seconds that one run of it takes, in a folder of its own.
fn isotovideo(pool: &Path, case: &Path, iso: &Path, kvm: bool) -> Result<f64> {
    fs::create_dir(pool)?;
    let mut settings = json!({
        "CASEDIR": case, "PRODUCTDIR": case, "NEEDLES_DIR": case.join("needles"), "ISO": iso,
        "DISTRI": "reference", "VERSION": "1", "NAME": "bench", "ARCH": "x86_64", "BACKEND": "qemu",
        "QEMUCPUS": 2, "QEMURAM": 1024, "NUMDISKS": 1, "HDDSIZEGB": 8, "NICTYPE": "user", "VNC": "91",
        "INTEGRATION_TESTS": 1,
    });
    if !kvm {
        settings["QEMU_NO_KVM"] = 1.into();
        settings["QEMUCPU"] = "max".into();
    }
    fs::write(pool.join("vars.json"), settings.to_string())?;
    let mut run = Command::new("isotovideo");
    run.arg("-d").current_dir(pool).stdin(Stdio::null());
    if !kvm {
        // It would take a program called `kvm`, where there is one, and that one emulates nothing.
        run.env("QEMU", "/usr/bin/qemu-system-x86_64");
    }
    let began = Instant::now();
    let output = run.output().context("cannot start isotovideo")?;
    let seconds = began.elapsed().as_secs_f64();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains("started): ok"),
        "os-autoinst did not get there:\n{said}"
    );
    Ok(seconds)
}
