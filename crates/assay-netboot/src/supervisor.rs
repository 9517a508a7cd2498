//! Keeps dnsmasq running and tells what it does.
//!
//! One task owns the child. It answers two requests (allow, stop), turns log lines into events, and starts a dead
//! dnsmasq again for ever, saying so each time.

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use assay_model::Mac;
use assay_process::{Child, Cmd, Signal};
use tokio::{
    fs,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    NetbootConfig, NetbootError,
    dnsmasq::render,
    ipv6,
    log::{self, LogLine},
    preflight,
};

/// Events held for a slow reader; later ones are dropped with a warning. Machines must not be able to fill memory.
const EVENTS_HELD: usize = 1024;
const START_LIMIT: Duration = Duration::from_secs(10);
/// A dnsmasq that has not read its list again after this is wedged and is started anew.
const REREAD_LIMIT: Duration = Duration::from_secs(5);
/// How long [`Netboot::allow`] waits, a restart included.
const ALLOW_LIMIT: Duration = Duration::from_secs(30);
const STOP_GRACE: Duration = Duration::from_secs(2);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A life this long makes the next restart quick again.
const HEALTHY_LIFE: Duration = Duration::from_mins(1);
const LAST_WORDS: usize = 5;

/// What happened on the provisioning network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetbootEvent {
    /// dnsmasq serves (after the start, and after each restart).
    Ready,
    /// A machine asked for an address: known or not, this is how unknown ones are noticed.
    Discover {
        /// The machine.
        mac: Mac,
    },
    /// A machine was offered an address.
    Offered {
        /// The machine.
        mac: Mac,
        /// The address.
        ip: Ipv4Addr,
    },
    /// A machine took the address.
    Leased {
        /// The machine.
        mac: Mac,
        /// The address.
        ip: Ipv4Addr,
    },
    /// A boot loader was sent completely.
    TftpSent {
        /// The file, with its folder.
        file: String,
        /// To whom.
        ip: Ipv4Addr,
    },
    /// A machine asked for a file that is not there.
    TftpMissing {
        /// The file, with its folder.
        file: String,
        /// Who asked.
        ip: Ipv4Addr,
    },
    /// dnsmasq ended without being asked to, or could not be started again.
    Died {
        /// Its exit code; `None` if a signal ended it or it could not be started.
        code: Option<i32>,
        /// Its last words.
        message: String,
        /// When it is started again.
        restart_in: Duration,
    },
    /// dnsmasq was stopped as asked. The last event.
    Stopped,
}

/// A running netboot service. Dropping it stops dnsmasq.
#[derive(Debug)]
pub struct Netboot {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
enum Request {
    Allow(BTreeSet<Mac>, oneshot::Sender<Result<(), NetbootError>>),
    Stop(oneshot::Sender<()>),
}

impl Netboot {
    /// Checks everything that can be known before, starts dnsmasq, and returns once it serves. No machine is
    /// allowed yet.
    ///
    /// # Errors
    /// [`NetbootError`]; what would only show later is looked for here.
    pub async fn start(config: NetbootConfig) -> Result<(Self, mpsc::Receiver<NetbootEvent>), NetbootError> {
        let doing = format!("creating {}", config.state_dir.display());
        config.validate()?;
        fs::create_dir_all(&config.state_dir).await.map_err(NetbootError::io(doing))?;
        preflight::check(&config).await?;
        // A network with a DHCP server of its own has its own idea of IPv6, too.
        if !config.proxy {
            ipv6::add(&config).await;
        }
        replace(&config.conf_file(), &render(&config)).await?;
        write_hosts(&config, &BTreeSet::new()).await?;

        let (events, receiver) = mpsc::channel(EVENTS_HELD);
        let mut supervisor =
            Supervisor { config, events, unconfirmed: Vec::new(), last_words: VecDeque::new() };
        let child = supervisor.launch().await?;
        let (requests, inbox) = mpsc::channel(16);
        tokio::spawn(supervisor.run(child, inbox));
        Ok((Self { requests }, receiver))
    }

    /// From now on exactly these machines are told to boot from here. Returns once dnsmasq has read the list.
    ///
    /// # Errors
    /// [`NetbootError::NotConfirmed`] when dnsmasq is down for long: the list is written and comes into force later.
    pub async fn allow(&self, machines: &BTreeSet<Mac>) -> Result<(), NetbootError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Allow(machines.clone(), reply);
        self.requests.send(request).await.map_err(|_| NetbootError::Stopped)?;
        match timeout(ALLOW_LIMIT, answer).await {
            Ok(answer) => answer.map_err(|_| NetbootError::Stopped)?,
            Err(_) => Err(NetbootError::NotConfirmed { after: ALLOW_LIMIT }),
        }
    }

