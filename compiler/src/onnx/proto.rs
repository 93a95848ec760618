//! Reading and validating the raw protobuf, before anything is computed from it.
//!
//! Limits come first: tract panics or allocates without bound on some malformed files (crypto-safety.md, section 4).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use tract_onnx::pb;
use tract_onnx::prelude::Framework;

use super::error::{ErrorKind, ImportError, Obstacle};
use super::nd::Nd;

/// Largest `.onnx` file read; weights beyond that belong into external data (the format itself ends at 2 GiB).
const MAX_FILE: u64 = 1 << 31;
/// Largest number of elements of one weight tensor.
pub(super) const MAX_WEIGHT: usize = 1 << 29;
/// Largest number of elements of a value that is computed (not stored).
pub(super) const MAX_VALUE: usize = 1 << 27;
/// Operator sets whose meaning is known here.
const OPSETS: std::ops::RangeInclusive<i64> = 13..=23;

/// A model whose bytes, names and sizes have been checked.
pub(super) struct Model {
    pub(super) graph: pb::GraphProto,
    pub(super) opset: i64,
    pub(super) path: String,
    pub(super) dir: PathBuf,
    /// Initialisers by name.
    pub(super) initializers: BTreeMap<String, usize>,
}

type Check<T> = Result<T, Obstacle>;

fn refuse(kind: ErrorKind, node: &str, reason: String, remedy: &str) -> Obstacle {
    Obstacle::new(kind, node, reason, remedy)
}

impl Model {
    /// Reads `path` and checks it. Weights are not decoded yet, but their sizes and files are checked.
    pub(super) fn read(path: &Path) -> Result<Model, ImportError> {
        let shown = path.display().to_string();
        let io = |source| ImportError::Io {
            path: shown.clone(),
            source,
        };
        let one = |o: Obstacle| ImportError::Refused {
            path: shown.clone(),
            obstacles: vec![o],
        };
        let file = fs::File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size > MAX_FILE {
            return Err(one(refuse(
                ErrorKind::Size,
                "",
                format!("the file has {size} bytes, at most {MAX_FILE} are read"),
                "store the weights as external data",
            )));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(io)?;
        if bytes.is_empty() {
            return Err(one(refuse(
                ErrorKind::Malformed,
                "",
                "the file is empty".into(),
                "export the model again",
            )));
        }
        let proto = decode(&bytes).map_err(|why| {
            one(refuse(
                ErrorKind::Malformed,
                "",
                format!("not an ONNX model: {why}"),
                "the file may be truncated: export or copy it again",
            ))
        })?;
        drop(bytes);
        let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Model::checked(proto, shown.clone(), dir).map_err(|o| ImportError::Refused {
            path: shown,
            obstacles: vec![o],
        })
    }

    fn checked(proto: pb::ModelProto, path: String, dir: PathBuf) -> Check<Model> {
        let malformed = |why: &str| {
            refuse(
                ErrorKind::Malformed,
                "",
                why.to_string(),
                "export the model again",
            )
        };
        let mut opset = None;
        for import in &proto.opset_import {
            if matches!(import.domain.as_str(), "" | "ai.onnx") {
                if !OPSETS.contains(&import.version) {
                    return Err(refuse(
                        ErrorKind::Opset,
                        "",
                        format!(
                            "operator set {} is not known, expected {} to {}",
                            import.version,
                            OPSETS.start(),
                            OPSETS.end()
                        ),
                        "export with opset_version=17",
                    ));
                }
                opset = Some(import.version);
            }
        }
        let graph = proto
            .graph
            .ok_or_else(|| malformed("the file holds no graph"))?;
        let opset = opset.ok_or_else(|| malformed("the file names no operator set"))?;
        if !proto.functions.is_empty() {
            return Err(refuse(
                ErrorKind::UnsupportedOp,
                &proto.functions[0].name.clone().unwrap_or_default(),
                "model-local functions are not supported".into(),
                "inline them, for instance with onnx.inliner",
            ));
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(refuse(
                ErrorKind::UnsupportedOp,
                "",
                "sparse initialisers are not supported".into(),
                "store dense weights",
            ));
        }
        let mut initializers = BTreeMap::new();
        for (i, t) in graph.initializer.iter().enumerate() {
            if initializers.insert(t.name.clone(), i).is_some() {
                return Err(refuse(
                    ErrorKind::Graph,
                    &t.name,
                    "two initialisers of this name".into(),
                    "give each tensor its own name",
                ));
            }
        }
        let model = Model {
            graph,
            opset,
            path,
            dir,
            initializers,
        };
        for t in &model.graph.initializer {
            check_tensor(t, &model.dir)?;
        }
        for node in &model.graph.node {
            for a in &node.attribute {
                if let Some(t) = &a.t {
                    check_tensor(t, &model.dir)?;
                }
            }
        }
        model.check_names()?;
        Ok(model)
    }

    /// Every name is written once and before it is read, and outputs exist.
    fn check_names(&self) -> Check<()> {
        let g = &self.graph;
        let mut made: BTreeSet<&str> = BTreeSet::new();
        made.extend(g.input.iter().map(|i| i.name.as_str()));
        made.extend(self.initializers.keys().map(String::as_str));
        let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, node) in g.node.iter().enumerate() {
            for o in node.output.iter().filter(|o| !o.is_empty()) {
                if makers.insert(o, i).is_some() || made.contains(o.as_str()) {
                    return Err(refuse(
                        ErrorKind::Graph,
                        o,
                        "this name is written twice".into(),
                        "each value needs its own name",
                    ));
                }
            }
        }
        for node in &g.node {
            for i in node.input.iter().filter(|i| !i.is_empty()) {
                if !made.contains(i.as_str()) && !makers.contains_key(i.as_str()) {
                    return Err(refuse(
                        ErrorKind::Graph,
                        &node_name(node),
                        format!("reads `{i}`, which nothing produces"),
                        "export the model again",
                    ));
                }
            }
        }
        if g.output.is_empty() {
            return Err(refuse(
                ErrorKind::Graph,
                "",
                "the graph has no output".into(),
                "declare at least one output",
            ));
        }
        for o in &g.output {
            if !made.contains(o.name.as_str()) && !makers.contains_key(o.name.as_str()) {
                return Err(refuse(
                    ErrorKind::Graph,
                    &o.name,
                    "a graph output that no node produces".into(),
                    "name an existing value as output",
                ));
            }
        }
        // Kahn's algorithm: what cannot be ordered lies on a cycle or behind one.
        let order = self.node_order();
        if order.len() < g.node.len() {
            let done: BTreeSet<usize> = order.into_iter().collect();
            let stuck: Vec<String> = (0..g.node.len())
                .filter(|i| !done.contains(i))
                .take(4)
                .map(|i| node_name(&g.node[i]))
                .collect();
            return Err(refuse(
                ErrorKind::Graph,
                &stuck[0],
                format!("nodes feed each other in a cycle: {}", stuck.join(", ")),
                "an ONNX graph has no cycle: export it again",
            ));
        }
        Ok(())
    }

