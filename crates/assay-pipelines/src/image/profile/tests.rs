//! Profiles as people write them: what five lines stand for, what a slip of the pen is answered with.

use assay_console::Rung;
use proptest::prelude::*;

use super::{
    Architecture, Bus, Connection, DiskFault, DiskHolds, DiskRole, Ends, Firmware, MediumAs, Profile, Size,
    Span, Within,
};

const FIVE_LINES: &str = r#"name = "my-installer"
[[phase]]
name = "installed"
marker = "Installation complete"
timeout = "20m"
"#;

const REFERENCE: &str = include_str!("../../../../../examples/images/reference.toml");

fn refused(profile: &str) -> String {
    match Profile::from_toml(profile) {
        Err(error) => error.to_string(),
        Ok(read) => panic!("it was read as {read:#?}"),
    }
}

#[test]
fn five_lines_are_a_plain_machine_with_everything_else_as_documented() {
    let profile = Profile::from_toml(FIVE_LINES).expect("five lines");
    let machine = &profile.machine;
    assert_eq!((machine.arch, machine.firmware), (Architecture::X86_64, Firmware::Bios));
    assert_eq!(
        (machine.cpus, machine.memory, machine.tpm, machine.watchdog),
        (2, Size(2 << 30), false, false)
    );
    assert_eq!(machine.clock, None);

    let disks = machine.all_disks();
    let [disk] = disks.as_slice() else { panic!("{disks:?}") };
    assert_eq!((disk.name.as_str(), disk.bus, disk.size), ("disk0", Bus::Virtio, Size(8 << 30)));
    assert_eq!((disk.sector_size, disk.holds, disk.expect), (512, DiskHolds::Blank, DiskRole::Any));

    let nics = machine.all_nics(7);
    let [(mac, nic)] = nics.as_slice() else { panic!("{nics:?}") };
    assert_eq!((nic.model.as_str(), nic.network), ("virtio-net-pci", Connection::Isolated));
    assert_eq!(mac.to_string(), "52:54:00:00:07:00");

    assert_eq!((profile.medium.kind, profile.medium.zero_typing), (MediumAs::Cd, false));
    assert_eq!((profile.boot.rung, profile.boot.timeout), (Rung::Userspace, Span::seconds(180)));
    assert_eq!((profile.install.ends, profile.install.timeout), (Ends::Any, Span::seconds(60)));
    assert_eq!((profile.reboot.rung, profile.reboot.timeout), (Rung::Login, Span::seconds(180)));
    assert_eq!((profile.console.prompt, profile.console.silence), (Span::seconds(20), Span::seconds(120)));
    assert_eq!((profile.phases[0].stage, profile.phases[0].timeout), (Within::Install, Span::seconds(1200)));
    assert_eq!(profile.success_phase().map(|phase| phase.name.as_str()), Some("installed"));
    assert!(profile.identify.is_none() && profile.join.is_none() && profile.calibrated_ms.is_none());
}

#[test]
fn five_lines_are_written_as_five_lines() {
    let profile = Profile::from_toml(FIVE_LINES).expect("five lines");
    let written = profile.to_toml();
    assert_eq!(written.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().len(), 5, "{written}");
    assert_eq!(Profile::from_toml(&written), Ok(profile));
}

#[test]
fn the_reference_s_profile_reads_and_is_written_as_it_reads() {
    let profile = Profile::from_toml(REFERENCE).expect("the example");
    assert_eq!(profile.name, "reference");
    assert_eq!(profile.machine.disks.len(), 4);
    assert_eq!(
        profile.success_phase().map(|phase| phase.name.as_str()),
        Some("installed"),
        "not the last one"
    );
    assert_eq!(Profile::from_toml(&profile.to_toml()), Ok(profile));
}

#[test]
fn what_the_guide_shows_is_read() {
    const GUIDE: &str = include_str!("../../../../../docs/guide/image-profiles.md");
    let blocks: Vec<&str> =
        GUIDE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 8, "{blocks:?}");
    for block in blocks {
        let named = if block.starts_with("name = ") { "" } else { "name = \"x\"\n" };
        let phase = if block.contains("[[phase]]") { "" } else { PHASE };
        let disk = if block.contains("[[machine.disk]]") { "" } else { DISK };
        if let Err(error) = Profile::from_toml(&format!("{named}{block}\n{phase}{disk}")) {
            panic!("{block}\nis refused: {error}");
        }
    }
}

