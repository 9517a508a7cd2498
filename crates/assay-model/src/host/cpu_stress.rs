//! The evidence of the stage `CPUStress`: memory that was written and verified, tools that loaded the processors, and
//! how hot it got meanwhile.

use serde::{Deserialize, Serialize};

/// Everything that the stage brings back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStressEvidence {
    /// Processors online.
    pub processors: u32,
    /// The memory test.
    pub memory: MemoryTest,
    /// `stress-ng`: processors and memory at once, with verification.
    pub stress_ng: ToolRun,
    /// `stressapptest`, where it is there.
    pub stressapptest: ToolRun,
    /// Every temperature that was sampled meanwhile.
    pub temperatures: Vec<Temperature>,
    /// Processors that slowed themselves down for heat, how often during the stage; `None` when they do not tell.
    pub throttled: Option<Vec<Throttled>>,
    /// Why everything was stopped before its end, where it was.
    pub stopped: Option<String>,
    /// How long the stage took, in seconds.
    pub seconds: f64,
}

/// How something came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was not started.
    #[default]
    NotStarted,
    /// It came to its own end; what it said of it stands beside this.
    Finished,
    /// It was stopped, because of what was seen elsewhere.
    Stopped,
    /// It is not there.
    Missing,
    /// It did not end in its time.
    Hung,
    /// It could not be started, or ended without a word.
    Broken,
}

/// The memory test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryTest {
    /// How it ended.
    pub ended: Ended,
    /// Why, where that was not its own end.
    pub detail: String,
    /// What the kernel manages, in bytes (`MemTotal`).
    pub total: u64,
    /// What the kernel could give when the test began, in bytes (`MemAvailable`).
    pub available: u64,
    /// What was left to everybody else, in bytes.
    pub reserve: u64,
    /// What the test asked for, in bytes.
    pub asked: u64,
    /// What it got, in bytes.
    pub region: u64,
    /// Whether all of that was locked in memory.
    pub locked: bool,
    /// Threads.
    pub threads: u32,
    /// What was written, one entry a pass that was planned.
    pub patterns: Vec<String>,
    /// Passes that wrote and verified everything.
    pub passes: u32,
    /// Bytes written, over all passes.
    pub written: u64,
    /// Bytes read back and compared, over all passes.
    pub verified: u64,
    /// Words that did not hold what was written to them.
    pub mismatches: u64,
    /// The first of them.
    pub flips: Vec<BitError>,
    /// How long the passes took, in seconds.
    pub seconds: f64,
}

impl MemoryTest {
    /// What the kernel could have given, in bytes: available at the start, less the reserve.
    pub fn usable(&self) -> u64 {
        self.available.saturating_sub(self.reserve)
    }

    /// Memory that was written and verified at least once, in bytes.
    pub fn covered(&self) -> u64 {
        self.written.min(self.verified).min(self.region)
    }
}

/// One word that did not hold what was written to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BitError {
    /// Where in the memory under test, in bytes.
    pub offset: u64,
    /// The physical address, where the kernel told it.
    pub physical: Option<u64>,
    /// What was written.
    pub expected: u64,
    /// What was read.
    pub seen: u64,
    /// What was read once more, after everything else.
    pub again: u64,
    /// The pass, from 1.
    pub pass: u32,
}

/// One tool that loaded the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolRun {
    /// How it ended.
    pub ended: Ended,
    /// The command, as one would type it.
    pub command: String,
    /// How long it was to run, in seconds.
    pub asked_s: u32,
    /// How long it ran.
    pub seconds: f64,
    /// Its exit code.
    pub exit: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it counted, one entry a kind of work.
    pub work: Vec<Work>,
    /// Whether it said itself that all was well; `None` for a tool that says so with its exit code alone.
    pub passed: Option<bool>,
    /// Errors that it counted; `None` for a tool that counts none.
    pub errors: Option<u64>,
    /// What it complained of, at most a few lines.
    pub complaints: Vec<String>,
    /// Whether the kernel took its memory away from it.
    pub out_of_memory: bool,
}

/// What one kind of work came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// `cpu`, `vm`; `memory copy`.
    pub name: String,
    /// How much, in units of the tool's own.
    pub done: f64,
    /// How much a second.
    pub per_second: f64,
}

/// One thermal sensor through the stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Temperature {
    /// Stable name within the machine.
    pub sensor: String,
    /// How often it was read.
    pub samples: u64,
    /// How often it did not answer.
    pub missing: u64,
    /// The highest reading, in °C.
    pub max: Option<f64>,
    /// The highest that two readings in a row reached, in °C: one alone can be a disturbed bus.
    pub sustained: Option<f64>,
    /// The last reading.
    pub last: Option<f64>,
}

impl Temperature {
    /// Takes one reading; `None` is one that did not come.
    pub fn add(&mut self, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            self.missing += 1;
            return;
        };
        self.samples += 1;
        if let Some(last) = self.last {
            let both = last.min(value);
            self.sustained = Some(self.sustained.map_or(both, |most| most.max(both)));
        }
        self.max = Some(self.max.map_or(value, |most| most.max(value)));
        self.last = Some(value);
    }
}

/// A processor that slowed itself down for heat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Throttled {
    /// `processor 1` or `core 12`: a package as a whole, or one of its cores.
    pub what: String,
    /// How often, during the stage.
    pub times: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_odd_reading_is_not_sustained() {
        let mut sensor = Temperature::default();
        for value in [Some(50.0), Some(127.0), Some(51.0), None, Some(f64::NAN), Some(60.0), Some(62.0)] {
            sensor.add(value);
        }
        assert_eq!((sensor.samples, sensor.missing), (5, 2));
        assert_eq!((sensor.max, sensor.sustained, sensor.last), (Some(127.0), Some(60.0), Some(62.0)));
    }

    #[test]
    fn only_what_was_written_and_verified_is_covered() {
        let test = MemoryTest { region: 100, written: 300, verified: 60, ..MemoryTest::default() };
        assert_eq!(test.covered(), 60);
        assert_eq!(MemoryTest { verified: 300, ..test }.covered(), 100);
        let told = MemoryTest { available: 10, reserve: 20, ..MemoryTest::default() };
        assert_eq!(told.usable(), 0, "whatever a machine says");
    }
}
