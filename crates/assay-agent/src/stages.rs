//! Doing what `/next` says: one stage at a time, each try once, none longer than it may take.

use std::sync::{Arc, Mutex, PoisonError};

use assay_api::agent::{ArtifactQuery, Command, MAX_ARTIFACT, MAX_JSON, StageResult};
use assay_model::host::order::StageInput;
use assay_model::{Sha256, StageName};
use assay_pipelines::Place;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::agent::{Context, Status};
use crate::backoff::Backoff;
use crate::client::Answer;
use crate::deliver::Void;
use crate::shell::Shells;
use crate::spool::{Header, Try};
use crate::{Collector, Evidence, Task};

/// How often a try is begun on this machine. A collector that ends the agent each time must not do so for ever.
const MAX_STARTS: u32 = 3;
/// Characters of an artifact's name.
const MAX_NAME: usize = 128;

/// One command to collect.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    stage: StageName,
    attempt: u32,
    generation: i64,
    timeout_s: u32,
    input: Box<StageInput>,
}

/// Asks and obeys until the machine is to be switched off; returns the reason for that.
pub(crate) async fn obey(context: &Arc<Context>, collector: &Arc<dyn Collector>) -> Result<String, Void> {
    let pacing = context.settings.pacing;
    let tries = Arc::new(Tries::load(context));
    let (mut failing, mut again) = (Backoff::new(pacing), Backoff::again(pacing));
    let mut job = JoinSet::new();
    let mut shells = Shells::default();
    let mut last = None;
    loop {
        let asked = Instant::now();
        let command = match context.client.next(pacing.poll_s).await {
            Answer::Done(command) => command,
            Answer::Void(why) => return Err(Void(why)),
            Answer::Again(why) | Answer::Refused(why) | Answer::TooLarge(why) => {
                context.console.failing("poll", &why);
                failing.pause().await;
                continue;
            }
        };
        context.console.working("poll");
        failing.reset();
        let news = last.as_ref() != Some(&command);
        if news {
            again.reset();
        }
        let shell = match &command {
            Command::Hold { shell, .. } => shell.as_deref(),
            _ => None,
        };
        shells.follow(context, shell).await;
        match &command {
            Command::Wait => {}
            Command::Hold { message, .. } => {
                if !matches!(&last, Some(Command::Hold { message: said, .. }) if said == message) {
                    context.console.say(&format!("held: {message}"));
                }
            }
            Command::Shutdown { reason } => {
                // Dropping a collector stops what it started.
                job.shutdown().await;
                context.set_status(Status::default());
                return Ok(reason.clone());
            }
            Command::Stage { stage, attempt, generation, timeout_s, input } => {
                let order = Order {
                    stage: stage.clone(),
                    attempt: *attempt,
                    generation: *generation,
                    timeout_s: *timeout_s,
                    input: input.clone(),
                };
                if tries.begin(context, &order) {
                    job.shutdown().await;
                    job.spawn(work(Arc::clone(context), Arc::clone(collector), Arc::clone(&tries), order));
                }
            }
        }
        // An answer that was waited for needs no pause: the next one will be, too.
        let waited = !matches!(command, Command::Stage { .. }) && asked.elapsed() >= pacing.again;
        last = Some(command);
        if waited {
            continue;
        }
        // The same answer again, until something changes here: the last result was taken.
        tokio::select! {
            () = again.pause() => {}
            () = context.result_gone.notified() => again.reset(),
        }
    }
}

/// Which tries were begun and finished, by this agent or one before it on this machine.
struct Tries(Mutex<Known>);

struct Known {
    tries: Vec<Try>,
    /// What this process is collecting.
    now: Option<(StageName, u32)>,
}

impl Tries {
    fn load(context: &Context) -> Self {
        let mut tries = context.spool.stages();
        // The agent may have ended between the spooling of a result and its note of that.
        for header in context.spool.evidence.headers() {
            if let Header::Result { stage, attempt, .. } = header {
                entry(&mut tries, &stage, attempt).done = true;
            }
        }
        Self(Mutex::new(Known { tries, now: None }))
    }

    /// Whether this is to be done now: not if it is being done or was done.
    fn begin(&self, context: &Context, order: &Order) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = Some((order.stage.clone(), order.attempt));
        if entry(&mut known.tries, &order.stage, order.attempt).done {
            return false;
        }
        if known.now == id {
            return false;
        }
        entry(&mut known.tries, &order.stage, order.attempt).starts += 1;
        known.now = id;
        context.spool.set_stages(&known.tries);
        true
    }

    fn starts(&self, order: &Order) -> u32 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entry(&mut known.tries, &order.stage, order.attempt).starts
    }

    fn finish(&self, context: &Context, order: &Order) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entry(&mut known.tries, &order.stage, order.attempt).done = true;
        // Another try may have taken its place already.
        if known.now == Some((order.stage.clone(), order.attempt)) {
            known.now = None;
        }
        context.spool.set_stages(&known.tries);
    }
}

fn entry<'a>(tries: &'a mut Vec<Try>, stage: &StageName, attempt: u32) -> &'a mut Try {
    let place =
        tries.iter().position(|this| this.stage == *stage && this.attempt == attempt).unwrap_or_else(|| {
            tries.push(Try { stage: stage.clone(), attempt, starts: 0, done: false });
            tries.len() - 1
        });
    &mut tries[place]
}

