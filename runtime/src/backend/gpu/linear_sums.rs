//! Launches of the sums of a linear map of several sources: rotated sources exist in the shared memory of a block, a few words at a time.

use super::arguments::{LinearSumsArgs, MapRotation, MapSum, MapTerm, MAX_FACTORS, MAX_SOURCES};
use super::core::Gpu;
use super::device::DeviceError;
use super::keys::places;
use super::limits::SHARED_OF_A_BLOCK;
use super::poly::GpuPoly;
use super::product::Layouts;
use super::switch::{half_places, DigitPlaces};
use crate::backend::{Backend, Decomposition, LinearProduct, LinearSource, Pairs, Rotation};
use crate::ring::Form;
use crate::rlwe::{RlweError, RowLimbs};
use bytemuck::Zeroable;
use std::ops::Range;

/// Threads of a block, at most.
const THREADS: u32 = 256;

/// Terms of a sum of one launch: their products, below 2^56, stay below 2^64 together.
const MAX_TERMS: usize = 128;

/// A source with the digits of its second half, where something of it is rotated.
type Digits<'a> = [Option<&'a Decomposition<'a, GpuPoly>>];

/// One rotation of one source.
#[derive(Clone, Copy)]
struct Rotated<'a> {
    source: usize,
    rotation: Option<Rotation<'a>>,
}

impl Rotated<'_> {
    /// Equal for those that share a key.
    fn shares(&self) -> Option<(u32, u64)> {
        self.rotation.map(|r| (r.element.value(), r.key.serial()))
    }
}

/// The rotated sources of a map, those that share a key side by side.
struct Factors<'a> {
    all: Vec<Rotated<'a>>,
    /// For each source the place of each of its rotations.
    places: Vec<Vec<usize>>,
}

