//! The fields every header begins with: what ring and parameters the residues belong to.

use super::envelope::{FieldReader, FieldWriter};
use super::{require_same_id, FormatError};
use crate::ring::LimbId;
use crate::rlwe::RlweContext;

/// Writes the ring block: parameter set id, key id, profile name, log N, whether the set is insecure, primes with their roots.
pub fn write(out: &mut FieldWriter, context: &RlweContext, key_id: &[u8; 32]) {
    let params = context.params();
    out.bytes(&params.id());
    out.bytes(key_id);
    out.text(params.profile().name());
    out.u32(params.log_n());
    out.u32(u32::from(params.is_insecure()));
    out.u32(context.ring().limb_count() as u32);
    for limb in context.ring().all_limbs() {
        out.u32(context.ring().prime(limb));
        out.u32(context.root(limb));
    }
}

/// Parameters named by a header, before anything else of it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingHeader {
    /// Identifier of the parameter set.
    pub params_id: [u8; 32],
    /// Identifier of the key the file belongs to.
    pub key_id: [u8; 32],
    /// Name of the parameter profile.
    pub profile: String,
    /// Base-two logarithm of N.
    pub log_n: u32,
}

/// Reads a ring block without judging it.
pub fn read(fields: &mut FieldReader) -> Result<RingHeader, FormatError> {
    let params_id = fields.id("params_id")?;
    let key_id = fields.id("key_id")?;
    let profile = fields.text("profile")?;
    let log_n = fields.u32("log_n")?;
    fields.u32("insecure")?;
    let primes = fields.count(8, "prime count")?;
    fields.bytes(8 * primes, "primes and roots")?;
    Ok(RingHeader {
        params_id,
        key_id,
        profile,
        log_n,
    })
}

/// Reads a ring block and insists that it is this context's.
pub fn expect(fields: &mut FieldReader, context: &RlweContext) -> Result<RingHeader, FormatError> {
    let header = read(fields)?;
    require_same_id(
        "parameter set",
        &context.params().id(),
        &header.params_id,
        "make keys and ciphertexts with the client file of this schedule",
    )?;
    Ok(header)
}

/// Writes a list of limbs: their number, then their indices, 16 bits each.
pub fn write_limbs(out: &mut FieldWriter, limbs: &[LimbId]) {
    out.u32(limbs.len() as u32);
    limbs.iter().for_each(|l| out.u16(l.0));
}

/// Reads a list of distinct limbs of this context.
pub fn read_limbs(
    fields: &mut FieldReader,
    context: &RlweContext,
    field: &'static str,
) -> Result<Vec<LimbId>, FormatError> {
    let count = fields.count(2, field)?;
    let known = context.ring().limb_count();
    let mut limbs = Vec::with_capacity(count.min(known));
    for _ in 0..count {
        let limb = LimbId(fields.u16(field)?);
        if limb.index() >= known || limbs.contains(&limb) {
            return Err(FormatError::Field {
                field,
                expected: format!("distinct limbs below {known}"),
                found: limb.0.to_string(),
            });
        }
        limbs.push(limb);
    }
    Ok(limbs)
}
