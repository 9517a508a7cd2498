//! The catalogue and the ladder against consoles: what must be seen in them, and what must not. See `corpus/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use assay_console::catalogue::{self, CATALOGUE_VERSION};
use assay_console::{Console, Rung, Sighting, Watch, What};
use regex::bytes::RegexBuilder;

struct Section {
    title: String,
    codes: BTreeSet<String>,
    rungs: Vec<String>,
    bytes: Vec<u8>,
    lines: Vec<String>,
}

fn sections(file: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in file.lines() {
        if let Some(head) = line.strip_prefix("==> ") {
            let mut parts = head.split('|').map(str::trim);
            let codes = parts.next().unwrap_or_default().split(' ').filter(|code| *code != "none");
            sections.push(Section {
                codes: codes.map(str::to_owned).collect(),
                title: parts.next().expect("a title").to_owned(),
                rungs: parts.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
                bytes: Vec::new(),
                lines: Vec::new(),
            });
            continue;
        }
        let section = sections.last_mut().expect("a section begins with ==>");
        let (line, end) = line.strip_suffix("\\c").map_or((line, "\r\n"), |open| (open, ""));
        let raw = line.replace("\\e", "\x1b").replace("\\b", "\x08");
        section.bytes.extend_from_slice(raw.as_bytes());
        section.bytes.extend_from_slice(end.as_bytes());
        section.lines.push(line.to_owned());
    }
    sections
}

/// What a console shows: whole, and byte by byte.
fn sightings(section: &Section) -> Vec<Sighting> {
    let second = Duration::from_secs(1);
    let read = |chunk: usize| {
        let mut console = Console::new(Watch::default());
        let mut seen: Vec<Sighting> =
            section.bytes.chunks(chunk).flat_map(|bytes| console.push(second, bytes)).collect();
        seen.extend(console.tick(second * 10));
        seen
    };
    let whole = read(usize::MAX);
    let kinds = |seen: &[Sighting]| seen.iter().map(|sighting| sighting.what.clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&whole), kinds(&read(1)), "{}: the cuts make no difference", section.title);
    whole
}

fn codes(seen: &[Sighting]) -> BTreeSet<String> {
    let code = |sighting: &Sighting| match &sighting.what {
        What::Failure { code, .. } => Some(code.clone()),
        _ => None,
    };
    seen.iter().filter_map(code).collect()
}

const FAILURES: [&str; 3] = [
    include_str!("../corpus/firmware.txt"),
    include_str!("../corpus/kernel.txt"),
    include_str!("../corpus/programs.txt"),
];

#[test]
fn failures_are_seen_and_nothing_else() {
    for section in FAILURES.into_iter().flat_map(sections) {
        assert!(!section.codes.is_empty(), "{}: a failure", section.title);
        let seen = sightings(&section);
        assert_eq!(codes(&seen), section.codes, "{}\n{seen:#?}", section.title);
    }
}

#[test]
fn traps_are_not_failures() {
    let traps = sections(include_str!("../corpus/traps.txt"));
    assert!(traps.len() >= 25, "{} traps", traps.len());
    for section in traps {
        let seen = codes(&sightings(&section));
        assert!(seen.is_empty(), "{}: {seen:?}", section.title);
    }
}

#[test]
fn boots_climb_the_ladder_without_a_failure() {
    for section in sections(include_str!("../corpus/boots.txt")) {
        let seen = sightings(&section);
        assert_eq!(codes(&seen), BTreeSet::new(), "{}", section.title);
        let rungs: Vec<String> = seen
            .iter()
            .filter_map(|sighting| match sighting.what {
                What::Rung { rung, .. } => {
                    Some(serde_json::to_value(rung).unwrap().as_str().unwrap().to_owned())
                }
                _ => None,
            })
            .collect();
        assert_eq!(rungs, section.rungs, "{}\n{seen:#?}", section.title);
    }
    assert!(Rung::Firmware < Rung::Bootloader && Rung::Userspace < Rung::Login);
}

/// Every expression of every pattern has a line in a section that expects its code.
#[test]
fn every_expression_has_a_console() {
    let sections: Vec<Section> = FAILURES.into_iter().flat_map(sections).collect();
    let escapes = regex::Regex::new(r"\\e(?:\[[0-9;:?=]*[A-Za-z]|c)|\\b").unwrap();
    let stamp = regex::Regex::new(r"^.*?(?:<[0-9]>)?\[ *[0-9]+\.[0-9]{6}\](?:\[ *[TC][0-9]+\])? ").unwrap();
    let mut missing = Vec::new();
    for pattern in catalogue::patterns() {
        for expression in pattern.regexes {
            let regex = RegexBuilder::new(expression).unicode(false).build().unwrap();
            let shows = |section: &&Section| {
                section.lines.iter().any(|line| {
                    let plain = escapes.replace_all(line, "");
                    let message = stamp.replace(&plain, "");
                    regex.is_match(message.trim().as_bytes())
                        || message.contains("No bootable device.")
                            && expression.contains("No bootable device")
                })
            };
            if !sections
                .iter()
                .filter(|section| section.codes.contains(pattern.code))
                .any(|section| shows(&section))
            {
                missing.push(format!("{}: {expression}", pattern.code));
            }
        }
    }
    assert!(missing.is_empty(), "no console in corpus/ shows:\n{}", missing.join("\n"));
}

/// Codes are a contract: a change here needs a new version of the catalogue.
#[test]
fn codes_are_stable() {
    let mut seen = BTreeMap::new();
    for pattern in catalogue::patterns() {
        assert!(pattern.code.starts_with(|c: char| c.is_ascii_uppercase()), "{}", pattern.code);
        assert!(pattern.code.chars().all(|c| c.is_ascii_alphanumeric()), "{}", pattern.code);
        assert!(!pattern.meaning.is_empty() && !pattern.next_step.is_empty() && !pattern.origin.is_empty());
        assert!(seen.insert(pattern.code, pattern.severity).is_none(), "{} twice", pattern.code);
    }
    let list: Vec<String> = seen.iter().map(|(code, severity)| format!("{code} {severity:?}")).collect();
    insta::assert_snapshot!(format!("version {CATALOGUE_VERSION}\n{}", list.join("\n")));
}