/// Collects, and spools what came of it.
async fn work(context: Arc<Context>, collector: Arc<dyn Collector>, tries: Arc<Tries>, order: Order) {
    let Order { stage, attempt, .. } = &order;
    context.console.say(&format!("{stage}: started (try {attempt})"));
    context.set_status(Status { stage: Some((stage.clone(), *attempt)), step: None });
    let starts = tries.starts(&order);
    let outcome = if starts > MAX_STARTS {
        Err(format!(
            "the agent ended {MAX_STARTS} times while it collected this; the kernel's messages in the run's log may say why"
        ))
    } else {
        collect(&context, &collector, &order).await
    };
    let (evidence, problem) = match outcome {
        Ok(Evidence { evidence, artifacts }) => {
            keep_artifacts(&context, &order, artifacts);
            context.console.say(&format!("{stage}: collected"));
            (evidence, None)
        }
        Err(problem) => {
            context.console.say(&format!("{stage}: {problem}"));
            (Value::Null, Some(problem))
        }
    };
    keep_result(&context, &order, evidence, problem);
    tries.finish(&context, &order);
    context.set_status(Status::default());
}

async fn collect(
    context: &Arc<Context>,
    collector: &Arc<dyn Collector>,
    order: &Order,
) -> Result<Evidence, String> {
    let limit = context.settings.pacing.second * order.timeout_s;
    let mut task = JoinSet::new();
    // A task of its own, so that a collector that panics ends itself only.
    task.spawn({
        let (context, collector, order) = (Arc::clone(context), Arc::clone(collector), order.clone());
        async move {
            let progress = |step: &str| {
                context.console.say(&format!("{}: {step}", order.stage));
                let stage = Some((order.stage.clone(), order.attempt));
                context.set_status(Status { stage, step: Some(step.to_owned()) });
            };
            let welcome = &context.session.welcome;
            let place = Place {
                run: welcome.run,
                host: welcome.host.clone(),
                generation: order.generation,
                verify_key: welcome.verify_key.clone(),
                now: context.now(),
            };
            let save = |state: Value| context.save(&order.stage, order.attempt, order.generation, state);
            let checkpoint = context.resume(&order.stage, order.attempt, order.input.checkpoint.clone());
            let input = StageInput { checkpoint, ..StageInput::clone(&order.input) };
            let task = Task {
                stage: &order.stage,
                spec: &welcome.spec,
                input: &input,
                place: &place,
                progress: &progress,
                save: &save,
            };
            collector.collect(task).await
        }
    });
    match timeout(limit, task.join_next()).await {
        Ok(Some(Ok(outcome))) => outcome,
        Ok(Some(Err(error))) => {
            Err(format!("the collector broke off: {error}; this is a fault of the agent"))
        }
        Ok(None) => Err("the collector was not started".to_owned()),
        Err(_) => {
            let step = context.status().step.map(|step| format!(" It was at: {step}.")).unwrap_or_default();
            Err(format!("not finished after {} s, stopped.{step}", order.timeout_s))
        }
    }
}

fn keep_artifacts(context: &Context, order: &Order, artifacts: Vec<(String, Vec<u8>)>) {
    let mut taken: Vec<String> = Vec::new();
    for (name, content) in artifacts {
        let name = free_name(&name, &taken);
        let size = content.len();
        if size as u64 > MAX_ARTIFACT {
            context.console.say(&format!(
                "{}: the file {name} has {size} bytes, more than the {MAX_ARTIFACT} that are taken; it is left out",
                order.stage
            ));
            continue;
        }
        let query = ArtifactQuery {
            stage: order.stage.clone(),
            attempt: order.attempt,
            name: name.clone(),
            sha256: Sha256::of(&content),
        };
        if context.spool.evidence.append(&Header::Artifact { query }, |_| content).is_err() {
            context.console.say(&format!("{}: the spool is full; the file {name} is left out", order.stage));
            continue;
        }
        taken.push(name);
    }
}

fn keep_result(context: &Context, order: &Order, evidence: Value, problem: Option<String>) {
    let header =
        Header::Result { stage: order.stage.clone(), attempt: order.attempt, generation: order.generation };
    let encode = |evidence, problem| {
        let Order { stage, attempt, generation, .. } = order.clone();
        serde_json::to_vec(&StageResult { stage, attempt, generation, evidence, problem })
            .expect("plain data")
    };
    let mut body = encode(evidence, problem);
    if body.len() > MAX_JSON {
        let problem = format!(
            "the evidence has {} bytes, more than the {MAX_JSON} that are taken. Large files belong into artifacts",
            body.len()
        );
        context.console.say(&format!("{}: {problem}", order.stage));
        body = encode(Value::Null, Some(problem));
    }
    context.spool.evidence.append_always(&header, body);
}

/// Makes a name that the protocol takes, and that no other file of the try has.
fn free_name(name: &str, taken: &[String]) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let mut plain: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).take(MAX_NAME).collect();
    if plain.is_empty() {
        plain.push_str("unnamed");
    }
    if plain.starts_with('.') {
        plain.replace_range(..1, "_");
    }
    if !taken.contains(&plain) {
        return plain;
    }
    let mut number = 2;
    loop {
        let end = format!("-{number}");
        let candidate = format!("{}{end}", &plain[..plain.len().min(MAX_NAME - end.len())]);
        if !taken.contains(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::free_name;

    #[test]
    fn names_are_made_such_as_the_protocol_takes() {
        let taken = ["smart-a_b.txt".to_owned(), "x".repeat(128)];
        for (name, expected) in [
            ("inventory.json", "inventory.json".to_owned()),
            ("smart-a/b.txt", "smart-a_b.txt-2".to_owned()),
            ("../../etc/passwd", "_._.._etc_passwd".to_owned()),
            ("dïsk", "d_sk".to_owned()),
            ("", "unnamed".to_owned()),
            ("..", "_.".to_owned()),
            (&"x".repeat(300), format!("{}-2", "x".repeat(126))),
        ] {
            assert_eq!(free_name(name, &taken), expected, "{name}");
        }
    }
}
