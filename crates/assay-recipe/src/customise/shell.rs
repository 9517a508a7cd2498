//! Whether a shell script takes arguments from outside: `$1`, `${2:-x}`, `$@`, `$*`, `$#`.
//!
//! Inside of its functions these are the function's own, after `set --` they are what the script set itself, and in single
//! quotes they are another language's (`awk '{print $1}'`). So quotes, substitutions, functions and here-documents are
//! followed; nothing else of the language is. What is not understood is not held against the script.

/// Deepest nesting that is followed. Scripts are strangers', and following costs the depth for each character.
const DEEPEST: usize = 100;

/// Whether the words behind `#!` start a shell.
pub(crate) fn is_shell(interpreter: &str) -> bool {
    let mut words = interpreter.split_whitespace();
    let base = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let mut program = words.next().map(base).unwrap_or_default();
    while program == "env" || program == "busybox" || program.starts_with('-') || program.contains('=') {
        // `env -S bash -e`, `env -Sbash`, `env A=1 bash`.
        if let Some(glued) = program.strip_prefix("-S").filter(|glued| !glued.is_empty()) {
            program = base(glued);
            continue;
        }
        match words.next() {
            Some(word) => program = base(word),
            None => return false,
        }
    }
    matches!(program.as_str(), "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "mksh")
}

/// The first use of an argument: its line, from 1, and its text.
pub(crate) fn arguments(text: &str) -> Option<(u32, String)> {
    let mut scan = Scan {
        text: text.chars().collect(),
        at: 0,
        line: 1,
        open: Vec::new(),
        function_next: false,
        heredocs: Vec::new(),
    };
    scan.run()
}

/// What is open at a place, innermost last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// `"`.
    Quote,
    /// `` ` ``.
    Backtick,
    /// `${`.
    Parameter,
    /// `case`, inside of brackets: what closes its patterns closes nothing else.
    Case,
    /// `$(`, `(`.
    Paren {
        /// It is a function's body.
        function: bool,
    },
    /// `{`.
    Brace {
        /// It is a function's body.
        function: bool,
    },
}

struct Heredoc {
    end: String,
    strips_tabs: bool,
    expands: bool,
}

struct Scan {
    text: Vec<char>,
    at: usize,
    line: u32,
    open: Vec<Open>,
    /// `name()` or `function name` was read: the next block is its body.
    function_next: bool,
    heredocs: Vec<Heredoc>,
}

impl Scan {
    fn run(&mut self) -> Option<(u32, String)> {
        while let Some(c) = self.peek(0) {
            if self.open.len() > DEEPEST {
                return None;
            }
            let quoted = self.open.contains(&Open::Quote) && !self.inside_substitution();
            match c {
                '\\' => {
                    if self.peek(1) == Some('\n') {
                        self.line += 1;
                    }
                    self.at += 2;
                }
                '\n' => {
                    self.at += 1;
                    self.line += 1;
                    if let Some(found) = self.skip_heredocs() {
                        return Some(found);
                    }
                }
                '"' => {
                    if self.open.last() == Some(&Open::Quote) {
                        self.open.pop();
                    } else {
                        self.open.push(Open::Quote);
                    }
                    self.at += 1;
                }
                '`' => {
                    if self.open.last() == Some(&Open::Backtick) {
                        self.open.pop();
                    } else {
                        self.open.push(Open::Backtick);
                    }
                    self.at += 1;
                }
                '$' => {
                    let line = self.line;
                    if let Some(found) = self.dollar() {
                        return Some((line, found));
                    }
                }
                '}' if self.open.last() == Some(&Open::Parameter) => {
                    self.open.pop();
                    self.at += 1;
                }
                _ if quoted => self.at += 1,
                '\'' => self.skip_single_quotes(),
                '#' if self.at_word() => self.skip_to_line_end(),
                '<' if self.peek(1) == Some('<') => self.heredoc(),
                '(' => {
                    if self.peek(1) == Some(')') {
                        self.function_next = true;
                        self.at += 2;
                    } else {
                        let function = std::mem::take(&mut self.function_next);
                        self.open.push(Open::Paren { function });
                        self.at += 1;
                    }
                }
                ')' => {
                    // One that closes nothing belongs to a pattern of `case`.
                    if matches!(self.open.last(), Some(Open::Paren { .. })) {
                        self.open.pop();
                    }
                    self.at += 1;
                }
                '{' if self.at_word() && self.peek(1).is_none_or(char::is_whitespace) => {
                    let function = std::mem::take(&mut self.function_next);
                    self.open.push(Open::Brace { function });
                    self.at += 1;
                }
                '}' if self.at_word() => {
                    if matches!(self.open.last(), Some(Open::Brace { .. })) {
                        self.open.pop();
                    }
                    self.at += 1;
                }
                'c' if self.at_word()
                    && self.word_is("case")
                    && matches!(self.open.last(), Some(Open::Paren { .. })) =>
                {
                    self.open.push(Open::Case);
                    self.at += "case".len();
                }
                'e' if self.open.last() == Some(&Open::Case)
                    && self.at_word()
                    && self.starts_with("esac") =>
                {
                    self.open.pop();
                    self.at += "esac".len();
                }
                _ if self.at_word() && self.word_is("function") => {
                    self.function_next = true;
                    self.at += "function".len();
                }
                _ if self.at_word() && !self.in_function() && self.sets_arguments() => {
                    // What it sets them from may still be one that was passed.
                    let rest: String = self.text[self.at..].iter().take_while(|c| **c != '\n').collect();
                    return in_text(&rest).map(|found| (self.line, found));
                }
                _ => self.at += 1,
            }
        }
        None
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    /// Whether a word begins here.
    fn at_word(&self) -> bool {
        self.at == 0
            || matches!(self.text[self.at - 1], c if c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')'))
    }

