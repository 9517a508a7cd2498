//! From power-on to an enrolled agent, on the lab's two healthy machines, in whatever emulation there is.
//!
//! The times are the journal's own: the end of the power job, the boot script, the enrolment. Each machine is vetted
//! by the whole product, one after the other, and stopped as soon as it has enrolled.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Figure;
use crate::{place, tool};

/// Below a folder that the control plane's own user can enter.
const FOLDER: &str = "/var/tmp/assay-bench";
const NETNS: &str = "assay-bench";
const IMAGE: [&str; 4] = ["vmlinuz", "base.initrd", "agent.initrd", "manifest.json"];

pub(super) fn measure() -> Result<Vec<Figure>> {
    let lab = Lab::start("boot")?;
    let measured = ["healthy-bios", "healthy-uefi"].map(|machine| lab.boot(machine));
    lab.end()?;
    measured.into_iter().collect()
}

/// The whole product with simulated machines, in a folder and a network of its own.
pub(super) struct Lab {
    root: PathBuf,
    up: Option<Up>,
}

impl Lab {
    /// Builds and starts it, for the bench of this name.
    pub(super) fn start(bench: &str) -> Result<Self> {
        if !place::is_root() {
            bail!(
                "simulated machines need a network of their own, which needs root: sudo -E cargo xtask bench --only {bench}"
            );
        }
        let mut build = Command::new(place::cargo());
        build.args(["build", "-p", "assay"]).current_dir(place::repository());
        tool::run(build)?;
        let mut lab = Self::prepare()?;
        lab.up = Some(lab.up()?);
        Ok(lab)
    }

    /// Stops everything and removes what it left.
    pub(super) fn end(mut self) -> Result<()> {
        if let Some(mut up) = self.up.take() {
            up.stop()?;
        }
        self.clear()
    }

    fn prepare() -> Result<Self> {
        let root = PathBuf::from(FOLDER);
        // Fails when another measurement runs there, or has left something to look at.
        fs::create_dir(&root).with_context(|| format!("cannot make {FOLDER}; is another bench running?"))?;
        fs::set_permissions(&root, Permissions::from_mode(0o755))?;
        let lab = Self { root, up: None };
        fs::create_dir(lab.image())?;
        fs::copy(place::debug_builds().join("assay"), lab.program()).context("cannot copy assay")?;
        for name in IMAGE {
            fs::copy(place::repository().join("target/live-image").join(name), lab.image().join(name))
                .with_context(|| format!("cannot copy {name}; `cargo xtask live-image` builds it"))?;
        }
        Ok(lab)
    }

    fn program(&self) -> PathBuf {
        self.root.join("assay")
    }

