//! Text for people. Most of it is what a machine under test chose, made safe to store and show.
//!
//! Escaping for HTML happens where HTML is made. This is about size and control characters:
//! a serial number with an escape sequence in it must not repaint an operator's terminal.

/// Longest text taken from a machine for one field, in characters.
pub const MAX_FIELD: usize = 256;

/// Trims, replaces control and bidirectional-override characters by `\u{fffd}`, and cuts to [`MAX_FIELD`].
pub fn clean(raw: &str) -> String {
    clean_to(raw, MAX_FIELD)
}

/// As [`clean`], with a limit of the caller's.
pub fn clean_to(raw: &str, limit: usize) -> String {
    let mut out: String = raw
        .trim()
        .chars()
        .take(limit)
        .map(|c| if is_hostile(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if raw.trim().chars().nth(limit).is_some() {
        out.push('…');
    }
    out
}

/// `1 disk`, `3 disks`.
pub fn plural(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// `; did you mean …?` or nothing.
pub fn did_you_mean(word: &str, known: &[&str]) -> String {
    let word = word.to_lowercase();
    let nearest = known
        .iter()
        .map(|known| (distance(&word, &known.to_lowercase()), known))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((distance, known)) if distance <= known.len() / 3 + 1 && distance < known.len() => {
            format!("; did you mean `{known}`?")
        }
        _ => String::new(),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate().map(|(i, c)| (i + 1, c)) {
        let mut diagonal = row[0];
        row[0] = i;
        for (j, cb) in b.iter().enumerate().map(|(j, c)| (j + 1, *c)) {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j];
            row[j] = replaced.min(row[j] + 1).min(row[j - 1] + 1);
        }
    }
    row[b.len()]
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|n| plural(n, "disk")), ["0 disks", "1 disk", "2 disks"]);
    }

    #[test]
    fn hostile_text_is_defused_and_bounded() {
        assert_eq!(clean("  SN-1 \u{1b}[2J\u{202e}x "), "SN-1 \u{fffd}[2J\u{fffd}x");
        assert_eq!(clean(&"a".repeat(1000)).chars().count(), MAX_FIELD + 1);
        assert_eq!(clean("plain"), "plain");
    }
}