    fn starts_with(&self, word: &str) -> bool {
        word.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn word_is(&self, word: &str) -> bool {
        self.starts_with(word) && self.peek(word.len()).is_none_or(char::is_whitespace)
    }

    /// `set -- …`: from here on, arguments are the script's own.
    fn sets_arguments(&self) -> bool {
        let rest: String = self.text[self.at..].iter().take(8).collect();
        rest.strip_prefix("set").is_some_and(|rest| {
            rest.starts_with([' ', '\t'])
                && rest.trim_start().starts_with("--")
                && rest.trim_start()[2..].chars().next().is_none_or(char::is_whitespace)
        })
    }

    fn in_function(&self) -> bool {
        self.open
            .iter()
            .any(|open| matches!(open, Open::Paren { function: true } | Open::Brace { function: true }))
    }

    /// Whether the innermost quote has a substitution open in it, where quotes begin anew.
    fn inside_substitution(&self) -> bool {
        let quote = self.open.iter().rposition(|open| *open == Open::Quote);
        let inner = self.open.iter().rposition(|open| matches!(open, Open::Backtick | Open::Paren { .. }));
        inner > quote
    }

    /// At a `$`.
    fn dollar(&mut self) -> Option<String> {
        let own = self.in_function();
        let next = self.peek(1);
        match next {
            Some(c @ ('1'..='9' | '@' | '*' | '#')) => {
                self.at += 2;
                (!own).then(|| format!("${c}"))
            }
            Some('\'') if !self.open.contains(&Open::Quote) => {
                self.at += 1;
                self.skip_escaped_quotes();
                None
            }
            Some('(') => {
                self.open.push(Open::Paren { function: false });
                self.at += 2;
                None
            }
            Some('{') => {
                let inside: String =
                    self.text[self.at + 2..].iter().take_while(|c| **c != '}').take(12).collect();
                self.open.push(Open::Parameter);
                self.at += 2;
                // The length of `$1`, and what it stands for.
                let name = inside.strip_prefix(['#', '!']).unwrap_or(&inside);
                let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
                let (counts, behind) = match name.chars().next() {
                    _ if inside == "#" => (true, ""),
                    Some('@' | '*') => (true, &name[1..]),
                    _ => (!digits.trim_start_matches('0').is_empty(), &name[digits.len()..]),
                };
                let ends = behind.is_empty()
                    || behind.starts_with([':', '-', '+', '=', '?', '%', '#', '/', '^', ',', '[']);
                (counts && ends && !own).then(|| format!("${{{inside}}}"))
            }
            // `$$` is a number of its own.
            Some('$') => {
                self.at += 2;
                None
            }
            _ => {
                self.at += 1;
                None
            }
        }
    }

    fn skip_single_quotes(&mut self) {
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '\'' => return,
                '\n' => self.line += 1,
                _ => {}
            }
        }
    }

    fn skip_escaped_quotes(&mut self) {
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += if c == '\\' { 2 } else { 1 };
            match c {
                '\'' => return,
                '\n' => self.line += 1,
                _ => {}
            }
        }
    }

    fn skip_to_line_end(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.at += 1;
        }
    }

    /// At `<<`.
    fn heredoc(&mut self) {
        self.at += 2;
        if self.peek(0) == Some('<') {
            self.at += 1;
            return;
        }
        let strips_tabs = self.peek(0) == Some('-');
        if strips_tabs {
            self.at += 1;
        }
        while matches!(self.peek(0), Some(' ' | '\t')) {
            self.at += 1;
        }
        let (mut end, mut expands) = (String::new(), true);
        while let Some(c) =
            self.peek(0).filter(|c| !c.is_whitespace() && !matches!(c, ';' | '|' | '&' | ')' | '<' | '>'))
        {
            if matches!(c, '\'' | '"' | '\\') {
                expands = false;
            } else {
                end.push(c);
            }
            self.at += 1;
        }
        // `1 << 2` in arithmetic has no word that could end it.
        if end.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '!') {
            self.heredocs.push(Heredoc { end, strips_tabs, expands });
        }
    }

    /// At the beginning of a line: past the here-documents that the line before opened.
    fn skip_heredocs(&mut self) -> Option<(u32, String)> {
        for document in std::mem::take(&mut self.heredocs) {
            while self.at < self.text.len() {
                let line: String = self.text[self.at..].iter().take_while(|c| **c != '\n').collect();
                let number = self.line;
                self.at += line.chars().count() + 1;
                self.line += 1;
                let own = if document.strips_tabs { line.trim_start_matches('\t') } else { &line };
                if own == document.end {
                    break;
                }
                if document.expands
                    && !self.in_function()
                    && let Some(found) = in_text(&line)
                {
                    return Some((number, found));
                }
            }
        }
        self.at = self.at.min(self.text.len());
        None
    }
}

