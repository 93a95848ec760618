//! The bootstrap as a whole: four calls, and what is prepared for them.

use super::eval_mod::EvalMod;
use super::kind::{stages, Kind, StageId};
use super::linear::LinearMap;
use super::scales::{Rows, ScalePlan, Tuning};
use super::BootstrapError;
use crate::backend::{Backend, Cpu};
use crate::ckks::encoding::Encoder;
use crate::ckks::{Ciphertext, CkksError, Evaluator, RotationStep};
use crate::rlwe::RlweContext;
use heron_schedule::params::Level;
use std::collections::BTreeMap;

type Ct<B> = Ciphertext<<B as Backend>::Poly>;

/// Matrices, polynomial and scales of bootstrapping, encoded once. Needs no secret and no key; keys come with the evaluator.
pub struct Bootstrapper<B: Backend = Cpu> {
    tuning: Tuning,
    rows: Rows,
    plan: ScalePlan,
    eval_mod: EvalMod,
    maps: BTreeMap<StageId, LinearMap<B::Poly>>,
    kinds: Vec<Kind>,
}

impl<B: Backend> Bootstrapper<B> {
    /// Prepares the kinds named: builds and encodes their matrices (about 0.9 GiB for full slots at N = 2^16: most
    /// diagonals repeat and are kept once per period).
    ///
    /// # Errors
    /// A parameter set without rows for bootstrapping, or a period out of range.
    pub fn new(
        context: &RlweContext,
        backend: &B,
        tuning: Tuning,
        kinds: &[Kind],
    ) -> Result<Self, BootstrapError> {
        let params = context.params();
        let rows = Rows::new(params, tuning)?;
        let plan = ScalePlan::new(params, &rows, tuning)?;
        let encoder = Encoder::new(params.log_n())?;
        let mut maps = BTreeMap::new();
        for kind in kinds {
            kind.check(params)?;
            let (cts, stc) = stages(params, &rows, *kind);
            let cts = cts.iter().zip(rows.cts.iter().zip(&plan.cts));
            let stc = stc.iter().zip(rows.stc.iter().zip(&plan.stc));
            for (stage, (&level, &scale)) in cts.chain(stc) {
                if !maps.contains_key(stage) {
                    let map = stage.build(encoder.transform());
                    let map = LinearMap::new(context, backend, &encoder, &map, level, scale)?;
                    maps.insert(*stage, map);
                }
            }
        }
        Ok(Self {
            tuning,
            eval_mod: EvalMod::new(tuning.cosine, plan.value)?,
            rows,
            plan,
            maps,
            kinds: kinds.to_vec(),
        })
    }

    /// The choices it was built with.
    pub fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// Rows of the circuit.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Scales of the circuit.
    pub fn plan(&self) -> &ScalePlan {
        &self.plan
    }

    /// One ciphertext with independent slots, at any level, to `level_out`. Values of size up to 1, gently beyond.
    ///
    /// # Errors
    /// Not prepared for [`Kind::Full`], a missing key, or a level that is not usable.
    pub fn full(
        &self,
        evaluator: &Evaluator<B>,
        input: &Ct<B>,
        level_out: Level,
    ) -> Result<Ct<B>, BootstrapError> {
        let mut output = self.run(evaluator, input, Kind::Full)?;
        evaluator.mul_integer_assign(&mut output, 2);
        self.lower(evaluator, output, level_out)
    }

    /// Two ciphertexts with real slots in one complex bootstrap. Imaginary parts of one end up in the other.
    ///
    /// # Errors
    /// Not prepared for [`Kind::ComplexPair`], a missing key, or a level that is not usable.
    pub fn pair(
        &self,
        evaluator: &Evaluator<B>,
        a: &Ct<B>,
        b: &Ct<B>,
        level_out: Level,
    ) -> Result<(Ct<B>, Ct<B>), BootstrapError> {
        let mut z = self.to_bottom(evaluator, a)?;
        let mut imaginary = self.to_bottom(evaluator, b)?;
        evaluator.mul_imaginary_assign(&mut imaginary)?;
        evaluator.add_assign(&mut z, &imaginary)?;
        // The circuit's result is half the message: z/2 + conj(z)/2 = a, i·(conj(z)/2 - z/2) = b.
        let half = self.run(evaluator, &z, Kind::ComplexPair)?;
        let conjugate = evaluator.conjugate(&half)?;
        let real = evaluator.add(&half, &conjugate)?;
        let mut imaginary = evaluator.sub(&conjugate, &half)?;
        evaluator.mul_imaginary_assign(&mut imaginary)?;
        Ok((
            self.lower(evaluator, real, level_out)?,
            self.lower(evaluator, imaginary, level_out)?,
        ))
    }

    /// One ciphertext whose slots repeat with period 2^log_slots: half the EvalMods. What does not repeat is averaged.
    ///
    /// # Errors
    /// Not prepared for that period, a missing key, or a level that is not usable.
    pub fn sparse(
        &self,
        evaluator: &Evaluator<B>,
        input: &Ct<B>,
        log_slots: u32,
        level_out: Level,
    ) -> Result<Ct<B>, BootstrapError> {
        let mut output = self.run(evaluator, input, Kind::Sparse { log_slots })?;
        let other = evaluator.rotate(&output, RotationStep(1 << log_slots))?;
        evaluator.add_assign(&mut output, &other)?;
        evaluator.mul_integer_assign(&mut output, 2);
        self.lower(evaluator, output, level_out)
    }

