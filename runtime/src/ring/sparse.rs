//! Polynomials in a power of X, evaluated where they live: in a smaller ring.

use super::context::{cached, LimbId, RingContext, MIN_LOG_DEGREE};
use super::ntt::NttTable;
use super::pool::Buffer;
use super::{Form, RingError, RnsPoly};
use rayon::prelude::*;
use std::sync::Arc;

impl RingContext {
    /// Largest `log_run` of [`RingContext::evaluate_in_power`].
    pub fn largest_log_run(&self) -> u32 {
        self.log_n().saturating_sub(MIN_LOG_DEGREE)
    }

    /// A polynomial in Y = X^(2^log_run), compressed as [`RnsPoly::compressed`] would: `fill` writes the N / 2^log_run coefficients of Y^0,
    /// Y^1, … modulo a limb's prime. With ψ the limb's primitive 2N-th root, ψ^(2^log_run) is that of the smaller ring, and word i of the whole
    /// is word i >> log_run of the small transform; so this costs 2^log_run times less than transforming the whole.
    ///
    /// # Errors
    /// A limb of another chain, or a `log_run` that leaves fewer than 2^[`MIN_LOG_DEGREE`] coefficients.
    pub fn evaluate_in_power(
        &self,
        limbs: &[LimbId],
        log_run: u32,
        fill: impl Fn(LimbId, &mut [u32]) + Sync,
    ) -> Result<RnsPoly, RingError> {
        self.check_limbs(limbs)?;
        let refused = RingError::Degree {
            log_n: self.log_n().saturating_sub(log_run),
            min: MIN_LOG_DEGREE,
            max: self.log_n(),
        };
        if log_run > self.largest_log_run() {
            return Err(refused);
        }
        let log_n = self.log_n() - log_run;
        let tables = limbs
            .iter()
            .map(|&id| self.small_table(log_n, id).ok_or(refused.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        let n = 1usize << log_n;
        let mut data = Buffer::scratch(limbs.len() * n);
        data.par_chunks_mut(n)
            .zip(limbs)
            .zip(&tables)
            .for_each(|((words, &id), table)| {
                fill(id, words);
                table.forward(words);
            });
        Ok(RnsPoly::from_parts(
            limbs.to_vec(),
            Form::Evaluation,
            n,
            data,
        ))
    }

    fn small_table(&self, log_n: u32, id: LimbId) -> Option<Arc<NttTable>> {
        let make = || NttTable::new(log_n, self.modulus(id), self.instruction_set());
        // Whether there is a table depends on the prime alone, and the ring's primes were checked for a larger one.
        make_once(self.small_ntt_cache(), (log_n, id), make)
    }
}

fn make_once(
    cache: &super::context::SmallTables,
    key: (u32, LimbId),
    make: impl FnOnce() -> Option<NttTable>,
) -> Option<Arc<NttTable>> {
    if let Ok(map) = cache.lock() {
        if let Some(found) = map.get(&key) {
            return Some(Arc::clone(found));
        }
    }
    let made = make()?;
    Some(cached(cache, &key, || made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_in_a_power_of_x_evaluate_as_in_the_whole_ring() {
        let ring = RingContext::new(12, &[786433, 1179649, 67239937]).unwrap();
        let limbs = ring.all_limbs();
        for log_run in 0..=ring.largest_log_run() {
            let n = ring.degree() >> log_run;
            let value = |k: usize| ((k * k + 3 * k + 1) % 1000) as i64 - 500;
            let mut whole = vec![0i64; ring.degree()];
            (0..n).for_each(|k| whole[k << log_run] = value(k));
            let mut expected = RnsPoly::from_signed(&ring, &limbs, &whole);
            ring.to_evaluation(&mut expected);
            let found = ring
                .evaluate_in_power(&limbs, log_run, |id, words| {
                    let q = *ring.modulus(id);
                    for (k, word) in words.iter_mut().enumerate() {
                        *word = q.reduce_i64(value(k));
                    }
                })
                .unwrap();
            assert_eq!(found.degree(), n);
            assert!(
                expected.compressed(log_run).unwrap() == found,
                "run 2^{log_run}"
            );
        }
        let beyond = ring.largest_log_run() + 1;
        assert!(ring.evaluate_in_power(&limbs, beyond, |_, _| {}).is_err());
        assert!(ring.evaluate_in_power(&[LimbId(9)], 1, |_, _| {}).is_err());
    }
}
