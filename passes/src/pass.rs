//! What a pass is, and the manager that runs passes.
//!
//! A [`Pass`] changes a graph in place; a [`Lower`] makes the graph of the next rung. The [`Manager`] does the chores for all
//! of them: it verifies the graph afterwards and names the guilty pass, hands the text of every stage to a sink
//! (`--dump-ir`), and takes timings. Nothing here touches files.

use std::time::{Duration, Instant};

use thiserror::Error;

/// A graph of the ladder: it prints and verifies itself.
pub trait Ir {
    /// Name of the rung: `tensor`, `poly`, `packed`, `levelled`.
    const STAGE: &'static str;
    /// The text of the graph for reading, numbers rounded; the same on every machine.
    fn print(&self) -> String;
    /// The text of the graph that reads back to the same graph: numbers exact, constants at the end (see [`crate::ir::text`]).
    fn full(&self) -> String {
        self.print()
    }
    /// Makes the order of creation of the values that of the text, so that a pass does the same to this graph and to the one read back.
    fn renumber(&mut self) {}
    /// Checks what this rung promises; the error names the value and says what is wrong with it.
    fn verify(&self) -> Result<(), String>;
}

/// Whether a pass changed its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The graph is another one now.
    Yes,
    /// The graph is as it was.
    No,
}

impl Changed {
    /// `Yes` if `changed`.
    pub fn from_bool(changed: bool) -> Self {
        if changed {
            Changed::Yes
        } else {
            Changed::No
        }
    }
}

/// What passes may read and leave behind.
#[derive(Clone, Debug, Default)]
pub struct PassCx {
    /// Remarks for the report, in the order they were made; each starts with the name of the pass.
    pub notes: Vec<String>,
}

/// Why a pass refused a graph.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum PassError {
    /// The graph cannot be compiled as it is.
    #[error("{pass}: value `%{value}`: {reason}\nhint: {remedy}")]
    Refused {
        /// Name of the pass.
        pass: &'static str,
        /// Name of the value it stopped at.
        value: String,
        /// What was expected and what was found.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A pass left an invalid graph behind: a defect of the pass.
    #[error("after pass `{pass}` the {stage} graph is not valid: {reason}\nhint: this is a defect of the pass, please report it with the graph (--dump-ir)")]
    Invalid {
        /// Name of the guilty pass.
        pass: &'static str,
        /// Rung of the graph.
        stage: &'static str,
        /// What the verifier said.
        reason: String,
    },
    /// What the graph needs is more than there is (slots, levels, memory).
    #[error("{pass}: {what}: {needed} needed, {available} available\nhint: {remedy}")]
    Resource {
        /// Name of the pass.
        pass: &'static str,
        /// What is short.
        what: String,
        /// How much the graph needs.
        needed: String,
        /// How much there is.
        available: String,
        /// What to do.
        remedy: String,
    },
}

/// A pass over one kind of graph.
pub trait Pass {
    /// The graph it works on.
    type Ir: Ir;
    /// Name in files, snapshots, flags and timings, for instance `defer-normalisation`.
    const NAME: &'static str;
    /// Whether the graph cannot be compiled without it.
    const NEEDED: bool;
    /// Changes the graph.
    fn run(&self, graph: &mut Self::Ir, cx: &mut PassCx) -> Result<Changed, PassError>;
}

/// A pass from one rung to the next.
pub trait Lower {
    /// The graph it reads.
    type From: Ir;
    /// The graph it makes.
    type To: Ir;
    /// Name in files, snapshots, flags and timings, for instance `lower-packed`.
    const NAME: &'static str;
    /// Makes the graph of the next rung.
    fn lower(&self, graph: &Self::From, cx: &mut PassCx) -> Result<Self::To, PassError>;
}

/// One pass as it ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Name of the pass.
    pub pass: &'static str,
    /// Time of the pass itself, without verification and printing.
    pub time: Duration,
    /// Whether the graph changed (always `Yes` for a lowering).
    pub changed: Changed,
}

/// One stage as handed to the sink.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// Counts the stages from 0.
    pub number: usize,
    /// Pass that made it.
    pub pass: &'a str,
    /// Rung of the graph, used as file extension.
    pub stage: &'a str,
    /// Printed graph, in full.
    pub text: &'a str,
}