    /// Nodes in an order in which every value is written before it is read; nodes on cycles are left out.
    pub(super) fn node_order(&self) -> Vec<usize> {
        let g = &self.graph;
        let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, node) in g.node.iter().enumerate() {
            for o in &node.output {
                makers.insert(o, i);
            }
        }
        let mut missing: Vec<usize> = vec![0; g.node.len()];
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); g.node.len()];
        for (i, node) in g.node.iter().enumerate() {
            for name in node.input.iter().filter(|n| !n.is_empty()) {
                if let Some(&m) = makers.get(name.as_str()) {
                    missing[i] += 1;
                    readers[m].push(i);
                }
            }
        }
        let mut ready: BTreeSet<usize> = (0..g.node.len()).filter(|&i| missing[i] == 0).collect();
        let mut order = Vec::new();
        while let Some(i) = ready.pop_first() {
            order.push(i);
            for &r in &readers[i] {
                missing[r] -= 1;
                if missing[r] == 0 {
                    ready.insert(r);
                }
            }
        }
        order
    }
}

fn decode(bytes: &[u8]) -> Result<pb::ModelProto, String> {
    let caught = std::panic::catch_unwind(|| {
        tract_onnx::onnx()
            .proto_model_for_read(&mut std::io::Cursor::new(bytes))
            .map_err(|e| format!("{e:#}"))
    });
    caught.unwrap_or_else(|_| Err("the reader failed".into()))
}

/// The name by which a node is spoken of.
pub(super) fn node_name(node: &pb::NodeProto) -> String {
    if !node.name.is_empty() {
        return node.name.clone();
    }
    node.output.first().cloned().unwrap_or_default()
}

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
fn check_tensor(t: &pb::TensorProto, dir: &Path) -> Check<()> {
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

/// Decodes a checked tensor. Fails on NaN and infinity unless `masks` allows infinity (attention masks hold −∞).
pub(super) fn decode_tensor(t: &pb::TensorProto, dir: &Path, constant: bool) -> Check<Nd> {
    let n = elements(t)?;
    let shape: Vec<usize> = t.dims.iter().map(|&d| d as usize).collect();
    let external;
    let raw: &[u8] = if t.data_location == Some(1) {
        let (file, offset, _) = external_place(t, dir)?;
        external = read_slice(&file, offset, n * width(t.data_type).unwrap_or(8)).map_err(|e| {
            refuse(
                ErrorKind::ExternalData,
                &t.name,
                format!("{}: {e}", file.display()),
                "copy the weight file again",
            )
        })?;
        &external
    } else {
        &t.raw_data
    };
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
    let integer = !matches!(t.data_type, 1 | 10 | 11 | 16);
    if let Some(bad) = data
        .iter()
        .find(|x| x.is_nan() || (x.is_infinite() && !constant))
    {
        return Err(refuse(
            ErrorKind::NonFinite,
            &t.name,
            format!("holds {bad}"),
            "training may have diverged: use finite weights",
        ));
    }
    Ok(Nd::new(shape, data, integer))
}

fn read_slice(path: &Path, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
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

/// IEEE 754 binary16 to f64.
pub(crate) fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((bits >> 10) & 31);
    let fraction = f64::from(bits & 1023) / 1024.0;
    sign * match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction) * 2f64.powi(e - 15),
    }
}

fn brain(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}
