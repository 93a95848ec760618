//! The bases section, and bases that stay in files of the model.

use super::read::{map, Shared, Source};
use super::{malformed, ContainerError, ALIGNMENT};
use crate::base::{Base, FloatKind};
use crate::matrix::kind_of;
use crate::proto::{self, Program};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Bytes of the bases section; `None` where a base says what cannot be.
pub(super) fn bases_length(program: &Program) -> Option<u64> {
    let mut end = 0u64;
    for base in program.bases.iter().filter(|b| b.file.is_empty()) {
        let length = base.values.checked_mul(kind_of(base)?.width() as u64)?;
        if base.offset < end {
            return None;
        }
        end = base.offset.checked_add(length)?;
    }
    Some(end)
}

fn known_kind(path: &Path, number: usize, base: &proto::Base) -> Result<FloatKind, ContainerError> {
    kind_of(base).ok_or_else(|| {
        let reason = format!(
            "base {number} has kind {}, which this version does not know",
            base.kind
        );
        malformed(path, &reason)
    })
}

/// Where the bases section of a file begins whose record, or weights, end at `least`. Fails unless the file ends where the section does
/// and what lies between the bases is zero.
pub(super) fn bases_start(
    path: &Path,
    bytes: &[u8],
    program: &Program,
    least: usize,
) -> Result<u64, ContainerError> {
    let bad = |reason: &str| malformed(path, reason);
    for (number, base) in program.bases.iter().enumerate() {
        known_kind(path, number, base)?;
    }
    let bases_first = least.next_multiple_of(ALIGNMENT) as u64;
    let total = match bases_length(program) {
        Some(0) => Some(least as u64),
        Some(n) => bases_first.checked_add(n),
        None => return Err(bad("its bases lie in one another or have no end")),
    };
    if total != Some(bytes.len() as u64) {
        return Err(bad(&format!(
            "truncated or lengthened: {} bytes found, {} expected",
            bytes.len(),
            total.unwrap_or(u64::MAX)
        )));
    }
    let mut at = least;
    for base in program.bases.iter().filter(|b| b.file.is_empty()) {
        // Offsets ascend and end where the file does.
        let from = (bases_first + base.offset) as usize;
        let gap = bytes.get(at..from).unwrap_or(&[]);
        if gap.iter().any(|&b| b != 0) {
            return Err(bad("bytes that must be zero are not"));
        }
        at = from + base.values as usize * kind_of(base).map_or(0, FloatKind::width);
    }
    Ok(bases_first)
}

impl Source<'_> {
    /// The bases that a program lists: from `first` on in this file, or in others.
    pub(super) fn bases(
        &self,
        path: &Path,
        program: &Program,
        first: u64,
    ) -> Result<Vec<Base>, ContainerError> {
        let own: Arc<dyn AsRef<[u8]> + Send + Sync> = match self {
            Source::File(map) => Arc::new(Shared(Arc::clone(map))),
            // Only what is needed is copied.
            Source::Memory(bytes) => {
                let part = bytes.get(first as usize..).unwrap_or(&[]);
                Arc::new(part.to_vec())
            }
        };
        let own_first = match self {
            Source::File(_) => first,
            Source::Memory(_) => 0,
        };
        let mut files: BTreeMap<&str, Arc<dyn AsRef<[u8]> + Send + Sync>> = BTreeMap::new();
        let mut bases = Vec::with_capacity(program.bases.len());
        for (number, listed) in program.bases.iter().enumerate() {
            let kind = known_kind(path, number, listed)?;
            let folder = path.parent().unwrap_or(Path::new(""));
            let file = folder.join(&listed.file);
            let (holder, from) = match listed.file.is_empty() {
                true => (Arc::clone(&own), own_first.checked_add(listed.offset)),
                false => {
                    let holder = match files.get(listed.file.as_str()) {
                        Some(known) => Arc::clone(known),
                        None => {
                            let map = map(&file).map_err(|source| ContainerError::External {
                                path: path.into(),
                                file: file.clone(),
                                reason: source.to_string(),
                            })?;
                            files.entry(&listed.file).or_insert(Arc::new(map)).clone()
                        }
                    };
                    (holder, Some(listed.offset))
                }
            };
            let length = listed.values.checked_mul(kind.width() as u64);
            let range = from.and_then(|from| {
                let end = from.checked_add(length?)?;
                Some(usize::try_from(from).ok()?..usize::try_from(end).ok()?)
            });
            let base = range.and_then(|range| Base::new(kind, holder, range));
            let sound = base.filter(|b| listed.hash == b.hash());
            let base = sound.ok_or_else(|| match listed.file.is_empty() {
                true => malformed(path, &format!("base {number} is damaged")),
                false => ContainerError::External {
                    path: path.into(),
                    file: file.clone(),
                    reason: format!(
                        "{} floats at byte {} are not those that the schedule was compiled with",
                        listed.values, listed.offset
                    ),
                },
            })?;
            bases.push(match listed.file.is_empty() {
                true => base,
                false => base.from_file(&file, listed.offset),
            });
        }
        Ok(bases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_of_an_unknown_kind_is_refused_for_its_kind() {
        let base = proto::Base {
            kind: 99,
            values: 3,
            ..proto::Base::default()
        };
        let program = Program {
            bases: vec![base],
            ..Program::default()
        };
        let found = bases_start(Path::new("x.heron"), &[], &program, 0);
        let found = found.expect_err("refused").to_string();
        assert!(found.contains("base 0 has kind 99"), "{found}");
    }
}