/// Receives the text of every stage.
pub type Sink<'a> = Box<dyn FnMut(Stage<'_>) + 'a>;

/// Runs passes: verifies after each, dumps, takes timings.
#[derive(Default)]
pub struct Manager<'a> {
    /// What the passes share.
    pub cx: PassCx,
    /// The passes as they ran.
    pub timings: Vec<Timing>,
    sink: Option<Sink<'a>>,
    stages: usize,
    skip: Vec<String>,
}

impl<'a> Manager<'a> {
    /// A manager that dumps nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands the text of every stage to `sink`.
    pub fn with_sink(mut self, sink: Sink<'a>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Leaves the named passes out, those that are [`Pass::NEEDED`] excepted.
    pub fn skipping(mut self, names: &[String]) -> Self {
        self.skip = names.to_vec();
        self
    }

    /// Runs a pass and verifies its graph.
    pub fn run<P: Pass>(&mut self, pass: &P, graph: &mut P::Ir) -> Result<Changed, PassError> {
        if !P::NEEDED && self.skip.iter().any(|s| s == P::NAME) {
            return Ok(Changed::No);
        }
        let start = Instant::now();
        let changed = pass.run(graph, &mut self.cx)?;
        graph.renumber();
        self.finish(P::NAME, start.elapsed(), changed, graph)?;
        Ok(changed)
    }

    /// Runs a lowering and verifies what it made.
    pub fn lower<L: Lower>(&mut self, pass: &L, graph: &L::From) -> Result<L::To, PassError> {
        let start = Instant::now();
        let mut to = pass.lower(graph, &mut self.cx)?;
        to.renumber();
        self.finish(L::NAME, start.elapsed(), Changed::Yes, &to)?;
        Ok(to)
    }

    /// Records a stage made elsewhere (by the front end): verified and dumped like the others.
    pub fn enter<I: Ir>(&mut self, name: &'static str, graph: &I) -> Result<(), PassError> {
        self.finish(name, Duration::ZERO, Changed::Yes, graph)
    }

    fn finish<I: Ir>(
        &mut self,
        pass: &'static str,
        time: Duration,
        changed: Changed,
        graph: &I,
    ) -> Result<(), PassError> {
        self.timings.push(Timing {
            pass,
            time,
            changed,
        });
        if let Some(sink) = &mut self.sink {
            let text = graph.full();
            sink(Stage {
                number: self.stages,
                pass,
                stage: I::STAGE,
                text: &text,
            });
        }
        self.stages += 1;
        graph.verify().map_err(|reason| PassError::Invalid {
            pass,
            stage: I::STAGE,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number(i32);
    impl Ir for Number {
        const STAGE: &'static str = "number";
        fn print(&self) -> String {
            self.0.to_string()
        }
        fn verify(&self) -> Result<(), String> {
            if self.0 < 3 {
                Ok(())
            } else {
                Err(format!("{} is not below 3", self.0))
            }
        }
    }
    struct Increment;
    impl Pass for Increment {
        type Ir = Number;
        const NAME: &'static str = "increment";
        const NEEDED: bool = false;
        fn run(&self, graph: &mut Number, _: &mut PassCx) -> Result<Changed, PassError> {
            graph.0 += 1;
            Ok(Changed::Yes)
        }
    }

    #[test]
    fn manager_names_the_guilty_pass_and_dumps_what_it_left() {
        let mut seen = Vec::new();
        let mut graph = Number(1);
        let mut manager = Manager::new().with_sink(Box::new(|s: Stage| {
            seen.push(format!("{} {} {} {}", s.number, s.pass, s.stage, s.text))
        }));
        assert_eq!(manager.run(&Increment, &mut graph), Ok(Changed::Yes));
        let error = manager
            .run(&Increment, &mut graph)
            .map_err(|e| e.to_string());
        assert!(error.is_err_and(|e| e.contains("`increment`") && e.contains("3 is not below 3")));
        drop(manager);
        assert_eq!(seen, ["0 increment number 2", "1 increment number 3"]);
    }

    #[test]
    fn manager_skips_only_passes_that_are_not_needed() {
        let mut graph = Number(0);
        let mut manager = Manager::new().skipping(&["increment".to_string()]);
        assert_eq!(manager.run(&Increment, &mut graph), Ok(Changed::No));
        assert_eq!(graph.0, 0);
    }
}
