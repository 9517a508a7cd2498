//! What a run of the host pipeline was asked for, and what the control plane hands to a stage's collector.
//!
//! Both are plain data: the first stands in the journal from the run's first event on, the second travels to the
//! agent with each try of a stage.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::permit::SignedPermit;
use crate::{Asked, StageName};

/// How thorough a run is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Minutes: samples of each disk, a part of the memory.
    Quick,
    /// Everything once.
    #[default]
    Standard,
    /// Everything for a day, with more patterns.
    Burnin,
}

impl Profile {
    /// Every profile, from the lightest.
    pub const ALL: [Self; 3] = [Self::Quick, Self::Standard, Self::Burnin];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Burnin => "burnin",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Not one of the profiles.
#[derive(Debug, thiserror::Error)]
#[error("there is no profile `{0}`; choose quick, standard or burnin")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|profile| profile.as_str() == s);
        found.ok_or_else(|| UnknownProfile(crate::text::clean_to(s, 40)))
    }
}

/// A kind of part that can be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// A disk, by serial number.
    Disk,
    /// A memory module, by serial number.
    Dimm,
    /// A network port, by hardware address.
    Nic,
    /// A power supply, by serial number.
    Psu,
    /// The main board, by serial number.
    Board,
}

impl PartKind {
    /// The spelling on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Dimm => "dimm",
            Self::Nic => "nic",
            Self::Psu => "psu",
            Self::Board => "board",
        }
    }
}

/// A part that was replaced before this run: `disk:OLD=NEW`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// What kind of part.
    pub kind: PartKind,
    /// The serial number (or hardware address) that must be gone.
    pub old: String,
    /// The one that must be there instead.
    pub new: String,
}

/// What was asked for beyond the pipeline's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    /// The parts that were replaced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Replacement>,
    /// Stages that were left out by request; a run without all of its stages says so and can never gate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<StageName>,
    /// The phase of an image's profile from which the run is to go on, where an earlier one kept its machine there. Whether one
    /// had is told by Prepare; either way such a run speaks for less than one from the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_phase: Option<String>,
    /// On whose behalf: what its place in the queue depends on.
    #[serde(skip_serializing_if = "Asked::is_default")]
    pub asked: Asked,
}

impl RunOptions {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A network speed server that one client may use: it takes one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IperfServer {
    /// Where it listens, as seen from the machine under test.
    pub address: IpAddr,
    /// On which TCP port.
    pub port: u16,
    /// The address that the client's port is to take meanwhile; nobody else has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientAddress>,
    /// Speed of the runner's own link in Mb/s, where it knows: what no client can exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_mbps: Option<u32>,
}

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientAddress {
    /// The address.
    pub address: IpAddr,
    /// The prefix length.
    pub prefix_len: u8,
}

/// What a collector is given for one try of its stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StageInput {
    /// How thorough to be.
    pub profile: Profile,
    /// The parts that were replaced, to be tested hardest.
    pub replaced: Vec<Replacement>,
    /// Speed servers reserved for this run; none when its runner has none.
    pub iperf: Vec<IperfServer>,
    /// The permission to erase disks, for `Storage` alone.
    pub permit: Option<SignedPermit>,
    /// What the last try of this stage saved, if it saved anything.
    pub checkpoint: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_fixed() {
        let words: Vec<_> = Profile::ALL.into_iter().map(Profile::as_str).collect();
        assert_eq!(words, ["quick", "standard", "burnin"]);
        for profile in Profile::ALL {
            assert_eq!(profile.as_str().parse::<Profile>().expect("known"), profile);
            assert_eq!(serde_json::to_value(profile).expect("plain"), profile.as_str());
        }
        assert!("Standard".parse::<Profile>().is_err());
    }

    #[test]
    fn options_that_were_not_given_are_not_written() {
        assert_eq!(serde_json::to_string(&RunOptions::default()).expect("plain"), "{}");
    }
}
