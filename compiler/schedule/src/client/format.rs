//! The client's program in the file: tables are plaintext vectors of the weights section, everything else is in the messages.

use super::function::{FUNCTIONS, REDUCTIONS};
use super::{ClientGraph, Function, Operation, Source, Step, MAX_ELEMENTS};
use crate::proto;
use crate::weights::{Weights, WeightsBuilder};
use std::collections::BTreeSet;
use std::sync::Arc;

/// More steps than any model needs.
const MAX_STEPS: usize = 1 << 16;

impl ClientGraph {
    /// The messages; tables go into `weights`.
    pub fn to_proto(&self, weights: &mut WeightsBuilder) -> proto::ClientGraph {
        let sources = self.sources.iter().map(|s| proto::ClientSource {
            name: s.name.clone(),
            shape: s.shape.iter().map(|&d| d as u32).collect(),
            integer: s.integer,
        });
        let steps = self.steps.iter().map(|s| {
            let mut step = proto::ClientStep {
                operand: s.operands.clone(),
                ..Default::default()
            };
            let (name, number) = match &s.operation {
                Operation::Source(i) => ("source", vec![*i as u64]),
                Operation::Arrange {
                    element,
                    factor,
                    summand,
                } => {
                    step.element = element.clone();
                    step.factor = factor.clone();
                    step.summand = summand.clone();
                    ("arrange", vec![])
                }
                Operation::Lookup { table, cols } => {
                    let exact = table.iter().all(|&x| f64::from(x as f32) == x);
                    (
                        "lookup",
                        vec![u64::from(weights.push(table, exact)), *cols as u64],
                    )
                }
                Operation::Apply(f) => {
                    let number = FUNCTIONS
                        .iter()
                        .position(|g| g == f)
                        .unwrap_or(FUNCTIONS.len());
                    ("apply", vec![number as u64])
                }
                Operation::Reduce { how, length } => {
                    let number = REDUCTIONS
                        .iter()
                        .position(|g| g == how)
                        .unwrap_or(REDUCTIONS.len());
                    ("reduce", vec![number as u64, *length as u64])
                }
                Operation::CumulativeSum { length } => ("cumulative_sum", vec![*length as u64]),
            };
            step.operation = name.into();
            step.number = number;
            step
        });
        let results = self
            .results
            .iter()
            .map(|(port, value)| proto::ClientResult {
                port: port.clone(),
                value: *value,
            });
        proto::ClientGraph {
            sources: sources.collect(),
            steps: steps.collect(),
            results: results.collect(),
        }
    }

