//! Docker's times as the product has them.

use assay_model::Micros;

/// RFC 3339, as Docker writes it; `None` for what is no time, and for Docker's way to say "never" (year 1).
pub(crate) fn moment(text: Option<&String>) -> Option<Micros> {
    let time = chrono::DateTime::parse_from_rfc3339(text?).ok()?;
    Some(Micros(time.timestamp_micros())).filter(|micros| micros.0 > 0)
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn docker_s_times_are_read_whatever_digits_they_have_and_never_is_none() {
        let read = |text: &str| moment(Some(&text.to_owned())).map(|micros| micros.0);
        assert_eq!(read("2026-11-22T08:21:42.1Z"), Some(1_795_335_702_100_000));
        assert_eq!(read("2026-11-22T08:21:42.123456789Z"), Some(1_795_335_702_123_456));
        assert_eq!(read("0001-01-01T00:00:00Z"), None);
        assert_eq!(read("soon"), None);
        assert_eq!(moment(None), None);
    }
}
