//! A run beside the plaintext model.

use std::collections::BTreeMap;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::Interval;
use heron_passes::ir::tensor::{EvalError, TensorOp};

use super::record::{Checkpoint, Record};
use super::view;
use crate::calibration::UserInput;

/// The largest difference at one checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// |found − expected|; infinite where something found is no number.
    pub difference: f64,
    /// Which input, from 0.
    pub input: usize,
    /// Which element, row-major.
    pub element: usize,
    /// What the run holds, in the model's units.
    pub found: f64,
    /// What the plaintext model holds.
    pub expected: f64,
}

/// One checkpoint after the runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The largest difference; `None` if nothing was seen.
    pub worst: Option<Worst>,
    /// What differences are measured against: the standard deviation of the reference, for statistics their root mean square.
    pub unit: f64,
}

impl Row {
    /// The largest difference in units.
    pub fn error(&self) -> f64 {
        let difference = self.worst.map_or(f64::INFINITY, |w| w.difference);
        match self.unit > 0.0 {
            true => difference / self.unit,
            false => difference,
        }
    }
}

/// A value of the plaintext model that left its calibrated range.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// Name of the value in the tensor graph.
    pub value: String,
    /// `value`; `denominator` or `argument` of its function.
    pub what: &'static str,
    /// Index of the layer.
    pub layer: usize,
    /// The calibrated range.
    pub calibrated: Interval,
    /// What was found.
    pub found: Interval,
    /// The input that went furthest.
    pub input: usize,
}

impl Left {
    /// How far beyond, over the length of the range.
    pub fn excess(&self) -> f64 {
        let beyond = (self.calibrated.lo - self.found.lo).max(self.found.hi - self.calibrated.hi);
        beyond / (self.calibrated.hi - self.calibrated.lo).max(f64::MIN_POSITIVE)
    }
}

#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

