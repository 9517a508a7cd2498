//! Where a long stage stands: kept beside the spool for an agent that is started again, and told to the control plane
//! for a machine that is.

use assay_api::agent::Checkpoint;
use assay_model::StageName;
use serde_json::Value;

use crate::agent::Context;
use crate::backoff::Backoff;
use crate::client::Answer;
use crate::deliver::Void;

impl Context {
    /// Takes a checkpoint; only the newest counts.
    pub(crate) fn save(&self, stage: &StageName, attempt: u32, generation: i64, standing: Value) {
        let checkpoint = Checkpoint { stage: stage.clone(), attempt, generation, state: standing };
        self.spool.set_checkpoint(&checkpoint);
        self.checkpoint.send_replace(Some(checkpoint));
    }

    /// Where this try goes on: from this machine's own checkpoint where an agent before this one took it in the same
    /// try, otherwise from what the control plane sent, be it nothing.
    pub(crate) fn resume(&self, stage: &StageName, attempt: u32, sent: Option<Value>) -> Option<Value> {
        let own = self.spool.checkpoint().filter(|kept| kept.stage == *stage && kept.attempt == attempt);
        own.map(|kept| kept.state).or(sent)
    }
}

/// Tells the control plane each newest checkpoint, for ever. One that is overtaken is not told.
pub(crate) async fn carry(context: &Context) -> Void {
    let mut news = context.checkpoint.subscribe();
    let mut backoff = Backoff::new(context.settings.pacing);
    loop {
        if news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        loop {
            let Some(checkpoint) = news.borrow_and_update().clone() else { break };
            let body = serde_json::to_vec(&checkpoint).expect("plain data").into();
            match context.client.put_json("checkpoint", body).await {
                Answer::Done(()) => {
                    context.console.working("checkpoint");
                    backoff.reset();
                    break;
                }
                // Of an attempt that is over: nobody will go on from it.
                Answer::Refused(_) | Answer::TooLarge(_) => break,
                Answer::Again(why) => {
                    context.console.failing("checkpoint", &why);
                    backoff.pause().await;
                }
                Answer::Void(why) => return Void(why),
            }
        }
    }
}
