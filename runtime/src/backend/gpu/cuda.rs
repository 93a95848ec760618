//! An NVIDIA GPU, by the driver's interface. Libraries are looked for at run time: a machine without them builds and runs all the rest.

use super::compile::machine_code;
use super::device::{Address, Device, DeviceError, KernelTime, Launch, RecordingId, Step, Times};
use cudarc::driver::{result, sys, DriverError};
use std::collections::BTreeMap;
use std::ffi::{c_void, CString};
use std::sync::Mutex;

/// Shared memory a kernel may have without asking.
const PLAIN_SHARED: u32 = 48 << 10;

/// One GPU with the kernels of one ring loaded, and one stream.
pub struct Cuda {
    name: String,
    total: u64,
    shared: u32,
    device: sys::CUdevice,
    context: sys::CUcontext,
    module: sys::CUmodule,
    stream: sys::CUstream,
    /// Kernels by name, with the shared memory they were allowed.
    functions: Mutex<BTreeMap<String, (Handle, u32)>>,
    watch: Mutex<Watch>,
    graphs: Mutex<BTreeMap<RecordingId, Graph>>,
}

/// A recording: a graph that can be started, and what it consists of.
struct Graph {
    executable: sys::CUgraphExec,
    launches: Vec<Owned>,
}
// SAFETY: an executable graph is a name that the driver's interface takes from any thread, one at a time as the lock on all of them sees to.
unsafe impl Send for Graph {}

/// A launch with its own copy of everything, for when times are taken.
struct Owned {
    kernel: String,
    grid: [u32; 3],
    threads: u32,
    shared: u32,
    arguments: Vec<u8>,
    moves: u64,
}

impl Owned {
    fn new(launch: &Launch<'_>) -> Owned {
        Owned {
            kernel: launch.kernel.into(),
            grid: launch.grid,
            threads: launch.threads,
            shared: launch.shared,
            arguments: launch.arguments.to_vec(),
            moves: launch.moves,
        }
    }

    fn launch(&self) -> Launch<'_> {
        Launch {
            kernel: &self.kernel,
            grid: self.grid,
            threads: self.threads,
            shared: self.shared,
            arguments: &self.arguments,
            moves: self.moves,
        }
    }
}

/// Launches whose times are taken.
#[derive(Default)]
struct Watch {
    on: bool,
    laps: Vec<Lap>,
}

/// A launch between two events of the stream.
struct Lap {
    kernel: String,
    moves: u64,
    events: [sys::CUevent; 2],
}
// SAFETY: events are names that the driver's interface takes from any thread in which their context is current.
unsafe impl Send for Lap {}

#[derive(Clone, Copy)]
struct Handle(sys::CUfunction);
// SAFETY: a function is a name within its module; the driver's interface takes it from any thread.
unsafe impl Send for Handle {}

// SAFETY: the handles are names that the driver's interface takes from any thread in which the context is current, as each call makes it.
unsafe impl Send for Cuda {}
// SAFETY: as above; the driver locks what it shares.
unsafe impl Sync for Cuda {}

fn driver(call: &'static str) -> impl Fn(DriverError) -> DeviceError {
    move |error| DeviceError::Driver {
        call,
        what: error.to_string(),
    }
}

/// The number of usable GPUs.
///
/// # Errors
/// None, with what was looked for and where the search ended.
pub fn count() -> Result<usize, DeviceError> {
    // SAFETY: loads a library by the name that NVIDIA's driver gives it; its initialisation is trusted.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::Absent(
            "NVIDIA's driver library (libcuda.so or libcuda.so.1) cannot be loaded; install the driver, or use --backend cpu".into(),
        ));
    }
    let absent = |call: &str, error: DriverError| {
        DeviceError::Absent(format!(
            "the driver library is there, but {call} says {error}; use --backend cpu"
        ))
    };
    result::init().map_err(|e| absent("cuInit", e))?;
    let count = result::device::get_count().map_err(|e| absent("cuDeviceGetCount", e))?;
    match usize::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(DeviceError::Absent(
            "the driver sees no device (is CUDA_VISIBLE_DEVICES empty?); use --backend cpu".into(),
        )),
    }
}

