//! Every code that the catalogue may expect, by the stage that raises it.

use anyhow::{Result, bail, ensure};

/// Every code that a judge of the host pipeline can raise, by stage.
pub(super) const CODES: [(&str, &[&str]); 10] = [
    ("Inventory", &["DriverMissing", "ProbeProblem", "SizeImplausible", "ToolMissing"]),
    (
        "SpecValidate",
        &[
            "CpuMismatch",
            "DimmMismatch",
            "DimmMissing",
            "DimmUnexpected",
            "DiskMismatch",
            "DiskMissing",
            "DiskUnexpected",
            "FirmwareDiffers",
            "GpuMissing",
            "MemoryTotal",
            "NicMismatch",
            "NicMissing",
            "NicUnexpected",
            "PciMissing",
            "SystemMismatch",
        ],
    ),
    (
        "SMART",
        &[
            "CommandTimeouts",
            "CrcErrors",
            "DiskAbsent",
            "DiskTooHot",
            "EndToEndErrors",
            "ErrorLogGrew",
            "ErrorLogHistory",
            "GrownDefects",
            "MediaErrors",
            "NonMediumErrors",
            "NvmeCriticalWarning",
            "PendingSectors",
            "ReallocatedSectors",
            "SelfTestFailed",
            "SelfTestFailedBefore",
            "SelfTestNotRun",
            "SmartAttributeBefore",
            "SmartCommandFailed",
            "SmartHealthFailed",
            "SmartPrefailAttribute",
            "SmartUnreadable",
            "SpareBelowThreshold",
            "SpinRetries",
            "UncorrectableSectors",
            "WearExceeded",
            "WearHigh",
        ],
    ),
    (
        "CPUStress",
        &["CpuThrottled", "MemoryBitError", "MemoryCoverageLow", "StressFailed", "TemperatureLimit"],
    ),
    ("Memtest86", &["MemoryBitError", "MemtestRestarted"]),
    (
        "Storage",
        &[
            "BootMedium",
            "ClusterGuardUnreachable",
            "ClusterUndeclared",
            "DiskAbsent",
            "DiskInUse",
            "DiskReadOnly",
            "DiskRemovable",
            "DiskShared",
            "DiskSlow",
            "DiskStalled",
            "DiskSwapped",
            "DiskUnstable",
            "DiskVanished",
            "NodeIsLiveMember",
            "PermitInvalid",
            "SurfaceAliased",
            "SurfaceCorrupt",
            "SurfaceStale",
            "SurfaceUnreadable",
            "SurfaceUnwritable",
            "UnexpectedData",
            "ZoneSlow",
        ],
    ),
    (
        "Network",
        &[
            "LinkDown",
            "LinkFlapped",
            "LinkSpeedLow",
            "NetworkErrors",
            "NetworkThroughputLow",
            "NetworkUnreachable",
            "NicAbsent",
            "NicTrafficElsewhere",
        ],
    ),
    (
        "GPU",
        &[
            "GpuAbsent",
            "GpuBurnFaulty",
            "GpuBurnUnfinished",
            "GpuComputeFailed",
            "GpuComputeMismatch",
            "GpuDriverMissing",
            "GpuEccCorrected",
            "GpuEccHistory",
            "GpuEccOff",
            "GpuEccUncorrected",
            "GpuHung",
            "GpuLinkDegraded",
            "GpuLinkReplays",
            "GpuLost",
            "GpuMemoryMismatch",
            "GpuPagesPending",
            "GpuPagesRetired",
            "GpuRemapFailed",
            "GpuSlow",
            "GpuThrottled",
            "GpuTooHot",
            "GpuUntested",
            "GpuUnusable",
            "GpuXid",
        ],
    ),
    ("PSU", &["FanFailed", "PsuFailed", "RailOutOfRange"]),
    ("Reporting", &["ArtifactAltered", "ArtifactMissing", "ChainBroken", "SensorLost", "TemperatureLimit"]),
];

/// What the counters around a stage tell, whichever stage it is.
const COUNTED: [&str; 12] = [
    "BmcEventLogged",
    "BmcLogRestarted",
    "CpuThrottled",
    "KernelErrors",
    "LinkFlapped",
    "MachineCheckCorrected",
    "MachineCheckUncorrected",
    "MemoryCorrected",
    "MemoryUncorrected",
    "NetworkErrors",
    "NicErrors",
    "PcieErrors",
];

/// What the engine itself sees. It belongs to no check and cannot be switched off.
const ENGINE: [&str; 5] =
    ["ClockSkewed", "MachineCrashed", "MachineDidNotReturn", "MachineHung", "MachineRebooted"];

/// Refuses a code that this stage cannot raise.
pub(super) fn can_raise(stage: &str, code: &str) -> Result<()> {
    let Some((_, codes)) = CODES.iter().find(|(name, _)| *name == stage) else {
        let stages: Vec<_> = CODES.iter().map(|(name, _)| *name).collect();
        bail!("no stage `{stage}` raises codes; there are {}", stages.join(", "));
    };
    let anywhere = COUNTED.contains(&code) || ENGINE.contains(&code);
    ensure!(
        anywhere || codes.contains(&code),
        "stage {stage} cannot raise `{code}`; it can raise {}, and any stage {}",
        codes.join(", "),
        [&COUNTED[..], &ENGINE].concat().join(", ")
    );
    Ok(())
}