impl<'a> Factors<'a> {
    fn new(sources: &[LinearSource<'a, GpuPoly>]) -> Factors<'a> {
        let each = sources.iter().enumerate().flat_map(|(source, s)| {
            let rotations = s.rotations.iter().enumerate();
            rotations.map(move |(number, &rotation)| (number, Rotated { source, rotation }))
        });
        let mut each: Vec<(usize, Rotated<'a>)> = each.collect();
        each.sort_by_key(|(_, factor)| factor.shares());
        let mut places: Vec<Vec<usize>> =
            sources.iter().map(|s| vec![0; s.rotations.len()]).collect();
        for (place, (number, factor)) in each.iter().enumerate() {
            places[factor.source][*number] = place;
        }
        Factors {
            all: each.into_iter().map(|(_, factor)| factor).collect(),
            places,
        }
    }

    /// The factors from `start` on that one launch has room for.
    fn part(&self, start: usize) -> Range<usize> {
        let mut sources: Vec<usize> = Vec::new();
        let mut end = start;
        for factor in self.all[start..].iter().take(MAX_FACTORS) {
            if !sources.contains(&factor.source) {
                if sources.len() == MAX_SOURCES {
                    break;
                }
                sources.push(factor.source);
            }
            end += 1;
        }
        start..end
    }
}

/// What one launch sums.
struct Part<'a, 'b> {
    factors: &'b [Rotated<'a>],
    /// For each sum that is written: its number, and diagonals with the factors they are multiplied by.
    sums: Vec<(usize, Vec<(&'a GpuPoly, usize)>)>,
    accumulate: bool,
}

/// Whether one launch can do all these sources: limbs lie at the same places in each.
pub(super) fn alike(sources: &[LinearSource<'_, GpuPoly>]) -> bool {
    let Some(first) = sources.first() else {
        return true;
    };
    let same = |s: &LinearSource<'_, GpuPoly>| {
        s.pair.0.limbs == first.pair.0.limbs && s.pair.1.limbs == first.pair.1.limbs
    };
    sources.iter().all(same)
}

impl Gpu {
    /// See [`crate::backend::Backend::rotated_sums`]: of sources that are [`alike`].
    pub(super) fn linear_sums(
        &self,
        sources: &[LinearSource<'_, GpuPoly>],
        sums: &[Vec<LinearProduct<'_, GpuPoly>>],
        row: &RowLimbs,
    ) -> Result<Pairs<GpuPoly>, RlweError> {
        self.check_key_shape(row)?;
        // Digits that the caller did not make.
        let moves = |s: &LinearSource<'_, GpuPoly>| s.rotations.iter().any(Option::is_some);
        let lacking = sources.iter().filter(|s| s.digits.is_none() && moves(s));
        let lacking: Vec<&GpuPoly> = lacking.map(|s| s.pair.1).collect();
        let made = self.decompose_each(&lacking, row)?;
        let mut made = made.iter();
        let digits: Vec<Option<&Decomposition<'_, GpuPoly>>> = sources
            .iter()
            .map(|s| match (&s.digits, moves(s)) {
                (Some(digits), true) => Some(digits),
                (None, true) => made.next(),
                (_, false) => None,
            })
            .collect();
        let one = || self.scratch(&row.extended, Form::Evaluation);
        let results = sums.iter().map(|_| Ok((one()?, one()?)));
        let results = results.collect::<Result<Pairs<GpuPoly>, DeviceError>>()?;
        let factors = Factors::new(sources);
        let mut start = 0;
        // No factor: one launch that writes zeros.
        while start == 0 || start < factors.all.len() {
            let range = factors.part(start);
            let of = |p: &LinearProduct<'_, GpuPoly>| factors.places[p.source][p.rotation];
            let terms = sums.iter().map(|sum| {
                let sum = sum.iter().map(|p| (p.plaintext, of(p)));
                let within = sum.filter(|(_, f)| range.contains(f));
                within.map(|(p, f)| (p, f - start)).collect()
            });
            let terms: Vec<Vec<(&GpuPoly, usize)>> = terms.collect();
            let most = terms.iter().map(Vec::len).max().unwrap_or(0);
            for round in (0..most.max(1)).step_by(MAX_TERMS) {
                let accumulate = start + round > 0;
                let part = |terms: &[_]| {
                    let end = terms.len().min(round + MAX_TERMS);
                    terms.get(round..end).map_or(Vec::new(), <[_]>::to_vec)
                };
                let sums = terms.iter().map(|terms| part(terms)).enumerate();
                let part = Part {
                    factors: &factors.all[range.clone()],
                    sums: sums
                        .filter(|(_, terms)| !accumulate || !terms.is_empty())
                        .collect(),
                    accumulate,
                };
                self.launch_linear_sums((sources, &digits), &part, row, &results)?;
            }
            start = range.end.max(1);
        }
        Ok(results)
    }

    fn launch_linear_sums(
        &self,
        (sources, digits): (&[LinearSource<'_, GpuPoly>], &Digits<'_>),
        part: &Part<'_, '_>,
        row: &RowLimbs,
        results: &[(GpuPoly, GpuPoly)],
    ) -> Result<(), RlweError> {
        // The list of terms is brought for this launch alone.
        self.spoil_recording();
        let ring = self.ring_context();
        let (n, limbs) = (ring.degree(), &row.extended);
        let mut args = LinearSumsArgs {
            ring: self.tables().ring(),
            sums: part.sums.len() as u32,
            digits: row.digits.len() as u32,
            limbs: limbs.len() as u32,
            accumulate: u32::from(part.accumulate),
            ..LinearSumsArgs::zeroed()
        };
        // Words of a limb that are read, each once, and written.
        let mut moved = 0;
        let mut numbers: Vec<usize> = Vec::new();
        for (to, factor) in args.source.iter_mut().zip(part.factors) {
            let known = numbers.iter().position(|&s| s == factor.source);
            *to = known.unwrap_or(numbers.len()) as u8;
            if known.is_none() {
                numbers.push(factor.source);
            }
        }
        for (i, &number) in numbers.iter().enumerate() {
            let (c0, c1) = sources[number].pair;
            (args.first[i], args.original[i]) = (self.place(c0)?.0, self.place(c1)?.0);
            moved += 2 * n;
            if let Some(digit) = digits[number].and_then(|d| d.digits.first()) {
                args.digits_at[i] = self.place(digit)?.0;
                moved += row.digits.len() * n;
            }
        }
        if let Some(digits) = numbers.iter().find_map(|&number| digits[number]) {
            let DigitPlaces(places) = self.digit_places(digits, row)?;
            args.digit_places = self.tables().list(&places)?.0;
        }
        if let Some(&number) = numbers.first() {
            let (c0, c1) = sources[number].pair;
            let places = half_places([Some(c0), Some(c1)], limbs);
            args.half_places = self.tables().list(&places)?.0;
        }
        let factors = (&mut args.factor, &mut args.quotient);
        self.write_factors(limbs, &row.special_product, &mut args.prime, factors);
        // Held until the launch is under way.
        let mut keys = Vec::new();
        let mut first = 0;
        for factors in part.factors.chunk_by(|a, b| a.shares() == b.shares()) {
            let to = &mut args.rotation[args.rotations as usize];
            *to = MapRotation {
                element: 1,
                turn: 1,
                first: first as u16,
                count: factors.len() as u16,
                ..MapRotation::zeroed()
            };
            first += factors.len();
            args.rotations += 1;
            if let Some(Rotation { element, key }) = factors.first().and_then(|f| f.rotation) {
                let words = self.keys().get(self, key)?;
                to.key = words.address().0;
                to.places = self.tables().list(&places(key, row)?)?.0;
                to.stored_limbs = (key.limbs().len() + key.special().len()) as u32;
                to.element = element.value();
                to.turn = element.inverse(ring.log_n()).value();
                moved += 2 * row.digits.len() * n;
                keys.push(words);
            }
        }
        let mut layouts = Layouts {
            limbs,
            rows: Vec::new(),
        };
        let (mut listed, mut terms) = (Vec::new(), Vec::new());
        for (number, sum) in &part.sums {
            let (low, high) = &results[*number];
            listed.push(MapSum {
                low: self.place(low)?.0,
                high: self.place(high)?.0,
                first: terms.len() as u32,
                count: sum.len() as u32,
            });
            moved += 2 * n * (1 + usize::from(part.accumulate));
            for &(diagonal, factor) in sum {
                moved += diagonal.degree;
                terms.push(MapTerm {
                    diagonal: self.place(diagonal)?.0,
                    factor: factor as u16,
                    layout: layouts.of(diagonal) as u16,
                    run: (n / diagonal.degree).ilog2(),
                });
            }
        }
        args.layouts = self.tables().list(&layouts.list())?.0;
        let mut list: Vec<u32> = bytemuck::cast_slice(&listed).to_vec();
        let sums_end = list.len();
        list.extend_from_slice(bytemuck::cast_slice(&terms));
        let list = self.filled(&list)?;
        args.sum = list.address().0;
        args.term = list.address().plus(sums_end).0;
        let (threads, shared) = self.linear_sums_shape(part.factors.len().max(1) as u32);
        let grid = [n as u32 / 4 / threads, limbs.len() as u32, 1];
        let moves = limbs.len() * moved;
        // SAFETY: the places name limbs that digits, sources, keys and diagonals have; the results are on the row's QP.
        unsafe { self.launch("heron_linear_sums", grid, threads, shared, moves, &args)? };
        Ok(())
    }

    /// Threads of a block that makes so many rotated sources, and its shared memory: two of them fit a multiprocessor if they have a warp each.
    fn linear_sums_shape(&self, factors: u32) -> (u32, u32) {
        let most = (self.ring_context().degree() as u32 / 4).min(THREADS);
        let half = self.shared_limit().saturating_sub(SHARED_OF_A_BLOCK) / 2;
        // Both halves of a thread's four words.
        let each = 32 * factors;
        let mut threads = most;
        while threads > 32 && threads * each > half {
            threads /= 2;
        }
        (threads, threads * each)
    }
}
