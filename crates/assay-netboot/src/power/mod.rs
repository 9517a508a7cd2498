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
mod media;
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
use media::MediaAsk;
use redfish::Redfish;
use url::Url;
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
    /// With what carries its console, if anything does.
    Redfish(Box<Redfish>, Option<Ipmi>),
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
                let carrier = redfish.console.is_some().then(|| {
                    let ipmi = IpmiSettings::new(redfish.host()?, &redfish.credential);
                    Ipmi::new(ipmi, credential.clone(), site.clone())
                });
                let carrier = carrier.transpose()?;
                let bmc = Bmc::Redfish(Box::new(Redfish::new(redfish.clone(), credential)?), carrier);
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
        let words = self.off_from_any().await?;
        // Not before: a next boot that was chosen while the machine ran is forgotten by some at power-off.
        let next = self.netboot_next().await;
        self.on_again(words, "from the network", next).await
    }

    /// Off, the image at `image` in its virtual drive, next boot from that, on: from cold, whatever state the machine
    /// was in. A machine whose medium could not be inserted stays off.
    ///
    /// # Errors
    /// As [`PowerDriver::insert_medium`] and [`PowerDriver::cycle`].
    pub async fn cycle_into(&self, image: &Url) -> Result<Switched, PowerError> {
        // Asked first: a machine is not switched off for what cannot be.
        self.redfish(MediaAsk::Insert(image))?;
        let words = self.off_from_any().await?;
        let inserted = self.insert_medium(image).await?;
        let next = self.ask_media(MediaAsk::BootNext(image), Instant::now() + self.limit).await.map(drop);
        self.on_again(format!("{words}, {inserted}"), "from the medium", next).await
    }

    /// Whether the machine can be shown an image as a medium.
    ///
    /// # Errors
    /// [`PowerError`] when its BMC cannot be asked.
    pub async fn has_virtual_media(&self) -> Result<bool, PowerError> {
        match &self.bmc {
            Bmc::Ipmi(_) | Bmc::Wol(_) => Ok(false),
            Bmc::Redfish(..) => self.ask_media(MediaAsk::Has, Instant::now() + self.limit).await,
        }
    }

    /// Whether the image at `image` is in a virtual drive of the machine.
    ///
    /// # Errors
    /// [`PowerError`]; [`PowerError::Unsupported`] from a method that has no virtual media.
    pub async fn holds_medium(&self, image: &Url) -> Result<bool, PowerError> {
        self.ask_media(MediaAsk::Holds(image), Instant::now() + self.limit).await
    }

    /// Shows the machine the image at `image` (`http` or `https`, at an address that the BMC reaches) as a CD that
    /// cannot be written, and waits until it is in. One that is in already stays as it is.
    ///
    /// # Errors
    /// [`PowerError`]; [`PowerError::Refused`] when somebody else's medium is in the drive: it is left there.
    pub async fn insert_medium(&self, image: &Url) -> Result<Switched, PowerError> {
        if !matches!(image.scheme(), "http" | "https") {
            return Err(PowerError::BadSettings {
                field: "medium",
                value: image.scheme().to_owned(),
                problem: "a BMC fetches images by http or https".to_owned(),
            });
        }
        let until = Instant::now() + self.limit;
        if !self.ask_media(MediaAsk::Insert(image), until).await? {
            return Ok(Switched("the medium is in its virtual drive already".to_owned()));
        }
        self.until_held(image, true, until).await?;
        Ok(Switched("the medium is in its virtual drive".to_owned()))
    }

    /// Takes the image at `image` out of the machine, and waits until it is. Whatever else is in a drive stays there.
    ///
    /// # Errors
    /// [`PowerError`].
    pub async fn eject_medium(&self, image: &Url) -> Result<Switched, PowerError> {
        let until = Instant::now() + self.limit;
        if !self.ask_media(MediaAsk::Eject(image), until).await? {
            return Ok(Switched("the medium is not in its virtual drive".to_owned()));
        }
        self.until_held(image, false, until).await?;
        Ok(Switched("the medium is ejected".to_owned()))
    }

    async fn off_from_any(&self) -> Result<String, PowerError> {
        Ok(match self.status().await? {
            PowerState::On => {
                let took = self.off().await?;
                format!("{self} switched off in {}", seconds(took))
            }
            PowerState::Off => format!("{self} was off"),
        })
    }

    /// Switches on, with what became of choosing the next boot.
    async fn on_again(
        &self,
        mut words: String,
        from: &str,
        next: Result<(), PowerError>,
    ) -> Result<Switched, PowerError> {
        use fmt::Write as _;
        let _ = match next {
            Ok(()) => write!(words, ", next boot is {from}"),
            Err(problem @ (PowerError::Unsupported { .. } | PowerError::Refused { .. })) => {
                write!(words, ", its own boot order decides what it boots ({problem})")
            }
            Err(problem) => return Err(problem),
        };
        let took = self.on().await?;
        Ok(Switched(format!("{words}, switched on in {}", seconds(took))))
    }

    /// Waits until the drive holds the image, or does not any more: an order may be taken long before it is done.
    async fn until_held(&self, image: &Url, wanted: bool, until: Instant) -> Result<(), PowerError> {
        loop {
            if self.ask_media(MediaAsk::Holds(image), until).await? == wanted {
                return Ok(());
            }
            if Instant::now() + PAUSE > until {
                let (doing, said) = if wanted {
                    let said = format!(
                        "it agreed, and yet the medium is not in its drive after {:?}; see whether the BMC reaches {} from \
                         its own network, and raise `timeout_s` if it is only slow",
                        self.limit,
                        image.host_str().unwrap_or("the server")
                    );
                    (MediaAsk::Insert(image).doing(), said)
                } else {
                    let said =
                        format!("it agreed, and yet the medium is still in its drive after {:?}", self.limit);
                    (MediaAsk::Eject(image).doing(), said)
                };
                return Err(PowerError::Refused { bmc: self.to_string(), doing, said });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks about virtual media, and again as [`PowerDriver::ask`] does.
    async fn ask_media(&self, ask: MediaAsk<'_>, until: Instant) -> Result<bool, PowerError> {
        let redfish = self.redfish(ask)?;
        loop {
            match redfish.media(ask).await {
                Err(problem) if problem.may_pass() && Instant::now() + PAUSE < until => {
                    tracing::debug!("{problem}; asking again");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    fn redfish(&self, ask: MediaAsk<'_>) -> Result<&Redfish, PowerError> {
        match &self.bmc {
            Bmc::Redfish(redfish, _) => Ok(redfish),
            Bmc::Ipmi(_) | Bmc::Wol(_) => Err(PowerError::Unsupported {
                bmc: self.to_string(),
                doing: ask.doing(),
                said: "this method has no virtual media; use `redfish`".to_owned(),
            }),
        }
    }

    /// The machine's serial console (serial over LAN), from now on. Whoever had it open loses it: a BMC carries one.
    ///
    /// # Errors
    /// [`PowerError`]; [`PowerError::Unsupported`] from a method that carries none.
    pub async fn console(&self) -> Result<Terminal, PowerError> {
        match &self.bmc {
            Bmc::Ipmi(ipmi) | Bmc::Redfish(_, Some(ipmi)) => ipmi.console().await,
            Bmc::Redfish(_, None) => Err(PowerError::Unsupported {
                bmc: self.to_string(),
                doing: "the serial console",
                said:
                    "Redfish carries none; where the BMC speaks IPMI too, name the serial port with `console`"
                        .to_owned(),
            }),
            Bmc::Wol(_) => Err(PowerError::Unsupported {
                bmc: self.to_string(),
                doing: "the serial console",
                said: "this method carries none; use `ipmi`".to_owned(),
            }),
        }
    }

    /// Ends what the driver has open at the BMC. BMCs have few sessions, and forget them late.
    pub async fn close(self) {
        if let Bmc::Redfish(redfish, _) = &self.bmc {
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
                Bmc::Redfish(redfish, _) => redfish.ask(ask).await,
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
            Bmc::Redfish(redfish, _) => formatter.write_str(&redfish.name()),
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
