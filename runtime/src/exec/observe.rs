//! An executor that shows every result it makes: for looking into a run.

use super::together::{Factors, Member};
use super::{ExecError, Executor, Parts};
use heron_schedule::proto::{Bootstrap, Combine, Input, Linear, MulSum, Output, Rotate};

/// Runs another executor and hands each of its results to `watch`, with the position of the instruction and the number of the
/// result in the order in which the instruction lists its destinations. `watch` may fail: the walk then stops with its error.
pub struct Observed<'a, E: Executor, W> {
    /// The executor that does the work.
    pub inner: &'a mut E,
    /// Called as `watch(instruction, result, ciphertext)`.
    pub watch: W,
    position: usize,
    together: usize,
}

impl<'a, E, W> Observed<'a, E, W>
where
    E: Executor,
    W: FnMut(usize, usize, &E::Ct) -> Result<(), ExecError>,
{
    /// Observes `inner`.
    pub fn new(inner: &'a mut E, watch: W) -> Self {
        Observed {
            inner,
            watch,
            position: 0,
            together: 1,
        }
    }

    /// As many instructions together as the executor likes: `watch` is then called for all of a batch before those in between.
    pub fn in_batches(self) -> Self {
        Observed {
            together: self.inner.together(),
            ..self
        }
    }

    fn show(&mut self, results: &[E::Ct]) -> Result<(), ExecError> {
        self.show_of(self.position, results)
    }

    fn show_of(&mut self, position: usize, results: &[E::Ct]) -> Result<(), ExecError> {
        for (number, ct) in results.iter().enumerate() {
            (self.watch)(position, number, ct)?;
        }
        Ok(())
    }

    fn one(&mut self, result: E::Ct) -> Result<E::Ct, ExecError> {
        (self.watch)(self.position, 0, &result)?;
        Ok(result)
    }
}

impl<E, W> Executor for Observed<'_, E, W>
where
    E: Executor,
    W: FnMut(usize, usize, &E::Ct) -> Result<(), ExecError>,
{
    type Ct = E::Ct;

    fn begin(&mut self, index: usize, layer: u32) {
        self.position = index;
        self.inner.begin(index, layer);
    }

    fn input(&mut self, op: &Input) -> Result<Self::Ct, ExecError> {
        let result = self.inner.input(op)?;
        self.one(result)
    }

    fn output(&mut self, op: &Output, source: &Self::Ct) -> Result<(), ExecError> {
        self.inner.output(op, source)
    }

    fn linear(&mut self, op: &Linear, sources: &[&Self::Ct]) -> Result<Vec<Self::Ct>, ExecError> {
        let results = self.inner.linear(op, sources)?;
        self.show(&results)?;
        Ok(results)
    }

    fn combine(&mut self, op: &Combine, sources: &[&Self::Ct]) -> Result<Self::Ct, ExecError> {
        let result = self.inner.combine(op, sources)?;
        self.one(result)
    }

    fn mul_sum(
        &mut self,
        op: &MulSum,
        pairs: &[(&Self::Ct, &Self::Ct)],
    ) -> Result<Self::Ct, ExecError> {
        let result = self.inner.mul_sum(op, pairs)?;
        self.one(result)
    }

    fn rotate(&mut self, op: &Rotate, source: &Self::Ct) -> Result<Vec<Self::Ct>, ExecError> {
        let results = self.inner.rotate(op, source)?;
        self.show(&results)?;
        Ok(results)
    }

    fn bootstrap(
        &mut self,
        op: &Bootstrap,
        sources: &[&Self::Ct],
    ) -> Result<Vec<Self::Ct>, ExecError> {
        let results = self.inner.bootstrap(op, sources)?;
        self.show(&results)?;
        Ok(results)
    }

    fn together(&self) -> usize {
        self.together
    }

    fn mul_sum_each(
        &mut self,
        batch: &[Member<'_, MulSum, Vec<Factors<'_, Self::Ct>>>],
    ) -> Result<Vec<Self::Ct>, ExecError> {
        let results = self.inner.mul_sum_each(batch)?;
        for (member, result) in batch.iter().zip(&results) {
            self.show_of(member.index, std::slice::from_ref(result))?;
        }
        Ok(results)
    }

    fn rotate_each(
        &mut self,
        batch: &[Member<'_, Rotate, &Self::Ct>],
    ) -> Result<Vec<Vec<Self::Ct>>, ExecError> {
        let results = self.inner.rotate_each(batch)?;
        for (member, results) in batch.iter().zip(&results) {
            self.show_of(member.index, results)?;
        }
        Ok(results)
    }

    fn bootstrap_each(
        &mut self,
        batch: &[Member<'_, Bootstrap, Vec<&Self::Ct>>],
    ) -> Result<Vec<Vec<Self::Ct>>, ExecError> {
        let results = self.inner.bootstrap_each(batch)?;
        for (member, results) in batch.iter().zip(&results) {
            self.show_of(member.index, results)?;
        }
        Ok(results)
    }

    fn take_parts(&mut self) -> Parts {
        self.inner.take_parts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::clear::Clear;
    use crate::exec::walk;
    use heron_schedule::params::Profile;
    use heron_schedule::recount::writes;
    use heron_schedule::sample::{sample, SAMPLE_ELEMENTS};

    #[test]
    fn every_result_is_shown_once_in_order_and_nothing_changes() {
        let schedule = sample(Profile::Toy).expect("sample");
        let slots = schedule.params().slots();
        let input = vec![vec![(0..slots)
            .map(|i| (i % SAMPLE_ELEMENTS) as f64 / 8.0)
            .collect::<Vec<f64>>()]];
        let mut plain = Clear::new(&schedule, input.clone(), None).expect("clear");
        walk(schedule.program(), &mut plain, &mut |_| ()).expect("runs");
        let mut seen = Vec::new();
        let mut clear = Clear::new(&schedule, input, None).expect("clear");
        let mut observed = Observed::new(&mut clear, |i, n, ct: &Vec<f64>| {
            assert_eq!(ct.len(), slots);
            seen.push((i, n));
            Ok(())
        });
        walk(schedule.program(), &mut observed, &mut |_| ()).expect("runs");
        let expected: Vec<(usize, usize)> = schedule
            .program()
            .instructions
            .iter()
            .enumerate()
            .flat_map(|(i, x)| (0..writes(x).len()).map(move |n| (i, n)))
            .collect();
        assert_eq!(seen, expected);
        assert_eq!(plain.into_outputs().0, clear.into_outputs().0);
    }
}
