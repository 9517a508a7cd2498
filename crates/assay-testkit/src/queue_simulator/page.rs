//! `docs/reference/scheduler.md`: how the queue decides, and what it comes to on ten thousand simulated runs.

use std::fmt::Write as _;
use std::thread;

use assay_engine::queue::{LATE_AFTER, MOST_DEBT};

use super::load::GREEDY_PART;
use super::{Figures, Load, Outcome, Rule, Tally, simulate};

/// Runs of the page's simulation.
pub const RUNS: usize = 10_000;
/// What the page's runs are drawn from.
pub const SEED: u64 = 20_261_122;
/// Letters of the longest bar.
const BAR: f64 = 40.0;

/// Every simulation that the page tells of.
pub struct Simulations {
    /// What was asked for.
    pub load: Load,
    /// What the engine's queue made of it.
    pub fair: Vec<Outcome>,
    /// What first in, first out did.
    pub fifo: Vec<Outcome>,
    /// The same with a run that hangs and a runner that is silent.
    pub wedged_load: Load,
    /// What the engine's queue made of that.
    pub wedged: Vec<Outcome>,
}

impl Simulations {
    /// Simulates so many runs.
    pub fn of(runs: usize, seed: u64) -> Self {
        let load = Load::drawn(runs, seed);
        let wedged_load = load.clone().with_wedges();
        let (fair, fifo, wedged) = thread::scope(|scope| {
            let wedged = scope.spawn(|| simulate(&wedged_load, Rule::Fair));
            let fifo = scope.spawn(|| simulate(&load, Rule::Fifo));
            let fair = simulate(&load, Rule::Fair);
            (fair, fifo.join().expect("it ends"), wedged.join().expect("it ends"))
        });
        Self { load, fair, fifo, wedged_load, wedged }
    }

    /// Waits with and without the wedges, of all but the run that hangs.
    pub fn beside_the_wedges(&self) -> (Tally, Tally) {
        let hangs = self.wedged_load.wedged();
        let others: Vec<Outcome> = self.wedged.iter().filter(|o| Some(o.job) != hangs).cloned().collect();
        (Tally::of(&self.load, &self.fair), Tally::of(&self.wedged_load, &others))
    }
}

/// The whole page.
pub fn page(simulations: &Simulations) -> String {
    let load = &simulations.load;
    let (fair, fifo) = (Tally::of(load, &simulations.fair), Tally::of(load, &simulations.fifo));
    let mut out = rules();
    let runs = thousands(load.jobs.len());
    let _ = write!(
        out,
        "\n## Ten thousand simulated runs\n\n\
         The engine's own deciding code over {runs} made-up runs (seed {SEED}): recipes, images and machines on three runners\n\
         with 4 slots for recipes each and one rack, from 24 people of whom some ask for much more than others; a sweep of\n\
         all recipes every night; one requester who asks for {} runs within ten minutes; one recipe in twenty that takes two thirds of a runner's memory\n\
         or more. Nobody knows beforehand how long a run takes; one in eleven is far off what is usual for it. Beside it, first in,\n\
         first out on the same load, which is what most queues do. Times are hours:minutes.\n\n",
        thousands(load.jobs.len() / GREEDY_PART),
    );
    out.push_str(
        "| who waits | runs | median | 95 % | longest | first in, first out: median | 95 % | longest |\n",
    );
    out.push_str("|---|--:|--:|--:|--:|--:|--:|--:|\n");
    row(&mut out, "all", &fair.all, &fifo.all);
    for (name, figures) in &fair.groups {
        if let Some(other) = fifo.groups.get(name) {
            row(&mut out, name, figures, other);
        }
    }
    out.push_str("\nThe wait that 95 % of the runs do not exceed, as a picture (`#` the queue, `.` first in, first out):\n\n```\n");
    let longest = fair.groups.values().chain(fifo.groups.values()).map(|f| f.p95).fold(1.0, f64::max);
    for (name, figures) in &fair.groups {
        let bar = |seconds: f64, with: &str| with.repeat((seconds / longest * BAR).ceil() as usize);
        let _ = writeln!(out, "{name:<27} {} {}", bar(figures.p95, "#"), clock(figures.p95));
        if let Some(other) = fifo.groups.get(name) {
            let _ = writeln!(out, "{:<27} {} {}", "", bar(other.p95, "."), clock(other.p95));
        }
    }
    out.push_str("```\n\n| | the queue | first in, first out |\n|---|--:|--:|\n");
    let mut two = |name: &str, a: String, b: String| {
        let _ = writeln!(out, "| {name} | {a} | {b} |");
    };
    let never = |outcomes: &[Outcome]| (load.jobs.len() - outcomes.len()).to_string();
    two("runs that never started", never(&simulations.fair), never(&simulations.fifo));
    two("slowdown, 95 %: (waiting + running) / running", times(fair.all.slowdown), times(fifo.all.slowdown));
    two("recipes' slots in use until the last run was asked for", percent(fair.used), percent(fifo.used));
    two("from the first run to the end of the last", clock(fair.lasted), clock(fifo.lasted));
    two(
        "Jain's index over requesters of what they got of an equal share, in hours of too little room",
        index(fair.fairness),
        index(fifo.fairness),
    );
    let _ = writeln!(
        out,
        "\nHalf of the runs were told when they would start to within {} of when they did.\n",
        clock(fair.estimate)
    );
    wedges(&mut out, simulations);
    out
}

