//! What a backend may do in one go, from its single operations: the meaning of those, and enough for a backend that has nothing better.

use super::{Backend, Decomposition, LinearProduct, LinearSource, Pairs, Rotation, Switch, Triple};
use crate::ring::Form;
use crate::rlwe::{RlweError, RowLimbs};

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
    let lifted = |poly: &B::Poly| {
        let mut lifted = backend.zero(&row.extended, Form::Evaluation);
        backend.add_scaled(&mut lifted, poly, &row.special_product);
        lifted
    };
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
                None => Some((lifted(c0), lifted(c1))),
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
