//! A directed acyclic graph of values with ordered operands, on petgraph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use petgraph::Direction;

use super::shape::{Interval, Layer, Shape};

/// Names a value of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub NodeIndex);

/// One value: the operation that makes it and the facts known about it.
#[derive(Clone, Debug)]
pub struct Node<O> {
    /// Printed as `%name`; unique in the graph.
    pub name: String,
    /// The operation.
    pub op: O,
    /// What one input of the batch holds here.
    pub shape: Shape,
    /// Values seen in calibration, outward-rounded; `None` before calibration.
    pub range: Option<Interval>,
    /// Values seen in calibration of the argument of the value's non-polynomial function, outward-rounded: variance + ε of a LayerNorm,
    /// the denominator of a PowerSoftmax, the operand of an activation; several for a softmax
    /// ([`crate::approx::softmax_rows::SoftmaxSite`]); none before calibration.
    pub arguments: Vec<Interval>,
    /// Row of the depth report: an index into [`Graph::layers`].
    pub layer: usize,
}

/// A graph whose operations are of type `O`.
#[derive(Clone, Debug)]
pub struct Graph<O> {
    /// Name of the model.
    pub name: String,
    /// Rows of the depth report, in the order of the model.
    pub layers: Vec<Layer>,
    /// Output names and values, in order.
    pub outputs: Vec<(String, ValueId)>,
    /// What the client divides output number i by; 1 where missing. Only `normalise` sets it.
    pub output_factors: Vec<f64>,
    dag: StableDiGraph<Node<O>, usize>,
}

