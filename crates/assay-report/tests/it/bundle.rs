//! Bundles as a stranger meets them: whole, and altered in every way we could think of.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{self, Story};
use assay_model::journal::StoredEvent;
use assay_model::{DecisionKind, EventBody, Micros, RunResult, Sha256};
use assay_report::bundle::{Outcome, WriteError};
use assay_report::{
    Bundle, Extras, PublicKey, SigningKey, Verification, verify_bundle, write_bundle, write_folder,
};
use proptest::prelude::*;

/// A bundle folder that is thrown away with the test.
struct Exported {
    _scratch: tempfile::TempDir,
    folder: PathBuf,
}

impl Exported {
    fn of(story: &Story, key: &SigningKey) -> Self {
        let extras = common::extras(story);
        Self::with(&story.bundle(&extras), &story.blobs, key)
    }

    fn with(bundle: &Bundle<'_>, blobs: &BTreeMap<Sha256, Vec<u8>>, key: &SigningKey) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let folder = scratch.path().join("bundle");
        write_folder(bundle, &mut |d| Ok(blobs.get(d).cloned()), key, &folder).expect("written");
        Self { _scratch: scratch, folder }
    }

    fn verify(&self, trusted: &[PublicKey]) -> Verification {
        verify_bundle(&self.folder, trusted).expect("readable")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Every file, by name.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut out = BTreeMap::new();
        for folder in [self.folder.clone(), self.path("artifacts")] {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_file() {
                    let name = path.strip_prefix(&self.folder).expect("inside").display().to_string();
                    out.insert(name, fs::read(&path).expect("a file"));
                }
            }
        }
        out
    }

    /// Rewrites the journal through `change`, as someone without the signing key could.
    fn rewrite(&self, change: impl FnOnce(&mut Vec<StoredEvent>)) {
        let text = fs::read_to_string(self.path("journal.jsonl")).expect("text");
        let mut events = text.lines().map(|l| serde_json::from_str(l).expect("an event")).collect();
        change(&mut events);
        let lines: Vec<_> = events.iter().map(|e| serde_json::to_string(e).expect("JSON") + "\n").collect();
        fs::write(self.path("journal.jsonl"), lines.concat()).expect("written");
    }
}

/// What is wrong, one line each, without digests.
fn bad(verification: &Verification) -> String {
    assert!(!verification.ok && verification.verdict.is_none() && verification.result.is_none());
    let lines: Vec<_> = verification.bad().map(|c| shorten(&format!("{}: {}", c.what, c.detail))).collect();
    lines.join("\n")
}

/// Digests and ids become `…`.
fn shorten(text: &str) -> String {
    let mut out = String::new();
    let mut hex = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_hexdigit() {
            hex.push(c);
            continue;
        }
        out.push_str(if hex.len() >= 60 { "…" } else { &hex });
        hex.clear();
        out.push(c);
    }
    out.trim_end().to_owned()
}

fn key() -> SigningKey {
    SigningKey::generate().expect("random")
}

