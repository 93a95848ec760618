//! `heron compile`.

use crate::args::{Compile, WeightsPlace};
use crate::console::{warn_if_insecure, Progress};
use crate::failure::{Failure, Outcome};
use crate::frontend;

/// Writes X.heron, and X.client beside it.
pub fn run(args: &Compile, quiet: bool) -> Outcome {
    if args.weights == WeightsPlace::External {
        return Err(Failure::not_yet(
            "--weights external",
            "keep the weights inside",
        ));
    }
    if args.sweep.is_some() {
        return Err(Failure::not_yet("--sweep", "compile once per shape"));
    }
    let mut progress = Progress::new(quiet);
    progress.note(&format!("compiling {}", args.model.display()));
    let compiled = frontend::compile(&args.model, &args.options, args.dump_ir.as_deref())?;
    let schedule = &compiled.schedule;
    warn_if_insecure(schedule.params());
    if let Some(warning) = frontend::too_inaccurate(schedule.program(), args.options.tolerance) {
        progress.note(&warning);
    }
    // The client's file first: a schedule on disk always has it beside.
    let client = args.output.with_extension("client");
    if client == args.output {
        let message = format!(
            "{}: choose a name that does not end in .client",
            args.output.display()
        );
        return Err(Failure::new("io", message));
    }
    schedule.client()?.save(&client)?;
    schedule.save(&args.output)?;
    if let Some(page) = &args.report {
        super::report::write_page(schedule, page)?;
    }
    let bootstraps = schedule.program().instructions.iter();
    let bootstraps = bootstraps.filter(|i| {
        matches!(
            i.op,
            Some(heron_schedule::proto::instruction::Op::Bootstrap(_))
        )
    });
    progress.note(&format!(
        "{} and {}: {} instructions, {} bootstraps, {} inputs per run",
        args.output.display(),
        client.display(),
        schedule.program().instructions.len(),
        bootstraps.count(),
        schedule.program().batch
    ));
    Ok(())
}
