//! What a reader is asked to look for, and its times.

use std::time::Duration;

use crate::marker::Marker;

/// What to look for from the start, and after which times of quiet something is said.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The markers that are armed from the start.
    pub markers: Vec<Marker>,
    /// An unfinished line that stood still this long is matched as it is. Needed only where the markers could still
    /// match otherwise with more text; an unambiguous match in an unfinished line is reported at once.
    pub settle: Duration,
    /// A prompt that stood this long without further output is reported. Kernel messages after the prompt are not
    /// output in this sense. `None`: never.
    pub stuck_after: Option<Duration>,
    /// Nothing at all for this long is reported. `None`: never.
    pub silent_after: Option<Duration>,
    /// Lines of exactly this many columns may go on in the next line, as where a firmware or a terminal wraps them.
    /// See [`Marker`]. `None`: no line is joined with the next.
    pub wrap_columns: Option<usize>,
    /// How many bytes of transcript are kept for [`Console::take_lines`](crate::Console::take_lines). When it is not
    /// called in time, the oldest lines are dropped, and counted.
    pub transcript_bytes: usize,
}

impl Default for Watch {
    /// No markers; 250 ms to settle, prompts after 30 s, silence never, 80 columns, 32 MiB of transcript.
    fn default() -> Self {
        Self {
            markers: Vec::new(),
            settle: Duration::from_millis(250),
            stuck_after: Some(Duration::from_secs(30)),
            silent_after: None,
            wrap_columns: Some(80),
            transcript_bytes: 32 << 20,
        }
    }
}
