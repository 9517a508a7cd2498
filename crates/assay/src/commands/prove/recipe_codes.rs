//! Every code that the recipe pipeline may raise, by stage: what an entry of its catalogue may expect.

use anyhow::{Result, bail, ensure};
use assay_recipe::lint::RULES;

/// What becomes of a deployment, in whichever stage it is.
const DEPLOYED: [&str; 18] = [
    "BadMount",
    "CompletingLoop",
    "CrashLoop",
    "DeployRejected",
    "DeployedOtherwise",
    "FilesRemark",
    "HookFailed",
    "MissingImage",
    "NotConverged",
    "NotRestarted",
    "ReachesOut",
    "Rejected",
    "SlowFlap",
    "StackInvalid",
    "Unhealthy",
    "Unschedulable",
    "UpdatePaused",
    "VersionNotRaised",
];
/// What the app may answer, wherever it is asked.
const ANSWERED: [&str; 4] = ["NoAnswer", "WrongContent", "WrongContentType", "WrongStatus"];
/// The stages in which a stack is deployed, and asked.
const DEPLOYING: [&str; 5] = ["Install", "Upgrade", "Idempotence", "Restore", "Rollback"];

/// What each stage may raise beside that.
pub(super) const RECIPE_CODES: [(&str, &[&str]); 10] = [
    ("Lint", &["ChangeOfTests", "NoRecipe"]),
    ("Install", &[]),
    ("Upgrade", &["LeftBehind", "RunnerResidue", "UpgradeDidNotMove", "UpgradeLostData"]),
    ("Idempotence", &["RedeployChanges"]),
    (
        "Backup",
        &[
            "BackupCoversNothing",
            "BackupHookFailed",
            "BackupPathMissing",
            "BackupPathRefused",
            "BackupRefused",
            "BackupTakenAgain",
            "DumpEmpty",
            "DumpTruncated",
            "HookFailed",
        ],
    ),
    (
        "Restore",
        &[
            "LeftBehind",
            "RestoreDiffers",
            "RestoreHookFailed",
            "RestoreLostData",
            "RestoreNotFresh",
            "RestorePathMissing",
            "RestorePathRefused",
            "RestoreVolumeMissing",
            "RestoreWithoutBackup",
            "RestoreWrittenMeanwhile",
            "RestoredFileDiffers",
        ],
    ),
    ("Custom", &["TestFailed", "TestNotRun"]),
    ("Rollback", &["RollbackLostData"]),
    ("Teardown", &["DeployCount", "DiedLater", "LeftBehind", "RunnerResidue", "SecretLeaked"]),
    ("Reporting", &["ArtifactAltered", "ArtifactMissing", "ChainBroken"]),
];

/// Refuses a code that this stage of the recipe pipeline cannot raise.
pub(super) fn can_raise_of_recipe(stage: &str, code: &str) -> Result<()> {
    let Some((_, codes)) = RECIPE_CODES.iter().find(|(name, _)| *name == stage) else {
        let stages: Vec<_> = RECIPE_CODES.iter().map(|(name, _)| *name).collect();
        bail!("no stage `{stage}` raises codes; there are {}", stages.join(", "));
    };
    let shared = DEPLOYING.contains(&stage) && (DEPLOYED.contains(&code) || ANSWERED.contains(&code));
    let of_lint = stage == "Lint" && is_of_a_rule(code);
    ensure!(
        shared || of_lint || codes.contains(&code),
        "stage {stage} cannot raise `{code}`; what a recipe's stages raise is in docs/reference/findings.md"
    );
    Ok(())
}

/// Whether some stage of the recipe pipeline raises a code.
pub(super) fn is_of_a_recipe(code: &str) -> bool {
    is_of_a_rule(code)
        || DEPLOYED.contains(&code)
        || ANSWERED.contains(&code)
        || RECIPE_CODES.iter().any(|(_, codes)| codes.contains(&code))
}

/// `LintA001`: what the rule A001 found.
fn is_of_a_rule(code: &str) -> bool {
    code.strip_prefix("Lint").is_some_and(|id| RULES.iter().any(|rule| rule.id == id))
}

/// Every code of the pipeline that is no rule's.
#[cfg(test)]
pub(super) fn all() -> std::collections::BTreeSet<&'static str> {
    let of_stages = RECIPE_CODES.iter().flat_map(|(_, codes)| codes.iter());
    of_stages.chain(&DEPLOYED).chain(&ANSWERED).copied().collect()
}