    /// Reads and checks the messages: every step reads earlier ones, sizes agree, results exist. `None` in the program is the empty graph.
    pub fn read(program: &proto::Program, weights: &Weights) -> Result<ClientGraph, String> {
        let Some(p) = &program.client else {
            return Ok(ClientGraph::default());
        };
        if p.steps.len() > MAX_STEPS {
            return Err(format!(
                "{} client steps; at most {MAX_STEPS}",
                p.steps.len()
            ));
        }
        let mut graph = ClientGraph::default();
        for s in &p.sources {
            graph.sources.push(Source {
                name: s.name.clone(),
                shape: s.shape.iter().map(|&d| d as usize).collect(),
                integer: s.integer,
            });
        }
        let mut sizes: Vec<usize> = Vec::new();
        for (i, s) in p.steps.iter().enumerate() {
            let bad = |reason: &str| format!("client step {i} ({}): {reason}", s.operation);
            let number = |k: usize| -> Result<usize, String> {
                s.number
                    .get(k)
                    .and_then(|&n| usize::try_from(n).ok())
                    .ok_or_else(|| bad("a number is missing"))
            };
            let mut given = Vec::new();
            for &o in &s.operand {
                given.push(
                    *sizes
                        .get(o as usize)
                        .ok_or_else(|| bad("reads a step that is not before it"))?,
                );
            }
            let one = || match given[..] {
                [n] => Ok(n),
                _ => Err(bad("one operand expected")),
            };
            let (operation, size) = match s.operation.as_str() {
                "source" => {
                    let k = number(0)?;
                    let source = graph.sources.get(k).ok_or_else(|| bad("no such source"))?;
                    let size = source
                        .shape
                        .iter()
                        .try_fold(1usize, |n, &d| n.checked_mul(d));
                    (Operation::Source(k), size.ok_or_else(|| bad("too large"))?)
                }
                "arrange" => {
                    let joined: usize = given.iter().sum();
                    let size = if s.element.is_empty() {
                        joined
                    } else {
                        s.element.len()
                    };
                    let fits = |n: usize| n < 2 || n == size;
                    let inside = |&e: &i32| e < 0 || (e as usize) < joined;
                    if !fits(s.factor.len())
                        || !fits(s.summand.len())
                        || !s.element.iter().all(inside)
                    {
                        return Err(bad(
                            "elements, factors and summands do not fit the operands",
                        ));
                    }
                    let operation = Operation::Arrange {
                        element: s.element.clone(),
                        factor: s.factor.clone(),
                        summand: s.summand.clone(),
                    };
                    (operation, size)
                }
                "lookup" => {
                    let index = u32::try_from(number(0)?).map_err(|_| bad("no such table"))?;
                    let table = weights
                        .vector(&program.plaintexts, index)
                        .map_err(|e| e.to_string())?;
                    let cols = number(1)?;
                    if cols == 0 || table.len() % cols != 0 {
                        return Err(bad("rows that do not fill the table"));
                    }
                    let size = one()?.checked_mul(cols).ok_or_else(|| bad("too large"))?;
                    (
                        Operation::Lookup {
                            table: Arc::new(table),
                            cols,
                        },
                        size,
                    )
                }
                "apply" => {
                    let f: Function = FUNCTIONS
                        .get(number(0)?)
                        .copied()
                        .ok_or_else(|| bad("no such function"))?;
                    let size = given.first().copied().unwrap_or(0);
                    if given.len() != f.arguments() || given.iter().any(|&n| n != size) {
                        return Err(bad(
                            "operands of one size expected, as many as the function takes",
                        ));
                    }
                    (Operation::Apply(f), size)
                }
                "reduce" | "cumulative_sum" => {
                    let sum = s.operation == "cumulative_sum";
                    let (n, length) = (one()?, number(usize::from(!sum))?);
                    if length == 0 || n % length != 0 {
                        return Err(bad("groups that do not fill the operand"));
                    }
                    if sum {
                        (Operation::CumulativeSum { length }, n)
                    } else {
                        let how = REDUCTIONS
                            .get(number(0)?)
                            .copied()
                            .ok_or_else(|| bad("no such reduction"))?;
                        (Operation::Reduce { how, length }, n / length)
                    }
                }
                _ => return Err(bad("no such operation")),
            };
            if size == 0 || size > MAX_ELEMENTS {
                return Err(bad("1 to 2^26 elements expected"));
            }
            sizes.push(size);
            graph.steps.push(Step {
                operation,
                operands: s.operand.clone(),
            });
        }
        let mut fed = BTreeSet::new();
        for r in &p.results {
            let port = program.inputs.iter().find(|port| port.name == r.port);
            let (Some(port), Some(&size)) = (port, sizes.get(r.value as usize)) else {
                return Err(format!(
                    "the client's result for `{}` has no port or no step",
                    r.port
                ));
            };
            if port.embedding.is_some()
                || crate::verify::port_elements(port) != size as u64
                || !fed.insert(&r.port)
            {
                return Err(format!(
                    "the client's result for `{}` does not fit its port",
                    r.port
                ));
            }
            graph.results.push((r.port.clone(), r.value));
        }
        Ok(graph)
    }
}

/// What the user gives for one input: name and shape, without the batch axis. Ports that the client computes are not among them.
pub fn user_inputs(program: &proto::Program) -> Vec<(String, Vec<u32>)> {
    let client = program.client.as_ref();
    let computed = |name: &str| client.is_some_and(|c| c.results.iter().any(|r| r.port == name));
    let ports = program.inputs.iter().filter(|p| !computed(&p.name));
    let mut all: Vec<(String, Vec<u32>)> = Vec::new();
    let sources = client
        .into_iter()
        .flat_map(|c| &c.sources)
        .map(|s| (&s.name, &s.shape));
    for (name, shape) in sources.chain(ports.map(|p| (&p.name, &p.shape))) {
        if !all.iter().any(|(n, _)| n == name) {
            all.push((name.clone(), shape.clone()));
        }
    }
    all
}
