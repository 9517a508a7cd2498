//! A machine that is followed over a console that grows, breaks off, or was never there. No time passes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use assay_pipelines::image::Profile;
use assay_pipelines::image::bench::metal::{Following, StageBrought};
use assay_pipelines::image::profile::Within;
use serde_json::Value;

use super::*;

const PROFILE: &str = r#"
name = "small"
[[phase]]
name = "installed"
marker = "INSTALL COMPLETE"
timeout = "60s"
[reboot]
timeout = "60s"
"#;

const INSTALLS: &str =
    "[    0.000000] Linux version 6.1.0\r\n[    2.000000] Run /init as init process\r\nINSTALL COMPLETE\r\n";
const COMES_UP: &str = "[   60.000000] reboot: Restarting system\r\n[    0.000000] Linux version 6.1.0\r\n\
                        [    1.000000] Run /init as init process\r\nnode-1 login: ";

fn installation() -> Installation {
    let profile = Profile::from_toml(PROFILE).expect("a profile");
    let following = Following {
        stages: vec![Within::Boot, Within::Install, Within::Reboot],
        boot: Duration::from_secs(30),
        stretch: 1.0,
        emulated: false,
        machine: "a machine in a test".to_owned(),
    };
    Installation::new(&profile, following).expect("it can be followed")
}

fn say(console: &Path, words: &str) {
    let mut file = File::options().append(true).create(true).open(console).expect("opened");
    file.write_all(words.as_bytes()).expect("written");
}

/// What comes up to the next order or the end.
async fn brought(followed: &mut Followed) -> (Vec<(String, Value)>, News) {
    let mut stages = Vec::new();
    loop {
        match followed.next().await {
            News::Step(_) => {}
            News::Brought(StageBrought { stage, evidence, .. }) => {
                stages.push((stage.to_owned(), evidence["watched"]["outcome"].clone()));
            }
            last => return (stages, last),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_followed_to_its_login_and_its_medium_ejected_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let console = folder.path().join("console.log");
    fs::write(&console, "an earlier boot: INSTALL COMPLETE\r\n").expect("written");
    let from = fs::metadata(&console).expect("a file").len();
    let mut followed = follow(Ok(Source::log(console.clone(), from)), installation());
    say(&console, INSTALLS);
    let (stages, last) = brought(&mut followed).await;
    assert_eq!((stages.len(), &stages[0].0[..], last), (1, "Boot", News::Eject));
    // It goes on only once the medium is out.
    followed.ejected(Ok(())).await;
    say(&console, COMES_UP);
    let (stages, last) = brought(&mut followed).await;
    let reached = |name: &str| (name.to_owned(), serde_json::json!({"how": "reached"}));
    assert_eq!((stages, last), (vec![reached("Install"), reached("Reboot")], News::Over));
    assert_eq!(followed.next().await, News::Over, "nothing more");
}

#[tokio::test(start_paused = true)]
async fn a_medium_that_stays_in_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let console = folder.path().join("console.log");
    say(&console, INSTALLS);
    let mut followed = follow(Ok(Source::log(console.clone(), 0)), installation());
    assert_eq!(brought(&mut followed).await.1, News::Eject);
    followed.ejected(Err("the BMC refuses".to_owned())).await;
    say(&console, COMES_UP);
    let (stages, last) = brought(&mut followed).await;
    assert_eq!((stages.len(), last), (2, News::Over));
    let why = stages[1].1["why"].as_str().expect("why");
    assert!(why.contains("could not be ejected") && why.contains("the BMC refuses"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_console_that_is_not_there_is_no_fault_of_the_image() {
    // A folder in place of the file: opening succeeds, reading does not.
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("console.log")).expect("made");
    let unreadable = Source::log(folder.path().join("console.log"), 0);
    for opened in [Err("no way there".to_owned()), Ok(unreadable)] {
        let mut followed = follow(opened, installation());
        let (stages, last) = brought(&mut followed).await;
        assert_eq!(
            (&stages[0].0[..], &stages[0].1["how"], last),
            ("Boot", &Value::from("runner_fault"), News::Eject)
        );
        followed.ejected(Ok(())).await;
        assert_eq!(brought(&mut followed).await, (Vec::new(), News::Over));
    }
}