    fn image(&self) -> PathBuf {
        self.root.join("live-image")
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn machines() -> PathBuf {
        place::repository().join("lab/machines")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command.env("ASSAY_DATA", self.data()).env_remove("ASSAY_SERVER").stdin(Stdio::null());
        command
    }

    fn up(&self) -> Result<Up> {
        let mut command = self.command();
        command.args(["up", "--listen", "127.0.0.1:0", "--lab-netns", NETNS, "--lab"]).arg(Self::machines());
        command.arg("--live-image").arg(self.image()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut up = Up(command.spawn().context("cannot start assay up")?);
        let mut said = BufReader::new(up.0.stderr.take().context("its output is not piped")?).lines();
        let mut words = Vec::new();
        for line in said.by_ref() {
            let line = line?;
            if line.starts_with("ready;") {
                // Whoever does not read on would stop it at its next word.
                std::thread::spawn(move || said.for_each(drop));
                return Ok(up);
            }
            words.push(line);
        }
        bail!("assay up ended before it was ready ({}):\n{}", up.0.wait()?, words.join("\n"))
    }

    /// Registers a machine with the spec that it fits.
    pub(super) fn add(&self, machine: &str) -> Result<()> {
        let spec = self.root.join(format!("{machine}.yaml"));
        let yaml =
            self.ask(&["lab", "spec", machine, "--machines", &Self::machines().display().to_string()])?;
        fs::write(&spec, &yaml)?;
        let spec = spec.display().to_string();
        let power = format!("lab:{machine}");
        let macs = macs(&yaml);
        let mut add = vec!["host", "add", machine, "--spec", &spec, "--power", &power];
        for mac in &macs {
            add.extend(["--mac", mac]);
        }
        self.ask(&add).map(drop)
    }

    /// Asks for a run; its number.
    pub(super) fn vet(&self, machine: &str, options: &[&str]) -> Result<String> {
        let args = [&["host", "vet", machine, "--json"], options].concat();
        let asked: Value = serde_json::from_str(&self.ask(&args)?)?;
        Ok(asked["number"].as_i64().context("assay host vet named no run")?.to_string())
    }

    /// Vets a machine until it has enrolled; what its journal says about the way there.
    fn boot(&self, machine: &str) -> Result<Figure> {
        self.add(machine)?;
        let run = self.vet(machine, &[])?;
        let mut seen = Seen::default();
        let times = self.watch(&run, |event| seen.add(&event))?;
        let times = times.with_context(|| format!("run {run} ended before its machine enrolled"))?;
        self.ask(&["run", "cancel", &run])?;

        let seconds = |from: i64, to: i64| (to - from) as f64 / 1e6;
        let value = seconds(times.power, times.enrolled);
        let note = format!(
            "power job {:.1} s before that; boot script fetched after {:.1} s; from there image, kernel and agent {:.1} s",
            seconds(times.asked, times.power),
            seconds(times.power, times.served),
            seconds(times.served, times.enrolled),
        );
        Ok(Figure::limit(format!("power-on to agent enrolled, {machine}"), value, "s", 45.0, note))
    }

    /// Follows the journal until `found` has what it wants, or to its end.
    pub(super) fn watch<T>(&self, run: &str, mut found: impl FnMut(Value) -> Option<T>) -> Result<Option<T>> {
        let mut child =
            self.command().args(["run", "watch", run, "--json"]).stdout(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stdout.take().context("its output is not piped")?);
        let mut wanted = None;
        for line in said.lines() {
            wanted = found(serde_json::from_str(&line?)?);
            if wanted.is_some() {
                break;
            }
        }
        // It would follow the run to its end.
        let _ = child.kill();
        child.wait()?;
        Ok(wanted)
    }

    fn ask(&self, args: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = self.command().args(args).output()?;
        if !status.success() {
            bail!(
                "`assay {}` failed ({status}): {}",
                args.join(" "),
                String::from_utf8_lossy(&stderr).trim()
            );
        }
        Ok(String::from_utf8(stdout)?)
    }

    fn clear(&self) -> Result<()> {
        let machines = Self::machines().display().to_string();
        let data = self.data().display().to_string();
        self.ask(&["lab", "down", "--netns", NETNS, "--machines", &machines, "--data", &data])?;
        fs::remove_dir_all(&self.root).with_context(|| format!("cannot remove {}", self.root.display()))
    }
}

/// The addresses of the cards in a spec.
fn macs(yaml: &str) -> Vec<String> {
    let word = |line: &str| {
        let (_, rest) = line.split_once("mac:")?;
        Some(rest.trim().trim_matches(|c: char| !c.is_ascii_hexdigit()).get(..17)?.to_owned())
    };
    yaml.lines().filter_map(word).collect()
}

/// `assay up`, stopped with its measurement.
struct Up(Child);

impl Up {
    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).context("no such process")?;
        kill_process(pid, Signal::TERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Told, not killed: it stops its two sides itself.
            let _ = self.stop();
        }
    }
}

/// What the journal says of a boot, in microseconds.
#[derive(Debug, PartialEq)]
struct Times {
    asked: i64,
    power: i64,
    served: i64,
    enrolled: i64,
}

#[derive(Default)]
struct Seen {
    asked: Option<i64>,
    power: Option<i64>,
    served: Option<i64>,
}

impl Seen {
    /// One more event; the times, once the machine has enrolled.
    fn add(&mut self, event: &Value) -> Option<Times> {
        let at = event["at"].as_i64()?;
        match event["kind"].as_str()? {
            "PowerRequested" => self.asked = Some(at),
            "PowerDone" => self.power = Some(at),
            // Firmware may ask again; what is waited for is the last answer.
            "BootServed" => self.served = Some(at),
            "Enrolled" => {
                return Some(Times {
                    asked: self.asked?,
                    power: self.power?,
                    served: self.served?,
                    enrolled: at,
                });
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_times_are_read_off_the_journal() {
        let mut seen = Seen::default();
        let event = |kind: &str, at: i64| json!({ "seq": 1, "at": at, "kind": kind, "body": {} });
        for (kind, at) in [("RunCreated", 1), ("PowerRequested", 2), ("PowerDone", 3), ("BootServed", 4)] {
            assert_eq!(seen.add(&event(kind, at)), None);
        }
        let times = seen.add(&event("Enrolled", 9)).expect("all is there");
        assert_eq!(times, Times { asked: 2, power: 3, served: 4, enrolled: 9 });
        assert_eq!(
            Seen::default().add(&event("Enrolled", 9)),
            None,
            "without a power job nothing is measured"
        );
    }

    #[test]
    fn addresses_are_found_in_a_spec() {
        assert_eq!(
            macs("nics:\n- name: a\n  mac: 52:54:00:77:01:01\n- mac: \"52:54:00:77:01:02\"\n").len(),
            2
        );
        assert_eq!(macs("- {mac: \"52:54:00:77:01:02\", speed: 1}\n"), ["52:54:00:77:01:02"]);
        assert!(macs("disks: []\n").is_empty());
    }
}
