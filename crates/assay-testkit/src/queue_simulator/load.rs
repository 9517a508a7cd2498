//! A made-up fleet and what is asked of it: recipes, images and hosts, people and schedules, bursts, large runs, one
//! requester who asks for more than all others together, and what goes wrong.

use std::collections::BTreeMap;

use assay_engine::live::Offer;
use assay_engine::queue::{Holding, Slots, Waiting, history};
use assay_model::{Micros, Pipeline, Priority, TargetId};

use super::{START, id_of};

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// Recipes that the whole fleet tests at once.
const RECIPE_SLOTS: f64 = 12.0;
/// One run in so many is the greedy one's.
pub(super) const GREEDY_PART: usize = 20;
/// The one who asks for more than all others together.
pub(super) const GREEDY: &str = "greedy";
/// Who asks for the nightly sweeps.
pub(super) const SWEEP: &str = "nightly";
/// How much of the recipes' slots the whole of it takes, of 1.
const WANTED: f64 = 0.8;

/// A run that will be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// When.
    pub asked_at: Micros,
    /// What is tested.
    pub target: String,
    /// The same, as it is compared.
    pub target_id: TargetId,
    /// Which list of stages.
    pub pipeline: Pipeline,
    /// By whom.
    pub requester: String,
    /// How urgent.
    pub priority: Priority,
    /// Whether it uses the quick lane.
    pub quick: bool,
    /// What it needs.
    pub needs: Slots,
    /// How long it takes, which nobody knows before.
    pub takes: Micros,
}

/// A runner from which nothing is heard for a while: what runs there goes on, and nothing new begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Which.
    pub runner: String,
    /// From when.
    pub from: Micros,
    /// Until when.
    pub until: Micros,
}

/// A fleet and all that is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The runners.
    pub offers: BTreeMap<String, Offer>,
    /// What is asked for, in time's order.
    pub jobs: Vec<Job>,
    /// What goes wrong.
    pub silences: Vec<Silence>,
}

impl Job {
    /// Its run's number.
    pub(super) fn number(&self, index: usize) -> i64 {
        debug_assert!(self.asked_at >= START, "nothing is asked for before the start");
        i64::try_from(index + 1).unwrap_or(i64::MAX)
    }

    pub(super) fn waiting(&self, index: usize, expected: Micros) -> Waiting {
        let method = if self.pipeline == Pipeline::Host { "manual" } else { "bench" };
        Waiting {
            id: id_of(index),
            number: self.number(index),
            target: self.target.clone(),
            target_id: self.target_id,
            pipeline: self.pipeline,
            method: method.to_owned(),
            runner: None,
            needs: self.needs.clone(),
            requester: self.requester.clone(),
            priority: self.priority,
            quick: self.quick,
            asked_at: self.asked_at,
            expected,
        }
    }

    /// Its run once it has begun.
    pub fn holding(&self, run: &Waiting, runner: &str, now: Micros) -> Holding {
        Holding {
            number: run.number,
            target: run.target.clone(),
            target_id: run.target_id,
            pipeline: run.pipeline,
            runner: runner.to_owned(),
            doing: "Running".to_owned(),
            since: now,
            needs: run.needs.clone(),
            requester: run.requester.clone(),
            priority: run.priority,
            quick: run.quick,
            started_at: now,
            expected: run.expected,
        }
    }
}

impl Load {
    /// `runs` runs on three runners with benches and one with a rack of machines, drawn from `seed`.
    pub fn drawn(runs: usize, seed: u64) -> Self {
        let mut draw = Draw(seed);
        let recipes: Vec<Kind> = (0..220).map(|n| Kind::recipe(n, &mut draw)).collect();
        let images: Vec<Kind> = (0..50).map(|n| Kind::image(n, &mut draw)).collect();
        let hosts: Vec<Kind> = (0..400).map(|n| Kind::host(n, &mut draw)).collect();
        let people: Vec<String> = (1..=24).map(|n| format!("person-{n:02}")).collect();

        let mut jobs = Vec::with_capacity(runs);
        for _ in 0..runs {
            let (kinds, quick) = match draw.below(100) {
                0..70 => (&recipes, draw.below(8) == 0),
                70..90 => (&images, false),
                _ => (&hosts, false),
            };
            // Some recipes and images are tested often; machines each as seldom as the other, for a busy one is refused.
            let often = draw.skewed(kinds.len());
            let seldom = draw.below(kinds.len() as u64) as usize;
            let kind = &kinds[if kinds.len() == hosts.len() { seldom } else { often }];
            let mut job = kind.job(&mut draw, quick);
            job.requester.clone_from(&people[draw.skewed(people.len())]);
            jobs.push(job);
        }
        // How long all of it has to last, for the recipes' slots to be as full as wanted.
        let of_recipes = jobs.iter().filter(|j| j.pipeline == Pipeline::Recipe);
        let lasts = of_recipes.map(|j| j.takes.as_seconds()).sum::<f64>() / RECIPE_SLOTS / WANTED;
        for job in &mut jobs {
            job.asked_at = at(draw.working_hours(lasts));
        }
        // Every recipe once a night, all at once; and on one afternoon one requester's, all within ten minutes.
        let mut asked = jobs.iter_mut();
        let nights = (lasts / DAY) as usize;
        for night in 0..nights {
            for (kind, job) in recipes.iter().zip(asked.by_ref().take(runs * recipes.len() / 10_000)) {
                let sweep = kind.job(&mut draw, false);
                *job = Job {
                    asked_at: at(night as f64 * DAY + 26.0 * HOUR),
                    requester: SWEEP.to_owned(),
                    ..sweep
                };
                job.priority = Priority::Schedule;
            }
        }
        for job in asked.take(runs / GREEDY_PART) {
            job.asked_at = at(14.0 * HOUR + draw.unit() * 600.0);
            GREEDY.clone_into(&mut job.requester);
        }
        jobs.sort_by_key(|job| job.asked_at);
        Self { offers: offers(), jobs, silences: Vec::new() }
    }

