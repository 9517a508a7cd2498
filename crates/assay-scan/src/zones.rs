//! How fast the device was where: rates and latencies per zone, written and verified apart.
//!
//! A disk that fails slowly often has no error yet: one zone takes twice as long as its neighbours. Latencies are
//! counted in buckets of an eighth of a power of two, so that memory does not grow with the device.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A part of the device and how fast it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// The first byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// All write passes together; none where nothing was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<Speed>,
    /// All verify passes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Speed>,
}

/// The speed of one direction in one zone. A latency is that of one request while the queue is full: it holds the
/// wait behind the requests before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Bytes moved.
    pub bytes: u64,
    /// Bytes per second.
    pub bytes_per_second: u64,
    /// Half of the requests took at most this, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 took at most this, in microseconds.
    pub p99_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
    /// How many requests.
    pub requests: u64,
}

/// The zones of a device while it is scanned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Zones {
    device_bytes: u64,
    zones: Vec<[Meter; 2]>,
}

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Write = 0,
    Verify = 1,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Meter {
    bytes: u64,
    nanos: u64,
    latencies: Latencies,
}

impl Zones {
    pub(crate) fn new(device_bytes: u64, count: u32) -> Self {
        Self { device_bytes, zones: vec![Default::default(); count.max(1) as usize] }
    }

    /// Whether these are zones of a device of so many bytes.
    pub(crate) fn is_of(&self, device_bytes: u64) -> bool {
        self.device_bytes == device_bytes && !self.zones.is_empty()
    }

    /// One request: `took` by itself, and `passed` since the one before it was done.
    pub(crate) fn add(
        &mut self,
        direction: Direction,
        offset: u64,
        bytes: u64,
        took: Duration,
        passed: Duration,
    ) {
        let count = self.zones.len() as u128;
        let number = u128::from(offset) * count / u128::from(self.device_bytes.max(1));
        let Some(zone) = self.zones.get_mut(number.min(count - 1) as usize) else {
            return;
        };
        let meter = &mut zone[direction as usize];
        meter.bytes += bytes;
        meter.nanos += nanos(passed);
        meter.latencies.add(took);
    }

    pub(crate) fn report(&self) -> Vec<Zone> {
        let count = self.zones.len() as u128;
        let edge = |number: usize| (u128::from(self.device_bytes) * number as u128 / count) as u64;
        self.zones
            .iter()
            .enumerate()
            .map(|(number, [write, verify])| Zone {
                offset: edge(number),
                length: edge(number + 1) - edge(number),
                write: write.speed(),
                verify: verify.speed(),
            })
            .collect()
    }
}

impl Meter {
    fn speed(&self) -> Option<Speed> {
        let requests = self.latencies.count();
        (requests > 0).then(|| Speed {
            bytes: self.bytes,
            bytes_per_second: (u128::from(self.bytes) * 1_000_000_000 / u128::from(self.nanos.max(1))) as u64,
            p50_us: self.latencies.quantile(0.50),
            p99_us: self.latencies.quantile(0.99),
            max_us: self.latencies.longest_us,
            requests,
        })
    }
}

/// Latencies in buckets: (number of the bucket, how many), ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latencies {
    buckets: Vec<(u16, u64)>,
    longest_us: u64,
}

impl Latencies {
    pub(crate) fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.longest_us = self.longest_us.max(us);
        let bucket = bucket(us);
        match self.buckets.binary_search_by_key(&bucket, |(number, _)| *number) {
            Ok(at) => self.buckets[at].1 += 1,
            Err(at) => self.buckets.insert(at, (bucket, 1)),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, many)| many).sum()
    }

    /// The upper edge of the bucket that holds this quantile, in microseconds; never more than the longest.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let wanted = (self.count() as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (number, many) in &self.buckets {
            seen += many;
            if seen >= wanted {
                return upper_edge(*number).min(self.longest_us);
            }
        }
        self.longest_us
    }
}

/// Eight buckets per power of two; below 16, one for each number.
fn bucket(us: u64) -> u16 {
    if us < 16 {
        return us as u16;
    }
    let power = us.ilog2();
    let eighth = (us >> (power - 3)) & 7;
    (16 + (power - 4) * 8) as u16 + eighth as u16
}

fn upper_edge(bucket: u16) -> u64 {
    let Some(above) = bucket.checked_sub(16) else {
        return u64::from(bucket);
    };
    let (power, eighth) = (u32::from(above / 8) + 4, u64::from(above % 8));
    let lower = (1 << power) + (eighth << (power - 3));
    lower + ((1 << (power - 3)) - 1)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_numbers_within_an_eighth() {
        for us in (0..4096).chain([1 << 20, (1 << 40) + 12_345, u64::MAX >> 1, u64::MAX]) {
            let upper = upper_edge(bucket(us));
            assert!(upper >= us, "{us} lies above its bucket, which ends at {upper}");
            assert!(upper - us <= us / 8, "{us} lies far below its bucket's end, {upper}");
            assert!(us == 0 || bucket(us - 1) <= bucket(us));
        }
    }

    #[test]
    fn quantiles_and_the_longest() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|ms| latencies.add(Duration::from_millis(ms)));
        let near = |value: u64, wanted: u64| value >= wanted && value <= wanted + wanted / 8;
        assert!(near(latencies.quantile(0.5), 500_000), "{}", latencies.quantile(0.5));
        assert!(near(latencies.quantile(0.99), 990_000));
        assert_eq!(
            (latencies.quantile(1.0), latencies.longest_us, latencies.count()),
            (1_000_000, 1_000_000, 1000)
        );
        assert_eq!(Latencies::default().quantile(0.5), 0);
    }

    #[test]
    fn requests_count_where_they_lie_and_rates_come_from_passing_time() {
        let device = 20_u64 << 40;
        let mut zones = Zones::new(device, 64);
        let (took, passed) = (Duration::from_millis(80), Duration::from_millis(10));
        for _ in 0..100 {
            zones.add(Direction::Write, device - 4096, 1 << 20, took, passed);
        }
        zones.add(Direction::Verify, 0, 1 << 20, took, passed);
        let report = zones.report();
        assert_eq!(report.iter().map(|zone| zone.length).sum::<u64>(), device);
        assert!(report[0].write.is_none() && report[0].verify.is_some());
        let last = report[63].write.expect("it was written");
        assert_eq!((last.bytes_per_second, last.requests, last.bytes), (104_857_600, 100, 100 << 20));
        assert_eq!((last.p50_us, last.max_us), (80_000, 80_000));
        assert_eq!(serde_json::from_str::<Zones>(&serde_json::to_string(&zones).unwrap()).unwrap(), zones);
    }
}
