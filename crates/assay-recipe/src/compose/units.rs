//! Durations, sizes, processors, permissions and command lines, as Docker spells them.

use std::time::Duration;

use crate::yaml;

/// `1h2m3.5s`, `500ms`; `None` where it is not one. A number without a unit is refused, as Docker does, except 0.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[letters..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// `512M`, `1.5g`, `64KiB`, `1024`: powers of 1024, as Docker counts memory.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let bytes = number * (1_i64 << shift) as f64;
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as i64)
}

/// `0.50` of a processor, in billionths.
pub(crate) fn nano_cpus(text: &str) -> Option<i64> {
    let number: f64 = text.trim().parse().ok()?;
    ((0.0..1e6).contains(&number)).then(|| (number * 1e9).round() as i64)
}

/// What Docker prints for a plain text that YAML 1.1 takes for a number; `None` where it takes it for a text.
pub(crate) fn docker_spelling(text: &str) -> Option<String> {
    if let Some(number) = yaml::integer(text) {
        return Some(number.to_string());
    }
    let looks_like_one = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'));
    if !looks_like_one {
        return None;
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(number.to_string());
    }
    let number: f64 = text.parse().ok()?;
    // As Go prints it: the shortest digits, with an exponent below -4 and from 6 on.
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if (-4..6).contains(&exponent) {
        return Some(number.to_string());
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    Some(format!("{digits}e{sign}{:02}", exponent.abs()))
}

/// Splits a command line as a shell does: quotes, escapes, no variables. `None` where a quote is not closed.
pub(crate) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '"' => break,
                        // Unlike in a shell, whatever it stands before: so does Docker.
                        '\\' => word.push(characters.next()?),
                        c => word.push(c),
                    }
                }
            }
            '\\' => {
                let escaped = characters.next()?;
                word.get_or_insert_default().push(escaped);
            }
            '#' if word.is_none() => {
                // A comment, to the end of its line.
                while characters.next_if(|c| *c != '\n').is_some() {}
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("0", 0),
            ("10s", 10_000),
            (" 5s ", 5_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "1x", "-5s", "1m30", "1..5s", "99999999999999999999999999h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, size) in
            [("512M", 512 << 20), ("1.5g", 3 << 29), ("64KiB", 64 << 10), ("1024", 1024), ("10 mb", 10 << 20)]
        {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "M", "1X", "-1M", "1e400", "9999999p"] {
            assert_eq!(bytes(text), None, "{text}");
        }
        assert_eq!(nano_cpus("0.50"), Some(500_000_000));
        assert_eq!(nano_cpus("-1"), None);
        assert_eq!(nano_cpus("NaN"), None);
    }

    #[test]
    fn command_lines() {
        let split = |text| words(text).unwrap().join("|");
        assert_eq!(split("redis-server --save '' --dir /data"), "redis-server|--save||--dir|/data");
        assert_eq!(split(r#"sh -c "echo \"a b\" \$X \n""#), r#"sh|-c|echo "a b" $X n"#);
        assert_eq!(split(r"a\ b 'c d'e"), "a b|c de");
        assert_eq!(split("run # not this\nagain"), "run|again");
        assert_eq!(words("it's"), None);
        assert_eq!(words("a \\"), None);
    }

    #[test]
    fn numbers_as_docker_prints_them() {
        for (text, docker) in [
            ("0755", "493"),
            ("3.80", "3.8"),
            ("1e3", "1000"),
            ("12", "12"),
            ("0x1f", "31"),
            ("1234567.5", "1.2345675e+06"),
        ] {
            assert_eq!(docker_spelling(text).as_deref(), Some(docker), "{text}");
        }
        for text in ["v1", "1.2.3", "a", "", "-", "infinity", "nan"] {
            assert_eq!(docker_spelling(text), None, "{text}");
        }
    }
}