#[test]
fn everything_that_a_profile_can_say_is_written_as_it_reads() {
    let profile = Profile::from_toml(&format!(
        "{}{}",
        r#"name = "all"
description = "One of everything"
until = "Reboot"
calibrated-ms = 900

[machine]
arch = "aarch64"
firmware = "secure-boot"
tpm = true
cpus = 4
memory = "512MiB"
clock = "1970-01-01T00:00:00"
watchdog = true

[[machine.disk]]
name = "A"
size = "1GiB"
sector-size = 4096
speed = "10MiB"
fault = { what = "write-error", at = "1MiB" }

[[machine.disk]]
name = "B"
bus = "sata"
size = "1GiB"
rotational = true
fault = { what = "pulled", after = "installed" }

[[machine.disk]]
name = "C"
size = "1GiB"
fault = { what = "read-error", at = "1MiB" }

[[machine.nic]]
mac = "52:54:00:aa:bb:cc"
model = "e1000e"
network = "none"
delay-ms = 200

[medium]
as = "usb"
size = "4GiB"
flash = ["./flash", "{iso}", "{stick}", "{files}"]

[[medium.file]]
path = "/key"
from = "key"
secret = true

[inspect]
boots = ["bios", "uefi"]

[boot]
rung = "login"

[reboot]
rung = "userspace"

[power-cut]
after = "partitioned"
before = "installed"
within = "10s"
refuses = ["REFUSED"]
changes = ["^/var/log/"]
old = "Welcome to the old one"

[console]
fail = ["^no$"]
allow = ["FailedUnit"]
prompt = "1m"
silence = "1h 1m 1s"
secrets = ["BEGIN OPENSSH"]
"#,
        r#"
[[phase]]
name = "partitioned"
marker = "table"
timeout = "1m"

[[phase]]
name = "installed"
marker = "done"
timeout = "20m"
channel = "progress"
reply = [{ on = "sure\\?", text = "yes\n" }, { on = "really\\?", keys = ["y", "ret"] }]

[identify]
hostname = "node-.*"
machines = 3
stable-on-repair = true

[join]
by = "http"
schema = "node.schema.json"
expect = "refused"
fault = [{ on = "register", what = "500", times = 2 }]
"#
    ))
    .expect("one of everything");
    let pulled = Some(DiskFault::Pulled { after: "installed".into() });
    assert_eq!(profile.machine.disks[1].fault, pulled);
    assert_eq!(Profile::from_toml(&profile.to_toml()), Ok(profile));
}

#[test]
fn a_slip_of_the_pen_is_answered_with_the_place_and_the_nearest_word() {
    let rows = [
        ("nmae = \"x\"\n", "nmae = \"x\"", "did you mean `name`?"),
        ("name = \"x\"\n[machine]\nmemroy = \"1GiB\"\n", "memroy", "did you mean `memory`?"),
        ("name = \"x\"\n[machine]\nfirmware = \"uefy\"\n", "firmware = \"uefy\"", "did you mean `uefi`?"),
        (
            "name = \"x\"\n[install]\nends = \"poweroff\"\n",
            "ends = \"poweroff\"",
            "did you mean `power-off`?",
        ),
        ("name = \"x\"\n[medium]\nas = \"ubs\"\n", "as = \"ubs\"", "did you mean `usb`?"),
        ("name = \"x\"\n[boot]\nrung = \"logni\"\n", "rung = \"logni\"", "did you mean `login`?"),
        ("name = \"x\"\nuntil = \"Instal\"\n", "until = \"Instal\"", "did you mean `Install`?"),
    ];
    for (profile, place, hint) in rows {
        let said = refused(profile);
        assert!(said.contains(place) && said.contains(hint), "{profile}: {said}");
    }
}

#[test]
fn a_word_that_is_near_nothing_is_answered_with_what_there_is() {
    let said = refused("name = \"x\"\nuntil = \"The-end-of-it-all\"\n");
    assert!(said.contains("stages: Prepare, Inspect, Boot, Install, Reboot, Identify, Join"), "{said}");
    assert!(!said.contains("did you mean"), "{said}");
    let said = refused("name = \"x\"\n[machine]\nmemory = \"2 gigs\"\n");
    assert!(said.contains("`2 gigs` is not a size such as \"512MiB\" or \"8GiB\""), "{said}");
}

/// A profile with a phase, and this in front of it or behind it.
const PHASE: &str = "[[phase]]\nname = \"installed\"\nmarker = \"done\"\ntimeout = \"1m\"\n";

const DISK: &str = "[[machine.disk]]\nname = \"D\"\nsize = \"1GiB\"\nexpect = \"boot\"\n";

fn around(before: &str, after: &str) -> String {
    format!("name = \"x\"\n{before}\n{PHASE}{after}")
}

