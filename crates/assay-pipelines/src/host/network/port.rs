//! One port: its link, and what went through it.

use assay_model::host::network::{Link, NicTest, Obstacle, Transfer};
use assay_model::host::spec::NetworkLimits;
use assay_model::text::clean;
use assay_model::{Check, Finding, Severity, Verdict};

use crate::host::lasted;

/// A single process cannot use more than one core: above this, it and not the network sets the pace.
const CPU_BOUND_PERCENT: f64 = 90.0;
/// Up to this, the floor for one stream counts; above it, that of fast ports.
const FAST_MBPS: u32 = 10_000;
/// Bytes on the port's own counter, in percent of the payload, at least: headers make it more, never less.
const PORT_BYTES_PERCENT: u64 = 90;
/// The usual segment, where the tool does not tell it.
const SEGMENT: u64 = 1448;

/// A virtual port that nobody set a floor for has to carry data at all.
const VIRTUAL_MBPS: f64 = 1.0;

/// What one port comes to.
#[derive(Default)]
pub(super) struct PortReport {
    pub(super) checks: Vec<Check>,
    pub(super) findings: Vec<Finding>,
    pub(super) unverified: Vec<String>,
    /// Both directions were measured and held to a floor.
    pub(super) measured: bool,
    /// Something about it that should be known is not.
    pub(super) blind: bool,
    /// The runner's servers did not serve.
    pub(super) server_failed: bool,
    label: String,
}

impl PortReport {
    /// `asked_s`: for how long each direction was to be measured, in seconds.
    pub(super) fn of(test: &NicTest, limits: &NetworkLimits, asked_s: u32) -> Self {
        let name = clean(&test.name);
        let label = test.mac.as_ref().map_or_else(|| name.clone(), |mac| format!("{name} ({})", clean(mac)));
        let mut report = Self { label, ..Self::default() };
        let Some(link) = &test.link else {
            report.without_link(test);
            return report;
        };
        report.link(test, link);
        if let Some(obstacle) = &test.obstacle {
            report.obstacle(test, obstacle);
        }
        let directions = [(&test.sent, "to the runner"), (&test.received, "from the runner")];
        let mut held = 0;
        for (transfer, way) in directions {
            if let Some(transfer) = transfer {
                let lasted = report.lasted(transfer, way, asked_s);
                held += u32::from(report.transfer(test, link, transfer, way, limits) && lasted);
            }
        }
        report.measured = held == 2 && test.obstacle.is_none();
        if !report.measured && !matches!(test.obstacle, Some(Obstacle::LinkOnly)) {
            report.blind = true;
        }
        if test.sent.is_some() || test.received.is_some() {
            report.errors(test, limits);
        }
        report
    }

    fn find(&mut self, test: &NicTest, code: &str, severity: Severity, message: String, next_step: &str) {
        let mut finding = Finding::new(code, severity, message, next_step);
        let place = test
            .pci
            .as_deref()
            .map_or_else(|| clean(&test.name), |pci| format!("{} ({})", clean(&test.name), clean(pci)));
        finding = finding.part("nic", Some(&place), test.mac.as_deref().map(clean).as_deref());
        finding.evidence = test.artifacts.iter().take(4).map(|name| clean(name)).collect();
        self.findings.push(finding);
    }

    fn check(&mut self, what: &str, verdict: Verdict, expected: String, seen: String) {
        self.checks.push(Check { name: format!("{}: {what}", self.label), verdict, expected, seen });
    }

    fn without_link(&mut self, test: &NicTest) {
        match &test.obstacle {
            Some(Obstacle::NoLink) if test.expected => {
                self.check(
                    "link",
                    Verdict::Fail,
                    "up".to_owned(),
                    format!("none after {:.0} s", test.waited_s),
                );
                let message = format!("network port {} has no link", self.label);
                self.find(
                    test,
                    "LinkDown",
                    Severity::Critical,
                    message,
                    "Plug the cable in, see whether the switch port is enabled, and try another cable or transceiver.",
                );
            }
            Some(Obstacle::NoLink) => {
                self.unverified
                    .push(format!("network port {} is not plugged in and was not tested", self.label));
            }
            other => {
                self.blind = true;
                let why = other.as_ref().map_or_else(|| "the agent told nothing of it".to_owned(), words);
                self.unverified.push(format!("network port {} was not tested: {why}", self.label));
                self.check("data", Verdict::Unverified, "measured".to_owned(), why);
            }
        }
    }

