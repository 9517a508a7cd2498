//! The stage `Network`: every port carries data in both directions, and its link is what it should be.
//!
//! Each expected port is measured by itself against a speed server of the runner, with traffic that provably went
//! through it. A run has servers of its own, and the control plane lets one machine at a time into this stage per
//! runner, so that hosts that are vetted at once do not spoil one another's figures; the ports of one machine take
//! turns. What the runner limits (its link, its processor) fails no machine: that is `unverified`.

mod port;
#[cfg(test)]
mod tests;

use assay_model::host::network::{NetworkEvidence, Obstacle};
use assay_model::host::order::Profile;
use assay_model::host::spec::HostSpec;
use assay_model::text::clean;
use assay_model::{Coverage, Finding, Judgement, Owner, Severity, StageName, StagePlan, Verdict};

use self::port::PortReport;
use crate::{HostStage, JudgeInput};

/// The stage's name.
pub(crate) const NAME: &str = "Network";

/// Ports more than any machine has.
const MAX_PORTS: usize = 256;
/// What a port takes beside its data: link, reaching the server, a busy server, the tool's own time.
const BESIDE_S: u32 = 150;

/// Network ports.
pub(crate) struct Network;

impl HostStage for Network {
    fn plan(&self) -> StagePlan {
        StagePlan { name: StageName::from(NAME), owner: Owner::Agent, required: true, timeout_s: 1800 }
    }

    fn limit_s(&self, spec: &HostSpec, profile: Profile) -> u32 {
        // Without a list of ports, as many as usual boards have.
        let ports = u32::try_from(spec.nics.len()).unwrap_or(u32::MAX).max(8);
        let one = seconds(spec, profile).saturating_mul(2).saturating_add(BESIDE_S);
        ports.saturating_mul(one).saturating_add(120)
    }

    fn judge(&self, input: &JudgeInput<'_>) -> Judgement {
        super::judged(NAME, input, |evidence: &NetworkEvidence| judge(evidence, input))
    }

    #[cfg(feature = "collect")]
    fn collect<'a>(
        &'a self,
        context: &'a crate::CollectContext<'a>,
    ) -> futures::future::BoxFuture<'a, Result<crate::Collected, crate::CollectError>> {
        Box::pin(collect(context))
    }
}

/// Seconds of each direction of each port.
fn seconds(spec: &HostSpec, profile: Profile) -> u32 {
    let usual = match profile {
        Profile::Quick => 3,
        Profile::Standard => 15,
        Profile::Burnin => 600,
    };
    spec.limits.network.seconds.unwrap_or(usual).clamp(1, 3600)
}

#[cfg(feature = "collect")]
async fn collect(context: &crate::CollectContext<'_>) -> Result<crate::Collected, crate::CollectError> {
    use assay_probes::iperf;

    let failed = |problem: String| crate::CollectError { stage: StageName::from(NAME), problem };
    let ports = iperf::ports(context.machine).await;
    let (mut tests, absent) = assign(ports, context.spec);
    let mut evidence =
        NetworkEvidence { absent, servers: context.input.iperf.len(), ..NetworkEvidence::default() };
    if context.input.iperf.is_empty() {
        evidence.problems.push("the runner offered no speed server for this run".to_owned());
    }
    let plan = iperf::Plan::lasting(seconds(context.spec, context.input.profile));
    let link_only = &context.spec.limits.network.link_only;
    let mut artifacts = Vec::new();
    for (turn, test) in tests.iter_mut().enumerate() {
        let only = test
            .mac
            .as_ref()
            .is_some_and(|mac| link_only.iter().any(|wanted| wanted.eq_ignore_ascii_case(mac)));
        let mut servers = context.input.iperf.clone();
        if !servers.is_empty() {
            // Each port begins with another server; the others are there for when that one is busy.
            let first = turn % servers.len();
            servers.rotate_left(first);
        }
        artifacts.extend(iperf::measure(context.machine, test, &servers, only, plan, context.progress).await);
    }
    evidence.nics = tests;
    let evidence = serde_json::to_value(&evidence).map_err(|problem| failed(problem.to_string()))?;
    Ok(crate::Collected { evidence, artifacts })
}

