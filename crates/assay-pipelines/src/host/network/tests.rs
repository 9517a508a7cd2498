//! Ports good and bad: what each measurement comes to.

use assay_model::host::network::*;
use assay_model::host::order::IperfServer;
use assay_model::host::spec::{HostSpec, NicSpec};
use assay_model::{Judgement, Severity, Verdict};

use super::{Network, assign};
use crate::{HostStage as _, JudgeInput};

const MAC: &str = "3c:ec:ef:12:34:56";

fn transfer(mbps: f64) -> Transfer {
    let bytes = (mbps * 1e6 / 8.0 * 15.0) as u64;
    Transfer {
        bits_per_second: mbps * 1e6,
        bytes,
        seconds: 15.0,
        retransmits: Some(0),
        segment: Some(1448),
        total_bytes: bytes,
        port_bytes: Some(bytes + bytes / 20),
        cpu_here: Some(20.0),
        cpu_there: Some(20.0),
    }
}

fn server(link_mbps: Option<u32>) -> IperfServer {
    IperfServer { address: [10, 77, 0, 1].into(), port: 5201, client: None, link_mbps }
}

/// A gigabit port that carries what gigabit carries.
fn good() -> NicTest {
    NicTest {
        name: "eno1".into(),
        mac: Some(MAC.into()),
        pci: Some("0000:03:00.0".into()),
        expected: true,
        min_speed_mbps: Some(1000),
        link: Some(Link { speed_mbps: Some(1000), full_duplex: Some(true), max_mbps: Some(1000) }),
        server: Some(server(Some(1000))),
        sent: Some(transfer(941.0)),
        received: Some(transfer(940.0)),
        flaps: Some(0),
        ..NicTest::default()
    }
}

fn spec() -> HostSpec {
    let nic = NicSpec { mac: Some(MAC.into()), min_speed_mbps: Some(1000), ..NicSpec::default() };
    HostSpec { nics: vec![nic], ..HostSpec::default() }
}

fn judge(change: impl FnOnce(&mut NicTest)) -> Judgement {
    let mut nic = good();
    change(&mut nic);
    judge_all(NetworkEvidence { nics: vec![nic], servers: 1, ..NetworkEvidence::default() }, &spec())
}

fn judge_all(evidence: NetworkEvidence, spec: &HostSpec) -> Judgement {
    let evidence = serde_json::to_value(evidence).expect("plain data");
    Network.judge(&JudgeInput::new(spec, &evidence))
}

fn codes(judgement: &Judgement) -> Vec<(&str, Severity)> {
    judgement.findings.iter().map(|finding| (finding.code.as_str(), finding.severity)).collect()
}

#[test]
fn a_port_at_line_rate_both_ways_passes() {
    let judgement = judge(|_| ());
    assert_eq!(judgement.verdict, Verdict::Pass, "{judgement:?}");
    assert!(judgement.findings.is_empty() && judgement.unverified.is_empty());
    assert_eq!((judgement.coverage[0].covered, judgement.coverage[0].total), (1, 1));
}

type Change = Box<dyn FnOnce(&mut NicTest)>;