    fn link(&mut self, test: &NicTest, link: &Link) {
        let Some(speed) = link.speed_mbps else {
            if test.min_speed_mbps.is_none() {
                self.unverified.push(format!(
                    "network port {} is virtual and tells no speed; min_speed_mbps or limits.network.throughput_mbps_min would hold it to one",
                    self.label
                ));
            }
            self.check(
                "link",
                Verdict::Pass,
                "up".to_owned(),
                "up, without a speed (virtual port)".to_owned(),
            );
            return;
        };
        let cable =
            "Replace the cable or transceiver, see what the switch port is set to, and try another port.";
        let half = link.full_duplex == Some(false);
        let seen = format!("{speed} Mb/s{}", if half { ", half duplex" } else { "" });
        let wanted = test.min_speed_mbps;
        let too_slow = wanted.is_some_and(|wanted| speed < wanted);
        // A wire of the cable that is broken makes gigabit ports fall back to 100; no server is meant to run at that.
        let fell_back = wanted.is_none() && speed < 1000 && link.max_mbps.is_some_and(|max| max >= 1000);
        let bad = too_slow || half || fell_back;
        let expected = match (wanted, link.max_mbps) {
            (Some(wanted), _) => format!("at least {wanted} Mb/s, full duplex"),
            (None, Some(max)) => format!("up to {max} Mb/s, full duplex"),
            (None, None) => "full duplex".to_owned(),
        };
        self.check("link", if bad { Verdict::Fail } else { Verdict::Pass }, expected.clone(), seen.clone());
        let message = format!("network port {} is linked at {seen}; {expected} is expected", self.label);
        if bad {
            self.find(test, "LinkSpeedLow", Severity::Critical, message, cable);
        } else if wanted.is_none() && link.max_mbps.is_some_and(|max| speed < max) {
            self.find(test, "LinkSpeedLow", Severity::Warning, message, cable);
        }
    }

    fn obstacle(&mut self, test: &NicTest, obstacle: &Obstacle) {
        let why = words(obstacle);
        match obstacle {
            Obstacle::LinkOnly => {
                self.unverified.push(format!(
                    "network port {}: only its link was looked at, as the spec says",
                    self.label
                ));
                return;
            }
            Obstacle::Server(_) => self.server_failed = true,
            _ => {}
        }
        self.unverified.push(format!("network port {} was not measured: {why}", self.label));
        self.check("data", Verdict::Unverified, "measured in both directions".to_owned(), why.clone());
        let severity = if test.expected { Severity::Warning } else { Severity::Info };
        if matches!(obstacle, Obstacle::Unreachable(_)) {
            self.find(
                test,
                "NetworkUnreachable",
                severity,
                format!("the runner cannot be reached through network port {}: {why}", self.label),
                "Put the port on the provisioning network, or list its address under limits.network.link_only.",
            );
        }
    }

    /// Whether a direction was measured for as long as the profile asks. A short burst may be carried by buffers.
    fn lasted(&mut self, transfer: &Transfer, way: &str, asked_s: u32) -> bool {
        let asked = f64::from(asked_s);
        let lasted = lasted(transfer.seconds, asked);
        if !lasted {
            self.unverified.push(format!(
                "network port {} {way}: measured for {:.1} s, {asked:.0} s were asked for",
                self.label, transfer.seconds
            ));
        }
        lasted
    }

