//! The agent as a whole: what runs beside what, and how it ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assay_api::agent::{Checkpoint, Welcome};
use assay_model::{Micros, StageName};
use assay_process::Cmd;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::client::{Answer, Client};
use crate::console::Console;
use crate::deliver::{Void, deliver};
use crate::session::{self, Session};
use crate::spool::{Lane, Spool};
use crate::{
    Collector, Settings, checkpoint, clock, heartbeat, kmsg, post_mortem, shipping, sidecar, stages,
};

/// The longest that the power-off command may take to return.
const POWEROFF_LIMIT: Duration = Duration::from_secs(30);

/// The program in the live image.
pub struct Agent;

/// An enrolment that was handed over with the work.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Bearer token of the agent protocol.
    pub credential: String,
    /// What an agent is told when it enrols.
    pub welcome: Welcome,
}

/// Why the agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Told to; everything was done, and the machine is going off.
    PoweredOff,
    /// Told to, but the machine could not be switched off. Starting the agent again tries again.
    PowerOffFailed(String),
    /// The control plane does not let this machine enrol. Asking again would change nothing.
    Refused(String),
    /// A newer boot of this machine took its place.
    Void(String),
    /// This boot's enrolment had come to its end before the agent was started.
    AlreadyEnded,
    /// The agent itself failed. Starting it again goes on where it ended.
    Failed(String),
}

impl ExitReason {
    /// The program's exit code: 0 done, 1 worth another start, 3 another start changes nothing.
    pub fn code(&self) -> u8 {
        match self {
            Self::PoweredOff => 0,
            Self::PowerOffFailed(_) | Self::Failed(_) => 1,
            Self::Refused(_) | Self::Void(_) | Self::AlreadyEnded => 3,
        }
    }
}

/// What the parts of an enrolled agent share.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) console: Console,
    pub(crate) session: Session,
    pub(crate) spool: Spool,
    /// A result has left the spool: the control plane may have something new to do.
    pub(crate) result_gone: Notify,
    /// The machine goes off: the last lines are to be spooled now.
    pub(crate) farewell: CancellationToken,
    /// Where the stage at work stands: the newest checkpoint.
    pub(crate) checkpoint: watch::Sender<Option<Checkpoint>>,
    status: watch::Sender<Status>,
}

/// What is being done, for the heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) stage: Option<(StageName, u32)>,
    pub(crate) step: Option<String>,
}

impl Context {
    pub(crate) fn set_status(&self, status: Status) {
        self.status.send_replace(status);
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Server time now.
    pub(crate) fn now(&self) -> Micros {
        self.session.clock.at(clock::since_boot())
    }

    pub(crate) fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}

impl Agent {
    /// Enrols, does what it is told until it is told to go, and says why it ended. May be cancelled by dropping.
    pub async fn run(settings: Settings, collector: Arc<dyn Collector>) -> ExitReason {
        Self::start(settings, collector, None).await
    }

    /// As [`Agent::run`], for one that was enrolled by being given the work: a runner that is a run's agent itself.
    pub async fn run_enrolled(
        settings: Settings,
        enrolled: Enrolled,
        collector: Arc<dyn Collector>,
    ) -> ExitReason {
        Self::start(settings, collector, Some(enrolled)).await
    }

