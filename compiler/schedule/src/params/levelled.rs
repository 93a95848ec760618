//! Chains without bootstrapping: for programs whose whole depth fits, in the smallest ring that bears it at 128 bits.
//!
//! One chain per ring, kind of level and digit size, as long as the security table allows; a program uses the rows it needs, from the
//! bottom, and keys hold only the limbs of rows they are used at. The secret is uniform ternary. Everything is derived here from the list
//! of primes by integer arithmetic, so that a file names a chain by its id and cannot bring its own.
//!
//! Levels of 40 bits: the period-two ladder of `models/parameters/README.md` with one terminal D for all even rows,
//!     row 2i   = m_0 … m_3i   {D}          row 2i+1 = m_0 … m_3i+1 {A, B}
//! so that a level costs a limb and a half and the terminals cost 27 or 40 bits once (a last row, the union, holds all of them).
//! Levels of 27 bits: row l = {A, B} m_1 … m_l, one limb a level: half the work for 13 bits of precision less.

use super::chain::Chain;
use super::{modulus_limit, ParameterError, RowKind, SecretKind};
use num_bigint::BigUint;
use std::sync::OnceLock;

/// How many bits a level of a chain without bootstrapping has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LevelBits {
    /// One limb a level.
    TwentySeven,
    /// Three limbs for two levels.
    Forty,
}

impl LevelBits {
    /// Base-two logarithm of the scale of row 0, and nearly of all others.
    pub fn log2(self) -> u32 {
        match self {
            LevelBits::TwentySeven => 27,
            LevelBits::Forty => 40,
        }
    }

    /// Limbs of a row of such a chain.
    pub fn limbs(self, level: u32) -> usize {
        let l = level as usize;
        match self {
            LevelBits::TwentySeven => l + 2,
            LevelBits::Forty => 3 * (l / 2) + if l.is_multiple_of(2) { 2 } else { 4 },
        }
    }
}

/// One chain of the family; in a given ring nothing else is to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LevelledShape {
    /// Bits of a level.
    pub bits: LevelBits,
    /// Limbs of a key-switching digit: more of them make fewer and larger digits, and leave fewer levels.
    pub digit_limbs: u8,
}

/// Digit sizes offered.
const DIGITS: [u8; 11] = [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 15];
/// Rings a shape may be asked for in earnest.
pub(super) const RINGS: std::ops::RangeInclusive<u32> = 13..=17;
/// The largest primes are kept for P: these many, whatever the digit size, or as many as a digit has limbs.
const RESERVED: usize = 12;
/// Fewer levels than this are no chain.
const FEWEST_LEVELS: usize = 1;
/// Digits of fewer limbs than this need one more special prime: P is to exceed every digit by 2^3 at least, so that the noise of
/// switching stays below that of rounding under a uniform secret.
const WIDE_ENOUGH: u8 = 6;
/// More levels than this are never cheaper than bootstrapping, and scales would be known to fewer bits: each level doubles what rounding
/// the top scale leaves.
const MOST_LEVELS: usize = 40;
/// How far scales may be from their power of two, in bits.
const DRIFT: f64 = 0.25;

impl LevelledShape {
    /// All shapes, in the order in which files are compared with them.
    pub fn all() -> impl Iterator<Item = LevelledShape> {
        [LevelBits::TwentySeven, LevelBits::Forty]
            .into_iter()
            .flat_map(|bits| {
                DIGITS
                    .into_iter()
                    .map(move |digit_limbs| LevelledShape { bits, digit_limbs })
            })
    }
}

/// A chain as [`Chain`] borrows it.
pub(super) struct OwnedChain {
    primes: Vec<u32>,
    digit_sizes: Vec<usize>,
    special: Vec<u16>,
    scale_top_times_2_40: u128,
    top_usable: u8,
    rows: Vec<(RowKind, Vec<u16>)>,
}

impl OwnedChain {
    /// Hands a borrowed view over.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Chain<'_>) -> T) -> T {
        let rows: Vec<(RowKind, &[u16])> = self
            .rows
            .iter()
            .map(|(kind, limbs)| (*kind, limbs.as_slice()))
            .collect();
        read(&Chain {
            primes: &self.primes,
            digit_sizes: &self.digit_sizes,
            special: &self.special,
            encapsulation: &[],
            scale_top_times_2_40: self.scale_top_times_2_40,
            top_usable: self.top_usable,
            rows: &rows,
        })
    }
}

