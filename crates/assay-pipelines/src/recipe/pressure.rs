//! How much of a stage's time the runner itself was short of processor, memory or disk: the kernel's pressure stall information.
//!
//! A stack that does not converge in time on a runner that has nothing left to give says nothing about the recipe. So the
//! kernel's counters are read at the beginning and at the end of each stage, and what lies between is part of the evidence.
//! Source: `/proc/pressure/{cpu,memory,io}`; `some` is time in which at least one task waited, `full` time in which all did.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From this share of a stage's time on in which a task waited for a processor, a runner counts as overloaded.
///
/// High on purpose: a stack that starts keeps every processor of a small runner busy for a while, and that is no overload. On two
/// processors under a load of twelve it was 0.95.
pub const CPU_SOME: f64 = 0.9;
/// The same for all tasks waiting for memory: the machine does nothing but page.
pub const MEMORY_FULL: f64 = 0.2;
/// The same for all tasks waiting for disks.
pub const IO_FULL: f64 = 0.4;
/// Shorter stages say nothing: their share is chance. In seconds.
pub const SHORTEST_S: f64 = 5.0;

/// Pressure on the runner during a stage. A resource is missing where its kernel does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pressure {
    /// The stage's time, in seconds.
    pub seconds: f64,
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Stall>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Stall>,
    /// Disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<Stall>,
}

/// Time lost to one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stall {
    /// At least one task waited.
    pub some: Lost,
    /// All tasks waited.
    pub full: Lost,
}

/// How much was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Of the last ten seconds before the stage's end, in percent.
    pub avg10: f64,
    /// Over the whole stage, in seconds.
    pub total_s: f64,
}

/// The kernel's counters at one moment: the three files as they read, where they do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `/proc/pressure/cpu`.
    pub cpu: Option<String>,
    /// `/proc/pressure/memory`.
    pub memory: Option<String>,
    /// `/proc/pressure/io`.
    pub io: Option<String>,
}

impl Pressure {
    /// What lies between two moments that are so many seconds apart. None where the kernel tells nothing at all.
    pub fn between(before: &Counters, after: &Counters, seconds: f64) -> Option<Self> {
        let stall = |before: &Option<String>, after: &Option<String>| {
            let (before, after) = (before.as_deref()?, after.as_deref()?);
            let lost = |what: &str| {
                let (_, began) = line(before, what)?;
                let (avg10, ended) = line(after, what)?;
                Some(Lost { avg10, total_s: ended.saturating_sub(began) as f64 / 1e6 })
            };
            // Older kernels have no `full` for processors.
            Some(Stall { some: lost("some")?, full: lost("full").unwrap_or_default() })
        };
        let pressure = Self {
            seconds,
            cpu: stall(&before.cpu, &after.cpu),
            memory: stall(&before.memory, &after.memory),
            io: stall(&before.io, &after.io),
        };
        (pressure.cpu.is_some() || pressure.memory.is_some() || pressure.io.is_some()).then_some(pressure)
    }

    /// Why the runner counts as overloaded in this stage; none where it does not.
    pub fn overload(&self) -> Option<String> {
        if self.seconds < SHORTEST_S {
            return None;
        }
        let share = |lost: Lost| (lost.total_s / self.seconds).clamp(0.0, 1.0);
        let rules = [
            (self.cpu.map(|stall| share(stall.some)), CPU_SOME, "tasks waited for a processor"),
            (self.memory.map(|stall| share(stall.full)), MEMORY_FULL, "everything waited for memory"),
            (self.io.map(|stall| share(stall.full)), IO_FULL, "everything waited for disks"),
        ];
        let told: Vec<String> = rules
            .into_iter()
            .filter_map(|(share, limit, what)| {
                let share = share.filter(|share| *share >= limit)?;
                Some(format!(
                    "{what} in {:.0} % of the time (from {:.0} % on it is too much)",
                    share * 100.0,
                    limit * 100.0
                ))
            })
            .collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// `avg10` in percent and `total` in microseconds of the line that begins with `what`.
fn line(text: &str, what: &str) -> Option<(f64, u64)> {
    let line = text.lines().find(|line| line.split(' ').next() == Some(what))?;
    let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Some((field("avg10")?.parse().ok()?, field("total")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(cpu_some: u64, memory_full: u64, io_full: u64) -> Counters {
        let file = |some: u64, full: u64| {
            Some(format!(
                "some avg10=12.50 avg60=3.00 avg300=1.00 total={some}\nfull avg10=1.25 avg60=0.00 avg300=0.00 total={full}\n"
            ))
        };
        Counters {
            cpu: file(cpu_some, 0),
            memory: file(memory_full, memory_full),
            io: file(io_full, io_full),
        }
    }

    #[test]
    fn what_was_lost_is_what_lies_between_two_readings() {
        let pressure = Pressure::between(&counters(1_000_000, 0, 0), &counters(3_500_000, 0, 250_000), 10.0);
        let pressure = pressure.expect("the kernel tells");
        let cpu = pressure.cpu.expect("cpu");
        assert_eq!(cpu.some, Lost { avg10: 12.5, total_s: 2.5 });
        assert_eq!(pressure.io.expect("io").full, Lost { avg10: 1.25, total_s: 0.25 });
        assert_eq!(pressure.overload(), None);
    }

    #[test]
    fn a_kernel_that_tells_nothing_is_not_taken_for_one_without_pressure() {
        let none = Counters::default();
        assert_eq!(Pressure::between(&none, &none, 10.0), None);
        let garbled = Counters { cpu: Some("some avg10=x total=".to_owned()), ..Counters::default() };
        assert_eq!(Pressure::between(&garbled, &garbled, 10.0), None);
        let old =
            Counters { cpu: Some("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n".to_owned()), ..none };
        let old = Pressure::between(&old, &old, 10.0).expect("it tells of tasks that waited");
        assert_eq!(old.cpu.expect("cpu").full, Lost::default());
    }

    #[test]
    fn the_limits_of_an_overload() {
        // Seconds of the stage; microseconds lost to processors (some), memory (full), disks (full); whether it is one.
        let cases = [
            (10.0, 8_900_000, 0, 0, false),
            (10.0, 9_000_000, 0, 0, true),
            (10.0, 0, 1_900_000, 0, false),
            (10.0, 0, 2_000_000, 0, true),
            (10.0, 0, 0, 3_900_000, false),
            (10.0, 0, 0, 4_000_000, true),
            (4.9, 4_900_000, 4_900_000, 4_900_000, false),
            (5.0, 5_000_000, 0, 0, true),
        ];
        for (seconds, cpu, memory, io, overloaded) in cases {
            let pressure =
                Pressure::between(&counters(0, 0, 0), &counters(cpu, memory, io), seconds).expect("told");
            assert_eq!(pressure.overload().is_some(), overloaded, "{seconds} s: {cpu} {memory} {io}");
        }
    }
}
