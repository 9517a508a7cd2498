//! Who asks, and keeping what they are asked with out of everything that is written down.

use std::{
    collections::BTreeSet,
    sync::{PoisonError, RwLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{Token, Who};

/// The tokens that are accepted now: those of the configuration, and those that the device flow has given out.
#[derive(Debug)]
pub(crate) struct Tokens {
    accepted: RwLock<Vec<Token>>,
}

impl Tokens {
    pub(crate) fn new(accepted: Vec<Token>) -> Self {
        Self { accepted: RwLock::new(accepted) }
    }

    pub(crate) fn add(&self, token: Token) {
        self.accepted.write().unwrap_or_else(PoisonError::into_inner).push(token);
    }

    /// Whose the value of an `Authorization` header is. Secrets are compared plainly: timing tells a test nothing new.
    pub(crate) fn judge(&self, header: Option<&[u8]>) -> Who {
        let Some(header) = header else {
            return Who::Nobody;
        };
        let candidates = candidates(header);
        let accepted = self.accepted.read().unwrap_or_else(PoisonError::into_inner);
        let known = accepted
            .iter()
            .find(|token| candidates.iter().any(|it| it.as_slice() == token.secret.as_bytes()));
        known.map_or(Who::NotAccepted, |token| Who::Token(token.label.clone()))
    }

    pub(crate) fn scrub(&self) -> Scrub {
        let accepted = self.accepted.read().unwrap_or_else(PoisonError::into_inner).clone();
        Scrub { accepted, leaks: BTreeSet::new() }
    }
}

/// What of a header may be a token: Basic's password and user name (forges take a token as either), or the bearer's.
fn candidates(header: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(header) else {
        return Vec::new();
    };
    let Some((scheme, value)) = text.trim().split_once(' ') else {
        return Vec::new();
    };
    let value = value.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" | "token" => vec![value.as_bytes().to_vec()],
        "basic" => {
            let Ok(decoded) = STANDARD.decode(value) else {
                return Vec::new();
            };
            let mut parts = decoded.splitn(2, |byte| *byte == b':');
            let user = parts.next().unwrap_or_default().to_vec();
            let password = parts.next().unwrap_or_default().to_vec();
            vec![password, user]
        }
        _ => Vec::new(),
    }
}

/// Takes accepted tokens out of text before it is recorded, and remembers whose they were.
#[derive(Clone, Debug)]
pub(crate) struct Scrub {
    accepted: Vec<Token>,
    leaks: BTreeSet<String>,
}

impl Scrub {
    /// `text` with every accepted token replaced by a word that names its label.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let mut clean = text.to_owned();
        for token in &self.accepted {
            if clean.contains(&token.secret) {
                clean = clean.replace(&token.secret, &format!("REDACTED-{}", token.label));
                self.leaks.insert(token.label.clone());
            }
        }
        clean
    }

    /// As [`Scrub::text`], cut to `most` bytes after that.
    pub(crate) fn short(&mut self, text: &str, most: usize) -> String {
        let mut clean = self.text(text);
        if clean.len() > most {
            let cut = (0..=most).rev().find(|at| clean.is_char_boundary(*at)).unwrap_or(0);
            clean.truncate(cut);
            clean.push('…');
        }
        clean
    }

    /// The labels of the tokens that were found.
    pub(crate) fn leaks(&self) -> Vec<String> {
        self.leaks.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::Tokens;
    use crate::{Token, Who};

    fn tokens() -> Tokens {
        Tokens::new(vec![Token { label: "installer".into(), secret: "s3cret-token".into() }])
    }

    #[test]
    fn a_token_is_accepted_in_the_ways_that_forges_accept_it() {
        let tokens = tokens();
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let accepted = Who::Token("installer".into());
        for header in [
            "Bearer s3cret-token".to_owned(),
            "token s3cret-token".to_owned(),
            "bearer  s3cret-token ".to_owned(),
            basic("anybody:s3cret-token"),
            basic(":s3cret-token"),
            basic("s3cret-token:x-oauth-basic"),
        ] {
            assert_eq!(tokens.judge(Some(header.as_bytes())), accepted, "{header}");
        }
        for header in [
            &b"Bearer wrong"[..],
            b"Bearer ",
            b"Bearer",
            b"s3cret-token",
            b"Basic !!!",
            b"Basic \xff",
            b"Digest s3cret-token",
            basic("s3cret:token").as_bytes(),
            basic("").as_bytes(),
        ] {
            assert_eq!(tokens.judge(Some(header)), Who::NotAccepted, "{header:?}");
        }
        assert_eq!(tokens.judge(None), Who::Nobody);
    }

    #[test]
    fn what_is_recorded_names_the_token_and_does_not_hold_it() {
        let tokens = tokens();
        let mut scrub = tokens.scrub();
        assert_eq!(scrub.text("nothing here"), "nothing here");
        assert!(scrub.leaks().is_empty());
        assert_eq!(scrub.short("curl -H s3cret-token äöü", 29), "curl -H REDACTED-installer ä…");
        assert_eq!(scrub.leaks(), ["installer"]);
    }
}
