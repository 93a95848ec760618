//! A linear map on encrypted slots: baby-step giant-step with both steps hoisted (eprint 2020/1203).
//!
//! One decomposition serves all baby rotations, which stay modulo QP; products with diagonals are summed there; each giant step divides and
//! decomposes one polynomial; one division at the end goes from QP straight to the next row.

use super::diagonals::Diagonals;
use super::BootstrapError;
use crate::backend::{Backend, MapTerm, Pairs, Rotation, Turned};
use crate::ckks::encoding::{Complex, Encoder};
use crate::ckks::{Ciphertext, CkksError, Evaluator, RotationStep};
use crate::ring::GaloisElement;
use crate::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{Level, Scale};
use std::collections::{BTreeMap, BTreeSet};

/// Most baby steps: with 63 diagonals, 7 hoisted rotations and 7 giant ones.
const BABY_STEPS: i64 = 8;

/// Diagonals whose values come in runs of at least 2^this equal words are kept as one word per run.
pub(super) const MIN_LOG_RUN: u32 = 2;

type Ct<B> = Ciphertext<<B as Backend>::Poly>;

/// The rotations of a map: offset = giant + baby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    babies: Vec<i64>,
    /// Giant step and, for each of its diagonals, the position of the baby step.
    giants: Vec<(i64, Vec<usize>)>,
}

impl Steps {
    /// Splits the offsets of a map, multiples of one stride.
    pub fn new(offsets: &[i64]) -> Steps {
        let stride = offsets
            .iter()
            .filter(|&&o| o != 0)
            .map(|o| o.abs())
            .min()
            .unwrap_or(1);
        let width = BABY_STEPS * stride;
        let babies: BTreeSet<i64> = offsets.iter().map(|o| o.rem_euclid(width)).collect();
        let babies: Vec<i64> = babies.into_iter().collect();
        let mut giants: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for &offset in offsets {
            let baby = offset.rem_euclid(width);
            if let Ok(position) = babies.binary_search(&baby) {
                giants.entry(offset - baby).or_default().push(position);
            }
        }
        Steps {
            babies,
            giants: giants.into_iter().collect(),
        }
    }

    /// Numbers of baby and of giant steps.
    pub fn counts(&self) -> (usize, usize) {
        (self.babies.len(), self.giants.len())
    }

    /// Asks for the keys of all rotations at `row`.
    pub fn request(&self, log_n: u32, row: Level, request: &mut KeyRequest) {
        let giants = self.giants.iter().map(|(g, _)| g);
        for &step in self.babies.iter().chain(giants) {
            let element = GaloisElement::rotation(step, log_n);
            if element.value() != 1 {
                request.add(KeyKind::Galois(element), row);
            }
        }
    }
}

/// A map prepared for one row: its diagonals encoded modulo QP.
pub struct LinearMap<P> {
    level: Level,
    scale: Scale,
    steps: Steps,
    /// For each giant step, the diagonals in the order of its positions.
    diagonals: Vec<Vec<P>>,
}

impl<P: Clone + Send + Sync> LinearMap<P> {
    /// Encodes the diagonals at `scale` for the limbs of `level` and P.
    ///
    /// # Errors
    /// A scale at which they cannot be encoded.
    pub fn new<B: Backend<Poly = P>>(
        context: &RlweContext,
        backend: &B,
        encoder: &Encoder,
        map: &Diagonals,
        level: Level,
        scale: Scale,
    ) -> Result<Self, BootstrapError> {
        let row = context.row(level)?;
        let offsets: Vec<i64> = map.iter().map(|(o, _)| o).collect();
        let steps = Steps::new(&offsets);
        let by_offset: BTreeMap<i64, &[Complex]> = map.iter().collect();
        let mut diagonals = Vec::with_capacity(steps.giants.len());
        for (giant, positions) in &steps.giants {
            let mut encoded = Vec::with_capacity(positions.len());
            for &position in positions {
                let offset = giant + steps.babies.get(position).copied().unwrap_or(0);
                let values = by_offset.get(&offset).copied().unwrap_or_default();
                // The giant rotation comes after the product, so the diagonal is turned back by it.
                let n = values.len();
                let turned: Vec<Complex> = (0..n)
                    .map(|i| values[(i as i64 - giant) as usize & (n - 1)])
                    .collect();
                let mut poly =
                    encoder.encode_to_poly(context.ring(), &row.extended, &turned, scale)?;
                context.ring().to_evaluation(&mut poly);
                // A period of few slots is a polynomial in a power of X.
                let log_run = context.ring().log_n() - (n.trailing_zeros() + 1);
                let small = match log_run >= MIN_LOG_RUN {
                    true => poly.compressed(log_run),
                    false => None,
                };
                encoded.push(backend.upload(&small.unwrap_or(poly)));
            }
            diagonals.push(encoded);
        }
        Ok(Self {
            level,
            scale,
            steps,
            diagonals,
        })
    }

