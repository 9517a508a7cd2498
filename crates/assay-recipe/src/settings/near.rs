//! The nearest known word, for somebody who misspelt one.

/// `; did you mean …?`, or nothing where no known word is near.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> String {
    nearest(word, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// The known word that a misspelt one is nearest to, where one is near.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // Who types another case or `-` for `_` means that word.
    let even = |text: &str| text.to_lowercase().replace('-', "_");
    // Words come from strangers, and distances cost the product of two lengths.
    let word: String = even(word).chars().take(64).collect();
    let (distance, near) = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&word, &even(known)), *known))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= near.len() / 3 + 1 && distance < near.len()).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word_and_something_else_does_not() {
        let known = ["timeout", "env", "upgrade_env", "tolerate_restarts"];
        assert_eq!(did_you_mean("tiemout", &known), "; did you mean `timeout`?");
        assert_eq!(did_you_mean("UPGRADE-ENV", &known), "; did you mean `upgrade_env`?");
        assert_eq!(did_you_mean("colour", &known), "");
        assert_eq!(did_you_mean("x", &[]), "");
    }
}
