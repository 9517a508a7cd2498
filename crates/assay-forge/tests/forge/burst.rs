//! Commands through everything that can happen: bursts, edits, repeats, hostile texts, failures, wrong clocks, restarts at
//! every step. Each command is taken exactly once.

use std::collections::{BTreeMap, BTreeSet};

use assay_forge::command::{Command, Parsed, parse};
use assay_forge::poll::{Action, Budget, News, PollState};
use assay_forge::{Comment, Forge, ForgeKind, RepoName};
use assay_model::{Clock as _, Micros};
use assay_testkit::SimClock;
use assay_testkit::forge::{Dialect, Fault, ForgeDouble, Match};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::{BASE, BOTH, HEAD, REPO, bot, forge, repo};

const STAGES: [&str; 3] = ["install", "upgrade", "backup"];

/// What a control plane keeps: the repository's part of the state and what came of it, written together.
struct Kept {
    part: String,
    taken: Vec<(u64, Command)>,
    misunderstood: usize,
}

/// A control plane that may die between any two steps.
struct Control<'a> {
    forge: &'a dyn Forge,
    clock: SimClock,
    /// In memory: lost when it dies.
    state: PollState,
    kept: Kept,
}

impl<'a> Control<'a> {
    fn new(forge: &'a dyn Forge, clock: SimClock, repos: &BTreeSet<RepoName>) -> Self {
        let mut state = PollState::new(Budget::usual(forge.kind()));
        state.watch(repos, clock.now());
        let part = serde_json::to_string(&state.part(&repo())).expect("a value");
        Self { forge, clock, state, kept: Kept { part, taken: vec![], misunderstood: 0 } }
    }

    /// Dies, and starts again with what was kept.
    fn restart(&mut self) {
        self.state = PollState::new(Budget::usual(self.forge.kind()));
        self.state.put(repo(), serde_json::from_str(&self.kept.part).expect("a value"));
    }

    /// One question with all that follows; `dies` is the step before which it dies.
    async fn turn(&mut self, dies: Option<u8>) {
        let now = self.clock.now();
        let Action::Ask { repo, since } = self.state.next(now, &BTreeSet::new()) else { return };
        if dies == Some(0) {
            return self.restart();
        }
        let answer = self.forge.comments(&repo, &since).await;
        if dies == Some(1) {
            return self.restart();
        }
        let news = match answer {
            Ok(heard) => self.state.heard(&repo, &since, heard, self.forge.meter().rate, now),
            Err(error) => {
                self.state.failed(&repo, &error, now);
                News::default()
            }
        };
        if dies == Some(2) {
            return self.restart();
        }
        if news.must_keep {
            self.keep(news.fresh);
        }
    }

    /// A delivery; it is lost when the control plane dies before it is written down, and polling has to find it.
    fn hooked(&mut self, comment: &Comment, dies: bool) {
        let novelty = self.state.hooked(&repo(), comment, self.clock.now());
        if dies {
            self.restart();
        } else if novelty == Some(assay_forge::Novelty::Fresh) {
            self.keep(vec![comment.clone()]);
        }
    }

    /// The transaction.
    fn keep(&mut self, fresh: Vec<Comment>) {
        self.kept.part = serde_json::to_string(&self.state.part(&repo())).expect("a value");
        for comment in fresh.into_iter().filter(|comment| comment.on_pull && comment.author.is_some()) {
            match parse(&comment.body, &STAGES) {
                Parsed::Command(command) => self.kept.taken.push((comment.id, command)),
                Parsed::Misunderstood(_) => self.kept.misunderstood += 1,
                Parsed::Nothing => {}
            }
        }
    }

    /// Turns for so many seconds, moving the clock to each question.
    async fn catch_up(&mut self, seconds: i64) {
        let end = self.clock.now().plus(Micros::seconds(seconds));
        while self.clock.now() < end {
            match self.state.next(self.clock.now(), &BTreeSet::new()) {
                Action::Ask { .. } => self.turn(None).await,
                Action::Wait { until } => self.clock.advance(until.since(self.clock.now())),
                Action::Nothing => return,
            }
        }
    }
}