/// Refuses a code that this stage of the image pipeline cannot raise.
pub(super) fn can_raise_of_image(stage: &str, code: &str) -> Result<()> {
    let watched = WATCHED.contains(&stage) && is_of_a_console(code);
    let known = IMAGE_CODES.iter().find(|(name, _)| *name == stage);
    let Some((_, codes)) = known else {
        let stages: Vec<_> = IMAGE_CODES.iter().map(|(name, _)| *name).collect();
        bail!("no stage `{stage}` raises codes; there are {}", stages.join(", "));
    };
    ensure!(
        watched || codes.contains(&code),
        "stage {stage} cannot raise `{code}`; it can raise {}",
        codes.join(", ")
    );
    Ok(())
}

/// What a machine under watch can come to, whatever it was to do.
fn is_of_a_console(code: &str) -> bool {
    ENDINGS.contains(&code) || assay_console::catalogue::patterns().any(|pattern| pattern.code == code)
}

/// The stages that watch a machine.
const WATCHED: [&str; 4] = ["Boot", "Install", "Reboot", "Identify"];

/// How a machine under watch can end beside the failures that consoles tell.
const ENDINGS: [&str; 9] = [
    "FailMarker",
    "GuestPanicked",
    "IdleShell",
    "PhaseTimedOut",
    "SecretOnConsole",
    "Silent",
    "StuckPrompt",
    "UnexpectedPowerOff",
    "UnexpectedReset",
];

/// Every code that a judge of the image pipeline can raise, by stage, beside what a watched machine can come to.
const IMAGE_CODES: [(&str, &[&str]); 9] = [
    ("Prepare", &["FlashToolFailed", "MediumNotWritten", "StagedFileLost"]),
    (
        "Inspect",
        &[
            "ForbiddenFile",
            "ImageTooLarge",
            "ImageTruncated",
            "ImageUnreadable",
            "NotBootable",
            "RequiredFileMissing",
            "VolumeIdWrong",
        ],
    ),
    ("Boot", &[]),
    (
        "Install",
        &[
            "DiskLabelWrong",
            "DiskNotTaken",
            "DiskUnreadable",
            "HalfInstalled",
            "InstallEndedOtherwise",
            "InstalledInSpite",
            "NoBootloader",
            "NothingInstalled",
            "OccupiedDiskWritten",
            "StagedFileIgnored",
            "SuccessAfterDiskError",
            "SuccessBeforeWork",
            "TypedInto",
            "WrongDiskWritten",
        ],
    ),
    ("Reboot", &[]),
    (
        "Identify",
        &[
            "FileMissing",
            "FileSystemWrong",
            "HostnameChanged",
            "HostnameLostOnRepair",
            "HostnameNotAnnounced",
            "HostnameNotShown",
            "HostnameNotUnique",
            "HostnameOnDiskWrong",
            "HostnameWrong",
            "InstallNotRepeatable",
            "VolumeMissing",
        ],
    ),
    (
        "Join",
        &[
            "DeregistrationFailed",
            "EmptyCommit",
            "NoPullRequest",
            "NotJoined",
            "NotRegistered",
            "OrphanBranch",
            "OtherFilesTouched",
            "PayloadAddressWrong",
            "PayloadFieldWrong",
            "PayloadInvalid",
            "PayloadMisplaced",
            "PayloadMissing",
            "PayloadTimeWrong",
            "PayloadUnreadable",
            "RegisteredInSpite",
            "RegisteredTooEarly",
            "RegisteredTwice",
            "SecretInPayload",
        ],
    ),
    (
        "Reconcile",
        &[
            "ComparisonError",
            "FieldDifferent",
            "FieldPruned",
            "NotHealthy",
            "NotStable",
            "ObjectExtra",
            "ObjectMissing",
            "OperationFailed",
            "OutOfSync",
            "RevisionWrong",
        ],
    ),
    ("Reporting", &["ArtifactAltered", "ArtifactMissing", "ChainBroken"]),
];

/// Refuses a stage that there is not.
pub(super) fn check_stage(stage: &str) -> Result<()> {
    let stages: Vec<_> = CODES.iter().map(|(name, _)| *name).collect();
    ensure!(stages.contains(&stage), "there is no stage `{stage}`; there are {}", stages.join(", "));
    Ok(())
}

/// Whether a code can be switched off.
pub(super) fn can_be_muted(code: &str) -> bool {
    !ENGINE.contains(&code)
}

/// Whether some check or the engine raises a code.
pub(super) fn is_known(code: &str) -> bool {
    COUNTED.contains(&code)
        || ENGINE.contains(&code)
        || is_of_a_console(code)
        || IMAGE_CODES.iter().any(|(_, codes)| codes.contains(&code))
        || CODES.iter().any(|(_, codes)| codes.contains(&code))
        || super::recipe_codes::is_of_a_recipe(code)
}
