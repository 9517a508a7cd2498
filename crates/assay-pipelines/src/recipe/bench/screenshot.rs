//! A picture of the app as people see it: a browser of this machine, in a sandbox in the network of the run's daemon.

use std::time::Duration;

use assay_process::find_program;
use assay_recipe::customise::HookName;

use super::{Test, sandbox};
use crate::recipe::evidence::Screenshot;

/// Longest that the browser may take.
const LIMIT: Duration = Duration::from_mins(1);
/// What the artifact is called.
const NAME: &str = "screenshot.png";
/// The longest that is kept, in bytes.
const LONGEST: u64 = 64 << 20;

impl Test {
    /// Takes it, where the app has a face; none where it has none.
    pub(super) async fn take_screenshot(&mut self) -> Option<Screenshot> {
        let missing = |why: String| Some(Screenshot::Missing { why });
        let (stand, up) = self.stand.as_ref().zip(self.up.as_ref())?;
        self.face(&up.stack)?;
        if let Some(hook) = self.customisation.hook(HookName::Screenshot).cloned() {
            // It leaves the picture in its working folder.
            let ran = self.run_executable(&hook, None).await;
            let kept = self.stand.as_ref().map(|stand| sandbox::read_from_work(stand, NAME, LONGEST))?;
            return match (ran, kept) {
                (Ok(ran), _) if !ran.succeeded() => missing(format!("the hook {} failed", ran.name)),
                (Ok(_), Ok(picture)) => Some(self.keep(picture)),
                (Ok(_), Err(error)) => missing(format!("the hook left no {NAME} in its folder: {error}")),
                (Err(why), _) => missing(why),
            };
        }
        let chromium = match find_program("chromium") {
            Ok(chromium) => chromium,
            Err(error) => return missing(error.to_string()),
        };
        let http = &self.spec.settings.http;
        let path = self.spec.settings.screenshot.path.as_ref().unwrap_or(&http.path);
        let sandboxed = match self.sandboxed(stand) {
            Ok(sandboxed) => sandboxed,
            Err(why) => return missing(why),
        };
        let command = sandboxed
            .command(&chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // The run's authority is in no store of the browser's.
            .args(["--ignore-certificate-errors", "--hide-scrollbars", "--window-size=1280,900"])
            .args(["--disable-dev-shm-usage", "--user-data-dir=/tmp/profile"])
            .arg(format!("--screenshot=/tmp/{NAME}"))
            .arg(format!("https://{}{path}", stand.front.authority()));
        let ended = command.timeout(LIMIT).run().await;
        match (ended, sandboxed.read_temporary(NAME, LONGEST)) {
            (Ok(output), Ok(picture)) if output.success() => Some(self.keep(picture)),
            (Ok(output), _) => missing(format!("the browser took none: {}", output.last_words())),
            (Err(error), _) => missing(error.to_string()),
        }
    }

    fn keep(&mut self, picture: Vec<u8>) -> Screenshot {
        self.artifacts.push((NAME.to_owned(), picture));
        Screenshot::Taken { artifact: NAME.to_owned() }
    }
}
