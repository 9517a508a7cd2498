//! What a run of an image shows, from evidence as the runner sends it.

use assay_model::Sha256;
use serde_json::json;

use super::*;

/// Text that must never come out as it is.
const HOSTILE: &str = "evil\u{1b}[2J\u{202e}";

fn watched() -> Value {
    json!({
        "accel": "kvm", "stretch": 2.5, "outcome": { "how": "reached" },
        "rungs": [
            { "rung": "firmware", "at_s": 0.4, "line": "SeaBIOS" },
            { "rung": "kernel", "at_s": 6.0, "line": "Linux version 6.1" },
        ],
        "phases": [{
            "name": "partitioned", "at_s": 20.0, "took_s": 12.0, "limit_s": 60.0, "reacted_ms": 1.0,
            "line": "[installer] partitioned", "channel": "serial", "captures": { "disk": "nvme0n1" },
        }],
        "noted": [{ "at_s": 3.0, "code": "KernelWarning", "line": HOSTILE, "meaning": "a warning" }],
        "typed": [], "input": 0, "events": [],
        "shots": [{ "at_s": 20.1, "of": "phase partitioned", "artifact": "installer-screen-01-partitioned.png" }],
        "lines": { "serial": 40 }, "seconds": 30.0,
        "names": [{ "at_s": 12.0, "by": "dhcp", "name": "node-1", "channel": "network", "line": "" }],
    })
}

fn artifact(name: &str) -> ArtifactView {
    ArtifactView {
        stage: Some("Install".into()),
        attempt: 1,
        name: name.to_owned(),
        digest: Sha256::of(name.as_bytes()),
        bytes: 2048,
        late: false,
    }
}

fn spec() -> ImageSpec {
    let profile = r#"
name = "x"
[[machine.disk]]
name = "NV0"
bus = "nvme"
size = "3GiB"
expect = "boot"
[[machine.disk]]
name = "USB0"
size = "64MiB"
expect = "untouched"
[[phase]]
name = "partitioned"
marker = "partitioned$"
timeout = "60s"
[[phase]]
name = "installed"
marker = "INSTALL COMPLETE"
timeout = "100s"
"#;
    let profile = assay_pipelines::image::Profile::from_toml(profile).expect("it reads");
    let spec = json!({ "image": "/images/x.iso", "profile": profile, "folder": "/", "seed": 7 });
    ImageSpec::of(&spec).expect("plain data")
}

fn told(evidence: &[(StageName, Value)]) -> Told {
    Told {
        prepared: read(evidence, "Prepare"),
        booted: read(evidence, "Boot"),
        installed: read(evidence, "Install"),
        rebooted: read(evidence, "Reboot"),
        identified: read(evidence, "Identify"),
        joined: read(evidence, "Join"),
    }
}

fn installed() -> Value {
    let disk = |name: &str, changed: bool, volumes: Value| {
        json!({
            "name": name, "changed": changed, "first_change": null, "changed_blocks": if changed { 256 } else { 0 },
            "written": if changed { 2 << 20 } else { 0 }, "table": "gpt", "bootable": changed, "volumes": volumes,
            "problem": null,
        })
    };
    let root = json!([{
        "number": 2, "label": "root", "fs": "ext4", "fs_label": "root", "bytes": 1 << 30,
        "files": { "/boot/vmlinuz": { "bytes": 1 << 20 }, "/boot/missing": { "bytes": null } },
    }]);
    json!({
        "watched": watched(), "ended": "rebooted", "shutdown": "", "written": 2 << 20,
        "disks": [disk("NV0", true, root), disk("USB0", false, json!([]))], "egress": ["203.0.113.9:443 (HTTPS)"],
    })
}

fn prepared() -> Value {
    let disk = |name: &str| json!({ "name": name, "bytes": 64 << 20, "content": "0", "holds": "nothing" });
    json!({
        "bytes": 5 << 20, "sha256": Sha256::of(b"x"), "medium": "a CD", "stick_bytes": null, "flash": null,
        "staged": [], "problem": null, "accel": "kvm", "payload_ms": 1, "disks": [disk("NV0"), disk("USB0")],
    })
}

#[test]
fn pictures_are_shown_before_what_they_were_taken_for_is_known() {
    let names =
        ["installer-screen-01-partitioned.png", "installer-serial.txt", "installer-screen-02-failure.png"];
    let artifacts: Vec<_> = names.into_iter().map(artifact).collect();
    let frame = |name: &str, of: &str, at: &str, failure| Frame {
        name: name.to_owned(),
        machine: "installer".to_owned(),
        of: of.to_owned(),
        at: at.to_owned(),
        failure,
    };
    let running = film(&artifacts, &told(&[]));
    assert_eq!(running, [frame(names[0], "partitioned", "", false), frame(names[2], "failure", "", true)]);
    let evidence = [("Install".into(), installed())];
    let mut again = artifacts.clone();
    again.push(artifact(names[0]));
    let done = film(&again, &told(&evidence));
    assert_eq!(done[0], frame(names[0], "phase partitioned", "20 s", false));
    assert_eq!(done.len(), 2, "a further try takes the same picture again");
    assert_eq!(transcripts(&artifacts), [(names[1].to_owned(), bytes(2048))]);
}

