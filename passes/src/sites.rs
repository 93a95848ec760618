//! Ranges seen inside a block, where its non-polynomial function sits.

use std::collections::BTreeMap;

use crate::approx::softmax_rows::SoftmaxSite;
use crate::ir::graph::ValueId;
use crate::ir::shape::Interval;

/// Per value of a tensor graph, the range of the argument of its non-polynomial function over the calibration set,
/// outward-rounded, without any margin: for LayerNorm variance + ε, for PowerSoftmax ε + Σ s^p, for an activation its argument.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteRanges(
    pub BTreeMap<ValueId, Interval>,
    /// What is known of the rows of each plain softmax.
    pub BTreeMap<ValueId, SoftmaxSite>,
);
