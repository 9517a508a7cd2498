//! The reference installer on a machine of the lab, as on one of metal: nothing is known of it but what its BMC carries of
//! its serial console. Needs root, as network namespaces do, and says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assay_model::{Judgement, StageName, Verdict};
use assay_netboot::power::{BootMode, Credential, IpmiSettings, PowerDriver, Secret, Site};
use assay_pipelines::image::bench::metal::{Following, Installation, News, StageBrought};
use assay_pipelines::image::profile::Within;
use assay_pipelines::image::{ImageInput, ImageSpec, Profile, stage};
use assay_process::Cmd;
use assay_qemu::{Accel, Lab, LabConfig};
use serde_json::Value;
use tokio::time::{Instant, timeout};

/// From power-on to what the firmware boots: it asks a network first on which nobody answers.
const BOOT: Duration = Duration::from_mins(3);
/// Software emulation, on a machine that is busy with other tests.
const STRETCH: f64 = 3.0;
const PAUSE: Duration = Duration::from_millis(200);

/// With BIOS firmware the whole chain does so, in the program's own tests.
#[tokio::test]
async fn an_installer_is_followed_on_the_console_of_a_uefi_machine() {
    let folder = tempfile::Builder::new().prefix("lab").tempdir().expect("a folder");
    let lab = OwnLab::new(folder.path());
    let spec = spec(reference(folder.path()).await);
    let stages = follow(&lab.0, &spec).await;

    let names: Vec<_> = stages.iter().map(|brought| brought.stage).collect();
    assert_eq!(names, ["Boot", "Install", "Reboot"], "{}", said(&stages));
    let judged = judged(&spec, &stages);
    assert_eq!(judged["Boot"].verdict, Verdict::Pass, "{:#?}", judged["Boot"]);
    assert_eq!(judged["Reboot"].verdict, Verdict::Pass, "{:#?}", judged["Reboot"]);
    // Nobody read its disks, and nothing that was heard speaks against it.
    let installed = &judged["Install"];
    assert_eq!((installed.verdict, installed.findings.len()), (Verdict::Unverified, 0), "{installed:#?}");
    assert_eq!(stages[1].evidence["ended"], "rebooted");
    let identified = &judged["Identify"];
    assert_eq!(identified.findings.len(), 0, "{identified:#?}");
    assert!(identified.message.starts_with("it is node-"), "{identified:#?}");
    assert_eq!(lab.0.medium("machine").expect("a machine"), None, "ejected");
    for (stage, judgement) in &judged {
        eprintln!(
            "{stage}: {:?}: {}; open: {:?}",
            judgement.verdict, judgement.message, judgement.unverified
        );
    }
    eprintln!("{}", said(&stages));
}

/// A lab with one machine that an installer fits onto; taken away with everything in it.
struct OwnLab(Lab);

impl OwnLab {
    fn new(folder: &Path) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let machines = folder.join("machine-files");
        std::fs::create_dir_all(&machines).expect("made");
        let shipped = repository().join("lab/machines/installs.toml");
        let base = std::fs::read_to_string(shipped).expect("read");
        let text = base.replacen("firmware = \"bios\"", "firmware = \"uefi\"", 1);
        // It would ask a network on which nobody answers for minutes, at each of both boots.
        let text = text.replacen("power_on = \"netboot\"", "power_on = \"disk\"", 1);
        std::fs::write(machines.join("machine.toml"), text).expect("written");
        let mut config = LabConfig::new(folder, machines);
        config.network.netns = format!("am-{}", std::process::id());
        config.accel = Some(Accel::Tcg { reason: "for the test".to_owned() });
        Self(Lab::open(config).expect("opened"))
    }
}

impl Drop for OwnLab {
    fn drop(&mut self) {
        let lab = &self.0;
        // Also when the test has failed, and from inside its runtime: hence a thread of our own.
        let down = std::thread::scope(|scope| {
            let down = scope.spawn(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(lab.down())
            });
            down.join().expect("no panic")
        });
        assert!(down.is_ok() || std::thread::panicking(), "{down:?}");
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository").to_owned()
}

