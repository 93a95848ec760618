//! The import: checks, shapes, running the nodes, recognising blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use heron_passes::ir::tensor::TensorGraph;
use heron_schedule::client::ClientGraph;
use tract_onnx::pb;

use super::error::{ErrorKind, ImportError, Obstacle};
use super::expr::{Exprs, Kind};
use super::ops::{self, Call};
use super::proto::{node_name, Model, MAX_VALUE};
use super::recognise;
use super::view::Val;
use super::weights::decode_tensor;
use crate::npz::Arrays;

/// Shapes of graph inputs given by `--shape`, batch axis included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shapes(pub BTreeMap<String, Vec<usize>>);

/// A graph input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Name in the ONNX graph.
    pub name: String,
    /// Shape of one input, without the batch axis.
    pub shape: Vec<usize>,
    /// Whether values are integers (token ids).
    pub integer: bool,
    /// Whether the ONNX shape starts with a batch axis.
    pub batched: bool,
}

/// A graph output; row-major, it has the elements of its value in the tensor graph in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// Name in the ONNX graph.
    pub name: String,
    /// Shape for one input, without the batch axis.
    pub shape: Vec<usize>,
    /// Whether the model makes more positions, of which only the last is kept.
    pub last: bool,
}

impl OutputSpec {
    /// The last position alone. Outputs of one position stay; fails where it is not clear which axis counts positions.
    pub fn last_position(&self) -> Result<OutputSpec, Obstacle> {
        match self.shape[..] {
            [] | [_] | [1, _] => Ok(self.clone()),
            [_, features] => Ok(OutputSpec {
                name: self.name.clone(),
                shape: vec![1, features],
                last: true,
            }),
            _ => Err(Obstacle::new(
                ErrorKind::Shape,
                &self.name,
                format!(
                    "the last position of an output of shape [positions, features] can be chosen, found {:?}",
                    self.shape
                ),
                "compile with --positions all, or reshape the output before exporting",
            )),
        }
    }
}

/// A model as a tensor graph, without ranges.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The model.
    pub graph: TensorGraph,
    /// Operator set of the standard domain.
    pub opset: i64,
    /// Number of weights among the initialisers.
    pub parameters: usize,
    /// Inputs that the tensor graph reads.
    pub inputs: Vec<InputSpec>,
    /// All graph inputs, those without influence on the outputs included.
    pub all_inputs: Vec<InputSpec>,
    /// Outputs.
    pub outputs: Vec<OutputSpec>,
    /// Number of nodes per operator, unused ones included.
    pub operators: BTreeMap<String, usize>,
    /// What the client computes for inputs of the tensor graph that are no graph inputs: position ids, masks, sums of embeddings.
    pub client: ClientGraph,
    /// Number of blocks recognised per kind: `power_softmax`, `layer_norm`, `rms_norm`, `gelu`, `rotary`, …
    pub blocks: BTreeMap<String, usize>,
}

/// Imports `path` with the shapes of `--shape`.
///
/// Fails with every obstacle found ([`ImportError::obstacles`]).
pub fn import(path: &Path, shapes: &Shapes) -> Result<Imported, ImportError> {
    import_with_arrays(path, shapes, None)
}

/// As [`import`]; symbolic dimensions that `--shape` leaves open are taken from calibration or input arrays.
pub fn import_with_arrays(
    path: &Path,
    shapes: &Shapes,
    arrays: Option<&Arrays>,
) -> Result<Imported, ImportError> {
    let model = Model::read(path)?;
    run(&model, shapes, arrays).map_err(|obstacles| ImportError::Refused {
        path: model.path.clone(),
        obstacles,
    })
}

/// Number of nodes per operator.
pub(super) fn operators(model: &Model) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for node in &model.graph.node {
        *count.entry(node.op_type.clone()).or_insert(0) += 1;
    }
    count
}

/// Values that are known, or that an obstacle upstream keeps from being known.
enum Slot {
    Known(Val),
    Poisoned,
}

/// Runs the import. The operators check what they are given; should one of them fail all the same, the file is refused.
pub(super) fn run(
    model: &Model,
    shapes: &Shapes,
    arrays: Option<&Arrays>,
) -> Result<Imported, Vec<Obstacle>> {
    let work = std::panic::AssertUnwindSafe(|| run_checked(model, shapes, arrays));
    std::panic::catch_unwind(work).unwrap_or_else(|_| {
        Err(vec![Obstacle::new(
            ErrorKind::Malformed,
            "",
            "the importer failed on this file",
            "this is a defect of heron: please report it with the file",
        )])
    })
}

