//! Compiles the GPU's kernels for some architectures and holds what they take against a budget: `compile_kernels [--keep] LOG_N sm_90a...`.
//! Prints one JSON line per kernel; fails on a spill, or on registers beyond the budget of a kernel. With `--keep` it leaves the machine code in
//! the cache instead, for machines without a compiler.

use heron_runtime::backend::gpu::compile::{compile, kernel_uses, machine_code, KernelUse};
use std::process::ExitCode;

/// Kernels of one ring.
const KERNELS: usize = 30;

/// Registers of a thread at which so many threads of 256-thread blocks fit an SM's 65,536: 64 for four blocks, 40 for six.
fn budget(kernel: &str) -> u32 {
    match kernel {
        // At most four of its blocks of 128 threads fit an SM for their shared memory; here their registers do too.
        k if k.contains("extend_columns") => 128,
        // Both halves of a key in 64-bit sums, besides the points of a transform: two blocks of 256 threads.
        k if k.contains("rows_key_product") || k == "heron_shared_products" => 128,
        // 64-bit sums of both halves for eight giant steps.
        "heron_rotated_sums" => 128,
        // And of four sources that share a key.
        "heron_linear_sums" => 128,
        k if k.contains("columns") => 64,
        k if k.contains("rows") => 64,
        "heron_key_product" => 64,
        "heron_extend" | "heron_inner_products" | "heron_residues" => 48,
        _ => 40,
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let keep = arguments.next_if(|a| a == "--keep").is_some();
    let log_n = arguments.next().and_then(|a| a.parse::<u32>().ok());
    let architectures: Vec<String> = arguments.collect();
    let Some(log_n) = log_n.filter(|_| !architectures.is_empty()) else {
        eprintln!("usage: compile_kernels [--keep] LOG_N ARCHITECTURE...");
        return ExitCode::from(2);
    };
    let mut failures = 0;
    for architecture in &architectures {
        if keep {
            if let Err(error) = machine_code(architecture, log_n) {
                eprintln!("{error}");
                failures += 1;
            }
            continue;
        }
        let uses = match compile(architecture, log_n) {
            Ok(compiled) => kernel_uses(&compiled.log),
            Err(error) => {
                eprintln!("{error}");
                failures += 1;
                continue;
            }
        };
        // A log in another format would pass every budget.
        if uses.len() < KERNELS || uses.iter().any(|u| u.registers == 0) {
            eprintln!(
                "{architecture}: the compiler's log names {} kernels of {KERNELS} with their registers",
                uses.len()
            );
            failures += 1;
        }
        for KernelUse {
            kernel,
            registers,
            stack,
            spills,
        } in uses
        {
            let budget = budget(&kernel);
            println!("{{\"kernel\":\"{kernel}\",\"architecture\":\"{architecture}\",\"log2_n\":{log_n},\"registers\":{registers},\"budget\":{budget},\"stack_bytes\":{stack},\"spill_bytes\":{spills}}}");
            if spills > 0 || stack > 0 || registers > budget {
                eprintln!("{architecture}, {kernel}: {registers} registers (at most {budget}), {stack} bytes of stack and {spills} of spills (none allowed)");
                failures += 1;
            }
        }
    }
    match failures {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
