//! Passes by name, run on the text of a graph: what `heron opt` does.
//!
//! A pass reads and writes full texts ([`crate::ir::text`]), so that any defect shrinks to a file. Passes that need inputs of the model
//! (calibrate-ranges, annotate-ranges) are not here: their results, ranges, are part of the text.

use crate::assign_levels::{AssignLevels, Placing};
use crate::budget::Budget;
use crate::cost::CostTable;
use crate::defer_normalisation::DeferNormalisation;
use crate::fold_centring::FoldCentring;
use crate::fold_linear::FoldLinear;
use crate::ir::levelled::LevelledGraph;
use crate::ir::packed::PackedGraph;
use crate::ir::poly::PolyGraph;
use crate::ir::tensor::TensorGraph;
use crate::ir::text::{Cursor, ParseError};
use crate::last_position::LastPosition;
use crate::lower_packed::LowerPacked;
use crate::normalise::Normalise;
use crate::pass::{Ir, Lower, Manager, Pass, PassError};
use crate::share_equal::ShareEqual;
use crate::sites::SiteRanges;
use crate::split_rotary::SplitRotary;
use crate::substitute_polynomials::SubstitutePolynomials;

/// What some passes need besides the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Slots of a ciphertext; a power of two up to 2^20.
    pub slots: usize,
    /// Inputs side by side, or `None` to choose.
    pub batch: Option<usize>,
    /// log2 of the ring degree, for prices.
    pub log_n: u32,
    /// Highest usable level.
    pub top: u32,
    /// The default errors of approximations are divided by this.
    pub tighten: f64,
}

/// What happened to a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Rung of the result.
    pub stage: &'static str,
    /// Full text of the result.
    pub text: String,
    /// Remarks of the pass.
    pub notes: Vec<String>,
}

/// Why no pass ran, or what it said.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptError {
    /// There is no such pass.
    #[error("there is no pass `{found}`; there are {known}")]
    Unknown {
        /// The name that was given.
        found: String,
        /// All names.
        known: String,
    },
    /// The text is of another rung.
    #[error(
        "{pass} reads a {expected} graph, the text is a {found} graph; passes for it: {remedy}"
    )]
    Rung {
        /// The pass.
        pass: &'static str,
        /// What it reads.
        expected: &'static str,
        /// First word of the text.
        found: String,
        /// Passes that read it.
        remedy: String,
    },
    /// The text cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The graph is not valid before the pass.
    #[error("the {stage} graph is not valid: {reason}; correct the text")]
    Invalid {
        /// Its rung.
        stage: &'static str,
        /// What the verifier said.
        reason: String,
    },
    /// The pass refused the graph, or left an invalid one.
    #[error(transparent)]
    Pass(#[from] PassError),
}

/// A pass that runs on text.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Rung it reads.
    pub from: &'static str,
    /// Rung it writes.
    pub to: &'static str,
    /// What it does, in one line, with the settings it needs.
    pub what: &'static str,
    run: fn(&str, &Settings) -> Result<Outcome, OptError>,
}

