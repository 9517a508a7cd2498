//! Power cuts: when one comes, and what may be found afterwards.
//!
//! The oracle is the same for a single cut in a test and for all of them (`assay image power-cuts`): a new system that is
//! whole, the old system, or a refusal in plain words; never half a system that looks like one.

use std::time::Duration;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Profile, ProfileError, Span, Within};

/// When the power is cut, and what may be found afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PowerCutSpec {
    /// Not before the end of this phase of the installation; from its beginning on without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At the latest at the end of this phase; that of success without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// At a moment within so long after `after`, drawn from the run's seed. Without it: at once, or where `after` is not
    /// given at the end of `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// Lines by which the installer, a boot loader or an initramfs refuses what is left after a cut.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refuses: Vec<String>,
    /// Files, as expressions over their paths, that may be other than they were when the installation was done, or not
    /// there, in a system that comes up after a cut: logs, caches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// The line by which the system shows itself that was on the disks before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
}

impl PowerCutSpec {
    /// Whether a test of this profile cuts the power.
    pub const fn cuts(&self) -> bool {
        self.after.is_some() || self.before.is_some() || self.within.is_some()
    }

    /// How long after `after` the cut comes with this seed; none where it comes at the end of `before`.
    pub fn moment(&self, seed: u32) -> Option<Duration> {
        match (self.within, &self.after) {
            (Some(within), _) => Some(within.0.mul_f64(drawn(seed))),
            (None, Some(_)) => Some(Duration::ZERO),
            (None, None) => None,
        }
    }

    pub(super) fn check(&self, profile: &Profile) -> Result<(), ProfileError> {
        let problem = |what: String| Err(ProfileError(what));
        let place = |name: &String| {
            let mut installing = profile.phases.iter().filter(|phase| phase.stage == Within::Install);
            installing.position(|phase| phase.name == *name)
        };
        for (key, name) in [("after", &self.after), ("before", &self.before)] {
            if let Some(name) = name
                && place(name).is_none()
            {
                return problem(format!(
                    "power-cut.{key} = {name:?}: there is no such phase of the installation"
                ));
            }
        }
        if !self.cuts() {
            return self.expressions();
        }
        let last = self.before.as_ref().or(profile.success_phase().map(|phase| &phase.name));
        let Some(last) = last.and_then(place) else {
            return problem(
                "[power-cut]: nothing is installed: the profile has no phase of an installation".to_owned(),
            );
        };
        if self.after.as_ref().and_then(place).is_some_and(|after| after >= last) {
            return problem(format!(
                "power-cut.after = {:?}: the cut comes at the latest at the end of `{}`, which is no later",
                self.after.clone().unwrap_or_default(),
                self.before.clone().unwrap_or_else(|| "the phase of success".to_owned())
            ));
        }
        if self.within.is_some_and(|within| within.0.is_zero()) {
            return problem("power-cut.within = \"0s\" is no time at all".to_owned());
        }
        self.expressions()
    }

    fn expressions(&self) -> Result<(), ProfileError> {
        let named = |key: &'static str, list: &'_ [String]| {
            list.iter().map(|one| (key, one.clone())).collect::<Vec<_>>()
        };
        let all = [
            named("refuses", &self.refuses),
            named("changes", &self.changes),
            named("old", self.old.as_slice()),
        ]
        .concat();
        for (key, expression) in all {
            if let Err(error) = Regex::new(&expression) {
                return Err(ProfileError(format!("power-cut.{key}: not a regular expression\n{error}")));
            }
        }
        Ok(())
    }
}

/// A number from 0 up to 1, one for each seed (`SplitMix64`, Steele, Lea and Flood 2014; its upper 53 bits).
fn drawn(seed: u32) -> f64 {
    let mut z = u64::from(seed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: &str = "name = \"x\"\n[[phase]]\nname = \"partitioned\"\nmarker = \"p\"\ntimeout = \"1m\"\n\
                          [[phase]]\nname = \"installed\"\nmarker = \"i\"\ntimeout = \"1m\"\n";

    fn read(table: &str) -> Result<PowerCutSpec, String> {
        let profile = Profile::from_toml(&format!("{PHASES}[power-cut]\n{table}"));
        profile.map(|profile| profile.power_cut).map_err(|error| error.to_string())
    }

    #[test]
    fn a_moment_is_drawn_from_the_seed_and_from_nothing_else() {
        let spec = read("after = \"partitioned\"\nwithin = \"10s\"").expect("a random cut");
        assert_eq!(spec.moment(7), spec.moment(7));
        let moments: Vec<_> = (0..1000).filter_map(|seed| spec.moment(seed)).collect();
        assert!(moments.iter().all(|moment| *moment < Duration::from_secs(10)));
        for tenth in 0..10 {
            let range = Duration::from_secs(tenth)..Duration::from_secs(tenth + 1);
            let count = moments.iter().filter(|moment| range.contains(*moment)).count();
            assert!((50..200).contains(&count), "second {tenth}: {count} of 1000");
        }
    }

    #[test]
    fn without_a_span_it_comes_at_once_or_at_the_end() {
        assert_eq!(read("after = \"partitioned\"").expect("reads").moment(1), Some(Duration::ZERO));
        let spec = read("before = \"partitioned\"").expect("reads");
        assert!(spec.cuts() && spec.moment(1).is_none());
        assert!(!read("refuses = ['REFUSED']").expect("an oracle alone").cuts());
    }

    #[test]
    fn a_cut_that_cannot_come_is_refused_with_the_reason() {
        for (table, says) in [
            ("after = \"partitoned\"", "power-cut.after = \"partitoned\": there is no such phase"),
            ("before = \"login\"", "power-cut.before = \"login\": there is no such phase"),
            ("after = \"installed\"", "no later"),
            ("after = \"installed\"\nbefore = \"partitioned\"", "no later"),
            ("within = \"0s\"", "no time at all"),
            ("refuses = ['(']", "power-cut.refuses: not a regular expression"),
            ("changes = ['(']", "power-cut.changes: not a regular expression"),
            ("old = '('", "power-cut.old: not a regular expression"),
            ("atfer = \"installed\"", "did you mean `after`?"),
        ] {
            let said = read(table).expect_err(table);
            assert!(said.contains(says), "{table}: {said}");
        }
    }
}
