//! The heron command. Results go to stdout, everything else to stderr; exit codes: 0 success, 1 the request could not be met, 2 usage.

mod args;
mod breakdown;
mod client;
mod commands;
mod console;
mod depth_report;
mod failure;
mod frontend;
mod inputs;
mod judge;
mod machine;
mod memory;
mod server;

use clap::Parser;
use failure::Failure;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { 2 } else { 0 };
            // Nothing is left to tell where stdout and stderr are closed.
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    let outcome = catch_unwind_quietly(|| commands::run(&cli), cli.verbose);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(1)
        }
    }
}

/// The last resort: a defect of heron becomes an error line, not a backtrace.
fn catch_unwind_quietly(
    work: impl FnOnce() -> failure::Outcome,
    verbose: bool,
) -> failure::Outcome {
    if !verbose {
        std::panic::set_hook(Box::new(|_| ()));
    }
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no details");
        let message =
            format!("a defect of heron stopped the work ({text}); run again with -v and report it");
        Err(Failure::new("resource", message))
    })
}
