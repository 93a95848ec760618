//! `server.keys`: a manifest of evaluation keys, then their residues, one key after the other without gaps.

use super::envelope::{
    frame_bytes, read_exactly, read_frame, write_atomically, FieldReader, FieldWriter, FileKind,
};
use super::ring_header::{self, read_limbs, write_limbs};
use super::FormatError;
use crate::ring::{GaloisElement, LimbId, Words};
use crate::rlwe::{KeyKind, KeySet, KeySwitchingKey, KeyWords, RlweContext};
use rayon::prelude::*;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

fn kind_fields(kind: KeyKind) -> (u32, u32) {
    match kind {
        KeyKind::Relinearisation => (0, 1),
        KeyKind::Galois(g) => (1, g.value()),
        KeyKind::DenseToSparse => (2, 1),
        KeyKind::SparseToDense => (3, 1),
    }
}

fn kind_from_fields(kind: u32, galois: u32, log_n: u32) -> Option<KeyKind> {
    match (kind, galois) {
        (0, 1) => Some(KeyKind::Relinearisation),
        (1, g) if g < 2 << log_n => GaloisElement::new(u64::from(g), log_n).map(KeyKind::Galois),
        (2, 1) => Some(KeyKind::DenseToSparse),
        (3, 1) => Some(KeyKind::SparseToDense),
        _ => None,
    }
}

/// Residues as the bytes of the file. Words are little-endian there; on a big-endian machine they are swapped.
pub(crate) fn words_to_bytes(words: &[u32]) -> std::borrow::Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        bytemuck::cast_slice(words).into()
    } else {
        words
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect::<Vec<_>>()
            .into()
    }
}

/// Writes `server.keys`, whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write(
    path: &Path,
    context: &RlweContext,
    key_id: &[u8; 32],
    keys: &KeySet,
) -> Result<(), FormatError> {
    let mut out = FieldWriter::new();
    ring_header::write(&mut out, context, key_id);
    out.u32(keys.len() as u32);
    let mut offset = 0u64;
    for key in keys.iter() {
        let (kind, galois) = kind_fields(key.kind());
        out.u32(kind);
        out.u32(galois);
        write_limbs(&mut out, key.limbs());
        write_limbs(&mut out, key.special());
        out.u32(key.digits().len() as u32);
        key.digits().iter().for_each(|d| write_limbs(&mut out, d));
        out.u64(offset);
        out.u64(key.bytes());
        out.bytes(blake3::hash(&words_to_bytes(key.words())).as_bytes());
        offset += key.bytes();
    }
    let frame = frame_bytes(FileKind::ServerKeys, &out.into_bytes(), offset);
    write_atomically(path, |file| {
        file.write_all(&frame)?;
        keys.iter()
            .try_for_each(|key| file.write_all(&words_to_bytes(key.words())))
    })
}

/// Maps `server.keys`, checking every length, every hash and that every residue is below its prime.
/// Returns the keys and the id of the client key they belong to.
///
/// # Errors
/// If the file is not one of this parameter set, damaged, or not whole.
pub fn read(path: &Path, context: &RlweContext) -> Result<(KeySet, [u8; 32]), FormatError> {
    let io = |action| move |source| FormatError::Io { action, source };
    let mut file = File::open(path).map_err(io("open"))?;
    let length = file.metadata().map_err(io("read the length of"))?.len();
    let frame = read_frame(&mut file, length, FileKind::ServerKeys)?;
    let mut fields = FieldReader::new(&frame.header);
    let header = ring_header::expect(&mut fields, context)?;
    // SAFETY: the map is private to this process and only read. Another process truncating the file under us would end this one with a
    // bus error, changing it would break the hashes just checked; neither corrupts memory of ours.
    let map = Arc::new(unsafe { memmap2::Mmap::map(&file) }.map_err(io("map"))?);
    let count = fields.count(64, "key count")?;
    let mut next = 0u64;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = Entry::read(&mut fields, context, next)?;
        let start = frame.payload_offset + next;
        next += entry.length;
        if next > frame.payload_length {
            return Err(FormatError::Short {
                field: "key residues",
                expected: next,
                found: frame.payload_length,
            });
        }
        entries.push((entry, start as usize));
    }
    fields.finish()?;
    if next != frame.payload_length {
        return Err(FormatError::Field {
            field: "payload length",
            expected: format!("{next}, the sum of all keys"),
            found: frame.payload_length.to_string(),
        });
    }
    let checked = entries
        .into_par_iter()
        .map(|(entry, start)| entry.into_key(context, &map, start))
        .collect::<Result<Vec<_>, _>>()?;
    let mut keys = KeySet::new();
    for key in checked {
        if keys.get(key.kind()).is_ok() {
            return Err(FormatError::Field {
                field: "key kind",
                expected: "each key once".into(),
                found: format!("a second {} key", key.kind()),
            });
        }
        keys.insert(key);
    }
    Ok((keys, header.key_id))
}