impl Cuda {
    /// The first GPU, with the kernels of the ring of degree 2^log_n: compiled at the first use, then from the cache.
    ///
    /// # Errors
    /// No GPU, no compiler for its first use, or a driver that refuses.
    pub fn first(log_n: u32) -> Result<Self, DeviceError> {
        count()?;
        let device = result::device::get(0).map_err(driver("cuDeviceGet"))?;
        let name = result::device::get_name(device).map_err(driver("cuDeviceGetName"))?;
        use sys::CUdevice_attribute_enum as Attribute;
        let attribute = |which| {
            // SAFETY: the device came from the driver.
            let value = unsafe { result::device::get_attribute(device, which) };
            value.map_err(driver("cuDeviceGetAttribute"))
        };
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let shared = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let shared = u32::try_from(attribute(shared)?).unwrap_or(PLAIN_SHARED);
        let code = machine_code(&format!("sm_{major}{minor}"), log_n)?;
        // SAFETY: the device came from the driver; the context is released when this value is dropped; the code is a whole cubin.
        unsafe {
            let context = result::primary_ctx::retain(device);
            let context = context.map_err(driver("cuDevicePrimaryCtxRetain"))?;
            result::ctx::set_current(context).map_err(driver("cuCtxSetCurrent"))?;
            let module = result::module::load_data(code.as_ptr().cast());
            // What is free: other processes and the driver hold some of it.
            let (total, _) = result::mem_get_info().map_err(driver("cuMemGetInfo"))?;
            let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
            Ok(Self {
                name,
                total: total as u64,
                shared,
                device,
                context,
                module: module.map_err(driver("cuModuleLoadData"))?,
                stream: stream.map_err(driver("cuStreamCreate"))?,
                functions: Mutex::default(),
                watch: Mutex::default(),
                graphs: Mutex::default(),
            })
        }
    }

    /// Makes the context that of this thread.
    fn enter(&self) -> Result<(), DeviceError> {
        // SAFETY: the context lives as long as this value.
        unsafe { result::ctx::set_current(self.context).map_err(driver("cuCtxSetCurrent")) }
    }

