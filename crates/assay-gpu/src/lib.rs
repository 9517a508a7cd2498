//! NVIDIA GPUs through their driver's own libraries: what they tell ([`Management`]), and work whose results are
//! verified ([`work()`]).
//!
//! A crate of its own because calling a C library is unsafe: that stays in one file here, and the rest of the agent
//! stays free of it. Both libraries are loaded at run time from where the driver put them, or from a path that the
//! caller gives; nothing is linked, so a machine without GPUs pays nothing. What is read here is judged elsewhere.

mod cuda;
mod kernels;
mod nvml;
mod work;

pub use cuda::{Cuda, CudaError};
pub use kernels::{float_thread, integer_thread, ptx, word};
pub use nvml::{Management, ManagementError};
pub use work::{Beat, WorkOptions, work};

/// The name under which drivers install their management library.
pub const NVML_LIBRARY: &str = "libnvidia-ml.so.1";
/// The name under which drivers install their compute library.
pub const CUDA_LIBRARY: &str = "libcuda.so.1";

/// The PCI address as the kernel spells it (`0000:01:00.0`) from the driver's spelling (`00000000:01:00.0`).
pub fn kernel_address(told: &str) -> String {
    let lower = told.trim().to_ascii_lowercase();
    match lower.split_once(':') {
        Some((domain, rest)) => {
            let digits = domain.trim_start_matches('0');
            format!("{digits:0>4}:{rest}")
        }
        None => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::kernel_address;

    #[test]
    fn addresses_are_spelt_as_the_kernel_does() {
        for (told, kernel) in [
            ("00000000:01:00.0", "0000:01:00.0"),
            ("0000:C1:00.0", "0000:c1:00.0"),
            ("00010000:01:00.0", "10000:01:00.0"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(kernel_address(told), kernel);
        }
    }
}