/// All passes that run on text, in the order of the pipeline.
pub const PASSES: [Entry; 11] = [
    Entry {
        name: "verify",
        from: "any",
        to: "any",
        what: "changes nothing: reads, verifies and prints",
        run: |text, _| match stage(text) {
            TensorGraph::STAGE => same::<TensorGraph>(text),
            PackedGraph::STAGE => same::<PackedGraph>(text),
            LevelledGraph::STAGE => same::<LevelledGraph>(text),
            _ => same::<PolyGraph>(text),
        },
    },
    Entry {
        name: LastPosition::NAME,
        from: TensorGraph::STAGE,
        to: TensorGraph::STAGE,
        what: "outputs keep their last position only, and so does what only they read",
        run: |text, _| change(&LastPosition, text),
    },
    Entry {
        name: <SubstitutePolynomials as Lower>::NAME,
        from: TensorGraph::STAGE,
        to: PolyGraph::STAGE,
        what:
            "functions become polynomials and iterations on their `argument in` ranges (--tighten)",
        run: |text, settings| {
            let graph: TensorGraph = read(text)?;
            let pass = SubstitutePolynomials {
                sites: &SiteRanges::of(&graph),
                budget: Budget::default().tightened(settings.tighten),
            };
            lower(&pass, &graph)
        },
    },
    Entry {
        name: ShareEqual::NAME,
        from: PolyGraph::STAGE,
        to: PolyGraph::STAGE,
        what: "values computed twice are computed once",
        run: |text, _| change(&ShareEqual, text),
    },
    Entry {
        name: DeferNormalisation::NAME,
        from: PolyGraph::STAGE,
        to: PolyGraph::STAGE,
        what: "factors per row move past the product with V",
        run: |text, _| change(&DeferNormalisation, text),
    },
    Entry {
        name: FoldCentring::NAME,
        from: PolyGraph::STAGE,
        to: PolyGraph::STAGE,
        what: "centring of LayerNorm goes into the writers of the residual stream",
        run: |text, _| change(&FoldCentring, text),
    },
    Entry {
        name: FoldLinear::NAME,
        from: PolyGraph::STAGE,
        to: PolyGraph::STAGE,
        what: "linear maps and constant factors are composed",
        run: |text, _| change(&FoldLinear, text),
    },
    Entry {
        name: SplitRotary::NAME,
        from: PolyGraph::STAGE,
        to: PolyGraph::STAGE,
        what: "factors per token of wide rotary projections go into maps of their own",
        run: |text, _| change(&SplitRotary::default(), text),
    },
    Entry {
        name: Normalise::NAME,
        from: PolyGraph::STAGE,
        to: PolyGraph::STAGE,
        what: "values are scaled into [-1, 1] by their ranges",
        run: |text, _| change(&Normalise, text),
    },
    Entry {
        name: LowerPacked::NAME,
        from: PolyGraph::STAGE,
        to: PackedGraph::STAGE,
        what: "layouts are chosen, operations become kernels on ciphertexts (--slots, --batch)",
        run: |text, settings| {
            let pass = LowerPacked {
                slots: settings.slots,
                batch: settings.batch,
            };
            lower(&pass, &read(text)?)
        },
    },
    Entry {
        name: AssignLevels::NAME,
        from: PackedGraph::STAGE,
        to: LevelledGraph::STAGE,
        what: "bootstraps are placed, every value gets its level (--log-n, --top)",
        run: |text, settings| {
            let pass = AssignLevels {
                costs: CostTable::bootstrapped(settings.log_n, settings.top),
                placing: Placing::Best,
            };
            lower(&pass, &read(text)?)
        },
    },
];

/// The first word of a text: its rung.
pub fn stage(text: &str) -> &str {
    Cursor::new(text).peek_word()
}

fn read<G: Ir + std::str::FromStr<Err = ParseError>>(text: &str) -> Result<G, OptError> {
    let graph: G = text.parse()?;
    graph.verify().map_err(|reason| OptError::Invalid {
        stage: G::STAGE,
        reason,
    })?;
    Ok(graph)
}

fn same<G: Ir + std::str::FromStr<Err = ParseError>>(text: &str) -> Result<Outcome, OptError> {
    Ok(Outcome {
        stage: G::STAGE,
        text: read::<G>(text)?.full(),
        notes: Vec::new(),
    })
}

fn change<P: Pass>(pass: &P, text: &str) -> Result<Outcome, OptError>
where
    P::Ir: std::str::FromStr<Err = ParseError>,
{
    let mut graph: P::Ir = read(text)?;
    let mut manager = Manager::new();
    manager.run(pass, &mut graph)?;
    Ok(Outcome {
        stage: P::Ir::STAGE,
        text: graph.full(),
        notes: manager.cx.notes,
    })
}

fn lower<L: Lower>(pass: &L, graph: &L::From) -> Result<Outcome, OptError> {
    let mut manager = Manager::new();
    let text = manager.lower(pass, graph)?.full();
    Ok(Outcome {
        stage: L::To::STAGE,
        text,
        notes: manager.cx.notes,
    })
}

fn names(keep: impl Fn(&Entry) -> bool) -> String {
    let all: Vec<&str> = PASSES.iter().filter(|e| keep(e)).map(|e| e.name).collect();
    all.join(", ")
}

/// Runs the pass called `name` on the full text of a graph.
pub fn run(name: &str, text: &str, settings: &Settings) -> Result<Outcome, OptError> {
    let Some(entry) = PASSES.iter().find(|e| e.name == name) else {
        return Err(OptError::Unknown {
            found: name.into(),
            known: names(|_| true),
        });
    };
    let found = stage(text);
    let reads = |e: &Entry| e.from == found || e.from == "any";
    // A text of no rung at all is the parser's to refuse.
    if !reads(entry) && PASSES.iter().any(|e| e.from == found || e.to == found) {
        return Err(OptError::Rung {
            pass: entry.name,
            expected: entry.from,
            found: found.into(),
            remedy: names(reads),
        });
    }
    (entry.run)(text, settings)
}
