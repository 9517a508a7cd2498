//! The lab's own monitor of a machine, held against others for as long as it is used.

use std::{fs::File, ops::Deref};

use crate::Qmp;

/// A monitor, and the machine's lock.
pub(crate) struct Monitor {
    qmp: Qmp,
    _lock: File,
}

impl Monitor {
    /// A monitor that goes with this lock.
    pub(super) fn new(qmp: Qmp, lock: File) -> Self {
        Self { qmp, _lock: lock }
    }
}

impl Deref for Monitor {
    type Target = Qmp;

    fn deref(&self) -> &Qmp {
        &self.qmp
    }
}
