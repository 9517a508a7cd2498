//! What the tool printed, good and odd. Measurements with the real one are in the pipelines' `real_network`.

use super::parse::{Answer, answer};

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
