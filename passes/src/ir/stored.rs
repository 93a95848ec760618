//! Graphs as data: what a file keeps of a tensor graph, weights included.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::graph::{Graph, Node, ValueId};
use super::shape::{Interval, Layer, Shape};

/// A value with its operands by their positions in the list.
#[derive(Serialize)]
struct Written<'a, O> {
    name: &'a str,
    op: &'a O,
    shape: Shape,
    range: Option<Interval>,
    layer: u32,
    operands: Vec<u32>,
}

#[derive(Deserialize)]
struct Read<O> {
    name: String,
    op: O,
    shape: Shape,
    range: Option<Interval>,
    layer: u32,
    operands: Vec<u32>,
}

impl<O: Serialize> Serialize for Graph<O> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let order = self.topological();
        let at: std::collections::BTreeMap<ValueId, u32> =
            order.iter().zip(0u32..).map(|(v, i)| (*v, i)).collect();
        let place = |v: &ValueId| at.get(v).copied().unwrap_or(u32::MAX);
        let nodes: Vec<Written<O>> = order
            .iter()
            .map(|v| {
                let node: &Node<O> = self.node(*v);
                Written {
                    name: &node.name,
                    op: &node.op,
                    shape: node.shape,
                    range: node.range,
                    layer: node.layer as u32,
                    operands: self.operands(*v).iter().map(place).collect(),
                }
            })
            .collect();
        let outputs: Vec<(&str, u32)> = self
            .outputs
            .iter()
            .map(|(name, v)| (name.as_str(), place(v)))
            .collect();
        (&self.name, &self.layers, nodes, outputs).serialize(serializer)
    }
}

/// Operands come before their readers and layers exist, or the data is refused; whether operations fit is for the verifier to say.
impl<'de, O: Deserialize<'de>> Deserialize<'de> for Graph<O> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Parts<O> = (String, Vec<Layer>, Vec<Read<O>>, Vec<(String, u32)>);
        let (name, layers, nodes, outputs): Parts<O> = Deserialize::deserialize(deserializer)?;
        let mut graph = Graph::new(name);
        graph.layers = layers;
        let mut values: Vec<ValueId> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let operands: Option<Vec<ValueId>> = node
                .operands
                .iter()
                .map(|o| values.get(*o as usize).copied())
                .collect();
            let operands = operands.ok_or_else(|| {
                D::Error::custom(format!("value `%{}` reads a later value", node.name))
            })?;
            let layer = node.layer as usize;
            if layer >= graph.layers.len() {
                return Err(D::Error::custom(format!(
                    "value `%{}` is in layer {layer} of {}",
                    node.name,
                    graph.layers.len()
                )));
            }
            let v = graph.add(&node.name, node.op, &operands, node.shape, layer);
            graph.node_mut(v).range = node.range;
            values.push(v);
        }
        for (name, at) in outputs {
            let v = values.get(at as usize).copied();
            let v = v.ok_or_else(|| D::Error::custom(format!("output `{name}` has no value")))?;
            graph.outputs.push((name, v));
        }
        Ok(graph)
    }
}

/// Numbers as bytes: f32 where that loses nothing, else f64; little-endian after a byte that says which.
pub mod numbers {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    /// Writes numbers.
    pub fn serialize<S: Serializer>(data: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        let single = data
            .iter()
            .all(|x| f64::from(*x as f32).to_bits() == x.to_bits());
        let mut bytes = Vec::with_capacity(1 + data.len() * if single { 4 } else { 8 });
        bytes.push(u8::from(single));
        for x in data {
            match single {
                true => bytes.extend_from_slice(&(*x as f32).to_le_bytes()),
                false => bytes.extend_from_slice(&x.to_le_bytes()),
            }
        }
        serializer.serialize_bytes(&bytes)
    }

    /// Reads numbers.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        deserializer.deserialize_bytes(Numbers)
    }

    struct Numbers;

    impl Visitor<'_> for Numbers {
        type Value = Vec<f64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("numbers as bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<f64>, E> {
            let (kind, rest) = bytes
                .split_first()
                .ok_or_else(|| E::custom("no numbers at all"))?;
            let width = if *kind == 1 { 4 } else { 8 };
            if *kind > 1 || rest.len() % width != 0 {
                return Err(E::custom("numbers of an unknown kind"));
            }
            let single = |c: &[u8]| c.try_into().map(|c| f64::from(f32::from_le_bytes(c))).ok();
            let double = |c: &[u8]| c.try_into().map(f64::from_le_bytes).ok();
            let parts = rest.chunks_exact(width);
            Ok(match width {
                4 => parts.filter_map(single).collect(),
                _ => parts.filter_map(double).collect(),
            })
        }
    }
}