#[test]
fn each_rule_refuses_and_names_the_place() {
    let disk = |fields: &str| {
        let named = if fields.contains("name =") { "" } else { "name = \"D\"\n" };
        let sized = if fields.contains("size = \"") { "" } else { "size = \"1GiB\"\n" };
        around("", &format!("[[machine.disk]]\n{named}{sized}{fields}\n"))
    };
    let file = |fields: &str| around(&format!("[medium]\nas = \"usb\"\n[[medium.file]]\n{fields}\n"), "");
    let phase = |fields: &str| around("", &format!("[[phase]]\n{fields}\n"));
    let rows: Vec<(String, &str)> = vec![
        ("name = \"my installer\"\n".into(), "name = \"my installer\": letters, digits"),
        (format!("name = \"{}\"\n", "n".repeat(65)), "at most 64"),
        ("name = \"\"\n".into(), "name = \"\""),
        (around("[machine]\ncpus = 0", ""), "machine.cpus = 0: 1 to 64"),
        (around("[machine]\ncpus = 65", ""), "machine.cpus = 65: 1 to 64"),
        (around("[machine]\nmemory = \"63MiB\"", ""), "machine.memory = \"63MiB\": at least 64MiB"),
        (around("", &"[[machine.nic]]\n".repeat(17)), "more than 16 disks or network ports"),
        (around("", "[[machine.nic]]\ndelay-ms = 0"), "machine.nic: delay-ms = 0: 1 to 10000"),
        (
            around("[install]\nexpect = \"refused\"", ""),
            "install.expect = \"refused\": name the line by which it refuses",
        ),
        (
            around(
                "[install]\nexpect = \"refused\"\n[console]\nfail = ['no']\n[power-cut]\nbefore = \"installed\"",
                "",
            ),
            "[power-cut] cuts an installation that is to succeed",
        ),
        (around("[machine]\nclock = \"1970\"", ""), "machine.clock = \"1970\": a time such as"),
        (around("[machine]\narch = \"aarch64\"", ""), "machine.firmware: an aarch64 machine has no BIOS"),
        (disk("name = \"a b\""), "machine.disk \"a b\": a disk's name is its serial number"),
        (disk("name = \"\""), "machine.disk \"\": a disk's name"),
        (disk("name = \"A23456789-B23456789-C\""), "at most 20"),
        (
            disk("name = \"D\"\nsize = \"1GiB\"\n[[machine.disk]]\nname = \"D\"\nsize = \"1GiB\""),
            "machine.disk \"D\": two disks",
        ),
        (disk("sector-size = 520"), "machine.disk \"D\": sector-size = 520: 512 or 4096"),
        (disk("size = \"0B\""), "machine.disk \"D\": size = \"0B\": a multiple of 4KiB"),
        (disk("size = \"1025KiB\""), "size = \"1025KiB\": a multiple of 4KiB"),
        (disk("rotational = true\nbus = \"nvme\""), "machine.disk \"D\": only a SATA or SCSI disk"),
        (disk("read-only = true\nbus = \"sata\""), "machine.disk \"D\": QEMU has no read-only SATA disk"),
        (disk("read-only = true\nexpect = \"data\""), "nothing can be installed onto a read-only disk"),
        (around("[medium]\nflash = [\"dd\"]", ""), "medium: files are staged onto a stick, not onto a CD"),
        (around("[[medium.file]]\npath = \"/a\"\ncontent = \"b\"", ""), "set as = \"usb\""),
        (file("path = \"a\"\ncontent = \"b\""), "medium.file \"a\": a path from the partition's root"),
        (file("path = \"/../a\"\ncontent = \"b\""), "medium.file \"/../a\": a path from"),
        (file("path = \"/a\""), "medium.file \"/a\": either `content` or `from`"),
        (file("path = \"/a\"\ncontent = \"b\"\nfrom = \"b\""), "either `content` or `from`"),
        (file("path = \"/a\"\ncontent = \"hunter2\"\nsecret = true"), "a secret does not stand in a profile"),
        (
            around("[medium]\nzero-typing = true", "reply = [{ on = \"sure\", keys = [\"y\"] }]"),
            "medium.zero-typing: phases have replies",
        ),
        (around("[install]\nsuccess = \"done\"", ""), "install.success = \"done\": there is no such phase"),
        (phase("name = \"a b\"\nmarker = \"m\"\ntimeout = \"1m\""), "phase \"a b\": letters, digits"),
        (phase("name = \"installed\"\nmarker = \"m\"\ntimeout = \"1m\""), "phase \"installed\": two phases"),
        (
            phase("name = \"up\"\nmarker = \"m\"\ntimeout = \"1m\"\nstage = \"boot\""),
            "phase \"up\": it comes after a phase of a later stage",
        ),
        (phase("name = \"a\"\nmarker = \"m\"\ntimeout = \"0s\""), "phase \"a\": timeout = \"0s\""),
        (
            phase("name = \"a\"\nmarker = \"m\"\ntimeout = \"1m\"\nreply = [{ on = \"sure\" }]"),
            "phase \"a\", reply on \"sure\": either `text` or `keys`",
        ),
        (
            around("", "[identify]\nhostname = \"n\"\nbanner = 'Welcome to (?P<name>\\S+)'"),
            "identify.banner: the group that is the name must be called `host`",
        ),
        (
            around("", "[identify]\nhostname = \"n\"\nannounced = 'generated: \\S+'"),
            "identify.announced: the group that is the name must be called `host`",
        ),
    ];
    for (profile, wanted) in rows {
        let said = refused(&profile);
        assert!(said.contains(wanted), "{profile}\nwas refused with {said}\nand not with {wanted}");
    }
}