/// The first argument in a line of text that is expanded.
fn in_text(line: &str) -> Option<String> {
    let mut scan = Scan {
        text: line.chars().collect(),
        at: 0,
        line: 1,
        // Quotes are plain characters there, as they are between double quotes.
        open: vec![Open::Quote],
        function_next: false,
        heredocs: Vec::new(),
    };
    while let Some(c) = scan.peek(0) {
        match c {
            '\\' => scan.at += 2,
            '$' => {
                if let Some(found) = scan.dollar() {
                    return Some(found);
                }
            }
            _ => scan.at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_known_by_their_names() {
        for shell in [
            "/bin/sh",
            "/bin/bash -eu",
            "/usr/bin/env bash",
            "/usr/bin/env -S bash -eu",
            "/usr/bin/env -Szsh -e",
            "/usr/bin/env A=1 dash",
            "/bin/busybox sh",
        ] {
            assert!(is_shell(shell), "{shell}");
        }
        for other in ["/usr/bin/env python3", "/usr/bin/perl", "/usr/bin/env", "/usr/bin/fish", ""] {
            assert!(!is_shell(other), "{other}");
        }
    }

    #[test]
    fn arguments_from_outside_are_found() {
        for (script, found) in [
            ("domain=$1\n", "$1"),
            ("echo \"https://$2/\"\n", "$2"),
            ("echo \"${1}\" \n", "${1}"),
            ("x=${1:-y}\n", "${1:-y}"),
            ("x=${10}\n", "${10}"),
            ("x=${domain:-$1}\n", "$1"),
            ("for a in \"$@\"; do :; done\n", "$@"),
            ("main() { echo \"$1\"; }\nmain \"$@\"\n", "$@"),
            ("[ $# -eq 0 ]\n", "$#"),
            ("[ ${#} -eq 0 ]\n", "${#}"),
            ("x=\"$(echo \"$1\")\"\n", "$1"),
            ("x=`echo $3`\n", "$3"),
            ("set -- extra $@\necho $1\n", "$@"),
            ("cat <<EOF\nit's $1\nEOF\n", "$1"),
            ("f() {\n  echo }\n}\necho $4\n", "$4"),
            ("f() ( echo $1 )\necho $5\n", "$5"),
            ("case a in\n  a) echo;;\nesac\necho $6\n", "$6"),
            ("echo it\\'s $7\n", "$7"),
            ("cat <<'EOF'\n$1\nEOF\necho $8\n", "$8"),
        ] {
            assert_eq!(arguments(script).map(|(_, found)| found).as_deref(), Some(found), "{script}");
        }
        assert_eq!(
            arguments("#!/bin/sh\n# $1\n'\n$1\n'\ncat <<-E\n\tx\n\tE\necho \\\n $9\n"),
            Some((10, "$9".to_owned()))
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "[$'\"`(){}<>#\\\\;@*1-3a-z \n\t-]{0,60}") {
            arguments(&text);
        }
    }

    #[test]
    fn deep_nesting_ends_the_search() {
        assert_eq!(arguments(&"( ".repeat(1 << 20)), None);
        assert_eq!(arguments(&"$(".repeat(1 << 20)), None);
    }

    #[test]
    fn arguments_of_its_own_are_fine() {
        for script in [
            "# $1 was the domain\necho # $1\n",
            "awk '{print $1}' file\n",
            "x=\"$(docker ps | awk '{print $1}')\"\n",
            "x=\"$(jq -r '.deps[\"a\"]' \"$ASSAY_CONTEXT\" | awk '{ print $1 }')\"\n",
            "check() {\n  curl \"$1\" \"${2:-x}\" \"$@\"\n}\ncheck a\n",
            "function check {\n  if true; then { echo $1; }; fi\n}\n",
            "check()\n{\n  case \"$1\" in a) echo $2;; esac\n  cat <<E\n$1\nE\n}\n",
            "set -eu\nset -- a b\necho $1 \"$@\"\n",
            "echo \\$1 \"\\$1\" $$1 $0 $? $! ${#name} ${name#1} ${!name}\n",
            "psql <<'SQL'\nselect $1;\nSQL\n",
            "echo $'it\\'s $1'\n",
            "x=$((1 << 2))\ny=$((x + 1))\necho ok\n",
            "x=\"$(case a in a) awk '{print $1}';; (b) :;; esac)\"\nawk '{print $1}'\n",
            "grep x <<<\"$y\"\n",
        ] {
            assert_eq!(arguments(script), None, "{script}");
        }
    }
}
