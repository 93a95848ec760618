//! `rns`: the schedule on real ciphertexts. Plaintext vectors are expanded from the weights section and encoded when they are needed, at
//! the level they are needed at.

use super::{ExecError, Executor};
use crate::backend::Backend;
use crate::ckks::encoding::Encoder;
use crate::ckks::{Basis, Ciphertext, CkksError, Evaluator, Plaintext, RotationStep};
use crate::rlwe::KeyKind;
use heron_schedule::keys::normal_step;
use heron_schedule::params::{Level, Scale};
use heron_schedule::proto::{
    Bootstrap, Combine, Giant, Input, Linear, LinearOut, MulSum, Output, Rotate,
};
use heron_schedule::recount::baby_rotations;
use heron_schedule::Schedule;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::time::Instant;

/// Products summed with one reduction per residue; also how many encoded plaintexts are alive at once.
const TERMS_AT_ONCE: usize = 16;

/// What refreshes ciphertexts: bootstrapping, or a stand-in of a test.
pub trait Refresh<P> {
    /// As many results as sources, at `op.level_out` and its canonical scale.
    fn refresh(
        &self,
        op: &Bootstrap,
        sources: &[&Ciphertext<P>],
    ) -> Result<Vec<Ciphertext<P>>, ExecError>;
}

/// Runs a schedule on ciphertexts.
pub struct Rns<'a, B: Backend> {
    schedule: &'a Schedule,
    evaluator: &'a Evaluator<B>,
    encoder: &'a Encoder,
    refresh: &'a dyn Refresh<B::Poly>,
    inputs: Vec<Vec<Option<Ciphertext<B::Poly>>>>,
    outputs: Vec<Vec<Option<Ciphertext<B::Poly>>>>,
    encoding: f64,
}

impl From<CkksError> for ExecError {
    fn from(error: CkksError) -> Self {
        ExecError::Evaluator(error.to_string())
    }
}

impl From<crate::rlwe::RlweError> for ExecError {
    fn from(error: crate::rlwe::RlweError) -> Self {
        ExecError::Evaluator(error.to_string())
    }
}

fn level(level: u32) -> Level {
    Level(u8::try_from(level).unwrap_or(u8::MAX))
}

