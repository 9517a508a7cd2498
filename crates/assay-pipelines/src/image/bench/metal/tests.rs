//! Consoles of installations, as bytes with their times: what each comes to.

use std::ops::ControlFlow;

use super::*;
use crate::image::Profile;
use crate::image::evidence::NameSeen;

const PROFILE: &str = r#"
name = "small"
[boot]
timeout = "60s"
[[phase]]
name = "menu"
stage = "boot"
marker = "loading the installer"
timeout = "30s"
[[phase]]
name = "partitioned"
marker = "partitioned"
timeout = "60s"
[[phase]]
name = "installed"
marker = "INSTALL COMPLETE"
timeout = "180s"
fail = ["INSTALL FAILED"]
[[phase]]
name = "rebooting"
marker = "rebooting now"
timeout = "20s"
[[phase]]
name = "welcome"
stage = "reboot"
marker = 'Welcome to \S+'
timeout = "60s"
[install]
success = "installed"
ends = "reboot"
timeout = "30s"
[reboot]
timeout = "90s"
[identify]
hostname = "node-[0-9a-f]{6}"
announced = 'generated: (?P<host>\S+)'
[console]
secrets = ["hunter[0-9]"]
"#;

/// What is said, and how many seconds after power-on.
type Line = (u32, &'static str);

/// The machine that everything goes well with.
const HEALTHY: [Line; 16] = [
    (5, "SeaBIOS (version 1.16.2)\r\n"),
    (8, "iPXE 1.21.1 -- Open Source Network Boot Firmware\r\nAssay: booting locally\r\n"),
    (12, "loading the installer\r\n"),
    (15, "[    0.000000] Linux version 6.1.0-18-amd64\r\n"),
    (18, "[    2.500000] Run /init as init process\r\n"),
    (20, "generated: node-00a1b2\r\n"),
    (25, "partitioned 2 disks\r\n"),
    (60, "INSTALL COMPLETE\r\n"),
    (62, "rebooting now\r\n"),
    (63, "[   50.000000] reboot: Restarting system\r\n[   50.010000] reboot: machine restart\r\n"),
    // Its firmware takes its time.
    (150, "SeaBIOS (version 1.16.2)\r\n"),
    (155, "Booting from Hard Disk...\r\n"),
    (160, "[    0.000000] Linux version 6.1.0-18-amd64\r\n"),
    (164, "[    2.500000] Run /init as init process\r\n"),
    (168, "Welcome to node-00a1b2\r\n"),
    (170, "\r\nnode-00a1b2 login: "),
];

/// What an installation came to.
#[derive(Debug, Default, PartialEq)]
struct Came {
    stages: Vec<(&'static str, Value)>,
    texts: BTreeMap<String, String>,
    /// When the medium was to be ejected, in seconds.
    ejected: Vec<u64>,
    steps: Vec<String>,
    over_s: u64,
}

impl Came {
    /// How the last stage ended: its name, and the outcome with its code.
    fn end(&self) -> (&'static str, String) {
        let (stage, evidence) = self.stages.last().expect("a stage");
        let outcome = &evidence["watched"]["outcome"];
        let word = |name: &str| outcome[name].as_str().unwrap_or_default().to_owned();
        (stage, format!("{} {}", word("how"), word("code")).trim().to_owned())
    }

    fn why(&self) -> String {
        let (_, evidence) = self.stages.last().expect("a stage");
        evidence["watched"]["outcome"].to_string()
    }

    fn names(&self) -> Vec<&'static str> {
        self.stages.iter().map(|(stage, _)| *stage).collect()
    }

    fn evidence(&self, stage: &str) -> &Value {
        &self.stages.iter().find(|(name, _)| *name == stage).expect("a stage").1
    }
}

struct Player {
    installation: Installation,
    came: Came,
    /// What becomes of ejecting.
    ejects: Result<(), String>,
}

impl Player {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Following)) -> Self {
        let mut following = Following {
            stages: vec![Within::Boot, Within::Install, Within::Reboot],
            boot: Duration::from_mins(2),
            stretch: 1.0,
            emulated: false,
            machine: "a machine of metal".to_owned(),
        };
        change(&mut following);
        let profile = Profile::from_toml(PROFILE).expect("a profile");
        let installation = Installation::new(&profile, following).expect("it can be followed");
        Self { installation, came: Came::default(), ejects: Ok(()) }
    }

    /// All that happens up to this moment because of time alone.
    fn until(&mut self, at: Duration) -> ControlFlow<()> {
        loop {
            if self.installation.is_over() {
                return ControlFlow::Break(());
            }
            let due = self.installation.deadline();
            if due >= at {
                return ControlFlow::Continue(());
            }
            let news = self.installation.tick(due);
            self.take(due, news);
            assert!(
                self.installation.is_over() || self.installation.deadline() > due,
                "it would be asked for ever"
            );
        }
    }

    fn hears(&mut self, at_s: u32, bytes: &[u8]) {
        let at = Duration::from_secs(at_s.into());
        if self.until(at).is_continue() {
            let news = self.installation.heard(at, bytes);
            self.take(at, news);
        }
    }

    fn plays(&mut self, lines: &[Line]) {
        for (at_s, words) in lines {
            self.hears(*at_s, words.as_bytes());
        }
    }

    /// The console is away from one second to another.
    fn is_away(&mut self, from_s: u32, to_s: u32) {
        for at_s in (from_s..to_s).step_by(5) {
            let at = Duration::from_secs(at_s.into());
            let news = self.installation.lost(at, "the BMC ended serial over LAN");
            self.take(at, news);
        }
    }

    fn take(&mut self, at: Duration, news: Vec<News>) {
        for one in news {
            match one {
                News::Step(words) => self.came.steps.push(words),
                News::Eject => {
                    self.came.ejected.push(at.as_secs());
                    let more = self.installation.ejected(at, self.ejects.clone());
                    self.take(at, more);
                }
                News::Brought(StageBrought { stage, evidence, texts }) => {
                    self.came.stages.push((stage, evidence));
                    self.came.texts.extend(texts);
                }
                News::Over => self.came.over_s = at.as_secs(),
            }
        }
    }

    /// Lets all time pass that there is.
    fn ends(mut self) -> Came {
        let flow = self.until(Duration::from_hours(24));
        assert!(flow.is_break(), "it goes on: due at {:?}", self.installation.deadline());
        self.came
    }
}

