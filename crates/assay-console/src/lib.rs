//! Reads a machine's console, serial port or screen, and says what it saw.
//!
//! A machine that boots or installs itself says how far it is on its console and nowhere else, in a stream that was
//! made for people: colours, progress bars that overwrite their line, kernel messages in the middle of other words,
//! prompts without a line end. [`Console`] takes that stream as it comes, in chunks with their times, and returns
//! [`Sighting`]s at once: a [`Marker`] that the caller armed, a step on the boot [`Rung`]s, a known failure of the
//! [`catalogue`], a prompt that nobody answers, silence. [`ScreenReader`] does the same with successive [`Screen`]s:
//! the VGA text buffer, or a framebuffer console read exactly by its font.
//!
//! What it is not: it does no input or output and reads no clock. Times are given, as the time since the machine's
//! start; [`Console::deadline`] says when it wants to be called although nothing came. Everything it is given is
//! untrusted: no bytes make it panic, and its memory is bounded by [`MAX_LINE`], [`TAIL`] and
//! [`Watch::transcript_bytes`]. The work is linear in the bytes: no log is read again for each question.
//!
//! The lines and the sightings do not depend on where the chunks were cut. Two things do, by their nature: times, and
//! what is only known because nothing came for a while.

mod armed;
mod bundled;
pub mod catalogue;
mod clean;
mod console;
mod cp437;
mod dialog;
mod font;
mod guard;
mod judge;
mod ladder;
mod line;
mod marker;
mod millis;
mod pixels;
mod printk;
mod prompt;
mod quiet;
mod row;
mod screen;
mod screen_reader;
mod sighting;
mod streamed;
mod transcript;
mod watch;

pub use console::Console;
pub use font::{Font, FontError};
pub use ladder::Rung;
pub use line::{Line, Source};
pub use marker::{Marker, MarkerError, MarkerKind};
pub use pixels::{Pixels, PixelsError};
pub use prompt::PromptKind;
pub use row::MAX_LINE;
pub use screen::{Screen, ScreenError};
pub use screen_reader::ScreenReader;
pub use sighting::{Sighting, What};
pub use transcript::TAIL;
pub use watch::Watch;
