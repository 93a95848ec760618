//! Ranges seen inside a block, where its non-polynomial function sits.

use std::collections::BTreeMap;

use crate::approx::softmax_rows::SoftmaxSite;
use crate::ir::graph::ValueId;
use crate::ir::shape::Interval;
use crate::ir::tensor::{TensorGraph, TensorOp};

/// Per value of a tensor graph, the range of the argument of its non-polynomial function over the calibration set,
/// outward-rounded, without any margin: for LayerNorm variance + ε, for PowerSoftmax ε + Σ s^p, for an activation its argument.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteRanges(
    pub BTreeMap<ValueId, Interval>,
    /// What is known of the rows of each plain softmax.
    pub BTreeMap<ValueId, SoftmaxSite>,
);

impl SiteRanges {
    /// The ranges noted in a graph.
    pub fn of(graph: &TensorGraph) -> Self {
        let mut sites = SiteRanges::default();
        for v in graph.topological() {
            let node = graph.node(v);
            match (&node.op, &node.arguments[..]) {
                (_, []) => {}
                (TensorOp::Softmax { .. }, all) => {
                    sites.1.extend(SoftmaxSite::new(all).map(|s| (v, s)));
                }
                (_, [argument, ..]) => {
                    sites.0.insert(v, *argument);
                }
            }
        }
        sites
    }

    /// Notes the ranges in the graph they belong to, so that they are printed with it.
    pub fn write(&self, graph: &mut TensorGraph) {
        for v in graph.topological() {
            graph.node_mut(v).arguments = match (self.0.get(&v), self.1.get(&v)) {
                (Some(argument), _) => vec![*argument],
                (None, Some(rows)) => rows.intervals().to_vec(),
                (None, None) => Vec::new(),
            };
        }
    }
}