/// Finds the expected ports among those that are there. Without a list, every port is a candidate.
#[cfg(any(feature = "collect", test))]
fn assign(
    mut ports: Vec<assay_model::host::network::NicTest>,
    spec: &HostSpec,
) -> (Vec<assay_model::host::network::NicTest>, Vec<assay_model::host::network::AbsentNic>) {
    use assay_model::host::network::AbsentNic;

    if spec.nics.is_empty() {
        return (ports, Vec::new());
    }
    let (mut tests, mut absent) = (Vec::new(), Vec::new());
    // Those with an address first: what is left over is for those that only have a driver.
    let (named, described): (Vec<_>, Vec<_>) = spec.nics.iter().partition(|wanted| wanted.mac.is_some());
    for wanted in named.into_iter().chain(described) {
        let fits = |port: &assay_model::host::network::NicTest| match (&wanted.mac, &wanted.driver) {
            (Some(mac), _) => port.mac.as_ref().is_some_and(|told| told.eq_ignore_ascii_case(mac)),
            (None, Some(driver)) => port.driver.as_deref() == Some(driver),
            (None, None) => true,
        };
        match ports.iter().position(fits) {
            Some(at) => {
                let mut test = ports.remove(at);
                test.expected = true;
                test.min_speed_mbps = wanted.min_speed_mbps;
                tests.push(test);
            }
            None => absent.push(AbsentNic { mac: wanted.mac.clone(), driver: wanted.driver.clone() }),
        }
    }
    (tests, absent)
}

fn judge(evidence: &NetworkEvidence, input: &JudgeInput<'_>) -> Judgement {
    let (limits, asked_s) = (&input.spec.limits.network, seconds(input.spec, input.profile));
    let (mut checks, mut findings, mut unverified) = (Vec::new(), Vec::new(), Vec::new());
    let (mut measured, mut total, mut blind, mut without_server) = (0, 0, 0, 0);
    for test in evidence.nics.iter().take(MAX_PORTS) {
        let report = PortReport::of(test, limits, asked_s);
        // A port that nobody expects and nothing is plugged into is no gap.
        let idle = !test.expected && matches!(test.obstacle, Some(Obstacle::NoLink));
        total += u64::from(!idle && !matches!(test.obstacle, Some(Obstacle::LinkOnly)));
        measured += u64::from(report.measured);
        blind += u64::from(report.blind && test.expected);
        without_server += u64::from(report.server_failed);
        checks.extend(report.checks);
        findings.extend(report.findings);
        unverified.extend(report.unverified);
    }
    for nic in evidence.absent.iter().take(MAX_PORTS) {
        total += 1;
        findings.push(absent(nic.mac.as_deref(), nic.driver.as_deref()));
    }
    // The evidence is the agent's; what the spec expects is known here.
    let accounted = evidence.nics.iter().filter(|nic| nic.expected).count() + evidence.absent.len();
    if accounted < input.spec.nics.len() {
        blind += 1;
        unverified.push(format!(
            "{} network ports are expected and the agent spoke of {accounted}",
            input.spec.nics.len()
        ));
    }
    unverified.extend(evidence.problems.iter().take(MAX_PORTS).map(|problem| clean(problem)));
    let message = format!("{measured} of {total} network ports carried data in both directions");
    let coverage = vec![Coverage { what: "network ports measured".to_owned(), covered: measured, total }];
    let mut judgement = Judgement::from_evidence(checks, findings, coverage, unverified, message);
    if judgement.verdict != Verdict::Fail {
        if without_server > 0 {
            judgement.verdict = Verdict::Error;
            judgement.message =
                "the runner's speed servers did not serve; the run says nothing about the ports".into();
        } else if blind > 0 || measured == 0 && !all_link_only(evidence) {
            judgement.verdict = Verdict::Unverified;
        }
    }
    judgement
}

/// Whether there was nothing to measure, because the spec says so of each port.
fn all_link_only(evidence: &NetworkEvidence) -> bool {
    !evidence.nics.is_empty() && evidence.nics.iter().all(|nic| nic.obstacle == Some(Obstacle::LinkOnly))
}

fn absent(mac: Option<&str>, driver: Option<&str>) -> Finding {
    let what = match (mac, driver) {
        (Some(mac), _) => format!("network port {}", clean(mac)),
        (None, Some(driver)) => format!("a network port with the driver {}", clean(driver)),
        (None, None) => "one more network port".to_owned(),
    };
    Finding::new(
        "NicAbsent",
        Severity::Critical,
        format!("{what} is expected and is not there"),
        "Reseat the card and look for it in the firmware's list of devices, or correct the expected spec.",
    )
    .part("nic", None, mac)
}