    /// The encoded diagonals.
    pub fn diagonals(&self) -> impl Iterator<Item = &P> {
        self.diagonals.iter().flatten()
    }

    /// The map applied to the slots of several ciphertexts, one row down: scale · plaintext scale · Q(level - 1)/Q(level).
    ///
    /// # Errors
    /// A ciphertext of another row, or a rotation without a key.
    pub fn apply_each<B: Backend<Poly = P>>(
        &self,
        evaluator: &Evaluator<B>,
        inputs: &[Ct<B>],
    ) -> Result<Vec<Ct<B>>, BootstrapError> {
        let context = evaluator.context();
        let backend = evaluator.backend();
        let row = context.row(self.level)?;
        let target = context.row(Level(self.level.0.saturating_sub(1)))?;
        let mut halves = Vec::with_capacity(inputs.len());
        for input in inputs {
            let [c0, c1] = input.polys() else {
                return Err(BootstrapError::Circuit {
                    what: "a linear map takes a relinearised ciphertext",
                });
            };
            if input.level() != self.level {
                return Err(CkksError::LevelMismatch {
                    op: "linear map",
                    lhs: self.level,
                    rhs: input.level(),
                }
                .into());
            }
            halves.push((c0, c1));
        }
        let element = |step: i64| evaluator.rotation_element(RotationStep(step));
        let zero = || backend.zero(&row.extended, crate::ring::Form::Evaluation);
        let mut babies = Vec::with_capacity(self.steps.babies.len());
        for &step in &self.steps.babies {
            let element = element(step);
            babies.push(match element.value() {
                1 => None,
                _ => {
                    let key = evaluator.keys().get(KeyKind::Galois(element))?;
                    Some(Rotation { element, key })
                }
            });
        }
        let giants = self.steps.giants.iter().zip(&self.diagonals);
        let giants = giants.map(|((_, positions), diagonals)| {
            let terms = diagonals.iter().zip(positions.iter().copied());
            terms.collect()
        });
        let giants: Vec<Vec<MapTerm<'_, P>>> = giants.collect();
        let high: Vec<&P> = halves.iter().map(|&(_, c1)| c1).collect();
        let digits = backend.decompose_each(&high, row)?.into_iter();
        let sources = digits.zip(halves.iter().map(|&(c0, _)| c0)).collect();
        let products = backend.rotated_sums_each(sources, &babies, &giants, row)?;
        let mut products: Vec<_> = products.into_iter().map(Vec::into_iter).collect();
        // One for each input; none before the first giant step.
        let mut sums: Pairs<P> = Vec::new();
        let mut moving = Vec::new();
        for (giant, _) in &self.steps.giants {
            let element = element(*giant);
            let each: Pairs<P> = products.iter_mut().filter_map(Iterator::next).collect();
            if element.value() != 1 {
                let key = evaluator.keys().get(KeyKind::Galois(element))?;
                let rotation = Rotation { element, key };
                let each = each.into_iter().enumerate();
                moving.extend(each.map(|(input, pair)| (rotation, input, pair)));
                continue;
            }
            if sums.is_empty() {
                sums = each;
                continue;
            }
            for ((a, b), (low, high)) in sums.iter_mut().zip(&each) {
                backend.add_assign(a, low);
                backend.add_assign(b, high);
            }
        }
        if sums.is_empty() && !moving.is_empty() {
            sums = inputs.iter().map(|_| (zero(), zero())).collect();
        }
        // Whole giant steps, which read their keys once.
        let together = inputs.len().max(1);
        let together = together * (backend.together() / together).max(1);
        let mut moving = moving.into_iter();
        loop {
            // What has been added makes room for what comes next.
            let some: Vec<_> = moving.by_ref().take(together).collect();
            if some.is_empty() {
                break;
            }
            let high: Vec<&P> = some.iter().map(|(_, _, (_, high))| high).collect();
            let divided = backend.divide_and_round_each(&high, &row.limbs, None)?;
            let turned = some.iter().zip(&divided);
            let turned = turned.map(|((rotation, input, (low, _)), high)| Turned {
                pair: (low, high),
                rotation: *rotation,
                sum: *input,
            });
            backend.switch_and_add_each(&turned.collect::<Vec<_>>(), row, &mut sums)?;
        }
        if sums.len() != inputs.len() {
            return Err(BootstrapError::Circuit {
                what: "a linear map has no diagonal",
            });
        }
        let both: Vec<&P> = sums.iter().flat_map(|(low, high)| [low, high]).collect();
        let divided = backend.divide_and_round_each(&both, &target.limbs, None)?;
        let mut divided = divided.into_iter();
        let each = inputs.iter().map(|input| {
            let scale = input.scale().times(self.scale);
            let scale = scale.ok_or(CkksError::ScaleRange { op: "linear map" })?;
            let scale = context.params().rescaled(self.level, scale)?;
            let polys = divided.by_ref().take(2).collect();
            Ok(Ciphertext::from_parts(polys, target.level, scale))
        });
        each.collect()
    }
}
