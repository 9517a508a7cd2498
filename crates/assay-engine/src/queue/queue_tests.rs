//! Who starts, who waits, who overtakes whom, and what each is told.

use assay_model::{Pipeline, Priority, TargetId};

use super::*;

const NOW: Micros = Micros::seconds(1_000_000);
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

fn slots(of: &[(&str, u64)]) -> Slots {
    of.iter().map(|(pool, n)| ((*pool).to_owned(), *n)).collect()
}

/// A runner's name, its power methods and its slots.
type Runner<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, u64)]);

fn offers(of: &[Runner<'_>]) -> BTreeMap<String, Offer> {
    let offer = |methods: &[&str], capacity: &[(&str, u64)]| Offer {
        power: methods.iter().map(|m| (*m).to_owned()).collect(),
        capacity: slots(capacity),
    };
    of.iter().map(|(name, methods, capacity)| ((*name).to_owned(), offer(methods, capacity))).collect()
}

fn target(name: &str) -> TargetId {
    TargetId::named(Pipeline::Recipe, name)
}

/// A run that was asked for so many seconds ago and takes ten minutes.
fn waiting(number: i64, ago: i64, needs: &[(&str, u64)]) -> Waiting {
    let name = format!("app-{number}");
    Waiting {
        id: RunId(uuid::Uuid::from_u128(number as u128)),
        number,
        target_id: target(&name),
        target: name,
        pipeline: Pipeline::Recipe,
        method: "swarm".to_owned(),
        runner: None,
        needs: slots(needs),
        requester: format!("person-{number}"),
        priority: Priority::PullRequest,
        quick: false,
        asked_at: Micros(NOW.0 - ago * 1_000_000),
        expected: Micros::seconds(10 * MINUTE),
    }
}

/// A run that began so many seconds ago and takes ten minutes.
fn holding(number: i64, runner: &str, ago: i64, needs: &[(&str, u64)]) -> Holding {
    let run = waiting(number, ago, needs);
    Holding {
        number,
        target: run.target,
        target_id: run.target_id,
        pipeline: run.pipeline,
        runner: runner.to_owned(),
        doing: "Upgrade".to_owned(),
        since: run.asked_at,
        needs: run.needs,
        requester: run.requester,
        priority: run.priority,
        quick: false,
        started_at: run.asked_at,
        expected: run.expected,
    }
}

#[derive(Default)]
struct World {
    offers: BTreeMap<String, Offer>,
    holding: Vec<Holding>,
    waiting: Vec<Waiting>,
    used: Used,
    policy: Policy,
}

impl World {
    fn with(capacity: &[(&str, u64)]) -> Self {
        Self { offers: offers(&[("a", &["swarm"], capacity)]), ..Self::default() }
    }

    fn decide(&self) -> Vec<(RunId, Place)> {
        let Self { offers, holding, waiting, used, policy } = self;
        decide(&Snapshot { offers, holding, waiting, used, policy }, NOW)
    }

    /// `NUMBER: what it is told`, in the line's order.
    fn told(&self) -> String {
        let said = |(id, place): (RunId, Place)| match place {
            Place::Admit { runner } => format!("{}: admit to {runner}", id.0.as_u128()),
            Place::Wait(wait) => format!("{}: {}", id.0.as_u128(), wait.reason),
        };
        self.decide().into_iter().map(said).collect::<Vec<_>>().join("\n")
    }

    /// The numbers of the runs, in their order.
    fn order(&self) -> Vec<u128> {
        self.decide().into_iter().map(|(id, _)| id.0.as_u128()).collect()
    }

    fn admitted(&self) -> Vec<u128> {
        let starts =
            |(id, place): (RunId, Place)| matches!(place, Place::Admit { .. }).then_some(id.0.as_u128());
        self.decide().into_iter().filter_map(starts).collect()
    }
}

const SWARM: &[(&str, u64)] = &[("swarm", 1)];

#[test]
fn each_is_told_why_it_waits_where_it_stands_and_how_long() {
    let mut world = World::with(&[("swarm", 2), ("mem_mib", 6144)]);
    world.holding = vec![holding(41, "a", 130, &[("swarm", 1), ("mem_mib", 5120)])];
    let large = &[("swarm", 1), ("mem_mib", 4096)];
    world.waiting = vec![waiting(42, 30, large), waiting(43, 20, large), waiting(44, 10, large)];
    insta::assert_snapshot!(world.told(), @"
    42: 1st in line; needs 4096 MiB of mem, 1024 free; behind run 41 (app-41, Upgrade, 2 m 10 s); about 8 min
    43: 2nd in line; needs 4096 MiB of mem, 1024 free; behind run 42 (app-42, waits, too); about 14 min
    44: 3rd in line; needs 4096 MiB of mem, 1024 free; behind run 43 (app-43, waits, too); about 20 min
    ");
}

#[test]
fn a_runner_that_declares_nothing_boots_sixteen_and_limits_no_processor() {
    let mut world = World { offers: offers(&[("r1", &["manual"], &[])]), ..World::default() };
    let one = &[("netboot", 1), ("cpu", 64)];
    world.holding = (1..=15).map(|n| holding(n, "r1", 60, one)).collect();
    world.waiting = (16..=18).map(|n| Waiting { method: "manual".into(), ..waiting(n, 5, one) }).collect();
    insta::assert_snapshot!(world.told(), @"
    16: admit to r1
    17: 1st in line; needs 1 netboot, 0 free; behind run 1 (app-1, Upgrade, 1 m 0 s); about 9 min
    18: 2nd in line; needs 1 netboot, 0 free; behind run 17 (app-17, waits, too); about 10 min
    ");
}

#[test]
fn what_can_never_start_says_so_and_holds_up_nobody() {
    let mut world = World::with(&[("swarm", 1), ("mem_mib", 1024)]);
    let here = Waiting { runner: Some("b".into()), ..waiting(4, 5, SWARM) };
    let redfish = Waiting { method: "redfish".into(), ..waiting(2, 5, SWARM) };
    let vm = Waiting { method: "vm".into(), ..waiting(3, 5, SWARM) };
    world.waiting = vec![waiting(1, 9, &[("mem_mib", 2048)]), redfish, vm, here, waiting(5, 1, SWARM)];
    insta::assert_snapshot!(world.told(), @"
    1: it can never start: needs 2048 MiB of mem, 1024 in all (runner a); declare more there, or need less
    2: no connected runner can switch power by `redfish`
    3: no connected runner has virtual machines; start one with `assay runner --vm`
    4: runner b, which has what is tested, is not connected
    5: admit to a
    ");
    world.offers.clear();
    world.waiting.truncate(1);
    assert_eq!(world.told(), "1: no runner is connected; start one with `assay runner`");
}

#[test]
fn one_run_of_a_target_at_a_time_and_others_pass_it() {
    let mut world = World::with(&[("swarm", 4)]);
    world.holding = vec![holding(1, "a", 200, SWARM)];
    let same = |number, of: &str| Waiting { target_id: target(of), ..waiting(number, 9, SWARM) };
    world.waiting = vec![same(2, "app-1"), same(3, "app-1"), waiting(4, 5, SWARM), same(5, "app-4")];
    insta::assert_snapshot!(world.told(), @"
    4: admit to a
    2: one run of a target at a time; behind run 1 (app-1, Upgrade, 3 m 20 s); about 7 min
    5: one run of a target at a time; behind run 4 (app-4, about to start); about 10 min
    3: one run of a target at a time; behind run 1 (app-1, Upgrade, 3 m 20 s); about 7 min
    ");
    // One that is held for an operator has its target, and no slot.
    world.holding[0].needs.clear();
    world.holding[0].doing = "held for an operator".to_owned();
    world.waiting.truncate(1);
    insta::assert_snapshot!(world.told(), @"2: one run of a target at a time; behind run 1 (app-1, held for an operator, 3 m 20 s)");
}

#[test]
fn a_small_run_overtakes_a_large_one_only_where_that_delays_nobody() {
    let mut world = World::with(&[("swarm", 8), ("mem_mib", 8000)]);
    // 5,000 of 8,000 MiB come back in 9 minutes.
    world.holding = vec![holding(1, "a", 60, &[("swarm", 1), ("mem_mib", 5000)])];
    let small = |number, minutes, mem| Waiting {
        expected: Micros::seconds(minutes * MINUTE),
        ..waiting(number, 10, &[("swarm", 1), ("mem_mib", mem)])
    };
    world.waiting = vec![
        Waiting { asked_at: Micros(NOW.0 - HOUR * 1_000_000), ..small(2, 10, 7000) },
        small(3, 8, 1000),
        small(4, 12, 1500),
        small(5, 12, 800),
        small(6, 12, 800),
    ];
    // 3 is over before; 4 would take what 2 needs; 5 takes of what is left over, 6 finds nothing left of that.
    assert_eq!(world.admitted(), [3, 5]);
    insta::assert_snapshot!(world.told(), @"
    2: 1st in line; needs 7000 MiB of mem, 3000 free; behind run 1 (app-1, Upgrade, 1 m 0 s); about 9 min
    3: admit to a
    4: 2nd in line; behind run 2 (app-2, waits, too); about 16 min
    5: admit to a
    6: 3rd in line; behind run 4 (app-4, waits, too); about 19 min
    ");
}

#[test]
fn who_overstays_is_not_believed_to_end_at_once() {
    let mut world = World::with(&[("swarm", 1)]);
    world.holding = vec![holding(1, "a", 2 * HOUR, SWARM)];
    world.waiting = vec![waiting(2, 10, SWARM)];
    insta::assert_snapshot!(world.told(), @"2: 1st in line; needs 1 swarm, 0 free; behind run 1 (app-1, Upgrade, 2 h 0 m); about 30 min");
}

#[test]
fn a_silent_runner_holds_its_slots_alone() {
    let mut world = World {
        offers: offers(&[("b", &["swarm"], &[("swarm", 1)])]),
        holding: vec![holding(1, "a", 5 * HOUR, SWARM), holding(2, "a", 5 * HOUR, SWARM)],
        waiting: vec![waiting(3, 10, SWARM), waiting(4, 5, SWARM)],
        ..World::default()
    };
    assert_eq!(world.admitted(), [3], "b has room, whatever a does");
    world.offers.extend(offers(&[("a", &["swarm"], &[("swarm", 2)])]));
    assert_eq!(world.admitted(), [3], "and a's are in use until its runs are given up");
    world.holding.clear();
    assert_eq!(world.admitted(), [3, 4]);
}

#[test]
fn runs_go_where_there_is_most_room() {
    let mut world = World {
        offers: offers(&[
            ("a", &["swarm"], &[("swarm", 4)]),
            ("b", &["swarm"], &[("swarm", 8)]),
            ("c", &["vm"], &[("swarm", 99)]),
        ]),
        waiting: (1..=3).map(|n| waiting(n, 9, SWARM)).collect(),
        ..World::default()
    };
    world.holding = vec![holding(9, "b", 60, &[("swarm", 5)])];
    insta::assert_snapshot!(world.told(), @"
    1: admit to a
    2: admit to a
    3: admit to a
    ");
}

#[test]
fn the_more_urgent_class_goes_first() {
    let mut world = World::with(&[("swarm", 9)]);
    let of = |number, ago, priority| Waiting { priority, ..waiting(number, ago, SWARM) };
    world.waiting = vec![
        of(1, 900, Priority::Schedule),
        of(2, 600, Priority::PullRequest),
        of(3, 1, Priority::Operator),
        of(4, 60, Priority::PullRequest),
    ];
    assert_eq!(world.order(), [3, 2, 4, 1]);
}

#[test]
fn one_requester_of_many_does_not_stand_in_everybodys_way() {
    let mut world = World::with(&[("swarm", 2)]);
    let of = |number, ago, who: &str| Waiting { requester: who.into(), ..waiting(number, ago, SWARM) };
    world.waiting = (1..=6).map(|n| of(n, 100, "greedy")).collect();
    world.waiting.extend([of(7, 50, "mara"), of(8, 40, "mara"), of(9, 30, "ole")]);
    assert_eq!(world.order(), [1, 7, 9, 2, 8, 3, 4, 5, 6]);
    // Who counts for three gets three for one.
    world.policy.weights = [("greedy".to_owned(), 3)].into();
    let order = world.order();
    assert_eq!(order[..4], [1, 7, 9, 2], "{order:?}");
    assert_eq!(order.iter().position(|n| *n == 8), Some(6), "{order:?}");
}

#[test]
fn who_has_used_much_lately_waits_longer_and_it_wears_off() {
    let past = |who: &str, hours_ago| history::Past {
        requester: who.to_owned(),
        target_id: target("old"),
        needs: slots(SWARM),
        started_at: Micros(NOW.0 - (hours_ago + 1) * HOUR * 1_000_000),
        ended_at: Micros(NOW.0 - hours_ago * HOUR * 1_000_000),
    };
    let mut world = World::with(&[("swarm", 2)]);
    let of = |number, ago, who: &str| Waiting { requester: who.into(), ..waiting(number, ago, SWARM) };
    world.waiting = vec![of(1, 600, "greedy"), of(2, 30, "mara")];
    assert_eq!(world.order(), [1, 2]);
    world.used = Used::of(&[past("greedy", 0)], NOW);
    assert_eq!(world.order(), [2, 1]);
    world.used = Used::of(&[past("greedy", 2)], NOW);
    assert_eq!(world.order(), [2, 1], "a quarter of an hour of half the fleet, shared by two, is 15 minutes");
    world.used = Used::of(&[past("greedy", 3)], NOW);
    assert_eq!(world.order(), [1, 2], "an eighth is seven, and they are nine and a half apart");
    assert_eq!(Used::of(&[past("greedy", 9)], NOW), Used::default());
}

#[test]
fn whoever_waits_long_enough_goes_before_every_class() {
    let mut world = World::with(&[("swarm", 1)]);
    let of = |number, ago, priority| Waiting { priority, ..waiting(number, ago, SWARM) };
    let sweep = |hours: i64, more: i64| of(1, hours * HOUR + more, Priority::Schedule);
    let fresh = [of(2, 10, Priority::Operator), of(3, 10, Priority::PullRequest)];
    let order = |sweep: Waiting| {
        let mut world = World { offers: world.offers.clone(), ..World::default() };
        world.waiting = std::iter::once(sweep).chain(fresh.clone()).collect();
        world.order()
    };
    assert_eq!(order(sweep(0, 3599)), [2, 3, 1]);
    assert_eq!(order(sweep(1, 0)), [2, 1, 3], "as a pull request, and it was asked for earlier");
    assert_eq!(order(sweep(2, 0)), [1, 2, 3], "as an operator's");
    assert_eq!(order(sweep(3, 0)), [1, 2, 3], "before all that are due later");
    // A late one has what it needs promised: nobody starts before it who would delay it.
    world.holding = vec![holding(9, "a", 60, SWARM)];
    world.waiting = vec![fresh[0].clone(), sweep(3, 0)];
    assert!(world.told().starts_with("1: 1st in line"), "{}", world.told());
}

#[test]
fn quick_runs_have_right_of_way_for_a_quarter() {
    let mut world = World::with(&[("swarm", 8)]);
    world.holding = (50..58).map(|n| holding(n, "a", 60, SWARM)).collect();
    let quick = |number| Waiting { quick: true, ..waiting(number, 10, SWARM) };
    world.waiting = vec![
        Waiting { priority: Priority::Operator, ..waiting(1, 60, SWARM) },
        waiting(2, 50, SWARM),
        quick(3),
        quick(4),
        quick(5),
        waiting(6, 5 * HOUR, SWARM),
    ];
    assert_eq!(world.order(), [6, 3, 4, 1, 2, 5], "two of eight slots; and who is late is first");
    // What they hold already counts.
    world.holding[0].quick = true;
    assert_eq!(world.order(), [6, 3, 1, 2, 4, 5]);
    // On a small runner a quarter is nothing: they wait like all others.
    world.offers = offers(&[("a", &["swarm"], &[("swarm", 3)])]);
    assert_eq!(world.order(), [6, 1, 2, 3, 4, 5]);
}

#[test]
fn operators_limit_pipelines_and_stop_the_queue() {
    let mut world = World::with(&[("swarm", 8)]);
    world.holding = vec![holding(1, "a", 60, SWARM)];
    world.waiting = (2..=4).map(|n| waiting(n, 20 - n, SWARM)).collect();
    world.policy.limits = [(Pipeline::Recipe, 2)].into();
    insta::assert_snapshot!(world.told(), @"
    2: admit to a
    3: 1st in line for 2 recipe runs at once, as operators have limited them; about 9 min
    4: 2nd in line for 2 recipe runs at once, as operators have limited them
    ");
    let stop = Stop { by: "mara".into(), why: "new switch".into(), since: NOW };
    world.policy.mode = Mode::Paused(stop.clone());
    insta::assert_snapshot!(world.told(), @"
    2: the queue is paused by mara (new switch); 1st in line; behind run 1 (app-1, Upgrade, 1 m 0 s)
    3: the queue is paused by mara (new switch); 2nd in line; behind run 2 (app-2, waits, too)
    4: the queue is paused by mara (new switch); 3rd in line; behind run 3 (app-3, waits, too)
    ");
    world.policy.mode = Mode::Draining(Stop { why: String::new(), ..stop });
    world.waiting.truncate(1);
    insta::assert_snapshot!(world.told(), @"2: the queue is being drained by mara: nothing new starts; 1st in line; behind run 1 (app-1, Upgrade, 1 m 0 s)");
    let stored = serde_json::to_string(&world.policy).expect("plain");
    insta::assert_snapshot!(stored, @r#"{"mode":{"state":"draining","by":"mara","why":"","since":1000000000000},"limits":{"recipe":2}}"#);
    assert_eq!(serde_json::from_str::<Policy>(&stored).expect("reads"), world.policy);
    assert_eq!(serde_json::from_str::<Policy>("{}").expect("reads"), Policy::default());
}

#[test]
fn the_estimate_is_the_median_of_the_latest() {
    let minutes = |of: &[i64]| of.iter().map(|n| Micros::seconds(n * 60)).collect::<Vec<_>>();
    let expected = |of: &[i64]| history::expected(&minutes(of), Pipeline::Recipe, "standard").0 / 60_000_000;
    assert_eq!(expected(&[]), 10, "what is usual");
    assert_eq!(expected(&[4]), 4);
    assert_eq!(expected(&[4, 6]), 6, "the longer of two");
    assert_eq!(expected(&[3, 90, 4, 5, 4, 1000, 1000]), 4, "one that hung counts once, old ones not at all");
    assert_eq!(history::expected(&[], Pipeline::Host, "quick"), Micros::seconds(1200));
}

#[test]
fn a_line_of_many_is_the_same_however_it_is_given() {
    let mut world = World::with(&[("swarm", 3), ("mem_mib", 4096)]);
    world.holding = vec![holding(500, "a", 60, &[("swarm", 1), ("mem_mib", 2048)])];
    world.waiting = (0..200)
        .map(|n| Waiting {
            requester: format!("r{}", n % 7),
            priority: Priority::ALL[n as usize % 3],
            expected: Micros::seconds(60 + n * 7 % 900),
            ..waiting(n + 1, n * 97 % 5000, &[("swarm", 1), ("mem_mib", 256 << (n % 4))])
        })
        .collect();
    let told = world.told();
    world.waiting.reverse();
    assert_eq!(world.told(), told);
}
