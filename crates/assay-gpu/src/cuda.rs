//! The driver's compute library, in safe words: devices, memory, our kernels.

mod ffi;

use std::ffi::OsStr;
use std::sync::Arc;

use self::ffi::Api;
pub(crate) use self::ffi::{Buffer, Context, Kernel};

/// The compute library, loaded.
#[derive(Clone)]
pub struct Cuda {
    api: Arc<Api>,
}

impl Cuda {
    /// Loads and initialises it from the path or name `library`.
    pub fn load(library: &OsStr) -> Result<Self, CudaError> {
        Ok(Self { api: Arc::new(Api::load(library)?) })
    }

    /// The version of the compute interface, such as `12.4`.
    pub fn version(&self) -> Result<String, CudaError> {
        let number = self.api.version()?;
        Ok(format!("{}.{}", number / 1000, number % 1000 / 10))
    }

    /// The PCI address of every device, spelt as the kernel does.
    pub fn addresses(&self) -> Result<Vec<String>, CudaError> {
        let count = self.api.device_count()?;
        (0..count).map(|ordinal| self.api.address(ordinal)).collect()
    }

    /// Makes the device at this address the calling thread's.
    pub(crate) fn open(&self, address: &str) -> Result<Context, CudaError> {
        let count = self.api.device_count()?;
        for ordinal in 0..count {
            if self.api.address(ordinal)? == address {
                return Context::new(Arc::clone(&self.api), ordinal);
            }
        }
        Err(CudaError::NoDevice { address: address.to_owned() })
    }
}

/// The compute library or a device did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// There is no such library, or it is not this library.
    #[error(
        "the driver's compute library cannot be loaded; add the driver's user-space libraries to the live image: {0}"
    )]
    Library(#[from] libloading::Error),
    /// A call failed.
    #[error("{call} failed: {name} ({code})")]
    Call {
        /// Which.
        call: &'static str,
        /// The driver's number.
        code: i32,
        /// The driver's name for it.
        name: String,
    },
    /// The driver does not offer the device.
    #[error(
        "the driver offers no compute device at {address}; is it in use by another program or split into instances?"
    )]
    NoDevice {
        /// Where it should be.
        address: String,
    },
    /// More was asked of a buffer than it has: a fault of this program.
    #[error(
        "a transfer of {wanted} bytes at {offset} does not fit a buffer of {bytes} bytes; this is a fault of this program"
    )]
    Bounds {
        /// First byte.
        offset: u64,
        /// How many.
        wanted: u64,
        /// How many there are.
        bytes: u64,
    },
}

impl CudaError {
    /// Whether the device had its memory taken by others or is smaller than asked.
    pub(crate) fn out_of_memory(&self) -> bool {
        matches!(self, Self::Call { code: 2, .. })
    }
}