    async fn start(
        settings: Settings,
        collector: Arc<dyn Collector>,
        handed_over: Option<Enrolled>,
    ) -> ExitReason {
        if session::has_ended(&settings) {
            return ExitReason::AlreadyEnded;
        }
        let (console, lines) = Console::new(Arc::clone(&settings.console));
        let (enrolled, when_enrolled) = watch::channel(None);
        // These run from the first moment: what happens before the enrolment is evidence, too.
        let mut watchers = JoinSet::new();
        watchers.spawn(sidecar::watch_sensors(Arc::clone(&collector), settings.pacing, when_enrolled));
        if let Some(path) = settings.kmsg.clone() {
            let console = console.clone();
            watchers.spawn(async move { kmsg::follow(&path, &console).await });
        }

        let is_machine = handed_over.is_none();
        let context = match become_someone(settings, handed_over, &collector, &console).await {
            Ok(context) => Arc::new(context),
            Err(reason) => return reason,
        };
        // Only a machine that has booted can have kept something of the boot before.
        if is_machine && let Err(void) = post_mortem::tell(&context, collector.as_ref()).await {
            return ended(&context, void);
        }
        let mut shipper = JoinSet::new();
        shipper.spawn(shipping::ship_lines(Arc::clone(&context), lines));
        enrolled.send_replace(Some(Arc::clone(&context)));
        let mut couriers = couriers(&context);

        let reason = tokio::select! {
            told = stages::obey(&context, &collector) => match told {
                Ok(reason) => reason,
                Err(void) => return ended(&context, void),
            },
            ended = courier_ended(&mut couriers, &context) => return ended,
        };
        context.console.say(&format!("switching off: {reason}"));
        watchers.shutdown().await;
        tokio::select! {
            () = farewell(&context, &mut shipper) => {}
            // Nobody wants the rest any more, but the machine goes off all the same.
            _ = courier_ended(&mut couriers, &context) => {}
        }
        power_off(&context).await
    }
}

async fn become_someone(
    settings: Settings,
    handed_over: Option<Enrolled>,
    collector: &Arc<dyn Collector>,
    console: &Console,
) -> Result<Context, ExitReason> {
    let failed = |why: String| {
        console.say(&why);
        ExitReason::Failed(why)
    };
    let pass = match handed_over {
        Some(enrolled) => session::handed_over(&settings, enrolled),
        None => session::pass(&settings, console).map_err(&failed)?,
    };
    let client = Client::new(&settings.boot, &settings.pacing, pass.credential.clone())
        .map_err(|why| failed(format!("the connection to the control plane cannot be set up: {why}")))?;
    let session = session::enrol(&settings, &client, pass, collector.as_ref(), console).await?;
    let spool = Spool::open(settings.spool.as_deref(), &session.owner(), settings.bounds).or_else(|error| {
        let place = settings.spool.as_deref().unwrap_or(Path::new("")).display();
        console.say(&format!(
            "the spool {place} cannot be used ({error}); undelivered items are kept in memory only"
        ));
        Spool::open(None, &session.owner(), settings.bounds)
    });
    let spool = spool.map_err(|error| failed(format!("no spool: {error}")))?;
    if spool.len() > 0 {
        console.say(&format!("{} items are still to be delivered", spool.len()));
    }
    Ok(Context {
        settings,
        client,
        console: console.clone(),
        session,
        spool,
        result_gone: Notify::new(),
        farewell: CancellationToken::new(),
        checkpoint: watch::Sender::new(None),
        status: watch::Sender::new(Status::default()),
    })
}

/// The three lanes and the heartbeat. Each ends only when the credential is void.
fn couriers(context: &Arc<Context>) -> JoinSet<Void> {
    let mut couriers = JoinSet::new();
    let lanes: [fn(&Spool) -> &Lane; 3] =
        [|spool| &spool.sensors, |spool| &spool.logs, |spool| &spool.evidence];
    for lane in lanes {
        let context = Arc::clone(context);
        couriers.spawn(async move { deliver(&context, lane(&context.spool)).await });
    }
    couriers.spawn({
        let context = Arc::clone(context);
        async move { checkpoint::carry(&context).await }
    });
    let context = Arc::clone(context);
    couriers.spawn(async move { heartbeat::beat(&context).await });
    couriers
}

async fn courier_ended(couriers: &mut JoinSet<Void>, context: &Context) -> ExitReason {
    match couriers.join_next().await {
        Some(Ok(void)) => ended(context, void),
        Some(Err(error)) => {
            context.console.say(&format!("the agent failed: {error}"));
            ExitReason::Failed(error.to_string())
        }
        None => ExitReason::Failed("nothing delivers the spool".to_owned()),
    }
}

fn ended(context: &Context, Void(why): Void) -> ExitReason {
    context.console.say(&format!("this boot of the machine counts no more: {why}"));
    session::set_ended(&context.settings, &context.console);
    ExitReason::Void(why)
}

/// Delivers what is left, within its time, and says goodbye.
async fn farewell(context: &Context, shipper: &mut JoinSet<()>) {
    let pacing = context.settings.pacing;
    let deadline = Instant::now() + pacing.farewell;
    context.farewell.cancel();
    let delivered = timeout_at(deadline, async {
        while shipper.join_next().await.is_some() {}
        context.spool.drained().await;
    });
    if delivered.await.is_err() {
        context.console.print(&format!("{} items could not be delivered and are lost", context.spool.len()));
    }
    // One try at least, however long the rest took.
    let deadline = deadline.max(Instant::now() + pacing.request);
    let mut backoff = Backoff::new(pacing);
    let goodbye = async {
        loop {
            match context.client.off().await {
                Answer::Again(why) => context.console.failing("off", &why),
                _ => return,
            }
            backoff.pause().await;
        }
    };
    if timeout_at(deadline, goodbye).await.is_err() {
        context.console.print("the control plane could not be told that this machine goes off");
    }
}

async fn power_off(context: &Context) -> ExitReason {
    let [program, args @ ..] = context.settings.poweroff.as_slice() else {
        return ExitReason::PoweredOff;
    };
    let command = Cmd::new(program).args(args);
    context.console.print(&format!("{command}"));
    let why = match timeout(POWEROFF_LIMIT, command.run_ok()).await {
        Ok(Ok(_)) => return ExitReason::PoweredOff,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("`{command}` did not return in {} s", POWEROFF_LIMIT.as_secs()),
    };
    context.console.print(&format!("this machine could not be switched off: {why}"));
    ExitReason::PowerOffFailed(why)
}
