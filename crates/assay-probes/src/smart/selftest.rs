//! What a disk says about its self-tests: whether one runs, and what its log holds.
//!
//! The exit status of `smartctl -t short` proves nothing (7.3 exits 0 on NVMe and starts none), so a self-test
//! counts only when it was seen running or left a new entry in the disk's own log.

use assay_model::host::smart::SelfTestOutcome;
use assay_model::text::clean;
use serde_json::Value;

/// The self-test log at one moment, newest entry first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SelfTestLog {
    /// Whether a test runs now.
    pub(super) running: bool,
    /// Finished tests as the disk lists them.
    entries: Vec<Value>,
}

impl SelfTestLog {
    /// Reads `smartctl -j -c -l selftest`.
    pub(super) fn of(json: &Value) -> Self {
        let ata_status = json.pointer("/ata_smart_data/self_test/status/value").and_then(Value::as_u64);
        let nvme_now =
            json.pointer("/nvme_self_test_log/current_self_test_operation/value").and_then(Value::as_u64);
        let entries = entries(json);
        let running = ata_status.is_some_and(|status| status >> 4 == 0xf)
            || nvme_now.is_some_and(|operation| operation != 0)
            || json.pointer("/self_test_in_progress").is_some_and(|flag| flag == &Value::Bool(true))
            || entries
                .first()
                .is_some_and(|entry| !is_nvme(entry) && result_of(entry) == Some(RUNNING_OR_UNUSED));
        Self {
            running,
            entries: entries
                .into_iter()
                .filter(|entry| result_of(entry) != Some(RUNNING_OR_UNUSED))
                .collect(),
        }
    }

    /// How the test that was started after `before` ended; `None` when this log does not show one.
    ///
    /// A full log of equal entries does not change when one more equal entry comes in; then having
    /// seen the test run (`seen_running`) is what proves that the newest entry is it.
    pub(super) fn outcome_since(
        &self,
        before: &Self,
        seen_running: bool,
    ) -> Option<(SelfTestOutcome, String)> {
        if self.running || (self.entries == before.entries && !seen_running) {
            return None;
        }
        let newest = self.entries.first()?;
        let words = ["/status/string", "/self_test_result/string", "/result/string"]
            .iter()
            .find_map(|pointer| newest.pointer(pointer)?.as_str())
            .map(clean);
        let outcome = match (result_of(newest)?, is_nvme(newest)) {
            (0, _) => SelfTestOutcome::Passed,
            (1 | 2, _) | (3 | 4 | 8 | 9, true) => SelfTestOutcome::Aborted,
            _ => SelfTestOutcome::Failed,
        };
        Some((outcome, words.unwrap_or_default()))
    }
}

/// In ATA and SCSI: the test runs now. In NVMe: the entry was never used.
const RUNNING_OR_UNUSED: u64 = 15;

fn entries(json: &Value) -> Vec<Value> {
    let table = [
        "/ata_smart_self_test_log/extended/table",
        "/ata_smart_self_test_log/standard/table",
        "/nvme_self_test_log/table",
    ]
    .iter()
    .find_map(|pointer| json.pointer(pointer)?.as_array());
    if let Some(table) = table {
        return table.clone();
    }
    (0..20).map_while(|index| json.get(format!("scsi_self_test_{index}"))).cloned().collect()
}

/// The four result bits, which the three command sets keep in three places.
fn result_of(entry: &Value) -> Option<u64> {
    let ata = entry.pointer("/status/value").and_then(Value::as_u64).map(|status| status >> 4);
    let others = || {
        ["/self_test_result/value", "/result/value"]
            .iter()
            .find_map(|pointer| entry.pointer(pointer)?.as_u64())
    };
    ata.or_else(others)
}

fn is_nvme(entry: &Value) -> bool {
    entry.get("self_test_result").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ata(status: u64, entries: &[u64]) -> SelfTestLog {
        let table: Vec<Value> = entries
            .iter()
            .map(|value| json!({"type": {"value": 1}, "status": {"value": value, "string": format!("status {value}")}, "lifetime_hours": 7}))
            .collect();
        SelfTestLog::of(&json!({
            "ata_smart_data": {"self_test": {"status": {"value": status}}},
            "ata_smart_self_test_log": {"standard": {"table": table}},
        }))
    }

    #[test]
    fn only_a_new_entry_or_a_seen_run_counts() {
        let before = ata(0, &[0]);
        assert_eq!(ata(0, &[0]).outcome_since(&before, false), None, "nothing new");
        assert_eq!(ata(0xf9, &[0]).outcome_since(&before, true), None, "still running");
        let passed = (SelfTestOutcome::Passed, "status 0".to_owned());
        assert_eq!(ata(0, &[0, 0]).outcome_since(&before, false), Some(passed.clone()));
        assert_eq!(ata(0, &[0]).outcome_since(&before, true), Some(passed), "a full log of equal entries");
        assert_eq!(ata(0, &[]).outcome_since(&ata(0, &[]), true), None, "no log at all");
    }

    #[test]
    fn results_are_read_by_command_set() {
        use SelfTestOutcome::{Aborted, Failed, Passed};
        let outcome = |json: Value| {
            SelfTestLog::of(&json).outcome_since(&SelfTestLog::default(), false).map(|(o, _)| o)
        };
        let of_ata = |value| {
            outcome(
                json!({"ata_smart_self_test_log": {"extended": {"table": [{"status": {"value": value}}]}}}),
            )
        };
        let of_nvme = |value| {
            outcome(json!({"nvme_self_test_log": {"table": [{"self_test_result": {"value": value}}]}}))
        };
        let of_scsi = |value| outcome(json!({"scsi_self_test_0": {"result": {"value": value}}}));
        for (value, expected) in
            [(0x00, Passed), (0x18, Aborted), (0x21, Aborted), (0x39, Failed), (0x75, Failed), (0x80, Failed)]
        {
            assert_eq!(of_ata(value), Some(expected), "ATA {value:#x}");
        }
        for (value, expected) in
            [(0, Passed), (1, Aborted), (4, Aborted), (5, Failed), (6, Failed), (7, Failed), (8, Aborted)]
        {
            assert_eq!(of_nvme(value), Some(expected), "NVMe {value}");
        }
        for (value, expected) in
            [(0, Passed), (1, Aborted), (2, Aborted), (3, Failed), (4, Failed), (7, Failed)]
        {
            assert_eq!(of_scsi(value), Some(expected), "SCSI {value}");
        }
        let scsi_now = SelfTestLog::of(&json!({"scsi_self_test_0": {"result": {"value": 15}}}));
        assert!(scsi_now.running && scsi_now.entries.is_empty());
        let nvme_now =
            SelfTestLog::of(&json!({"nvme_self_test_log": {"current_self_test_operation": {"value": 1}}}));
        assert!(nvme_now.running);
        let unused =
            SelfTestLog::of(&json!({"nvme_self_test_log": {"table": [{"self_test_result": {"value": 15}}]}}));
        assert_eq!(unused, SelfTestLog::default());
    }
}
