//! `rns`: the schedule on real ciphertexts. Plaintext vectors are expanded from the weights section and encoded when they are needed, at
//! the level they are needed at.

use super::folding::{folded_sources, unfolded, Plan, Vector};
use super::together::{Factors, Member};
use super::{ExecError, Executor, Parts};
use crate::backend::Backend;
use crate::ckks::batch::only;
use crate::ckks::ciphertext::compressed_log_run;
use crate::ckks::encoding::{Complex, EncodedPolynomial, Encoder};
use crate::ckks::linear::{DiagonalSource, LinearTimes};
use crate::ckks::{
    Basis, Ciphertext, CkksError, Evaluator, Plaintext, ProductSum, RotationStep, Transfer,
};
use crate::ring::LimbId;
use heron_schedule::keys::normal_step;
use heron_schedule::params::{Level, Scale};
use heron_schedule::proto::{Bootstrap, Combine, Input, Linear, MulSum, Output, Rotate};
use heron_schedule::Schedule;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

/// What refreshes ciphertexts: bootstrapping, or a stand-in of a test.
pub trait Refresh<P> {
    /// As many results as sources, at `op.level_out` and its canonical scale.
    fn refresh(
        &self,
        op: &Bootstrap,
        sources: &[&Ciphertext<P>],
    ) -> Result<Vec<Ciphertext<P>>, ExecError>;

    /// [`Refresh::refresh`] of several instructions, of one kind and to one level.
    fn refresh_each(
        &self,
        batch: &[Member<'_, Bootstrap, Vec<&Ciphertext<P>>>],
    ) -> Result<Vec<Vec<Ciphertext<P>>>, ExecError> {
        let each = batch.iter();
        each.map(|m| self.refresh(m.op, &m.sources)).collect()
    }
}

/// Runs a schedule on ciphertexts.
pub struct Rns<'a, B: Backend> {
    schedule: &'a Schedule,
    evaluator: &'a Evaluator<B>,
    encoder: &'a Encoder,
    refresh: &'a dyn Refresh<B::Poly>,
    inputs: Vec<Vec<Option<Ciphertext<B::Poly>>>>,
    outputs: Vec<Vec<Option<Ciphertext<B::Poly>>>>,
    parts: Parts,
    imagine: Option<Imagine<B>>,
}

/// The places of plaintexts on these limbs, each of whose words stands for 2^log_run.
pub type Imagine<B> = fn(&B, limbs: &[LimbId], log_runs: &[u32]) -> Vec<<B as Backend>::Poly>;

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

impl<'a, B: Transfer> Rns<'a, B> {
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
            parts: Parts::default(),
            imagine: None,
        })
    }

    /// From now on plaintexts are not encoded but imagined.
    pub fn imagine(&mut self, imagine: Imagine<B>) {
        self.imagine = Some(imagine);
    }

    /// The ciphertexts of each output port, after a walk.
    pub fn into_outputs(self) -> Result<Vec<Vec<Ciphertext<B::Poly>>>, ExecError> {
        let missing = || ExecError::Evaluator("an output was never written".into());
        self.outputs
            .into_iter()
            .map(|port| port.into_iter().map(|c| c.ok_or_else(missing)).collect())
            .collect()
    }

    fn steps(&self, op: &Rotate) -> Vec<RotationStep> {
        let slots = self.schedule.params().slots();
        let step = |s: i32| RotationStep(i64::from(normal_step(s, slots)));
        op.out.iter().map(|o| step(o.step)).collect()
    }

    fn diagonals<'b>(&'b self, scale: Scale, plan: &'b Plan) -> Diagonals<'b, B> {
        Diagonals {
            schedule: self.schedule,
            evaluator: self.evaluator,
            encoder: self.encoder,
            vectors: &plan.vectors,
            scale,
            encoded: AtomicU64::new(0),
            imagine: self.imagine,
        }
    }

    /// Adds plaintexts, by number, to ciphertexts of one level and scale.
    fn add_biases(&mut self, to: &mut [(u32, &mut Ciphertext<B::Poly>)]) -> Result<(), ExecError> {
        let started = Instant::now();
        let none = Plan::default();
        let mut encoding = 0.0;
        let together = self.evaluator.backend().encodes_together().max(1);
        for to in to.chunks_mut(together) {
            let Some((level, scale)) = to.first().map(|(_, ct)| (ct.level(), ct.scale())) else {
                continue;
            };
            let numbers: Vec<u32> = to.iter().map(|(number, _)| *number).collect();
            let begun = started.elapsed().as_secs_f64();
            let plaintexts = self
                .diagonals(scale, &none)
                .whole(&numbers, level, Basis::Row)?;
            encoding += started.elapsed().as_secs_f64() - begun;
            for ((_, ct), plaintext) in to.iter_mut().zip(&plaintexts) {
                self.evaluator.add_plain_assign(ct, plaintext)?;
            }
        }
        self.parts.encoded += to.len() as u64;
        self.parts.encoding += encoding;
        Ok(())
    }
}