fn wedges(out: &mut String, simulations: &Simulations) {
    let (without, with) = simulations.beside_the_wedges();
    out.push_str(
        "## A wedged run delays nobody\n\n\
         The same runs once more, with one more that hangs for twelve hours, and a runner that falls silent for an hour while\n\
         runs are on it. What hangs keeps its slots on its runner and nothing else; what is on the silent runner holds up nobody\n\
         elsewhere. Waits grow by the room that is gone, a twelfth and for that hour a third of the fleet; nobody is stuck behind it.\n\n\
         | who waits | median | 95 % | longest | with the wedges: median | 95 % | longest |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut line = |name: &str, a: &Figures, b: &Figures| {
        let each = [a.p50, a.p95, a.max, b.p50, b.p95, b.max].map(clock).join(" | ");
        let _ = writeln!(out, "| {name} | {each} |");
    };
    line("all others", &without.all, &with.all);
    for (name, figures) in &without.groups {
        if let Some(other) = with.groups.get(name) {
            line(name, figures, other);
        }
    }
}

fn row(out: &mut String, name: &str, fair: &Figures, fifo: &Figures) {
    let each = [fair.p50, fair.p95, fair.max, fifo.p50, fifo.p95, fifo.max].map(clock).join(" | ");
    let _ = writeln!(out, "| {name} | {} | {each} |", thousands(fair.runs));
}

/// `2:05`: hours and minutes.
fn clock(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    format!("{}:{:02}", minutes / 60, minutes % 60)
}

fn times(factor: f64) -> String {
    format!("{factor:.1}")
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn index(index: f64) -> String {
    format!("{index:.2}")
}

fn thousands(n: usize) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) }
}

/// What does not depend on a simulation.
fn rules() -> String {
    let (late, debt) = (LATE_AFTER.0 / 3_600_000_000, MOST_DEBT.0 / 3_600_000_000);
    format!(
        "# The queue\n\n\
<!-- Written by `cargo xtask scheduler`; a test holds it against the simulator. The words are in\n\
     crates/assay-testkit/src/queue_simulator/page.rs. -->\n\n\
Runs wait for slots. `assay queue show`, the page Queue and every list of runs say of each that waits why, where it stands and\n\
about how long it has to:\n\n\
```\n3rd in line; needs 4096 MiB of mem, 1024 free; behind run 41 (plausible, Upgrade, 2 m 10 s); about 3 min\n```\n\n\
## What a run takes\n\n\
A runner declares room by pool (`assay runner --capacity mem_mib=65536 --capacity cpu=16`), a run takes of each pool what it\n\
needs from its start to its end:\n\n\
| pool | a runner has, unless it says otherwise | a run takes |\n|---|---|---|\n\
| `netboot` | 16 | 1 for a machine under test |\n\
| `vm` | one for every two processors, with `--vm` | 1 for an image on a virtual machine |\n\
| `swarm` | one for every two processors, with `--swarm` | 1 for a recipe |\n\
| `mem_mib` | four fifths of the memory | an image: its machine's memory; a recipe: `needs.mem_mib`, or 512 |\n\
| `cpu` | as many as there are | 1, or `needs.cpu` of a recipe |\n\
| `io` | 10 | 1, or `needs.io` of a recipe: 10 has the disks to itself |\n\
| `kvm` | none | what a host's power settings say |\n\n\
Of `cpu` and `io`, a runner that declares nothing gives without limit. A run that is held for an operator keeps its machine and\n\
no slot. A target has one run at a time; further runs of a recipe's or image's pull requests and sweeps wait for it, a machine\n\
that is busy is refused at once. A later run of the same pull request takes the earlier one's place, whether that waits or runs.\n\n\
## Who comes first\n\n\
- **Classes**: `operator` (a person asked and waits) before `pull_request` before `schedule` (sweeps).\n\
- **Fair shares inside a class**: a run is *due* at the time at which it was asked for, plus what its requester has used lately,\n\
  runs now and has before it in the queue, in seconds of the whole fleet, times the number of requesters that share it. The\n\
  same is reckoned for the target; the later of the two counts. What was used counts half after an hour, and puts a run at most\n\
  {debt} hours back. Where a run takes several pools, the one counts of which it takes the largest part. Whoever asks for little\n\
  is due at once; the thousandth run of one requester is due when the fleet could have got to it.\n\
- **Weights**: `assay queue weigh NAME 3` lets a requester count for three.\n\
- **Aging**: with every hour past its due time a run rises by one class. {late} hours past it, it stands before everybody that is\n\
  due later, whatever their class. So nobody starves: from then on only those go before it that were due before it, and the\n\
  first in line has its slots promised. Its due time depends on what its own requester and target asked for, and on how many\n\
  share the fleet, not on how much others ask for after it.\n\
- **Quick lane**: runs in the profile `quick` go before all but those that are late, for as long as quick runs together hold no\n\
  more than a quarter of each pool. What they leave of it is everybody's.\n\
- **Overtaking** (backfill): the first run that waits for a runner's slots is promised them for when they are expected back. A\n\
  later one may start before it only if it is expected to be over by then, or takes only what will be left over. How long a run\n\
  takes is the median of the last five finished runs of its target in its profile, or what is usual where there are none. One\n\
  that overstays is expected to take a quarter longer than it has so far.\n\
- **Limits**: `assay queue limit recipe 4` lets at most four runs of a pipeline run at once.\n\
- **Pause and drain**: `assay queue pause` lets nothing new start, `assay queue drain --wait` also waits until nothing runs: then\n\
  Assay may be stopped and replaced, and no run sees two versions of it. `assay queue resume` ends both. What was ruled outlives a\n\
  restart and stands in the audit trail.\n\n\
All of it follows from rows (open runs, finished runs, the rules), so a restart changes nobody's turn.\n"
    )
}
