//! For a machine with a GPU; `runtime/gpu/check.sh` calls it. Prints JSON lines, and ends with a failure if anything failed.
//!
//! `gpu_check same PROFILE [KNOWN]`: residues of everything against the CPU's, and against the answers in a file; `small PROFILE` without
//! bootstraps; `known PROFILE` prints that file, without a GPU. `kernels PROFILE`: where time goes. `pipes PROFILE`: what the device can do at most.

mod kernels;
mod lab;
mod same;

use lab::{Lab, Outcome};
use same::Extent;
use std::process::ExitCode;

fn run(arguments: &[&str]) -> Outcome {
    if !matches!(arguments, [] | ["known", ..]) {
        lab::present()?;
    }
    match arguments {
        ["same", profile] => {
            let lab = Lab::new(profile)?;
            same::same(&lab, &lab.on_gpu(false)?, Extent::All, None)
        }
        ["same", profile, known] => {
            let (lab, known) = (Lab::new(profile)?, same::read_known(known)?);
            same::same(&lab, &lab.on_gpu(false)?, Extent::All, Some(&known))
        }
        ["small", profile] => {
            let lab = Lab::new(profile)?;
            same::same(&lab, &lab.on_gpu(false)?, Extent::Operations, None)
        }
        ["known", profile] => same::known(&Lab::new(profile)?),
        ["kernels", profile] => {
            let lab = Lab::new(profile)?;
            kernels::all(&lab, &lab.on_gpu(true)?)
        }
        ["pipes", profile] => kernels::pipes(Lab::without_keys(profile)?.on_gpu(false)?.backend()),
        _ => Err("usage: gpu_check same PROFILE [KNOWN] | small PROFILE | known PROFILE | kernels PROFILE | pipes PROFILE".into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
