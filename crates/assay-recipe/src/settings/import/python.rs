//! Top-level assignments of a Python file whose values are literals. Nothing is evaluated: what is no literal is handed back
//! as it is written.

use serde_json::{Map, Number, Value};

/// How deep literals are read.
const DEEPEST: usize = 32;

/// A statement at the top level.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Statement {
    /// `NAME = literal`.
    Assignment {
        /// Its line, from 1.
        line: u32,
        /// The name.
        name: String,
        /// The value; tuples and sets are lists.
        value: Value,
    },
    /// Anything else, with what belongs to it below.
    Other {
        /// Its line, from 1.
        line: u32,
        /// The name that is assigned or defined; the first word otherwise.
        name: String,
        /// Its text.
        text: String,
    },
}

/// Reads a file's statements. Comments, and texts that stand alone (docstrings), are no statements.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut reader = Reader { text: text.chars().collect(), at: 0, counted: (0, 1) };
    let mut found = Vec::new();
    while reader.at < reader.text.len() {
        let start = reader.at;
        match reader.peek() {
            Some('\n' | '\r' | ';') => reader.at += 1,
            Some('#') => reader.skip_comment(),
            // After a `;`, or on a line without anything; what else is indented belongs to the statement above it.
            Some(' ' | '\t') => reader.spaces(),
            _ => {
                let line = reader.line(start);
                if let Some((name, value)) = reader.assignment() {
                    found.push(Statement::Assignment { line, name, value });
                    continue;
                }
                reader.at = start;
                if reader.literal(0).is_some_and(|value| value.is_string()) && reader.at_end() {
                    continue;
                }
                reader.at = start;
                reader.skip_statement();
                reader.skip_block();
                let text: String = reader.text[start..reader.at].iter().collect();
                found.push(Statement::Other { line, name: name_of(&text), text: text.trim_end().to_owned() });
            }
        }
    }
    found
}