fn played(lines: &[Line]) -> Came {
    let mut player = Player::new();
    player.plays(lines);
    player.ends()
}

/// The healthy machine up to a second, and then something else.
fn up_to(at_s: u32, then: &[Line]) -> Vec<Line> {
    let mut lines: Vec<Line> = HEALTHY.into_iter().filter(|(at, _)| *at < at_s).collect();
    lines.extend_from_slice(then);
    lines
}

#[test]
fn a_healthy_machine_boots_installs_and_comes_up() {
    let came = played(&HEALTHY);
    assert_eq!(came.names(), ["Boot", "Install", "Reboot"]);
    for (stage, evidence) in &came.stages {
        assert_eq!(evidence["watched"]["outcome"]["how"], "reached", "{stage}: {evidence:#}");
    }
    // With the kernel's last words: the installer has what it runs from to its end, and the firmware finds nothing.
    assert_eq!((came.ejected.as_slice(), came.over_s), ([63].as_slice(), 172));
    assert_eq!(
        came.steps,
        [
            "menu after 12.0 s",
            "partitioned after 25.0 s",
            "installed after 60.0 s",
            "rebooting after 62.0 s",
            "welcome after 168.0 s"
        ]
    );
    let installed: Installed = serde_json::from_value(came.evidence("Install").clone()).expect("its type");
    assert_eq!(installed.ended, "rebooted");
    assert!(installed.disks.is_empty() && installed.egress.is_empty() && installed.faults.is_empty());
    assert_eq!((installed.written, installed.watched.input), (0, 0));
    let phase = &installed.watched.phases[1];
    assert_eq!((&phase.name[..], phase.at_s, phase.took_s, phase.limit_s), ("installed", 60.0, 35.0, 180.0));
    assert_eq!((phase.written, &phase.channel[..]), (None, "serial"));
    let named = |names: &[NameSeen]| {
        names.iter().map(|seen| format!("{} {}", seen.by, seen.name)).collect::<Vec<_>>()
    };
    assert_eq!(named(&installed.watched.names), ["announced node-00a1b2"]);
    let rebooted: Rebooted = serde_json::from_value(came.evidence("Reboot").clone()).expect("its type");
    assert_eq!(named(&rebooted.watched.names), ["banner node-00a1b2"]);
    let rungs: Vec<_> = rebooted.watched.rungs.iter().map(|seen| seen.rung).collect();
    assert_eq!(rungs[0], Rung::Firmware, "its own boot: {rungs:?}");
    assert_eq!(rungs.last(), Some(&Rung::Login), "{rungs:?}");
    assert_eq!(
        came.texts.keys().collect::<Vec<_>>(),
        ["boot-serial.txt", "install-serial.txt", "reboot-serial.txt"]
    );
    assert!(came.texts["install-serial.txt"].contains("   60.000 INSTALL COMPLETE\n"), "{:?}", came.texts);
    assert!(came.texts["reboot-serial.txt"].contains("Welcome to node-00a1b2"), "{:?}", came.texts);
}

