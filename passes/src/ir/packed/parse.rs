//! Reads the full text of packed graphs, and what levelled graphs share with it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use super::layout::{Cell, Geometry, Layout};
use super::{
    is_compact, Elements, InputPort, Kernel, LinearOut, LinearTerm, MatrixId, PackedGraph,
    PackedOp, Part, PlaintextId, Plaintexts, Run,
};
use crate::ir::graph::ValueId;
use crate::ir::poly::parse::approximation;
use crate::ir::poly::Approximation;
use crate::ir::tensor::parse::input;
use crate::ir::text::{integers, matrix, numbers, parse, Cursor, ParseError, Reader, Rung};

/// Most slots of a ciphertext, and largest rotation.
const MOST_SLOTS: usize = 1 << 20;

/// What packed and levelled graphs have in common.
#[derive(Debug)]
pub(in crate::ir) struct Slots {
    pub(in crate::ir) geometry: Geometry,
    pub(in crate::ir) plaintexts: Plaintexts,
    pub(in crate::ir) ports: Vec<InputPort>,
    pub(in crate::ir) approximations: Vec<(usize, Approximation)>,
    pub(in crate::ir) origins: Vec<(String, ValueId)>,
    layouts: BTreeMap<String, Arc<Layout>>,
}

impl Slots {
    /// Before anything was read.
    pub(in crate::ir) fn new() -> Self {
        Slots {
            geometry: Geometry {
                slots: 1,
                batch: 1,
                tokens: 1,
                lanes: 1,
            },
            plaintexts: Plaintexts::default(),
            ports: Vec::new(),
            approximations: Vec::new(),
            origins: Vec::new(),
            layouts: BTreeMap::new(),
        }
    }

    /// All layouts read.
    pub(in crate::ir) fn layouts(&self) -> Vec<Arc<Layout>> {
        self.layouts.values().map(Arc::clone).collect()
    }

    /// `slots 64 = 2 windows x 4 tokens x 4 lanes x batch 2`, and the plaintexts from the constants.
    pub(in crate::ir) fn head(&mut self, r: &mut Reader<'_>) -> Result<(), ParseError> {
        let at = &mut r.at;
        at.keyword("slots")?;
        let start = *at;
        let slots = power_of_two(at)?;
        at.symbol("=")?;
        let windows = power_of_two(at)?;
        at.keyword("windows")?;
        at.keyword("x")?;
        let tokens = power_of_two(at)?;
        at.keyword("tokens")?;
        at.keyword("x")?;
        let lanes = power_of_two(at)?;
        at.keyword("lanes")?;
        at.keyword("x")?;
        at.keyword("batch")?;
        let batch = power_of_two(at)?;
        if windows * tokens != slots / lanes / batch || slots % (lanes * batch) != 0 {
            return Err(start.fail("as many slots as windows x tokens x lanes x batch"));
        }
        self.geometry = Geometry {
            slots,
            batch,
            tokens,
            lanes,
        };
        let mut number = 0;
        while let Some(at) = r.named(&format!("m{number}")) {
            self.plaintexts.insert_matrix(&matrix(at)?.into());
            number += 1;
        }
        number = 0;
        while let Some(mut at) = r.named(&format!("p{number}")) {
            let start = at;
            if at.try_keyword("elements") {
                let elements = elements(&mut at)?;
                if self.plaintexts.insert_runs(elements).0 != number {
                    return Err(start.fail("elements that no other constant takes"));
                }
                number += 1;
                continue;
            }
            at.keyword("vector")?;
            let count = power_of_two(&mut at)?;
            let vector = numbers(&mut at, count)?;
            let id = self.plaintexts.insert(vector);
            if id.0 != number || self.plaintexts.period(id) != count {
                return Err(start.fail("one period of a vector that no other constant holds"));
            }
            number += 1;
        }
        Ok(())
    }