fn is_prime(n: u32) -> bool {
    let n = u64::from(n);
    let pow = |mut base: u64, mut exponent: u64| {
        let mut result = 1;
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result * base % n;
            }
            base = base * base % n;
            exponent >>= 1;
        }
        result
    };
    let twos = (n - 1).trailing_zeros();
    // Bases 2, 3, 5, 7 decide every n below 3.2e9 (Pomerance, Selfridge, Wagstaff 1980).
    n > 7
        && n % 2 == 1
        && [2, 3, 5, 7].into_iter().all(|base| {
            let mut x = pow(base, (n - 1) >> twos);
            if x == 1 || x == n - 1 {
                return true;
            }
            (1..twos).any(|_| {
                x = x * x % n;
                x == n - 1
            })
        })
}

/// Primes below 2^28 that are 1 modulo 2^17 (for rings up to 2^16) or 2^18, ascending.
fn primes(log_n: u32) -> &'static [u32] {
    static UP_TO_16: OnceLock<Vec<u32>> = OnceLock::new();
    static AT_17: OnceLock<Vec<u32>> = OnceLock::new();
    let (cell, order) = match log_n {
        ..=16 => (&UP_TO_16, 17),
        _ => (&AT_17, 18),
    };
    cell.get_or_init(|| {
        (1..1u32 << (28 - order))
            .map(|k| (k << order) + 1)
            .filter(|&p| is_prime(p))
            .collect()
    })
}

/// Takes the prime nearest to `target` out of an ascending list.
fn take_nearest(pool: &mut Vec<u32>, target: f64) -> Option<u32> {
    let distance = |p: u32| (f64::from(p) - target).abs();
    let index = (0..pool.len()).min_by(|&a, &b| distance(pool[a]).total_cmp(&distance(pool[b])))?;
    Some(pool.remove(index))
}

/// Takes the two primes whose product is nearest to `target`.
fn take_pair(pool: &mut Vec<u32>, target: f64) -> Option<[u32; 2]> {
    let (mut i, mut j) = (0, pool.len().checked_sub(1)?);
    let mut best: Option<(f64, usize, usize)> = None;
    while i < j {
        let excess = f64::from(pool[i]) * f64::from(pool[j]) - target;
        if best.is_none_or(|(least, _, _)| excess.abs() < least) {
            best = Some((excess.abs(), i, j));
        }
        if excess > 0.0 {
            j -= 1;
        } else {
            i += 1;
        }
    }
    let (_, i, j) = best?;
    let second = pool.remove(j);
    Some([pool.remove(i), second])
}

/// The rows of a chain, bottom-up, as lists of primes, as long as primes and `limit` (bits of the union of all rows) allow.
fn rows(pool: &[u32], bits: LevelBits, limit: f64, reserved: usize) -> Vec<Vec<u32>> {
    let (a, b) = (pool[0], pool[1]);
    let terminals = f64::from(a) * f64::from(b);
    let scale = 2f64.powi(bits.log2() as i32);
    // Small primes are terminals or special.
    let mut free: Vec<u32> = pool.iter().copied().filter(|&p| p > 1 << 25).collect();
    free.truncate(free.len().saturating_sub(reserved));
    let log2 = |primes: &[u32]| primes.iter().map(|&p| f64::from(p).log2()).sum::<f64>();
    // The exact scales follow later; these only steer the choice of primes.
    let mut at = scale;
    let mut made: Vec<Vec<u32>> = Vec::new();
    let is_enough = |rows: usize, at: f64| rows > MOST_LEVELS || (at / scale).log2().abs() > DRIFT;
    match bits {
        LevelBits::TwentySeven => {
            made.push(vec![a, b]);
            while let Some(main) = take_nearest(&mut free, scale * scale / at) {
                let mut row = made[made.len() - 1].clone();
                row.push(main);
                at = (at * f64::from(main)).sqrt();
                if log2(&row) > limit || is_enough(made.len(), at) {
                    break;
                }
                made.push(row);
            }
        }
        LevelBits::Forty => {
            let middle = 2f64.powf(26.7);
            let wanted = (middle * terminals / scale).min(2f64.powf(27.9));
            let (Some(d), Some(first)) = (
                take_nearest(&mut free, wanted),
                take_nearest(&mut free, middle),
            ) else {
                return made;
            };
            let mut mains = vec![first];
            made.push(vec![first, d]);
            loop {
                // What the modulus of the next row should be, over that of this one.
                let ratio = scale * scale / at;
                let odd = made.len() % 2 == 1;
                let added = if odd {
                    take_nearest(&mut free, ratio * f64::from(d) / terminals).map(|p| vec![p])
                } else {
                    take_pair(&mut free, ratio * terminals / f64::from(d)).map(Vec::from)
                };
                let Some(added) = added else { break };
                let product: f64 = added.iter().map(|&p| f64::from(p)).product();
                let grown = if odd {
                    product * terminals / f64::from(d)
                } else {
                    product * f64::from(d) / terminals
                };
                mains.extend(added);
                let all: Vec<u32> = mains.iter().copied().chain([d, a, b]).collect();
                at = (at * grown).sqrt();
                if log2(&all) > limit || is_enough(made.len(), at) {
                    break;
                }
                let ends: &[u32] = if odd { &[a, b] } else { &[d] };
                made.push(mains.iter().chain(ends).copied().collect());
            }
        }
    }
    made
}

