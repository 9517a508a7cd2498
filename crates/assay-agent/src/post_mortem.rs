//! What the machine kept of a crash (pstore), told before anything else: it may explain why the last try was lost.

use assay_api::agent::PostMortem;

use crate::Collector;
use crate::agent::Context;
use crate::backoff::Backoff;
use crate::client::Answer;
use crate::deliver::Void;

/// Tells it once per boot, nothing included, and has the machine forget what was told.
pub(crate) async fn tell(context: &Context, collector: &dyn Collector) -> Result<(), Void> {
    let records = collector.post_mortem();
    if !records.is_empty() {
        context.console.say(&format!("{} records of an earlier crash were found", records.len()));
    }
    let body: bytes::Bytes =
        serde_json::to_vec(&PostMortem { records: records.clone() }).expect("plain data").into();
    let mut backoff = Backoff::new(context.settings.pacing);
    loop {
        match context.client.post_empty("post-mortem", body.clone()).await {
            Answer::Done(()) => {
                context.console.working("post-mortem");
                collector.forget_post_mortem(&records);
                return Ok(());
            }
            Answer::Refused(why) | Answer::TooLarge(why) => {
                context.console.say(&format!("the records of an earlier crash were refused: {why}"));
                return Ok(());
            }
            Answer::Again(why) => {
                context.console.failing("post-mortem", &why);
                backoff.pause().await;
            }
            Answer::Void(why) => return Err(Void(why)),
        }
    }
}
