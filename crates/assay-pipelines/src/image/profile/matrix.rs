//! Variants of one profile: axes with values, each value a difference to the profile, and which combinations are run.
//!
//! The merge is the one that the proof catalogue uses as well: tables are merged, everything else is replaced. Two axes
//! that set the same key would make one of them a lie, and are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use assay_model::text;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::read::explain;
use super::{Profile, ProfileError, is_default};

/// The most cases of one matrix: more is a mistake in the profile rather than a plan.
pub const MAX_CASES: usize = 256;
/// The most combinations that are looked at to choose from.
const MAX_COMBINATIONS: usize = 20_000;
/// The most axes.
const MAX_AXES: usize = 8;
/// The longest name of a case, which is a folder's as well; file systems take 255.
const MAX_NAME: usize = 200;
/// The most values of an axis.
const MAX_VALUES: usize = 64;

/// An axis of the matrix: something that is tried in several ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Axis {
    /// Its name: `firmware`, `disks`.
    pub name: String,
    /// The ways.
    #[serde(rename = "value")]
    pub values: Vec<AxisValue>,
}

/// One value of an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AxisValue {
    /// Its name: `uefi`.
    pub name: String,
    /// What the profile differs in: tables are merged, everything else is replaced. Nothing: the profile as it is.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub differs: Map<String, Value>,
}

/// Which combinations of the axes' values are run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CaseRules {
    /// All combinations, or so many that each pair of values comes together at least once.
    #[serde(skip_serializing_if = "is_default")]
    pub cover: Cover,
    /// Combinations that are not run: `firmware=bios,disks=4k`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Selection>,
    /// The only combinations that are run, where any are named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<Selection>,
}

/// How many combinations are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cover {
    /// Each with each.
    #[default]
    All,
    /// Every pair of values of two axes at least once.
    Pairs,
}

/// Cases, named by some of their values: `firmware=uefi,disks=three`. A case is meant when it has all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(Vec<(String, String)>);

/// What is not a selection, and what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no cases; write AXIS=VALUE, or several of them with commas between: firmware=uefi,disks=three"
)]
pub struct BadSelection(String);

/// One case of a matrix: a profile of its own, and the values that it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// `firmware=uefi,disks=three`, in the order of the axes; the profile's name where it has none.
    pub name: String,
    /// Axis and value, in the order of the axes.
    pub values: Vec<(String, String)>,
    /// What the image is held to in this case. It has no axes any more.
    pub profile: Profile,
}

impl Case {
    /// Axis → value, as the run's specification and its name in the history have it.
    pub fn cell(&self) -> BTreeMap<String, String> {
        self.values.iter().cloned().collect()
    }
}

impl Selection {
    /// Whether a case with these values is meant.
    pub fn takes(&self, values: &[(String, String)]) -> bool {
        self.0.iter().all(|wanted| values.contains(wanted))
    }

    /// Says what it names that is not there.
    fn unknown(&self, axes: &[Axis]) -> Option<String> {
        for (axis, value) in &self.0 {
            let Some(known) = axes.iter().find(|known| known.name == *axis) else {
                let names: Vec<&str> = axes.iter().map(|axis| axis.name.as_str()).collect();
                let hint = text::did_you_mean(axis, &names);
                return Some(format!("there is no axis `{axis}`{hint}; there are {}", names.join(", ")));
            };
            if known.values.iter().all(|known| known.name != *value) {
                let names: Vec<&str> = known.values.iter().map(|value| value.name.as_str()).collect();
                let hint = text::did_you_mean(value, &names);
                return Some(format!(
                    "the axis `{axis}` has no value `{value}`{hint}; it has {}",
                    names.join(", ")
                ));
            }
        }
        None
    }
}

impl Profile {
    /// The profile with these differences: tables are merged, everything else is replaced.
    ///
    /// # Errors
    /// [`ProfileError`] when what comes out is no profile.
    pub fn differing(&self, differs: &Map<String, Value>) -> Result<Self, ProfileError> {
        let Ok(Value::Object(mut whole)) = serde_json::to_value(self) else {
            return Err(ProfileError("the profile does not serialise".to_owned()));
        };
        merge(&mut whole, differs);
        let profile: Self = serde_json::from_value(Value::Object(whole))
            .map_err(|error| ProfileError(explain(&error.to_string())))?;
        profile.check()?;
        Ok(profile)
    }

