//! Everything unsafe: the C functions of the driver's compute library, and the types that make calling them sound.
//!
//! Signatures are those of the CUDA driver interface (`cuda.h`), stable since version 7. Three rules keep it sound:
//! a pointer given to the library is to memory that lives through the call and is as large as the call says; every
//! kernel is one of ours and takes exactly [`PARAMETERS`] 64-bit parameters; a [`Context`] stays on the thread for which
//! it was made current. What a kernel does can go wrong on the device only: it knows no host address.

#![expect(unsafe_code, reason = "a C library is called; each call says why it is sound")]

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;

use libloading::Library;

use super::CudaError;
use crate::kernel_address;

/// How many parameters each kernel takes.
pub(crate) const PARAMETERS: usize = 6;

type Handle = *mut c_void;
type Status = c_int;

const SUCCESS: Status = 0;
/// `CU_CTX_SCHED_BLOCKING_SYNC`: waiting for a device costs no processor time.
const BLOCKING_SYNC: c_uint = 4;
/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`.
const MULTIPROCESSORS: c_int = 16;
/// `CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR`.
const THREADS_PER_MULTIPROCESSOR: c_int = 39;

macro_rules! api {
    ($($field:ident = $symbol:literal ( $($argument:ty),* );)*) => {
        /// The functions that are used, by what they do.
        pub(super) struct Api {
            $($field: unsafe extern "C" fn($($argument),*) -> Status,)*
            /// Never unloaded: the driver's threads outlive every handle to it.
            _library: ManuallyDrop<Library>,
        }

        impl Api {
            fn resolve(library: Library) -> Result<Self, CudaError> {
                $(
                    // SAFETY: the symbol has this signature in every release of the driver interface.
                    let $field = unsafe {
                        *library.get::<unsafe extern "C" fn($($argument),*) -> Status>($symbol)?
                    };
                )*
                Ok(Self { $($field,)* _library: ManuallyDrop::new(library) })
            }
        }
    };
}

api! {
    init = b"cuInit\0" (c_uint);
    driver_version = b"cuDriverGetVersion\0" (*mut c_int);
    error_name = b"cuGetErrorName\0" (Status, *mut *const c_char);
    count = b"cuDeviceGetCount\0" (*mut c_int);
    device = b"cuDeviceGet\0" (*mut c_int, c_int);
    bus_id = b"cuDeviceGetPCIBusId\0" (*mut c_char, c_int, c_int);
    attribute = b"cuDeviceGetAttribute\0" (*mut c_int, c_int, c_int);
    set_flags = b"cuDevicePrimaryCtxSetFlags_v2\0" (c_int, c_uint);
    retain = b"cuDevicePrimaryCtxRetain\0" (*mut Handle, c_int);
    release = b"cuDevicePrimaryCtxRelease_v2\0" (c_int);
    set_current = b"cuCtxSetCurrent\0" (Handle);
    synchronize = b"cuCtxSynchronize\0" ();
    load_module = b"cuModuleLoadData\0" (*mut Handle, *const c_void);
    function = b"cuModuleGetFunction\0" (*mut Handle, Handle, *const c_char);
    memory = b"cuMemGetInfo_v2\0" (*mut usize, *mut usize);
    allocate = b"cuMemAlloc_v2\0" (*mut u64, usize);
    free = b"cuMemFree_v2\0" (u64);
    to_device = b"cuMemcpyHtoD_v2\0" (u64, *const c_void, usize);
    to_host = b"cuMemcpyDtoH_v2\0" (*mut c_void, u64, usize);
    within = b"cuMemcpyDtoD_v2\0" (u64, u64, usize);
    launch = b"cuLaunchKernel\0" (
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
    );
}

impl Api {
    pub(super) fn load(library: &OsStr) -> Result<Self, CudaError> {
        // SAFETY: loading runs the library's initialisers; it is the driver's own, or one that the caller chose.
        let library = unsafe { Library::new(library) }?;
        let api = Self::resolve(library)?;
        // SAFETY: takes no pointers.
        api.check("cuInit", unsafe { (api.init)(0) })?;
        Ok(api)
    }

    pub(super) fn version(&self) -> Result<c_int, CudaError> {
        let mut version = 0;
        // SAFETY: writes one integer, which lives through the call.
        self.check("cuDriverGetVersion", unsafe { (self.driver_version)(&raw mut version) })?;
        Ok(version)
    }

    pub(super) fn device_count(&self) -> Result<c_int, CudaError> {
        let mut count = 0;
        // SAFETY: writes one integer, which lives through the call.
        self.check("cuDeviceGetCount", unsafe { (self.count)(&raw mut count) })?;
        Ok(count)
    }

    pub(super) fn address(&self, ordinal: c_int) -> Result<String, CudaError> {
        let device = self.device(ordinal)?;
        let mut text = [0_u8; 64];
        // SAFETY: writes at most as many bytes as it is told there are.
        let status = unsafe { (self.bus_id)(text.as_mut_ptr().cast(), text.len() as c_int, device) };
        self.check("cuDeviceGetPCIBusId", status)?;
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        Ok(kernel_address(&String::from_utf8_lossy(&text[..end])))
    }

    fn device(&self, ordinal: c_int) -> Result<c_int, CudaError> {
        let mut device = 0;
        // SAFETY: writes one integer, which lives through the call.
        self.check("cuDeviceGet", unsafe { (self.device)(&raw mut device, ordinal) })?;
        Ok(device)
    }

    fn check(&self, call: &'static str, status: Status) -> Result<(), CudaError> {
        if status == SUCCESS {
            return Ok(());
        }
        let mut text = ptr::null();
        // SAFETY: writes one pointer, which lives through the call; an unknown number leaves it null.
        let known = unsafe { (self.error_name)(status, &raw mut text) };
        let name = if known == SUCCESS && !text.is_null() {
            // SAFETY: the library answers with a text of its own that ends with 0 and is never freed.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        } else {
            "an error without a name".to_owned()
        };
        Err(CudaError::Call { call, code: status, name })
    }
}

/// A device, current on the thread that made this.
pub(crate) struct Context {
    api: Arc<Api>,
    device: c_int,
    /// Not `Send`: the library remembers per thread which device is meant.
    _thread: PhantomData<Handle>,
}

impl Context {
    pub(super) fn new(api: Arc<Api>, ordinal: c_int) -> Result<Self, CudaError> {
        let device = api.device(ordinal)?;
        // SAFETY: takes no pointers. A refusal (the device is in use already) only costs processor time.
        let _refused = unsafe { (api.set_flags)(device, BLOCKING_SYNC) };
        let mut handle = ptr::null_mut();
        // SAFETY: writes one handle, which lives through the call.
        api.check("cuDevicePrimaryCtxRetain", unsafe { (api.retain)(&raw mut handle, device) })?;
        let context = Self { api, device, _thread: PhantomData };
        // SAFETY: the handle was given for this device just now and is kept until this value is dropped.
        context.api.check("cuCtxSetCurrent", unsafe { (context.api.set_current)(handle) })?;
        Ok(context)
    }

    /// Multiprocessors, and threads that each can hold at once.
    pub(crate) fn shape(&self) -> Result<(u32, u32), CudaError> {
        let ask = |what| -> Result<u32, CudaError> {
            let mut value: c_int = 0;
            // SAFETY: writes one integer, which lives through the call.
            let status = unsafe { (self.api.attribute)(&raw mut value, what, self.device) };
            self.api.check("cuDeviceGetAttribute", status)?;
            Ok(u32::try_from(value).unwrap_or(0))
        };
        Ok((ask(MULTIPROCESSORS)?, ask(THREADS_PER_MULTIPROCESSOR)?))
    }

    /// Device memory that is free now, in bytes.
    pub(crate) fn free_memory(&self) -> Result<u64, CudaError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two integers, which live through the call.
        self.api.check("cuMemGetInfo", unsafe { (self.api.memory)(&raw mut free, &raw mut total) })?;
        Ok(free as u64)
    }

    /// Takes device memory.
    pub(crate) fn allocate(&self, bytes: u64) -> Result<Buffer, CudaError> {
        let mut address = 0;
        // SAFETY: writes one device address, which lives through the call.
        self.api.check("cuMemAlloc", unsafe { (self.api.allocate)(&raw mut address, bytes as usize) })?;
        Ok(Buffer { api: Arc::clone(&self.api), address, bytes, _thread: PhantomData })
    }

    /// Waits until all that was started is done.
    pub(crate) fn synchronize(&self) -> Result<(), CudaError> {
        // SAFETY: takes no pointers.
        self.api.check("cuCtxSynchronize", unsafe { (self.api.synchronize)() })
    }

    /// Has the driver translate our kernels for this device, and finds those named.
    pub(crate) fn kernels<const N: usize>(
        &self,
        ptx: &str,
        names: [&str; N],
    ) -> Result<[Kernel; N], CudaError> {
        let text = CString::new(ptx).unwrap_or_default();
        let mut module = ptr::null_mut();
        // SAFETY: the text ends with 0 and lives through the call; the library keeps its own translation of it.
        let status = unsafe { (self.api.load_module)(&raw mut module, text.as_ptr().cast()) };
        self.api.check("cuModuleLoadData", status)?;
        let mut kernels = [const { Kernel { function: ptr::null_mut() } }; N];
        for (kernel, name) in kernels.iter_mut().zip(names) {
            let name = CString::new(name).unwrap_or_default();
            // SAFETY: writes one handle; the name ends with 0; the module was loaded just now and is never unloaded.
            let status = unsafe { (self.api.function)(&raw mut kernel.function, module, name.as_ptr()) };
            self.api.check("cuModuleGetFunction", status)?;
        }
        Ok(kernels)
    }

    /// Starts a kernel and waits for it.
    pub(crate) fn run(
        &self,
        kernel: &Kernel,
        (blocks, threads): (u32, u32),
        mut parameters: [u64; PARAMETERS],
    ) -> Result<(), CudaError> {
        let mut pointers = parameters.each_mut().map(|parameter| ptr::from_mut(parameter).cast::<c_void>());
        // SAFETY: the kernel is one of ours and takes exactly these 64-bit parameters, which the library copies before
        // it returns; the device addresses among them belong to buffers, and no parameter is a host address.
        let status = unsafe {
            (self.api.launch)(
                kernel.function,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                0,
                ptr::null_mut(),
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        self.api.check("cuLaunchKernel", status)?;
        self.synchronize()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: takes no pointers; retained exactly once. Buffers that outlive it are freed with the device's context.
        let _gone = unsafe { (self.api.release)(self.device) };
    }
}

/// One of our kernels, translated for a device.
pub(crate) struct Kernel {
    function: Handle,
}

/// Device memory.
pub(crate) struct Buffer {
    api: Arc<Api>,
    address: u64,
    bytes: u64,
    _thread: PhantomData<Handle>,
}

impl Buffer {
    /// Where it is, as kernels see it.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// How large it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes 64-bit words, beginning at a byte offset.
    pub(crate) fn write(&self, offset: u64, words: &[u64]) -> Result<(), CudaError> {
        let bytes = size_of_val(words);
        self.fits(offset, bytes as u64)?;
        // SAFETY: reads exactly the slice; the range lies within this buffer.
        let status = unsafe { (self.api.to_device)(self.address + offset, words.as_ptr().cast(), bytes) };
        self.api.check("cuMemcpyHtoD", status)
    }

    /// Reads 64-bit words, beginning at a byte offset.
    pub(crate) fn read(&self, offset: u64, words: &mut [u64]) -> Result<(), CudaError> {
        let bytes = size_of_val(words);
        self.fits(offset, bytes as u64)?;
        // SAFETY: writes exactly the slice, for which every bit pattern is valid; the range lies within this buffer.
        let status = unsafe { (self.api.to_host)(words.as_mut_ptr().cast(), self.address + offset, bytes) };
        self.api.check("cuMemcpyDtoH", status)
    }

    /// Copies the first bytes of another buffer here, inside the device. Does not wait.
    pub(crate) fn copy_from(&self, other: &Self, bytes: u64) -> Result<(), CudaError> {
        self.fits(0, bytes)?;
        other.fits(0, bytes)?;
        // SAFETY: both ranges lie within their buffers, which are different allocations.
        let status = unsafe { (self.api.within)(self.address, other.address, bytes as usize) };
        self.api.check("cuMemcpyDtoD", status)
    }

    fn fits(&self, offset: u64, wanted: u64) -> Result<(), CudaError> {
        if offset.checked_add(wanted).is_some_and(|end| end <= self.bytes) {
            return Ok(());
        }
        Err(CudaError::Bounds { offset, wanted, bytes: self.bytes })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated once by this library and freed once here.
        let _gone = unsafe { (self.api.free)(self.address) };
    }
}
