//! Kernels from source to machine code by NVRTC, which is looked for at run time, and a cache of what it made.
//!
//! The cache is `$HERON_CACHE`, else `$XDG_CACHE_HOME/heron`, else `~/.cache/heron`: files named by architecture, ring and a hash of source and
//! options. A machine without NVRTC can run what another machine put there.

use super::device::DeviceError;
use super::source::{fingerprint, source};
use cudarc::nvrtc::{result, sys};
use std::ffi::CString;
use std::path::PathBuf;

/// Machine code of all kernels for one ring and architecture.
pub struct Compiled {
    /// A cubin.
    pub code: Vec<u8>,
    /// What the compiler said, with each kernel's use of registers.
    pub log: String,
}

/// What one kernel takes, according to the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelUse {
    /// Its name.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of a thread's stack.
    pub stack: u32,
    /// Bytes of registers stored to memory and loaded back for want of room.
    pub spills: u32,
}

fn options(architecture: &str, log_n: u32) -> Vec<String> {
    vec![
        format!("--gpu-architecture={architecture}"),
        "--std=c++17".into(),
        format!("-DHERON_LOG_N={log_n}"),
        "--ptxas-options=-v".into(),
    ]
}

/// Where the machine code for an architecture such as `sm_90` and a ring is kept; none without a home.
pub fn cache_file(architecture: &str, log_n: u32) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    let folder = set("HERON_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("XDG_CACHE_HOME")?).join("heron")))
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache/heron")))?;
    let name = fingerprint(&options(architecture, log_n));
    Some(folder.join(format!("kernels-{architecture}-{log_n}-{name}.cubin")))
}

/// The machine code, from the cache or made and left there.
///
/// # Errors
/// Neither a cached file nor a compiler, or source that does not compile.
pub fn machine_code(architecture: &str, log_n: u32) -> Result<Vec<u8>, DeviceError> {
    let file = cache_file(architecture, log_n);
    if let Some(code) = file.as_ref().and_then(|f| std::fs::read(f).ok()) {
        return Ok(code);
    }
    let compiled = compile(architecture, log_n)?;
    if let Some(file) = file {
        // A cache that cannot be written costs seconds at the next start and nothing else.
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = heron_schedule::atomic::write_bytes(&file, true, &compiled.code);
    }
    Ok(compiled.code)
}

/// Compiles the kernels.
///
/// # Errors
/// No NVRTC, or source that does not compile.
pub fn compile(architecture: &str, log_n: u32) -> Result<Compiled, DeviceError> {
    let failed = |log: String| DeviceError::Compile {
        target: architecture.into(),
        // One line: the first that names an error, or the first.
        log: log
            .lines()
            .find(|l| l.contains("error"))
            .or(log.lines().next())
            .unwrap_or("no reason given")
            .trim()
            .into(),
    };
    // SAFETY: loads a library by the names NVIDIA gives it; its initialisation is trusted, as the driver's is.
    if !unsafe { sys::is_culib_present() } {
        return Err(failed(
            "neither libnvrtc.so nor libnvrtc.so.13 can be loaded, and there is no compiled file in the cache; install CUDA's NVRTC"
                .into(),
        ));
    }
    let text = CString::new(source()).map_err(|e| failed(e.to_string()))?;
    let program = result::create_program(&text, Some(c"heron.cu"));
    let program = program.map_err(|e| failed(e.to_string()))?;
    // SAFETY: the program was created above and is destroyed below, once.
    unsafe {
        let outcome = result::compile_program(program, &options(architecture, log_n));
        let log = result::get_program_log(program).unwrap_or_default();
        let log: Vec<u8> = log.iter().map(|&c| c as u8).filter(|&c| c != 0).collect();
        let log = String::from_utf8_lossy(&log).into_owned();
        let code = outcome
            .map_err(|e| format!("{log}\n{e}"))
            .and_then(|()| cubin(program).map_err(|e| e.to_string()));
        let _ = result::destroy_program(program);
        code.map(|code| Compiled { code, log }).map_err(failed)
    }
}

/// # Safety
/// The program has been compiled and not been destroyed.
unsafe fn cubin(program: sys::nvrtcProgram) -> Result<Vec<u8>, result::NvrtcError> {
    let mut size = 0;
    // SAFETY: the caller vouches for the program; the buffer has the size it asks for.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &mut size).result()?;
        let mut code = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()).result()?;
        Ok(code)
    }
}

/// Each kernel's use of registers, from a compiler's log.
pub fn kernel_uses(log: &str) -> Vec<KernelUse> {
    let number_before = |line: &str, what: &str| -> u32 {
        let words = line.split(what).next().unwrap_or("");
        let last = words.split_whitespace().last().unwrap_or("");
        last.parse().unwrap_or(0)
    };
    let mut found: Vec<KernelUse> = Vec::new();
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            found.push(KernelUse {
                kernel: rest.split('\'').next().unwrap_or("").into(),
                registers: 0,
                stack: 0,
                spills: 0,
            });
        } else if let Some(last) = found.last_mut() {
            if line.contains("bytes stack frame") {
                last.stack = number_before(line, " bytes stack frame");
                last.spills = number_before(line, " bytes spill stores")
                    + number_before(line, " bytes spill loads");
            } else if line.contains(" registers") {
                last.registers = number_before(line, " registers");
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compilers_log_tells_registers_and_spills_of_each_kernel() {
        let log = "ptxas info    : 8 bytes gmem
ptxas info    : Compiling entry function 'heron_a' for 'sm_90a'
ptxas info    : Function properties for heron_a
ptxas         .     16 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers
ptxas info    : Compiling entry function 'heron_b' for 'sm_90a'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 128 registers, used 0 barriers, 400 bytes cmem[0]";
        let each = |kernel: &str, registers, stack, spills| KernelUse {
            kernel: kernel.into(),
            registers,
            stack,
            spills,
        };
        assert_eq!(
            kernel_uses(log),
            [each("heron_a", 32, 16, 16), each("heron_b", 128, 0, 0)]
        );
    }
}
