//! Weights: sizes and places are checked when the model is read, values decoded when a node first reads them.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use heron_passes::ir::weight::LARGE;
use heron_schedule::base::{brain, half, Base, FloatKind};
use memmap2::{Mmap, MmapOptions};
use tract_onnx::pb;

use super::error::ErrorKind;
use super::nd::{Data, Nd};
use super::proto::{refuse, Check, MAX_WEIGHT};

/// Bytes per element of the types that are read.
fn width(data_type: i32) -> Option<usize> {
    Some(match data_type {
        1 | 6 => 4,
        2 | 3 | 9 => 1,
        4 | 5 | 10 | 16 => 2,
        7 | 11 => 8,
        _ => return None,
    })
}

fn elements(t: &pb::TensorProto) -> Check<usize> {
    let mut n: usize = 1;
    for &d in &t.dims {
        let d = usize::try_from(d).map_err(|_| {
            refuse(
                ErrorKind::Malformed,
                &t.name,
                format!("dimension {d} of a tensor is negative"),
                "export the model again",
            )
        })?;
        n = n
            .checked_mul(d)
            .filter(|&n| n <= MAX_WEIGHT)
            .ok_or_else(|| {
                refuse(
                    ErrorKind::Size,
                    &t.name,
                    format!(
                        "tensor of dimensions {:?} is larger than {MAX_WEIGHT} elements",
                        t.dims
                    ),
                    "split the tensor, or correct its dimensions",
                )
            })?;
    }
    Ok(n)
}

/// Dimensions, type and number of stored bytes agree; external data lies inside the folder and is long enough.
pub(super) fn check_tensor(t: &pb::TensorProto, dir: &Path) -> Check<()> {
    let n = elements(t)?;
    let Some(w) = width(t.data_type) else {
        return Err(refuse(
            ErrorKind::UnsupportedOp,
            &t.name,
            format!("element type {} of a weight is not supported", t.data_type),
            "convert the weights to float32",
        ));
    };
    if t.data_location == Some(1) {
        let (file, offset, length) = external_place(t, dir)?;
        let want = (n * w) as u64;
        if length.is_some_and(|l| l != want) {
            return Err(refuse(
                ErrorKind::ExternalData,
                &t.name,
                format!("the stated length is not the {want} bytes its dimensions ask for"),
                "export the model again",
            ));
        }
        let meta = fs::symlink_metadata(&file).map_err(|e| {
            refuse(
                ErrorKind::ExternalData,
                &t.name,
                format!("external data {}: {e}", file.display()),
                "put the weight file beside the model",
            )
        })?;
        if !meta.is_file() {
            return Err(refuse(
                ErrorKind::ExternalData,
                &t.name,
                format!("external data {} is not a plain file", file.display()),
                "links are not followed: copy the weight file beside the model",
            ));
        }
        if offset.checked_add(want).is_none_or(|end| end > meta.len()) {
            return Err(refuse(
                ErrorKind::ExternalData,
                &t.name,
                format!(
                    "wants {want} bytes at {offset} of {}, which has {}",
                    file.display(),
                    meta.len()
                ),
                "the weight file may be truncated: copy it again",
            ));
        }
        return Ok(());
    }
    let found = if !t.raw_data.is_empty() {
        if t.raw_data.len() == n * w {
            n
        } else {
            return Err(refuse(
                ErrorKind::Malformed,
                &t.name,
                format!(
                    "dimensions {:?} ask for {} bytes, found {}",
                    t.dims,
                    n * w,
                    t.raw_data.len()
                ),
                "export the model again",
            ));
        }
    } else {
        match t.data_type {
            1 => t.float_data.len(),
            11 => t.double_data.len(),
            7 => t.int64_data.len(),
            _ => t.int32_data.len(),
        }
    };
    if found != n {
        return Err(refuse(
            ErrorKind::Malformed,
            &t.name,
            format!("dimensions {:?} ask for {n} values, found {found}", t.dims),
            "export the model again",
        ));
    }
    Ok(())
}

/// File, offset and stated length of external data. Paths must be plain names below the model's folder.
fn external_place(t: &pb::TensorProto, dir: &Path) -> Check<(PathBuf, u64, Option<u64>)> {
    let field = |key: &str| {
        t.external_data
            .iter()
            .find(|e| e.key == key)
            .map(|e| e.value.as_str())
    };
    let number = |key: &str| -> Check<Option<u64>> {
        field(key)
            .map(|v| {
                v.parse().map_err(|_| {
                    refuse(
                        ErrorKind::ExternalData,
                        &t.name,
                        format!("{key} of external data is not a number: {v}"),
                        "export the model again",
                    )
                })
            })
            .transpose()
    };
    let outside = |place: &str| {
        refuse(
            ErrorKind::ExternalData,
            &t.name,
            format!("external data `{place}` leaves the model's folder"),
            "keep weight files beside the model, without `..`, absolute paths or links",
        )
    };
    let place = field("location").ok_or_else(|| outside(""))?;
    let mut file = dir.to_path_buf();
    for part in Path::new(place).components() {
        match part {
            Component::Normal(p) => file.push(p),
            Component::CurDir => continue,
            _ => return Err(outside(place)),
        }
        if fs::symlink_metadata(&file).is_ok_and(|m| m.file_type().is_symlink()) {
            return Err(outside(place));
        }
    }
    Ok((file, number("offset")?.unwrap_or(0), number("length")?))
}

