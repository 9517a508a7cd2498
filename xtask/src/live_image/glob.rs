//! Shell-like patterns with `*` and `?`, as in `modules.alias` and in image.toml's `drop` list. `*` also
//! matches `/`: the kernel's patterns need nothing finer, and neither do ours.

/// Whether the whole text matches the pattern.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == b'?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star, taken)) = retry {
            retry = Some((star, taken + 1));
            p = star + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_match_any_run_and_the_ends_are_anchored() {
        for (pattern, text, expected) in [
            (
                "pci:v00008086d00001521sv*sd*bc*sc*i*",
                "pci:v00008086d00001521sv00000000sd00000000bc02sc00i00",
                true,
            ),
            (
                "pci:v00008086d00001522sv*sd*bc*sc*i*",
                "pci:v00008086d00001521sv00000000sd00000000bc02sc00i00",
                false,
            ),
            ("pci:v*d*sv*sd*bc01sc08i02*", "pci:v0000144Dd0000A808sv00000000sd00000000bc01sc08i02", true),
            ("usr/share/doc/*", "usr/share/doc/fio/README", true),
            ("usr/share/doc/*", "usr/share/doc", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*ab", "aab", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }
}