/// D of the highest usable row times 2^40, such that D of row 0 is 2^bits under D_{l-1} = D_l² · Q_{l-1}/Q_l.
fn scale_top(rows: &[Vec<u32>], bits: LevelBits) -> u128 {
    const FRACTION: u32 = 160;
    let product = |row: &[u32]| row.iter().fold(BigUint::from(1u8), |q, &p| q * p);
    let mut scale = BigUint::from(1u8) << (bits.log2() + FRACTION);
    for pair in rows.windows(2) {
        scale = ((scale << FRACTION) * product(&pair[1]) / product(&pair[0])).sqrt();
    }
    let shift = FRACTION - 40;
    let rounded: BigUint = (scale + (BigUint::from(1u8) << (shift - 1))) >> shift;
    rounded
        .iter_u64_digits()
        .rev()
        .fold(0, |whole, digit| whole << 64 | u128::from(digit))
}

/// The chain of a shape within the limit of the ring 2^log_n, `None` if not even one level fits or the ring is none of the family's.
pub(super) fn chain(log_n: u32, shape: LevelledShape) -> Result<OwnedChain, ParameterError> {
    let none = ParameterError::NoLevels { log_n, shape };
    if !RINGS.contains(&log_n) || !DIGITS.contains(&shape.digit_limbs) {
        return Err(none);
    }
    let pool = primes(log_n);
    let mut special: Vec<u32> = pool[pool.len() - usize::from(shape.digit_limbs)..].to_vec();
    if shape.digit_limbs < WIDE_ENOUGH {
        special.push(pool[2]);
    }
    let log2_special: f64 = special.iter().map(|&p| f64::from(p).log2()).sum();
    let limit = modulus_limit(log_n, SecretKind::UniformTernary)
        .map_or(0.0, |limit| f64::from(limit) - log2_special);
    let reserved = RESERVED.max(usize::from(shape.digit_limbs));
    let mut table = rows(pool, shape.bits, limit, reserved);
    let usable = table.len().saturating_sub(1);
    if usable < FEWEST_LEVELS {
        return Err(none);
    }
    let scale_top_times_2_40 = scale_top(&table, shape.bits);
    let mut order: Vec<u32> = Vec::new();
    for row in &table {
        let mut new: Vec<u32> = row.iter().copied().filter(|p| !order.contains(p)).collect();
        new.sort_unstable();
        order.extend(new);
    }
    if table.last().is_some_and(|row| row.len() < order.len()) {
        table.push(order.clone());
    }
    let index = |p: &u32| order.iter().position(|q| q == p).unwrap_or(0) as u16;
    let rows = table
        .iter()
        .enumerate()
        .map(|(level, row)| {
            let kind = match level {
                0 => RowKind::Base,
                l if l <= usable => RowKind::Usable,
                _ => RowKind::Union,
            };
            let mut limbs: Vec<u16> = row.iter().map(index).collect();
            limbs.sort_unstable();
            (kind, limbs)
        })
        .collect();
    // The first digit holds all terminals, of which a row has D or A and B: one limb more is never alive with the others.
    let digit = usize::from(shape.digit_limbs);
    let spare = usize::from(shape.bits == LevelBits::Forty && digit >= 4);
    let (first, others) = order.split_at((digit + spare).min(order.len()));
    let digit_sizes = std::iter::once(first)
        .chain(others.chunks(digit))
        .map(<[u32]>::len)
        .collect();
    let first = order.len() as u16;
    Ok(OwnedChain {
        digit_sizes,
        special: (first..first + special.len() as u16).collect(),
        primes: order.into_iter().chain(special).collect(),
        scale_top_times_2_40,
        top_usable: usable as u8,
        rows,
    })
}