struct Entry {
    kind: KeyKind,
    limbs: Vec<LimbId>,
    special: Vec<LimbId>,
    digits: Vec<Vec<LimbId>>,
    length: u64,
    hash: [u8; 32],
}

impl Entry {
    fn read(
        fields: &mut FieldReader,
        context: &RlweContext,
        expected_offset: u64,
    ) -> Result<Self, FormatError> {
        let wrong = |field, expected: String, found: String| FormatError::Field {
            field,
            expected,
            found,
        };
        let (kind, galois) = (fields.u32("key kind")?, fields.u32("galois element")?);
        let kind = kind_from_fields(kind, galois, context.params().log_n()).ok_or_else(|| {
            wrong(
                "key kind",
                "kind 0 to 3 with its element".into(),
                format!("{kind}, {galois}"),
            )
        })?;
        let limbs = read_limbs(fields, context, "key limbs")?;
        let special = read_limbs(fields, context, "special limbs")?;
        let digit_count = fields.count(4, "digit count")?;
        let digits = (0..digit_count)
            .map(|_| read_limbs(fields, context, "digit limbs"))
            .collect::<Result<Vec<_>, _>>()?;
        let mut covered: Vec<LimbId> = digits.iter().flatten().copied().collect();
        covered.sort_unstable();
        let mut expected = limbs.clone();
        expected.sort_unstable();
        if covered != expected || special.iter().any(|l| limbs.contains(l)) {
            return Err(wrong(
                "digit limbs",
                "a partition of the key's chain limbs".into(),
                "another set".into(),
            ));
        }
        let offset = fields.u64("key offset")?;
        if offset != expected_offset {
            return Err(wrong(
                "key offset",
                expected_offset.to_string(),
                offset.to_string(),
            ));
        }
        let words = KeySwitchingKey::word_count(
            context.ring().degree(),
            limbs.len() + special.len(),
            digits.len(),
        );
        let length = fields.u64("key length")?;
        if length != 4 * words as u64 {
            return Err(wrong(
                "key length",
                (4 * words).to_string(),
                length.to_string(),
            ));
        }
        Ok(Entry {
            kind,
            limbs,
            special,
            digits,
            length,
            hash: fields.id("key hash")?,
        })
    }

    fn into_key(
        self,
        context: &RlweContext,
        map: &Arc<memmap2::Mmap>,
        start: usize,
    ) -> Result<KeySwitchingKey, FormatError> {
        let damaged = || FormatError::Hash {
            part: format!("the {} key", self.kind),
        };
        let bytes = map
            .get(start..start + self.length as usize)
            .ok_or_else(damaged)?;
        if blake3::hash(bytes).as_bytes() != &self.hash {
            return Err(damaged());
        }
        let words = if cfg!(target_endian = "little") {
            KeyWords::Mapped {
                map: Arc::clone(map),
                offset: start,
                words: bytes.len() / 4,
            }
        } else {
            KeyWords::Owned(Words::from(&bytes_to_words(bytes)[..]))
        };
        let order: Vec<LimbId> = self.limbs.iter().chain(&self.special).copied().collect();
        check_canonical(context, &order, words.as_slice(), "key residues")?;
        let kind = self.kind;
        KeySwitchingKey::from_parts(
            kind,
            context.ring().degree(),
            self.limbs,
            self.special,
            self.digits,
            words,
        )
        .map_err(|e| FormatError::Field {
            field: "key length",
            expected: "the size of its shape".into(),
            found: e.to_string(),
        })
    }
}

/// Little-endian words.
pub(crate) fn bytes_to_words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

/// Reads `words` residues, then their hash is the caller's to compare.
pub(crate) fn read_words(
    file: &mut impl std::io::Read,
    words: usize,
    field: &'static str,
) -> Result<(Vec<u32>, [u8; 32]), FormatError> {
    let mut bytes = vec![0u8; 4 * words];
    read_exactly(file, &mut bytes, field)?;
    let hash = *blake3::hash(&bytes).as_bytes();
    Ok((bytes_to_words(&bytes), hash))
}

/// Every residue must be below its prime: kernels rely on it. `words` is any number of `[limb][N]` blocks over `limbs`.
pub(crate) fn check_canonical(
    context: &RlweContext,
    limbs: &[LimbId],
    words: &[u32],
    field: &'static str,
) -> Result<(), FormatError> {
    let n = context.ring().degree();
    for (block, limb) in words.chunks(n).zip(limbs.iter().cycle()) {
        let q = context.ring().prime(*limb);
        if let Some(&word) = block.iter().max().filter(|&&w| w >= q) {
            return Err(FormatError::Field {
                field,
                expected: format!("residues below {q}"),
                found: word.to_string(),
            });
        }
    }
    Ok(())
}
