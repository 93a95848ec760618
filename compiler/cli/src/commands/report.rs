//! `heron report` and `heron diff`.

use super::{print_json, print_text};
use crate::args::{Diff, Format, Report, TextOrJson};
use crate::console::warn_if_insecure;
use crate::depth_report::{self, dot, html, text};
use crate::failure::{At, Failure, Outcome};
use crate::server::key_request;
use heron_schedule::Schedule;
use serde_json::Value;
use std::path::Path;

/// Prints the depth report of a schedule.
pub fn run(args: &Report) -> Outcome {
    let schedule = Schedule::open(&args.schedule)?;
    warn_if_insecure(schedule.params());
    let report = of_schedule(&schedule).at(&args.schedule)?;
    match args.format {
        Format::Json => print_json(&report),
        Format::Dot => print_text(&dot::to_dot(schedule.program(), &report)),
        Format::Html => print_text(&html::to_html(&report)),
        Format::Text => print_text(&text::to_text(&report)),
    }
}

/// Writes the page of a schedule, whole or not at all.
pub fn write_page(schedule: &Schedule, path: &Path) -> Outcome {
    let page = html::to_html(&of_schedule(schedule)?);
    heron_schedule::atomic::write_bytes(path, false, page.as_bytes()).at(path)
}

/// Prints what changed between two schedules. Different schedules are an answer, not a failure.
pub fn diff(args: &Diff) -> Outcome {
    let open = |path: &Path| -> Outcome<(Schedule, Value)> {
        let schedule = Schedule::open(path)?;
        let report = of_schedule(&schedule).at(path)?;
        Ok((schedule, report))
    };
    let ((a, report_a), (b, report_b)) = (open(&args.a)?, open(&args.b)?);
    let found = depth_report::diff::diff((&a, &report_a), (&b, &report_b));
    match args.format {
        TextOrJson::Json => print_json(&found),
        TextOrJson::Text => print_text(&depth_report::diff::to_text(&found)),
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
    let files = depth_report::files::bytes(schedule, bytes)
        .map_err(|e| Failure::new("malformed", e.to_string()))?;
    Ok(depth_report::report(program, params, &facts, bytes, files))
}
