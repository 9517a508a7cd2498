//! Evidence of the stage `PSU`: rails, fans, power and supplies, idle and under the load of everything at once.

use serde::{Deserialize, Serialize};

/// Everything that the stage brings back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PsuEvidence {
    /// Seconds that were sampled before the load.
    pub idle_s: f64,
    /// Seconds that were sampled under it.
    pub load_s: f64,
    /// What loaded the machine.
    pub loads: Vec<Load>,
    /// Everything that was read: voltages, fans, power.
    pub sensors: Vec<RailSensor>,
    /// Power supplies and their redundancy, as the management controller tells.
    pub supplies: Vec<Supply>,
    /// What could not be read, one sentence each.
    pub problems: Vec<String>,
}

/// One source of load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// `processors`, `disks`, `network`.
    pub what: String,
    /// Whether it ran to its end.
    pub ran: bool,
    /// How much, or why not.
    pub detail: String,
}

/// What a sensor measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RailKind {
    /// Volts.
    #[default]
    Voltage,
    /// Revolutions per minute, or percent.
    Fan,
    /// Watts.
    Power,
    /// Anything else: kept, not judged.
    #[serde(other)]
    Other,
}

/// Who told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RailSource {
    /// A chip that the kernel drives.
    #[default]
    Hwmon,
    /// The management controller.
    Bmc,
}

/// One sensor and what it read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RailSensor {
    /// Stable name within the machine.
    pub name: String,
    /// Who told.
    pub source: RailSource,
    /// What it measures.
    pub kind: RailKind,
    /// `V`, `RPM`, `W`.
    pub unit: String,
    /// The sensor's own limits.
    pub limits: RailLimits,
    /// Before the load.
    pub idle: Envelope,
    /// Under it.
    pub load: Envelope,
}

/// A sensor's own limits; each can be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RailLimits {
    /// Below this it is broken.
    pub low_critical: Option<f64>,
    /// Below this it warns.
    pub low_warning: Option<f64>,
    /// Above this it warns.
    pub high_warning: Option<f64>,
    /// Above this it is broken.
    pub high_critical: Option<f64>,
}

/// What a sensor read over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Envelope {
    /// How often it was read.
    pub samples: u64,
    /// How often it did not answer.
    pub missing: u64,
    /// Lowest.
    pub min: Option<f64>,
    /// Highest.
    pub max: Option<f64>,
    /// Mean.
    pub mean: Option<f64>,
}

impl Envelope {
    /// Takes one reading; `None` is one that did not come.
    pub fn add(&mut self, value: Option<f64>) {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            self.missing += 1;
            return;
        };
        let sum = self.mean.unwrap_or(0.0) * self.samples as f64 + value;
        self.samples += 1;
        self.mean = Some(sum / self.samples as f64);
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
        self.max = Some(self.max.map_or(value, |max| max.max(value)));
    }
}

/// One power supply, or what the controller says of their redundancy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Supply {
    /// As the controller names it: `PS1 Status`.
    pub name: String,
    /// Every different state that was read, with what the controller says: `Presence detected, Failure detected`.
    pub states: Vec<String>,
    /// How often it was read.
    pub samples: u64,
    /// How often it could not be read.
    pub missing: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_counts_what_did_not_come() {
        let mut envelope = Envelope::default();
        for value in [Some(12.0), None, Some(11.4), Some(f64::NAN), Some(12.6)] {
            envelope.add(value);
        }
        assert_eq!((envelope.samples, envelope.missing), (3, 2));
        assert_eq!((envelope.min, envelope.max), (Some(11.4), Some(12.6)));
        assert!((envelope.mean.expect("read") - 12.0).abs() < 1e-9);
    }
}
