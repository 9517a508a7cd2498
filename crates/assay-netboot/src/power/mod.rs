//! Switching real machines: IPMI, Redfish and Wake-on-LAN behind one [`PowerDriver`].
//!
//! Asking is not having: after each order the driver reads the power state back until it is what was asked for, or
//! says after a time limit what it is instead. Off and on are told as absolute states and never as "toggle" or
//! "cycle", so that an order whose answer was lost may be repeated without switching twice.
//!
//! A BMC is another computer and not a trusted one: its answers are bounded, typed and cleaned, and a password goes
//! only to addresses that the runner's own file names for it ([`settings`] say which, [`secrets`] hold it).

mod error;
mod ipmi;
mod method;
mod redfish;
mod secrets;
mod settings;
mod tls;
mod wol;

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

pub use error::PowerError;
pub use method::{METHODS, Method, place_of, typed};
pub use secrets::{Credential, Secret, Secrets};
pub use settings::{Auth, BootMode, IpmiSettings, PowerSettings, Privilege, RedfishSettings, WolSettings};

use assay_process::Terminal;
use ipmi::Ipmi;
use redfish::Redfish;
use wol::Wol;

/// Between two looks at the power state, and between two tries at a BMC that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether a machine has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// It runs, or at least could.
    On,
    /// It does not.
    Off,
}

/// Where the runner stands: what orders are sent through.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// The network namespace that BMCs are reached in (IPMI); `None` is the host's own.
    pub netns: Option<String>,
    /// The interface that Wake-on-LAN packets leave by; `None` lets the kernel choose.
    pub interface: Option<String>,
}

/// What a driver did, in words for the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched(String);

/// Switches one machine.
#[derive(Debug)]
pub struct PowerDriver {
    bmc: Bmc,
    limit: Duration,
}

#[derive(Debug)]
enum Bmc {
    Ipmi(Ipmi),
    Redfish(Box<Redfish>),
    Wol(Wol),
}

/// What a BMC can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    State,
    Set(PowerState),
    NetbootNext,
}

impl PowerDriver {
    /// The driver for `settings`, with the password that the file `secrets` holds. Nothing is sent yet.
    ///
    /// # Errors
    /// [`PowerError`] when a setting cannot work, or the file has no password for this BMC.
    pub fn open(settings: &PowerSettings, secrets: &Path, site: &Site) -> Result<Self, PowerError> {
        settings.check()?;
        match settings {
            PowerSettings::Ipmi(ipmi) => {
                let credential = Secrets::read(secrets)?.credential(&ipmi.credential, &ipmi.address)?;
                Self::ipmi(ipmi.clone(), credential, site)
            }
            PowerSettings::Redfish(redfish) => {
                let credential = Secrets::read(secrets)?.credential(&redfish.credential, &redfish.host()?)?;
                let limit = Duration::from_secs(redfish.timeout_s.into());
                let bmc = Bmc::Redfish(Box::new(Redfish::new(redfish.clone(), credential)?));
                Ok(Self { bmc, limit })
            }
            PowerSettings::Wol(wol) => {
                let bmc = Bmc::Wol(Wol::new(wol.clone(), site.clone()));
                Ok(Self { bmc, limit: Duration::from_secs(10) })
            }
        }
    }

    /// An IPMI driver whose password the caller knows.
    ///
    /// # Errors
    /// [`PowerError::BadSettings`].
    pub fn ipmi(settings: IpmiSettings, credential: Credential, site: &Site) -> Result<Self, PowerError> {
        settings.check()?;
        let limit = Duration::from_secs(settings.timeout_s.into());
        Ok(Self { bmc: Bmc::Ipmi(Ipmi::new(settings, credential, site.clone())?), limit })
    }

    /// Whether the machine has power.
    ///
    /// # Errors
    /// [`PowerError`]; [`PowerError::Unsupported`] from a method that cannot know.
    pub async fn status(&self) -> Result<PowerState, PowerError> {
        self.state(Instant::now() + self.limit).await
    }

    /// Gives power and waits until the machine has it. Says how long that took.
    ///
    /// # Errors
    /// [`PowerError`]; [`PowerError::NotConfirmed`] when it was asked for and did not come.
    pub async fn on(&self) -> Result<Duration, PowerError> {
        self.bring(PowerState::On).await
    }

    /// Takes power away, without asking the operating system, and waits until it is gone.
    ///
    /// # Errors
    /// As [`PowerDriver::on`].
    pub async fn off(&self) -> Result<Duration, PowerError> {
        self.bring(PowerState::Off).await
    }

