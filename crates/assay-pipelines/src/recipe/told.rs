//! What a judge has to say, put together piece by piece: a check and, where it failed, its finding.

use assay_model::{Check, Coverage, Finding, Judgement, Severity, Verdict, text};

use super::evidence::Ran;

/// The longest text of an app's own that stands in a sentence, in characters.
const LINE: usize = 240;

/// Checks, findings and what stands beside them.
#[derive(Default)]
pub(super) struct Told {
    pub(super) checks: Vec<Check>,
    pub(super) findings: Vec<Finding>,
    pub(super) coverage: Vec<Coverage>,
    pub(super) unverified: Vec<String>,
}

impl Told {
    /// A criterion, and how it came out.
    pub(super) fn check(
        &mut self,
        name: impl Into<String>,
        ok: bool,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) {
        let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
        self.checks.push(Check { name: name.into(), verdict, expected: expected.into(), seen: seen.into() });
    }

    /// Something that fails the stage.
    pub(super) fn critical(&mut self, code: &str, message: impl Into<String>, next: &str) {
        self.findings.push(Finding::new(code, Severity::Critical, message, next));
    }

    /// Something that should be looked at.
    pub(super) fn warning(&mut self, code: &str, message: impl Into<String>, next: &str) {
        self.findings.push(Finding::new(code, Severity::Warning, message, next));
    }

    /// Something that is worth knowing.
    pub(super) fn info(&mut self, code: &str, message: impl Into<String>, next: &str) {
        self.findings.push(Finding::new(code, Severity::Info, message, next));
    }

    /// Hooks and tests, each a check by its name, so that a report shows that it really ran.
    pub(super) fn ran(&mut self, all: &[Ran], what: &str, code: &str) {
        for ran in all {
            let ok = ran.succeeded();
            let seen = match (ran.exit_code, &ran.problem) {
                (Some(code), None) => format!("exit code {code} after {:.1} s", ran.seconds),
                (Some(code), Some(problem)) => {
                    let problem = text::clean_to(problem, LINE);
                    format!("exit code {code} after {:.1} s, and {problem}", ran.seconds)
                }
                (None, Some(problem)) => text::clean_to(problem, LINE),
                (None, None) => "no exit code".to_owned(),
            };
            self.check(format!("{what} {}", text::clean(&ran.name)), ok, "exit code 0", seen.clone());
            if !ok {
                let words = quoted(&ran.last_words);
                let message = format!("{what} {}: {seen}{words}", text::clean(&ran.name));
                let next = format!("Everything that it said is in {}.", text::clean(&ran.log));
                let finding = Finding::new(code, Severity::Critical, message, next);
                self.findings.push(Finding { evidence: vec![ran.log.clone()], ..finding });
            }
        }
    }

    /// Takes over what a part of the stage has to say, under its name.
    pub(super) fn part(&mut self, name: &str, part: Self) {
        let named = |words: &str| format!("{name}: {words}");
        self.checks.extend(part.checks.into_iter().map(|check| Check { name: named(&check.name), ..check }));
        for finding in part.findings {
            // What is only worth knowing is told once, where it is the same for all.
            let known = finding.severity == Severity::Info
                && self
                    .findings
                    .iter()
                    .any(|known| known.code == finding.code && known.message.ends_with(&finding.message));
            if !known {
                self.findings.push(Finding { message: named(&finding.message), ..finding });
            }
        }
        let coverage = part.coverage.into_iter();
        self.coverage.extend(coverage.map(|coverage| Coverage { what: named(&coverage.what), ..coverage }));
        self.unverified.extend(part.unverified.iter().map(|what| named(what)));
    }

    /// The judgement; its sentence is the first finding that fails it, or else `good`.
    pub(super) fn judgement(self, good: impl FnOnce() -> String) -> Judgement {
        let worst = self.findings.iter().find(|finding| finding.severity == Severity::Critical);
        let message = worst.map_or_else(good, |finding| finding.message.clone());
        Judgement::from_evidence(self.checks, self.findings, self.coverage, self.unverified, message)
    }
}

/// An app's words, fit for the end of a sentence; nothing where it said nothing.
pub(super) fn quoted(words: &str) -> String {
    match line(words) {
        words if words.is_empty() => String::new(),
        words => format!(" (its last words: {words})"),
    }
}

/// An app's words in one line.
pub(super) fn line(words: &str) -> String {
    let joined = words.lines().map(str::trim).filter(|line| !line.is_empty());
    // The end says what was wrong.
    let last: Vec<&str> = joined.collect();
    let from = last.len().saturating_sub(3);
    text::clean_to(&last[from..].join(" / "), LINE)
}

/// A class of the swarm driver's as a code: `crash_loop` → `CrashLoop`.
pub(super) fn code_of(class: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    class.split('_').filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::{code_of, line};

    #[test]
    fn classes_are_spelled_as_codes() {
        assert_eq!(code_of("crash_loop"), "CrashLoop");
        assert_eq!(code_of("unhealthy"), "Unhealthy");
    }

    #[test]
    fn what_an_app_said_is_told_by_its_end_in_one_line() {
        assert_eq!(line("a\n\n b \nc\nd\n"), "b / c / d");
        assert_eq!(line("\u{1b}[31mred\u{7}"), assay_model::text::clean_to("\u{1b}[31mred\u{7}", 240));
    }
}