    /// Ports, approximations and origins; `false` for other lines.
    pub(in crate::ir) fn line(
        &mut self,
        word: &str,
        r: &mut Reader<'_>,
    ) -> Result<bool, ParseError> {
        match word {
            "port" => {
                r.at.keyword("input")?;
                let (name, client) = input(r)?;
                r.at.parameter("factor")?;
                let factor = r.at.number("a factor")?;
                self.ports.push(InputPort {
                    name,
                    client,
                    factor,
                });
            }
            "approximation" => {
                let layer = r.at.integer("the number of a layer")?;
                self.approximations.push((layer, approximation(&mut r.at)?));
            }
            "origin" => {
                let name = r.at.name("the name of a value of the poly graph")?;
                r.at.symbol("=")?;
                self.origins.push((name, r.value()?));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `, layout @…`.
    pub(in crate::ir) fn layout(&mut self, r: &mut Reader<'_>) -> Result<Arc<Layout>, ParseError> {
        r.at.parameter("layout")?;
        let (name, mut at) = r.constant()?;
        if let Some(known) = self.layouts.get(&name) {
            return Ok(Arc::clone(known));
        }
        at.keyword("layout")?;
        let note = at.name("a remark on the layout")?;
        let ciphertexts = at.count("a number of ciphertexts")?;
        at.keyword("period")?;
        let start = at;
        let period = power_of_two(&mut at)?;
        if ciphertexts > crate::ir::text::MOST / period {
            return Err(start.fail("fewer slots in all"));
        }
        let mut cells: Vec<Vec<Cell>> = Vec::new();
        for _ in 0..ciphertexts {
            let elements = integers(&mut at, period)?.into_iter();
            cells.push(elements.map(|e| u32::try_from(e).ok()).collect());
        }
        let layout = Arc::new(Layout::new(cells, note));
        if layout.period() != period {
            return Err(start.fail(format!("the period {}", layout.period())));
        }
        self.layouts.insert(name, Arc::clone(&layout));
        Ok(layout)
    }

    /// A kernel after its first word, which is `word`; `None` for other words.
    pub(in crate::ir) fn kernel(
        &self,
        word: &str,
        r: &mut Reader<'_>,
    ) -> Result<Option<Kernel>, ParseError> {
        Ok(Some(match word {
            "input" => Kernel::Input {
                port: r.at.integer("the number of a port")?,
            },
            "linear" => {
                let (_, mut at) = r.constant()?;
                at.keyword("map")?;
                let mut outs = rows(&mut at, linear_out)?;
                let slots = self.geometry.virtual_slots();
                for out in &mut outs {
                    let out: &mut LinearOut = out;
                    for (_, terms) in Arc::make_mut(&mut out.giants) {
                        for term in terms {
                            let period = self.plaintexts.period(term.plaintext);
                            term.compact = is_compact(period, slots);
                        }
                    }
                }
                Kernel::Linear(Arc::new(outs))
            }
            "rotate" => {
                r.at.keyword("by")?;
                let mut steps = Vec::new();
                while r.at.peek_word() != "of" {
                    steps.push(step(&mut r.at)?);
                }
                Kernel::Rotate { steps }
            }
            "mul_sum" => {
                let (_, mut at) = r.constant()?;
                at.keyword("pairs")?;
                let pairs = rows(&mut at, |at| {
                    let mut all: Vec<(Part, Part)> = Vec::new();
                    while !at.try_symbol(";") {
                        let a = part(at)?;
                        at.symbol("*")?;
                        all.push((a, part(at)?));
                    }
                    Ok(all)
                })?;
                let factor = if r.at.try_keyword("times") {
                    r.at.integer("a small whole number")?
                } else {
                    1
                };
                let constant = plus(&mut r.at)?;
                Kernel::MulSum {
                    pairs,
                    factor,
                    constant,
                }
            }
            "combine" => {
                let mut coefficients = Vec::new();
                while !matches!(r.at.peek_word(), "of" | "plus") {
                    coefficients.push(r.at.number("a coefficient, `plus` or `of`")?);
                }
                let constant = plus(&mut r.at)?;
                Kernel::Combine {
                    coefficients,
                    constant,
                }
            }
            _ => return Ok(None),
        }))
    }
}

/// `, bound B`, if it comes next.
pub(in crate::ir) fn bound(at: &mut Cursor<'_>) -> Result<Option<f64>, ParseError> {
    if at.try_parameter("bound") {
        at.number("a bound").map(Some)
    } else {
        Ok(None)
    }
}

/// Operands after `of`; `each` reads what follows one.
pub(in crate::ir) fn operands(
    r: &mut Reader<'_>,
    mut each: impl FnMut(&mut Reader<'_>, ValueId) -> Result<(), ParseError>,
) -> Result<Vec<ValueId>, ParseError> {
    let mut all = Vec::new();
    if r.at.try_keyword("of") {
        loop {
            let v = r.value()?;
            each(r, v)?;
            all.push(v);
            let mut ahead = r.at;
            if !ahead.try_symbol(",") || !ahead.try_symbol("%") {
                break;
            }
            r.at.symbol(",")?;
        }
    }
    Ok(all)
}

fn power_of_two(at: &mut Cursor<'_>) -> Result<usize, ParseError> {
    const WHAT: &str = "a power of two up to 2^20";
    let start = *at;
    let n: usize = at.integer(WHAT)?;
    if n.is_power_of_two() && n <= MOST_SLOTS {
        Ok(n)
    } else {
        Err(start.fail(WHAT))
    }
}

fn step(at: &mut Cursor<'_>) -> Result<i64, ParseError> {
    const WHAT: &str = "a rotation below 2^20";
    let start = *at;
    let step: i64 = at.integer(WHAT)?;
    if step.unsigned_abs() < MOST_SLOTS as u64 {
        Ok(step)
    } else {
        Err(start.fail(WHAT))
    }
}

fn plus(at: &mut Cursor<'_>) -> Result<f64, ParseError> {
    if at.try_keyword("plus") {
        at.number("a constant")
    } else {
        Ok(0.0)
    }
}

/// A count, and as many rows.
fn rows<T>(
    at: &mut Cursor<'_>,
    mut row: impl FnMut(&mut Cursor<'_>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    let count = at.count("a number of ciphertexts")?;
    let mut all = Vec::with_capacity(count.min(at.left()));
    for _ in 0..count {
        all.push(row(at)?);
    }
    Ok(all)
}

fn part(at: &mut Cursor<'_>) -> Result<Part, ParseError> {
    let operand = at.integer("the number of an operand, or `;`")?;
    at.symbol(":")?;
    Ok((operand, at.integer("the number of a ciphertext")?))
}

fn plaintext(at: &mut Cursor<'_>) -> Result<PlaintextId, ParseError> {
    at.symbol("p")?;
    at.integer("the number of a plaintext").map(PlaintextId)
}

/// A period, and runs of slots with elements up to `;`.
fn elements(at: &mut Cursor<'_>) -> Result<Elements, ParseError> {
    let period = power_of_two(at)?;
    let mut runs: Vec<Run> = Vec::new();
    while !at.try_symbol(";") {
        let start = *at;
        let run = Run {
            slot: at.integer("a slot, or `;`")?,
            count: at.integer("a number of slots")?,
            element: at.integer("an element")?,
            step: at.integer("a step")?,
        };
        let end = u64::from(run.slot) + u64::from(run.count);
        let last = i64::from(run.element) + i64::from(run.step) * (i64::from(run.count) - 1);
        if run.count == 0 || end > period as u64 || u32::try_from(last).is_err() {
            return Err(start.fail("slots below the period, and elements from 0"));
        }
        runs.push(run);
    }
    Ok(Elements { period, runs })
}

fn linear_out(at: &mut Cursor<'_>) -> Result<LinearOut, ParseError> {
    let mut out = LinearOut::default();
    let mut giants = Vec::new();
    while at.try_symbol("[") {
        let mut terms = Vec::new();
        while !at.try_symbol("]") {
            let source = at.integer("the number of a ciphertext, or `]`")?;
            at.symbol("<<")?;
            let baby = step(at)?;
            at.symbol("*")?;
            terms.push(LinearTerm {
                source,
                baby,
                plaintext: plaintext(at)?,
                compact: false,
            });
        }
        at.symbol("<<")?;
        giants.push((step(at)?, terms));
    }
    out.giants = Arc::new(giants);
    if at.try_keyword("of") {
        at.symbol("m")?;
        out.matrix = Some(MatrixId(at.integer("the number of a matrix")?));
    }
    if at.try_symbol("+") {
        out.bias = Some(plaintext(at)?);
    }
    at.symbol(";")?;
    Ok(out)
}

struct Packed(Slots);

impl Rung for Packed {
    type Op = PackedOp;
    const STAGE: &'static str = "packed";

    fn head(&mut self, r: &mut Reader<'_>) -> Result<(), ParseError> {
        self.0.head(r)
    }

    fn line(&mut self, word: &str, r: &mut Reader<'_>) -> Result<bool, ParseError> {
        self.0.line(word, r)
    }

    fn op(&mut self, r: &mut Reader<'_>) -> Result<(PackedOp, Vec<ValueId>), ParseError> {
        const KINDS: &str = "an operation: input, linear, rotate, mul_sum or combine";
        r.at.skip();
        let start = r.at;
        let word = r.at.word(KINDS)?;
        let kernel = self.0.kernel(word, r)?.ok_or_else(|| start.fail(KINDS))?;
        let operands = operands(r, |_, _| Ok(()))?;
        let op = PackedOp {
            kernel,
            layout: self.0.layout(r)?,
            bound: bound(&mut r.at)?,
        };
        Ok((op, operands))
    }
}

impl FromStr for PackedGraph {
    type Err = ParseError;

    /// Reads what [`crate::pass::Ir::full`] writes. The graph is not verified.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut rung = Packed(Slots::new());
        let (graph, output_factors) = parse(text, &mut rung)?;
        let slots = rung.0;
        Ok(PackedGraph {
            graph,
            geometry: slots.geometry,
            layouts: slots.layouts(),
            plaintexts: slots.plaintexts,
            ports: slots.ports,
            output_factors,
            approximations: slots.approximations,
            origins: slots.origins,
        })
    }
}
