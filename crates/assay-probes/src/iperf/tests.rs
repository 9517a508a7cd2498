//! What the tool printed, good and odd. Measurements with the real one are in the pipelines' `real_network`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::parse::{Answer, answer};
use super::{IperfServer, Machine, Plan, iperf};

/// iperf 3.12 over a pair of virtual ports, shortened.
const GOOD: &str = r#"{"start":{"tcp_mss_default":1448,"connected":[{"socket":5}]},
"intervals":[{"sum":{"bytes":3900000000,"omitted":true}},{"sum":{"bytes":3792568320,"omitted":false}}],
"end":{"sum_sent":{"seconds":2.000118,"bytes":7585136640,"bits_per_second":30338756573.36217,"retransmits":1},
"sum_received":{"seconds":2.000657,"bytes":7589265784,"bits_per_second":30347094115.58303},
"cpu_utilization_percent":{"host_total":33.29,"remote_total":34.54}}}"#;

#[test]
fn a_measurement_counts_what_arrived() {
    let Answer::Measured(there) = answer(GOOD.as_bytes(), false) else { panic!("a measurement") };
    assert!((there.bits_per_second / 1e9 - 30.347).abs() < 0.001);
    assert_eq!((there.retransmits, there.segment), (Some(1), Some(1448)));
    assert_eq!(there.total_bytes, 7_589_265_784 + 3_900_000_000);
    assert_eq!((there.cpu_here, there.cpu_there), (Some(33.29), Some(34.54)));
    let Answer::Measured(back) = answer(GOOD.as_bytes(), true) else { panic!("a measurement") };
    assert_eq!(back.total_bytes, 7_589_265_784);
}

#[test]
fn the_error_key_decides_although_the_tool_exits_with_0() {
    let of =
        |error: &str| answer(format!(r#"{{"start":{{}},"end":{{}},"error":"{error}"}}"#).as_bytes(), false);
    let unreachable = "unable to connect to server: Connection timed out";
    assert_eq!(of(unreachable), Answer::Unreachable(unreachable.to_owned()));
    for server in [
        "unable to connect to server: Connection refused",
        "the server is busy running a test. try again later",
        "control socket has closed unexpectedly",
    ] {
        assert_eq!(of(server), Answer::Server(server.to_owned()));
    }
    assert!(matches!(of("unable to set buffer size"), Answer::Nonsense(_)));
    let both = GOOD.replacen('{', r#"{"error":"interrupt - the server has terminated","#, 1);
    assert!(matches!(answer(both.as_bytes(), false), Answer::Server(_)), "half a measurement is none");
}

#[test]
fn odd_output_is_never_a_measurement() {
    for odd in [
        "",
        "iperf3: error - something",
        "{}",
        "[]",
        r#"{"end":{}}"#,
        r#"{"end":{"sum_received":{"seconds":0,"bytes":0,"bits_per_second":0}}}"#,
        r#"{"end":{"sum_received":{"seconds":2,"bytes":"many","bits_per_second":1}}}"#,
        r#"{"error":7}"#,
    ] {
        assert!(matches!(answer(odd.as_bytes(), false), Answer::Nonsense(_)), "{odd}");
    }
}

/// What comes of a tool that does this.
async fn ran(folder: &Path, script: &str) -> Result<Vec<u8>, String> {
    let tool = folder.join("iperf3");
    fs::write(&tool, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("executable");
    asked(&Machine::captured(folder, Some(folder.to_owned()))).await
}

async fn asked(machine: &Machine) -> Result<Vec<u8>, String> {
    let address = "10.77.0.1".parse().expect("an address");
    let server = IperfServer { address, port: 5201, client: None, link_mbps: None };
    iperf(machine, "eno1", &server, address, false, Plan::lasting(2)).await
}

#[tokio::test]
async fn a_tool_that_misbehaves_is_an_obstacle_that_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    for (script, said) in [
        ("exit 3", "iperf3 wrote nothing"),
        ("echo 'iperf3: parameter error' >&2; exit 1", "parameter error"),
        ("kill -9 $$", "iperf3 wrote nothing"),
        ("head -c 34000000 /dev/zero", "more than 32 MiB"),
    ] {
        let problem = ran(folder.path(), script).await.expect_err(script);
        assert!(problem.contains(said), "{script}: {problem}");
    }
    // The exit status says nothing, and what was printed is no measurement.
    for script in ["echo garbage", "head -c 3000 /dev/urandom; exit 0", "echo '{}'; exit 77"] {
        let printed = ran(folder.path(), script).await.expect("something was printed");
        assert!(matches!(answer(&printed, false), Answer::Nonsense(_)), "{script}");
    }
    let empty = tempfile::tempdir().expect("folder");
    let missing = asked(&Machine::captured(empty.path(), Some(empty.path().to_owned()))).await;
    assert!(missing.expect_err("there is none").contains("iperf3"));
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_stopped() {
    let folder = tempfile::tempdir().expect("folder");
    let started = tokio::time::Instant::now();
    let problem = ran(folder.path(), "exec sleep 100000").await.expect_err("it hangs");
    assert_eq!(problem, "iperf3 did not end within 27 s; data stopped flowing through eno1");
    assert!(started.elapsed() < Duration::from_mins(1));
}