/// The plaintext vectors of a schedule, encoded when they are asked for.
struct Diagonals<'a, B: Backend> {
    schedule: &'a Schedule,
    evaluator: &'a Evaluator<B>,
    encoder: &'a Encoder,
    vectors: &'a [Vector],
    scale: Scale,
    encoded: AtomicU64,
    imagine: Option<Imagine<B>>,
}

impl<B: Transfer> Diagonals<'_, B> {
    /// One period of the slots of a plaintext vector, which takes elements of that matrix (1 + its number, 0 for none).
    fn slots(&self, index: u32, matrix: u32) -> Vec<f64> {
        let batch = self.schedule.program().batch.max(1) as usize;
        // The schedule was verified: every plaintext it names lies in the weights section.
        let vector = self.schedule.factors(matrix, index);
        let vector = vector.unwrap_or_default();
        vector
            .iter()
            .flat_map(|&v| std::iter::repeat_n(v, batch))
            .collect()
    }

    /// One period of the slots of a folded vector.
    fn complex_slots(&self, vector: &Vector) -> Vec<Complex> {
        let of = |index: Option<u32>, matrix| index.map_or(vec![0.0], |i| self.slots(i, matrix));
        let (re, im) = (
            of(vector.real, vector.matrices.0),
            of(vector.imaginary, vector.matrices.1),
        );
        // Lengths are powers of two, so that the shorter repeats in the longer.
        let length = re.len().max(im.len());
        let pairs = re.iter().cycle().zip(im.iter().cycle()).take(length);
        let (by_re, by_im) = vector.factors;
        let part = |(re, im): (&f64, &f64)| Complex {
            re: by_re * re,
            im: by_im * im,
        };
        pairs.map(part).collect()
    }

    /// What [`Diagonals::encoded`] would give, without its values.
    fn imagined(
        &self,
        imagine: Imagine<B>,
        log_runs: &[u32],
        level: Level,
        basis: Basis,
    ) -> Result<Vec<Arc<Plaintext<B::Poly>>>, CkksError> {
        let row = self.evaluator.context().row(level)?;
        let limbs = match basis {
            Basis::Row => &row.limbs,
            Basis::Extended => &row.extended,
        };
        let polys = imagine(self.evaluator.backend(), limbs, log_runs).into_iter();
        let made = polys.map(|poly| Arc::new(Plaintext::from_parts(poly, level, self.scale)));
        Ok(made.collect())
    }

    /// Slots after which a diagonal repeats; 0 where there is none.
    fn period(&self, index: usize) -> usize {
        let program = self.schedule.program();
        let vector = self.vectors.get(index);
        let parts = vector.into_iter().flat_map(|v| [v.real, v.imaginary]);
        let lengths = parts
            .flatten()
            .filter_map(|i| program.plaintexts.get(i as usize));
        let longest = lengths.map(|p| p.length as usize).max();
        longest.unwrap_or(0) * program.batch.max(1) as usize
    }

    /// log2 of the words that one of a compressed diagonal stands for.
    fn log_run(&self, index: usize) -> u32 {
        let params = self.schedule.params();
        let length = self.period(index).max(1);
        let period = length.min(params.slots());
        compressed_log_run(self.evaluator.context(), period)
    }

    fn encoded(
        &self,
        encoded: &[EncodedPolynomial],
        level: Level,
        basis: Basis,
        compress: bool,
    ) -> Result<Vec<Arc<Plaintext<B::Poly>>>, CkksError> {
        let (context, backend) = (self.evaluator.context(), self.evaluator.backend());
        let place = (level, self.scale);
        let count = encoded.len() as u64;
        self.encoded.fetch_add(count, Ordering::Relaxed);
        let each = Plaintext::made_each_on(backend, context, encoded, place, basis, compress)?;
        Ok(each.into_iter().map(Arc::new).collect())
    }

    /// Plaintexts that can be added.
    fn whole(
        &self,
        numbers: &[u32],
        level: Level,
        basis: Basis,
    ) -> Result<Vec<Arc<Plaintext<B::Poly>>>, CkksError> {
        if let Some(imagine) = self.imagine {
            return self.imagined(imagine, &vec![0; numbers.len()], level, basis);
        }
        let encode = |&number: &u32| {
            let slots = self.slots(number, 0);
            self.encoder.encode_real(&slots, self.scale)
        };
        let encoded = numbers.par_iter().map(encode);
        let encoded = encoded.collect::<Result<Vec<_>, _>>()?;
        self.encoded(&encoded, level, basis, false)
    }

    /// Diagonals, made at once.
    fn together(
        &self,
        indices: &[usize],
        level: Level,
        basis: Basis,
    ) -> Result<Vec<Arc<Plaintext<B::Poly>>>, CkksError> {
        if let Some(imagine) = self.imagine {
            let runs: Vec<u32> = indices.iter().map(|&i| self.log_run(i)).collect();
            return self.imagined(imagine, &runs, level, basis);
        }
        let encoded = indices.par_iter().map(|&index| self.polynomial(index));
        let encoded = encoded.collect::<Result<Vec<_>, _>>()?;
        self.encoded(&encoded, level, basis, true)
    }

    /// The polynomial of a diagonal.
    fn polynomial(&self, index: usize) -> Result<EncodedPolynomial, CkksError> {
        let vector = self.vectors.get(index).ok_or(CkksError::Shape {
            op: "linear",
            what: "number of a diagonal",
            expected: self.vectors.len(),
            found: index,
        })?;
        let (encoder, scale) = (self.encoder, self.scale);
        Ok(match (vector.real, vector.factors) {
            (Some(real), (1.0, _)) => {
                encoder.encode_real(&self.slots(real, vector.matrices.0), scale)?
            }
            _ => encoder.encode(&self.complex_slots(vector), scale)?,
        })
    }
}

