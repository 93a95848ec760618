//! Reads the full text of levelled graphs.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::{LevelledGraph, LevelledKernel, LevelledOp, Placement, PolicyCost};
use crate::cost::prices::Target;
use crate::cost::{BootstrapKind, ChainCost, CostTable};
use crate::ir::graph::ValueId;
use crate::ir::packed::parse::{bound, operands, Slots};
use crate::ir::text::{parse, Cursor, ParseError, Reader, Rung};

/// Highest level and ring degree (its logarithm) that are read.
const MOST: (u32, u32) = (200, 20);

struct Levelled {
    slots: Slots,
    costs: CostTable,
    placement: Placement,
    /// Levels of the values so far, to check the operands'.
    levels: BTreeMap<ValueId, u32>,
}

fn level(r: &mut Reader<'_>, most: u32) -> Result<u32, ParseError> {
    r.at.symbol("@")?;
    let start = r.at;
    let level = r.at.integer("a level")?;
    if level > most {
        return Err(start.fail(format!("a level of at most {most}")));
    }
    Ok(level)
}

impl Rung for Levelled {
    type Op = LevelledOp;
    const STAGE: &'static str = "levelled";

    fn head(&mut self, r: &mut Reader<'_>) -> Result<(), ParseError> {
        let mut bounded = |word: &str, most: u32| {
            r.at.keyword(word)?;
            if word == "ring" {
                r.at.symbol("2^")?;
            }
            let start = r.at;
            let n: u32 = r.at.integer("a whole number")?;
            if n > most {
                return Err(start.fail(format!("at most {most}")));
            }
            Ok(n)
        };
        let (top, log_n) = (bounded("levels", MOST.0)?, bounded("ring", MOST.1)?);
        self.costs = CostTable::bootstrapped(log_n, top);
        if r.at.peek_word() == "step" {
            let mut bounded = |word: &str, most: usize| {
                r.at.keyword(word)?;
                let start = r.at;
                let n: usize = r.at.integer("a whole number")?;
                if n == 0 || n > most {
                    return Err(start.fail(format!("1 to {most}")));
                }
                Ok(n)
            };
            self.costs.chain = ChainCost {
                one_limb_levels: bounded("step", 60)? < 30,
                special: bounded("special", 64)?,
                digit: bounded("digit", 64)?,
                bootstrap_from: None,
            };
            if r.at.peek_word() == "bootstrap" {
                r.at.keyword("bootstrap")?;
                let start = r.at;
                let level: u32 = r.at.integer("a level")?;
                if level > top {
                    return Err(start.fail(format!("at most {top}, the highest level")));
                }
                self.costs.chain.bootstrap_from = Some(level);
            }
        }
        if r.at.peek_word() == "target" {
            r.at.keyword("target")?;
            r.at.keyword(Target::Cuda.name())?;
            self.costs.target = Target::Cuda;
        }
        self.slots.head(r)
    }

    fn line(&mut self, word: &str, r: &mut Reader<'_>) -> Result<bool, ParseError> {
        let count = |at: &mut Cursor<'_>, word: &str| {
            at.parameter(word)?;
            at.integer("a number of bootstraps")
        };
        let seconds = |at: &mut Cursor<'_>, word: &str| {
            at.parameter(word)?;
            at.number("a number of seconds")
        };
        let at = &mut r.at;
        match word {
            "placement" => {
                let method = at.name("the name of a method")?;
                let bootstraps = count(at, "bootstraps")?;
                at.symbol(",")?;
                at.keyword("at")?;
                at.keyword("least")?;
                let lower_bound_bootstraps = at.integer("a number of bootstraps")?;
                let cost_seconds = seconds(at, "cost")?;
                at.symbol(",")?;
                at.keyword("at")?;
                at.keyword("least")?;
                let policies = std::mem::take(&mut self.placement.policies);
                self.placement = Placement {
                    method,
                    bootstraps,
                    lower_bound_bootstraps,
                    cost_seconds,
                    lower_bound_seconds: at.number("a number of seconds")?,
                    policies,
                };
            }
            "policy" => self.placement.policies.push(PolicyCost {
                name: at.name("the name of a policy")?,
                bootstraps: count(at, "bootstraps")?,
                cost_seconds: seconds(at, "cost")?,
            }),
            _ => return self.slots.line(word, r),
        }
        Ok(true)
    }

    fn op(&mut self, r: &mut Reader<'_>) -> Result<(LevelledOp, Vec<ValueId>), ParseError> {
        const KINDS: &str = "an operation: input, linear, rotate, mul_sum, combine or bootstrap";
        r.at.skip();
        let start = r.at;
        let word = r.at.word(KINDS)?;
        let kernel = if word == "bootstrap" {
            let start = r.at;
            let kind = match r.at.word("`full`, `pairs` or `sparse`")? {
                "full" => BootstrapKind::Full,
                "pairs" => BootstrapKind::ComplexPair,
                "sparse" => {
                    r.at.symbol("2^")?;
                    let start = r.at;
                    let log_slots = r.at.integer("the logarithm of a period")?;
                    if log_slots > MOST.1 {
                        return Err(start.fail(format!("at most {}", MOST.1)));
                    }
                    BootstrapKind::Sparse { log_slots }
                }
                _ => return Err(start.fail("`full`, `pairs` or `sparse`")),
            };
            LevelledKernel::Bootstrap { kind }
        } else {
            let kernel = self.slots.kernel(word, r)?;
            LevelledKernel::Packed(kernel.ok_or_else(|| start.fail(KINDS))?)
        };
        let top = self.costs.top;
        let levels = &self.levels;
        let operands = operands(r, |r, v| {
            let start = r.at;
            let read = level(r, top)?;
            match levels.get(&v) {
                Some(made) if *made != read => {
                    Err(start.fail(format!("`@{made}`, the level at which the operand is made")))
                }
                _ => Ok(()),
            }
        })?;
        r.at.symbol("->")?;
        let level = level(r, top)?;
        let op = LevelledOp {
            kernel,
            level,
            layout: self.slots.layout(r)?,
            bound: bound(&mut r.at)?,
        };
        Ok((op, operands))
    }

    fn made(&mut self, v: ValueId, op: &LevelledOp) {
        self.levels.insert(v, op.level);
    }
}

impl FromStr for LevelledGraph {
    type Err = ParseError;

    /// Reads what [`crate::pass::Ir::full`] writes. The graph is not verified.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut rung = Levelled {
            slots: Slots::new(),
            costs: CostTable::bootstrapped(0, 0),
            placement: Placement {
                method: String::new(),
                cost_seconds: 0.0,
                lower_bound_seconds: 0.0,
                bootstraps: 0,
                lower_bound_bootstraps: 0,
                policies: Vec::new(),
            },
            levels: BTreeMap::new(),
        };
        let (graph, output_factors) = parse(text, &mut rung)?;
        Ok(LevelledGraph {
            graph,
            geometry: rung.slots.geometry,
            plaintexts: rung.slots.plaintexts,
            ports: rung.slots.ports,
            output_factors,
            approximations: rung.slots.approximations,
            origins: rung.slots.origins,
            costs: rung.costs,
            placement: rung.placement,
        })
    }
}
