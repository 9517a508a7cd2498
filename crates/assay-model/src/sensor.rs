//! Readings of the thermal sidecar and other series.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Micros;

/// One sensor, told once: readings refer to it by its place in the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SensorInfo {
    /// Stable name within the machine: `chip/label@device`, never a hwmon number.
    pub name: String,
    /// `thermal`, `psu`, `fan`, `power` …
    pub kind: String,
    /// Unit of the values: `°C`, `V`, `RPM`, `W`.
    pub unit: String,
    /// The chip's own upper warning limit, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The chip's own critical limit, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<f64>,
}

/// One moment's readings of all sensors. A sensor that could not be read is `None`: it drops out
/// of the series, and the others go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SensorSample {
    /// When, in server time.
    pub at: Micros,
    /// One value per sensor of the batch, in its order.
    pub values: Vec<Option<f64>>,
}

/// What is sent and stored together: one packed row per machine and batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SensorBatch {
    /// The sensors read.
    pub sensors: Vec<SensorInfo>,
    /// The readings, oldest first.
    pub samples: Vec<SensorSample>,
}
