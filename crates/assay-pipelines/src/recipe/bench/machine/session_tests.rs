//! A machine that is played: how it is listened to, and what becomes of one that says what it should not.

use std::path::Path;
use std::sync::Mutex;

use assay_recipe::customise::{Customisation, Manifest, Redactor};
use assay_recipe::settings::Settings;
use serde_json::json;

use super::*;
use crate::recipe::bench::machine::wire::LONGEST_PIECE;
use crate::recipe::bench::{RecipeBenchSettings, Warm};
use crate::recipe::{Asked, Isolation};

fn spec() -> RecipeSpec {
    RecipeSpec {
        name: "shop".to_owned(),
        folder: "/var/lib/assay/inputs/recipe".into(),
        commit: None,
        source: None,
        tests: None,
        settings: Settings::default(),
        manifest: Manifest::of(&Customisation::default(), &Redactor::default()),
        asked: Asked::default(),
        isolation: Isolation::Machine,
        stages: vec!["Lint".to_owned()],
        seed: 7,
        invocation: Vec::new(),
        harness: None,
    }
}

/// A session with a machine that a test plays.
fn session() -> (Session, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (from, to) = ours.into_split();
    let beside = RecipeBenchSettings {
        folder: PathBuf::new(),
        images: Vec::new(),
        cache: None,
        warm: Warm::default(),
        shared_swarm: None,
        outside: None,
    };
    let shelf = Shelf::new(&spec(), &beside, Path::new("/nowhere"), 1 << 20).unwrap();
    let session = Session {
        guest: None,
        console: GuestConsole::default(),
        booted: true,
        from,
        to,
        spec: spec(),
        shelf,
        asked_for: 0,
        folder: "/nowhere".into(),
        how: "played",
        silence: SILENCE,
    };
    (session, theirs)
}

/// What comes of a stage in a machine that hears what it is asked and then says this; and the words that people are told.
async fn collected(says: Vec<Vec<u8>>) -> (Result<Brought, Broken>, Vec<String>) {
    let (mut session, mut machine) = session();
    let told = Mutex::new(Vec::new());
    let tell = |words: &str| told.lock().unwrap().push(words.to_owned());
    let stage = StageName::from("Lint");
    let played = async {
        let asked = Frame::next(&mut machine).await.unwrap().message::<Ask>().unwrap();
        let Ask::Collect { stage, .. } = asked else { panic!("{asked:?}") };
        assert_eq!(stage, "Lint");
        for frame in says {
            // It is not listened to for ever.
            if machine.write_all(&frame).await.is_err() {
                break;
            }
        }
        drop(machine);
    };
    let run = RunId(uuid::Uuid::nil());
    let (collected, ()) = tokio::join!(session.collect(run, &stage, &tell), played);
    (collected, told.into_inner().unwrap())
}

fn said(told: &Told) -> Vec<u8> {
    Frame::of_message(told).unwrap()
}

fn brought(artifacts: &[(&str, u64)]) -> Vec<u8> {
    let artifacts = artifacts.iter().map(|(name, length)| ((*name).to_owned(), *length)).collect();
    said(&Told::Brought { evidence: json!({"how": "done", "what": {}}), artifacts })
}

async fn broken(says: Vec<Vec<u8>>) -> String {
    let broken = collected(says).await.0.map(|brought| brought.evidence).unwrap_err();
    assert!(broken.is_gone);
    broken.why
}

#[tokio::test]
async fn evidence_and_files_come_over_while_the_heart_beats() {
    let progress = |words: &str| said(&Told::Progress { words: words.to_owned() });
    let says = vec![
        said(&Told::Alive),
        progress("reading\u{1b}[2J the recipe"),
        progress("too soon after it to be told"),
        brought(&[("lint.json", 5), ("../x", 0)]),
        Frame::of_piece(b"abc"),
        said(&Told::Alive),
        Frame::of_piece(b"de"),
    ];
    let (collected, told) = collected(says).await;
    let brought = collected.unwrap();
    assert_eq!(brought.evidence["runner"]["ground"], "machine");
    assert_eq!(
        brought.artifacts,
        [("lint.json".to_owned(), b"abcde".to_vec()), ("-x".to_owned(), Vec::new())]
    );
    assert_eq!(told, ["reading\u{fffd}[2J the recipe"]);
}