    /// The cases of the profile's matrix, in the order of its axes; one, with the profile as it is, where it has no axes.
    ///
    /// # Errors
    /// [`ProfileError`] when a case is no profile, when none is left, or when there are more than [`MAX_CASES`].
    pub fn cases(&self) -> Result<Vec<Case>, ProfileError> {
        let plain =
            Self { matrix: Vec::new(), cases: CaseRules::default(), quarantine: Vec::new(), ..self.clone() };
        if self.matrix.is_empty() {
            return Ok(vec![Case { name: self.name.clone(), values: Vec::new(), profile: plain }]);
        }
        let chosen = choose(&self.matrix, &self.cases)?;
        let mut cases = Vec::with_capacity(chosen.len());
        for places in chosen {
            let values = named(&self.matrix, &places);
            let name = words(&values);
            if name.len() > MAX_NAME {
                return Err(ProfileError(format!(
                    "case {name}: a case's name has at most {MAX_NAME} letters; give axes and values shorter names"
                )));
            }
            let mut differs = Map::new();
            for (axis, place) in self.matrix.iter().zip(&places) {
                merge(&mut differs, &axis.values[*place].differs);
            }
            let profile =
                plain.differing(&differs).map_err(|error| ProfileError(format!("case {name}: {error}")))?;
            cases.push(Case { name, values, profile });
        }
        Ok(cases)
    }

    /// The cases that the selections name; all of them without any.
    ///
    /// # Errors
    /// [`ProfileError`] as [`Profile::cases`] does, and when a selection names none.
    pub fn selected(&self, wanted: &[Selection]) -> Result<Vec<Case>, ProfileError> {
        let cases = self.cases()?;
        for selection in wanted {
            if let Some(unknown) = selection.unknown(&self.matrix) {
                return Err(ProfileError(format!("case {selection}: {unknown}")));
            }
            if !cases.iter().any(|case| selection.takes(&case.values)) {
                return Err(ProfileError(format!(
                    "case {selection}: the profile leaves this combination out"
                )));
            }
        }
        let meant = |case: &Case| wanted.is_empty() || wanted.iter().any(|one| one.takes(&case.values));
        Ok(cases.into_iter().filter(meant).collect())
    }

    pub(super) fn check_matrix(&self) -> Result<(), ProfileError> {
        let problem = |what: String| Err(ProfileError(what));
        if self.matrix.len() > MAX_AXES {
            return problem(format!("{} axes; at most {MAX_AXES}", self.matrix.len()));
        }
        if self.matrix.is_empty() && self.cases != CaseRules::default() {
            return problem("[cases]: the profile has no axes to combine; add a [[matrix]]".to_owned());
        }
        let mut names = BTreeSet::new();
        for axis in &self.matrix {
            let at = format!("matrix {:?}", axis.name);
            if !super::check::is_name(&axis.name, 24) {
                return problem(format!("{at}: letters, digits, `.`, `_` and `-`, at most 24"));
            }
            if !names.insert(&axis.name) {
                return problem(format!("{at}: two axes have this name"));
            }
            if axis.values.is_empty() || axis.values.len() > MAX_VALUES {
                return problem(format!("{at}: 1 to {MAX_VALUES} values"));
            }
            let mut values = BTreeSet::new();
            for value in &axis.values {
                let at = format!("{at}, value {:?}", value.name);
                if !super::check::is_name(&value.name, 24) {
                    return problem(format!("{at}: letters, digits, `.`, `_` and `-`, at most 24"));
                }
                if !values.insert(&value.name) {
                    return problem(format!("{at}: two values have this name"));
                }
                for key in ["name", "matrix", "cases", "quarantine"] {
                    if value.differs.contains_key(key) {
                        return problem(format!("{at}: differs.{key}: that is the same for all cases"));
                    }
                }
            }
        }
        for (place, axis) in self.matrix.iter().enumerate() {
            for other in &self.matrix[place + 1..] {
                if let Some(key) = both_set(axis, other) {
                    return problem(format!(
                        "matrix: the axes {:?} and {:?} both set {key}; a case would have that of one of them alone. \
                         Put them into one axis, with a value for each combination",
                        axis.name, other.name
                    ));
                }
            }
        }
        for (at, rules) in [("exclude", &self.cases.exclude), ("only", &self.cases.only)] {
            for rule in rules {
                if let Some(unknown) = rule.unknown(&self.matrix) {
                    return problem(format!("cases.{at} = \"{rule}\": {unknown}"));
                }
            }
        }
        if !self.matrix.is_empty() {
            self.cases()?;
        }
        Ok(())
    }
}