impl<B: Transfer> DiagonalSource<B::Poly> for Diagonals<'_, B> {
    fn diagonal(
        &self,
        index: usize,
        level: Level,
        basis: Basis,
    ) -> Result<Arc<Plaintext<B::Poly>>, CkksError> {
        only("linear", self.together(&[index], level, basis)?)
    }

    fn diagonals(
        &self,
        indices: &[usize],
        level: Level,
        basis: Basis,
    ) -> Result<Vec<Arc<Plaintext<B::Poly>>>, CkksError> {
        match self.evaluator.backend().encodes_together() {
            0 | 1 => {
                let each = indices.par_iter();
                each.map(|&index| self.diagonal(index, level, basis))
                    .collect()
            }
            together => {
                let mut made = Vec::with_capacity(indices.len());
                for some in indices.chunks(together) {
                    made.extend(self.together(some, level, basis)?);
                }
                Ok(made)
            }
        }
    }

    /// Slots that repeat after p are a polynomial with 2p coefficients.
    fn words(&self, index: usize) -> Option<usize> {
        Some(2 * self.period(index))
    }
}

impl<B: Transfer> Executor for Rns<'_, B> {
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
        let params = self.schedule.params();
        let scale = params.plaintext_scale(level(op.level_in))?;
        let plan = Plan::new(&self.schedule.program().bodies, op, params.slots());
        let diagonals = self.diagonals(scale, &plan);
        let mut spent = LinearTimes::default();
        let pairs = folded_sources(self.evaluator, op, sources)?;
        let folded: Vec<&Self::Ct> = pairs.iter().collect();
        let sources = match &folded[..] {
            [] => sources,
            folded => folded,
        };
        let sums =
            self.evaluator
                .linear_timed(sources, &plan.outputs, &diagonals, Some(&mut spent))?;
        let encoded = diagonals.encoded.load(Ordering::Relaxed);
        let started = Instant::now();
        let mut results = unfolded(self.evaluator, op, sums)?;
        self.evaluator.backend().wait();
        self.parts.encoding += spent.encoding;
        // Results are separated by conjugations.
        self.parts.rotation += spent.rotation + started.elapsed().as_secs_f64();
        self.parts.encoded += encoded;
        let biases = op.out.iter().zip(&mut results);
        let biases =
            biases.filter_map(|(out, result)| Some((out.bias.as_ref()?.plaintext, result)));
        self.add_biases(&mut biases.collect::<Vec<_>>())?;
        Ok(results)
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
            self.add_biases(&mut [(bias.plaintext, &mut result)])?;
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
        Ok(self.evaluator.rotate_hoisted(source, &self.steps(op))?)
    }

    fn bootstrap(
        &mut self,
        op: &Bootstrap,
        sources: &[&Self::Ct],
    ) -> Result<Vec<Self::Ct>, ExecError> {
        self.refresh.refresh(op, sources)
    }

    fn together(&self) -> usize {
        self.evaluator.backend().together()
    }

    fn mul_sum_each(
        &mut self,
        batch: &[Member<'_, MulSum, Vec<Factors<'_, Self::Ct>>>],
    ) -> Result<Vec<Self::Ct>, ExecError> {
        let sums = batch.iter().map(|m| ProductSum {
            pairs: m.sources.clone(),
            factor: i64::from(m.op.factor),
            constant: m.op.constant,
        });
        Ok(self.evaluator.mul_sum_each(&sums.collect::<Vec<_>>())?)
    }

    fn rotate_each(
        &mut self,
        batch: &[Member<'_, Rotate, &Self::Ct>],
    ) -> Result<Vec<Vec<Self::Ct>>, ExecError> {
        let Some(first) = batch.first() else {
            return Ok(Vec::new());
        };
        let sources: Vec<&Self::Ct> = batch.iter().map(|m| m.sources).collect();
        let steps = self.steps(first.op);
        Ok(self.evaluator.rotate_hoisted_each(&sources, &steps)?)
    }

    fn bootstrap_each(
        &mut self,
        batch: &[Member<'_, Bootstrap, Vec<&Self::Ct>>],
    ) -> Result<Vec<Vec<Self::Ct>>, ExecError> {
        self.refresh.refresh_each(batch)
    }

    fn take_parts(&mut self) -> Parts {
        std::mem::take(&mut self.parts)
    }
}
