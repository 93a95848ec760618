//! `heron report`.

use super::{print_json, print_text};
use crate::args::{Format, Report};
use crate::console::warn_if_insecure;
use crate::depth_report;
use crate::failure::{Failure, Outcome};
use crate::server::key_request;
use heron_schedule::Schedule;
use serde_json::Value;

/// Prints the depth report of a schedule.
pub fn run(args: &Report) -> Outcome {
    if matches!(args.format, Format::Html | Format::Dot) {
        return Err(Failure::not_yet("this format", "use --format text or json"));
    }
    let schedule = Schedule::open(&args.schedule)?;
    warn_if_insecure(schedule.params());
    let report = of_schedule(&schedule)?;
    match args.format {
        Format::Json => print_json(&report),
        _ => print_text(&depth_report::to_text(&report)),
    }
}

/// The report, with the facts the compiler left in the file.
pub fn of_schedule(schedule: &Schedule) -> Outcome<Value> {
    let (program, params) = (schedule.program(), schedule.params());
    let facts = match program.report_json.as_slice() {
        [] => Value::Null,
        bytes => serde_json::from_slice(bytes).map_err(|e| {
            Failure::new("malformed", format!("the report inside the schedule: {e}"))
        })?,
    };
    let bytes = depth_report::key_bytes(&key_request(program, params)?, params);
    Ok(depth_report::report(program, params, &facts, bytes))
}
