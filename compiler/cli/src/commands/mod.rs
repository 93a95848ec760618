//! One file per command, and what several of them share.

pub mod bench;
pub mod bench_bootstrap;
pub mod bisect;
pub mod check;
pub mod compile;
pub mod files;
pub mod infer;
pub mod opt;
pub mod report;
pub mod sweep;

use crate::args::{Cli, Command};
use crate::failure::{Failure, Outcome};
use heron_runtime::exec::Timing;
use serde_json::{json, Value};

/// Runs a command.
pub fn run(cli: &Cli) -> Outcome {
    let quiet = cli.quiet;
    match &cli.command {
        Command::Check(args) => check::run(args),
        Command::Compile(args) => compile::run(args, quiet),
        Command::Report(args) => report::run(args),
        Command::Keygen(args) => files::keygen(args, quiet),
        Command::Encrypt(args) => files::encrypt(args),
        Command::Run(args) => files::run(args, quiet),
        Command::Decrypt(args) => files::decrypt(args),
        Command::Infer(args) => infer::run(args, quiet),
        Command::Bisect(args) => bisect::run(args, quiet),
        Command::Diff(args) => report::diff(args),
        Command::Opt(args) => opt::run(args),
        Command::Bench(args) => bench::run(args),
    }
}

/// Time by kind, as INTERFACE writes it.
pub fn by_kind(timing: &Timing) -> Value {
    let kinds = timing
        .kinds()
        .filter(|(_, t)| t.count > 0 || t.seconds > 0.0);
    kinds
        .map(|(kind, t)| json!({"kind": kind.name(), "count": t.count, "seconds": t.seconds}))
        .collect()
}

/// Prints JSON to stdout.
pub fn print_json(value: &Value) -> Outcome {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Failure::new("io", e.to_string()))?;
    print_text(&format!("{text}\n"))
}

/// Prints to stdout; a closed pipe is no failure.
pub fn print_text(text: &str) -> Outcome {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}