impl<'a, B: Backend> Rns<'a, B> {
    /// `inputs`: for each input port its ciphertexts, at the port's level and canonical scale.
    pub fn new(
        schedule: &'a Schedule,
        evaluator: &'a Evaluator<B>,
        encoder: &'a Encoder,
        refresh: &'a dyn Refresh<B::Poly>,
        inputs: Vec<Vec<Ciphertext<B::Poly>>>,
    ) -> Result<Rns<'a, B>, ExecError> {
        let ports = &schedule.program().inputs;
        if ports.len() != inputs.len() {
            return Err(ExecError::Inputs(format!(
                "{} input ports expected, found {}",
                ports.len(),
                inputs.len()
            )));
        }
        for (port, given) in ports.iter().zip(&inputs) {
            let scale = schedule.params().scale(level(port.level))?;
            let fits = |c: &Ciphertext<B::Poly>| {
                u32::from(c.level().0) == port.level
                    && c.scale().agrees_with(scale)
                    && c.polys().len() == 2
            };
            if given.len() != port.ciphertexts.len() || !given.iter().all(fits) {
                return Err(ExecError::Inputs(format!(
                    "`{}`: {} ciphertexts at level {} and its scale expected, found {}",
                    port.name,
                    port.ciphertexts.len(),
                    port.level,
                    given.len()
                )));
            }
        }
        let outputs = schedule.program().outputs.iter();
        Ok(Rns {
            outputs: outputs
                .map(|p| p.ciphertexts.iter().map(|_| None).collect())
                .collect(),
            inputs: inputs
                .into_iter()
                .map(|p| p.into_iter().map(Some).collect())
                .collect(),
            schedule,
            evaluator,
            encoder,
            refresh,
            encoding: 0.0,
        })
    }

    /// The ciphertexts of each output port, after a walk.
    pub fn into_outputs(self) -> Result<Vec<Vec<Ciphertext<B::Poly>>>, ExecError> {
        let missing = || ExecError::Evaluator("an output was never written".into());
        self.outputs
            .into_iter()
            .map(|port| port.into_iter().map(|c| c.ok_or_else(missing)).collect())
            .collect()
    }

    /// Encodes plaintext vectors at a level, side by side on all threads.
    fn encode(
        &mut self,
        indices: &[u32],
        level: Level,
        scale: Scale,
    ) -> Result<Vec<Plaintext<B::Poly>>, ExecError> {
        let started = Instant::now();
        let batch = self.schedule.program().batch.max(1) as usize;
        let encoded = indices
            .par_iter()
            .map(|&index| {
                let vector = self.schedule.vector(index)?;
                let slots: Vec<f64> = vector
                    .iter()
                    .flat_map(|&v| std::iter::repeat_n(v, batch))
                    .collect();
                let plain = Plaintext::encode_real(
                    self.evaluator.context(),
                    self.encoder,
                    &slots,
                    level,
                    scale,
                    Basis::Row,
                )?;
                let poly = self.evaluator.backend().upload(plain.poly());
                Ok(Plaintext::from_parts(poly, level, scale))
            })
            .collect();
        self.encoding += started.elapsed().as_secs_f64();
        encoded
    }

    /// Σ plaintext · rotated source of one giant step: two polynomials at twice the scale, on the row's limbs.
    fn inner_sum(
        &mut self,
        giant: &Giant,
        op_level: Level,
        sources: &[&Ciphertext<B::Poly>],
        babies: &BTreeMap<(u32, i32), Ciphertext<B::Poly>>,
    ) -> Result<Option<[B::Poly; 2]>, ExecError> {
        let slots = self.schedule.params().slots();
        let scale = self.schedule.params().plaintext_scale(op_level)?;
        let limbs = self.evaluator.context().row(op_level)?.limbs.clone();
        let mut sum: Option<[B::Poly; 2]> = None;
        for terms in giant.term.chunks(TERMS_AT_ONCE) {
            let indices: Vec<u32> = terms.iter().map(|t| t.plaintext).collect();
            let plaintexts = self.encode(&indices, op_level, scale)?;
            let mut pairs = [Vec::new(), Vec::new()];
            for (term, plaintext) in terms.iter().zip(&plaintexts) {
                let step = normal_step(term.baby, slots);
                let source = match step {
                    0 => sources.get(term.src as usize).copied(),
                    _ => babies.get(&(term.src, step)),
                };
                let polys = source.map(|s| s.polys());
                let Some([c0, c1]) = polys else {
                    return Err(ExecError::Evaluator(format!(
                        "no source {} of two polynomials",
                        term.src
                    )));
                };
                for (pairs, c) in pairs.iter_mut().zip([c0, c1]) {
                    pairs.push((plaintext.poly(), c));
                }
            }
            let backend = self.evaluator.backend();
            let part = pairs.map(|p| backend.inner_product(&p, &limbs));
            match &mut sum {
                None => sum = Some(part),
                Some(sum) => {
                    for (s, p) in sum.iter_mut().zip(&part) {
                        backend.add_assign(s, p);
                    }
                }
            }
        }
        Ok(sum)
    }

    /// One result of a linear step. Giants are switched without dividing by P, summed in QP, and one division does for all of them and for
    /// the rescaling.
    fn linear_out(
        &mut self,
        out: &LinearOut,
        op_level: Level,
        sources: &[&Ciphertext<B::Poly>],
        babies: &BTreeMap<(u32, i32), Ciphertext<B::Poly>>,
    ) -> Result<Ciphertext<B::Poly>, ExecError> {
        let slots = self.schedule.params().slots();
        let evaluator = self.evaluator;
        let backend = evaluator.backend();
        let row = evaluator.context().row(op_level)?;
        let mut plain: Option<[B::Poly; 2]> = None;
        let mut extended: Option<[B::Poly; 2]> = None;
        let merge = |total: &mut Option<[B::Poly; 2]>, part: [B::Poly; 2]| match total {
            None => *total = Some(part),
            Some(total) => {
                for (t, p) in total.iter_mut().zip(&part) {
                    backend.add_assign(t, p);
                }
            }
        };
        for giant in &out.giant {
            let Some([c0, c1]) = self.inner_sum(giant, op_level, sources, babies)? else {
                continue;
            };
            let step = normal_step(giant.step, slots);
            if step == 0 {
                merge(&mut plain, [c0, c1]);
                continue;
            }
            let g = evaluator.rotation_element(RotationStep(i64::from(step)));
            let key = evaluator.keys().get(KeyKind::Galois(g))?;
            let digits = backend.decompose(c1, row)?;
            let (mut low, high) = backend.key_product(&digits, key, row)?;
            drop(digits);
            backend.add_scaled(&mut low, &c0, &row.special_product);
            let turned = [low, high].map(|p| backend.automorphism(&p, g));
            merge(&mut extended, turned);
        }
        let target = level(u32::from(op_level.0).saturating_sub(1));
        let limbs = &evaluator.context().row(target)?.limbs;
        let sum = match (plain, extended) {
            (None, None) => return Err(ExecError::Evaluator("a sum without terms".into())),
            (Some(plain), None) => plain,
            (plain, Some(mut extended)) => {
                for (e, p) in extended.iter_mut().zip(plain.iter().flatten()) {
                    backend.add_scaled(e, p, &row.special_product);
                }
                extended
            }
        };
        let polys = sum
            .iter()
            .map(|p| backend.divide_and_round(p, limbs, None))
            .collect::<Result<Vec<_>, _>>()?;
        let scale = self.schedule.params().scale(target)?;
        let mut result = Ciphertext::from_parts(polys, target, scale);
        if let Some(bias) = &out.bias {
            self.add_bias(&mut result, bias.plaintext)?;
        }
        Ok(result)
    }

    fn add_bias(&mut self, ct: &mut Ciphertext<B::Poly>, index: u32) -> Result<(), ExecError> {
        for plaintext in self.encode(&[index], ct.level(), ct.scale())? {
            self.evaluator.add_plain_assign(ct, &plaintext)?;
        }
        Ok(())
    }
}

