//! Names: of a stack, from its domain, and of what Docker keeps for it.

/// Longest name of a stack, in characters; `abra` cuts a domain off there.
pub const LONGEST_STACK: usize = 45;
/// Longest name of a secret or a config, in bytes; the engine refuses a longer one.
pub const LONGEST_OBJECT: usize = 64;
/// Longest name of a service, in bytes; it has to be a host name.
pub const LONGEST_SERVICE: usize = 63;
/// Longest name of a secret that leaves room for any stack and a version (lint rule R015).
pub const LONGEST_SECRET_KEY: usize = 12;

/// The stack's name of a domain: `.` becomes `_`, and what is behind the 45th character is cut off.
pub fn stack_name(domain: &str) -> String {
    domain.trim().replace('.', "_").chars().take(LONGEST_STACK).collect()
}

/// What a stack calls something of its own: `<stack>_<key>`.
pub fn of_stack(stack: &str, key: &str) -> String {
    format!("{stack}_{key}")
}

/// Why Docker would refuse a name for a secret or a config; `None` where it takes it.
pub fn refused_object_name(name: &str) -> Option<String> {
    if name.len() > LONGEST_OBJECT {
        return Some(format!(
            "it has {} characters and the engine takes {LONGEST_OBJECT}; shorten the name or the domain",
            name.len()
        ));
    }
    let end = |c: char| c.is_ascii_alphanumeric();
    let inside = |c: char| end(c) || matches!(c, '-' | '_' | '.');
    (!(name.starts_with(end) && name.ends_with(end) && name.chars().all(inside))).then(|| {
        "the engine takes letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; does a variable in it \
         have no value?"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_called_like_its_domain() {
        assert_eq!(stack_name("blog.example.org"), "blog_example_org");
        assert_eq!(stack_name(&"a.".repeat(40)), "a_".repeat(23)[..45]);
        assert_eq!(of_stack("blog_example_org", "db"), "blog_example_org_db");
    }

    #[test]
    fn names_that_the_engine_refuses() {
        assert_eq!(refused_object_name("blog_example_org_db_v1"), None);
        for name in ["", "blog_db_", "-db", "a b", "ä", &"x".repeat(65)] {
            assert!(refused_object_name(name).is_some(), "{name}");
        }
    }
}
