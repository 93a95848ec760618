//! Reading and validating the raw protobuf, before anything is computed from it.
//!
//! Limits come first: tract panics or allocates without bound on some malformed files (crypto-safety.md, section 4).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use tract_onnx::pb;
use tract_onnx::prelude::Framework;

use super::error::{ErrorKind, ImportError, Obstacle};
use super::weights::check_tensor;

/// Largest `.onnx` file read; weights beyond that belong into external data (the format itself ends at 2 GiB).
const MAX_FILE: u64 = 1 << 31;
/// Largest number of elements of one weight tensor.
pub(super) const MAX_WEIGHT: usize = 1 << 29;
/// Largest number of elements of a value that is computed (not stored).
pub(super) const MAX_VALUE: usize = 1 << 25;
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

pub(super) type Check<T> = Result<T, Obstacle>;

pub(super) fn refuse(kind: ErrorKind, node: &str, reason: String, remedy: &str) -> Obstacle {
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
