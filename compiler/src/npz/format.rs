//! The `.npy` format, versions 1 to 3 (numpy's NEP 1): magic, header as a Python dictionary, raw values.

use std::io::Read;

use super::Array;

/// Reads one array; `bytes` is the size of the whole entry. The error says what is wrong.
pub(super) fn parse(mut from: impl Read, bytes: u64) -> Result<Array, String> {
    let mut start = [0u8; 8];
    from.read_exact(&mut start)
        .map_err(|e| format!("header: {e}"))?;
    if &start[..6] != b"\x93NUMPY" {
        return Err("not a numpy array".into());
    }
    let header_len = if start[6] == 1 {
        let mut n = [0u8; 2];
        from.read_exact(&mut n)
            .map_err(|e| format!("header: {e}"))?;
        u64::from(u16::from_le_bytes(n))
    } else {
        let mut n = [0u8; 4];
        from.read_exact(&mut n)
            .map_err(|e| format!("header: {e}"))?;
        u64::from(u32::from_le_bytes(n))
    };
    if header_len > 1 << 16 {
        return Err(format!("a header of {header_len} bytes"));
    }
    let mut header = vec![0u8; header_len as usize];
    from.read_exact(&mut header)
        .map_err(|e| format!("header: {e}"))?;
    let header = String::from_utf8_lossy(&header).into_owned();
    let descr = field(&header, "descr").ok_or("no type in the header")?;
    let fortran = field(&header, "fortran_order").is_some_and(|v| v.starts_with("True"));
    let shape = field(&header, "shape").ok_or("no shape in the header")?;
    let shape = shape
        .trim_start_matches('(')
        .split(')')
        .next()
        .unwrap_or("")
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.parse::<usize>().map_err(|_| format!("dimension {s}")))
        .collect::<Result<Vec<usize>, String>>()?;
    let kind = descr.trim_matches(|c| c == '\'' || c == '"').to_string();
    let kind = kind.split(['\'', '"']).next().unwrap_or("").to_string();
    let width: usize = match kind.get(1..) {
        Some("f2" | "i2" | "u2") => 2,
        Some("f4" | "i4" | "u4") => 4,
        Some("f8" | "i8" | "u8") => 8,
        Some("b1" | "i1" | "u1") => 1,
        _ => return Err(format!("element type {kind} is not supported")),
    };
    if kind.starts_with('>') && width > 1 {
        return Err(format!("element type {kind}: big-endian is not supported"));
    }
    let n = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .and_then(|n| n.checked_mul(width))
        .filter(|&b| b as u64 <= bytes)
        .ok_or_else(|| format!("shape {shape:?} asks for more bytes than the file has"))?
        / width;
    let mut raw = vec![0u8; n * width];
    from.read_exact(&mut raw)
        .map_err(|e| format!("values of shape {shape:?}: {e}"))?;
    let data = raw
        .chunks_exact(width)
        .map(|c| value(&kind[1..], c))
        .collect();
    let integer = !kind[1..].starts_with('f');
    let data = if fortran {
        from_columns(&shape, data)
    } else {
        data
    };
    Ok(Array {
        shape,
        data,
        integer,
    })
}

/// The text after `'name':`.
fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let at = header.find(&format!("'{name}'"))?;
    let rest = header.get(at + name.len() + 2..)?;
    Some(rest.trim_start_matches(':').trim_start_matches([':', ' ']))
}

fn value(kind: &str, c: &[u8]) -> f64 {
    let mut wide = [0u8; 8];
    wide[..c.len()].copy_from_slice(c);
    let u = u64::from_le_bytes(wide);
    match kind {
        "f2" => heron_schedule::base::half(u as u16),
        "f4" => f64::from(f32::from_bits(u as u32)),
        "f8" => f64::from_bits(u),
        "i1" => f64::from(u as u8 as i8),
        "i2" => f64::from(u as u16 as i16),
        "i4" => f64::from(u as u32 as i32),
        "i8" => u as i64 as f64,
        _ => u as f64,
    }
}

/// Column-major values in row-major order.
fn from_columns(shape: &[usize], data: Vec<f64>) -> Vec<f64> {
    let mut out = vec![0.0; data.len()];
    let mut strides = vec![1usize; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    for (i, x) in data.into_iter().enumerate() {
        let mut rest = i;
        let mut at = 0;
        for (d, s) in shape.iter().zip(&strides) {
            at += rest % d * s;
            rest /= d;
        }
        out[at] = x;
    }
    out
}

/// The header of an array as written: float32 or int64.
pub(super) fn header(array: &Array) -> Vec<u8> {
    let dims: Vec<String> = array.shape.iter().map(|d| format!("{d},")).collect();
    let kind = if array.integer { "<i8" } else { "<f4" };
    let mut text = format!(
        "{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}",
        dims.join(" ")
    );
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out
}
