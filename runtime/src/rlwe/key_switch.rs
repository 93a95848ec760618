//! Hybrid key switching (eprint 2019/688): ModUp by digits, inner product with the key in QP, ModDown.

use super::{KeySwitchingKey, RlweError, RowLimbs};
use crate::backend::Backend;

pub use crate::backend::Decomposition;

/// Two polynomials that add `poly · from` (what the key switches from) to a ciphertext under the key's target, times P, in QP.
///
/// # Errors
/// If the key lacks a limb of the row.
pub fn switch_extended<B: Backend>(
    backend: &B,
    poly: B::Poly,
    key: &KeySwitchingKey,
    row: &RowLimbs,
) -> Result<(B::Poly, B::Poly), RlweError> {
    let digits = backend.decompose(poly, row)?;
    backend.key_product(&digits, key, row)
}

/// As [`switch_extended`], divided by P: on the row's limbs.
///
/// Adds an error of about sqrt(digits · N/12) · sigma · D/P + sqrt((h+1)/12) per coefficient, D the largest digit, h the weight of the
/// target secret.
///
/// # Errors
/// If the key lacks a limb of the row.
pub fn switch<B: Backend>(
    backend: &B,
    poly: B::Poly,
    key: &KeySwitchingKey,
    row: &RowLimbs,
) -> Result<(B::Poly, B::Poly), RlweError> {
    let (low, high) = switch_extended(backend, poly, key, row)?;
    Ok((
        backend.divide_and_round(&low, &row.limbs, None)?,
        backend.divide_and_round(&high, &row.limbs, None)?,
    ))
}