    /// Tells the firmware to boot from the network once, and reads that back.
    ///
    /// # Errors
    /// [`PowerError`].
    pub async fn netboot_next(&self) -> Result<(), PowerError> {
        self.ask(Ask::NetbootNext, Instant::now() + self.limit).await.map(drop)
    }

    /// Off, next boot from the network, on: from cold, whatever state the machine was in.
    ///
    /// # Errors
    /// [`PowerError`]. A BMC that cannot choose the next boot is none: the words say so, and the machine's own boot
    /// order decides.
    pub async fn cycle(&self) -> Result<Switched, PowerError> {
        if let Bmc::Wol(wol) = &self.bmc {
            return wol.wake().await.map(Switched);
        }
        let mut words = match self.status().await? {
            PowerState::On => {
                let took = self.off().await?;
                format!("{self} switched off in {}", seconds(took))
            }
            PowerState::Off => format!("{self} was off"),
        };
        // Not before: a next boot that was chosen while the machine ran is forgotten by some at power-off.
        match self.netboot_next().await {
            Ok(()) => words.push_str(", next boot is from the network"),
            Err(problem @ (PowerError::Unsupported { .. } | PowerError::Refused { .. })) => {
                use fmt::Write as _;
                let _ = write!(words, ", its own boot order decides what it boots ({problem})");
            }
            Err(problem) => return Err(problem),
        }
        let took = self.on().await?;
        Ok(Switched(format!("{words}, switched on in {}", seconds(took))))
    }

    /// The machine's serial console (serial over LAN), from now on. Whoever had it open loses it: a BMC carries one.
    ///
    /// # Errors
    /// [`PowerError`]; [`PowerError::Unsupported`] from a method that carries none.
    pub async fn console(&self) -> Result<Terminal, PowerError> {
        match &self.bmc {
            Bmc::Ipmi(ipmi) => ipmi.console().await,
            Bmc::Redfish(_) | Bmc::Wol(_) => Err(PowerError::Unsupported {
                bmc: self.to_string(),
                doing: "the serial console",
                said: "this method carries none; use `ipmi`".to_owned(),
            }),
        }
    }

    /// Ends what the driver has open at the BMC. BMCs have few sessions, and forget them late.
    pub async fn close(self) {
        if let Bmc::Redfish(redfish) = &self.bmc {
            redfish.close().await;
        }
    }

    async fn bring(&self, wanted: PowerState) -> Result<Duration, PowerError> {
        let began = Instant::now();
        let until = began + self.limit;
        if let Bmc::Wol(_) = &self.bmc {
            // There is nobody to ask whether it worked.
            self.ask(Ask::Set(wanted), until).await?;
            return Ok(began.elapsed());
        }
        if self.state(until).await? == wanted {
            return Ok(began.elapsed());
        }
        self.ask(Ask::Set(wanted), until).await?;
        loop {
            let seen = self.state(until).await?;
            if seen == wanted {
                return Ok(began.elapsed());
            }
            if Instant::now() + PAUSE > until {
                return Err(PowerError::NotConfirmed {
                    bmc: self.to_string(),
                    wanted,
                    seen,
                    after: self.limit,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn state(&self, until: Instant) -> Result<PowerState, PowerError> {
        let answer = self.ask(Ask::State, until).await?;
        answer.ok_or_else(|| PowerError::Garbled {
            bmc: self.to_string(),
            doing: "the power state",
            said: "nothing".to_owned(),
        })
    }

    /// Asks, and asks again as long as the BMC is silent or busy and there is time: one lost packet must not cost a
    /// night, and every question here may be repeated.
    async fn ask(&self, ask: Ask, until: Instant) -> Result<Option<PowerState>, PowerError> {
        loop {
            let answer = match &self.bmc {
                Bmc::Ipmi(ipmi) => ipmi.ask(ask).await,
                Bmc::Redfish(redfish) => redfish.ask(ask).await,
                Bmc::Wol(wol) => wol.ask(ask).await.map(|()| None),
            };
            match answer {
                Err(problem) if problem.may_pass() && Instant::now() + PAUSE < until => {
                    tracing::debug!("{problem}; asking again");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

impl fmt::Display for PowerDriver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bmc {
            Bmc::Ipmi(ipmi) => formatter.write_str(&ipmi.name()),
            Bmc::Redfish(redfish) => formatter.write_str(&redfish.name()),
            Bmc::Wol(wol) => formatter.write_str(&wol.name()),
        }
    }
}

impl fmt::Display for Switched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for PowerState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