/// Decodes a checked tensor; large floats stay where they are until they are looked at. Fails on NaN, and on infinity unless it is a
/// `constant` of a node (attention masks hold −∞).
pub(super) fn decode_tensor(t: &pb::TensorProto, dir: &Path, constant: bool) -> Check<Nd> {
    let n = elements(t)?;
    let shape: Vec<usize> = t.dims.iter().map(|&d| d as usize).collect();
    let integer = !matches!(t.data_type, 1 | 10 | 11 | 16);
    let bad = |found: f64| {
        refuse(
            ErrorKind::NonFinite,
            &t.name,
            format!("holds {found}"),
            "training may have diverged: use finite weights",
        )
    };
    let external = match t.data_location {
        Some(1) => {
            let (file, offset, _) = external_place(t, dir)?;
            let map = map_slice(&file, offset, n * width(t.data_type).unwrap_or(8));
            let map = map.map_err(|e| {
                refuse(
                    ErrorKind::ExternalData,
                    &t.name,
                    format!("{}: {e}", file.display()),
                    "copy the weight file again",
                )
            })?;
            Some((Arc::new(map), file, offset))
        }
        _ => None,
    };
    let raw: &[u8] = match &external {
        Some((map, ..)) => map,
        None => &t.raw_data,
    };
    let kind = u32::try_from(t.data_type).ok();
    if let (Some(kind), true) = (kind.and_then(FloatKind::from_number), n >= LARGE) {
        let base = match &external {
            Some((map, file, offset)) => {
                let holder: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::clone(map) as _;
                Base::new(kind, holder, 0..map.len()).map(|b| b.from_file(file, *offset))
            }
            // Numbers that are not raw are decoded below.
            None => Base::new(kind, Arc::new(raw.to_vec()), 0..raw.len()),
        };
        if let Some(base) = base.filter(|b| b.len() == n) {
            return match base.not_finite() {
                Some(found) if found.is_nan() || !constant => Err(bad(found)),
                _ => Ok(Nd {
                    shape,
                    data: Data::stored(base),
                    integer,
                }),
            };
        }
    }
    let data: Vec<f64> = if raw.is_empty() {
        match t.data_type {
            1 => t.float_data.iter().map(|&x| f64::from(x)).collect(),
            11 => t.double_data.clone(),
            7 => t.int64_data.iter().map(|&x| x as f64).collect(),
            10 => t.int32_data.iter().map(|&x| half(x as u16)).collect(),
            16 => t.int32_data.iter().map(|&x| brain(x as u16)).collect(),
            _ => t.int32_data.iter().map(|&x| f64::from(x)).collect(),
        }
    } else {
        from_bytes(raw, t.data_type)
    };
    if let Some(found) = data
        .iter()
        .find(|x| x.is_nan() || (x.is_infinite() && !constant))
    {
        return Err(bad(*found));
    }
    Ok(Nd::new(shape, data, integer))
}

/// Part of a file, mapped: its pages are read when they are needed, and are the file system's to take back.
fn map_slice(path: &Path, offset: u64, len: usize) -> std::io::Result<Mmap> {
    let file = fs::File::open(path)?;
    if offset
        .checked_add(len as u64)
        .is_none_or(|end| end > file.metadata().map_or(0, |m| m.len()))
    {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: the map is read-only and private to this process; another program truncating the file meanwhile would end this process, as
    // it would any reader of a mapped file.
    unsafe { MmapOptions::new().offset(offset).len(len).map(&file) }
}

fn from_bytes(raw: &[u8], data_type: i32) -> Vec<f64> {
    let two = |c: &[u8]| u16::from_le_bytes([c[0], c[1]]);
    let four = |c: &[u8]| u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
    let eight = |c: &[u8]| u64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]);
    match data_type {
        1 => raw
            .chunks_exact(4)
            .map(|c| f64::from(f32::from_bits(four(c))))
            .collect(),
        6 => raw
            .chunks_exact(4)
            .map(|c| f64::from(four(c) as i32))
            .collect(),
        7 => raw
            .chunks_exact(8)
            .map(|c| eight(c) as i64 as f64)
            .collect(),
        11 => raw
            .chunks_exact(8)
            .map(|c| f64::from_bits(eight(c)))
            .collect(),
        10 => raw.chunks_exact(2).map(|c| half(two(c))).collect(),
        16 => raw.chunks_exact(2).map(|c| brain(two(c))).collect(),
        4 => raw.chunks_exact(2).map(|c| f64::from(two(c))).collect(),
        5 => raw
            .chunks_exact(2)
            .map(|c| f64::from(two(c) as i16))
            .collect(),
        3 => raw.iter().map(|&b| f64::from(b as i8)).collect(),
        _ => raw.iter().map(|&b| f64::from(b)).collect(),
    }
}