    /// Stops dnsmasq and returns once it is gone.
    pub async fn stop(self) {
        let (reply, answer) = oneshot::channel();
        // A supervisor that is gone has stopped dnsmasq already.
        if self.requests.send(Request::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

struct Supervisor {
    config: NetbootConfig,
    events: mpsc::Sender<NetbootEvent>,
    /// Who waits for the list that is written to be read.
    unconfirmed: Vec<oneshot::Sender<Result<(), NetbootError>>>,
    last_words: VecDeque<String>,
}

/// How a life of dnsmasq, or a wait between two, ended.
enum End {
    Died { code: Option<i32>, message: String },
    Asked(Option<oneshot::Sender<()>>),
    TimeIsUp,
}

impl Supervisor {
    async fn run(mut self, mut child: Child, mut inbox: mpsc::Receiver<Request>) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let born = Instant::now();
            let mut end = self.live(&mut child, &mut inbox).await;
            drop(child);
            if born.elapsed() >= HEALTHY_LIFE {
                backoff = FIRST_BACKOFF;
            }
            child = loop {
                match end {
                    End::Asked(reply) => return self.finish(reply).await,
                    End::Died { code, message } => {
                        tracing::warn!(exit.code = code, restart_in = ?backoff, "dnsmasq died and is started again: {message}");
                        self.emit(NetbootEvent::Died { code, message, restart_in: backoff });
                        end = self.pause(backoff, &mut inbox).await;
                        backoff = (backoff * 2).min(LONGEST_BACKOFF);
                    }
                    End::TimeIsUp => match self.launch().await {
                        Ok(child) => break child,
                        Err(error) => end = End::Died { code: None, message: error.to_string() },
                    },
                }
            };
        }
    }

    /// Starts dnsmasq and waits until it has read the list of machines, which it does last.
    async fn launch(&mut self) -> Result<Child, NetbootError> {
        self.last_words.clear();
        let mut cmd =
            Cmd::new("dnsmasq").arg("-C").arg(self.config.conf_file()).netns(self.config.netns.as_deref());
        if let Some(path) = &self.config.search_path {
            cmd = cmd.env("PATH", path);
        }
        let mut child = cmd.spawn().await?;
        if let Ok(ready) = timeout(START_LIMIT, self.until_ready(&mut child)).await {
            ready?;
        } else {
            let message = format!("nothing about being ready within {START_LIMIT:?}; {}", self.said());
            return Err(NetbootError::StartFailed { message });
        }
        self.confirm();
        self.emit(NetbootEvent::Ready);
        Ok(child)
    }

    async fn until_ready(&mut self, child: &mut Child) -> Result<(), NetbootError> {
        let mut taken = None;
        while let Some(line) = child.next_line().await {
            match log::parse(&line.text) {
                Some(LogLine::HostsRead(_)) => return Ok(()),
                Some(LogLine::PortTaken { dhcp }) => taken = Some(dhcp),
                _ => {}
            }
            self.remember(line.text);
        }
        child.stop(STOP_GRACE).await?;
        Err(match taken {
            Some(true) => preflight::port_taken(&self.config, 67, "DHCP"),
            Some(false) => preflight::port_taken(&self.config, 69, "TFTP"),
            None => NetbootError::StartFailed { message: self.said() },
        })
    }

    /// Serves until dnsmasq dies or somebody asks to stop.
    async fn live(&mut self, child: &mut Child, inbox: &mut mpsc::Receiver<Request>) -> End {
        let mut reread_until = None;
        loop {
            // One list at a time: signals that come too close together are merged, and one confirmation must not
            // count for a list that was written after it.
            let may_ask = self.unconfirmed.is_empty();
            tokio::select! {
                line = child.next_line() => match line {
                    Some(line) => self.heed(&line.text),
                    None => return self.autopsy(child).await,
                },
                request = inbox.recv(), if may_ask => match request {
                    Some(Request::Allow(machines, reply)) => {
                        if self.write_or_refuse(&machines, reply).await && child.signal(Signal::HUP).is_ok() {
                            reread_until = Some(Instant::now() + REREAD_LIMIT);
                        }
                    }
                    Some(Request::Stop(reply)) => return self.stop(child, Some(reply)).await,
                    None => return self.stop(child, None).await,
                },
                () = sleep_until(reread_until.unwrap_or_else(Instant::now)), if !may_ask && reread_until.is_some() => {
                    let _ = child.stop(STOP_GRACE).await;
                    let message = format!("it did not read its list again within {REREAD_LIMIT:?} and was stopped");
                    return End::Died { code: None, message };
                }
            }
        }
    }

    /// Waits between two lives. What is allowed meanwhile is written now and read at the next start.
    async fn pause(&mut self, how_long: Duration, inbox: &mut mpsc::Receiver<Request>) -> End {
        let until = Instant::now() + how_long;
        loop {
            tokio::select! {
                () = sleep_until(until) => return End::TimeIsUp,
                request = inbox.recv() => match request {
                    Some(Request::Allow(machines, reply)) => {
                        self.write_or_refuse(&machines, reply).await;
                    }
                    Some(Request::Stop(reply)) => return End::Asked(Some(reply)),
                    None => return End::Asked(None),
                },
            }
        }
    }

    async fn write_or_refuse(
        &mut self,
        machines: &BTreeSet<Mac>,
        reply: oneshot::Sender<Result<(), NetbootError>>,
    ) -> bool {
        match write_hosts(&self.config, machines).await {
            Ok(()) => {
                self.unconfirmed.push(reply);
                true
            }
            Err(error) => {
                let _ = reply.send(Err(error)); // The caller may have been cancelled.
                false
            }
        }
    }

    fn confirm(&mut self) {
        for reply in self.unconfirmed.drain(..) {
            let _ = reply.send(Ok(())); // The caller may have been cancelled.
        }
    }

    async fn stop(&self, child: &mut Child, reply: Option<oneshot::Sender<()>>) -> End {
        if let Err(error) = child.stop(STOP_GRACE).await {
            tracing::error!(%error, "dnsmasq could not be stopped");
        }
        End::Asked(reply)
    }

    async fn finish(&self, reply: Option<oneshot::Sender<()>>) {
        if !self.config.proxy {
            ipv6::remove(&self.config).await;
        }
        self.emit(NetbootEvent::Stopped);
        if let Some(reply) = reply {
            let _ = reply.send(()); // The caller may have been cancelled.
        }
    }

    async fn autopsy(&self, child: &mut Child) -> End {
        // Its log is closed, so it is gone or of no more use; a dead child keeps the status that it has.
        match child.stop(STOP_GRACE).await {
            Ok(status) => End::Died { code: status.code(), message: format!("{status}; {}", self.said()) },
            Err(error) => End::Died { code: None, message: error.to_string() },
        }
    }

    fn heed(&mut self, line: &str) {
        tracing::debug!(dnsmasq = line);
        let event = match log::parse(line) {
            Some(LogLine::HostsRead(_)) => return self.confirm(),
            Some(LogLine::Discover(mac)) => NetbootEvent::Discover { mac },
            Some(LogLine::Offered(mac, ip)) => NetbootEvent::Offered { mac, ip },
            Some(LogLine::Leased(mac, ip)) => NetbootEvent::Leased { mac, ip },
            Some(LogLine::TftpSent(file, ip)) => NetbootEvent::TftpSent { file: file.to_owned(), ip },
            Some(LogLine::TftpMissing(file, ip)) => NetbootEvent::TftpMissing { file: file.to_owned(), ip },
            Some(LogLine::PortTaken { .. }) | None => return self.remember(line.to_owned()),
        };
        self.emit(event);
    }

    fn emit(&self, event: NetbootEvent) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            tracing::warn!(?event, "netboot events are not being read; this one is lost");
        }
    }

    fn remember(&mut self, line: String) {
        if !line.trim().is_empty() {
            self.last_words.push_back(line);
        }
        if self.last_words.len() > LAST_WORDS {
            self.last_words.pop_front();
        }
    }

    fn said(&self) -> String {
        if self.last_words.is_empty() {
            return "it said nothing".to_owned();
        }
        self.last_words.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
    }
}

async fn write_hosts(config: &NetbootConfig, machines: &BTreeSet<Mac>) -> Result<(), NetbootError> {
    let lines: Vec<String> = machines.iter().map(ToString::to_string).collect();
    replace(&config.hosts_file(), &(lines.join("\n") + "\n")).await
}

/// Writes a file so that a reader sees the old or the new one and never a part.
async fn replace(path: &std::path::Path, text: &str) -> Result<(), NetbootError> {
    let failed = || NetbootError::io(format!("writing {}", path.display()));
    let beside = path.with_extension("new");
    fs::write(&beside, text).await.map_err(failed())?;
    fs::rename(&beside, path).await.map_err(failed())
}