fn name_of(statement: &str) -> String {
    let mut words =
        statement.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    match first {
        "def" | "class" | "async" => words.find(|word| *word != "def").unwrap_or_default().to_owned(),
        _ => first.to_owned(),
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
    /// A place and its line: the last that was asked for, from which the next is counted.
    counted: (usize, u32),
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    /// The line of a place that is not before the last one.
    fn line(&mut self, at: usize) -> u32 {
        let (from, line) = self.counted;
        let breaks = self.text[from..at].iter().filter(|c| **c == '\n').count();
        self.counted = (at, line + breaks as u32);
        self.counted.1
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        if there {
            self.at += 1;
        }
        there
    }

    fn skip_comment(&mut self) {
        while self.peek().is_some_and(|c| c != '\n') {
            self.at += 1;
        }
    }

    /// Spaces on the line.
    fn spaces(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.at += 1;
        }
    }

    /// Spaces, line breaks and comments, as between brackets.
    fn blanks(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' | '\r' => self.at += 1,
                '#' => self.skip_comment(),
                _ => return,
            }
        }
    }

    /// Whether the statement ends here.
    fn at_end(&mut self) -> bool {
        self.spaces();
        matches!(self.peek(), None | Some('\n' | '\r' | ';' | '#'))
    }

    /// To the end of a statement: past strings, brackets and joined lines.
    fn skip_statement(&mut self) {
        let mut depth = 0_usize;
        while let Some(c) = self.peek() {
            match c {
                '\n' if depth == 0 => return,
                '#' => {
                    self.skip_comment();
                    continue;
                }
                '\'' | '"' => {
                    self.string(true);
                    continue;
                }
                '\\' => self.at += 1,
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
        }
        self.at = self.at.min(self.text.len());
    }

    /// What is indented below a statement, with empty lines between.
    fn skip_block(&mut self) {
        loop {
            let start = self.at;
            while matches!(self.peek(), Some('\n' | '\r')) {
                self.at += 1;
            }
            if !matches!(self.peek(), Some(' ' | '\t')) {
                self.at = start;
                return;
            }
            self.skip_statement();
        }
    }

    fn assignment(&mut self) -> Option<(String, Value)> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.at += 1;
        }
        let name: String = self.text[start..self.at].iter().collect();
        if name.is_empty() {
            return None;
        }
        self.spaces();
        if self.take(':') {
            // A type, up to the sign.
            while self.peek().is_some_and(|c| !matches!(c, '=' | '\n' | '"' | '\'')) {
                self.at += 1;
            }
        }
        if !self.take('=') || self.peek() == Some('=') {
            return None;
        }
        self.spaces();
        let value = self.literal(0)?;
        self.at_end().then_some((name, value))
    }

    fn literal(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        match self.peek()? {
            '[' => self.list(']', depth).map(|(items, _)| Value::Array(items)),
            '(' => {
                let (mut items, has_comma) = self.list(')', depth)?;
                // Brackets around one value are only brackets.
                if items.len() == 1 && !has_comma { items.pop() } else { Some(Value::Array(items)) }
            }
            '{' => self.dict_or_set(depth),
            '0'..='9' | '-' | '+' | '.' => self.number(),
            _ => self.word_or_text(depth),
        }
    }

    fn list(&mut self, end: char, depth: usize) -> Option<(Vec<Value>, bool)> {
        self.at += 1;
        let (mut items, mut has_comma) = (Vec::new(), false);
        loop {
            self.blanks();
            if self.take(end) {
                return Some((items, has_comma));
            }
            items.push(self.literal(depth + 1)?);
            self.blanks();
            if self.take(',') {
                has_comma = true;
            } else if self.peek()? != end {
                return None;
            }
        }
    }

    fn dict_or_set(&mut self, depth: usize) -> Option<Value> {
        self.at += 1;
        let (mut entries, mut items) = (Map::new(), Vec::new());
        loop {
            self.blanks();
            if self.take('}') {
                let is_dict = items.is_empty();
                return Some(if is_dict { Value::Object(entries) } else { Value::Array(items) });
            }
            let first = self.literal(depth + 1)?;
            self.blanks();
            if self.take(':') {
                self.blanks();
                let value = self.literal(depth + 1)?;
                let name = match first {
                    Value::String(text) => text,
                    Value::Number(number) => number.to_string(),
                    _ => return None,
                };
                // Python keeps the last of two; nobody means that.
                if !items.is_empty() || entries.insert(name, value).is_some() {
                    return None;
                }
            } else if entries.is_empty() {
                items.push(first);
            } else {
                return None;
            }
            self.blanks();
            if !self.take(',') && self.peek()? != '}' {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+')) {
            self.at += 1;
        }
        let text: String = self.text[start..self.at].iter().filter(|c| **c != '_').collect();
        let text = text.trim_start_matches('+');
        text.parse::<i64>()
            .map(Value::from)
            .ok()
            .or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number))
    }

    fn word_or_text(&mut self, depth: usize) -> Option<Value> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.at += 1;
        }
        let word: String = self.text[start..self.at].iter().collect();
        if !matches!(self.peek(), Some('\'' | '"')) {
            return match word.as_str() {
                "True" => Some(Value::Bool(true)),
                "False" => Some(Value::Bool(false)),
                "None" => Some(Value::Null),
                _ => None,
            };
        }
        let escapes = match word.to_lowercase().as_str() {
            "" | "u" => true,
            "r" => false,
            // Bytes, and texts with expressions in them.
            _ => return None,
        };
        let mut text = self.string(escapes)?;
        // Texts that follow each other are one; between brackets also over lines.
        loop {
            let end = self.at;
            if depth > 0 {
                self.blanks();
            } else {
                self.spaces();
            }
            if !matches!(self.peek(), Some('\'' | '"')) {
                self.at = end;
                return Some(Value::String(text));
            }
            text.push_str(&self.string(true)?);
        }
    }

    /// At a quote. `None` where it does not end, or has what is not known.
    fn string(&mut self, has_escapes: bool) -> Option<String> {
        let quote = self.peek()?;
        let triple = self.text[self.at..].starts_with(&[quote; 3]);
        self.at += if triple { 3 } else { 1 };
        let mut text = String::new();
        loop {
            let c = self.peek()?;
            if triple && self.text[self.at..].starts_with(&[quote; 3]) {
                self.at += 3;
                return Some(text);
            }
            self.at += 1;
            match c {
                c if c == quote && !triple => return Some(text),
                '\n' if !triple => return None,
                '\\' => {
                    let escaped = self.peek()?;
                    self.at += 1;
                    if has_escapes { self.escape(escaped, &mut text)? } else { text.extend(['\\', escaped]) }
                }
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, escaped: char, text: &mut String) -> Option<()> {
        let digits = match escaped {
            '\n' => return Some(()),
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '\\' | '\'' | '"' => escaped,
            'x' | 'u' | 'U' => {
                let length = match escaped {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let code: String = self.text.get(self.at..self.at + length)?.iter().collect();
                self.at += length;
                char::from_u32(u32::from_str_radix(&code, 16).ok()?)?
            }
            other => {
                text.push('\\');
                other
            }
        };
        text.push(digits);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let lines = statements(text).into_iter().map(|statement| match statement {
            Statement::Assignment { line, name, value } => format!("{line} {name} = {value}"),
            Statement::Other { line, name, text } => format!("{line} {name}? {text:?}"),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn literals_are_read_and_everything_else_is_handed_back() {
        let text = r#""""What this is.

Not = "an assignment"
"""
from os import environ
A = 1_200  # seconds
B: list[int] = [200, 302,]
C = ("one "
     'two')
D = {"x": {"y": (1, 2.5)}, 'z': None, # a note
}
E = True; F = {3, 4}
G = r'\d' "\x41\n\u00e9"
H = 20 * 60
I = f"{A}"
J = environ["X"]
K = {"a": lambda ctx: 1}
L = -5

def ready(ctx):
    """
not at the margin by accident
    """
    return {
"a": 1}

    # still ready

M = "open
if A == 1:
    N = 2
O = ()
P = A
Q += 1
R = {"a": 1, "a": 2}
"#;
        insta::assert_snapshot!(shown(text), @r#"
        5 from? "from os import environ"
        6 A = 1200
        7 B = [200,302]
        8 C = "one two"
        10 D = {"x":{"y":[1,2.5]},"z":null}
        12 E = true
        12 F = [3,4]
        13 G = "\\dA\né"
        14 H? "H = 20 * 60"
        15 I? "I = f\"{A}\""
        16 J? "J = environ[\"X\"]"
        17 K? "K = {\"a\": lambda ctx: 1}"
        18 L = -5
        20 ready? "def ready(ctx):\n    \"\"\"\nnot at the margin by accident\n    \"\"\"\n    return {\n\"a\": 1}\n\n    # still ready"
        29 M? "M = \"open\nif A == 1:\n    N = 2"
        32 O = []
        33 P? "P = A"
        34 Q? "Q += 1"
        35 R? "R = {\"a\": 1, \"a\": 2}"
        "#);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "[A-C=\\[\\](){}'\"\\\\#:,0-9 \n\tdefé.]{0,80}") {
            let found = statements(&text);
            proptest::prop_assert!(found.len() <= text.len());
        }
    }
}
