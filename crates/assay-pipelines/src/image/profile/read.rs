//! Reading a profile, with errors that a person can act on: the line itself, what was expected, the nearest known key.

use assay_model::text;

use super::Profile;

/// Longest profile that is read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// A profile that cannot be used; complete, over several lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProfileError(pub String);

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`ProfileError`] with the place and the reason.
    pub fn from_toml(source: &str) -> Result<Self, ProfileError> {
        if source.len() > MAX_BYTES {
            return Err(ProfileError(format!(
                "a profile of {} bytes; at most {MAX_BYTES} are read",
                source.len()
            )));
        }
        let profile: Self =
            toml::from_str(source).map_err(|error| ProfileError(explain(&error.to_string())))?;
        profile.check()?;
        Ok(profile)
    }

    /// Writes it as TOML that [`Profile::from_toml`] reads back.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a profile is plain data, which always serialises")
    }
}

/// Adds the nearest known key or value to the parser's words.
pub(super) fn explain(message: &str) -> String {
    let message = message.trim_end();
    let Some((_, rest)) =
        message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))
    else {
        return message.to_owned();
    };
    let Some((given, rest)) = rest.split_once('`') else { return message.to_owned() };
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    format!("{message}{}", text::did_you_mean(given, &known))
}
