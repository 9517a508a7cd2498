//! A machine's channels: what is looked for on them, and how what comes is read.

use std::time::Duration;

use assay_console::{Font, Marker, Pixels, Screen, Watch};
use assay_qemu::{QmpEvent, VmEvent, vga_font};
use serde_json::Value;
use tokio::time::Instant;

use super::super::sightings::MAX_NOTED;
use super::{MAX_RAW, Machine, Next, Off};
use crate::image::evidence::{MachineEvent, Outcome};
use crate::image::profile::{Channel, Profile};

/// A channel of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Over {
    Serial,
    Screen,
    Progress,
}

impl Over {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Screen => "screen",
            Self::Progress => "progress",
        }
    }

    pub(super) const fn counts(self, channel: Channel) -> bool {
        match channel {
            Channel::Any => matches!(self, Self::Serial | Self::Screen),
            Channel::Serial => matches!(self, Self::Serial),
            Channel::Screen => matches!(self, Self::Screen),
            Channel::Progress => matches!(self, Self::Progress),
        }
    }

    /// For people.
    pub(super) const fn place(self) -> &'static str {
        match self {
            Self::Serial => "serial console",
            Self::Screen => "screen",
            Self::Progress => "out-of-band port",
        }
    }
}

/// What is looked for on every channel from the first byte on; whose turn it is decides what counts.
pub(in crate::image::bench) fn watch(profile: &Profile) -> Result<Watch, String> {
    let mut markers = Vec::new();
    let mut add = |name: String, pattern: &str| -> Result<(), String> {
        markers.push(Marker::new(&name, pattern).map_err(|error| error.to_string())?);
        Ok(())
    };
    for phase in &profile.phases {
        add(format!("phase:{}", phase.name), &phase.marker)?;
        for (number, reply) in phase.replies.iter().enumerate() {
            add(format!("reply:{}:{number}", phase.name), &reply.on)?;
        }
        for fail in &phase.fail {
            add(format!("fail:{}", phase.name), fail)?;
        }
    }
    for fail in &profile.console.fail {
        add("fail:".to_owned(), fail)?;
    }
    for refusal in &profile.power_cut.refuses {
        add("refusal:".to_owned(), refusal)?;
    }
    if let Some(old) = &profile.power_cut.old {
        add("old:".to_owned(), old)?;
    }
    for secret in &profile.console.secrets {
        add(format!("secret:{secret}"), secret)?;
    }
    for file in &profile.medium.files {
        if let Some(read) = &file.read {
            add(format!("staged:{}", file.path), read)?;
        }
    }
    if let Some(identify) = &profile.identify {
        add("name:banner".to_owned(), &identify.banner)?;
        if let Some(announced) = &identify.announced {
            add("name:announced".to_owned(), announced)?;
        }
    }
    Ok(Watch { markers, stuck_after: Some(Duration::from_secs(3)), silent_after: None, ..Watch::default() })
}

/// What consoles are drawn with: in graphics modes, and in the text mode.
pub(super) fn fonts() -> [Font; 2] {
    let font = vga_font().and_then(|bios| Font::of_consoles(&bios).ok()).unwrap_or_else(Font::bundled);
    let wide = font.nine_wide();
    [font, wide]
}

impl Machine {
    pub(super) async fn take(&mut self, at: Duration, event: VmEvent) -> Next {
        let read_at = Instant::now();
        match event {
            VmEvent::Serial(bytes) => {
                let room = MAX_RAW.saturating_sub(self.raw.len());
                self.raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
                self.heard(Over::Serial, at, &bytes, read_at);
            }
            VmEvent::Progress(bytes) => self.heard(Over::Progress, at, &bytes, read_at),
            VmEvent::Screen => self.look(at, read_at).await,
            VmEvent::Monitor(event) => return self.news(at, &event),
            VmEvent::Ended { code, said } => {
                let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
                return Next::Gone(Outcome::RunnerFault { why: format!("QEMU ended with {code}: {said}") });
            }
        }
        Next::Seen
    }

    pub(super) fn heard(&mut self, over: Over, at: Duration, bytes: &[u8], read_at: Instant) {
        self.last_activity = self.last_activity.max(at);
        self.standing.remove(&over);
        for secret in self.secrets.seen(over.name(), bytes) {
            self.leak(&secret, over);
        }
        let Some(reader) = self.readers.get_mut(&over) else { return };
        let sightings = reader.push(at, bytes);
        self.pending.extend(sightings.into_iter().map(|sighting| (over, sighting, read_at)));
    }

    /// Reads the screen. What cannot be read is not there: the picture is kept all the same.
    async fn look(&mut self, at: Duration, read_at: Instant) {
        /// What a PC's text mode measures in pixels: 80 by 25 cells of 9 by 16.
        const TEXT_MODE: (usize, usize) = (720, 400);
        let Ok(picture) = self.vm.screen().await else { return };
        let font = if (picture.width, picture.height) == TEXT_MODE { &self.fonts[1] } else { &self.fonts[0] };
        let Ok(pixels) = Pixels::new(picture.width, picture.height, picture.rgb) else { return };
        let screen = Screen::from_pixels(&pixels, font);
        // A cursor blinks for ever, and is no sign of life.
        let text: Vec<String> =
            screen.rows().iter().map(|row| row.replace('\u{fffd}', " ").trim_end().to_owned()).collect();
        if text != self.drawn {
            self.drawn = text;
            self.last_activity = self.last_activity.max(at);
            self.standing.remove(&Over::Screen);
            for secret in self.secrets.within(self.drawn.join("\n").as_bytes()) {
                self.leak(&secret, Over::Screen);
            }
        }
        let sightings = self.screen.push(at, &screen);
        self.pending.extend(sightings.into_iter().map(|sighting| (Over::Screen, sighting, read_at)));
    }

    pub(super) fn tick(&mut self, now: Duration) {
        let read_at = Instant::now();
        for (over, reader) in &mut self.readers {
            let sightings = reader.tick(now);
            self.pending.extend(sightings.into_iter().map(|sighting| (*over, sighting, read_at)));
        }
        let sightings = self.screen.tick(now);
        self.pending.extend(sightings.into_iter().map(|sighting| (Over::Screen, sighting, read_at)));
    }

    fn news(&mut self, at: Duration, event: &QmpEvent) -> Next {
        self.last_activity = self.last_activity.max(at);
        self.event(event);
        let reason = event.data.get("reason").and_then(Value::as_str).unwrap_or_default();
        match event.name.as_str() {
            "SHUTDOWN" if reason == "guest-reset" => Next::Off(Off::Reset),
            "SHUTDOWN" if reason == "guest-shutdown" => Next::Off(Off::PowerOff),
            "DEVICE_DELETED" => {
                let device = event.data.get("device").and_then(Value::as_str).unwrap_or_default();
                if self.served.contains_key(device) {
                    self.lost.insert(device.to_owned());
                }
                Next::Seen
            }
            "GUEST_PANICKED" => {
                // Its last words may still be on their way, and say more.
                self.panicked_at.get_or_insert(at);
                Next::Seen
            }
            "WATCHDOG" => Next::Gone(Outcome::Ended {
                code: "WatchdogFired".to_owned(),
                detail: format!("the watchdog was not fed any more; the last line: {}", self.last_line()),
            }),
            _ => Next::Seen,
        }
    }

    pub(super) fn event(&mut self, event: &QmpEvent) {
        if self.watched.events.len() < MAX_NOTED {
            let at_s = self.vm.age().as_secs_f64();
            self.watched.events.push(MachineEvent {
                at_s,
                name: event.name.clone(),
                data: event.data.clone(),
            });
        }
    }
}
