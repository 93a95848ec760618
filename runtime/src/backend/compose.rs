//! What a backend may do in one go, from its single operations: the meaning of those, and enough for a backend that has nothing better.

use super::{
    Backend, Decomposition, LinearProduct, LinearSource, MapTerm, Pairs, Rotation, Switch, Triple,
};
use crate::ring::{Form, LimbId};
use crate::rlwe::{RlweError, RowLimbs};
use num_bigint::BigInt;

/// See [`Backend::rotated_products`].
///
/// # Errors
/// If a key lacks a limb of the row.
pub fn rotated_products<B: Backend>(
    backend: &B,
    digits: &Decomposition<'_, B::Poly>,
    c0: &B::Poly,
    rotations: &[Rotation<'_>],
    row: &RowLimbs,
) -> Result<Pairs<B::Poly>, RlweError> {
    rotations
        .iter()
        .map(|rotation| {
            let (mut low, high) = backend.key_product(digits, rotation.key, row)?;
            backend.add_scaled(&mut low, c0, &row.special_product);
            Ok((
                backend.automorphism(&low, rotation.element),
                backend.automorphism(&high, rotation.element),
            ))
        })
        .collect()
}

/// See [`Backend::switch_and_add`].
///
/// # Errors
/// If the key lacks a limb of the row.
pub fn switch_and_add<B: Backend>(
    backend: &B,
    (low, high): (&B::Poly, &B::Poly),
    rotation: Rotation<'_>,
    row: &RowLimbs,
    sum: &mut (B::Poly, B::Poly),
) -> Result<(), RlweError> {
    let digits = backend.decompose(high, row)?;
    let (mut switched, high) = backend.key_product(&digits, rotation.key, row)?;
    backend.add_assign(&mut switched, low);
    backend.add_assign(
        &mut sum.0,
        &backend.automorphism(&switched, rotation.element),
    );
    backend.add_assign(&mut sum.1, &backend.automorphism(&high, rotation.element));
    Ok(())
}

/// See [`Backend::switch_and_divide`].
///
/// # Errors
/// If the key lacks a limb of the row.
pub fn switch_and_divide<B: Backend>(
    backend: &B,
    digits: &Decomposition<'_, B::Poly>,
    switch: Switch<'_, B::Poly>,
    row: &RowLimbs,
) -> Result<(B::Poly, B::Poly), RlweError> {
    let (mut low, mut high) = backend.key_product(digits, switch.key, row)?;
    for (sum, addend) in [&mut low, &mut high].into_iter().zip(switch.addends) {
        if let Some(addend) = addend {
            backend.add_scaled(sum, addend, &row.special_product);
        }
    }
    let (low, high) = backend.divide_and_round_pair((&low, &high), switch.lo, None)?;
    Ok(match switch.element {
        None => (low, high),
        Some(g) => (
            backend.automorphism(&low, g),
            backend.automorphism(&high, g),
        ),
    })
}

/// See [`Backend::sums`].
pub fn sums<B: Backend>(
    backend: &B,
    sums: &[Vec<Triple<'_, B::Poly>>],
    row: &RowLimbs,
) -> Pairs<B::Poly> {
    sums.iter()
        .map(|triples| backend.inner_product_pair(triples, &row.extended))
        .collect()
}

/// P · poly in QP, whatever the order of its limbs.
fn lifted<B: Backend>(backend: &B, poly: &B::Poly, row: &RowLimbs) -> B::Poly {
    let factor = |limb| {
        let place = row.extended.iter().position(|l| l == limb);
        place.map_or(0, |p| row.special_product[p])
    };
    let factors: Vec<u32> = backend.limbs(poly).iter().map(factor).collect();
    let mut lifted = backend.zero(&row.extended, Form::Evaluation);
    backend.add_scaled(&mut lifted, poly, &factors);
    lifted
}

/// Products summed at a time by [`rotated_sums`].
const TERMS: usize = 128;

/// See [`Backend::rotated_sums`].
///
/// # Errors
/// If a key lacks a limb of the row.
pub fn rotated_sums<B: Backend>(
    backend: &B,
    sources: &[LinearSource<'_, B::Poly>],
    sums: &[Vec<LinearProduct<'_, B::Poly>>],
    row: &RowLimbs,
) -> Result<Pairs<B::Poly>, RlweError> {
    let mut rotated: Vec<Pairs<B::Poly>> = Vec::with_capacity(sources.len());
    for source in sources {
        let (c0, c1) = source.pair;
        let moving: Vec<Rotation<'_>> = source.rotations.iter().flatten().copied().collect();
        let mut products = match &source.digits {
            Some(digits) => backend.rotated_products(digits, c0, &moving, row)?,
            None => backend.rotated_products(&backend.decompose(c1, row)?, c0, &moving, row)?,
        }
        .into_iter();
        let all = source
            .rotations
            .iter()
            .filter_map(|rotation| match rotation {
                None => Some((lifted(backend, c0, row), lifted(backend, c1, row))),
                Some(_) => products.next(),
            });
        rotated.push(all.collect());
    }
    let mut parts: Vec<Vec<Triple<'_, B::Poly>>> = Vec::new();
    for part in sums.iter().flat_map(|sum| sum.chunks(TERMS)) {
        let rotated = part.iter().map(|p| &rotated[p.source][p.rotation]);
        let part = part.iter().zip(rotated);
        parts.push(
            part.map(|(p, (low, high))| (p.plaintext, low, high))
                .collect(),
        );
    }
    let mut made = backend.sums(&parts, row).into_iter();
    let zero = || backend.zero(&row.extended, Form::Evaluation);
    Ok(sums
        .iter()
        .map(|sum| {
            let mut total = None;
            for pair in made.by_ref().take(sum.len().div_ceil(TERMS)) {
                match &mut total {
                    None => total = Some(pair),
                    Some((low, high)) => {
                        backend.add_assign(low, &pair.0);
                        backend.add_assign(high, &pair.1);
                    }
                }
            }
            total.unwrap_or_else(|| (zero(), zero()))
        })
        .collect())
}

/// See [`Backend::divide_and_round_each`].
///
/// # Errors
/// As [`Backend::divide_and_round`].
pub fn divide_and_round_each<B: Backend>(
    backend: &B,
    polys: &[&B::Poly],
    lo: &[LimbId],
    factor: Option<&BigInt>,
) -> Result<Vec<B::Poly>, RlweError> {
    let mut results = Vec::with_capacity(polys.len());
    for pair in polys.chunks(2) {
        match pair {
            [a, b] => {
                let (a, b) = backend.divide_and_round_pair((a, b), lo, factor)?;
                results.extend([a, b]);
            }
            rest => {
                for a in rest {
                    results.push(backend.divide_and_round(a, lo, factor)?);
                }
            }
        }
    }
    Ok(results)
}

/// See [`Backend::rotated_sums_each`].
///
/// # Errors
/// If a key lacks a limb of the row.
pub fn rotated_sums_each<B: Backend>(
    backend: &B,
    ciphertexts: Vec<(Decomposition<'_, B::Poly>, &B::Poly)>,
    babies: &[Option<Rotation<'_>>],
    giants: &[Vec<MapTerm<'_, B::Poly>>],
    row: &RowLimbs,
) -> Result<Vec<Pairs<B::Poly>>, RlweError> {
    let rotations: Vec<Rotation<'_>> = babies.iter().flatten().copied().collect();
    let sources: Vec<_> = ciphertexts.iter().map(|(d, c0)| (d, *c0)).collect();
    let moved = backend.rotated_products_each(&sources, &rotations, row)?;
    drop(sources);
    let each = ciphertexts.iter().zip(moved).map(|((digits, c0), moved)| {
        let mut moved = moved.into_iter();
        let all = babies.iter().filter_map(|baby| match baby {
            Some(_) => moved.next(),
            None => Some((
                lifted(backend, c0, row),
                lifted(backend, digits.original, row),
            )),
        });
        all.collect()
    });
    let made: Vec<Pairs<B::Poly>> = each.collect();
    drop(ciphertexts);
    let terms = made.iter().map(|babies| {
        let terms = giants.iter().map(|terms| {
            let terms = terms.iter().filter_map(|&(diagonal, baby)| {
                let (low, high) = babies.get(baby)?;
                Some((diagonal, low, high))
            });
            terms.collect()
        });
        terms.collect()
    });
    let terms: Vec<Vec<Vec<Triple<'_, B::Poly>>>> = terms.collect();
    Ok(backend.sums_each(&terms, row))
}
