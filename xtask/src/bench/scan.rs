//! The surface scan beside the programs that do the same: `fio` for each direction, `badblocks` and `nwipe` for the
//! whole, all on one loop device, in turns.
//!
//! `fio` makes fresh data for each write (`--refill_buffers`), as a scan must, and flushes at its end, as ours does.
//! A loop device over a file is bound by the processor, the kernel and one disk below; on a disk of its own, the
//! whole scan's ratio falls towards the ratio of the passes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Figure, Goal, PROFILE, measure as ask, median, number};
use crate::{place, tool};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 1024 * MIB;
/// The engine's own depths, so that `fio` gets the same.
const WRITE_DEPTH: u32 = 8;
const VERIFY_DEPTH: u32 = 16;

pub(super) fn measure(folder: &Path, rounds: u32) -> Result<Vec<Figure>> {
    if !place::is_root() {
        bail!("a loop device needs root: sudo -E cargo xtask bench --only scan");
    }
    let bench = Bench::prepare(folder)?;
    // Not counted: it lays the file out, so that no round finds it otherwise than the next.
    bench.scan("two_pass", "pattern")?;
    let mut seen = Vec::new();
    for round in 1..=rounds {
        let this = bench.round()?;
        eprintln!(
            "round {round}: write {:.0} MiB/s (fio {:.0}), verify {:.0} (fio {:.0}), whole {:.2} s (badblocks {:.1} and \
             {:.1} s)",
            this.write,
            this.fio_write,
            this.verify,
            this.fio_read,
            this.whole,
            this.badblocks,
            this.badblocks_tuned
        );
        seen.push(this);
    }
    Ok(figures(&seen))
}

/// What one round measured: rates in MiB/s, whole runs in seconds.
#[derive(Clone, Copy, Debug)]
struct Round {
    write: f64,
    fio_write: f64,
    verify: f64,
    fio_read: f64,
    whole: f64,
    zeroed: f64,
    burn_in: f64,
    badblocks: f64,
    badblocks_tuned: f64,
    nwipe: f64,
    rss_mib: f64,
    cpu_per_gib: f64,
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let many = rounds.len();
    let column = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    // A ratio above 1 is always in our favour, so for seconds it is the peer's that stand above.
    let beside = |name: &str, unit, of: fn(&Round) -> f64, peer, of_peer: fn(&Round) -> f64, least: f64| {
        let ratio = median(
            rounds
                .iter()
                .map(
                    |round| if unit == "s" { of_peer(round) / of(round) } else { of(round) / of_peer(round) },
                )
                .collect(),
        );
        let goal = Goal::RatioAtLeast(least);
        Figure {
            name: name.into(),
            value: column(of),
            unit,
            peer: Some(peer),
            peer_value: Some(column(of_peer)),
            ratio: Some(ratio),
            goal,
            ok: goal.is_met(f64::NAN, Some(ratio)),
            command: String::new(),
            note: format!("median of {many} rounds in turns, {} MiB loop device", SIZE / MIB),
        }
    };
    let limit = |name: &str, value, unit, most| {
        Figure::limit(name, value, unit, most, format!("over {many} whole scans of {} MiB", SIZE / MIB))
    };
    vec![
        beside("scan: write", "MiB/s", |r| r.write, "fio --refill_buffers, depth 8", |r| r.fio_write, 1.0),
        beside("scan: verify", "MiB/s", |r| r.verify, "fio read, depth 16", |r| r.fio_read, 0.95),
        beside("scan: whole, 2 passes", "s", |r| r.whole, "badblocks -svw, 8 passes", |r| r.badblocks, 8.0),
        beside(
            "scan: whole, 2 passes, beside larger requests",
            "s",
            |r| r.whole,
            "badblocks -b 4096 -c 1024 -svw, 8 passes",
            |r| r.badblocks_tuned,
            4.0,
        ),
        beside(
            "scan: whole and zeroed, 3 passes and samples",
            "s",
            |r| r.zeroed,
            "badblocks -svw, 8 passes",
            |r| r.badblocks,
            8.0,
        ),
        beside(
            "scan: burn-in, 12 passes",
            "s",
            |r| r.burn_in,
            "badblocks -b 4096 -c 1024 -svw, 8 passes",
            |r| r.badblocks_tuned,
            1.0,
        ),
        beside("scan: whole, beside nwipe", "s", |r| r.whole, "nwipe, random, verified", |r| r.nwipe, 1.0),
        limit(
            "scan: peak memory of the process",
            rounds.iter().map(|round| round.rss_mib).fold(0.0, f64::max),
            "MiB",
            32.0,
        ),
        limit("scan: processor time of its thread per GiB moved", column(|r| r.cpu_per_gib), "s", 0.5),
    ]
}

/// A loop device and what is run on it.
struct Bench {
    program: PathBuf,
    device: PathBuf,
}

impl Bench {
    fn prepare(folder: &Path) -> Result<Self> {
        let mut build = Command::new(place::cargo());
        build
            .args(["build", "--profile", PROFILE, "-p", "assay-scan", "--example", "bench_scan"])
            .current_dir(place::repository());
        eprintln!("bench: {}", tool::show(&build));
        tool::run(build)?;
        let program = place::debug_builds().with_file_name(PROFILE).join("examples/bench_scan");
        let file = folder.join("disk");
        File::create(&file)?.set_len(SIZE)?;
        let said = Command::new("losetup")
            .args(["--find", "--show", "--direct-io=on"])
            .arg(&file)
            .output()
            .context("cannot start losetup")?;
        if !said.status.success() {
            bail!("no loop device: {}", String::from_utf8_lossy(&said.stderr).trim());
        }
        let device = PathBuf::from(String::from_utf8(said.stdout)?.trim());
        Ok(Self { program, device })
    }

