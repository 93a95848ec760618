//! `in.ct` and `out.ct`: ciphertexts by port, with all a reader with the secret needs to make values of them.

use super::Ciphertext;
use crate::ring::{Form, RnsPoly};
use crate::rlwe::format::envelope::{
    frame_bytes, read_frame, write_atomically, FieldReader, FieldWriter, Frame,
};
use crate::rlwe::format::ring_header::{self, read_limbs, write_limbs};
use crate::rlwe::format::server_keys::{check_canonical, read_words, words_to_bytes};
use crate::rlwe::format::{require_same_id, FormatError};
use crate::rlwe::RlweContext;
use heron_schedule::params::{Level, Scale};
use std::fs::File;
use std::path::Path;

pub use crate::rlwe::format::envelope::FileKind;

/// A ciphertext and what its slots mean: element number (row-major) of the port at each virtual slot, -1 for none. Slot v·batch + b holds
/// virtual slot v of batch lane b.
#[derive(Clone, Debug)]
pub struct PortCiphertext {
    /// The ciphertext: two polynomials.
    pub ciphertext: Ciphertext,
    /// Element at each virtual slot.
    pub elements: Vec<i32>,
}

/// The ciphertexts of one port in one run.
#[derive(Clone, Debug)]
pub struct PortGroup {
    /// Name of the port.
    pub port: String,
    /// Number of the run, from 0.
    pub sequence: u64,
    /// Lanes side by side.
    pub batch: u32,
    /// Lanes in use.
    pub count: u32,
    /// Shape of one input or output.
    pub shape: Vec<u32>,
    /// value = slot · unit.
    pub unit: f64,
    /// The ciphertexts.
    pub ciphertexts: Vec<PortCiphertext>,
}

/// A ciphertext file.
#[derive(Clone, Debug)]
pub struct CiphertextFile {
    /// The key the ciphertexts are under.
    pub key_id: [u8; 32],
    /// The schedule they are for.
    pub schedule_id: [u8; 32],
    /// Ports by run.
    pub groups: Vec<PortGroup>,
}

const FORM_EVALUATION: u32 = 1;

