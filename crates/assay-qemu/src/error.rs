//! What can go wrong with lab machines, worded so that the reader knows what to do next.

use std::{io, path::PathBuf, time::Duration};

use assay_process::ProcessError;

/// Why something about a machine, its network or its monitor did not work.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// A machine file does not parse.
    #[error("{path}: {problem}", path = path.display())]
    MachineFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where the parser knows them.
        problem: String,
    },
    /// A machine parses but cannot be built.
    #[error("machine `{machine}`, {field}: {problem}")]
    Invalid {
        /// The machine.
        machine: String,
        /// The offending field, as a path such as `disks.sata0.model`.
        field: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// There is no machine file of that name.
    #[error("there is no lab machine `{name}` in {folder}; {hint}", folder = folder.display())]
    NoSuchMachine {
        /// The name asked for.
        name: String,
        /// The folder of machine files.
        folder: PathBuf,
        /// The nearest name, or all names.
        hint: String,
    },
    /// The machine must be off (or on) for this.
    #[error("machine `{machine}` is {state}: {hint}")]
    WrongState {
        /// The machine.
        machine: String,
        /// Its state in a word.
        state: &'static str,
        /// What to do first.
        hint: &'static str,
    },
    /// QEMU refused to start the machine.
    #[error("QEMU did not start machine `{machine}`: {said} (the command is in {command})", command = command.display())]
    StartFailed {
        /// The machine.
        machine: String,
        /// QEMU's last words.
        said: String,
        /// The file holding the whole command line.
        command: PathBuf,
    },
    /// A firmware file is not installed.
    #[error("firmware file {path} is missing: install the Debian package `{package}`", path = path.display())]
    NoFirmware {
        /// The missing file.
        path: PathBuf,
        /// The package that has it.
        package: &'static str,
    },
    /// A disk image and the machine file disagree about the disk's size.
    #[error(
        "machine `{machine}`: disk `{disk}` is {want_mib} MiB in the machine file but its image has {have_bytes} bytes; reset the machine's disks to make a new one"
    )]
    DiskSize {
        /// The machine.
        machine: String,
        /// The disk's id.
        disk: String,
        /// MiB in the machine file.
        want_mib: u64,
        /// Bytes of the image.
        have_bytes: u64,
    },
    /// Nobody was named who serves disks.
    #[error(
        "disk `{disk}` must be served, and no program for that was named: set `disk_server` in the lab's configuration"
    )]
    NoDiskServer {
        /// The disk.
        disk: String,
    },
    /// The process behind a served disk did not come up.
    #[error("the process that serves {socket} did not start: {said}", socket = socket.display())]
    DiskServer {
        /// Where it should listen.
        socket: PathBuf,
        /// Its last words.
        said: String,
    },
    /// A machine's BMC did not start.
    #[error(
        "the BMC of machine `{machine}` did not start ({ports}): {said}; ipmi_sim is in the Debian package openipmi"
    )]
    BmcFailed {
        /// The machine.
        machine: String,
        /// What it was to listen on.
        ports: String,
        /// Its last words.
        said: String,
    },
    /// The state folder's path leaves no room for a socket's name in it.
    #[error("{path} is longer than a socket's path may be ({max} bytes): choose a shorter state folder", path = path.display())]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// A process survived being killed.
    #[error(
        "process {pid} of machine `{machine}` did not end within {after:?} of being killed; look at its state in /proc/{pid}/stack"
    )]
    Unkillable {
        /// The machine.
        machine: String,
        /// The process.
        pid: u32,
        /// How long was waited.
        after: Duration,
    },
    /// The private network cannot be what was asked for.
    #[error("lab network: {problem}")]
    Network {
        /// What is wrong and what to do.
        problem: String,
    },
    /// The monitor cannot be reached.
    #[error("the QEMU monitor at {path} cannot be reached: {source}", path = path.display())]
    QmpConnect {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The monitor did not answer in time. QEMU serves one client per socket, so another may be holding it.
    #[error(
        "the QEMU monitor did not answer `{command}` within {after:?}; another client may hold the socket"
    )]
    QmpTimeout {
        /// The command, or `greeting`.
        command: String,
        /// The limit.
        after: Duration,
    },
    /// The monitor closed the connection: QEMU ended.
    #[error("the QEMU monitor closed the connection before answering `{command}`: QEMU has ended")]
    QmpClosed {
        /// The command, or `greeting`.
        command: String,
    },
    /// The monitor refused a command.
    #[error("the QEMU monitor refused `{command}`: {description} ({class})")]
    QmpRefused {
        /// The command.
        command: String,
        /// QEMU's error class.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// The monitor said something that is not QMP, or not of the expected shape.
    #[error("the QEMU monitor answered `{command}` with something unexpected: {said}")]
    QmpGarbled {
        /// The command, or `greeting`.
        command: String,
        /// What it said.
        said: String,
    },
    /// A screenshot was taken and is not an image.
    #[error("QEMU wrote no PNG image to {path}", path = path.display())]
    NoScreenshot {
        /// The file.
        path: PathBuf,
    },
    /// The TPM's process did not come up.
    #[error("swtpm did not start: {said}")]
    Tpm {
        /// Its last words.
        said: String,
    },
    /// The screen cannot be read.
    #[error("the machine's screen cannot be read: {problem}")]
    Screen {
        /// What is wrong.
        problem: String,
    },
    /// Not even software emulation gets through the probe.
    #[error("QEMU cannot run even a boot sector in software emulation, so no machine can run here: {said}")]
    NoEmulation {
        /// What QEMU said.
        said: String,
    },
    /// A file or folder of the lab.
    #[error("{doing} {path} failed: {source}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A tool could not be run or failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Names the file and the deed of an I/O error, for `map_err`.
pub(crate) fn io_error(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> QemuError {
    let path = path.into();
    move |source| QemuError::Io { doing, path, source }
}
