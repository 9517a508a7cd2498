//! Collects what is asked of an image that is to be installed on a registered machine, and needs no machine: nothing is
//! flashed and no disk is laid out, as its management controller shows the image as it is.

use super::inspect::inspected;
use super::prepare::readable;
use super::{Brought, Digests, brought};
use crate::image::ImageSpec;
use crate::image::evidence::{Identified, Prepared};

/// The image as a medium, in the words of a report.
const MEDIUM: &str = "as a CD that the management controller shows";

/// Collects the evidence of `Prepare`, `Inspect`, `Identify`; what nobody can look at here is empty.
///
/// # Errors
/// Why the work could not be done at all, for people: a fault of the runner.
pub async fn look(spec: &ImageSpec, stage: &str, digests: &Digests) -> Result<Brought, String> {
    match stage {
        "Prepare" => {
            readable(&spec.image)?;
            let image = digests.of(&spec.image).await?;
            if let Some(wanted) = spec.sha256.filter(|wanted| *wanted != image.sha256) {
                return Err(format!(
                    "{} on the runner's machine is another image than the one that was to be tested (SHA-256 {}, not \
                     {wanted}); copy it there again",
                    spec.image.display(),
                    image.sha256
                ));
            }
            let prepared = Prepared {
                taken_up: None,
                bytes: image.bytes,
                sha256: image.sha256,
                medium: MEDIUM.to_owned(),
                stick_bytes: None,
                flash: None,
                staged: Vec::new(),
                problem: None,
                accel: "a registered machine".to_owned(),
                payload_ms: None,
                disks: Vec::new(),
            };
            brought(&prepared, Vec::new())
        }
        "Inspect" => brought(&inspected(spec).await?, Vec::new()),
        // What the first machine told is in the evidence of its stages, and there is no further one.
        "Identify" => brought(&Identified::default(), Vec::new()),
        "Join" | "Reconcile" => Ok(Brought::default()),
        other => {
            Err(format!("this runner cannot look at an image for {other}; is it older than the server?"))
        }
    }
}
