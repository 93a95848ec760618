//! Values that the client computes, as inputs of the tensor graph and as steps of the client's program.

use std::collections::BTreeSet;
use std::sync::Arc;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Shape};
use heron_passes::ir::tensor::{ClientInput, TensorOp};
use heron_schedule::client::{Operation, Source, Step as ClientStep};

use super::{label, Lowerer, Step};
use crate::onnx::error::{ErrorKind, Obstacle};
use crate::onnx::expr::{ClientOp, Kind};
use crate::onnx::view::{Co, Sym, NONE};

/// Numbers of a view: none where they are `neutral`, one where they are equal.
fn numbers(c: &Co, neutral: f64) -> Vec<f64> {
    match c.uniform() {
        Some(x) if x == neutral => Vec::new(),
        Some(x) => vec![x],
        None => match c {
            Co::All(x) => vec![*x],
            Co::Each(v) => v.to_vec(),
        },
    }
}

impl Lowerer<'_> {
    /// An input of the tensor graph that holds a view of the client's values.
    pub(super) fn client_value(&mut self, view: &Sym, shape: Shape) -> Step<ValueId> {
        let n = view.len();
        let bases = view.exprs();
        let Some(&first) = bases.first() else {
            return Err(Obstacle::new(
                ErrorKind::UnsupportedOp,
                "",
                "a block reads only constants",
                "fold constants before exporting",
            ));
        };
        let as_made = (0..n).all(|i| {
            let (mul, add) = (view.mul.at(i), view.add.at(i));
            add == 0.0 && (view.at(i).0 == NONE || mul == 1.0)
        });
        let (step, size, index) = if bases.len() == 1 && as_made {
            let place = |i: usize| match view.at(i) {
                (NONE, _) => -1,
                (_, k) => i64::from(k),
            };
            let index = (0..n).map(place).collect();
            (self.client_step(first)?, self.get(first).len(), index)
        } else {
            (self.client_view_step(view)?, n, (0..n as i64).collect())
        };
        let stem = match &self.get(first).kind {
            Kind::Input { name, .. } => format!("{}.values", label::clean(name)),
            _ => self.value_name(first),
        };
        let taken = |name: &str| {
            let results = self.client.results.iter().map(|r| r.0.as_str());
            results
                .chain(self.client.sources.iter().map(|s| s.name.as_str()))
                .any(|n| n == name)
        };
        let mut name = stem.clone();
        let mut i = 2;
        while taken(&name) {
            name = format!("{stem}_{i}");
            i += 1;
        }
        self.client.results.push((name.clone(), step));
        let layer = self.layer(first, "", LayerKind::Embed, &[]);
        let client = ClientInput::Gather {
            user_shape: vec![size],
            index,
        };
        let op = TensorOp::Input {
            name: name.clone(),
            client,
        };
        Ok(self.graph.add(&label::clean(&name), op, &[], shape, layer))
    }

    /// The step that makes an expression; those it reads are made first.
    fn client_step(&mut self, e: u32) -> Step<u32> {
        let mut needed = BTreeSet::new();
        let mut open = vec![e];
        while let Some(x) = open.pop() {
            if !self.client_steps.contains_key(&x) && needed.insert(x) {
                open.extend(self.get(x).operands().into_iter().flat_map(Sym::exprs));
            }
        }
        for x in needed {
            let step = self.make_client_step(x)?;
            self.client_steps.insert(x, step);
        }
        self.client_steps
            .get(&e)
            .copied()
            .ok_or_else(|| self.refuse(e, "the client cannot make this value", ""))
    }

    fn push_step(&mut self, operation: Operation, operands: Vec<u32>) -> u32 {
        let step = ClientStep {
            operation,
            operands,
        };
        if let Some(i) = self.client.steps.iter().position(|s| *s == step) {
            return i as u32;
        }
        self.client.steps.push(step);
        self.client.steps.len() as u32 - 1
    }

    fn make_client_step(&mut self, e: u32) -> Step<u32> {
        let lookup = |table: Vec<f64>, cols: usize| Operation::Lookup {
            table: Arc::new(table),
            cols,
        };
        match self.get(e).kind.clone() {
            Kind::Input {
                name,
                user_shape,
                integer,
            } => {
                self.used_inputs.insert(name.clone());
                let source = Source {
                    name,
                    shape: user_shape,
                    integer,
                };
                let known = self.client.sources.iter().position(|s| *s == source);
                let i = known.unwrap_or(self.client.sources.len());
                if known.is_none() {
                    self.client.sources.push(source);
                }
                Ok(self.push_step(Operation::Source(i), vec![]))
            }
            Kind::Embed { table, ids } => {
                self.count("embedding");
                let from = self.client_view_step(&ids)?;
                let cols = self.get(e).shape[1];
                Ok(self.push_step(lookup(table.data.to_vec(), cols), vec![from]))
            }
            Kind::Client { op, args } => {
                let operands = args
                    .iter()
                    .map(|a| self.client_view_step(a))
                    .collect::<Step<Vec<u32>>>()?;
                let operation = match op {
                    ClientOp::Apply(f) => Operation::Apply(f),
                    ClientOp::Reduce(how, length) => Operation::Reduce { how, length },
                    ClientOp::CumulativeSum(length) => Operation::CumulativeSum { length },
                    ClientOp::Lookup { table, cols } => {
                        if cols > 1 {
                            self.count("embedding");
                        }
                        lookup(table.to_vec(), cols)
                    }
                };
                Ok(self.push_step(operation, operands))
            }
            _ => Err(self.refuse(e, "an encrypted value where the client computes", "")),
        }
    }

    /// The step that makes a view: that of its expression, or an arrangement.
    fn client_view_step(&mut self, view: &Sym) -> Step<u32> {
        let n = view.len();
        let bases = view.exprs();
        let mut operands = Vec::with_capacity(bases.len());
        let mut offsets = Vec::with_capacity(bases.len());
        let mut total = 0usize;
        for &e in &bases {
            operands.push(self.client_step(e)?);
            offsets.push((e, total));
            total += self.get(e).len();
        }
        let (factor, summand) = (numbers(&view.mul, 1.0), numbers(&view.add, 0.0));
        let whole = match bases[..] {
            [e] => self.get(e).len() == n && view.identity(n) == Some(e),
            _ => false,
        };
        if whole && factor.is_empty() && summand.is_empty() {
            return Ok(operands[0]);
        }
        let element = if whole {
            Vec::new()
        } else {
            let offset = |e: u32| offsets.iter().find(|o| o.0 == e).map_or(0, |o| o.1);
            (0..n)
                .map(|i| match view.at(i) {
                    (NONE, _) => -1,
                    (e, k) => i32::try_from(offset(e) + k as usize).unwrap_or(-1),
                })
                .collect()
        };
        let operation = Operation::Arrange {
            element,
            factor,
            summand,
        };
        Ok(self.push_step(operation, operands))
    }
}
