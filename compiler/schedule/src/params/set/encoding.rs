//! The canonical encoding of a set, and its id.

use super::ParameterSet;
use crate::params::{LimbId, ParameterError, Profile, SecretKind};

const MAGIC: &[u8] = b"heron parameters 1\0";

impl ParameterSet {
    /// The canonical encoding: every field that two parties must agree on, little-endian, lists preceded by their length as u16.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        let name = self.profile.name().as_bytes();
        out.push(name.len() as u8);
        out.extend_from_slice(name);
        out.push(self.log_n as u8);
        out.push(u8::from(self.is_insecure()));
        for secret in [self.secret, self.ephemeral_secret()] {
            let weight = match secret {
                SecretKind::UniformTernary => u32::MAX,
                SecretKind::SparseTernary { hamming_weight } => hamming_weight,
            };
            out.extend_from_slice(&weight.to_le_bytes());
        }
        out.extend_from_slice(&self.sigma().to_le_bytes());
        out.extend_from_slice(&(self.primes.len() as u16).to_le_bytes());
        for p in &self.primes {
            out.extend_from_slice(&p.to_le_bytes());
        }
        let mut list = |limbs: &[LimbId]| {
            out.extend_from_slice(&(limbs.len() as u16).to_le_bytes());
            for l in limbs {
                out.extend_from_slice(&l.0.to_le_bytes());
            }
        };
        self.digits.iter().for_each(|d| list(d));
        list(&[]);
        list(&self.special);
        list(&self.encapsulation);
        self.rows.iter().for_each(|row| list(&row.limbs));
        list(&[]);
        out.extend(self.rows.iter().map(|row| row.kind as u8));
        out.push(self.top_usable().0);
        out.extend_from_slice(&self.scale_top_times_2_40.to_le_bytes());
        out
    }

    /// The inverse of [`ParameterSet::to_bytes`]: rebuilds the set by its name and insists on equal bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<ParameterSet, ParameterError> {
        let malformed = |reason| ParameterError::Malformed { reason };
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or(malformed("expected the magic of a parameter set"))?;
        let (&length, rest) = rest
            .split_first()
            .ok_or(malformed("ends before the profile"))?;
        let name = rest
            .get(..usize::from(length))
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or(malformed("expected the profile's name"))?;
        let log_n = *rest
            .get(usize::from(length))
            .ok_or(malformed("ends before the ring dimension"))?;
        let profile: Profile = name.parse()?;
        let log_n = u32::from(log_n);
        let known = Self::known(profile, log_n);
        if known.is_empty() {
            // Says which rings the profile has.
            return Self::with_ring(profile, log_n);
        }
        known
            .iter()
            .find(|set| set.to_bytes() == bytes)
            .cloned()
            .ok_or(malformed(
                "differs from the sets of the profile of that name",
            ))
    }

    /// BLAKE3 of the canonical encoding, under its own context.
    pub fn id(&self) -> [u8; 32] {
        blake3::derive_key("heron 2026-11 parameter set v1", &self.to_bytes())
    }
}