impl CiphertextFile {
    /// Writes the file, whole or not at all. `kind` says whether it holds inputs or outputs.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(
        &self,
        path: &Path,
        kind: FileKind,
        context: &RlweContext,
    ) -> Result<(), FormatError> {
        let mut out = FieldWriter::new();
        ring_header::write(&mut out, context, &self.key_id);
        out.bytes(&self.schedule_id);
        out.u32(self.groups.len() as u32);
        let mut offset = 0u64;
        for group in &self.groups {
            out.text(&group.port);
            out.u64(group.sequence);
            out.u32(group.batch);
            out.u32(group.count);
            out.u32(group.shape.len() as u32);
            group.shape.iter().for_each(|&d| out.u32(d));
            out.f64(group.unit);
            out.u32(group.ciphertexts.len() as u32);
            for PortCiphertext {
                ciphertext,
                elements,
            } in &group.ciphertexts
            {
                let (mantissa, exponent) = ciphertext.scale().to_parts();
                out.u32(u32::from(ciphertext.level().0));
                out.u128(mantissa);
                out.i32(exponent);
                out.u32(FORM_EVALUATION);
                out.u32(ciphertext.polys().len() as u32);
                write_limbs(
                    &mut out,
                    ciphertext.polys().first().map_or(&[], |p| p.limbs()),
                );
                out.u32(elements.len() as u32);
                elements.iter().for_each(|&e| out.i32(e));
                let mut hasher = blake3::Hasher::new();
                let mut length = 0;
                for poly in ciphertext.polys() {
                    hasher.update(&words_to_bytes(poly.data()));
                    length += 4 * poly.data().len() as u64;
                }
                out.u64(offset);
                out.u64(length);
                out.bytes(hasher.finalize().as_bytes());
                offset += length;
            }
        }
        let frame = frame_bytes(kind, &out.into_bytes(), offset);
        write_atomically(path, |file| {
            file.write_all(&frame)?;
            for group in &self.groups {
                for held in &group.ciphertexts {
                    for poly in held.ciphertext.polys() {
                        file.write_all(&words_to_bytes(poly.data()))?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Reads and checks the file. The caller compares key and schedule with [`CiphertextFile::require`].
    ///
    /// # Errors
    /// If the file is not of this kind and parameter set, damaged, or not whole.
    pub fn read(path: &Path, kind: FileKind, context: &RlweContext) -> Result<Self, FormatError> {
        let io = |action| move |source| FormatError::Io { action, source };
        let mut file = File::open(path).map_err(io("open"))?;
        let length = file.metadata().map_err(io("read the length of"))?.len();
        let frame = read_frame(&mut file, length, kind)?;
        Self::parse(&frame, &mut file, context)
    }

    fn parse(frame: &Frame, file: &mut File, context: &RlweContext) -> Result<Self, FormatError> {
        let mut fields = FieldReader::new(&frame.header);
        let header = ring_header::expect(&mut fields, context)?;
        let schedule_id = fields.id("schedule_id")?;
        let mut next = 0u64;
        let group_count = fields.count(40, "group count")?;
        let mut groups = Vec::with_capacity(group_count);
        for _ in 0..group_count {
            let port = fields.text("port")?;
            let sequence = fields.u64("sequence")?;
            let batch = fields.u32("batch")?;
            let count = fields.u32("count")?;
            let dimensions = fields.count(4, "shape")?;
            let shape = (0..dimensions)
                .map(|_| fields.u32("shape"))
                .collect::<Result<_, _>>()?;
            let unit = fields.f64("unit")?;
            let slots = context.params().slots() as u64;
            if !unit.is_finite()
                || !batch.is_power_of_two()
                || u64::from(batch) > slots
                || count > batch
            {
                return Err(FormatError::Field {
                    field: "batch, count, unit",
                    expected: format!(
                        "a power of two up to {slots}, at most that, a finite number"
                    ),
                    found: format!("{batch}, {count}, {unit}"),
                });
            }
            let ciphertext_count = fields.count(80, "ciphertext count")?;
            let ciphertexts = (0..ciphertext_count)
                .map(|_| {
                    let virtual_slots = slots / u64::from(batch);
                    Entry::read(
                        &mut fields,
                        context,
                        virtual_slots,
                        next,
                        frame.payload_length,
                    )
                    .and_then(|entry| {
                        next += entry.length;
                        entry.load(file, context)
                    })
                })
                .collect::<Result<_, _>>()?;
            groups.push(PortGroup {
                port,
                sequence,
                batch,
                count,
                shape,
                unit,
                ciphertexts,
            });
        }
        fields.finish()?;
        if next != frame.payload_length {
            return Err(FormatError::Field {
                field: "payload length",
                expected: format!("{next}, the sum of all ciphertexts"),
                found: frame.payload_length.to_string(),
            });
        }
        Ok(Self {
            key_id: header.key_id,
            schedule_id,
            groups,
        })
    }

    /// Insists that the file belongs to this key and schedule.
    ///
    /// # Errors
    /// If it does not.
    pub fn require(&self, key_id: &[u8; 32], schedule_id: &[u8; 32]) -> Result<(), FormatError> {
        require_same_id(
            "the key of these ciphertexts",
            key_id,
            &self.key_id,
            "use the keys they were encrypted with",
        )?;
        require_same_id(
            "the schedule of these ciphertexts",
            schedule_id,
            &self.schedule_id,
            "use the schedule they were encrypted for",
        )
    }
}

struct Entry {
    level: Level,
    scale: Scale,
    polys: usize,
    elements: Vec<i32>,
    length: u64,
    hash: [u8; 32],
}

impl Entry {
    fn read(
        fields: &mut FieldReader,
        context: &RlweContext,
        virtual_slots: u64,
        expected_offset: u64,
        payload_length: u64,
    ) -> Result<Self, FormatError> {
        let wrong = |field, expected: String, found: String| FormatError::Field {
            field,
            expected,
            found,
        };
        let level = fields.u32("level")?;
        let row = u8::try_from(level)
            .ok()
            .and_then(|l| context.row(Level(l)).ok())
            .ok_or_else(|| wrong("level", "a row of the table".into(), level.to_string()))?;
        let (mantissa, exponent) = (fields.u128("scale")?, fields.i32("scale")?);
        let scale = Scale::from_parts(mantissa, exponent).ok_or_else(|| {
            wrong(
                "scale",
                "a normalised scale".into(),
                format!("{mantissa}, {exponent}"),
            )
        })?;
        let form = fields.u32("form")?;
        if form != FORM_EVALUATION {
            return Err(wrong("form", FORM_EVALUATION.to_string(), form.to_string()));
        }
        let polys = fields.u32("polynomials")?;
        if polys != 2 {
            return Err(wrong("polynomials", "2".into(), polys.to_string()));
        }
        let limbs = read_limbs(fields, context, "limbs")?;
        if limbs != row.limbs {
            return Err(wrong(
                "limbs",
                format!("those of level {level}"),
                format!("{} others", limbs.len()),
            ));
        }
        let count = fields.count(4, "elements")?;
        if count as u64 != virtual_slots {
            return Err(wrong(
                "elements",
                virtual_slots.to_string(),
                count.to_string(),
            ));
        }
        let elements = (0..count)
            .map(|_| fields.i32("elements"))
            .collect::<Result<_, _>>()?;
        let offset = fields.u64("offset")?;
        if offset != expected_offset {
            return Err(wrong(
                "offset",
                expected_offset.to_string(),
                offset.to_string(),
            ));
        }
        let expected = 4 * u64::from(polys) * (limbs.len() * context.ring().degree()) as u64;
        let length = fields.u64("length")?;
        if length != expected {
            return Err(wrong("length", expected.to_string(), length.to_string()));
        }
        if offset + length > payload_length {
            return Err(FormatError::Short {
                field: "ciphertext residues",
                expected: offset + length,
                found: payload_length,
            });
        }
        Ok(Entry {
            level: Level(level as u8),
            scale,
            polys: polys as usize,
            elements,
            length,
            hash: fields.id("hash")?,
        })
    }

    fn load(self, file: &mut File, context: &RlweContext) -> Result<PortCiphertext, FormatError> {
        let row = context.row(self.level).map_err(|_| FormatError::Field {
            field: "level",
            expected: "a row of the table".into(),
            found: self.level.to_string(),
        })?;
        let (words, hash) = read_words(file, self.length as usize / 4, "ciphertext residues")?;
        if hash != self.hash {
            return Err(FormatError::Hash {
                part: "a ciphertext".into(),
            });
        }
        check_canonical(context, &row.limbs, &words, "ciphertext residues")?;
        let n = context.ring().degree();
        let polys = words
            .chunks(words.len() / self.polys)
            .map(|half| {
                let mut poly = RnsPoly::scratch(context.ring(), &row.limbs, Form::Evaluation);
                debug_assert_eq!(half.len(), row.limbs.len() * n);
                poly.data_mut().copy_from_slice(half);
                poly
            })
            .collect();
        Ok(PortCiphertext {
            ciphertext: Ciphertext::from_parts(polys, self.level, self.scale),
            elements: self.elements,
        })
    }
}