    /// Half the message at the highest usable level (sparse: in two parts that are yet to be added).
    fn run(
        &self,
        evaluator: &Evaluator<B>,
        input: &Ct<B>,
        kind: Kind,
    ) -> Result<Ct<B>, BootstrapError> {
        if !self.kinds.contains(&kind) {
            return Err(BootstrapError::NotPrepared {
                kind: kind.to_string(),
            });
        }
        let bottom = self.to_bottom(evaluator, input)?;
        let raised = self.mod_raise(evaluator, bottom)?;
        let coefficients = self.coeffs_to_slots(evaluator, raised, kind)?;
        let reduced = self.reduce(evaluator, coefficients, kind)?;
        self.slots_to_coeffs(evaluator, reduced, kind)
    }

    /// To level 0.
    fn to_bottom(&self, evaluator: &Evaluator<B>, input: &Ct<B>) -> Result<Ct<B>, BootstrapError> {
        if input.level() == Level(0) {
            return Ok(input.clone());
        }
        Ok(evaluator.adjust(input, Level(0), 1.0)?)
    }

    /// To `level_out`.
    fn lower(
        &self,
        evaluator: &Evaluator<B>,
        output: Ct<B>,
        level_out: Level,
    ) -> Result<Ct<B>, BootstrapError> {
        match output.level().cmp(&level_out) {
            std::cmp::Ordering::Equal => Ok(output),
            std::cmp::Ordering::Greater => Ok(evaluator.adjust(&output, level_out, 1.0)?),
            std::cmp::Ordering::Less => Err(BootstrapError::LevelOut {
                found: level_out,
                highest: output.level(),
            }),
        }
    }

    /// Reads a level-0 ciphertext modulo the top row's modulus: message + q0·I, |I| ≤ 16 thanks to the sparse secret it is under meanwhile
    /// (eprint 2022/024).
    pub(super) fn mod_raise(
        &self,
        evaluator: &Evaluator<B>,
        mut input: Ct<B>,
    ) -> Result<Ct<B>, BootstrapError> {
        evaluator.mul_integer_assign(&mut input, 1 << self.tuning.message_shift);
        let sparse = evaluator.switch_to_sparse(&input)?;
        let raised = evaluator.raise_modulus(&sparse, evaluator.context().params().top())?;
        let mut dense = evaluator.switch_to_dense(&raised)?;
        dense.set_scale(self.plan.raised);
        Ok(dense)
    }

    /// Slots N/2 · (t_k + i·t_(k+N/2))/q0 in bit-reversed order; sparse: of the projected polynomial, with -i times them in the second half.
    pub(super) fn coeffs_to_slots(
        &self,
        evaluator: &Evaluator<B>,
        input: Ct<B>,
        kind: Kind,
    ) -> Result<Ct<B>, BootstrapError> {
        let params = evaluator.context().params();
        let (stages, _) = stages(params, &self.rows, kind);
        let mut ct = input;
        for (position, stage) in stages.iter().enumerate() {
            if position + 1 == stages.len() {
                for step in kind.trace(params) {
                    let turned = evaluator.rotate(&ct, RotationStep(step))?;
                    evaluator.add_assign(&mut ct, &turned)?;
                }
            }
            ct = self.map(stage)?.apply(evaluator, &ct)?;
        }
        Ok(ct)
    }

    /// EvalMod of real and imaginary parts: 2π/ratio times the message's coefficients, declared to be these.
    pub(super) fn reduce(
        &self,
        evaluator: &Evaluator<B>,
        input: Ct<B>,
        kind: Kind,
    ) -> Result<Ct<B>, BootstrapError> {
        let conjugate = evaluator.conjugate(&input)?;
        let part = |mut sum: Ct<B>| -> Result<Ct<B>, BootstrapError> {
            sum.set_scale(self.plan.y);
            let sine = self.eval_mod.evaluate(evaluator, &sum)?;
            match self.tuning.arcsine {
                true => EvalMod::arcsine(evaluator, &sine),
                false => Ok(sine),
            }
        };
        let mut reduced = part(evaluator.add(&input, &conjugate)?)?;
        if !kind.is_sparse() {
            // i·(conj(v) - v) = 2·Im v.
            let mut imaginary = evaluator.sub(&conjugate, &input)?;
            drop((conjugate, input));
            evaluator.mul_imaginary_assign(&mut imaginary)?;
            let mut imaginary = part(imaginary)?;
            evaluator.mul_imaginary_assign(&mut imaginary)?;
            evaluator.add_assign(&mut reduced, &imaginary)?;
        }
        reduced.set_scale(self.plan.message);
        Ok(reduced)
    }

    /// Back to slots, at half the message and the highest usable level's canonical scale.
    pub(super) fn slots_to_coeffs(
        &self,
        evaluator: &Evaluator<B>,
        input: Ct<B>,
        kind: Kind,
    ) -> Result<Ct<B>, BootstrapError> {
        let params = evaluator.context().params();
        let (_, stages) = stages(params, &self.rows, kind);
        let mut ct = input;
        for stage in &stages {
            ct = self.map(stage)?.apply(evaluator, &ct)?;
        }
        let canonical = params.scale(self.rows.out)?;
        if !ct.scale().agrees_with(canonical) {
            return Err(CkksError::ScaleMismatch {
                op: "the end of SlotsToCoeffs",
                lhs: ct.scale().log2(),
                rhs: canonical.log2(),
            }
            .into());
        }
        ct.set_scale(canonical);
        Ok(ct)
    }

    fn map(&self, stage: &StageId) -> Result<&LinearMap<B::Poly>, BootstrapError> {
        self.maps.get(stage).ok_or(BootstrapError::Circuit {
            what: "a matrix was not prepared",
        })
    }
}
