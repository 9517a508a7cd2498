//! Says whether a match in an unfinished line is final.
//!
//! `generated: (\S+)` matches `generated: no` when the chunk ends there, and the name is `node-5b2dfa`. A prompt, on
//! the other hand, has no line end to wait for. So an unfinished line is matched by an automaton, character by
//! character: when it can only die after its match, or every next byte leads there, no further text can change the
//! match, and it is what the finished line will give. This makes the answer independent of where chunks were cut.

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::{Anchored, Input};

/// Bytes of states that one automaton may cache. Beyond it starts over, which is slower and right.
const CACHE: usize = 512 << 10;

/// The automaton of a pattern.
#[derive(Clone, Debug)]
pub(crate) struct Automaton {
    dfa: DFA,
    /// One byte of each class that the pattern tells apart.
    bytes: Vec<u8>,
}

impl Automaton {
    /// `None` if the pattern has no such automaton of a bearable size; it is then matched in finished lines and after
    /// the settling time only.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        let config = DFA::config()
            .cache_capacity(CACHE)
            .skip_cache_capacity_check(true)
            // The automaton stops where a word boundary would need more than ASCII.
            .unicode_word_boundary(true);
        let thompson = regex_automata::nfa::thompson::Config::new().nfa_size_limit(Some(CACHE));
        let dfa = DFA::builder().configure(config).thompson(thompson).build(pattern).ok()?;
        let bytes = dfa
            .byte_classes()
            .representatives(..)
            .filter_map(regex_automata::util::alphabet::Unit::as_u8)
            .collect();
        Some(Self { dfa, bytes })
    }
}

/// The automaton of one armed marker, and its place in the unfinished line.
pub(crate) struct Streamed {
    automaton: Automaton,
    cache: Cache,
    row: u64,
    fed: usize,
    state: Option<LazyStateID>,
    matched: bool,
}

impl Streamed {
    pub(crate) fn new(automaton: Automaton) -> Self {
        let cache = automaton.dfa.create_cache();
        Self { automaton, cache, row: 0, fed: 0, state: None, matched: false }
    }

    /// Reads what was appended to the row since the last call; true if it now holds a match that is final. Says so
    /// once a row, and the row must not have been edited.
    pub(crate) fn is_final(&mut self, row: u64, cells: &[char]) -> bool {
        if self.row != row {
            self.row = row;
            self.fed = 0;
            self.matched = false;
            let start = Input::new("").anchored(Anchored::No);
            self.state = self.automaton.dfa.start_state_forward(&mut self.cache, &start).ok();
        }
        let mut utf8 = [0; 4];
        let from = std::mem::replace(&mut self.fed, cells.len()).min(cells.len());
        for c in &cells[from..] {
            for &byte in c.encode_utf8(&mut utf8).as_bytes() {
                let Some(state) = self.state else { return false };
                let Ok(next) = self.automaton.dfa.next_state(&mut self.cache, state, byte) else {
                    self.state = None;
                    return false;
                };
                self.state = Some(next);
                if next.is_match() {
                    self.matched = true;
                } else if next.is_dead() || next.is_quit() {
                    self.state = None;
                    return self.matched && next.is_dead();
                }
            }
        }
        let is_final = self.state.is_some_and(|state| self.is_over(state));
        if is_final {
            self.state = None;
        }
        is_final
    }

    /// There is a match, and no byte leads to another.
    fn is_over(&mut self, state: LazyStateID) -> bool {
        let clears = self.cache.clear_count();
        let answer =
            if self.matched { self.all_lead_nowhere(state) } else { self.all_lead_to_the_same_end(state) };
        let answer = answer.unwrap_or(false);
        if self.cache.clear_count() != clears {
            // The states at hand are no longer those of the cache.
            self.state = None;
            return false;
        }
        answer
    }

    /// The match was before the end of the text.
    fn all_lead_nowhere(&mut self, state: LazyStateID) -> Option<bool> {
        let (dfa, cache) = (&self.automaton.dfa, &mut self.cache);
        if dfa.next_eoi_state(cache, state).ok()?.is_match() {
            return Some(false);
        }
        for &byte in &self.automaton.bytes {
            if !dfa.next_state(cache, state, byte).ok()?.is_dead() {
                return Some(false);
            }
        }
        Some(true)
    }

    /// The match is at the end of the text.
    fn all_lead_to_the_same_end(&mut self, state: LazyStateID) -> Option<bool> {
        let (dfa, cache) = (&self.automaton.dfa, &mut self.cache);
        if !dfa.next_eoi_state(cache, state).ok()?.is_match() {
            return Some(false);
        }
        // States report a match one byte later.
        let mut end = None;
        for &byte in &self.automaton.bytes {
            let next = dfa.next_state(cache, state, byte).ok()?;
            if !next.is_match() || end.is_some_and(|end| end != next) {
                return Some(false);
            }
            end = Some(next);
        }
        let end = end?;
        for &byte in &self.automaton.bytes {
            if !dfa.next_state(cache, end, byte).ok()?.is_dead() {
                return Some(false);
            }
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many characters of `line`, given one by one, the match is final.
    fn final_after(pattern: &str, line: &str) -> Option<usize> {
        let mut streamed = Streamed::new(Automaton::new(pattern).unwrap());
        let cells: Vec<char> = line.chars().collect();
        let one_by_one = (1..=cells.len()).find(|&end| streamed.is_final(1, &cells[..end]));
        let mut streamed = Streamed::new(Automaton::new(pattern).unwrap());
        assert_eq!(streamed.is_final(1, &cells), one_by_one.is_some(), "the cuts make no difference");
        one_by_one
    }

    #[test]
    fn a_prompt_is_final_at_once_and_an_open_end_is_not() {
        assert_eq!(final_after("login:", "node login:"), Some(11));
        assert_eq!(final_after(r"^(\S+) login: ", "node-1 login: "), Some(14));
        assert_eq!(final_after(r"generated: (\S+)", "generated: node-5b2dfa"), None);
        assert_eq!(final_after(r"generated: (\S+)", "generated: node-5b2dfa "), Some(23));
        assert_eq!(final_after(r"generated: ([0-9a-f]{6})", "generated: 5b2dfa"), Some(17));
        assert_eq!(final_after("done$", "done"), None, "only the line end makes it true");
        assert_eq!(final_after("disk.*ready", "disk a ready, disk b"), None, "more could come");
        assert_eq!(final_after("foo( bar)?", "foo b"), None);
        assert_eq!(final_after("foo( bar)?", "foo x"), Some(5));
        assert_eq!(final_after("^never", "but this"), None);
        assert_eq!(final_after(r"ok\b", "ok"), None);
        assert_eq!(final_after(r"ok\b", "ok x"), Some(4));
        assert_eq!(
            final_after(r"ok\b( üx)?", "ok üx"),
            None,
            "the automaton knows no word boundaries in Unicode"
        );
        assert_eq!(final_after("größe: [0-9]{2}", "größe: 12"), Some(9));
    }

    #[test]
    fn rows_are_apart() {
        let mut streamed = Streamed::new(Automaton::new("login:").unwrap());
        let log: Vec<char> = "log".chars().collect();
        let login: Vec<char> = "login:".chars().collect();
        assert!(!streamed.is_final(1, &log));
        assert!(!streamed.is_final(2, &"in:".chars().collect::<Vec<_>>()));
        assert!(streamed.is_final(3, &login));
        assert!(!streamed.is_final(3, &login), "said once");
        assert!(streamed.is_final(4, &login));
    }
}
