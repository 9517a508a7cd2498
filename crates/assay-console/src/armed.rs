//! The armed markers, and which of them the present line has shown already.

use std::collections::BTreeMap;

use regex::RegexSet;

use crate::marker::Marker;
use crate::row::Row;
use crate::streamed::Streamed;

#[derive(Default)]
pub(crate) struct Armed {
    watched: Vec<Watched>,
    /// All patterns in one, so that a line without any is read once.
    set: RegexSet,
    next: u64,
}

struct Watched {
    id: u64,
    marker: Marker,
    streamed: Option<Streamed>,
}

/// What a line has shown already. It is not shown twice.
#[derive(Default)]
pub(crate) struct Shown {
    markers: Vec<u64>,
    pub(crate) builtins: Vec<usize>,
}

impl Shown {
    pub(crate) fn clear(&mut self) {
        self.markers.clear();
        self.builtins.clear();
    }
}

/// A marker that was found, with its captures.
pub(crate) type Found<'a> = (&'a Marker, BTreeMap<String, String>);

impl Armed {
    /// Adds markers. One with the name of another takes its place.
    pub(crate) fn arm(&mut self, markers: impl IntoIterator<Item = Marker>) -> Vec<u64> {
        let mut ids = Vec::new();
        for marker in markers {
            self.watched.retain(|watched| watched.marker.name() != marker.name());
            self.next += 1;
            ids.push(self.next);
            self.watched.push(Watched {
                id: self.next,
                streamed: marker.automaton.clone().map(Streamed::new),
                marker,
            });
        }
        self.compile();
        ids
    }

    pub(crate) fn disarm(&mut self, name: &str) -> bool {
        let before = self.watched.len();
        self.watched.retain(|watched| watched.marker.name() != name);
        self.compile();
        self.watched.len() < before
    }

    pub(crate) fn disarm_all(&mut self) {
        self.watched.clear();
        self.compile();
    }

    fn compile(&mut self) {
        let patterns = self.watched.iter().map(|watched| watched.marker.pattern());
        // Each is a regular expression on its own. Together they may be too large for one; then each is tried.
        self.set = RegexSet::new(patterns).unwrap_or_default();
    }

    /// The markers in a text that is complete.
    pub(crate) fn find<'a>(&'a self, text: &str, shown: &mut Shown) -> Vec<Found<'a>> {
        self.find_with(text, shown, Marker::find)
    }

    /// Those of `ids` in a text that is complete.
    pub(crate) fn find_of<'a>(&'a self, ids: &[u64], text: &str) -> Vec<Found<'a>> {
        let of_ids = self.watched.iter().filter(|watched| ids.contains(&watched.id));
        of_ids.filter_map(|watched| Some((&watched.marker, watched.marker.find(text)?))).collect()
    }

    /// The markers in an unfinished text that did not change for a while.
    pub(crate) fn find_settled<'a>(&'a self, text: &str, shown: &mut Shown) -> Vec<Found<'a>> {
        self.find_with(text, shown, Marker::find_settled)
    }

    /// The markers across the joint of a wrapped line.
    pub(crate) fn find_across<'a>(&'a self, joined: &str, joint: usize, shown: &mut Shown) -> Vec<Found<'a>> {
        self.find_with(joined, shown, |marker, text| marker.find_across(text, joint))
    }

    fn find_with<'a>(
        &'a self,
        text: &str,
        shown: &mut Shown,
        find: impl Fn(&Marker, &str) -> Option<BTreeMap<String, String>>,
    ) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        let mut try_one = |watched: &'a Watched| {
            if !shown.markers.contains(&watched.id)
                && let Some(captures) = find(&watched.marker, text)
            {
                shown.markers.push(watched.id);
                found.push((&watched.marker, captures));
            }
        };
        if self.set.len() == self.watched.len() {
            if self.set.is_match(text) {
                self.set.matches(text).into_iter().for_each(|index| try_one(&self.watched[index]));
            }
        } else {
            self.watched.iter().for_each(try_one);
        }
        found
    }

    /// The markers whose match in the unfinished row can no longer change.
    pub(crate) fn find_final<'a>(&'a mut self, row: &Row, shown: &mut Shown) -> Vec<Found<'a>> {
        let mut text = None;
        let mut found = Vec::new();
        for watched in &mut self.watched {
            let Some(streamed) = &mut watched.streamed else { continue };
            if !streamed.is_final(row.number, row.cells()) || shown.markers.contains(&watched.id) {
                continue;
            }
            if let Some(captures) = watched.marker.find(text.get_or_insert_with(|| row.text())) {
                shown.markers.push(watched.id);
                found.push((&watched.marker, captures));
            }
        }
        found
    }
}