impl<B: Backend> Executor for Rns<'_, B> {
    type Ct = Ciphertext<B::Poly>;

    fn input(&mut self, op: &Input) -> Result<Self::Ct, ExecError> {
        let port = self.inputs.get_mut(op.port as usize);
        port.and_then(|p| p.get_mut(op.ciphertext as usize))
            .and_then(Option::take)
            .ok_or_else(|| ExecError::Inputs("a ciphertext is missing or read twice".into()))
    }

    fn output(&mut self, op: &Output, source: &Self::Ct) -> Result<(), ExecError> {
        let place = self.outputs.get_mut(op.port as usize);
        let place = place.and_then(|p| p.get_mut(op.ciphertext as usize));
        *place.ok_or_else(|| ExecError::Inputs("no such output".into()))? = Some(source.clone());
        Ok(())
    }

    fn linear(&mut self, op: &Linear, sources: &[&Self::Ct]) -> Result<Vec<Self::Ct>, ExecError> {
        let slots = self.schedule.params().slots();
        let mut steps: BTreeMap<u32, Vec<i32>> = BTreeMap::new();
        for (src, step) in baby_rotations(op, slots) {
            steps.entry(src).or_default().push(step);
        }
        let mut babies = BTreeMap::new();
        for (src, steps) in steps {
            let source = sources.get(src as usize);
            let source = source.ok_or_else(|| ExecError::Evaluator(format!("no source {src}")))?;
            let turns: Vec<RotationStep> =
                steps.iter().map(|&s| RotationStep(i64::from(s))).collect();
            let turned = self.evaluator.rotate_hoisted(source, &turns)?;
            babies.extend(steps.into_iter().map(|s| (src, s)).zip(turned));
        }
        op.out
            .iter()
            .map(|out| self.linear_out(out, level(op.level_in), sources, &babies))
            .collect()
    }

    fn combine(&mut self, op: &Combine, sources: &[&Self::Ct]) -> Result<Self::Ct, ExecError> {
        let terms: Vec<(&Self::Ct, f64)> = sources
            .iter()
            .copied()
            .zip(op.term.iter().map(|t| t.coefficient))
            .collect();
        let mut result = self
            .evaluator
            .combine(&terms, level(op.level_out), op.constant)?;
        if let Some(bias) = &op.bias {
            self.add_bias(&mut result, bias.plaintext)?;
        }
        Ok(result)
    }

    fn mul_sum(
        &mut self,
        op: &MulSum,
        pairs: &[(&Self::Ct, &Self::Ct)],
    ) -> Result<Self::Ct, ExecError> {
        Ok(self
            .evaluator
            .mul_sum(pairs, i64::from(op.factor), op.constant)?)
    }

    fn rotate(&mut self, op: &Rotate, source: &Self::Ct) -> Result<Vec<Self::Ct>, ExecError> {
        let slots = self.schedule.params().slots();
        let step = |s: i32| RotationStep(i64::from(normal_step(s, slots)));
        let steps: Vec<RotationStep> = op.out.iter().map(|o| step(o.step)).collect();
        Ok(self.evaluator.rotate_hoisted(source, &steps)?)
    }

    fn bootstrap(
        &mut self,
        op: &Bootstrap,
        sources: &[&Self::Ct],
    ) -> Result<Vec<Self::Ct>, ExecError> {
        self.refresh.refresh(op, sources)
    }

    fn take_encoding_seconds(&mut self) -> f64 {
        std::mem::take(&mut self.encoding)
    }
}
