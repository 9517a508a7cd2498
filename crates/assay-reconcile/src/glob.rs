//! The globs of an Argo CD directory source, as Argo CD matches them and not as one might read them.
//!
//! Argo CD's user guide ("Directory", *Including/Excluding Files*) calls `include` and `exclude` globs and shows
//! `*.yaml`, `some-directory/*.yaml` and `{*.yml,*.yaml}`. Its code (`util/glob/glob.go`, called from
//! `getPotentiallyValidManifestFile` in `reposerver/repository/repository.go`) matches the path relative to the source path
//! with the library gobwas/glob and names no separator. What follows from that, and is easily missed:
//!
//! - `*` and `?` match `/` as well: `*.yaml` matches `a/b/c.yaml`, and `*` and `**` are the same;
//! - `**/x` wants a `/` before `x`: it matches `a/x`, but not `x`, as it would in a shell or in `.gitignore`;
//!   `**/cluster-nodes/**/*.yaml` does not match `a/cluster-nodes/node.yaml`;
//! - `[a-c]` is a range, `[abc]` a list, `!` negates either, and the two do not mix;
//! - `{a,b}` is an alternative, alternatives nest, `\` escapes.
//!
//! One difference is deliberate: a pattern that cannot be understood is an error here. Argo CD logs a warning and then matches nothing.

use regex::{Regex, RegexBuilder};

/// The most that a compiled pattern may take, in bytes: a pattern is a line of configuration, and larger means hostile.
const COMPILED: usize = 1 << 20;
/// The longest pattern, in bytes.
const LONGEST: usize = 4096;
/// How deep alternatives may nest.
const DEEPEST: usize = 16;

/// One pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    regex: Regex,
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`GlobError`], which says what in it is not understood.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        let failed = |problem: &str| GlobError { glob: text.to_owned(), problem: problem.to_owned() };
        if text.len() > LONGEST {
            return Err(failed("it is longer than 4096 bytes"));
        }
        let pattern = translate(text).map_err(failed)?;
        let regex = RegexBuilder::new(&pattern)
            .dot_matches_new_line(true)
            .size_limit(COMPILED)
            .build()
            .map_err(|_| failed("it is too large"))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Whether the whole of `path`, which is relative to the source path, matches.
    pub fn matches(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A glob that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the glob `{glob}` is not understood: {problem}; correct `include` or `exclude` of the source")]
pub struct GlobError {
    /// The pattern as it was written.
    pub glob: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A glob as an anchored regular expression.
fn translate(glob: &str) -> Result<String, &'static str> {
    let mut out = String::from("^");
    let mut depth = 0_usize;
    let mut chars = glob.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '*' => {
                while chars.next_if_eq(&'*').is_some() {}
                out.push_str(".*");
            }
            '?' => out.push('.'),
            '[' => class(&mut chars, &mut out)?,
            '{' => {
                depth += 1;
                if depth > DEEPEST {
                    return Err("its alternatives nest too deep");
                }
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            '\\' => literal(chars.next().ok_or("it ends in the middle of an escape")?, &mut out),
            other => literal(other, &mut out),
        }
    }
    if depth > 0 {
        return Err("a `{` is not closed");
    }
    out.push('$');
    Ok(out)
}

/// What comes after `[`: a list or a range.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Result<(), &'static str> {
    let negated = chars.next_if_eq(&'!').is_some();
    let mut members = Vec::new();
    loop {
        match chars.next().ok_or("a `[` is not closed")? {
            ']' => break,
            '\\' => members.push(chars.next().ok_or("it ends in the middle of an escape")?),
            char => members.push(char),
        }
    }
    out.push_str(if negated { "[^" } else { "[" });
    match members[..] {
        [] => return Err("a `[]` is empty"),
        [low, '-', high] if low <= high => {
            literal(low, out);
            out.push('-');
            literal(high, out);
        }
        [_, '-', _] => return Err("a range runs backwards"),
        _ if members.contains(&'-') => return Err("a `[…]` mixes a list and a range"),
        _ => members.iter().for_each(|member| literal(*member, out)),
    }
    out.push(']');
    Ok(())
}

fn literal(char: char, out: &mut String) {
    out.push_str(&regex::escape(char.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::Glob;

    fn matches(glob: &str, path: &str) -> bool {
        Glob::new(glob).unwrap().matches(path)
    }

    #[test]
    fn the_pattern_of_the_cluster_nodes_application() {
        let glob = "**/cluster-nodes/**/*.yaml";
        assert!(matches(glob, "alice/cluster-nodes/node-0a1b2c/node.yaml"));
        assert!(matches(glob, "alice/team/cluster-nodes/a/b/node.yaml"));
        assert!(!matches(glob, "alice/cluster-nodes/node-0a1b2c/node.yml"));
        assert!(!matches(glob, "alice/machines/node-0a1b2c/node.yaml"));
        // Not what a reader expects of `**/`: a `/` is wanted on either side.
        assert!(!matches(glob, "cluster-nodes/node-0a1b2c/node.yaml"));
        assert!(!matches(glob, "alice/cluster-nodes/node.yaml"));
    }

    #[test]
    fn a_star_crosses_folders() {
        assert!(matches("*.yaml", "a/b/c.yaml"));
        assert!(matches("a/?.yaml", "a/b.yaml"));
        assert!(matches("a?b", "a/b"));
        assert!(!matches("*.yaml", "c.yaml.txt"));
    }

    #[test]
    fn alternatives_classes_and_escapes() {
        assert!(matches("{*.yml,*.yaml}", "a/b.yml"));
        assert!(matches("{config.json,env-usw2/*}", "env-usw2/x.yaml"));
        assert!(!matches("{config.json,env-usw2/*}", "env-use1/x.yaml"));
        assert!(matches("{a,{b,c}d}", "cd"));
        assert!(matches("node-[0-9].yaml", "node-7.yaml"));
        assert!(!matches("node-[!0-9].yaml", "node-7.yaml"));
        assert!(matches("[abc]", "b"));
        assert!(matches(r"\*.yaml", "*.yaml") && !matches(r"\*.yaml", "a.yaml"));
        assert!(matches("a,b}", "a,b}"), "outside of an alternative they are ordinary");
        assert!(!matches("a.yaml", "abyaml"), "a dot is a dot");
    }

    #[test]
    fn what_is_not_a_glob_is_said() {
        for (glob, problem) in [
            ("{a,b", "a `{` is not closed"),
            ("[ab", "a `[` is not closed"),
            ("[]", "a `[]` is empty"),
            ("[a-z0]", "a `[…]` mixes a list and a range"),
            ("[z-a]", "a range runs backwards"),
            ("a\\", "it ends in the middle of an escape"),
        ] {
            assert_eq!(Glob::new(glob).unwrap_err().problem, problem, "{glob}");
        }
        assert!(Glob::new(&"{".repeat(100)).is_err());
        assert!(Glob::new(&"a".repeat(5000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_and_no_path_panics(glob in ".{0,40}", path in ".{0,40}") {
            if let Ok(glob) = Glob::new(&glob) {
                glob.matches(&path);
            }
        }

        #[test]
        fn a_path_matches_itself_escaped(path in "[ -~]{0,40}") {
            let escaped: String = path.chars().flat_map(|char| ['\\', char]).collect();
            proptest::prop_assert!(matches(&escaped, &path));
        }
    }
}