/// A marker is told with as much of its line as had come.
fn without_lines(mut stages: Vec<(&'static str, Value)>) -> Vec<(&'static str, Value)> {
    for (_, evidence) in &mut stages {
        for list in ["phases", "rungs", "names"] {
            for seen in evidence["watched"][list].as_array_mut().into_iter().flatten() {
                seen["line"] = Value::Null;
            }
        }
    }
    stages
}

#[test]
fn it_comes_to_the_same_however_the_bytes_are_cut() {
    let mut player = Player::new();
    for (at_s, words) in HEALTHY {
        for byte in words.as_bytes().chunks(1) {
            player.hears(at_s, byte);
        }
    }
    let (cut, whole) = (player.ends(), played(&HEALTHY));
    assert_eq!(without_lines(cut.stages), without_lines(whole.stages));
    assert_eq!((cut.texts, cut.ejected), (whole.texts, whole.ejected));
}

#[test]
fn what_goes_wrong_is_told_with_its_code_and_ends_it() {
    let cases: [(&str, Vec<Line>, (&str, &str)); 14] = [
        (
            "panic while the medium boots",
            up_to(
                18,
                &[(
                    17,
                    "[    1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n",
                )],
            ),
            ("Boot", "failed KernelPanic"),
        ),
        ("nothing at all", up_to(0, &[]), ("Boot", "timed_out")),
        ("a boot loader and no more", up_to(15, &[]), ("Boot", "timed_out")),
        (
            "a line that the profile names",
            up_to(60, &[(50, "INSTALL FAILED: no disk\r\n")]),
            ("Install", "failed FailMarker"),
        ),
        (
            "a prompt",
            up_to(60, &[(30, "Enter the device to install to: ")]),
            ("Install", "stalled StuckPrompt"),
        ),
        ("a shell", up_to(25, &[(22, "root@installer:~# ")]), ("Install", "stalled IdleShell")),
        (
            "success before the work",
            up_to(25, &[(22, "INSTALL COMPLETE\r\n")]),
            ("Install", "failed SuccessBeforeWork"),
        ),
        ("a phase that never comes", up_to(60, &[]), ("Install", "timed_out")),
        (
            "a reset in the middle",
            up_to(60, &[(50, "SeaBIOS (version 1.16.2)\r\n")]),
            ("Install", "ended UnexpectedReset"),
        ),
        (
            "a panic in the middle",
            up_to(60, &[(50, "[   40.000000] Kernel panic - not syncing: Fatal exception\r\n")]),
            ("Install", "failed KernelPanic"),
        ),
        ("no boot from the disk", up_to(160, &[]), ("Reboot", "timed_out")),
        ("no login", up_to(170, &[]), ("Reboot", "timed_out")),
        (
            "a second reset",
            up_to(168, &[(165, "SeaBIOS (version 1.16.2)\r\n")]),
            ("Reboot", "ended UnexpectedReset"),
        ),
        (
            "a panic in what was installed",
            up_to(
                164,
                &[(163, "[    1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n")],
            ),
            ("Reboot", "failed KernelPanic"),
        ),
    ];
    for (what, lines, (stage, end)) in cases {
        let came = played(&lines);
        assert_eq!(came.end(), (stage, end.to_owned()), "{what}: {}", came.why());
        // Whatever it was: the medium does not stay in, and is ejected once.
        assert_eq!(came.ejected.len(), 1, "{what}");
        assert!(came.over_s > 0, "{what}");
    }
}

#[test]
fn times_are_the_profile_s_and_those_of_the_firmware() {
    // From power-on: 120 s for the firmware and 30 s for the phase; from the reset 120 s and 60 s.
    assert_eq!(played(&[]).over_s, 150);
    let late = played(&up_to(60, &[]));
    assert_eq!(late.over_s, 25 + 180);
    assert!(
        late.why().contains(r#""waited_for":"phase installed""#) && late.why().contains(r#""limit_s":180.0"#)
    );
    assert!(late.why().contains("partitioned 2 disks"), "the last line: {}", late.why());
    let mut slow = Player::with(|following| following.stretch = 2.0);
    slow.plays(&up_to(60, &[]));
    assert_eq!(slow.ends().over_s, 25 + 360);
    // Firmware that says which keys it takes, and is quiet then, waits for nobody.
    let quiet = up_to(5, &[(4, "Press any key to enter setup ")]);
    assert_eq!(played(&quiet).end(), ("Boot", "timed_out".to_owned()));
}

#[test]
fn a_console_that_was_interrupted_is_no_proof_of_what_was_not_said() {
    let mut back = Player::new();
    back.plays(&up_to(60, &[]));
    back.is_away(40, 70);
    // What was waited for comes all the same.
    back.plays(&[(80, "INSTALL COMPLETE\r\n"), (81, "rebooting now\r\n")]);
    back.plays(&HEALTHY[10..]);
    assert_eq!(back.ends().end(), ("Reboot", "reached".to_owned()));

    let mut missed = Player::new();
    missed.plays(&up_to(60, &[]));
    missed.is_away(40, 70);
    missed.hears(75, b"copying\r\n");
    let missed = missed.ends();
    assert_eq!(missed.end(), ("Install", "runner_fault".to_owned()));
    assert!(missed.why().contains("interrupted after 40 s"), "{}", missed.why());
    // A failure that was heard is one.
    let mut heard = Player::new();
    heard.plays(&up_to(60, &[]));
    heard.is_away(40, 70);
    heard.hears(75, b"INSTALL FAILED\r\n");
    assert_eq!(heard.ends().end(), ("Install", "failed FailMarker".to_owned()));

    let mut gone = Player::new();
    gone.plays(&up_to(60, &[]));
    gone.is_away(40, 400);
    let gone = gone.ends();
    assert_eq!((gone.end(), gone.over_s), (("Install", "runner_fault".to_owned()), 340));
    assert!(
        gone.why().contains("could not be read for 300 s: the BMC ended serial over LAN"),
        "{}",
        gone.why()
    );
}

#[test]
fn what_an_installer_says_without_its_medium_is_no_news_of_it() {
    let error =
        "[   51.000000] I/O error, dev sr0, sector 24852 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2\r\n";
    let noted = |lines: &[Line]| {
        let came = played(lines);
        came.evidence("Install")["watched"]["noted"].as_array().map_or(0, Vec::len)
    };
    let mut after = HEALTHY.to_vec();
    after.insert(10, (64, error));
    assert_eq!(noted(&after), 0);
    // With its medium in, it is.
    let mut before = HEALTHY.to_vec();
    before.insert(7, (40, error));
    assert_eq!(noted(&before), 1);
}

#[test]
fn a_machine_that_comes_to_its_medium_again_says_nothing_of_the_image() {
    let mut stays = Player::new();
    stays.ejects = Err("the BMC refuses".to_owned());
    stays.plays(&HEALTHY);
    let stays = stays.ends();
    assert_eq!(
        (stays.names(), stays.end()),
        (vec!["Boot", "Install", "Reboot"], ("Reboot", "runner_fault".to_owned()))
    );
    assert!(stays.why().contains("could not be ejected") && stays.why().contains("the BMC refuses"));

    let again = up_to(
        164,
        &[
            (164, "[    2.500000] Run /init as init process\r\n"),
            (170, "partitioned 2 disks\r\n"),
            (190, "SeaBIOS (version 1.16.2)\r\n"),
        ],
    );
    let again = played(&again);
    assert_eq!(again.end(), ("Reboot", "runner_fault".to_owned()));
    assert!(again.why().contains("came up from its medium again"), "{}", again.why());
}

#[test]
fn a_boot_that_is_not_heard_is_told_by_what_is() {
    // Nothing of firmware and kernel, and yet the installed system greets.
    let quiet = up_to(63, &[(168, "Welcome to node-00a1b2\r\n"), (170, "\r\nnode-00a1b2 login: ")]);
    let came = played(&quiet);
    assert_eq!(came.end(), ("Reboot", "reached".to_owned()), "{}", came.why());
    assert_eq!(came.evidence("Install")["ended"], "unknown");
    assert_eq!(came.ejected, [67], "the machine does not tell when it goes down");
    let rungs = came.evidence("Reboot")["watched"]["rungs"].as_array().expect("rungs");
    assert!(rungs.iter().all(|seen| seen["rung"] == "login" || seen["rung"] == "userspace"), "{rungs:?}");
    // Nothing of it at all: nobody knows anything.
    let silent = played(&up_to(63, &[]));
    assert_eq!(silent.end(), ("Reboot", "runner_fault".to_owned()), "{}", silent.why());
    assert!(silent.why().contains("nothing was heard of the machine's reset"), "{}", silent.why());
}

#[test]
fn only_the_stages_that_are_asked_for_are_followed() {
    let mut boot = Player::with(|following| following.stages = vec![Within::Boot]);
    boot.plays(&HEALTHY);
    let boot = boot.ends();
    assert_eq!(
        (boot.names(), boot.end(), boot.ejected),
        (vec!["Boot"], ("Boot", "reached".to_owned()), vec![18])
    );
    for (name, stage) in [("Boot", Some(Within::Boot)), ("Reboot", Some(Within::Reboot)), ("Join", None)] {
        assert_eq!(followed(name), stage);
    }
    let elsewhere =
        PROFILE.replacen("marker = \"partitioned\"", "channel = \"screen\"\nmarker = \"partitioned\"", 1);
    let profile = Profile::from_toml(&elsewhere).expect("a profile");
    let following = Player::new().installation.following;
    let why = Installation::new(&profile, following).err().expect("nobody sees its screen");
    assert!(why.contains("phase partitioned"), "{why}");
}

#[test]
fn what_must_not_be_seen_is_told_and_noise_harms_nobody() {
    let mut player = Player::new();
    player.plays(&up_to(25, &[(21, "the password is hunter2\r\n")]));
    let noise: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    player.hears(22, &noise);
    player.hears(23, b"\x1b[2J\x1b[1;1H\r\n");
    player.plays(&HEALTHY[6..]);
    let came = player.ends();
    let leaks = &came.evidence("Install")["watched"]["leaks"];
    assert_eq!(leaks[0]["secret"], "hunter[0-9]", "{leaks}");
    assert!(!leaks.to_string().contains("hunter2"));
}
