//! One batch of readings as one blob.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | 32 | SHA-256 of the list of sensors (JSON, kept once in `sensor_sets`) |
//! | 4 | how many sensors, n |
//! | 4 | how many samples |
//! | per sample: 8 | time, microseconds |
//! | ⌈n/8⌉ | which sensors were read: bit i of byte i/8 |
//! | 8 each | their values, IEEE 754 double |
//!
//! All numbers big-endian. The digest of a blob in the chain thereby covers the sensors' names,
//! kinds and units too.

use assay_model::sensor::{SensorBatch, SensorInfo, SensorSample};
use assay_model::{Micros, Sha256};

const FORMAT: u8 = 1;
const HEADER: usize = 1 + 32 + 4 + 4;

/// A packed batch, with what the roll-ups need of it.
#[derive(Clone, Debug)]
pub(crate) struct PackedBatch {
    pub(crate) batch: SensorBatch,
    pub(crate) set: Sha256,
    pub(crate) set_json: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Packs a batch. A value that is not a number counts as not read. The error says what is wrong.
pub(crate) fn pack(batch: SensorBatch) -> Result<PackedBatch, String> {
    let sensors = batch.sensors.len();
    let set_json = serde_json::to_vec(&batch.sensors).map_err(|e| e.to_string())?;
    let set = Sha256::of(&set_json);
    let mut body = Vec::with_capacity(HEADER + batch.samples.len() * (8 + sensors.div_ceil(8) + 8 * sensors));
    body.push(FORMAT);
    body.extend(set.0);
    for count in [sensors, batch.samples.len()] {
        let count = u32::try_from(count).map_err(|_| format!("{count} is too many for one batch"))?;
        body.extend(count.to_be_bytes());
    }
    for sample in &batch.samples {
        if sample.values.len() != sensors {
            return Err(format!("a sample has {} values for {sensors} sensors", sample.values.len()));
        }
        body.extend(sample.at.0.to_be_bytes());
        let mut read = vec![0_u8; sensors.div_ceil(8)];
        for (i, _) in numbers(sample) {
            read[i / 8] |= 1 << (i % 8);
        }
        body.extend(read);
        body.extend(numbers(sample).flat_map(|(_, value)| value.to_be_bytes()));
    }
    Ok(PackedBatch { batch, set, set_json, body })
}

/// The values that are there, with their sensors' places.
pub(crate) fn numbers(sample: &SensorSample) -> impl Iterator<Item = (usize, f64)> {
    sample
        .values
        .iter()
        .enumerate()
        .filter_map(|(i, value)| Some((i, (*value)?)))
        .filter(|(_, v)| v.is_finite())
}

/// The digest of the list of sensors that a blob refers to.
pub(crate) fn set_of(body: &[u8]) -> Option<Sha256> {
    (body.first() == Some(&FORMAT)).then(|| body.get(1..33)?.try_into().ok().map(Sha256)).flatten()
}

/// Unpacks a blob. `None` when it does not read.
pub(crate) fn unpack(body: &[u8], sensors: Vec<SensorInfo>) -> Option<SensorBatch> {
    set_of(body)?;
    let mut rest = body.get(33..)?;
    let count = u32::from_be_bytes(take(&mut rest)?) as usize;
    let samples = u32::from_be_bytes(take(&mut rest)?) as usize;
    if count != sensors.len() {
        return None;
    }
    // Not with_capacity(samples): the number is only as good as the blob.
    let mut out = Vec::new();
    for _ in 0..samples {
        let at = Micros(i64::from_be_bytes(take(&mut rest)?));
        let (read, after) = rest.split_at_checked(count.div_ceil(8))?;
        rest = after;
        let mut values = Vec::with_capacity(count);
        for i in 0..count {
            let there = read[i / 8] & (1 << (i % 8)) != 0;
            values.push(if there { Some(f64::from_be_bytes(take(&mut rest)?)) } else { None });
        }
        out.push(SensorSample { at, values });
    }
    rest.is_empty().then_some(SensorBatch { sensors, samples: out })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> SensorBatch {
        let sensor = |n: usize| SensorInfo {
            name: format!("chip/t{n}"),
            kind: "thermal".into(),
            unit: "°C".into(),
            max: None,
            critical: Some(95.0),
        };
        let sample = |at: i64| SensorSample {
            at: Micros(at),
            values: (0..9).map(|i| (i % 3 != 1).then(|| f64::from(i) + 0.25)).collect(),
        };
        SensorBatch { sensors: (0..9).map(sensor).collect(), samples: vec![sample(5), sample(-7)] }
    }

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let packed = pack(batch()).expect("packs");
        assert_eq!(packed.body.len(), HEADER + 2 * (8 + 2 + 6 * 8));
        assert_eq!(unpack(&packed.body, batch().sensors), Some(batch()));
        assert_eq!(set_of(&packed.body), Some(Sha256::of(&packed.set_json)));
    }

    #[test]
    fn what_is_not_a_number_was_not_read() {
        let mut odd = batch();
        odd.samples[0].values[0] = Some(f64::NAN);
        odd.samples[0].values[2] = Some(f64::INFINITY);
        let packed = pack(odd).expect("packs");
        let back = unpack(&packed.body, batch().sensors).expect("unpacks");
        assert_eq!(back.samples[0].values[..3], [None, None, None]);
    }

    #[test]
    fn broken_blobs_and_batches_are_refused() {
        let packed = pack(batch()).expect("packs").body;
        for end in 0..packed.len() {
            assert_eq!(unpack(&packed[..end], batch().sensors), None, "cut at {end}");
        }
        let longer = [packed.as_slice(), &[0]].concat();
        assert_eq!(unpack(&longer, batch().sensors), None);
        assert_eq!(unpack(&packed, Vec::new()), None);
        let mut short = batch();
        short.samples[1].values.pop();
        assert_eq!(pack(short).expect_err("refused"), "a sample has 8 values for 9 sensors");
    }
}
