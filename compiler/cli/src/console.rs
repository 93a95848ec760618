//! What goes to stderr: warnings, progress; and the facts of the machine that reports mention.

use crate::failure::{Failure, Outcome};
use heron_schedule::params::ParameterSet;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Says once, loudly, that a parameter set is insecure.
pub fn warn_if_insecure(params: &ParameterSet) {
    if params.is_insecure() {
        eprintln!(
            "warning: profile `{}` (N = 2^{}) is INSECURE: anyone can decrypt; for tests only",
            params.profile(),
            params.log_n()
        );
    }
}

/// Progress of a long piece of work: a bar with an estimate on a terminal, a plain line now and then elsewhere.
pub struct Progress {
    quiet: bool,
    terminal: bool,
    started: Instant,
    last: Option<Instant>,
    drawn: bool,
}

impl Progress {
    /// Starts the clock.
    pub fn new(quiet: bool) -> Progress {
        Progress {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            started: Instant::now(),
            last: None,
            drawn: false,
        }
    }

    /// Prints a line about a step that begins.
    pub fn note(&mut self, text: &str) {
        if !self.quiet {
            self.clear();
            eprintln!("{text}");
        }
    }

    /// Starts the clock again: estimates are about what comes now.
    pub fn restart(&mut self) {
        self.started = Instant::now();
        self.last = None;
    }

    /// `done` of `total`, doing `what`. Cheap to call often.
    pub fn step(&mut self, done: usize, total: usize, what: &str) {
        let pause = if self.terminal { 200 } else { 10_000 };
        let reference = self.last.unwrap_or(self.started);
        if self.quiet || reference.elapsed() < Duration::from_millis(pause) {
            return;
        }
        self.last = Some(Instant::now());
        let elapsed = self.started.elapsed().as_secs_f64();
        let left = elapsed * (total.saturating_sub(done)) as f64 / done.max(1) as f64;
        let line = format!("{done}/{total}  {what}  {elapsed:.0} s, about {left:.0} s left");
        if self.terminal {
            let filled = 24 * done / total.max(1);
            let bar: String = (0..24)
                .map(|i| if i < filled { '#' } else { '.' })
                .collect();
            eprint!("\r\x1b[K[{bar}] {line}");
            let _ = std::io::stderr().flush();
            self.drawn = true;
        } else {
            eprintln!("  {line}");
        }
    }

    fn clear(&mut self) {
        if self.drawn {
            eprint!("\r\x1b[K");
            self.drawn = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Largest resident memory of this process so far, in bytes; 0 where the system does not say.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:"));
    line.and_then(|l| l.split_whitespace().nth(1))
        .and_then(|n| n.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// The measured peak beside the estimate of the depth report, as runs print it.
pub fn peak_line(peak: u64, estimated: Option<u64>) -> String {
    let gib = |bytes: u64| bytes as f64 / 2f64.powi(30);
    let estimated = estimated.map(|e| format!(" (estimated {:.2})", gib(e)));
    format!(
        "peak memory {:.2} GiB{}",
        gib(peak),
        estimated.unwrap_or_default()
    )
}

/// The stack of a worker, that of a main thread: whole commands run on one.
const STACK_BYTES: usize = 8 << 20;

/// Does the work on a pool of so many worker threads; by default of as many as rayon would start. Work that is not on a pool pays two
/// context switches for each parallel loop: more than the loop, if there is one thread.
pub fn on_threads<T: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> Outcome<T> + Send,
) -> Outcome<T> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.unwrap_or(0))
        .stack_size(STACK_BYTES)
        .build()
        .map_err(|e| Failure::new("resource", format!("worker threads: {e}")))?;
    pool.install(work)
}
