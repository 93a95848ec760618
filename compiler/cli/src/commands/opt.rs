//! `heron opt`.

use super::print_text;
use crate::args::Opt;
use crate::failure::{At, Failure, Outcome};
use heron_passes::registry::{self, OptError, Settings, PASSES};
use heron_schedule::params::ParameterSet;

/// Runs one pass on the text of a graph and prints the result.
pub fn run(args: &Opt) -> Outcome {
    if args.list {
        let line = |e: &registry::Entry| {
            let rungs = format!("{} -> {}", e.from, e.to);
            format!("{:24} {rungs:20} {}\n", e.name, e.what)
        };
        return print_text(&PASSES.iter().map(line).collect::<String>());
    }
    let (Some(pass), Some(file)) = (&args.pass, &args.file) else {
        let message =
            "give --pass NAME and a FILE as --dump-ir writes them; --list names the passes";
        return Err(Failure::new("mismatch", message));
    };
    let text = std::fs::read_to_string(file).at(file)?;
    let extension = file.extension().and_then(|e| e.to_str()).unwrap_or("");
    let stage = registry::stage(&text);
    let rungs = ["tensor", "poly", "packed", "levelled"];
    if rungs.contains(&extension) && rungs.contains(&stage) && extension != stage {
        let message =
            format!("the file is named .{extension}, its text is a {stage} graph; rename it");
        return Err(Failure::new("mismatch", message).at(file));
    }
    let params = ParameterSet::new(args.profile)?;
    let log_n = args.log_n.unwrap_or(params.log_n());
    let settings = Settings {
        slots: args.slots.unwrap_or(1 << (log_n.clamp(1, 21) - 1)),
        batch: args.batch,
        log_n,
        top: args.top.unwrap_or(u32::from(params.top_usable().0)),
        tighten: args.tighten,
    };
    let most = 1 << 20;
    if !settings.slots.is_power_of_two()
        || settings.slots > most
        || log_n > 21
        || settings.top > 200
    {
        let message =
            "--slots must be a power of two up to 2^20, --log-n at most 21, --top at most 200";
        return Err(Failure::new("mismatch", message));
    }
    let outcome = registry::run(pass, &text, &settings).at(file)?;
    for note in &outcome.notes {
        eprintln!("{note}");
    }
    match &args.output {
        Some(path) => {
            heron_schedule::atomic::write_bytes(path, false, outcome.text.as_bytes()).at(path)
        }
        None => print_text(&outcome.text),
    }
}

impl From<OptError> for Failure {
    fn from(e: OptError) -> Self {
        match e {
            OptError::Pass(e) => e.into(),
            OptError::Invalid { .. } => Failure::new("graph", e.to_string().replace('\n', "; ")),
            e => Failure::new("mismatch", e.to_string().replace('\n', "; ")),
        }
    }
}
