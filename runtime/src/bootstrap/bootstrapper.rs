//! The bootstrap as a whole: four calls, and what is prepared for them.

use super::eval_mod::EvalMod;
use super::kind::{stages, Kind, StageId};
use super::linear::LinearMap;
use super::scales::{Rows, ScalePlan, Tuning};
use super::BootstrapError;
use crate::backend::{Backend, Cpu};
use crate::ckks::batch::only;
use crate::ckks::encoding::Encoder;
use crate::ckks::{Ciphertext, CkksError, Evaluator, RotationStep};
use crate::rlwe::RlweContext;
use heron_schedule::params::{Level, Scale};
use std::collections::BTreeMap;

type Ct<B> = Ciphertext<<B as Backend>::Poly>;
type Cts<B> = Vec<Ct<B>>;
type Two<B> = (Ct<B>, Ct<B>);

fn by_reference<P>(cts: &[Ciphertext<P>]) -> Vec<&Ciphertext<P>> {
    cts.iter().collect()
}

/// The one result of a batch of one.
fn single<T>(results: Vec<T>) -> Result<T, BootstrapError> {
    Ok(only("bootstrap", results)?)
}

/// Matrices, polynomial and scales of bootstrapping, encoded once. Needs no secret and no key; keys come with the evaluator.
pub struct Bootstrapper<B: Backend = Cpu> {
    tuning: Tuning,
    rows: Rows,
    plan: ScalePlan,
    eval_mod: EvalMod,
    maps: BTreeMap<StageId, LinearMap<B::Poly>>,
    kinds: Vec<Kind>,
    recordings: B::Recordings,
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
        let encoder = Encoder::for_ring(context.ring())?;
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
            recordings: B::Recordings::default(),
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

    /// One ciphertext with real slots, at the bootstrap level or above, to `level_out`. Values of size up to 1, gently beyond; imaginary
    /// parts are dropped.
    ///
    /// # Errors
    /// Not prepared for [`Kind::Full`], a missing key, or a level that is not usable.
    pub fn full(
        &self,
        evaluator: &Evaluator<B>,
        input: &Ct<B>,
        level_out: Level,
    ) -> Result<Ct<B>, BootstrapError> {
        single(self.each(evaluator, &[input], Kind::Full, level_out)?)
    }

    /// One ciphertext with complex slots, like [`Bootstrapper::full`].
    ///
    /// # Errors
    /// Not prepared for [`Kind::Complex`], a missing key, or a level that is not usable.
    pub fn complex(
        &self,
        evaluator: &Evaluator<B>,
        input: &Ct<B>,
        level_out: Level,
    ) -> Result<Ct<B>, BootstrapError> {
        let ready = vec![self.to_bootstrap_level(evaluator, input)?];
        let (real, imaginary) = self.both_parts(evaluator, ready, Kind::Complex)?;
        let (mut real, mut imaginary) = (single(real)?, single(imaginary)?);
        evaluator.mul_imaginary_assign(&mut imaginary)?;
        evaluator.add_assign(&mut real, &imaginary)?;
        self.lower(evaluator, real, level_out)
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
        single(self.pair_each(evaluator, &[(a, b)], level_out)?)
    }