#[tokio::test]
async fn a_machine_that_is_wrong_about_its_files_is_thrown_away() {
    let all = [
        broken(vec![brought(&[("a", 1 << 40)])]).await,
        broken(vec![brought(&[("a", 2)]), Frame::of_piece(b"abc")]).await,
        broken(vec![brought(&[("a", 2)]), Frame::of_piece(b"")]).await,
        broken(vec![Frame::of_piece(&vec![0; LONGEST_PIECE])]).await,
        broken(vec![b"GET / HTTP/1.1\r\n".to_vec()]).await,
    ];
    insta::assert_snapshot!(all.join("\n"), @"
    the virtual machine failed: it brings 1 files of 1099511627776 bytes together, and 512 of 134217728 are the most; its console is empty
    the virtual machine failed: a file is longer than it was said to be; its console is empty
    the virtual machine failed: it did not go on with a file; its console is empty
    the virtual machine failed: it said something that is not understood (a piece of nothing); its console is empty
    the virtual machine failed: it said something that is not understood (a frame of the kind 71); its console is empty
    ");
}

#[tokio::test]
async fn a_machine_that_is_gone_is_the_runner_s_trouble() {
    let why = broken(vec![brought(&[("a", 2)])]).await;
    assert!(
        why.starts_with("the virtual machine failed: it ended by itself: the channel is closed"),
        "{why}"
    );
    let says = vec![said(&Told::Failed { why: "its disk was full".to_owned(), exhausted: false })];
    let failed = collected(says).await.0.map(|brought| brought.evidence).unwrap_err();
    assert_eq!(
        (failed.why.as_str(), failed.is_gone),
        ("in the machine: its disk was full; its console is empty", false)
    );
}

#[tokio::test]
async fn a_machine_that_falls_silent_is_given_up() {
    let (mut session, mut machine) = session();
    // Three minutes, as docs/guide/recipes.md says; this one has less patience.
    assert_eq!(session.silence, Duration::from_mins(3));
    session.silence = Duration::from_millis(50);
    let stage = StageName::from("Lint");
    // Half a word is none.
    let half = &said(&Told::Alive)[..3];
    let (broken, ()) = tokio::join!(session.collect(RunId(uuid::Uuid::nil()), &stage, &|_| {}), async {
        Frame::next(&mut machine).await.unwrap();
        machine.write_all(half).await.unwrap();
    });
    let broken = broken.map(|brought| brought.evidence).unwrap_err();
    assert!(broken.is_gone && broken.why.contains("it has said nothing for 50ms"), "{}", broken.why);
}

#[tokio::test]
async fn images_are_asked_for_by_name_and_not_for_ever() {
    let wanted = WantedImage {
        reference: "shop/web:1.0".to_owned(),
        name: "docker.io/shop/web:1.0".to_owned(),
        called: "shop/web:1.0".to_owned(),
    };
    let (mut session, mut machine) = session();
    let stage = StageName::from("Lint");
    let played = async {
        Frame::next(&mut machine).await.unwrap();
        let mut answers = 0;
        while machine.write_all(&said(&Told::WantsImage(wanted.clone()))).await.is_ok() {
            let Ok(frame) = Frame::next(&mut machine).await else { break };
            let answer = frame.message::<Ask>().unwrap();
            let why = "no archive has it, and no registry is asked".to_owned();
            assert_eq!(answer, Ask::Image(ImageAnswer::Missing { why }));
            answers += 1;
        }
        answers
    };
    let run = RunId(uuid::Uuid::nil());
    let asked = async {
        let broken = session.collect(run, &stage, &|_| {}).await.map(|brought| brought.evidence);
        session.end().await;
        broken.unwrap_err()
    };
    let (broken, answers) = tokio::join!(asked, played);
    assert_eq!(answers, IMAGES);
    assert!(broken.why.contains("it asks for more than 500 images"), "{}", broken.why);
}

#[tokio::test]
async fn what_a_machine_says_of_the_runner_counts_for_nothing() {
    let said = json!({
        "how": "done", "what": {"residue": []},
        "runner": {"harness": {"version": "9.9.9"}, "ipvs": true, "ground": "own"},
        "pressure": "none at all",
    });
    let told = vouched(said, Meanwhile::begin()).await;
    assert_eq!(told["what"], json!({"residue": []}));
    assert_eq!(told["runner"]["ground"], "machine");
    assert_eq!(told["runner"]["ipvs"], true, "it is the machine's kernel that has it");
    assert_eq!(told["runner"]["harness"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(told.get("pressure").is_none_or(Value::is_object), "{told}");
}

#[test]
fn a_file_s_name_is_no_path() {
    for (said, kept) in [
        ("functional-look.log", "functional-look.log"),
        ("../../etc/passwd", "-..-etc-passwd"),
        (".bashrc", "bashrc"),
        ("a\nb", "a-b"),
        ("", "file"),
    ] {
        assert_eq!(plain_name(said), kept);
    }
}