/// Tables are merged, everything else is replaced.
pub fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, value) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// A key that values of both axes set.
fn both_set(one: &Axis, other: &Axis) -> Option<String> {
    let keys = |axis: &Axis| {
        let mut keys = BTreeSet::new();
        axis.values.iter().for_each(|value| leaves("", &value.differs, &mut keys));
        keys
    };
    let (one, other) = (keys(one), keys(other));
    let within = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('.'));
    one.iter().find(|a| other.iter().any(|b| within(a, b) || within(b, a))).cloned()
}

fn leaves(at: &str, table: &Map<String, Value>, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let key = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match value {
            Value::Object(inner) => leaves(&key, inner, keys),
            _ => {
                keys.insert(key);
            }
        }
    }
}

/// The combinations that are run, each as one place for each axis.
fn choose(axes: &[Axis], rules: &CaseRules) -> Result<Vec<Vec<usize>>, ProfileError> {
    let product = axes.iter().try_fold(1_usize, |all, axis| all.checked_mul(axis.values.len()));
    if product.is_none_or(|all| all > MAX_COMBINATIONS) {
        return Err(ProfileError(format!(
            "the axes have more than {MAX_COMBINATIONS} combinations; make it two profiles, or put values together"
        )));
    }
    let mut allowed = vec![Vec::new()];
    for axis in axes {
        allowed = allowed
            .into_iter()
            .flat_map(|places: Vec<usize>| {
                (0..axis.values.len()).map(move |place| [places.as_slice(), &[place]].concat())
            })
            .collect();
    }
    allowed.retain(|places| {
        let values = named(axes, places);
        let only = rules.only.is_empty() || rules.only.iter().any(|rule| rule.takes(&values));
        only && !rules.exclude.iter().any(|rule| rule.takes(&values))
    });
    if allowed.is_empty() {
        return Err(ProfileError("cases: no combination is left; look at `only` and `exclude`".to_owned()));
    }
    let chosen = match rules.cover {
        Cover::All => allowed,
        Cover::Pairs => pairs(allowed),
    };
    if chosen.len() > MAX_CASES {
        return Err(ProfileError(format!(
            "{} cases; at most {MAX_CASES} are run. Exclude some, or set cover = \"pairs\" under [cases]",
            chosen.len()
        )));
    }
    Ok(chosen)
}

/// So many of the combinations that every pair of values that any of them has is in one of those: greedily, the one with
/// the most pairs that are new first, the earlier one of two.
fn pairs(allowed: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let of = |places: &[usize]| -> Vec<(usize, usize, usize, usize)> {
        if let [only] = places {
            return vec![(0, *only, 0, *only)];
        }
        let all = places.iter().enumerate();
        all.flat_map(|(a, x)| places.iter().enumerate().skip(a + 1).map(move |(b, y)| (a, *x, b, *y)))
            .collect()
    };
    let mut missing: BTreeSet<_> = allowed.iter().flat_map(|places| of(places)).collect();
    let mut chosen = BTreeSet::new();
    while !missing.is_empty() {
        let fresh = |places: &Vec<usize>| of(places).iter().filter(|pair| missing.contains(pair)).count();
        let best = allowed.iter().enumerate().rev().max_by_key(|(_, places)| fresh(places));
        let Some((place, best)) = best else { break };
        for pair in of(best) {
            missing.remove(&pair);
        }
        chosen.insert(place);
    }
    allowed
        .into_iter()
        .enumerate()
        .filter(|(place, _)| chosen.contains(place))
        .map(|(_, places)| places)
        .collect()
}

fn named(axes: &[Axis], places: &[usize]) -> Vec<(String, String)> {
    axes.iter()
        .zip(places)
        .map(|(axis, place)| (axis.name.clone(), axis.values[*place].name.clone()))
        .collect()
}

fn words(values: &[(String, String)]) -> String {
    let parts: Vec<_> = values.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    parts.join(",")
}

impl FromStr for Selection {
    type Err = BadSelection;

    fn from_str(given: &str) -> Result<Self, BadSelection> {
        let bad = || BadSelection(text::clean_to(given, 80));
        let mut parts = Vec::new();
        for part in given.split(',') {
            let (axis, value) = part.split_once('=').ok_or_else(bad)?;
            let (axis, value) = (axis.trim(), value.trim());
            if axis.is_empty() || value.is_empty() || parts.iter().any(|(known, _)| known == axis) {
                return Err(bad());
            }
            parts.push((axis.to_owned(), value.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(&self.0))
    }
}

impl Serialize for Selection {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Selection {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Selection {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Selection".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*$", "examples": ["firmware=uefi,disks=three"]})
    }
}

#[cfg(test)]
#[path = "matrix_tests.rs"]
mod tests;