    /// One ciphertext whose real slots repeat with period 2^log_slots: smaller matrices. What does not repeat is averaged.
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
        single(self.each(evaluator, &[input], Kind::Sparse { log_slots }, level_out)?)
    }

    /// [`Bootstrapper::pair`] of several pairs at once.
    ///
    /// # Errors
    /// As [`Bootstrapper::pair`].
    pub fn pair_each(
        &self,
        evaluator: &Evaluator<B>,
        pairs: &[(&Ct<B>, &Ct<B>)],
        level_out: Level,
    ) -> Result<Vec<Two<B>>, BootstrapError> {
        let joined = pairs.iter().map(|(a, b)| {
            let mut z = self.to_bootstrap_level(evaluator, a)?;
            let mut imaginary = self.to_bootstrap_level(evaluator, b)?;
            evaluator.mul_imaginary_assign(&mut imaginary)?;
            evaluator.add_assign(&mut z, &imaginary)?;
            Ok(z)
        });
        let joined = joined.collect::<Result<Cts<B>, BootstrapError>>()?;
        let (a, b) = self.both_parts(evaluator, joined, Kind::ComplexPair)?;
        let each = a.into_iter().zip(b).map(|(a, b)| {
            Ok((
                self.lower(evaluator, a, level_out)?,
                self.lower(evaluator, b, level_out)?,
            ))
        });
        each.collect()
    }

    /// Several ciphertexts at once, of a kind whose slots are real: the coefficients' imaginary parts are nobody's.
    ///
    /// # Errors
    /// As [`Bootstrapper::full`] and [`Bootstrapper::sparse`].
    pub fn each(
        &self,
        evaluator: &Evaluator<B>,
        inputs: &[&Ct<B>],
        kind: Kind,
        level_out: Level,
    ) -> Result<Cts<B>, BootstrapError> {
        let ready = inputs.iter();
        let ready = ready.map(|input| self.to_bootstrap_level(evaluator, input));
        let ready = ready.collect::<Result<Cts<B>, BootstrapError>>()?;
        let outputs = self.repeated(evaluator, ready, kind, &mut |ready| {
            let coefficients = self.raise(evaluator, ready, kind)?;
            let real = self.real_part(evaluator, &coefficients)?;
            drop(coefficients);
            self.reduce(evaluator, real)
        });
        let outputs = outputs?.into_iter();
        outputs
            .map(|output| self.lower(evaluator, output, level_out))
            .collect()
    }

    /// What is done again for every batch of a kind, from the bootstrap level to the highest usable one: a backend may record it.
    fn repeated(
        &self,
        evaluator: &Evaluator<B>,
        inputs: Cts<B>,
        kind: Kind,
        work: &mut dyn FnMut(Cts<B>) -> Result<Cts<B>, BootstrapError>,
    ) -> Result<Cts<B>, BootstrapError> {
        let wrong = |what| BootstrapError::Circuit { what };
        let (level, out) = (self.rows.input, self.rows.out);
        let scale_out = evaluator.context().params().scale(out)?;
        // Keys decide, and so does what is told of them apart from others.
        let keys = evaluator.keys().iter().map(|key| key.serial());
        let key = [kind.number(), inputs.len() as u64].into_iter();
        let scales: Vec<Scale> = inputs.iter().map(Ciphertext::scale).collect();
        if inputs.iter().any(|ct| ct.polys().len() != 2) {
            return Err(wrong("a linear map takes a relinearised ciphertext"));
        }
        let polys = inputs
            .into_iter()
            .flat_map(Ciphertext::into_polys)
            .collect();
        let mut on_polys = |polys: Vec<B::Poly>| {
            let mut polys = polys.into_iter();
            let each = scales.iter().map(|&scale| {
                let both = polys.by_ref().take(2).collect();
                Ciphertext::from_parts(both, level, scale)
            });
            let outputs = work(each.collect())?;
            let expected = |ct: &Ct<B>| {
                ct.level() == out && ct.scale().agrees_with(scale_out) && ct.polys().len() == 2
            };
            if !outputs.iter().all(expected) {
                return Err(wrong("EvalMod ends at another level or scale"));
            }
            Ok(outputs
                .into_iter()
                .flat_map(Ciphertext::into_polys)
                .collect())
        };
        let backend = evaluator.backend();
        let made = backend.repeat(
            &self.recordings,
            key.chain(keys).collect(),
            polys,
            &mut on_polys,
        )?;
        let mut made = made.into_iter();
        let two = || Some(vec![made.next()?, made.next()?]);
        let outputs = std::iter::from_fn(two);
        Ok(outputs
            .map(|polys| Ciphertext::from_parts(polys, out, scale_out))
            .collect())
    }

    /// Real and imaginary slots, each in a ciphertext, at the highest usable level.
    fn both_parts(
        &self,
        evaluator: &Evaluator<B>,
        inputs: Cts<B>,
        kind: Kind,
    ) -> Result<(Cts<B>, Cts<B>), BootstrapError> {
        let count = inputs.len();
        let mut real = self.repeated(evaluator, inputs, kind, &mut |inputs| {
            let (mut real, imaginary) = self.split(evaluator, inputs, kind)?;
            real.extend(imaginary);
            Ok(real)
        })?;
        let imaginary = real.split_off(count.min(real.len()));
        Ok((real, imaginary))
    }

    /// [`Bootstrapper::both_parts`] of ciphertexts at the bootstrap level.
    fn split(
        &self,
        evaluator: &Evaluator<B>,
        inputs: Cts<B>,
        kind: Kind,
    ) -> Result<(Cts<B>, Cts<B>), BootstrapError> {
        let coefficients = self.raise(evaluator, inputs, kind)?;
        let conjugates = evaluator.conjugate_each(&by_reference(&coefficients))?;
        let (mut real, mut imaginary) = (Vec::new(), Vec::new());
        for (coefficients, conjugate) in coefficients.into_iter().zip(conjugates) {
            real.push(evaluator.add(&coefficients, &conjugate)?);
            // i·(conj(v) - v) = 2·Im v.
            let mut difference = evaluator.sub(&conjugate, &coefficients)?;
            drop((conjugate, coefficients));
            evaluator.mul_imaginary_assign(&mut difference)?;
            imaginary.push(difference);
        }
        Ok((
            self.reduce(evaluator, real)?,
            self.reduce(evaluator, imaginary)?,
        ))
    }

    /// Slots as coefficients, read modulo the top row's modulus, and back in slots: message + q0·I.
    fn raise(
        &self,
        evaluator: &Evaluator<B>,
        inputs: Cts<B>,
        kind: Kind,
    ) -> Result<Cts<B>, BootstrapError> {
        if !self.kinds.contains(&kind) {
            return Err(BootstrapError::NotPrepared {
                kind: kind.to_string(),
            });
        }
        let bottom = self.slots_to_coeffs(evaluator, inputs, kind)?;
        let raised = self.mod_raise(evaluator, bottom)?;
        self.coeffs_to_slots(evaluator, raised, kind)
    }

    fn to_bootstrap_level(
        &self,
        evaluator: &Evaluator<B>,
        input: &Ct<B>,
    ) -> Result<Ct<B>, BootstrapError> {
        let level = self.rows.input;
        if input.level() == level {
            return Ok(input.clone());
        }
        Ok(evaluator.adjust(input, level, 1.0)?)
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

    /// The slots' values into coefficients (in bit-reversed order), at row 0.
    pub(super) fn slots_to_coeffs(
        &self,
        evaluator: &Evaluator<B>,
        inputs: Cts<B>,
        kind: Kind,
    ) -> Result<Cts<B>, BootstrapError> {
        let (_, stages) = stages(evaluator.context().params(), &self.rows, kind);
        let mut cts = inputs;
        for stage in &stages {
            cts = self.map(stage)?.apply_each(evaluator, &cts)?;
        }
        Ok(cts)
    }

    /// Reads row-0 ciphertexts modulo the top row's modulus: message + q0·I, |I| ≤ 16 thanks to the sparse secret they are under meanwhile
    /// (eprint 2022/024).
    pub(super) fn mod_raise(
        &self,
        evaluator: &Evaluator<B>,
        inputs: Cts<B>,
    ) -> Result<Cts<B>, BootstrapError> {
        let sparse = evaluator.switch_to_sparse_each(&by_reference(&inputs))?;
        drop(inputs);
        let top = evaluator.context().params().top();
        let raised = sparse.iter().map(|ct| evaluator.raise_modulus(ct, top));
        let raised = raised.collect::<Result<Cts<B>, CkksError>>()?;
        drop(sparse);
        let mut dense = evaluator.switch_to_dense_each(&by_reference(&raised))?;
        for ct in &mut dense {
            ct.set_scale(self.plan.raised);
        }
        Ok(dense)
    }

    /// Slots N/2 · (t_k + i·t_(k+N/2))/q0 in the order that SlotsToCoeffs began with; sparse: of the projected polynomial.
    pub(super) fn coeffs_to_slots(
        &self,
        evaluator: &Evaluator<B>,
        inputs: Cts<B>,
        kind: Kind,
    ) -> Result<Cts<B>, BootstrapError> {
        let params = evaluator.context().params();
        let (stages, _) = stages(params, &self.rows, kind);
        let mut cts = inputs;
        for (position, stage) in stages.iter().enumerate() {
            if position + 1 == stages.len() {
                for step in kind.trace(params) {
                    let turned = evaluator.rotate_each(&by_reference(&cts), RotationStep(step))?;
                    for (ct, turned) in cts.iter_mut().zip(&turned) {
                        evaluator.add_assign(ct, turned)?;
                    }
                }
            }
            cts = self.map(stage)?.apply_each(evaluator, &cts)?;
        }
        Ok(cts)
    }

    /// 2·Re of CoeffsToSlots' results.
    pub(super) fn real_part(
        &self,
        evaluator: &Evaluator<B>,
        coefficients: &[Ct<B>],
    ) -> Result<Cts<B>, BootstrapError> {
        let conjugates = evaluator.conjugate_each(&by_reference(coefficients))?;
        let each = coefficients.iter().zip(&conjugates);
        each.map(|(a, b)| Ok(evaluator.add(a, b)?)).collect()
    }

    /// EvalMod: the messages at the highest usable level's canonical scale.
    pub(super) fn reduce(
        &self,
        evaluator: &Evaluator<B>,
        mut parts: Cts<B>,
    ) -> Result<Cts<B>, BootstrapError> {
        for part in &mut parts {
            part.set_scale(self.plan.y);
        }
        let mut sines = self.eval_mod.evaluate_each(evaluator, &parts)?;
        drop(parts);
        for sine in &mut sines {
            if !sine.scale().agrees_with(self.plan.sine) {
                return Err(CkksError::ScaleMismatch {
                    op: "the end of EvalMod",
                    lhs: sine.scale().log2(),
                    rhs: self.plan.sine.log2(),
                }
                .into());
            }
            sine.set_scale(evaluator.context().params().scale(self.rows.out)?);
        }
        Ok(sines)
    }

    /// Every encoded diagonal of every matrix.
    pub fn diagonals(&self) -> impl Iterator<Item = &B::Poly> {
        self.maps.values().flat_map(LinearMap::diagonals)
    }

    fn map(&self, stage: &StageId) -> Result<&LinearMap<B::Poly>, BootstrapError> {
        self.maps.get(stage).ok_or(BootstrapError::Circuit {
            what: "a matrix was not prepared",
        })
    }
}
