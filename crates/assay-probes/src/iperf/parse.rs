//! Reads what `iperf3 -J` wrote.

use assay_model::host::network::Transfer;
use assay_model::text::clean;
use serde_json::Value;

/// What one run of the tool came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Data went through.
    Measured(Transfer),
    /// The server could not be reached.
    Unreachable(String),
    /// The server was reached and did not serve.
    Server(String),
    /// Nothing that can be used.
    Nonsense(String),
}

pub(super) fn answer(raw: &[u8], reverse: bool) -> Answer {
    let json: Value = match serde_json::from_slice(raw) {
        Ok(json) => json,
        Err(problem) => return Answer::Nonsense(format!("iperf3 wrote no JSON: {problem}")),
    };
    if let Some(error) = json.get("error") {
        return classify(&clean(error.as_str().unwrap_or("an error that it does not name")));
    }
    measured(&json, reverse)
        .map_or_else(|| Answer::Nonsense("iperf3 reported no measurement".to_owned()), Answer::Measured)
}

fn classify(error: &str) -> Answer {
    let lower = error.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if has(&["no route to host", "timed out", "network is unreachable", "host is down"]) {
        Answer::Unreachable(error.to_owned())
    } else if has(&["server", "refused", "control socket", "control message", "reset by peer", "cookie"]) {
        Answer::Server(error.to_owned())
    } else {
        Answer::Nonsense(format!("iperf3: {error}"))
    }
}

fn measured(json: &Value, reverse: bool) -> Option<Transfer> {
    let end = json.get("end")?;
    let number = |path: &str| end.pointer(path).and_then(Value::as_f64).filter(|value| value.is_finite());
    let bits_per_second = number("/sum_received/bits_per_second")?;
    let seconds = number("/sum_received/seconds")?;
    let bytes = number("/sum_received/bytes")?;
    // A transfer of nothing over no time is no measurement.
    if seconds <= 0.0 || bytes < 0.0 || bits_per_second < 0.0 {
        return None;
    }
    // The seconds of warming up are intervals that are marked as omitted.
    let intervals = json.get("intervals").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let omitted: f64 = intervals
        .iter()
        .filter_map(|interval| interval.get("sum"))
        .filter(|sum| sum.get("omitted").and_then(Value::as_bool) == Some(true))
        .filter_map(|sum| sum.get("bytes").and_then(Value::as_f64))
        .sum();
    let retransmits = number("/sum_sent/retransmits").map(|count| count as u64);
    Some(Transfer {
        bits_per_second,
        bytes: bytes as u64,
        seconds,
        retransmits,
        segment: json
            .pointer("/start/tcp_mss_default")
            .or_else(|| json.pointer("/start/tcp_mss"))
            .and_then(Value::as_u64)
            .filter(|size| *size > 0),
        // Sending here, what was warmed up with is what was sent; the other way round, what came.
        total_bytes: (bytes + if reverse { 0.0 } else { omitted }) as u64,
        port_bytes: None,
        cpu_here: number("/cpu_utilization_percent/host_total"),
        cpu_there: number("/cpu_utilization_percent/remote_total"),
    })
}
