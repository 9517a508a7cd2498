//! Text from outside in a Markdown comment: always in a code span or a fenced block, never as prose.
//!
//! Escaping prose is a race against every forge's own extensions: mentions, `#7`, commit ids and bare addresses become links,
//! `:smile:` an image, and some are made after character references were resolved. Inside of code nothing is looked for.
//! So there is one rule, and it is kept by having no other way to put a foreign text in.

use std::fmt::Write as _;

use assay_model::text::clean_to;

/// A text as a code span, on one line, cut to `limit` characters. Safe in a line, a list and a table's cell.
pub(crate) fn code(text: &str, limit: usize) -> String {
    let mut clean = clean_to(text, limit);
    // A line's end could end a list or begin a block; a backtick could end the span.
    clean = clean.replace(['\u{2028}', '\u{2029}'], "\u{fffd}").replace('`', "'");
    // In a cell a bar ends the cell, in code as well.
    clean = clean.replace('|', "\u{2223}");
    let clean = clean.trim();
    if clean.is_empty() { "`-`".to_owned() } else { format!("`{clean}`") }
}

/// Lines as a fenced block: at most `lines` of them, from the end, each cut to `width` characters.
pub(crate) fn block(text: &str, lines: usize, width: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let kept = &all[all.len().saturating_sub(lines)..];
    let mut out = String::from("```text\n");
    if kept.len() < all.len() {
        let _ = writeln!(out, "… {} lines before", all.len() - kept.len());
    }
    for line in kept {
        // Without a backtick no line can close the fence.
        let _ = writeln!(out, "{}", clean_to(line, width).replace('`', "'").replace('\u{2028}', " "));
    }
    out.push_str("```");
    out
}

/// A link of ours with words of ours; only the words where the address is none.
pub(crate) fn link(words: &str, address: &str) -> String {
    let parsed = address.parse::<url::Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    match parsed {
        Some(url) => {
            let target: String = url
                .as_str()
                .chars()
                .map(|c| if matches!(c, '(' | ')' | '<' | '>' | '\\' | '|') { '_' } else { c })
                .collect();
            format!("[{words}]({target})")
        }
        None => words.to_owned(),
    }
}

/// `45 s`, `2 m 10 s`, `1 h 5 m`.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 if seconds.is_multiple_of(60) => format!("{} m", seconds / 60),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
    }
}