/// A comparison in progress. Call [`Comparison::begin`] before each run and [`Comparison::see`] for every ciphertext it
/// [`Comparison::wants`].
pub struct Comparison {
    record: Record,
    values: BTreeMap<String, ValueId>,
    wanted: BTreeMap<(u32, u32), Vec<(usize, usize)>>,
    worst: Vec<Option<Worst>>,
    moments: Vec<Moments>,
    /// Expected numbers of the run: by checkpoint, then lane.
    expected: Vec<Vec<Vec<f64>>>,
    first: usize,
    left: BTreeMap<(ValueId, &'static str), Left>,
}

impl Comparison {
    /// A comparison along a record.
    pub fn new(record: Record) -> Comparison {
        let graph = &record.graph;
        let order = graph.topological().into_iter();
        let values = order.map(|v| (graph.node(v).name.clone(), v)).collect();
        let mut wanted: BTreeMap<(u32, u32), Vec<(usize, usize)>> = BTreeMap::new();
        for (i, c) in record.checkpoints.iter().enumerate() {
            for (k, place) in c.places.iter().enumerate() {
                wanted.entry(*place).or_default().push((i, k));
            }
        }
        let n = record.checkpoints.len();
        Comparison {
            values,
            wanted,
            worst: vec![None; n],
            moments: vec![Moments::default(); n],
            expected: Vec::new(),
            first: 0,
            left: BTreeMap::new(),
            record,
        }
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Evaluates the plaintext model on the inputs of the next run; the first of them is input number `first`.
    pub fn begin(&mut self, first: usize, users: &[UserInput]) -> Result<(), EvalError> {
        let graph = &self.record.graph;
        self.first = first;
        self.expected = vec![Vec::new(); self.record.checkpoints.len()];
        for (lane, user) in users.iter().enumerate() {
            let all = graph.evaluate(user)?;
            let mut seen: Vec<(ValueId, &'static str, Interval, &[f64])> = Vec::new();
            for (v, numbers) in &all.values {
                if let Some(range) = graph.node(*v).range {
                    seen.push((*v, "value", range, numbers));
                }
            }
            for (name, range) in &self.record.sites {
                let Some(v) = self.values.get(name) else {
                    continue;
                };
                let argument = matches!(graph.node(*v).op, TensorOp::Activation(_));
                let (what, numbers) = match argument {
                    true => {
                        let operand = graph.operands(*v).first().copied();
                        ("argument", operand.and_then(|o| all.values.get(&o)))
                    }
                    false => ("denominator", all.statistics.get(v)),
                };
                if let Some(numbers) = numbers {
                    seen.push((*v, what, *range, numbers));
                }
            }
            for (v, what, range, numbers) in seen {
                let node = graph.node(v);
                let lo = numbers.iter().copied().fold(f64::INFINITY, f64::min);
                let hi = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let slack = 1e-9 * range.magnitude();
                if lo >= range.lo - slack && hi <= range.hi + slack {
                    continue;
                }
                let new = Left {
                    value: node.name.clone(),
                    what,
                    layer: node.layer,
                    calibrated: range,
                    found: Interval::new(lo, hi),
                    input: first + lane,
                };
                let entry = self.left.entry((v, what)).or_insert_with(|| new.clone());
                if new.excess() > entry.excess() {
                    entry.input = new.input;
                }
                entry.found.lo = entry.found.lo.min(lo);
                entry.found.hi = entry.found.hi.max(hi);
            }
            for (i, c) in self.record.checkpoints.iter().enumerate() {
                let v = self.values.get(&c.value);
                let numbers = v.and_then(|v| view(graph, *v, c.view, &all));
                let numbers = numbers.map(|(_, x)| x).unwrap_or_default();
                for x in &numbers {
                    let m = &mut self.moments[i];
                    m.count += 1.0;
                    m.sum += x;
                    m.squares += x * x;
                }
                self.expected[i].push(numbers);
            }
        }
        Ok(())
    }

    /// Whether this result of this instruction is part of a checkpoint.
    pub fn wants(&self, instruction: usize, result: usize) -> bool {
        let at = (instruction as u32, result as u32);
        self.wanted.contains_key(&at)
    }

    /// Takes the slots of a result. Slot of virtual slot v and lane b: v · batch + b. Every copy of an element counts.
    pub fn see(&mut self, instruction: usize, result: usize, slots: &[f64], batch: usize) {
        let at = (instruction as u32, result as u32);
        for &(i, k) in self.wanted.get(&at).map_or(&[][..], Vec::as_slice) {
            let (Some(c), Some(lanes)) = (self.record.checkpoints.get(i), self.expected.get(i))
            else {
                continue;
            };
            let cells = self.record.layouts.get(c.layout as usize);
            let cells = cells.and_then(|l| l.get(k)).map_or(&[][..], Vec::as_slice);
            let rows = slots.chunks_exact(batch.max(1));
            for (row, cell) in rows.zip(cells.iter().cycle()) {
                let Ok(element) = usize::try_from(*cell) else {
                    continue;
                };
                for (lane, (slot, numbers)) in row.iter().zip(lanes).enumerate() {
                    let Some(&expected) = numbers.get(element) else {
                        continue;
                    };
                    let found = (slot - c.offset) / c.scale;
                    let difference = (found - expected).abs();
                    let difference = match difference.is_nan() {
                        true => f64::INFINITY,
                        false => difference,
                    };
                    let worst = &mut self.worst[i];
                    if worst.is_none_or(|w| difference > w.difference) {
                        *worst = Some(Worst {
                            difference,
                            input: self.first + lane,
                            element,
                            found,
                            expected,
                        });
                    }
                }
            }
        }
    }

    /// The rows in the order in which a run makes the values, and the ranges left in the order of the model.
    pub fn finish(self) -> (Vec<Row>, Vec<Left>) {
        let rows = self.record.checkpoints.into_iter();
        let rows = rows
            .zip(self.worst.iter().zip(&self.moments))
            .map(|(checkpoint, (worst, m))| {
                let n = m.count.max(1.0);
                let mean = match checkpoint.view.by_size() {
                    true => 0.0,
                    false => m.sum / n,
                };
                Row {
                    unit: (m.squares / n - mean * mean).max(0.0).sqrt(),
                    worst: *worst,
                    checkpoint,
                }
            })
            .collect();
        let order: BTreeMap<ValueId, usize> = self
            .record
            .graph
            .topological()
            .into_iter()
            .enumerate()
            .map(|(i, v)| (v, i))
            .collect();
        let mut left: Vec<((ValueId, &str), Left)> = self.left.into_iter().collect();
        left.sort_by_key(|((v, what), _)| (order.get(v).copied(), *what));
        (rows, left.into_iter().map(|(_, l)| l).collect())
    }
}
