//! One line per event, for the journal's timeline.

use assay_model::{EventBody, sentence};

/// What happened, in one sentence; not cleaned.
pub(super) fn tell(body: &EventBody) -> String {
    let text = sentence::of(body);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