    /// Everything once, each beside what it is compared with.
    fn round(&self) -> Result<Round> {
        let fio_write = self.fio("write", WRITE_DEPTH, &["--refill_buffers", "--end_fsync=1"])?;
        let (scan, whole) = self.scan("two_pass", "pattern")?;
        let fio_read = self.fio("read", VERIFY_DEPTH, &[])?;
        let moved = number(&scan, "bytes_written")? + number(&scan, "bytes_verified")?;
        let rate = |pass: usize| -> Result<f64> {
            Ok((SIZE / MIB) as f64 / number(&scan["passes"][pass], "seconds")?)
        };
        let badblocks = self.seconds("badblocks", &["-svw"])?;
        let badblocks_tuned = self.seconds("badblocks", &["-b", "4096", "-c", "1024", "-svw"])?;
        let (_, burn_in) = self.scan("burn_in", "pattern")?;
        let nwipe = self.seconds(
            "nwipe",
            &[
                "--autonuke",
                "--nogui",
                "--nowait",
                "--noblank",
                "--method=prng",
                "--verify=last",
                "--rounds=1",
            ],
        )?;
        let (_, zeroed) = self.scan("two_pass", "zeroed")?;
        // Zeroing gives the file's room back; the next round must find it laid out.
        self.scan("two_pass", "pattern")?;
        Ok(Round {
            write: rate(0)?,
            fio_write,
            verify: rate(1)?,
            fio_read,
            whole,
            zeroed,
            burn_in,
            badblocks,
            badblocks_tuned,
            nwipe,
            rss_mib: number(&scan, "peak_rss_kib")? / 1024.0,
            cpu_per_gib: number(&scan, "cpu_seconds")? / (moved / (1024 * MIB) as f64),
        })
    }

    /// Scans: what it says, and how many seconds the process took. A scan that is not clean has measured nothing.
    fn scan(&self, plan: &str, leave: &str) -> Result<(Value, f64)> {
        let begun = Instant::now();
        let said = ask(&self.program, &[self.device.clone().into(), plan.into(), leave.into()])?;
        if said["clean"] != true || said["covered_bytes"] != SIZE {
            bail!("the scan of a sound device is not clean: {said}");
        }
        Ok((said, begun.elapsed().as_secs_f64()))
    }

    /// MiB/s.
    fn fio(&self, direction: &str, depth: u32, more: &[&str]) -> Result<f64> {
        let output = Command::new("fio")
            .arg("--name=bench")
            .arg(format!("--filename={}", self.device.display()))
            .arg(format!("--rw={direction}"))
            .arg(format!("--iodepth={depth}"))
            .args(["--bs=512k", "--ioengine=io_uring", "--direct=1", "--output-format=json"])
            .args(more)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start fio; the Debian package is `fio`")?;
        if !output.status.success() {
            bail!("fio failed ({})", output.status);
        }
        let said: Value = serde_json::from_slice(&output.stdout).context("fio printed no result")?;
        let job = &said["jobs"][0];
        if number(&job[direction], "io_bytes")? < SIZE as f64 {
            bail!("fio did not {direction} the whole device");
        }
        // Its own rate leaves the flush at the end out; the job's time has it.
        Ok((SIZE / MIB) as f64 / (number(job, "job_runtime")? / 1000.0))
    }

    fn seconds(&self, program: &str, args: &[&str]) -> Result<f64> {
        let begun = Instant::now();
        let status = Command::new(program)
            .args(args)
            .arg(&self.device)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("cannot start {program}"))?;
        if !status.success() {
            bail!("{program} failed ({status})");
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.device).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("bench: {} stays behind", self.device.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(factor: f64) -> Round {
        Round {
            write: 1000.0 * factor,
            fio_write: 1000.0,
            verify: 960.0,
            fio_read: 1000.0,
            whole: 2.0,
            zeroed: 3.0,
            burn_in: 12.0,
            badblocks: 16.0,
            badblocks_tuned: 7.0,
            nwipe: 20.0,
            rss_mib: 20.0,
            cpu_per_gib: 0.1,
        }
    }

    #[test]
    fn the_median_of_the_ratios_counts_and_seconds_count_the_other_way_round() {
        let figures = figures(&[round(0.5), round(1.25), round(2.0)]);
        let of = |name: &str| figures.iter().find(|figure| figure.name == name).expect("measured");
        let met = |name: &str| (of(name).ratio, of(name).ok);
        assert_eq!(met("scan: write"), (Some(1.25), true));
        assert_eq!(met("scan: verify"), (Some(0.96), true));
        assert_eq!(met("scan: whole, 2 passes"), (Some(8.0), true));
        assert_eq!(met("scan: whole, 2 passes, beside larger requests"), (Some(3.5), false));
        assert!(!met("scan: burn-in, 12 passes").1);
        assert!(of("scan: peak memory of the process").ok);
    }
}
