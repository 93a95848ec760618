//! `heron compile`.

use crate::args::{Compile, WeightsPlace};
use crate::console::{warn_if_insecure, Progress};
use crate::depth_report::text;
use crate::depth_report::units::{bytes, float, seconds, show};
use crate::failure::{Failure, Outcome};
use crate::frontend;
use heron_schedule::Schedule;
use std::path::Path;

/// Writes X.heron, and X.client beside it.
pub fn run(args: &Compile, quiet: bool) -> Outcome {
    let mut progress = Progress::new(quiet);
    if let Some((name, sizes)) = &args.sweep {
        return super::sweep::run(args, name, sizes, &mut progress);
    }
    let Some(output) = &args.output else {
        let message = "no place to write to; give -o X.heron";
        return Err(Failure::new("mismatch", message));
    };
    progress.note(&format!("compiling {}", args.model.display()));
    let mut options = args.options.clone();
    if args.weights == WeightsPlace::External {
        options.external = Some(output.parent().unwrap_or(Path::new("")).to_path_buf());
    }
    let compiled = frontend::compile(&args.model, &options, args.dump_ir.as_deref())?;
    let schedule = &compiled.schedule;
    warn_if_insecure(schedule.params());
    if let Some(warning) = frontend::too_inaccurate(schedule.program(), args.options.tolerance) {
        progress.note(&warning);
    }
    progress.note(&format!("estimate: {}", estimate(schedule)?));
    // The client's file first: a schedule on disk always has it beside.
    let client = output.with_extension("client");
    if client == *output {
        let message = format!(
            "{}: choose a name that does not end in .client",
            output.display()
        );
        return Err(Failure::new("io", message));
    }
    schedule.client()?.save(&client)?;
    schedule.save(output)?;
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
        output.display(),
        client.display(),
        schedule.program().instructions.len(),
        bootstraps.count(),
        schedule.program().batch
    ));
    Ok(())
}

/// What a run will take and what files will be, and by which primitives, whose prices were measured or are a model's.
fn estimate(schedule: &Schedule) -> Outcome<String> {
    let report = super::report::of_schedule(schedule)?;
    let estimate = &report["estimate"];
    let mut items = Vec::new();
    if let Some(s) = float(&estimate["seconds"]) {
        items.push(format!("{} on {}", seconds(s), show(&estimate["target"])));
    }
    if let Some(b) = float(&estimate["peak_bytes"]) {
        items.push(format!("{} of memory", bytes(b)));
    }
    let files = text::files(&estimate["file_bytes"]);
    // Says whether they were measured or are a model's.
    let basis = estimate["basis"].as_str().unwrap_or("of unknown origin");
    let primitives = text::by_primitive(&report).into_iter();
    let primitives: Vec<String> = primitives
        .map(|(kind, s)| format!("{kind} {}", seconds(s)))
        .collect();
    Ok(format!(
        "{}; {}\nof which {}; prices {basis}",
        items.join(", "),
        files.join(", "),
        primitives.join(", ")
    ))
}
