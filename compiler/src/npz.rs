//! Arrays in `.npz` and `.npy` files: inputs, calibration sets, expected outputs, results.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

mod format;

/// Most bytes that one array may have in a file.
const MAX_BYTES: u64 = 1 << 32;

/// One array, row-major. Integers and booleans are exact up to 2^53.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Dimensions; the leading one is the batch.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Vec<f64>,
    /// Whether the file held integers or booleans.
    pub integer: bool,
}

impl Array {
    /// Number of entries along the leading axis; a scalar has one.
    pub fn batch(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The same array with other sizes of its axes: cut, or repeated from its beginning. `None` where it has another number of axes, or none
    /// to repeat.
    pub fn fitted(&self, shape: &[usize]) -> Option<Array> {
        if self.shape.len() != shape.len() || self.shape.contains(&0) {
            return None;
        }
        let total: usize = shape.iter().product();
        let mut data = Vec::with_capacity(total);
        for position in 0..total {
            let (mut rest, mut from, mut stride) = (position, 0, 1);
            for (&had, &has) in self.shape.iter().zip(shape).rev() {
                from += (rest % has) % had * stride;
                rest /= has;
                stride *= had;
            }
            data.push(*self.data.get(from)?);
        }
        Some(Array {
            shape: shape.to_vec(),
            data,
            integer: self.integer,
        })
    }

    /// Entry `i` of the leading axis, or `None` past the end.
    pub fn entry(&self, i: usize) -> Option<&[f64]> {
        let n: usize = self.shape.iter().skip(1).product();
        self.data.get(i * n..(i + 1) * n)
    }
}

/// Arrays by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrays(pub BTreeMap<String, Array>);

impl Arrays {
    /// The array for a graph input: `NAME`, or `in_NAME`, or the only array of an `.npy` file.
    pub fn input(&self, name: &str) -> Option<&Array> {
        self.0
            .get(name)
            .or_else(|| self.0.get(&format!("in_{name}")))
            .or_else(|| self.0.get(""))
    }

    /// Cuts or repeats the array of a graph input so that each of its inputs has this shape.
    pub fn fit(&mut self, name: &str, shape: &[usize]) {
        let known = [name.to_string(), format!("in_{name}"), String::new()];
        let found = known.iter().find_map(|n| self.0.get_key_value(n));
        let Some((key, array)) = found.map(|(k, a)| (k.clone(), a)) else {
            return;
        };
        let whole: Vec<usize> = std::iter::once(array.batch())
            .chain(shape.iter().copied())
            .collect();
        if let Some(fitted) = array.fitted(&whole).or_else(|| array.fitted(shape)) {
            self.0.insert(key, fitted);
        }
    }
}

/// Why arrays could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// The file could not be opened, read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not those of an array.
    #[error("{path}: array `{array}`: {reason}; save it again with numpy.savez")]
    Malformed {
        /// The file.
        path: String,
        /// The array, empty if the archive itself is broken.
        array: String,
        /// What is wrong.
        reason: String,
    },
    /// Larger than the limits.
    #[error(
        "{path}: array `{array}` has {bytes} bytes, at most {MAX_BYTES} are read; use fewer inputs"
    )]
    Size {
        /// The file.
        path: String,
        /// The array.
        array: String,
        /// Bytes it says it has.
        bytes: u64,
    },
}

impl NpzError {
    /// The word for `error[KIND]`.
    pub fn kind(&self) -> crate::onnx::ErrorKind {
        match self {
            NpzError::Io { .. } => crate::onnx::ErrorKind::Io,
            NpzError::Malformed { .. } => crate::onnx::ErrorKind::Malformed,
            NpzError::Size { .. } => crate::onnx::ErrorKind::Size,
        }
    }
}

