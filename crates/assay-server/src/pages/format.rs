//! Numbers and times as people read them.

use assay_model::{Micros, Pipeline};

/// `4.2 s`, `2 m 10 s`, `1 h 03 m`, `2 d 4 h`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).floor() as u64;
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} m {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} m", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// A span of whole seconds, coarser: `40 s`, `12 min`, `3 h`, `2 days`.
fn rough(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min", s / 60),
        s @ 3600..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

/// `12 min ago`, `in 3 h`.
pub(super) fn ago(then: Micros, now: Micros) -> String {
    let seconds = now.since(then).0 / 1_000_000;
    match seconds {
        i64::MIN..=-1 => format!("in {}", rough(-seconds)),
        0..5 => "just now".to_owned(),
        _ => format!("{} ago", rough(seconds)),
    }
}

/// The page of what a run is about. A name may hold anything: it is one segment of the address.
pub(super) fn target_page(on_host: bool, pipeline: Pipeline, name: &str) -> String {
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    // A form's `+` is a plus sign in a path.
    let name = name.replace('+', "%20");
    match pipeline {
        Pipeline::Recipe => format!("/recipes/{name}"),
        // An image's run on a registered host stands with that host.
        Pipeline::Host | Pipeline::Image if on_host => format!("/hosts/{name}"),
        Pipeline::Host | Pipeline::Image => format!("/images/{name}"),
    }
}

/// What the code says in passing, as a sentence: `there is no run 9` becomes `There is no run 9.`
pub(super) fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let ended = text.ends_with(['.', '!', '?', ')']);
    format!("{first}{}{}", letters.as_str(), if ended || text.is_empty() { "" } else { "." })
}

/// An instant as a page shows it: relative to now, with the exact time at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct When {
    /// RFC 3339, UTC; script turns it into the reader's own time zone.
    pub(super) exact: String,
    /// `12 min ago`.
    pub(super) rough: String,
}

impl When {
    pub(super) fn new(at: Micros, now: Micros) -> Self {
        Self { exact: at.rfc3339(), rough: ago(at, now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_at_every_scale() {
        let cases = [
            (-1.0, "0.0 s"),
            (4.24, "4.2 s"),
            (42.9, "42 s"),
            (130.0, "2 m 10 s"),
            (3780.0, "1 h 03 m"),
            (187_200.0, "2 d 4 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn instants_are_told_relative_to_now_in_both_directions() {
        let now = Micros::seconds(1_000_000);
        let at = |seconds| ago(now.plus(Micros::seconds(seconds)), now);
        assert_eq!(at(-2), "just now");
        assert_eq!(at(-59), "59 s ago");
        assert_eq!(at(-720), "12 min ago");
        assert_eq!(at(-7200), "2 h ago");
        assert_eq!(at(-259_200), "3 days ago");
        assert_eq!(at(7200), "in 2 h");
    }

    #[test]
    fn remarks_become_sentences() {
        assert_eq!(sentence("there is no run 9"), "There is no run 9.");
        assert_eq!(sentence("Wait."), "Wait.");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn a_name_is_one_segment_of_its_page_s_address() {
        assert_eq!(target_page(true, Pipeline::Host, "web-3"), "/hosts/web-3");
        assert_eq!(target_page(true, Pipeline::Image, "web-3"), "/hosts/web-3");
        assert_eq!(target_page(false, Pipeline::Recipe, "web-3"), "/recipes/web-3");
        assert_eq!(target_page(false, Pipeline::Image, "a[b=c]"), "/images/a%5Bb%3Dc%5D");
        assert_eq!(target_page(false, Pipeline::Image, "../x y?#+"), "/images/..%2Fx%20y%3F%23%2B");
    }
}
