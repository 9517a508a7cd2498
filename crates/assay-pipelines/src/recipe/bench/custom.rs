//! The recipe's own tests, against the app as it stands at the end, and a picture of it.

use std::time::Instant;

use assay_recipe::customise::Placement;

use super::{Phases, Tell, Test};
use crate::recipe::evidence::{NotRun, Phase, Reached, Tested};

impl Test {
    pub(super) async fn custom(&mut self, tell: Tell<'_>) -> Result<Reached<Tested>, String> {
        if let Err(because) = self.standing() {
            return Ok(Reached::NotReached { because });
        }
        let mut phases = Phases::default();
        let mut tested = Tested::default();
        for placement in [Placement::Functional, Placement::Browser, Placement::Extra] {
            let (cannot_run, tests): (Vec<_>, Vec<_>) = self
                .customisation
                .tests_at(placement)
                .iter()
                .map(|test| (test.clone(), self.missing.of_test(placement, &test.name)))
                .partition(|(_, missing)| missing.is_some());
            for (test, missing) in cannot_run {
                tested.found.push(test.name.clone());
                tested.not_run.extend(missing.map(|why| NotRun { name: test.name, why }));
            }
            if placement == Placement::Browser && !tests.is_empty() {
                tell("starting a browser's driver");
                phases.time("browser", self.start_browser()).await?;
            }
            for (test, _) in tests {
                tell(&format!("test {}", test.name));
                tested.found.push(test.name.clone());
                let began = Instant::now();
                let ran = self.run_executable(&test, None).await?;
                self.after_browser_test(&test.name, !ran.succeeded()).await;
                tested.ran.push(ran);
                phases.0.push(Phase { name: test.name, seconds: began.elapsed().as_secs_f64() });
            }
            self.stop_browser().await;
        }
        if !self.customisation.options.extra {
            let extra = self.customisation.tests.get(&Placement::Extra);
            tested.left_out = extra.into_iter().flatten().map(|test| test.name.clone()).collect();
        }
        tell("picture of the app");
        tested.screenshot = phases.time("screenshot", self.take_screenshot()).await;
        tested.phases = phases.0;
        Ok(Reached::Done(tested))
    }
}