    /// Whether the direction was held to a floor and proven to have gone through the port.
    fn transfer(
        &mut self,
        test: &NicTest,
        link: &Link,
        transfer: &Transfer,
        way: &str,
        limits: &NetworkLimits,
    ) -> bool {
        let proven = self.went_through(test, transfer, way);
        self.retransmits(test, link, transfer, way, limits);
        let mbps = transfer.bits_per_second / 1e6;
        let floor = Floor::of(test, link, limits);
        let seen = format!("{mbps:.0} Mb/s over {:.0} s", transfer.seconds);
        let enough = mbps.is_finite() && mbps >= floor.mbps;
        if enough && proven {
            if let Some(why) = floor.limited {
                self.check(&format!("data {way}"), Verdict::Unverified, floor.words, seen);
                self.unverified.push(format!("network port {} {way}: {why}", self.label));
                return false;
            }
            self.check(&format!("data {way}"), Verdict::Pass, floor.words, seen);
            return true;
        }
        if enough {
            return false;
        }
        if let Some(whose) = cpu_bound(transfer) {
            self.check(&format!("data {way}"), Verdict::Unverified, floor.words.clone(), seen.clone());
            self.unverified.push(format!(
                "network port {} {way}: {seen}, less than {}, but the processor of {whose} was the limit",
                self.label, floor.words
            ));
            return false;
        }
        self.check(&format!("data {way}"), Verdict::Fail, floor.words.clone(), seen.clone());
        let message =
            format!("network port {} carried {seen} {way}; {} is expected", self.label, floor.words);
        self.find(
            test,
            "NetworkThroughputLow",
            Severity::Critical,
            message,
            "Try another cable and switch port, then the card in another slot; look at the switch port's own counters.",
        );
        false
    }

    fn went_through(&mut self, test: &NicTest, transfer: &Transfer, way: &str) -> bool {
        let Some(port) = transfer.port_bytes else {
            self.unverified.push(format!(
                "network port {} {way}: its byte counter cannot be read, so nothing proves that the data went through it",
                self.label
            ));
            return false;
        };
        let payload = transfer.bytes.max(transfer.total_bytes);
        if u128::from(port) * 100 >= u128::from(payload) * u128::from(PORT_BYTES_PERCENT) {
            return true;
        }
        let seen = format!("{port} of {payload} bytes");
        self.check(
            &format!("data {way} through this port"),
            Verdict::Fail,
            format!("at least {PORT_BYTES_PERCENT} %"),
            seen.clone(),
        );
        let message = format!(
            "data meant for network port {} {way} went elsewhere: its own counter saw {seen}",
            self.label
        );
        self.find(
            test,
            "NicTrafficElsewhere",
            Severity::Critical,
            message,
            "See whether two ports of the machine share a bond or bridge, or their cables are swapped.",
        );
        false
    }

    fn retransmits(
        &mut self,
        test: &NicTest,
        link: &Link,
        transfer: &Transfer,
        way: &str,
        limits: &NetworkLimits,
    ) {
        let Some(again) = transfer.retransmits else {
            self.unverified
                .push(format!("network port {} {way}: lost segments were not counted", self.label));
            return;
        };
        let segments = (transfer.bytes / transfer.segment.unwrap_or(SEGMENT).max(1)).max(1);
        let per_million =
            u64::try_from(u128::from(again) * 1_000_000 / u128::from(segments)).unwrap_or(u64::MAX);
        let most = u64::from(limits.retransmits_per_million_max);
        let bad = per_million > most;
        let seen = format!("{per_million} per million ({again} of {segments})");
        self.check(
            &format!("segments sent again {way}"),
            if bad { Verdict::Fail } else { Verdict::Pass },
            format!("at most {most} per million"),
            seen.clone(),
        );
        if !bad {
            return;
        }
        // Where a fast side sends to a slow one, the switch between has to drop: that is nobody's fault. A virtual port
        // is as slow as the machine that emulates it.
        let theirs = test.server.as_ref().and_then(|server| server.link_mbps);
        let mismatch = link.speed_mbps.is_none_or(|ours| theirs.is_some_and(|theirs| theirs != ours));
        if mismatch && let Some(check) = self.checks.last_mut() {
            check.verdict = Verdict::Unverified;
        }
        let message = format!(
            "network port {} lost segments {way}: {seen}, at most {most} per million allowed{}",
            self.label,
            if mismatch {
                "; the two ends have different speeds, or this one is virtual, which can cause this"
            } else {
                ""
            }
        );
        self.find(
            test,
            "NetworkErrors",
            if mismatch { Severity::Warning } else { Severity::Critical },
            message,
            "Replace the cable or transceiver and try another switch port; see whether other traffic fills the network.",
        );
    }