fn run_checked(
    model: &Model,
    shapes: &Shapes,
    arrays: Option<&Arrays>,
) -> Result<Imported, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let needed = needed_nodes(model);
    for &i in &needed {
        let node = &model.graph.node[i];
        if let Some(o) = ops::unknown(node) {
            obstacles.push(at_node(o, node));
        }
    }
    let specs = input_specs(model, shapes, arrays).map_err(|o| {
        let mut all = obstacles.clone();
        all.push(o);
        all
    })?;
    let mut exprs = Exprs::default();
    let mut env: HashMap<String, Slot> = HashMap::new();
    for spec in &specs {
        let mut shape = spec.shape.clone();
        if spec.batched {
            shape.insert(0, 1);
        }
        let kind = Kind::Input {
            name: spec.name.clone(),
            user_shape: spec.shape.clone(),
            integer: spec.integer,
        };
        exprs.node = usize::MAX;
        env.insert(
            spec.name.clone(),
            Slot::Known(Val::Sym(exprs.push(shape, kind))),
        );
    }
    let readers = reader_counts(model, &needed);
    let mut left = readers.clone();
    for &i in &needed {
        let node = &model.graph.node[i];
        exprs.node = i;
        match step(model, node, &mut env, &mut exprs) {
            Ok(Some(values)) => {
                for (name, v) in node.output.iter().zip(values) {
                    env.insert(name.clone(), Slot::Known(v));
                }
            }
            Ok(None) => poison(node, &mut env),
            Err(o) => {
                if ops::unknown(node).is_none() {
                    obstacles.push(at_node(o, node));
                }
                poison(node, &mut env);
            }
        }
        for name in &node.input {
            if let Some(n) = left.get_mut(name.as_str()) {
                *n -= 1;
                if *n == 0 {
                    env.remove(name);
                }
            }
        }
    }
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    let mut outputs = Vec::new();
    for o in &model.graph.output {
        let v = match env.get(&o.name) {
            Some(Slot::Known(v)) => v.clone(),
            _ => match constant(model, &o.name) {
                Some(c) => c.map_err(|o| vec![o])?,
                None => continue,
            },
        };
        outputs.push((o.name.clone(), v));
    }
    drop(env);
    let lowered = recognise::lower(model, exprs, &outputs)?;
    let batched = specs.iter().any(|s| s.batched);
    let outputs = outputs
        .iter()
        .map(|(name, v)| OutputSpec {
            last: false,
            name: name.clone(),
            shape: match v.shape() {
                [1, rest @ ..] if batched => rest.to_vec(),
                all => all.to_vec(),
            },
        })
        .collect();
    let weights = model.graph.initializer.iter();
    Ok(Imported {
        graph: lowered.graph,
        opset: model.opset,
        parameters: weights
            .filter(|t| matches!(t.data_type, 1 | 10 | 11 | 16))
            .map(|t| t.dims.iter().map(|&d| d.max(0) as usize).product::<usize>())
            .sum(),
        all_inputs: specs.clone(),
        inputs: specs
            .into_iter()
            .filter(|s| lowered.used_inputs.contains(&s.name))
            .collect(),
        outputs,
        operators: operators(model),
        blocks: lowered.blocks,
        client: lowered.client,
    })
}

fn at_node(mut o: Obstacle, node: &pb::NodeProto) -> Obstacle {
    if o.node.is_empty() {
        o.node = node_name(node);
        o.op = node.op_type.clone();
    }
    o
}

fn poison(node: &pb::NodeProto, env: &mut HashMap<String, Slot>) {
    for name in &node.output {
        env.insert(name.clone(), Slot::Poisoned);
    }
}

/// Nodes that outputs depend on, in order.
fn needed_nodes(model: &Model) -> Vec<usize> {
    let order = model.node_order();
    let mut wanted: BTreeSet<&str> = model.graph.output.iter().map(|o| o.name.as_str()).collect();
    let mut keep = Vec::new();
    for &i in order.iter().rev() {
        let node = &model.graph.node[i];
        if node.output.iter().any(|o| wanted.contains(o.as_str())) {
            wanted.extend(node.input.iter().map(String::as_str));
            keep.push(i);
        }
    }
    keep.reverse();
    keep
}

/// How often each value that a node makes is read; outputs of the graph are never forgotten.
fn reader_counts(model: &Model, needed: &[usize]) -> HashMap<String, usize> {
    let mut readers: HashMap<String, usize> = HashMap::new();
    for &i in needed {
        for name in &model.graph.node[i].input {
            *readers.entry(name.clone()).or_insert(0) += 1;
        }
    }
    for o in &model.graph.output {
        readers.remove(&o.name);
    }
    readers
}

fn constant(model: &Model, name: &str) -> Option<Result<Val, Obstacle>> {
    let &i = model.initializers.get(name)?;
    Some(decode_tensor(&model.graph.initializer[i], &model.dir, false).map(Val::Const))
}

/// Runs one node; `None` if an operand is poisoned.
fn step(
    model: &Model,
    node: &pb::NodeProto,
    env: &mut HashMap<String, Slot>,
    exprs: &mut Exprs,
) -> Result<Option<Vec<Val>>, Obstacle> {
    let mut inputs = Vec::new();
    for name in &node.input {
        if name.is_empty() {
            inputs.push(None);
            continue;
        }
        match env.get(name) {
            Some(Slot::Known(v)) => inputs.push(Some(v.clone())),
            Some(Slot::Poisoned) => return Ok(None),
            None => match constant(model, name) {
                Some(c) => {
                    let c = c?;
                    env.insert(name.clone(), Slot::Known(c.clone()));
                    inputs.push(Some(c));
                }
                None => return Ok(None),
            },
        }
    }
    let call = Call { node, inputs };
    ops::run(&call, exprs).map(Some)
}

