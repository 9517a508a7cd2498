//! Being heard from: at the pace that the control plane asked for, and a little earlier when a new step began.

use assay_api::agent::Heartbeat;
use tokio::time::sleep;

use crate::agent::Context;
use crate::client::Answer;
use crate::clock;
use crate::deliver::Void;

/// Beats for ever. A beat that did not get through is not repeated: the next one says more.
pub(crate) async fn beat(context: &Context) -> Void {
    let second = context.settings.pacing.second;
    let period = second * context.session.welcome.heartbeat_s.max(1);
    let mut changes = context.watch_status();
    loop {
        let status = changes.borrow_and_update().clone();
        let beat = Heartbeat {
            stage: status.stage,
            step: status.step,
            uptime_s: clock::since_boot().as_secs(),
            spooled: context.spool.len() as u64,
        };
        match context.client.heartbeat(&beat).await {
            Answer::Done(_) => context.console.working("heartbeat"),
            Answer::Again(why) | Answer::Refused(why) | Answer::TooLarge(why) => {
                context.console.failing("heartbeat", &why);
            }
            Answer::Void(why) => return Void(why),
        }
        let step = async {
            // Steps can follow one another fast.
            sleep(second).await;
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = sleep(period) => {}
            () = step => {}
        }
    }
}