impl<O> Graph<O> {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Graph {
            name: name.into(),
            layers: Vec::new(),
            outputs: Vec::new(),
            output_factors: Vec::new(),
            dag: StableDiGraph::new(),
        }
    }

    /// Adds a layer tag and returns its index.
    pub fn add_layer(&mut self, layer: Layer) -> usize {
        self.layers.push(layer);
        self.layers.len() - 1
    }

    /// Adds a value computed by `op` from `operands`, in that order. The name is made unique by a suffix if needed.
    pub fn add(
        &mut self,
        name: &str,
        op: O,
        operands: &[ValueId],
        shape: Shape,
        layer: usize,
    ) -> ValueId {
        let unique = self.unused(name);
        let id = self.dag.add_node(Node {
            name: unique,
            op,
            shape,
            range: None,
            arguments: Vec::new(),
            layer,
        });
        for (position, operand) in operands.iter().enumerate() {
            self.dag.add_edge(operand.0, id, position);
        }
        ValueId(id)
    }

    /// `name`, or `name_i` with the smallest i that no value has.
    fn unused(&self, name: &str) -> String {
        let alike: BTreeSet<&str> = self
            .dag
            .node_weights()
            .map(|n| n.name.as_str())
            .filter(|n| n.starts_with(name))
            .collect();
        let mut unique = name.to_string();
        let mut i = 1;
        while alike.contains(unique.as_str()) {
            unique = format!("{name}_{i}");
            i += 1;
        }
        unique
    }

    /// The node of a value. The value must be in the graph.
    pub fn node(&self, v: ValueId) -> &Node<O> {
        &self.dag[v.0]
    }

    /// The node of a value, to change it. The value must be in the graph.
    pub fn node_mut(&mut self, v: ValueId) -> &mut Node<O> {
        &mut self.dag[v.0]
    }

    /// Operands in order.
    pub fn operands(&self, v: ValueId) -> Vec<ValueId> {
        let mut edges: Vec<(usize, ValueId)> = self
            .dag
            .edges_directed(v.0, Direction::Incoming)
            .map(|e| (*e.weight(), ValueId(e.source())))
            .collect();
        edges.sort();
        edges.into_iter().map(|(_, v)| v).collect()
    }

    /// Operands in order, as printed.
    pub fn operand_names(&self, v: ValueId) -> Vec<String> {
        let operands = self.operands(v).into_iter();
        operands
            .map(|o| format!("%{}", super::text::name(&self.node(o).name)))
            .collect()
    }

    /// Values that use `v`, each once, in order of creation.
    pub fn users(&self, v: ValueId) -> Vec<ValueId> {
        let set: BTreeSet<ValueId> = self
            .dag
            .neighbors_directed(v.0, Direction::Outgoing)
            .map(ValueId)
            .collect();
        set.into_iter().collect()
    }

    /// Replaces the operands of `v`.
    pub fn set_operands(&mut self, v: ValueId, operands: &[ValueId]) {
        let old: Vec<_> = self
            .dag
            .edges_directed(v.0, Direction::Incoming)
            .map(|e| e.id())
            .collect();
        for e in old {
            self.dag.remove_edge(e);
        }
        for (position, operand) in operands.iter().enumerate() {
            self.dag.add_edge(operand.0, v.0, position);
        }
    }

    /// Makes every user and output of `old` use `new` instead, except `new` itself.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for user in self.users(old) {
            if user == new {
                continue;
            }
            let operands: Vec<_> = self
                .operands(user)
                .into_iter()
                .map(|o| if o == old { new } else { o })
                .collect();
            self.set_operands(user, &operands);
        }
        for (_, v) in &mut self.outputs {
            if *v == old {
                *v = new;
            }
        }
    }

    /// Values in topological order, ties broken by creation: same graph, same order, on any machine.
    /// Values on a cycle are left out (the verifier reports them).
    pub fn topological(&self) -> Vec<ValueId> {
        let mut waiting: BTreeMap<NodeIndex, usize> = self
            .dag
            .node_indices()
            .map(|i| (i, self.dag.edges_directed(i, Direction::Incoming).count()))
            .collect();
        let mut ready: BTreeSet<NodeIndex> = waiting
            .iter()
            .filter(|(_, &n)| n == 0)
            .map(|(&i, _)| i)
            .collect();
        let mut order = Vec::with_capacity(waiting.len());
        while let Some(i) = ready.pop_first() {
            order.push(ValueId(i));
            for e in self.dag.edges_directed(i, Direction::Outgoing) {
                if let Some(n) = waiting.get_mut(&e.target()) {
                    *n -= 1;
                    if *n == 0 {
                        ready.insert(e.target());
                    }
                }
            }
        }
        order
    }

    /// Values in topological order, each with those that nobody reads any more once it is made (itself, where nobody ever does).
    pub fn topological_with_last_uses(&self) -> Vec<(ValueId, Vec<ValueId>)> {
        let order = self.topological();
        let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (i, v) in order.iter().enumerate() {
            last.insert(*v, i);
            for o in self.operands(*v) {
                last.insert(o, i);
            }
        }
        let mut spent: Vec<Vec<ValueId>> = vec![Vec::new(); order.len()];
        for (v, i) in last {
            spent[i].push(v);
        }
        order.into_iter().zip(spent).collect()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    /// Whether the graph has no value.
    pub fn is_empty(&self) -> bool {
        self.dag.node_count() == 0
    }

    /// Makes the order of creation the order of [`Graph::topological`], so that ties are broken alike in this graph and in the one that is
    /// read back from its text. Returns the new name of every value. A graph with a cycle stays as it is.
    pub fn renumber(&mut self) -> std::collections::BTreeMap<ValueId, ValueId> {
        let order = self.topological();
        if order.len() != self.len() {
            return order.into_iter().map(|v| (v, v)).collect();
        }
        let new: std::collections::BTreeMap<ValueId, ValueId> = order
            .iter()
            .enumerate()
            .map(|(i, v)| (*v, ValueId(NodeIndex::new(i))))
            .collect();
        let mut dag = StableDiGraph::new();
        let operands: Vec<Vec<ValueId>> = order.iter().map(|v| self.operands(*v)).collect();
        for (v, operands) in order.iter().zip(operands) {
            let Some(node) = self.dag.remove_node(v.0) else {
                continue;
            };
            let id = dag.add_node(node);
            for (position, operand) in operands.iter().enumerate() {
                if let Some(o) = new.get(operand) {
                    dag.add_edge(o.0, id, position);
                }
            }
        }
        for (_, v) in &mut self.outputs {
            if let Some(n) = new.get(v) {
                *v = *n;
            }
        }
        self.dag = dag;
        new
    }

    /// Removes values that no output depends on, except those `keep` says to keep (inputs).
    pub fn remove_dead(&mut self, keep: impl Fn(&O) -> bool) {
        let mut alive: BTreeSet<ValueId> = self.outputs.iter().map(|(_, v)| *v).collect();
        for v in self.topological().into_iter().rev() {
            if alive.contains(&v) || keep(&self.node(v).op) {
                alive.insert(v);
                alive.extend(self.operands(v));
            }
        }
        self.dag.retain_nodes(|_, i| alive.contains(&ValueId(i)));
    }

    /// Writes the text of a graph of kind `stage`: one line a value in topological order, `text` giving its operation, the facts
    /// in a column of their own.
    pub fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        stage: &str,
        text: impl Fn(ValueId) -> String,
    ) -> fmt::Result {
        writeln!(f, "{stage} {} {{", self.name)?;
        let lines: Vec<(String, String)> = self
            .topological()
            .into_iter()
            .map(|v| {
                let node = self.node(v);
                let mut facts = format!(": {}", node.shape);
                if let Some(range) = node.range {
                    facts += &format!(" in {range}");
                }
                if let [argument] = &node.arguments[..] {
                    facts += &format!(" argument in {argument}");
                }
                (format!("  %{} = {}", node.name, text(v)), facts)
            })
            .collect();
        let width = lines
            .iter()
            .map(|(op, _)| op.chars().count())
            .max()
            .unwrap_or(0);
        for (op, facts) in lines {
            writeln!(f, "{op:width$} {facts}")?;
        }
        for (name, v) in &self.outputs {
            writeln!(f, "  output {name} = %{}", self.node(*v).name)?;
        }
        write!(f, "}}")
    }
}
