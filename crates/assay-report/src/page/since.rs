//! What is different between a red run over a recipe and the last green one, as a section of its own: where a maintainer looks
//! first. The findings have the same in sentences.

use super::{Text, readable};
use crate::SinceGreen;

/// The section.
pub(super) struct Since {
    /// The run that is compared with; none where there is none.
    pub(super) green: Option<Green>,
    /// What there is to say instead of a table, or beside it.
    pub(super) notes: Vec<Text>,
    pub(super) rows: Vec<Row>,
}

/// The green run.
pub(super) struct Green {
    pub(super) number: i64,
    pub(super) at: Text,
    /// Where it is, on the page that shows this one; nothing in a file that lies anywhere.
    pub(super) href: Option<String>,
}

/// Something that is different.
pub(super) struct Row {
    pub(super) aspect: Text,
    pub(super) what: Text,
    /// Both values; none where one sentence says it all.
    pub(super) values: Option<(Text, Text)>,
    pub(super) next: Text,
}

impl Since {
    pub(super) fn of(since: &SinceGreen, linked: bool) -> Self {
        let green = since.green.as_ref().map(|green| Green {
            number: green.number,
            at: Text::new(&readable(&green.at)),
            href: linked.then(|| format!("/runs/{}", green.number)),
        });
        let mut notes: Vec<Text> = since.note.iter().map(|note| Text::new(note)).collect();
        if !since.unknown.is_empty() {
            notes.push(Text::new(&format!("Not compared: {}.", since.unknown.join("; "))));
        }
        let row = |difference: &crate::Difference| {
            let mut letters = difference.aspect.chars();
            let aspect: String =
                letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
            Row {
                aspect: Text::new(&aspect),
                what: Text::new(&difference.what),
                values: difference.values.as_ref().map(|(was, is)| (Text::new(was), Text::new(is))),
                next: Text::new(&difference.next_step),
            }
        };
        let mut rows: Vec<Row> = since.differences.iter().map(row).collect();
        // What is to be done is the same for all of a kind, and said once.
        for at in (1..rows.len()).rev() {
            if rows[at].next == rows[at - 1].next {
                rows[at].next = Text::new("");
            }
        }
        Self { green, notes, rows }
    }
}
