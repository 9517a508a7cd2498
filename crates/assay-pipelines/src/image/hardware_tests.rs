//! What a run over an image asks of a machine, and what it refuses to ask.

use super::*;
use crate::image::fixtures::Seen;

const PLAIN: &str = "name = \"my\"\n[[phase]]\nname = \"done\"\nmarker = \"done\"\ntimeout = \"60s\"\n";

fn spec(more: &str) -> ImageSpec {
    let profile = Profile::from_toml(&format!("{PLAIN}{more}")).expect("a profile");
    ImageSpec {
        image: "/images/my.iso".into(),
        sha256: None,
        profile,
        folder: "/images".into(),
        cell: std::collections::BTreeMap::new(),
        on: Some("web-3".to_owned()),
        main: false,
        from_phase: None,
        seed: 1,
        source: None,
    }
}

fn names(stages: &[StagePlan]) -> Vec<&str> {
    stages.iter().map(|stage| stage.name.as_str()).collect()
}

#[test]
fn the_machine_is_cleared_right_before_it_boots_the_medium() {
    let (stages, left_out) = plan(&spec(""), &HostSpec::default(), 600).expect("a plan");
    assert_eq!(
        names(&stages),
        [
            "Prepare",
            "Inspect",
            "Inventory",
            "Clearance",
            "Boot",
            "Install",
            "Reboot",
            "Identify",
            "Join",
            "Reconcile",
            "Reporting"
        ]
    );
    assert!(left_out.is_empty());
    for stage in &stages {
        let owner = match stage.name.as_str() {
            "Inventory" | "Clearance" => Owner::Agent,
            "Reporting" => Owner::Orchestrator,
            _ => Owner::Runner,
        };
        assert_eq!(stage.owner, owner, "{}", stage.name);
        assert_eq!(wants(stage.name.as_str()).is_some(), owner == Owner::Runner, "{}", stage.name);
    }
    let required: Vec<_> = stages.iter().filter(|stage| stage.required).map(|s| s.name.as_str()).collect();
    assert_eq!(required, ["Prepare", "Inspect", "Inventory", "Clearance", "Boot", "Reboot", "Reporting"]);
}

#[test]
fn no_word_of_the_host_s_spec_touches_its_clearance() {
    let host = "format: 1\ncluster: none\nstages: {Inventory: {required: false}}\n";
    let host = HostSpec::from_yaml(host).expect("a spec");
    let (stages, _) = plan(&spec(""), &host, 600).expect("a plan");
    let required = |name: &str| stages.iter().any(|stage| stage.name == name && stage.required);
    assert!(required("Inventory") && required("Clearance"));
}

#[test]
fn a_run_that_stops_early_stops_behind_the_clearance_or_before_the_machine() {
    let until = |stage: &str| {
        let mut spec = spec("");
        spec.profile.until = Some(stage.to_owned());
        plan(&spec, &HostSpec::default(), 600)
    };
    let (stages, left_out) = until("Boot").expect("a plan");
    assert_eq!(names(&stages), ["Prepare", "Inspect", "Inventory", "Clearance", "Boot", "Reporting"]);
    assert_eq!(left_out.len(), 5);
    let (stages, _) = until("Inspect").expect("a plan");
    assert_eq!(names(&stages), ["Prepare", "Inspect", "Reporting"]);
    assert!(until("Lunch").is_err());
}

#[test]
fn what_a_machine_cannot_give_is_refused_and_never_left_out() {
    assert_eq!(suits(&spec("").profile), Ok(()));
    let screen = "[[phase]]\nname = \"more\"\nmarker = \"m\"\ntimeout = \"60s\"\nchannel = \"screen\"\n";
    let typed = "[[phase]]\nname = \"more\"\nmarker = \"m\"\ntimeout = \"60s\"\n[[phase.reply]]\non = \"y\"\ntext = \"y\"\n";
    for (more, what) in [
        ("[medium]\nas = \"usb\"\n", "a USB stick"),
        (
            "[medium]\nas = \"usb\"\n[[medium.file]]\npath = \"/token\"\ncontent = \"x\"\n",
            "the staged file /token",
        ),
        (screen, "the channel of phase more"),
        (typed, "a reply in phase more"),
    ] {
        let Ok(profile) = Profile::from_toml(&format!("{PLAIN}{more}")) else {
            panic!("not a profile: {more}");
        };
        let refused = suits(&profile).expect_err(what);
        assert_eq!(refused.what, what);
        assert!(!refused.why.is_empty());
    }
    let mut refuses = spec("").profile;
    refuses.install.expect = InstallExpect::Refused;
    let mut cuts = spec("").profile;
    cuts.power_cut.after = Some("done".to_owned());
    for (profile, what) in [(refuses, "a refusal"), (cuts, "a power cut")] {
        assert_eq!(suits(&profile).expect_err(what).what, what);
    }
}

#[test]
fn what_nobody_can_see_is_unverified_where_the_profile_asks_for_it() {
    let healthy = Seen::good();
    let mut spec = healthy.spec();
    let nothing = serde_json::Value::Null;
    let judged = |name: &str, spec: &ImageSpec| {
        let stage = crate::image::stage(name).expect("a stage");
        crate::image::judge(stage, &ImageInput::new(spec, &nothing, &[]))
    };
    assert_eq!(judged("Join", &spec).verdict, Verdict::Error, "a virtual machine's evidence is not there");
    spec.on = Some("web-3".to_owned());
    let join = judged("Join", &spec);
    assert_eq!(join.verdict, Verdict::Unverified);
    assert!(join.unverified[0].contains("can reach"), "{join:?}");
    spec.profile.join = None;
    spec.profile.reconcile = None;
    assert_eq!(judged("Join", &spec).verdict, Verdict::Skip, "nobody asked for it");
}