    /// A node for each step, and an edge for each wait.
    ///
    /// # Safety
    /// The graph is being made, and the steps' arguments are their kernels'.
    unsafe fn add_nodes(&self, graph: sys::CUgraph, steps: &[Step<'_>]) -> Result<(), DeviceError> {
        let mut nodes: Vec<sys::CUgraphNode> = Vec::with_capacity(steps.len());
        for Step { launch, after } in steps {
            let function = self.function(launch.kernel, launch.shared)?;
            let before = after.iter().filter_map(|&i| nodes.get(i).copied());
            let before: Vec<sys::CUgraphNode> = before.collect();
            let [x, y, z] = launch.grid;
            // Copied into the node by the driver.
            let mut arguments = [launch.arguments.as_ptr() as *mut c_void];
            let node = sys::CUDA_KERNEL_NODE_PARAMS {
                func: function,
                gridDimX: x,
                gridDimY: y,
                gridDimZ: z,
                blockDimX: launch.threads,
                blockDimY: 1,
                blockDimZ: 1,
                sharedMemBytes: launch.shared,
                kernelParams: arguments.as_mut_ptr(),
                extra: std::ptr::null_mut(),
                kern: std::ptr::null_mut(),
                ctx: std::ptr::null_mut(),
            };
            let mut made = std::ptr::null_mut();
            // SAFETY: the nodes before are of this graph; the arguments live until the call returns.
            let added = unsafe {
                let count = before.len();
                sys::cuGraphAddKernelNode_v2(&mut made, graph, before.as_ptr(), count, &node)
            };
            added.result().map_err(driver("cuGraphAddKernelNode"))?;
            nodes.push(made);
        }
        Ok(())
    }

    fn event(&self) -> Result<sys::CUevent, DeviceError> {
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
        result::event::create(flags).map_err(driver("cuEventCreate"))
    }

    fn function(&self, kernel: &str, shared: u32) -> Result<sys::CUfunction, DeviceError> {
        let failed = |what: String| DeviceError::Launch {
            kernel: kernel.into(),
            what,
        };
        let mut functions = self.functions.lock().map_err(|e| failed(e.to_string()))?;
        if let Some((function, allowed)) = functions.get(kernel) {
            if shared <= *allowed {
                return Ok(function.0);
            }
        }
        let name = CString::new(kernel).map_err(|e| failed(e.to_string()))?;
        // SAFETY: the module is loaded as long as this value lives, and the function is its.
        let function = unsafe {
            let function = result::module::get_function(self.module, name);
            let function = function.map_err(|e| failed(e.to_string()))?;
            if shared > PLAIN_SHARED {
                use sys::CUfunction_attribute_enum as Attribute;
                let most = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                result::function::set_function_attribute(function, most, shared as i32)
                    .map_err(|e| failed(format!("{shared} bytes of shared memory: {e}")))?;
            }
            function
        };
        let allowed = shared.max(PLAIN_SHARED);
        functions.insert(kernel.into(), (Handle(function), allowed));
        Ok(function)
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // What fails here fails because the process is ending.
        // SAFETY: nothing uses the stream, the module or the context after this.
        unsafe {
            if self.enter().is_ok() {
                let _ = result::stream::synchronize(self.stream);
                let _ = result::stream::destroy(self.stream);
                let _ = result::module::unload(self.module);
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

impl Device for Cuda {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn total_bytes(&self) -> u64 {
        self.total
    }

    fn shared_bytes(&self) -> u32 {
        self.shared
    }

    fn allocate(&self, words: usize) -> Result<Option<Address>, DeviceError> {
        self.enter()?;
        // SAFETY: the contents are arbitrary, as promised.
        match unsafe { result::malloc_sync(4 * words) } {
            Ok(address) => Ok(Some(Address(address))),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            Err(error) => Err(driver("cuMemAlloc")(error)),
        }
    }

    unsafe fn free(&self, address: Address) {
        if self.enter().is_ok() {
            // The driver waits for what still runs.
            // SAFETY: the caller vouches for the address.
            let _ = unsafe { result::free_sync(address.0) };
        }
    }

    unsafe fn upload(&self, words: &[u32], to: Address) -> Result<(), DeviceError> {
        self.enter()?;
        // The words are pageable: they have been read when the call returns, and reach the device in the stream's order.
        // SAFETY: the caller vouches for the room.
        unsafe { result::memcpy_htod_async(to.0, words, self.stream) }
            .map_err(driver("cuMemcpyHtoDAsync"))
    }

    unsafe fn download(&self, from: Address, words: &mut [u32]) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the caller vouches for the source; the words are borrowed until the stream is done.
        unsafe {
            result::memcpy_dtoh_async(words, from.0, self.stream)
                .map_err(driver("cuMemcpyDtoHAsync"))?;
            result::stream::synchronize(self.stream).map_err(driver("cuStreamSynchronize"))
        }
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the stream lives as long as this value.
        unsafe { result::stream::synchronize(self.stream) }.map_err(driver("cuStreamSynchronize"))
    }

    unsafe fn record(&self, steps: &[Step<'_>]) -> Result<RecordingId, DeviceError> {
        self.enter()?;
        let mut graph = std::ptr::null_mut();
        // SAFETY: the graph is made and given up here; what can be started is made of it in between.
        let executable = unsafe {
            let made = sys::cuGraphCreate(&mut graph, 0).result();
            made.map_err(driver("cuGraphCreate"))?;
            let added = self.add_nodes(graph, steps);
            let flags = sys::CUgraphInstantiate_flags(0);
            let executable = added.and_then(|()| {
                let made = result::graph::instantiate(graph, flags);
                made.map_err(driver("cuGraphInstantiateWithFlags"))
            });
            let _ = result::graph::destroy(graph);
            executable?
        };
        let launches = steps.iter().map(|step| Owned::new(&step.launch)).collect();
        let Ok(mut graphs) = self.graphs.lock() else {
            return Err(DeviceError::Lost);
        };
        let id = RecordingId(graphs.keys().last().map_or(0, |last| last.0 + 1));
        graphs.insert(
            id,
            Graph {
                executable,
                launches,
            },
        );
        Ok(id)
    }

    unsafe fn replay(&self, recording: RecordingId) -> Result<(), DeviceError> {
        self.enter()?;
        let Ok(graphs) = self.graphs.lock() else {
            return Err(DeviceError::Lost);
        };
        let graph = graphs.get(&recording).ok_or(DeviceError::Lost)?;
        // Times are those of single launches.
        if self.watch.lock().is_ok_and(|watch| watch.on) {
            let mut each = graph.launches.iter();
            // SAFETY: the caller's, for every launch; they were recorded in an order that is right.
            return each.try_for_each(|owned| unsafe { self.launch(&owned.launch()) });
        }
        // SAFETY: the graph and the stream live; the caller vouches for the memory.
        unsafe { result::graph::launch(graph.executable, self.stream) }
            .map_err(driver("cuGraphLaunch"))
    }

    fn forget(&self, recording: RecordingId) {
        // What runs of it ends first; what fails here fails because the process is ending.
        let _ = self.synchronise();
        let graph = self
            .graphs
            .lock()
            .map(|mut graphs| graphs.remove(&recording));
        if let Ok(Some(graph)) = graph {
            // SAFETY: nobody else knows the graph.
            let _ = unsafe { result::graph::exec_destroy(graph.executable) };
        }
    }

    fn take_times(&self, on: bool) {
        if let Ok(mut watch) = self.watch.lock() {
            watch.on = on;
        }
    }

    fn times(&self) -> Result<Vec<KernelTime>, DeviceError> {
        self.synchronise()?;
        let laps = self
            .watch
            .lock()
            .map(|mut watch| std::mem::take(&mut watch.laps));
        let times = Times::default();
        for lap in laps.unwrap_or_default() {
            let [start, end] = lap.events;
            // SAFETY: the stream has passed both events, which nobody else knows.
            let seconds = unsafe {
                let milliseconds = result::event::elapsed(start, end);
                let _ = lap.events.map(|event| result::event::destroy(event));
                milliseconds.map_err(driver("cuEventElapsedTime"))? / 1e3
            };
            times.add(&lap.kernel, lap.moves, f64::from(seconds));
        }
        Ok(times.take())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        self.enter()?;
        // A lock that a panic left behind stops the watch, not the launches.
        let watched = self.watch.lock().is_ok_and(|watch| watch.on);
        let events = match watched {
            true => Some([self.event()?, self.event()?]),
            false => None,
        };
        let mark = |number: usize| match events {
            // SAFETY: the event and the stream live.
            Some(events) => unsafe { result::event::record(events[number], self.stream) }
                .map_err(driver("cuEventRecord")),
            None => Ok(()),
        };
        let function = self.function(launch.kernel, launch.shared)?;
        let [x, y, z] = launch.grid;
        // Copied by the driver before the call returns.
        let mut arguments = [launch.arguments.as_ptr() as *mut c_void];
        mark(0)?;
        // SAFETY: the caller vouches for the arguments.
        let started = unsafe {
            result::launch_kernel(
                function,
                (x, y, z),
                (launch.threads, 1, 1),
                launch.shared,
                self.stream,
                &mut arguments,
            )
        };
        started.map_err(|error| DeviceError::Launch {
            kernel: launch.kernel.into(),
            what: error.to_string(),
        })?;
        mark(1)?;
        if let (Some(events), Ok(mut watch)) = (events, self.watch.lock()) {
            watch.laps.push(Lap {
                kernel: launch.kernel.into(),
                moves: launch.moves,
                events,
            });
        }
        Ok(())
    }
}
