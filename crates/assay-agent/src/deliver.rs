//! Carries the spool to the control plane: each lane by itself, oldest first, one item at a time, until the
//! control plane says that it has it.

use assay_api::agent::{Ack, ArtifactQuery, ResultAck, StageResult};
use bytes::Bytes;
use serde_json::Value;

use crate::agent::Context;
use crate::backoff::Backoff;
use crate::client::Answer;
use crate::spool::{Header, Item, Lane};

/// The credential counts no more, and why.
pub(crate) struct Void(pub(crate) String);

/// Delivers a lane for ever.
pub(crate) async fn deliver(context: &Context, lane: &Lane) -> Void {
    let mut backoff = Backoff::new(context.settings.pacing);
    loop {
        let mut item = lane.front().await;
        let mut replaced = false;
        loop {
            match send(context, &item).await {
                Answer::Done(()) => {
                    context.console.working(lane.name);
                    backoff.reset();
                    break;
                }
                Answer::Again(why) => {
                    context.console.failing(lane.name, &why);
                    backoff.pause().await;
                }
                Answer::Refused(why) => {
                    context
                        .console
                        .say(&format!("{} was refused and is given up: {why}", name(&item.header)));
                    break;
                }
                Answer::TooLarge(why) => {
                    let name = name(&item.header);
                    let Some(body) = smaller(&item, &why).filter(|_| !replaced) else {
                        let size = item.body.len();
                        context
                            .console
                            .say(&format!("{name} ({size} bytes) is too large and is given up: {why}"));
                        break;
                    };
                    context.console.say(&format!("{name} is too large ({why}); saying so instead"));
                    (item.body, replaced) = (body, true);
                }
                Answer::Void(why) => return Void(why),
            }
        }
        lane.remove(item.seq);
        if matches!(item.header, Header::Result { .. }) {
            context.result_gone.notify_one();
        }
    }
}

async fn send(context: &Context, item: &Item) -> Answer<()> {
    let client = &context.client;
    match &item.header {
        Header::Sensors => acknowledged(item, client.post_json("sensor", item.body.clone()).await),
        Header::Log => acknowledged(item, client.post_json("log", item.body.clone()).await),
        Header::Artifact { query } => client.artifact(query, item.body.clone()).await,
        Header::Result { .. } => match client.post_json::<ResultAck>("result", item.body.clone()).await {
            Answer::Done(ack) => {
                if ack.late {
                    context
                        .console
                        .say(&format!("{} came too late; kept as evidence only", name(&item.header)));
                }
                Answer::Done(())
            }
            other => other.map(drop),
        },
    }
}

/// An acknowledgement counts only for the number that it names.
fn acknowledged(item: &Item, answer: Answer<Ack>) -> Answer<()> {
    match answer {
        Answer::Done(ack) if ack.seq != item.seq => Answer::Again(format!(
            "the control plane acknowledged number {} instead of {}",
            ack.seq, item.seq
        )),
        other => other.map(drop),
    }
}

/// What can be said in the place of a result that is too large. Nothing can be said in the place of the rest.
fn smaller(item: &Item, why: &str) -> Option<Bytes> {
    let Header::Result { stage, attempt, generation } = &item.header else {
        return None;
    };
    let problem = format!(
        "the evidence has {} bytes, more than the control plane takes: {why}. Large files belong into artifacts",
        item.body.len()
    );
    let result = StageResult {
        stage: stage.clone(),
        attempt: *attempt,
        generation: *generation,
        evidence: Value::Null,
        problem: Some(problem),
    };
    Some(serde_json::to_vec(&result).expect("plain data").into())
}

fn name(header: &Header) -> String {
    match header {
        Header::Sensors => "a batch of sensor readings".to_owned(),
        Header::Log => "a piece of the log".to_owned(),
        Header::Artifact { query: ArtifactQuery { stage, name, .. } } => format!("{stage}: the file {name}"),
        Header::Result { stage, attempt, .. } => format!("{stage}: the result of try {attempt}"),
    }
}
