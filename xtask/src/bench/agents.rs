//! A thousand machines against one control plane: how fast it answers, whether it keeps everything, and how soon a
//! machine that fell silent is shown.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};

use super::{Figure, Goal, measure, number};

/// As many as a large site has.
const MACHINES: u32 = 1000;
/// Seconds of load that are measured: twelve beats and twelve readings of each machine.
const SECONDS: u32 = 60;

/// Three figures from one run of the measuring program.
pub(super) fn figures(program: &Path, assay: &Path, folder: &Path) -> Result<Vec<Figure>> {
    let args: [OsString; 4] =
        [assay.into(), folder.into(), MACHINES.to_string().into(), SECONDS.to_string().into()];
    let said = measure(program, &args)?;
    let figure = |name: &str| number(&said, name);
    if figure("requests")? < f64::from(MACHINES) {
        bail!("too few requests to say anything: {said}");
    }
    let note = format!(
        "median {:.1} ms, worst {:.0} ms; readings (answered once they are on disk) p99 {:.1} ms, median {:.1} ms; empty \
         requests median {:.1} ms; {:.0} requests in {SECONDS} s, {:.0} a second, {:.0} failed; server: {:.2} processors, \
         at most {:.0} MiB; all enrolled after {:.0} s",
        figure("median")?,
        figure("worst")?,
        figure("sensors_p99")?,
        figure("sensors_median")?,
        figure("nothing_median")?,
        figure("requests")?,
        figure("per_second")?,
        figure("failed")?,
        figure("server_cores")?,
        figure("server_mib")?,
        figure("settled_s")?,
    );
    let (p99, empty) = (figure("value")?, figure("nothing_p99")?);
    let name = format!("answers to {MACHINES} machines, p99");
    let answers = Figure {
        peer: Some("empty requests of the same machines, p99"),
        peer_value: Some(empty),
        ratio: Some(p99 / empty),
        ..Figure::limit(name, p99, "ms", 50.0, note)
    };
    let (sent, stored) = (figure("sent")?, figure("stored")?);
    let note = format!("{sent:.0} sent, {stored:.0} found in the database");
    let lost = Figure {
        ok: Goal::AtMost(0.0).is_met(sent - stored, None) && sent > 0.0,
        ..Figure::limit(format!("readings lost, {MACHINES} machines"), sent - stored, "samples", 0.0, note)
    };
    let note = format!(
        "worst of {:.0} machines, least {:.1} s; from the last request to the word in the run's live stream",
        figure("silent_machines")?,
        figure("silent_least")?
    );
    let name = format!("silent machine among {MACHINES} shown as suspect");
    Ok(vec![answers, lost, Figure::limit(name, figure("silent")?, "s", 15.0, note)])
}
