//! The operations one by one.

use super::{Lab, Measurement, Place};
use crate::backend::{Cpu, Switch};
use crate::ckks::multiply::two;
use crate::ckks::{Basis, CkksError, Plaintext, RotationStep, Transfer};
use crate::ring::GaloisElement;
use crate::rlwe::{KeyKind, KeyRequest};
use std::any::Any;

/// Rotations in one hoisting, by 1 and up.
const HOISTED: i64 = 8;

pub(super) fn add_keys(request: &mut KeyRequest, place: &Place) {
    let (level, log_n) = (place.level, place.params.log_n());
    request.add(KeyKind::Relinearisation, level);
    request.add(KeyKind::Galois(GaloisElement::conjugation(log_n)), level);
    for step in 1..=HOISTED {
        request.add(KeyKind::Galois(GaloisElement::rotation(step, log_n)), level);
    }
}

/// What is timed: its result is dropped outside the timed part.
type Work<'a> = &'a dyn Fn() -> Result<Box<dyn Any>, CkksError>;

fn boxed<T: 'static>(value: T) -> Result<Box<dyn Any>, CkksError> {
    Ok(Box::new(value))
}

/// What a client does, on the host.
const CLIENTS: [&str; 2] = ["encrypt", "decrypt"];

impl<B: Transfer> Lab<B> {
    pub(super) fn ops<E: From<CkksError>>(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        report: &mut dyn FnMut(&Measurement) -> Result<(), E>,
    ) -> Result<(), E> {
        let evaluator = &self.evaluator;
        let backend = evaluator.backend();
        let slots = self.uniform("slots", self.encoder.slots());
        let message = self.plaintext(&slots)?;
        let fresh = self.encrypt(&message, "a")?;
        let plain = backend.bring_plaintext(message.clone());
        let a = backend.bring(fresh.clone());
        let b = backend.bring(self.encrypt(&message, "b")?);
        let (poly, _) = two("bench", &a)?;
        let mut coefficients = poly.clone();
        backend.to_coefficient(&mut coefficients);
        let mut product = a.clone();
        evaluator.mul_plain_assign(&mut product, &plain)?;
        let steps: Vec<RotationStep> = (1..=HOISTED).map(RotationStep).collect();
        let log_slots = self.context.params().log_n() - 1;
        let row = self.context.row(self.level()).map_err(CkksError::from)?;
        let key = evaluator
            .keys()
            .get(KeyKind::Relinearisation)
            .map_err(CkksError::from)?;
        let works: [(&'static str, Work<'_>); 13] = [
            ("ntt_forward", &|| {
                let mut p = coefficients.clone();
                backend.to_evaluation(&mut p);
                boxed(p)
            }),
            ("ntt_inverse", &|| {
                let mut p = poly.clone();
                backend.to_coefficient(&mut p);
                boxed(p)
            }),
            ("add", &|| boxed(evaluator.add(&a, &b)?)),
            ("multiply_plain", &|| {
                let mut c = a.clone();
                evaluator.mul_plain_assign(&mut c, &plain)?;
                boxed(c)
            }),
            ("multiply", &|| boxed(evaluator.mul_rescale(&a, &b)?)),
            ("rescale", &|| boxed(evaluator.rescale(&product)?)),
            ("rotate", &|| boxed(evaluator.rotate(&a, RotationStep(1))?)),
            ("rotate_hoisted", &|| {
                boxed(evaluator.rotate_hoisted(&a, &steps)?)
            }),
            ("conjugate", &|| boxed(evaluator.conjugate(&a)?)),
            ("encode", &|| {
                let (level, context) = (self.level(), &self.context);
                let scale = context.params().scale(level)?;
                let encoded = self.encoder.encode_real(&slots, scale)?;
                let place = (level, scale);
                let made = Plaintext::made_on(backend, context, &encoded, place, Basis::Row, false);
                boxed(made?)
            }),
            ("encrypt", &|| boxed(self.encrypt(&message, "c")?)),
            ("decrypt", &|| {
                let client = &self.client;
                boxed(client.decrypt_slots(&self.encoder, &fresh, log_slots)?)
            }),
            ("key_switch", &|| {
                let digits = backend.decompose(poly, row)?;
                let switch = Switch {
                    key,
                    addends: [None, None],
                    element: None,
                    lo: &row.limbs,
                };
                boxed(backend.switch_and_divide(&digits, switch, row)?)
            }),
        ];
        for (op, work) in works {
            if !wanted(op) {
                continue;
            }
            let mut m = self.time(op, work)?;
            if CLIENTS.contains(&op) {
                m.backend = Cpu::NAME;
            }
            if op == "rotate_hoisted" {
                m.extra.push(("each_s", m.median_seconds / HOISTED as f64));
            }
            report(&m)?;
        }
        Ok(())
    }
}