#[test]
fn each_regular_expression_is_read_where_it_stands() {
    let file = "[medium]\nas = \"usb\"\n[[medium.file]]\npath = \"/a\"\ncontent = \"b\"\nread = '('";
    let rows = [
        ("[[phase]]\nname = \"p\"\ntimeout = \"1m\"\nmarker = '('", "phase \"p\": marker"),
        ("[[phase]]\nname = \"p\"\ntimeout = \"1m\"\nmarker = 'm'\nfail = ['ok', '(']", "phase \"p\": fail"),
        (
            "[[phase]]\nname = \"p\"\ntimeout = \"1m\"\nmarker = 'm'\nreply = [{ on = '(', text = 'y' }]",
            "phase \"p\": reply",
        ),
        ("[console]\nfail = ['(']", "console.fail"),
        ("[console]\nsecrets = ['(']", "console.secrets"),
        ("[inspect]\nvolume-id = '('", "inspect.volume-id"),
        (file, "medium.file \"/a\": read"),
        ("[identify]\nhostname = '('", "identify.hostname"),
        ("[identify]\nhostname = 'n'\nbanner = '(?P<host>('", "identify.banner"),
        ("[identify]\nhostname = 'n'\nannounced = '(?P<host>('", "identify.announced"),
    ];
    for (profile, place) in rows {
        let said = refused(&around(profile, ""));
        assert!(said.starts_with(&format!("{place}: not a regular expression")), "{profile}: {said}");
    }
}

#[test]
fn a_secret_may_be_the_stand_in_s_token_or_come_from_a_file() {
    for content in ["content = \"{token}\\n\"", "from = \"token\""] {
        let medium =
            format!("[medium]\nas = \"usb\"\n[[medium.file]]\npath = \"/t\"\nsecret = true\n{content}");
        Profile::from_toml(&around(&medium, "")).expect(content);
    }
}

#[test]
fn a_profile_that_is_no_profile_is_not_read_to_its_end() {
    let said = refused(&format!("name = \"x\"\n# {}", "x".repeat(1 << 20)));
    assert!(said.contains("at most 1048576 are read"), "{said}");
}

#[test]
fn machines_of_different_seeds_and_their_ports_have_different_addresses() {
    let machine = Profile::from_toml(&around("", &"[[machine.nic]]\n".repeat(16))).expect("ports").machine;
    let addresses = |seed| machine.all_nics(seed).into_iter().map(|(mac, _)| mac).collect::<Vec<_>>();
    let all: std::collections::BTreeSet<_> =
        [0, 1, 256, 1 << 24, u32::MAX].into_iter().flat_map(addresses).collect();
    assert_eq!(all.len(), 5 * 16);
    assert!(all.iter().all(|mac| mac.0[0] & 3 == 2), "locally administered, one machine's: {all:?}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = Profile::from_toml(&text);
    }

    #[test]
    fn any_word_in_place_of_any_value_is_read_or_refused_in_words(
        line in any::<prop::sample::Index>(), value in "\\PC{0,40}",
    ) {
        let lines: Vec<&str> = REFERENCE.lines().filter(|line| line.contains(" = ")).collect();
        let line = line.get(&lines);
        let (key, _) = line.split_once(" = ").expect("a key and its value");
        let bent = REFERENCE.replacen(line, &format!("{key} = {value:?}"), 1);
        if let Err(error) = Profile::from_toml(&bent) {
            prop_assert!(error.to_string().len() > 10, "{}", error);
        }
    }
}