#[test]
fn a_phase_that_never_came_stands_beside_those_that_did() {
    let evidence = [("Install".into(), installed())];
    let machines = machines(Some(&spec()), &told(&evidence));
    let phases: Vec<_> = machines[0]
        .phases
        .iter()
        .map(|p| (p.name.as_str(), p.seen, p.took.as_str(), p.limit.as_str()))
        .collect();
    // A limit that was stretched is shown as it was.
    assert_eq!(phases, [("partitioned", true, "12 s", "1 m 00 s"), ("installed", false, "", "4 m 10 s")]);
    assert_eq!(machines[0].phases[0].captures, "disk = nvme0n1");
    let rungs: Vec<_> = machines[0].rungs.iter().map(|r| (r.name.as_str(), r.reached)).collect();
    assert_eq!(
        rungs,
        [("firmware", true), ("bootloader", false), ("kernel", true), ("userspace", false), ("login", false)],
    );
    assert_eq!(machines[0].names, ["node-1 (dhcp, network, 12 s)"]);
    assert_eq!(machines[0].typed, "nothing was typed");
    assert_eq!(machines[0].ended, None);
}

#[test]
fn disks_before_and_after_with_what_was_to_become_of_them() {
    let mut evidence = vec![("Prepare".into(), prepared())];
    let before = disks(Some(&spec()), &told(&evidence));
    assert!(before.iter().all(|disk| disk.after.is_none()), "it was not read yet");
    evidence.push(("Install".into(), installed()));
    let after = disks(Some(&spec()), &told(&evidence));
    let lines: Vec<_> = after
        .iter()
        .map(|disk| {
            let after = disk.after.as_ref().expect("it was read");
            format!("{} {} {}: {}; {}", disk.name, disk.bus, disk.expect, after.change, after.table)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "NV0 nvme boot: 1.0 MiB differ, 2.0 MiB written; gpt, boots",
            "USB0 virtio untouched: the same, byte for byte; gpt",
        ]
    );
    let volumes = &after[0].after.as_ref().expect("it was read").volumes;
    assert_eq!(volumes, &["2: root ext4 root, 1.0 GiB; /boot/missing is missing, /boot/vmlinuz (1.0 MiB)"],);
    assert_eq!(egress(&told(&evidence)), [("installer".to_owned(), "203.0.113.9:443 (HTTPS)".to_owned())]);
}

#[test]
fn what_ended_a_machine_is_told_in_words() {
    let ended =
        |outcome: Value| ended(&serde_json::from_value(outcome).expect("an outcome")).expect("it failed");
    assert_eq!(
        ended(json!({ "how": "timed_out", "waited_for": "installed", "limit_s": 90.0, "line": "copying" })),
        "installed did not come within 1 m 30 s; the last line: copying"
    );
    assert_eq!(
        ended(json!({ "how": "stalled", "code": "Silent", "line": "copying", "seconds": 20.0 })),
        "Silent for 20 s: copying"
    );
}

#[test]
fn registrations_are_shown_as_they_came() {
    let joined = json!({
        "ledger": { "requests": [
            { "id": 1, "method": "POST", "path": "/x.git/git-receive-pack", "status": 200, "bytes_in": 900, "bytes_out": 5 },
            { "id": 2, "method": "GET", "path": "/y" },
        ] },
        "registrations": [{
            "at": 52.0, "by": "git", "branch": "register", "author": "Node", "message": "register",
            "paths": [["a/node.yaml", "A"]], "payload": "name: x\n  deep: \u{1b}[2Jy\n", "pull_request": true,
            "schema_problems": ["/name is missing"], "leaks": ["join-token"],
        }],
        "joins": [["x", 95.0]], "orphans": ["left"], "installed_at": 50.0, "up_at": 80.0,
        "deregistered": { "merged": true, "left": ["a/node.yaml"], "problem": null },
        "macs": [], "began": "", "ended": "",
    });
    let evidence = [("Join".into(), joined)];
    let shown = join(told(&evidence).joined.as_ref().expect("it reads"));
    let first = &shown.registrations[0];
    assert_eq!(first.how, "git after 52 s, branch register, by Node, asked to be merged");
    assert_eq!(first.payload.as_deref(), Some("name: x\n  deep: \u{fffd}[2Jy"), "its structure stays");
    assert_eq!(first.problems, ["/name is missing", "holds the secret join-token"]);
    assert_eq!(shown.joins, ["x after 1 m 35 s"]);
    assert_eq!(shown.deregistered.as_deref(), Some("left behind: a/node.yaml"));
    let requests: Vec<_> =
        shown.requests.iter().map(|r| (r.what.as_str(), r.status.as_str(), r.bad)).collect();
    assert_eq!(requests, [("POST /x.git/git-receive-pack", "200", false), ("GET /y", "no answer", true)]);
}

#[test]
fn hostile_and_broken_evidence_is_shown_clean_or_not_at_all() {
    let evidence = [("Install".into(), installed())];
    let machines = machines(None, &told(&evidence));
    assert_eq!(machines[0].noted[0].line, "evil\u{fffd}[2J\u{fffd}");
    let mut long = installed();
    long["watched"]["noted"][0]["line"] = json!("y".repeat(100_000));
    long["watched"]["phases"][0]["took_s"] = json!(1e308);
    let evidence = [("Install".into(), long)];
    let machines = super::machines(None, &told(&evidence));
    assert!(machines[0].noted[0].line.chars().count() <= MAX_TEXT.0 + 1);
    assert!(machines[0].phases[0].took.len() < 40, "{}", machines[0].phases[0].took);
    for broken in [json!(null), json!("x"), json!({ "watched": 7 })] {
        let evidence = [("Install".into(), broken)];
        assert!(told(&evidence).installed.is_none());
    }
}
