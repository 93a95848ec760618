//! What client and program say to each other: which element sits in which slot, and by which factor.

use heron_passes::client_head::ClientHead;
use heron_passes::ir::levelled::LevelledKernel;
use heron_passes::ir::packed::layout::Layout;
use heron_passes::ir::packed::Kernel;
use heron_passes::ir::shape::Shape;
use heron_passes::ir::tensor::ClientInput;
use heron_passes::ir::weight::Weight;
use heron_schedule::client::ClientGraph;
use heron_schedule::proto::{self, BiasRef, Embedding, Port, PortCiphertext};

use super::{EmitError, Emitter};

/// Element numbers by slot, through `element`.
fn places(layout: &Layout, element: impl Fn(usize) -> i32) -> Vec<PortCiphertext> {
    (0..layout.ciphertexts())
        .map(|c| PortCiphertext {
            element: layout
                .cells(c)
                .iter()
                .map(|cell| cell.map_or(-1, |e| element(e as usize)))
                .collect(),
        })
        .collect()
}

fn dims(shape: &[usize]) -> Vec<u32> {
    shape.iter().map(|d| *d as u32).collect()
}

impl Emitter<'_> {
    /// Input ports, in order of their numbers.
    pub(super) fn input_ports(&mut self) -> Result<Vec<Port>, EmitError> {
        let graph = self.graph;
        let mut ports = Vec::new();
        for (number, port) in graph.ports.iter().enumerate() {
            let value = graph.graph.topological().into_iter().find(|v| {
                matches!(graph.graph.node(*v).op.kernel,
                    LevelledKernel::Packed(Kernel::Input { port }) if port == number)
            });
            // An input that nothing reads still has a place in the signature.
            let unread = Layout::new(vec![vec![Some(0)]], "unread");
            let (layout, level) = match value {
                Some(v) => {
                    let op = &graph.graph.node(v).op;
                    (op.layout.as_ref(), op.level)
                }
                None => (&unread, 0),
            };
            let mut made = Port {
                name: port.name.clone(),
                level,
                factor: port.factor,
                fill: 0.0,
                ..Port::default()
            };
            match &port.client {
                ClientInput::Gather { user_shape, index } => {
                    made.shape = dims(user_shape);
                    made.dtype = "float32".into();
                    made.ciphertexts = places(layout, |e| {
                        index.get(e).map_or(-1, |i| i32::try_from(*i).unwrap_or(-1))
                    });
                }
                ClientInput::Embedding { user_shape, table } => {
                    made.shape = dims(user_shape);
                    made.dtype = "int64".into();
                    made.embedding = Some(Embedding {
                        vocabulary: table.rows() as u32,
                        cols: table.cols() as u32,
                        plaintext: self.table(table, false),
                    });
                    made.ciphertexts = places(layout, |e| i32::try_from(e).unwrap_or(-1));
                }
            }
            ports.push(made);
        }
        Ok(ports)
    }

    /// What the client computes for these ports. A mask that scores in several layouts are multiplied by has a port for each:
    /// `NAME`, `NAME.1`, …
    pub(super) fn client(
        &mut self,
        graph: &ClientGraph,
        ports: &[Port],
    ) -> Option<proto::ClientGraph> {
        if graph.is_empty() {
            return None;
        }
        let mut graph = graph.clone();
        let known = std::mem::take(&mut graph.results);
        let value = |name: &str| known.iter().find(|(n, _)| n == name).map(|r| r.1);
        for port in ports {
            let copy = port.name.rsplit_once('.').and_then(|(base, n)| {
                n.parse::<usize>().ok()?;
                value(base)
            });
            if let Some(v) = value(&port.name).or(copy) {
                graph.results.push((port.name.clone(), v));
            }
        }
        Some(graph.to_proto(&mut self.weights))
    }

    /// All numbers of a matrix as one vector.
    fn table(&mut self, table: &Weight, single: bool) -> u32 {
        self.weights
            .push_parts(single, |part| table.for_panels(|_, panel| part(panel)))
    }

    /// Leaves the head to the client.
    pub(super) fn client_head(&mut self, head: &ClientHead, port: &mut Port) {
        let mut exact = true;
        head.weight.for_panels(|_, panel| {
            exact &= panel.iter().all(|&x| f64::from(x as f32) == x);
        });
        let weight = self.table(&head.weight, exact);
        let bias = head.bias.as_ref().map(|b| BiasRef {
            plaintext: self.weights.push(&b.data, false),
        });
        port.head = Some(proto::Head {
            weight,
            bias,
            cols: head.weight.cols() as u32,
            shape: dims(&head.output),
        });
    }

    /// Output ports, in order.
    pub(super) fn output_ports(&self, shapes: &[Vec<usize>]) -> Result<Vec<Port>, EmitError> {
        let graph = self.graph;
        let mut ports = Vec::new();
        for (number, (name, v)) in graph.graph.outputs.iter().enumerate() {
            let node = graph.graph.node(*v);
            let natural = match node.shape {
                Shape::Matrix { rows: 1, cols } => vec![cols],
                Shape::Matrix { rows, cols } => vec![rows, cols],
                Shape::Scores { heads, rows, keys } => vec![heads, rows, keys],
                Shape::PerHead { heads, rows } => vec![heads, rows],
                Shape::PerRow { rows } => vec![rows],
            };
            let shape = shapes.get(number).unwrap_or(&natural);
            if shape.iter().product::<usize>() != node.shape.len() {
                return Err(self.malformed(
                    *v,
                    format!("output of shape {shape:?} with {} values", node.shape.len()),
                ));
            }
            let factor = graph.output_factors.get(number).copied().unwrap_or(1.0);
            ports.push(Port {
                name: name.clone(),
                shape: dims(shape),
                level: node.op.level,
                ciphertexts: places(&node.op.layout, |e| i32::try_from(e).unwrap_or(-1)),
                factor: 1.0 / factor,
                embedding: None,
                dtype: "float32".into(),
                fill: 0.0,
                rounding_bits: 0,
                head: None,
            });
        }
        Ok(ports)
    }
}