/// The reference installer; one that is built already is named in `ASSAY_REFERENCE_ISO`.
async fn reference(folder: &Path) -> PathBuf {
    if let Some(built) = std::env::var_os("ASSAY_REFERENCE_ISO") {
        return PathBuf::from(built);
    }
    let iso = folder.join("reference.iso");
    let build = Cmd::new(repository().join("examples/images/reference/build")).arg(&iso);
    build.timeout(Duration::from_mins(12)).run_ok().await.expect("the reference installer is built");
    iso
}

fn spec(image: PathBuf) -> ImageSpec {
    let text = std::fs::read_to_string(repository().join("examples/images/reference-machine.toml"));
    ImageSpec {
        image,
        sha256: None,
        profile: Profile::from_toml(&text.expect("a profile")).expect("it reads"),
        folder: repository(),
        cell: BTreeMap::new(),
        on: Some("machine".to_owned()),
        main: false,
        from_phase: None,
        seed: 1,
        source: None,
    }
}

/// Boots the machine from its medium and follows it, as a runner does.
async fn follow(lab: &Lab, spec: &ImageSpec) -> Vec<StageBrought> {
    const NAME: &str = "machine";
    let following = Following {
        stages: vec![Within::Boot, Within::Install, Within::Reboot],
        boot: BOOT,
        stretch: STRETCH,
        emulated: true,
        machine: "a lab machine".to_owned(),
    };
    let mut installation = Installation::new(&spec.profile, following).expect("it can be followed");
    let bmc = lab.bmc(NAME).await.expect("it starts").expect("it has one");
    let mut settings = IpmiSettings::new(bmc.address.to_string(), "lab");
    (settings.port, settings.cipher_suite) = (bmc.port, Some(bmc.cipher_suite));
    settings.firmware = Some(BootMode::Bios);
    let credential = Credential { user: bmc.user.to_owned(), password: Secret::new(bmc.password) };
    let site = Site { netns: Some(lab.network().config().netns.clone()), interface: None };
    let driver = PowerDriver::ipmi(settings, credential, &site).expect("a driver");

    lab.insert_medium(NAME, &spec.image).await.expect("in");
    let began = Instant::now();
    lab.power_cycle(NAME).await.expect("on");
    let mut console = driver.console().await.expect("serial over LAN");
    let mut stages = Vec::new();
    let mut bytes = [0; 4096];
    while !installation.is_over() {
        let read = timeout(PAUSE, console.output.read(&mut bytes)).await;
        let now = began.elapsed();
        let mut news = match read {
            Err(_) => installation.tick(now),
            Ok(Ok(length)) if length > 0 => installation.heard(now, &bytes[..length]),
            Ok(ended) => panic!("the BMC ended serial over LAN: {ended:?}"),
        };
        while !news.is_empty() {
            let mut more = Vec::new();
            for one in news {
                match one {
                    News::Step(words) => eprintln!("{words}"),
                    News::Eject => {
                        let out = lab.eject_medium(NAME).await.map_err(|problem| problem.to_string());
                        more.extend(installation.ejected(began.elapsed(), out));
                    }
                    News::Brought(brought) => stages.push(brought),
                    News::Over => {}
                }
            }
            news = more;
        }
    }
    stages
}

/// What the judges make of it.
fn judged(spec: &ImageSpec, stages: &[StageBrought]) -> BTreeMap<&'static str, Judgement> {
    let mut earlier: Vec<(StageName, Value)> = Vec::new();
    let mut judged = BTreeMap::new();
    let names = stages.iter().map(|brought| (brought.stage, brought.evidence.clone()));
    let identified = ("Identify", serde_json::json!({ "others": [], "repaired": null }));
    for (name, evidence) in names.chain([identified]) {
        let judge = stage(name).expect("a stage");
        judged.insert(name, judge.judge(&ImageInput::new(spec, &evidence, &earlier)));
        earlier.push((StageName::from(name), evidence));
    }
    judged
}

/// What a failed expectation shows.
fn said(stages: &[StageBrought]) -> String {
    let texts = stages.iter().map(|brought| {
        let outcome = &brought.evidence["watched"]["outcome"];
        let text: String = brought.texts.values().flat_map(|text| text.chars()).collect();
        format!("=== {}: {outcome}\n{text}", brought.stage)
    });
    texts.collect::<Vec<_>>().join("\n")
}