/// Concrete shapes of the graph inputs; initialisers that are listed as inputs (old exporters) are not inputs.
fn input_specs(
    model: &Model,
    shapes: &Shapes,
    arrays: Option<&Arrays>,
) -> Result<Vec<InputSpec>, Obstacle> {
    let mut symbols: BTreeMap<String, usize> = BTreeMap::new();
    let mut specs = Vec::new();
    let inputs: Vec<&pb::ValueInfoProto> = model
        .graph
        .input
        .iter()
        .filter(|i| !model.initializers.contains_key(&i.name))
        .collect();
    for name in shapes.0.keys() {
        if !inputs.iter().any(|i| &i.name == name) {
            let known: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(Obstacle::new(
                ErrorKind::Shape,
                name,
                "no graph input of this name",
                format!("inputs are: {}", known.join(", ")),
            ));
        }
    }
    for input in inputs {
        let (elem, dims) = declared(input).ok_or_else(|| {
            Obstacle::new(
                ErrorKind::Malformed,
                &input.name,
                "a graph input without tensor type and shape",
                "export with static or named shapes",
            )
        })?;
        let bad = |reason: String| {
            Obstacle::new(
                ErrorKind::Shape,
                &input.name,
                reason,
                format!("give it as --shape {}=1,...", input.name),
            )
        };
        let given = shapes.0.get(&input.name);
        if let Some(g) = given {
            if g.len() != dims.len() {
                return Err(bad(format!(
                    "--shape gives {} dimensions, the model has {}",
                    g.len(),
                    dims.len()
                )));
            }
        }
        // A leading dimension that is open or 1 is the batch.
        let batched = match dims.first() {
            Some(Dim::Fixed(n)) => *n == 1,
            Some(_) => true,
            None => false,
        };
        let array = arrays.and_then(|a| a.input(&input.name));
        let mut shape = Vec::new();
        for (i, d) in dims.iter().enumerate() {
            if i == 0 && batched {
                if given.is_some_and(|g| g[0] != 1) {
                    return Err(bad(
                        "the batch axis must be 1: heron packs inputs itself".into()
                    ));
                }
                if let Dim::Named(n) = d {
                    symbols.insert(n.clone(), 1);
                }
                shape.push(1);
                continue;
            }
            let asked = given.map(|g| g[i]);
            let seen = array.and_then(|a| {
                let lead = a.shape.len().checked_sub(dims.len())?;
                a.shape.get(lead + i).copied()
            });
            let size = match d {
                Dim::Fixed(n) => {
                    if asked.is_some_and(|a| a != *n) {
                        return Err(bad(format!(
                            "--shape gives {asked:?} for a dimension fixed to {n}"
                        )));
                    }
                    *n
                }
                Dim::Named(name) => {
                    let size = asked
                        .or(symbols.get(name).copied())
                        .or(seen)
                        .ok_or_else(|| {
                            bad(format!(
                                "dimension `{name}` is open and no calibration file gives it"
                            ))
                        })?;
                    symbols.insert(name.clone(), size);
                    size
                }
                Dim::Open => asked.or(seen).ok_or_else(|| {
                    bad(format!(
                        "dimension {i} is open and no calibration file gives it"
                    ))
                })?,
            };
            if size == 0 {
                return Err(bad(format!("dimension {i} is 0")));
            }
            shape.push(size);
        }
        let total = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if total.is_none_or(|n| n > MAX_VALUE) {
            return Err(Obstacle::new(
                ErrorKind::Size,
                &input.name,
                format!("an input of shape {shape:?} has more than {MAX_VALUE} elements"),
                "reduce the shape",
            ));
        }
        if batched {
            shape.remove(0);
        }
        specs.push(InputSpec {
            name: input.name.clone(),
            shape,
            integer: !matches!(elem, 1 | 10 | 11 | 16),
            batched,
        });
    }
    Ok(specs)
}

pub(super) enum Dim {
    Fixed(usize),
    Named(String),
    Open,
}

pub(super) fn declared(input: &pb::ValueInfoProto) -> Option<(i32, Vec<Dim>)> {
    use pb::tensor_shape_proto::dimension::Value as D;
    let pb::type_proto::Value::TensorType(t) = input.r#type.as_ref()?.value.as_ref()?;
    let dims = t
        .shape
        .as_ref()?
        .dim
        .iter()
        .map(|d| match &d.value {
            Some(D::DimValue(n)) if *n > 0 => Dim::Fixed(*n as usize),
            Some(D::DimParam(p)) if !p.is_empty() => Dim::Named(p.clone()),
            _ => Dim::Open,
        })
        .collect();
    Some((t.elem_type, dims))
}
