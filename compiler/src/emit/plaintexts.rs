//! The numbers that a program reads: vectors, matrices that vectors take elements of, and the bases those are made of.

use std::sync::Arc;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::packed::{MatrixId, PlaintextId, Run};
use heron_passes::ir::weight::Weight;
use heron_schedule::base::Base;
use heron_schedule::proto;

use super::{EmitError, Emitter};
use crate::numbers::base_of;

impl Emitter<'_> {
    /// Factors are stored in f32, as models store their weights: each is off by at most 2^-25 of itself, an eighth of what one
    /// bootstrap adds. What is added (`single` false) stays in f64.
    pub(super) fn plaintext(&mut self, id: PlaintextId, single: bool) -> u32 {
        if let Some(known) = self.plaintexts.get(&(id, single)) {
            return *known;
        }
        let plaintexts = &self.graph.plaintexts;
        let number = match plaintexts.elements(id) {
            Some(elements) => {
                let runs = elements.runs.iter();
                let run = |r: &Run| [r.slot as i32, r.count as i32, r.element as i32, r.step];
                let length = elements.period;
                self.weights.push_runs(length, runs.flat_map(run).collect())
            }
            None => self.weights.push(&plaintexts.get(id, None), single),
        };
        self.plaintexts.insert((id, single), number);
        number
    }

    pub(super) fn base(&mut self, base: Base) -> u32 {
        let place = (base.bytes().as_ptr() as usize, base.bytes().len());
        let weights = &mut self.weights;
        *self
            .bases
            .entry(place)
            .or_insert_with(|| weights.push_base(base))
    }

    /// A matrix by what it is made of; one of numbers becomes a base of its own, in f32.
    pub(super) fn matrix(&mut self, v: ValueId, id: MatrixId) -> Result<u32, EmitError> {
        if let Some(known) = self.matrices.get(&id) {
            return Ok(*known);
        }
        let Some(weight) = self.graph.plaintexts.matrix(id) else {
            return Err(self.malformed(v, "its matrix does not exist"));
        };
        let (rows, cols) = weight.size();
        let mut made = proto::Matrix {
            rows: rows as u32,
            cols: cols as u32,
            base_cols: cols as u32,
            factor: 1.0,
            ..proto::Matrix::default()
        };
        match weight {
            Weight::Stored(s) => {
                made.base = self.base(base_of(&s.base));
                made.base_cols = s.base_cols as u32;
                made.factor = s.factor;
                made.pick = s.pick.as_ref().map_or(Vec::new(), |p| p.to_vec());
                let mut vector = |values: &Option<Arc<[f64]>>| {
                    let values = values.as_ref()?;
                    let plaintext = self.weights.push(values, false);
                    Some(proto::BiasRef { plaintext })
                };
                (made.row, made.col, made.mean) = (vector(&s.row), vector(&s.col), vector(&s.mean));
            }
            weight => {
                let dense = weight.dense();
                made.base = self.base(Base::of_singles(dense.data.into_iter()));
            }
        }
        let number = self.listed.len() as u32;
        self.listed.push(made);
        self.matrices.insert(id, number);
        Ok(number)
    }
}