    fn errors(&mut self, test: &NicTest, limits: &NetworkLimits) {
        let sum = test.errors.iter().map(|(_, by)| *by).fold(0, u64::saturating_add);
        let bad = sum > limits.errors_max;
        let list: Vec<String> =
            test.errors.iter().take(12).map(|(name, by)| format!("{} {by}", clean(name))).collect();
        let seen = if list.is_empty() { "0".to_owned() } else { list.join(", ") };
        self.check(
            "errors of the port",
            if bad { Verdict::Fail } else { Verdict::Pass },
            format!("at most {}", limits.errors_max),
            seen.clone(),
        );
        if bad {
            let message = format!("network port {} counted errors under load: {seen}", self.label);
            self.find(
                test,
                "NetworkErrors",
                Severity::Critical,
                message,
                "Replace the cable or transceiver and try another switch port; if it goes on, replace the card.",
            );
        }
        if let Some(flaps) = test.flaps.filter(|flaps| *flaps > 0) {
            self.check(
                "link while data went through",
                Verdict::Fail,
                "steady".to_owned(),
                format!("changed {flaps} times"),
            );
            let message = format!("the link of network port {} changed {flaps} times under load", self.label);
            self.find(
                test,
                "LinkFlapped",
                Severity::Critical,
                message,
                "Replace the cable or transceiver and try another switch port; if it goes on, replace the card.",
            );
        }
    }
}

/// What a direction has to reach.
struct Floor {
    mbps: f64,
    words: String,
    /// Why reaching it does not prove the port.
    limited: Option<String>,
}

impl Floor {
    fn of(test: &NicTest, link: &Link, limits: &NetworkLimits) -> Self {
        if let Some(mbps) = limits.throughput_mbps_min {
            return Self { mbps: f64::from(mbps), words: format!("at least {mbps} Mb/s"), limited: None };
        }
        let Some(rate) = link.speed_mbps.or(test.min_speed_mbps) else {
            return Self {
                mbps: VIRTUAL_MBPS,
                words: format!("more than {VIRTUAL_MBPS:.0} Mb/s (a virtual port has no line rate)"),
                limited: None,
            };
        };
        let theirs = test.server.as_ref().and_then(|server| server.link_mbps);
        let slower = theirs.filter(|theirs| *theirs < rate);
        let counted = slower.unwrap_or(rate);
        let percent =
            if counted > FAST_MBPS { limits.percent_of_fast_line_min } else { limits.percent_of_line_min };
        Self {
            mbps: f64::from(counted) * f64::from(percent) / 100.0,
            words: format!("at least {percent} % of {counted} Mb/s"),
            limited: slower.map(|theirs| {
                format!("the runner's own link ({theirs} Mb/s) is slower than the port ({rate} Mb/s), so that the port's speed is not proven")
            }),
        }
    }
}

fn cpu_bound(transfer: &Transfer) -> Option<&'static str> {
    let busy = |percent: Option<f64>| percent.is_some_and(|percent| percent > CPU_BOUND_PERCENT);
    if busy(transfer.cpu_there) {
        Some("the runner")
    } else if busy(transfer.cpu_here) {
        Some("this machine (one core)")
    } else {
        None
    }
}

fn words(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::NoLink => "it has no link".to_owned(),
        Obstacle::Unreachable(why) => format!("the speed server does not answer through it ({})", clean(why)),
        Obstacle::Server(why) => format!("the speed server did not serve ({})", clean(why)),
        Obstacle::NoServer(why) | Obstacle::Tool(why) => clean(why),
        Obstacle::LinkOnly => "only its link is to be looked at".to_owned(),
    }
}
