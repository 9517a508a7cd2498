//! A picture of the app as people see it: a browser of this machine, in the network of the run's daemon.

use std::time::Duration;

use assay_process::find_program;
use assay_recipe::customise::HookName;

use super::Test;
use crate::recipe::evidence::Screenshot;

/// Longest that the browser may take.
const LIMIT: Duration = Duration::from_mins(1);
/// What the artifact is called.
const NAME: &str = "screenshot.png";

impl Test {
    /// Takes it, where the app has a face; none where it has none.
    pub(super) async fn take_screenshot(&mut self) -> Option<Screenshot> {
        let missing = |why: String| Some(Screenshot::Missing { why });
        let (stand, up) = self.stand.as_ref().zip(self.up.as_ref())?;
        self.face(&up.stack)?;
        let file = self.folder.path().join(NAME);
        let _ = std::fs::remove_file(&file);
        if let Some(hook) = self.customisation.hook(HookName::Screenshot).cloned() {
            // It leaves the picture in its working folder.
            let kept = self.folder.path().join("work").join(NAME);
            return match self.run_executable(&hook, None).await {
                Ok(ran) if ran.succeeded() => match std::fs::read(&kept) {
                    Ok(picture) => Some(self.keep(picture)),
                    Err(error) => missing(format!("the hook left no {NAME} in its folder: {error}")),
                },
                Ok(ran) => missing(format!("the hook {} failed", ran.name)),
                Err(why) => missing(why),
            };
        }
        if let Err(error) = find_program("chromium") {
            return missing(error.to_string());
        }
        let http = &self.spec.settings.http;
        let path = self.spec.settings.screenshot.path.as_ref().unwrap_or(&http.path);
        let command = match self.inside(stand, "chromium") {
            Ok(command) => command,
            Err(why) => return missing(why),
        };
        let profile = self.folder.path().join("browser");
        let command = command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // The run's authority is in no store of the browser's.
            .args(["--ignore-certificate-errors", "--hide-scrollbars", "--window-size=1280,900"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--screenshot={}", file.display()))
            .arg(format!("https://{}{path}", stand.front.authority()));
        let ended = command.timeout(LIMIT).run().await;
        let _ = std::fs::remove_dir_all(&profile);
        match (ended, std::fs::read(&file)) {
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