/// Reads `.npz` (stored or deflated) or `.npy`; the one array of an `.npy` file has the empty name.
///
/// Types: f2, f4, f8, signed and unsigned integers to 8 bytes, bool; C or Fortran order, little-endian.
pub fn read(path: &Path) -> Result<Arrays, NpzError> {
    let shown = path.display().to_string();
    let io = |source| NpzError::Io {
        path: shown.clone(),
        source,
    };
    let malformed = |array: &str, reason: String| NpzError::Malformed {
        path: shown.clone(),
        array: array.to_string(),
        reason,
    };
    let mut file = File::open(path).map_err(io)?;
    let mut magic = [0u8; 6];
    let got = file.read(&mut magic).map_err(io)?;
    let mut arrays = BTreeMap::new();
    if got == 6 && &magic == b"\x93NUMPY" {
        let size = file.metadata().map_err(io)?.len();
        if size > MAX_BYTES {
            return Err(NpzError::Size {
                path: shown,
                array: String::new(),
                bytes: size,
            });
        }
        let file = File::open(path).map_err(io)?;
        let array = format::parse(file, size).map_err(|r| malformed("", r))?;
        arrays.insert(String::new(), array);
        return Ok(Arrays(arrays));
    }
    let file = File::open(path).map_err(io)?;
    let mut archive = zip::ZipArchive::new(std::io::BufReader::new(file))
        .map_err(|e| malformed("", format!("not an .npz archive: {e}")))?;
    for i in 0..archive.len() {
        let entry = archive
            .by_index(i)
            .map_err(|e| malformed("", e.to_string()))?;
        let name = entry.name().to_string();
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_string();
        let bytes = entry.size();
        if bytes > MAX_BYTES {
            return Err(NpzError::Size {
                path: shown.clone(),
                array: name,
                bytes,
            });
        }
        match format::parse(entry.take(MAX_BYTES), bytes) {
            Ok(a) => {
                arrays.insert(name, a);
            }
            // Arrays of text and the like are none of our inputs.
            Err(r) if r.starts_with("element type") => {}
            Err(r) => return Err(malformed(&name, r)),
        }
    }
    Ok(Arrays(arrays))
}

/// Writes an `.npz` with float32 (or int64) arrays: to a temporary file first, then renamed.
pub fn write(path: &Path, arrays: &Arrays) -> Result<(), NpzError> {
    let shown = path.display().to_string();
    let io = |source| NpzError::Io {
        path: shown.clone(),
        source,
    };
    let temporary = path.with_extension("npz.part");
    let file = File::create(&temporary).map_err(io)?;
    let mut zip = zip::ZipWriter::new(std::io::BufWriter::new(file));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    let result = (|| -> std::io::Result<()> {
        for (name, array) in &arrays.0 {
            zip.start_file(format!("{name}.npy"), options)
                .map_err(std::io::Error::other)?;
            zip.write_all(&format::header(array))?;
            for &x in &array.data {
                if array.integer {
                    zip.write_all(&(x as i64).to_le_bytes())?;
                } else {
                    zip.write_all(&(x as f32).to_le_bytes())?;
                }
            }
        }
        let mut inner = zip.finish().map_err(std::io::Error::other)?;
        inner.flush()?;
        inner.get_ref().sync_all()
    })();
    if let Err(e) = result.and_then(|()| std::fs::rename(&temporary, path)) {
        let _ = std::fs::remove_file(&temporary);
        return Err(io(e));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_cut_or_repeated_from_their_beginning_axis_by_axis() {
        let array = Array {
            shape: vec![2, 3],
            data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            integer: true,
        };
        let cut = array.fitted(&[2, 2]).expect("fits");
        assert_eq!((cut.data, cut.integer), (vec![1.0, 2.0, 4.0, 5.0], true));
        let longer = array.fitted(&[1, 5]).expect("fits");
        assert_eq!(longer.data, vec![1.0, 2.0, 3.0, 1.0, 2.0]);
        assert_eq!(longer.shape, [1, 5]);
        assert!(array.fitted(&[6]).is_none());
        let mut arrays = Arrays([("in_ids".to_string(), array)].into());
        arrays.fit("ids", &[4]);
        assert_eq!(arrays.0["in_ids"].shape, [2, 4]);
        assert_eq!(arrays.0["in_ids"].data[4..], [4.0, 5.0, 6.0, 4.0]);
    }
}