#[test]
fn a_whole_bundle_verifies_and_says_what_its_key_proves() {
    let key = key();
    let story = common::passed(&key);
    let exported = Exported::of(&story, &key);
    let trusted = exported.verify(&[key.public()]);
    insta::assert_snapshot!(shorten(&trusted.to_string()), @r#"
    ok    key           only signatures by the key you gave are accepted: …
    ok    bundle.json   signed by key …, names 13 files
    ok    files         all 13 files are as they were when the bundle was signed, report.html included
    ok    chain         27 events, head …
    ok    seal          PASSED, signed by key … over head …
    ok    artifacts     7 of 7 files match their digests, 0 missing
    ok    addendum      empty
    ok    report.json   says what the journal says
    VERIFIED: run 41 of pve-07: PASS. Every required stage passed.
    "#);
    assert!(trusted.ok && trusted.key_trusted && trusted.result == Some(RunResult::Pass));
    assert_eq!(trusted.key_id, Some(key.key_id()));

    let alone = exported.verify(&[]);
    assert!(alone.ok && !alone.key_trusted);
    let note = alone.checks.iter().find(|c| c.what == "key").expect("a word about the key");
    assert_eq!(note.outcome, Outcome::Note);
    assert!(note.detail.contains("not who that is") && note.detail.contains(&key.key_id()));
}

#[test]
fn every_ending_has_its_word() {
    let key = key();
    for (story, word) in [
        (
            common::overridden(&key),
            "run 42 of pve-07: PASS – OVERRIDDEN. An operator accepted the failure of SpecValidate; it was not repaired.",
        ),
        (
            common::cancelled(&key),
            "run 44 of pve-07: NO RESULT – CANCELLED. An operator stopped the run. It says nothing for the machine.",
        ),
        (
            common::muted(&key),
            "run 45 of pve-07: PASS – CHECKS MUTED (quick profile only). Checks were switched off, so this run can never admit the machine.",
        ),
    ] {
        assert_eq!(Exported::of(&story, &key).verify(&[key.public()]).verdict.as_deref(), Some(word));
    }
    let held = Exported::of(&common::held(), &key).verify(&[key.public()]);
    assert!(held.interim);
    insta::assert_snapshot!(bad(&held), @r#"
    seal: the journal ends at event 14 (Held) without a seal: the run was not finished when it was exported, or the journal was cut
    "#);
}

#[test]
fn a_tar_is_the_same_bundle_and_the_same_bytes_each_time() {
    let key = key();
    let story = common::passed(&key);
    let extras = common::extras(&story);
    let tar = || {
        let mut out = Vec::new();
        write_bundle(&story.bundle(&extras), &mut |d| Ok(story.blobs.get(d).cloned()), &key, &mut out)
            .expect("written");
        out
    };
    let bytes = tar();
    assert_eq!(bytes, tar());
    let scratch = tempfile::tempdir().expect("scratch");
    let path = scratch.path().join("run.tar");
    fs::write(&path, &bytes).expect("written");
    let verification = verify_bundle(&path, &[key.public()]).expect("readable");
    assert!(verification.ok, "{verification}");
    assert_eq!(verification.checks, Exported::of(&story, &key).verify(&[key.public()]).checks);

    for cut in [0, 1, 511, 512, 700, bytes.len() / 2, bytes.len() - 4000] {
        fs::write(&path, &bytes[..cut]).expect("written");
        assert!(!verify_bundle(&path, &[key.public()]).expect("readable").ok, "cut to {cut} bytes");
    }
}

#[test]
fn an_altered_byte_of_any_file_is_found_and_its_file_named() {
    // Bytes all over each file; the test below tries them all.
    flip(|len| (len / 25).max(1));
}

#[test]
#[ignore = "every byte of every file but the page takes minutes: run it when the formats change"]
fn every_altered_byte_of_every_file_is_found_and_its_file_named() {
    flip(|len| if len > 6000 { 97 } else { 1 });
}

/// Alters one bit at a time, in bytes that are `step(length)` apart, in every file of a bundle.
fn flip(step: impl Fn(usize) -> usize) {
    let key = key();
    let mut story = Story::begin(47, |_| {});
    story.boot().stage(0, 1, 2, common::good("fine", "parts read", 3)).artifact(
        "Inventory",
        "inventory.json",
        "{}",
    );
    story
        .decide(DecisionKind::Cancel, "enough")
        .add(1, EventBody::CancelConfirmed { how: "off".into() })
        .seal(&key);
    let addendum =
        [StoredEvent::chain(story.id, 1, Micros(5), "Comment@1".into(), b"\"late\"".to_vec(), story.head())];
    let extras = Extras { events: story.events(), ..Extras::default() };
    let bundle = Bundle { addendum: &addendum, ..story.bundle(&extras) };
    let exported = Exported::with(&bundle, &story.blobs, &key);
    let trusted = [key.public()];
    assert!(exported.verify(&trusted).ok);
    let files = exported.files();
    assert_eq!(files.len(), 9, "{:?}", files.keys());
    for (name, whole) in &files {
        for at in (0..whole.len()).step_by(step(whole.len())) {
            let mut altered = whole.clone();
            altered[at] ^= 1 << (at % 8);
            fs::write(exported.path(name), &altered).expect("written");
            let found = exported.verify(&trusted);
            let named = found.bad().any(|c| c.what.contains(name) || c.detail.contains(name));
            assert!(!found.ok && named, "byte {at} of {name}:\n{found}");
        }
        fs::write(exported.path(name), whole).expect("written");
    }
    assert!(exported.verify(&trusted).ok, "restored");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_altered_byte_of_a_tar_is_found_or_changes_no_file(place in 0.0_f64..1.0, bit in 0_u8..8) {
        let key = key();
        let story = common::cancelled(&key);
        let extras = Extras::default();
        let mut bytes = Vec::new();
        write_bundle(&story.bundle(&extras), &mut |d| Ok(story.blobs.get(d).cloned()), &key, &mut bytes).expect("written");
        let whole = contents(&bytes);
        let at = ((bytes.len() - 1) as f64 * place) as usize;
        bytes[at] ^= 1 << bit;
        let scratch = tempfile::tempdir().expect("scratch");
        let path = scratch.path().join("run.tar");
        fs::write(&path, &bytes).expect("written");
        let found = verify_bundle(&path, &[key.public()]).expect("readable");
        prop_assert!(!found.ok || contents(&bytes) == whole, "byte {at}: {found}");
    }
}

fn contents(tar: &[u8]) -> Vec<Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let Ok(entries) = archive.entries() else { return Vec::new() };
    entries
        .map_while(Result::ok)
        .map(|mut e| {
            let mut bytes = e.path_bytes().into_owned();
            std::io::Read::read_to_end(&mut e, &mut bytes).map_or_else(|_| Vec::new(), |_| bytes)
        })
        .collect()
}

#[test]
fn each_kind_of_forgery_is_named() {
    let key = key();
    let story = common::passed(&key);
    let trusted = [key.public()];
    let seq =
        story.events().iter().position(|e| matches!(e.body, EventBody::StageJudged { .. })).expect("judged");
    let smart = Sha256::of(b"SMART overall-health: PASSED\n");
    let try_it = |change: &dyn Fn(&Exported)| {
        let exported = Exported::of(&story, &key);
        change(&exported);
        bad(&exported.verify(&trusted))
    };

    insta::assert_snapshot!(try_it(&|e| e.rewrite(|j| {
        let text = String::from_utf8(j[seq].body.clone()).expect("text").replace("2 processors", "8 processors");
        j[seq].body = text.into_bytes();
    })), @r#"
    journal.jsonl: journal.jsonl was altered after the export: its digest is …, signed was …
    chain: event 9 (StageJudged) was altered: its bytes do not match its hash
    report.json: says something else than the journal, in `stages`
    "#);
    insta::assert_snapshot!(try_it(&|e| {
        fs::write(e.path(&format!("artifacts/{smart}")), "SMART overall-health: FAILED\n").expect("written");
    }), @r#"
    artifacts/…: artifacts/… was altered after the export: its digest is …, signed was …
    artifact smart-NV1.txt: artifacts/… was altered: its bytes have digest …
    "#);
    insta::assert_snapshot!(try_it(&|e| fs::remove_file(e.path(&format!("artifacts/{smart}"))).expect("removed")), @r#"
    artifacts/…: artifacts/… is missing: it was in the bundle when it was signed
    artifact smart-NV1.txt: artifacts/… is missing: it was in the bundle when it was signed
    "#);
    insta::assert_snapshot!(try_it(&|e| e.rewrite(|j| { j.pop(); })), @r#"
    journal.jsonl: journal.jsonl was altered after the export: its digest is …, signed was …
    seal: the journal ends at event 26 (RunCompleted) without a seal: the run was not finished when it was exported, or the journal was cut
    report.json: says something else than the journal, in `seal`
    "#);
    insta::assert_snapshot!(try_it(&|e| e.rewrite(|j| {
        let last = j.last().expect("an event").clone();
        let (kind, body) = EventBody::AgentReturned.encode();
        j.push(StoredEvent::chain(story.id, last.seq + 1, last.at, kind, body, last.hash));
    })), @r#"
    journal.jsonl: journal.jsonl was altered after the export: its digest is …, signed was …
    journal.jsonl: event 28 cannot have happened: a run that is Completed cannot take `AgentReturned`: its verdict is sealed; later news go to the addendum
    seal: event 28 (AgentReturned) stands after the seal (event 27): it was appended
    "#);
    insta::assert_snapshot!(try_it(&|e| {
        let other = Exported::of(&common::overridden(&key), &key);
        fs::copy(other.path("journal.jsonl"), e.path("journal.jsonl")).expect("copied");
    }), @r#"
    journal.jsonl: journal.jsonl was altered after the export: its digest is …, signed was …
    chain: event 1 does not belong to run 01955555-0000-7000-8000-000000000029: it was altered, or the journal is another run's
    run.json: it names run 41, the journal is of run 42
    seal: the signed statement and the journal differ in /predicate/assay
    artifacts: artifacts/… is named by no event of the journal
    artifacts: artifacts/… is named by no event of the journal
    artifacts: artifacts/… is named by no event of the journal
    report.json: says something else than the journal, in `run`
    "#);
    insta::assert_snapshot!(try_it(&|e| fs::write(e.path("report-final.html"), "PASS").expect("written")), @r#"
    report-final.html: report-final.html was added after the export: the manifest does not name it
    "#);
}

#[test]
fn a_run_sealed_again_by_a_stranger_verifies_only_for_those_who_trust_the_stranger() {
    let (key, stranger) = (key(), key());
    let forged = common::passed(&stranger);
    let exported = Exported::of(&forged, &stranger);
    assert!(exported.verify(&[]).ok, "whole in itself: that is why the key matters");
    insta::assert_snapshot!(bad(&exported.verify(&[key.public()])), @r#"
    bundle.json: it is signed by key …, which is not among the accepted keys (…); get the signer's public key from a source you trust
    seal: it is signed by key …, which is not among the accepted keys (…); get the signer's public key from a source you trust
    "#);

    // The honest seal exported by a stranger: the verdict holds, the pages do not.
    let honest = common::passed(&key);
    let found = Exported::of(&honest, &stranger).verify(&[key.public()]);
    assert!(!found.ok && found.bad().any(|c| c.what == "bundle.json"));
}

#[test]
fn a_rechained_journal_with_a_better_verdict_does_not_pass() {
    let key = key();
    let honest = common::overridden(&key);
    // Everything rehashed, the honest seal at the end, the manifest of a stranger's key.
    let mut forged = common::passed(&key);
    let seal = honest.journal.last().expect("a seal").clone();
    forged.journal.pop();
    let last = forged.journal.last().expect("an event").clone();
    forged.journal.push(StoredEvent::chain(
        forged.id,
        last.seq + 1,
        seal.at,
        seal.kind,
        seal.body,
        last.hash,
    ));
    let found = Exported::of(&forged, &key).verify(&[key.public()]);
    insta::assert_snapshot!(bad(&found), @r#"
    seal: it names head …, the event before it has …; it says pass, overridden, the journal says pass; the signed statement and the journal differ in /subject, /predicate/result, /predicate/passedTests, /predicate/warnedTests, /predicate/assay
    "#);
}

#[test]
fn what_was_pruned_before_the_export_is_missing_and_not_altered() {
    let key = key();
    let story = common::passed(&key);
    let smart = Sha256::of(b"SMART overall-health: PASSED\n");
    let mut blobs = story.blobs.clone();
    blobs.remove(&smart);
    let extras = common::extras(&story);
    let found = Exported::with(&story.bundle(&extras), &blobs, &key).verify(&[key.public()]);
    assert!(found.ok, "{found}");
    let note = found.checks.iter().find(|c| c.what == "artifact smart-NV1.txt").expect("named");
    assert_eq!(note.outcome, Outcome::Note);
    assert!(note.detail.contains("is missing"), "{}", note.detail);

    blobs.insert(smart, b"rotten".to_vec());
    let scratch = tempfile::tempdir().expect("scratch");
    let folder = scratch.path().join("b");
    let refused = write_folder(&story.bundle(&extras), &mut |d| Ok(blobs.get(d).cloned()), &key, &folder);
    assert!(matches!(refused, Err(WriteError::Corrupt { expected, .. }) if expected == smart));
}

#[test]
fn a_changed_key_still_verifies_what_the_old_one_sealed() {
    let (old, new) = (key(), key());
    let story = common::passed(&old);
    let extras = common::extras(&story);
    let others = [old.public()];
    let bundle = Bundle { other_keys: &others, ..story.bundle(&extras) };
    let exported = Exported::with(&bundle, &story.blobs, &new);
    assert!(exported.verify(&[]).ok);
    assert!(exported.verify(&[new.public(), old.public()]).ok);
    assert!(!exported.verify(&[new.public()]).ok, "the verdict is the old key's");
}

#[test]
fn the_addendum_is_chained_to_the_seal() {
    let key = key();
    let story = common::passed(&key);
    let extras = common::extras(&story);
    let comment = |before| {
        [StoredEvent::chain(story.id, 1, Micros(9), "Comment@1".into(), b"\"seen\"".to_vec(), before)]
    };
    let (good, loose) = (comment(story.head()), comment(Sha256::ZERO));
    let verify = |addendum: &[StoredEvent]| {
        Exported::with(&Bundle { addendum, ..story.bundle(&extras) }, &story.blobs, &key)
            .verify(&[key.public()])
    };
    assert!(verify(&good).ok);
    insta::assert_snapshot!(bad(&verify(&loose)), @r#"
    addendum: addendum.jsonl: event 1 does not follow the event before it: one of the two was altered
    "#);
}

#[test]
fn a_path_that_is_no_bundle_is_said_to_be_none() {
    let scratch = tempfile::tempdir().expect("scratch");
    assert!(verify_bundle(&scratch.path().join("nowhere"), &[]).is_err());
    assert!(!verify_bundle(scratch.path(), &[]).expect("readable").ok, "an empty folder");
    let linked = Exported::of(&common::passed(&key()), &key());
    let target = linked.path("run.json");
    fs::rename(&target, scratch.path().join("elsewhere")).expect("moved");
    std::os::unix::fs::symlink(Path::new("/etc/hostname"), &target).expect("linked");
    assert!(bad(&linked.verify(&[])).contains("run.json is a link"));
}
