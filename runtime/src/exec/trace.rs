//! `trace`: levels, exact scales and counts, no values. Follows the evaluator's rules, so that a schedule that traces also runs.

use super::{ExecError, Executor};
use heron_schedule::folding::{baby_rotations, conjugations, folding, sums};
use heron_schedule::keys::normal_step;
use heron_schedule::params::{Level, ParameterSet, Scale};
use heron_schedule::proto::linear::Folding;
use heron_schedule::proto::{Body, Bootstrap, Combine, Input, Linear, MulSum, Output, Rotate};
use heron_schedule::recount::OperationCounts;
use heron_schedule::Schedule;

/// A ciphertext without its content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traced {
    /// Its level.
    pub level: Level,
    /// Its exact scale.
    pub scale: Scale,
}

/// Follows levels and scales and counts operations as they happen.
pub struct Trace<'a> {
    params: &'a ParameterSet,
    bodies: &'a [Body],
    /// Operations so far.
    pub operations: OperationCounts,
    /// Lowest level of any result.
    pub lowest: Option<Level>,
}

impl<'a> Trace<'a> {
    /// A trace of this schedule's instructions.
    pub fn new(schedule: &'a Schedule) -> Trace<'a> {
        Trace {
            params: schedule.params(),
            bodies: &schedule.program().bodies,
            operations: OperationCounts::default(),
            lowest: None,
        }
    }

    fn fresh(&mut self, level: u32) -> Result<Traced, ExecError> {
        let level = Level(u8::try_from(level).unwrap_or(u8::MAX));
        let scale = self.params.scale(level)?;
        self.lowest = Some(self.lowest.map_or(level, |l| l.min(level)));
        Ok(Traced { level, scale })
    }

    fn canonical(&self, ct: &Traced, level: u32) -> Result<(), ExecError> {
        let expected = self.params.scale(ct.level)?;
        if u32::from(ct.level.0) != level || !ct.scale.agrees_with(expected) {
            return Err(ExecError::Evaluator(format!(
                "operand at level {} with scale 2^{:.4}, expected level {level} and scale 2^{:.4}",
                ct.level,
                ct.scale.log2(),
                expected.log2()
            )));
        }
        Ok(())
    }

    /// The result of a product at `level`, rescaled: its scale follows from the moduli and must be the canonical one.
    fn product(&mut self, level: u32, a: Scale, b: Scale) -> Result<Traced, ExecError> {
        let from = Level(u8::try_from(level).unwrap_or(u8::MAX));
        let product = a.times(b);
        let product =
            product.ok_or_else(|| ExecError::Evaluator("a scale leaves its bounds".into()))?;
        let scale = self.params.rescaled(from, product)?;
        let expected = self.fresh(level.saturating_sub(1))?;
        if !scale.agrees_with(expected.scale) {
            return Err(ExecError::Evaluator(format!(
                "a product at {from} rescales to 2^{:.6}, not to the canonical 2^{:.6}",
                scale.log2(),
                expected.scale.log2()
            )));
        }
        Ok(Traced { scale, ..expected })
    }
}

impl Executor for Trace<'_> {
    type Ct = Traced;

    fn input(&mut self, op: &Input) -> Result<Traced, ExecError> {
        self.fresh(op.level)
    }

    fn output(&mut self, _op: &Output, source: &Traced) -> Result<(), ExecError> {
        self.canonical(source, u32::from(source.level.0))
    }

    fn linear(&mut self, op: &Linear, sources: &[&Traced]) -> Result<Vec<Traced>, ExecError> {
        for source in sources {
            self.canonical(source, op.level_in)?;
        }
        let slots = self.params.slots();
        let level = Level(u8::try_from(op.level_in).unwrap_or(u8::MAX));
        let (plain, cipher) = (
            self.params.plaintext_scale(level)?,
            self.params.scale(level)?,
        );
        self.operations.rotate += baby_rotations(self.bodies, op, slots).len() as u64;
        for sum in sums(self.bodies, op, slots) {
            let mut products = 0;
            for (step, some) in sum {
                products += some.len() as u64;
                self.operations.rotate += u64::from(step != 0);
            }
            self.operations.ct_pt_multiply += products;
            self.operations.add += products.saturating_sub(1);
            self.operations.rescale += 1;
        }
        let conjugate = conjugations(op) as u64;
        self.operations.conjugate += conjugate;
        self.operations.add += match folding(op) {
            Folding::None => 0,
            Folding::Sources => conjugate + op.src.len() as u64 / 2,
            Folding::Results => 2 * conjugate,
        };
        let mut results = Vec::with_capacity(op.out.len());
        for out in &op.out {
            self.operations.add += u64::from(out.bias.is_some());
            results.push(self.product(op.level_in, cipher, plain)?);
        }
        Ok(results)
    }

    fn combine(&mut self, op: &Combine, sources: &[&Traced]) -> Result<Traced, ExecError> {
        let to = Level(u8::try_from(op.level_out).unwrap_or(u8::MAX));
        for (term, source) in op.term.iter().zip(sources) {
            self.canonical(source, term.level)?;
            if term.level > op.level_out {
                self.params
                    .adjust_constant(source.level, to, term.coefficient)?;
                self.operations.ct_pt_multiply += 1;
                self.operations.rescale += 1;
            }
        }
        self.operations.add += (op.term.len() as u64).saturating_sub(1)
            + u64::from(op.constant != 0.0)
            + u64::from(op.bias.is_some());
        self.fresh(op.level_out)
    }

    fn mul_sum(&mut self, op: &MulSum, pairs: &[(&Traced, &Traced)]) -> Result<Traced, ExecError> {
        for (a, b) in pairs {
            self.canonical(a, op.level_in)?;
            self.canonical(b, op.level_in)?;
            self.operations.ct_ct_multiply += 1;
        }
        self.operations.relinearize += 1;
        self.operations.rescale += 1;
        self.operations.add += (pairs.len() as u64).saturating_sub(1);
        self.operations.add += u64::from(op.constant != 0.0);
        let scale = self
            .params
            .scale(Level(u8::try_from(op.level_in).unwrap_or(u8::MAX)))?;
        self.product(op.level_in, scale, scale)
    }

    fn rotate(&mut self, op: &Rotate, source: &Traced) -> Result<Vec<Traced>, ExecError> {
        self.canonical(source, op.level)?;
        let slots = self.params.slots();
        let turned = op.out.iter().filter(|o| normal_step(o.step, slots) != 0);
        self.operations.rotate += turned.count() as u64;
        Ok(vec![*source; op.out.len()])
    }

    fn bootstrap(&mut self, op: &Bootstrap, sources: &[&Traced]) -> Result<Vec<Traced>, ExecError> {
        for source in sources {
            self.canonical(source, op.level_in)?;
        }
        self.operations.bootstrap += 1;
        let result = self.fresh(op.level_out)?;
        Ok(vec![result; sources.len()])
    }
}