#[tokio::test]
async fn two_hundred_comments_at_once_are_each_taken_once() {
    for dialect in BOTH {
        let forge = forge(dialect).await;
        let clock = forge.clock().clone();
        let client = bot(&forge, dialect);
        forge.say(REPO, 1, "alice", "!testme");
        clock.advance(Micros::seconds(300));
        let mut control = Control::new(&*client, clock.clone(), &BTreeSet::from([repo()]));
        control.turn(None).await;
        let issue = forge.open_issue(REPO);
        let hostile = [
            "> !testme",
            " !testme",
            "`!testme`",
            "```\n!testme\n```",
            "<!-- -->!testme",
            "\u{200b}!testme",
            "!tеstme",
            "please !testme",
            "!testme; rm -rf /",
            "!testme --stages ../../etc",
            "!testme @everyone",
            "!testme\u{202e}",
            "<script>!testme</script>",
            "!TESTME",
            "a\n!testme",
        ];
        let mut wanted = BTreeMap::new();
        let mut misunderstood = 0;
        for n in 0..200_usize {
            let text = match n % 4 {
                0 => hostile[n / 4 % hostile.len()],
                1 => "!testme",
                2 => "!testme --quick\nthank you",
                _ => "looks good",
            };
            let thread = if n % 20 == 1 { issue } else { 1 };
            let id = forge.say(REPO, thread, "alice", text);
            if thread == 1 {
                match parse(text, &STAGES) {
                    Parsed::Command(command) => drop(wanted.insert(id, command)),
                    Parsed::Misunderstood(_) => misunderstood += 1,
                    Parsed::Nothing => {}
                }
            }
            if n % 16 == 0 {
                clock.advance(Micros::seconds(1));
            }
        }
        control.catch_up(200).await;
        // Everything is edited, some of it into commands, and asked again and again.
        for told in forge.comments(REPO, 1) {
            forge.edit(REPO, told.id, "!testme --extra");
            control.turn(None).await;
        }
        control.catch_up(200).await;
        let taken: BTreeMap<u64, Command> = control.kept.taken.iter().cloned().collect();
        assert_eq!(taken.len(), control.kept.taken.len(), "nothing twice");
        assert_eq!(taken, wanted, "{dialect:?}");
        assert_eq!(control.kept.misunderstood, misunderstood);
        // Once it is quiet, one request a turn.
        clock.advance(Micros::seconds(3600));
        control.catch_up(100).await;
        let before = forge.asked().len();
        clock.advance(Micros::seconds(3600));
        control.turn(None).await;
        assert_eq!(forge.asked().len() - before, 1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Say { command: bool },
    Edit { which: usize },
    Delete { which: usize },
    Turn { dies: Option<u8> },
    Restart,
    Hook { which: usize, dies: bool },
    Pass { seconds: i64 },
    Trouble(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(|command| Step::Say { command }),
        1 => (0..20_usize).prop_map(|which| Step::Edit { which }),
        1 => (0..20_usize).prop_map(|which| Step::Delete { which }),
        6 => prop_oneof![Just(None), (0..3_u8).prop_map(Some)].prop_map(|dies| Step::Turn { dies }),
        1 => Just(Step::Restart),
        1 => (0..20_usize, any::<bool>()).prop_map(|(which, dies)| Step::Hook { which, dies }),
        4 => prop_oneof![0..3_i64, 20..90_i64, Just(700), Just(5000)].prop_map(|seconds| Step::Pass { seconds }),
        1 => (0..5_u8).prop_map(Step::Trouble),
    ]
}

/// What the double's comment looks like to a webhook.
fn delivered(forge: &ForgeDouble, dialect: Dialect, at: usize) -> Option<Comment> {
    use assay_forge::hook::{Headers, Told, read};
    let kind = if dialect == Dialect::Forgejo { ForgeKind::Forgejo } else { ForgeKind::GitHub };
    let waiting = forge.waiting_deliveries();
    let delivery = waiting.get(at % waiting.len().max(1))?;
    let headers = Headers::pick(kind, |name| delivery.header(name).map(str::as_bytes));
    match read(&headers, &delivery.body, &assay_forge::Secret::new("0123456789abcdef0123456789abcdef")) {
        Ok(Told::Comment { comment, .. }) => Some(*comment),
        _ => None,
    }
}

async fn story(dialect: Dialect, skew: i64, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let forge = ForgeDouble::start(dialect).await;
    forge.repository(REPO);
    forge.open_pull(REPO, "alice", HEAD, BASE, &[]);
    forge.set_skew(Micros::seconds(skew));
    let clock = forge.clock().clone();
    let limits = assay_forge::Limits { register_webhooks: true, pages: 2, ..crate::limits() };
    let client: Box<dyn Forge> = crate::client(&forge, dialect, ForgeDouble::TOKEN, limits);
    let hook = assay_forge::HookWanted {
        url: "https://assay.example/hook".into(),
        secret: assay_forge::Secret::new("0123456789abcdef0123456789abcdef"),
    };
    client.keep_hook(&repo(), &hook).await.expect("registered");
    let mut control = Control::new(&*client, clock.clone(), &BTreeSet::from([repo()]));
    control.turn(None).await;
    let (mut said, mut wanted, mut spoilt) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for step in steps {
        match step {
            Step::Say { command } => {
                let id = forge.say(REPO, 1, "alice", if command { "!testme" } else { "hm" });
                said.push(id);
                if command {
                    wanted.insert(id);
                }
            }
            Step::Edit { which } => {
                if let Some(&id) = said.get(which).filter(|id| !spoilt.contains(*id)) {
                    // What a text was when it was first heard counts; a command stays one here, and nothing becomes one
                    // after it was heard.
                    if wanted.contains(&id) {
                        forge.edit(REPO, id, "!testme\nedited");
                    }
                }
            }
            Step::Delete { which } => {
                if let Some(&id) = said.get(which).filter(|id| !spoilt.contains(*id)) {
                    forge.delete(REPO, id);
                    spoilt.insert(id);
                }
            }
            Step::Turn { dies } => control.turn(dies).await,
            Step::Restart => control.restart(),
            Step::Hook { which, dies } => {
                if let Some(comment) = delivered(&forge, dialect, which) {
                    control.hooked(&comment, dies);
                }
            }
            Step::Pass { seconds } => clock.advance(Micros::seconds(seconds)),
            Step::Trouble(kind) => {
                let fault = match kind {
                    0 => Fault::status(503),
                    1 => Fault::too_many(40),
                    2 => Fault::Cut,
                    3 => Fault::CutAfter,
                    _ => Fault::status(404),
                };
                forge.inject(Match::of("GET", "/issues/comments"), fault, 1);
            }
        }
    }
    // Faults that have not struck yet do so now, and the longest pause goes by.
    for _ in 0..6 {
        clock.advance(Micros::seconds(3601));
        control.catch_up(200).await;
    }
    let taken: Vec<u64> = control.kept.taken.iter().map(|(id, _)| *id).collect();
    let once: BTreeSet<u64> = taken.iter().copied().collect();
    prop_assert_eq!(once.len(), taken.len(), "twice: {:?}", taken);
    // What was deleted before it was heard may be missing; nothing else may.
    let missed: Vec<_> = wanted.difference(&once).filter(|id| !spoilt.contains(*id)).collect();
    prop_assert!(missed.is_empty(), "missed {:?}", missed);
    prop_assert!(once.is_subset(&wanted));
    Ok(())
}

#[test]
fn each_command_is_taken_exactly_once_whatever_happens() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // A story takes longer than most; `PROPTEST_CASES` counts here as well.
    let cases = (Config::default().cases / 5).max(1);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let skews = prop_oneof![Just(0), Just(-7200), Just(86_400), -400..400_i64];
    let stories = (any::<bool>(), skews, proptest::collection::vec(step(), 1..60));
    let outcome = runner.run(&stories, |(is_forgejo, skew, steps)| {
        let dialect = if is_forgejo { Dialect::Forgejo } else { Dialect::GitHub };
        runtime.block_on(story(dialect, skew, steps))
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}

#[tokio::test]
async fn a_long_absence_is_caught_up_with() {
    for dialect in BOTH {
        let forge = forge(dialect).await;
        let clock = forge.clock().clone();
        let client = bot(&forge, dialect);
        let mut control = Control::new(&*client, clock.clone(), &BTreeSet::from([repo()]));
        control.turn(None).await;
        let mut wanted = BTreeSet::new();
        for n in 0..1300 {
            clock.advance(Micros::seconds(400));
            let text = if n % 100 == 0 { "!testme" } else { "hm" };
            let id = forge.say(REPO, 1, "alice", text);
            if n % 100 == 0 {
                wanted.insert(id);
            }
        }
        control.catch_up(200).await;
        let taken: Vec<u64> = control.kept.taken.iter().map(|(id, _)| *id).collect();
        assert_eq!(taken, wanted.into_iter().collect::<Vec<_>>(), "{dialect:?}");
    }
}