/// What it is called, what changes, the verdict and what is found.
type Case = (&'static str, Change, Verdict, &'static [(&'static str, Severity)]);

#[test]
fn what_the_port_does_wrong_fails_it() {
    use Severity::{Critical, Warning};
    let cases: Vec<Case> = vec![
        (
            "slow out",
            Box::new(|n| n.sent = Some(transfer(899.0))),
            Verdict::Fail,
            &[("NetworkThroughputLow", Critical)],
        ),
        (
            "slow in",
            Box::new(|n| n.received = Some(transfer(90.0))),
            Verdict::Fail,
            &[("NetworkThroughputLow", Critical)],
        ),
        (
            "nothing",
            Box::new(|n| n.received = Some(Transfer { seconds: 15.0, ..transfer(0.0) })),
            Verdict::Fail,
            &[("NetworkThroughputLow", Critical)],
        ),
        (
            "100 Mb/s",
            Box::new(|n| n.link.as_mut().expect("a link").speed_mbps = Some(100)),
            Verdict::Fail,
            &[("LinkSpeedLow", Critical)],
        ),
        (
            "half duplex",
            Box::new(|n| n.link.as_mut().expect("a link").full_duplex = Some(false)),
            Verdict::Fail,
            &[("LinkSpeedLow", Critical)],
        ),
        (
            "fell back",
            Box::new(|n| {
                n.min_speed_mbps = None;
                n.link.as_mut().expect("a link").speed_mbps = Some(100);
                n.server = Some(server(None));
            }),
            Verdict::Fail,
            &[("LinkSpeedLow", Critical)],
        ),
        (
            "not its best",
            Box::new(|n| {
                n.min_speed_mbps = None;
                n.link.as_mut().expect("a link").max_mbps = Some(10_000);
            }),
            Verdict::Pass,
            &[("LinkSpeedLow", Warning)],
        ),
        (
            "lossy",
            Box::new(|n| n.sent.as_mut().expect("sent").retransmits = Some(15_000)),
            Verdict::Fail,
            &[("NetworkErrors", Critical)],
        ),
        (
            "crc",
            Box::new(|n| n.errors = vec![("rx_crc_errors".into(), 3)]),
            Verdict::Fail,
            &[("NetworkErrors", Critical)],
        ),
        ("flaps", Box::new(|n| n.flaps = Some(2)), Verdict::Fail, &[("LinkFlapped", Critical)]),
        (
            "elsewhere",
            Box::new(|n| n.sent.as_mut().expect("sent").port_bytes = Some(1000)),
            Verdict::Fail,
            &[("NicTrafficElsewhere", Critical)],
        ),
        (
            "no link",
            Box::new(|n| {
                n.link = None;
                n.obstacle = Some(Obstacle::NoLink);
            }),
            Verdict::Fail,
            &[("LinkDown", Critical)],
        ),
    ];
    for (name, change, verdict, expected) in cases {
        let judgement = judge(change);
        assert_eq!(codes(&judgement), expected, "{name}");
        assert_eq!(judgement.verdict, verdict, "{name}: {judgement:?}");
    }
}

#[test]
fn what_the_runner_limits_fails_no_machine_and_passes_none() {
    let cases: Vec<(&str, Change)> = vec![
        ("its processor", Box::new(|n| n.sent = Some(Transfer { cpu_there: Some(99.0), ..transfer(500.0) }))),
        ("one core here", Box::new(|n| n.sent = Some(Transfer { cpu_here: Some(99.0), ..transfer(500.0) }))),
        (
            "its link",
            Box::new(|n| {
                n.link.as_mut().expect("a link").speed_mbps = Some(10_000);
            }),
        ),
        ("no counter", Box::new(|n| n.sent.as_mut().expect("sent").port_bytes = None)),
        (
            "unreachable",
            Box::new(|n| {
                n.sent = None;
                n.received = None;
                n.obstacle = Some(Obstacle::Unreachable("timed out".into()));
            }),
        ),
        (
            "no server",
            Box::new(|n| {
                n.sent = None;
                n.received = None;
                n.obstacle = Some(Obstacle::NoServer("none".into()));
            }),
        ),
        (
            "tool",
            Box::new(|n| {
                n.received = None;
                n.obstacle = Some(Obstacle::Tool("iperf3 is missing".into()));
            }),
        ),
        ("one way only", Box::new(|n| n.received = None)),
    ];
    for (name, change) in cases {
        let judgement = judge(change);
        assert_eq!(judgement.verdict, Verdict::Unverified, "{name}: {judgement:?}");
        assert_eq!(judgement.coverage[0].covered, 0, "{name}");
        assert!(!judgement.findings.iter().any(|f| f.severity == Severity::Critical), "{name}");
    }
}

#[test]
fn a_server_that_is_busy_or_refuses_is_an_error_and_not_a_pass() {
    for why in ["the server is busy running a test. try again later", "Connection refused"] {
        let judgement = judge(|n| {
            (n.sent, n.received) = (None, None);
            n.obstacle = Some(Obstacle::Server(why.into()));
        });
        assert_eq!(judgement.verdict, Verdict::Error);
        assert!(judgement.unverified.iter().any(|line| line.contains(why)), "{judgement:?}");
    }
}

#[test]
fn a_slow_port_behind_the_runners_slower_link_still_fails() {
    let judgement = judge(|n| {
        n.link.as_mut().expect("a link").speed_mbps = Some(10_000);
        n.sent = Some(transfer(300.0));
    });
    assert_eq!(codes(&judgement), [("NetworkThroughputLow", Severity::Critical)]);
}

#[test]
fn a_virtual_port_is_held_to_the_specs_floor_and_without_one_has_to_carry_data() {
    let virtual_port = |n: &mut NicTest| {
        n.min_speed_mbps = None;
        n.link = Some(Link::default());
        n.sent = Some(transfer(300.0));
        n.received = Some(transfer(300.0));
    };
    let judgement = judge(virtual_port);
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert!(judgement.unverified[0].contains("tells no speed"), "said beside the verdict: {judgement:?}");
    let dead = judge(|nic| {
        virtual_port(nic);
        nic.received = Some(transfer(0.1));
    });
    assert_eq!(codes(&dead), [("NetworkThroughputLow", Severity::Critical)]);
    let mut nic = good();
    virtual_port(&mut nic);
    let mut spec = spec();
    spec.limits.network.throughput_mbps_min = Some(200);
    let evidence = NetworkEvidence { nics: vec![nic], servers: 1, ..NetworkEvidence::default() };
    assert_eq!(judge_all(evidence.clone(), &spec).verdict, Verdict::Pass);
    spec.limits.network.throughput_mbps_min = Some(400);
    assert_eq!(judge_all(evidence, &spec).verdict, Verdict::Fail);
}

#[test]
fn ports_that_are_not_there_or_not_spoken_of_never_pass() {
    let absent = AbsentNic { mac: Some(MAC.into()), driver: None };
    let evidence = NetworkEvidence { absent: vec![absent], servers: 1, ..NetworkEvidence::default() };
    let judgement = judge_all(evidence, &spec());
    assert_eq!(codes(&judgement), [("NicAbsent", Severity::Critical)]);
    assert_eq!(judgement.findings[0].part.as_ref().and_then(|p| p.serial.as_deref()), Some(MAC));
    assert_eq!(judge_all(NetworkEvidence::default(), &spec()).verdict, Verdict::Unverified);
    assert_eq!(judge_all(NetworkEvidence::default(), &HostSpec::default()).verdict, Verdict::Unverified);
    let nothing = serde_json::Value::Null;
    assert_eq!(Network.judge(&JudgeInput::new(&spec(), &nothing)).verdict, Verdict::Error);
}

#[test]
fn without_a_list_an_unplugged_port_is_no_gap_and_one_good_port_passes() {
    let mut port = good();
    port.expected = false;
    port.min_speed_mbps = None;
    let spare = NicTest { name: "eno2".into(), obstacle: Some(Obstacle::NoLink), ..NicTest::default() };
    let evidence = NetworkEvidence { nics: vec![port, spare], servers: 1, ..NetworkEvidence::default() };
    let judgement = judge_all(evidence, &HostSpec::default());
    assert_eq!(judgement.verdict, Verdict::Pass);
    assert!(judgement.unverified[0].contains("eno2"), "{judgement:?}");
}

#[test]
fn expected_ports_are_found_by_address_first_and_by_driver_then() {
    let port = |name: &str, mac: &str, driver: &str| NicTest {
        name: name.into(),
        mac: Some(mac.into()),
        driver: Some(driver.into()),
        ..NicTest::default()
    };
    let nic = |mac: Option<&str>, driver: Option<&str>| NicSpec {
        mac: mac.map(Into::into),
        driver: driver.map(Into::into),
        ..NicSpec::default()
    };
    let spec = HostSpec {
        nics: vec![nic(None, Some("igb")), nic(Some("AA:00:00:00:00:01"), None), nic(None, Some("ice"))],
        ..HostSpec::default()
    };
    let ports = vec![
        port("eno1", "aa:00:00:00:00:01", "igb"),
        port("eno2", "aa:00:00:00:00:02", "igb"),
        port("usb0", "aa:00:00:00:00:03", "cdc"),
    ];
    let (tests, absent) = assign(ports, &spec);
    let names: Vec<_> = tests.iter().map(|test| test.name.as_str()).collect();
    assert_eq!(names, ["eno1", "eno2"]);
    assert_eq!(absent, [AbsentNic { mac: None, driver: Some("ice".into()) }]);
}

#[test]
fn a_measurement_that_ended_early_proves_nothing() {
    for short in [0.5, 13.0, f64::NAN] {
        let judgement = judge(|nic| nic.received = Some(Transfer { seconds: short, ..transfer(941.0) }));
        assert_ne!(judgement.verdict, Verdict::Pass, "{short} s");
        assert!(judgement.findings.is_empty(), "and it is nobody's fault: {:?}", judgement.findings);
    }
    assert_eq!(
        judge(|nic| nic.received = Some(Transfer { seconds: 14.2, ..transfer(941.0) })).verdict,
        Verdict::Pass
    );
}
