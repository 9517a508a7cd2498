//! Variables in texts: `$X`, `${X}`, and what may stand behind the name.
//!
//! The forms are those of the Compose specification, which has more than `docker stack deploy` knows: that one has no `+`
//! and no variables inside of a default. What it would refuse or read otherwise is used as it is meant, and remarked on.

/// Deepest nesting of defaults.
const DEEPEST: usize = 16;
/// Longest text that may come of it, in bytes.
const LONGEST: usize = 256 << 10;

/// A text with its variables filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// What an author should know.
    pub remarks: Vec<Remark>,
}

/// Something about a text that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A variable is not set and has no default: it became an empty text.
    Unset {
        /// Its name.
        name: String,
    },
    /// `docker stack deploy` reads or refuses this differently.
    NotInStackDeploy {
        /// The form, as written.
        form: String,
    },
}

/// A text whose variables cannot be filled in. Positions are characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpolateError {
    /// `${X` without its end.
    #[error(
        "character {at}: `${{` without its `}}`; close it, or write `$${{` for the characters themselves"
    )]
    Unclosed {
        /// Where it begins.
        at: usize,
    },
    /// A `$` without a name.
    #[error("character {at}: a `$` without the name of a variable; write `$$` for the character itself")]
    NoName {
        /// Where it is.
        at: usize,
    },
    /// What stands behind the name is none of the forms.
    #[error(
        "character {at}: `{found}` behind the name of a variable; write `${{X}}`, `${{X:-default}}` or `${{X:?message}}`"
    )]
    Form {
        /// Where the variable begins.
        at: usize,
        /// What stands there.
        found: String,
    },
    /// `${X:?message}` of a variable that is not set.
    #[error("variable `{name}` must be set: {message}")]
    Required {
        /// Its name.
        name: String,
        /// What the author says about it.
        message: String,
    },
    /// Variables that have long values, too often.
    #[error("its variables make it longer than {LONGEST} bytes; no text of a recipe needs that")]
    TooLong,
    /// Defaults within defaults, too deep.
    #[error("character {at}: defaults are nested more than {DEEPEST} deep; set the variable instead")]
    TooDeep {
        /// Where the innermost begins.
        at: usize,
    },
}

/// Fills in variables.
///
/// # Errors
/// [`InterpolateError`] at the first place that cannot be read, or for a variable that has to be set.
pub fn interpolate(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Filled, InterpolateError> {
    let mut filled = Filled::default();
    let characters: Vec<char> = text.chars().collect();
    filled.text = fill(&characters, 0, 0, lookup, &mut filled.remarks)?;
    Ok(filled)
}

/// Names of the variables in a text, each once, in their order; those inside of defaults, too.
pub fn variables(text: &str) -> Vec<String> {
    let names = std::cell::RefCell::new(Vec::new());
    let note = |name: &str| {
        let mut names = names.borrow_mut();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        None
    };
    // What cannot be read has no names beyond those found so far; whoever interpolates it reports it.
    let _ = interpolate(text, &note);
    names.into_inner()
}

/// Whether a character may begin a name.
pub(crate) fn begins_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Whether a character may be inside of a name.
pub(crate) fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn fill(
    text: &[char],
    from: usize,
    depth: usize,
    lookup: &dyn Fn(&str) -> Option<String>,
    remarks: &mut Vec<Remark>,
) -> Result<String, InterpolateError> {
    if depth > DEEPEST {
        return Err(InterpolateError::TooDeep { at: from + 1 });
    }
    let mut out = String::with_capacity(text.len());
    let mut index = 0;
    while let Some(&c) = text.get(index) {
        if out.len() > LONGEST {
            return Err(InterpolateError::TooLong);
        }
        if c != '$' {
            out.push(c);
            index += 1;
            continue;
        }
        let at = from + index + 1;
        match text.get(index + 1) {
            Some('$') => {
                out.push('$');
                index += 2;
            }
            Some('{') => {
                let end = closing(text, index + 2).ok_or(InterpolateError::Unclosed { at })?;
                out.push_str(&braced(&text[index + 2..end], from + index + 2, depth, lookup, remarks)?);
                index = end + 1;
            }
            Some(&next) if begins_name(next) => {
                let name: String = text[index + 1..].iter().copied().take_while(|&c| in_name(c)).collect();
                index += 1 + name.len();
                // `docker stack deploy` takes all the rest for a default then.
                let rest: String = text[index..].iter().take(2).collect();
                if rest.starts_with(['-', '?']) || rest == ":-" || rest == ":?" {
                    remarks.push(Remark::NotInStackDeploy { form: format!("${name}{rest}") });
                }
                out.push_str(&value_of(name, lookup, remarks));
            }
            _ => return Err(InterpolateError::NoName { at }),
        }
    }
    Ok(out)
}

/// What is between the braces, its first character at `from`.
fn braced(
    inner: &[char],
    from: usize,
    depth: usize,
    lookup: &dyn Fn(&str) -> Option<String>,
    remarks: &mut Vec<Remark>,
) -> Result<String, InterpolateError> {
    // Where the `$` is, for errors: two characters before, counted from 1.
    let at = from - 1;
    let name: String = inner.iter().copied().take_while(|&c| in_name(c)).collect();
    if !name.starts_with(begins_name) {
        return Err(InterpolateError::NoName { at });
    }
    let rest = &inner[name.len()..];
    if rest.is_empty() {
        return Ok(value_of(name, lookup, remarks));
    }
    let (or_empty, operator, operand) = match rest {
        [':', operator, operand @ ..] => (true, *operator, operand),
        [operator, operand @ ..] => (false, *operator, operand),
        [] => (false, ' ', rest),
    };
    if !matches!(operator, '-' | '?' | '+') {
        return Err(InterpolateError::Form { at, found: rest.iter().take(20).collect() });
    }
    if operator == '+' || operand.contains(&'$') {
        remarks.push(Remark::NotInStackDeploy {
            form: format!("${{{}}}", inner.iter().take(60).collect::<String>()),
        });
    }
    let operand_from = from + inner.len() - operand.len();
    let value = lookup(&name).filter(|value| !(or_empty && value.is_empty()));
    // The other side is read as well, so that a mistake in it does not wait for the day on which it is needed.
    let mut others = Vec::new();
    let other = fill(operand, operand_from, depth + 1, lookup, &mut others)?;
    match (operator, value) {
        ('+', Some(_)) | ('-', None) => {
            remarks.extend(others);
            Ok(other)
        }
        ('?', None) => {
            let message =
                if other.trim().is_empty() { "give it a value in `.env`".to_owned() } else { other };
            Err(InterpolateError::Required { name, message })
        }
        (_, Some(value)) => Ok(value),
        (_, None) => Ok(String::new()),
    }
}

fn value_of(name: String, lookup: &dyn Fn(&str) -> Option<String>, remarks: &mut Vec<Remark>) -> String {
    lookup(&name).unwrap_or_else(|| {
        remarks.push(Remark::Unset { name });
        String::new()
    })
}

/// Where the brace that was opened before `from` is closed.
fn closing(text: &[char], from: usize) -> Option<usize> {
    let mut open = 1_usize;
    let mut index = from;
    while let Some(&c) = text.get(index) {
        match c {
            '$' if text.get(index + 1) == Some(&'{') => {
                open += 1;
                index += 1;
            }
            '$' if text.get(index + 1) == Some(&'$') => index += 1,
            '}' => {
                open -= 1;
                if open == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
        index += 1;
    }
    None
}

#[cfg(test)]
#[path = "interpolate_tests.rs"]
mod tests;