    /// The same with a run that hangs for twelve hours from its start on, and a runner that falls silent for an hour. Both are
    /// added: nobody else's run is any other.
    #[must_use]
    pub fn with_wedges(mut self) -> Self {
        let from = at(9.0 * HOUR);
        let mut draw = Draw(7);
        let mut job = Kind::recipe(9999, &mut draw).job(&mut draw, false);
        (job.asked_at, job.takes) = (from, span(12.0 * HOUR));
        "wedged".clone_into(&mut job.requester);
        let place = self.jobs.partition_point(|other| other.asked_at <= from);
        self.jobs.insert(place, job);
        self.silences.push(Silence { runner: "bench-3".to_owned(), from, until: from.plus(span(HOUR)) });
        self
    }

    /// All of it as runs that wait, each expected to take what is usual.
    pub fn waiting(&self) -> impl Iterator<Item = Waiting> {
        let expected = |job: &Job| history::expected(&[], job.pipeline, "standard");
        self.jobs.iter().enumerate().map(move |(index, job)| job.waiting(index, expected(job)))
    }

    /// The place of the run that hangs.
    pub fn wedged(&self) -> Option<usize> {
        self.jobs.iter().position(|job| job.requester == "wedged")
    }
}

/// What one target's runs are like.
struct Kind {
    name: String,
    pipeline: Pipeline,
    needs: Slots,
    /// Seconds that a run usually takes.
    usual: f64,
}

impl Kind {
    fn recipe(n: usize, draw: &mut Draw) -> Self {
        // One in twenty is large.
        let large = n % 20 == 7;
        let memory = if large { 16_384 + 2048 * draw.below(3) } else { 512 << draw.below(3) };
        let cpu = if large { 6 } else { 1 + draw.below(2) };
        Self {
            name: format!("recipe-{n}"),
            pipeline: Pipeline::Recipe,
            needs: slots(&[("swarm", 1), ("mem_mib", memory), ("cpu", cpu), ("io", 1)]),
            usual: draw.between(90.0, 900.0),
        }
    }

    fn image(n: usize, draw: &mut Draw) -> Self {
        Self {
            name: format!("image-{n}"),
            pipeline: Pipeline::Image,
            needs: slots(&[("vm", 1), ("mem_mib", 1024 << draw.below(3)), ("cpu", 1), ("io", 1)]),
            usual: draw.between(300.0, 1500.0),
        }
    }

    fn host(n: usize, draw: &mut Draw) -> Self {
        let usual = draw.between(1.0 * HOUR, 3.0 * HOUR);
        Self { name: format!("host-{n}"), pipeline: Pipeline::Host, needs: slots(&[("netboot", 1)]), usual }
    }

    /// One run: some fail early, some take three times as long as usual.
    fn job(&self, draw: &mut Draw, quick: bool) -> Job {
        let luck = match draw.below(100) {
            0..6 => 0.3,
            6..9 => 3.0,
            _ => 0.75 + draw.unit() / 2.0,
        };
        let lane = if quick { 0.4 } else { 1.0 };
        let takes = self.usual * luck * lane;
        Job {
            asked_at: START,
            target: self.name.clone(),
            target_id: TargetId::named(self.pipeline, &self.name),
            pipeline: self.pipeline,
            requester: String::new(),
            priority: if draw.below(10) == 0 { Priority::Operator } else { Priority::PullRequest },
            quick,
            needs: self.needs.clone(),
            takes: span(takes.max(5.0)),
        }
    }
}

fn offers() -> BTreeMap<String, Offer> {
    let bench = Offer {
        power: ["bench".to_owned()].into(),
        capacity: slots(&[("swarm", 4), ("vm", 4), ("mem_mib", 24_576), ("cpu", 10), ("io", 10)]),
    };
    let rack = Offer { power: ["manual".to_owned()].into(), capacity: slots(&[("netboot", 40)]) };
    let benches = (1..=3).map(|n| (format!("bench-{n}"), bench.clone()));
    benches.chain([("rack".to_owned(), rack)]).collect()
}

fn slots(of: &[(&str, u64)]) -> Slots {
    of.iter().map(|(pool, n)| ((*pool).to_owned(), *n)).collect()
}

fn at(seconds: f64) -> Micros {
    START.plus(span(seconds))
}

/// Whole seconds: arithmetic on different machines agrees on those.
fn span(seconds: f64) -> Micros {
    Micros::seconds(seconds as i64)
}

/// Numbers from a seed (SplitMix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit() * self.unit()
    }

    /// One of `n`, the first ones much more often.
    fn skewed(&mut self, n: usize) -> usize {
        let unit = self.unit();
        ((unit * unit * n as f64) as usize).min(n - 1)
    }

    /// A second of a time of so many, three times as often by day as by night.
    fn working_hours(&mut self, lasts: f64) -> f64 {
        loop {
            let at = self.unit() * lasts;
            let hour = at / HOUR % 24.0;
            if (8.0..20.0).contains(&hour) || self.below(3) == 0 {
                return at;
            }
        }
    }
}
