//! The packed graph: a value is a bundle of ciphertexts with a layout; the operations are those of the schedule.
//!
//! Slots, rotations and the kernel of each matrix product are decided here; levels are not.

pub mod build;
pub mod eval;
pub mod layout;
pub(in crate::ir) mod parse;
pub mod print;
pub(in crate::ir) mod verify;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::graph::{Graph, ValueId};
use super::poly::Approximation;
use super::tensor::ClientInput;
use layout::{Geometry, Layout};

/// Index into [`Plaintexts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaintextId(pub usize);

/// Plaintext vectors over virtual slots, one period each, no two equal. A clone shares the vectors.
#[derive(Clone, Debug, Default)]
pub struct Plaintexts {
    vectors: Vec<Arc<[f64]>>,
    /// Hash → vectors with it.
    known: HashMap<u64, Vec<usize>>,
    plans: HashMap<Vec<u64>, Vec<KnownPlan>>,
    derived: HashMap<Vec<u64>, Vec<Derived>>,
}

/// A layout made from others in a way that its key names.
#[derive(Clone, Debug)]
struct Derived {
    from: Vec<Arc<Layout>>,
    layout: Arc<Layout>,
}

/// A linear map as products with vectors of a [`Plaintexts`], and what it is between.
#[derive(Clone, Debug)]
pub struct KnownPlan {
    /// Layout of the operand.
    pub from: Arc<Layout>,
    /// Layout of the result.
    pub to: Arc<Layout>,
    /// One per ciphertext of the result.
    pub outs: Arc<Vec<LinearOut>>,
    /// Afterwards, for each step in turn: y ← y + rot_step(y).
    pub fold: Vec<i64>,
}

/// Odd, its bits mixed: 2^64 over the golden ratio.
const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash for [`Plaintexts`], on which only speed depends: vectors of one hash are compared.
pub(crate) fn vector_hash(vector: &[f64]) -> u64 {
    vector.iter().fold(vector.len() as u64, |hash, v| {
        // -0 and 0 are one value.
        (hash ^ (v + 0.0).to_bits())
            .wrapping_mul(HASH_FACTOR)
            .rotate_left(29)
    })
}

impl Plaintexts {
    /// Stores a vector (its length a power of two), reduced to its period, or finds it.
    pub fn insert(&mut self, mut vector: Vec<f64>) -> PlaintextId {
        reduce_period(&mut vector);
        self.insert_hashed(vector_hash(&vector), vector)
    }

    /// The same for a vector that is reduced already, with its [`vector_hash`].
    pub(crate) fn insert_hashed(&mut self, hash: u64, vector: Vec<f64>) -> PlaintextId {
        let alike = self.known.entry(hash).or_default();
        if let Some(id) = alike.iter().find(|id| *self.vectors[**id] == *vector) {
            return PlaintextId(*id);
        }
        let id = self.vectors.len();
        alike.push(id);
        self.vectors.push(vector.into());
        PlaintextId(id)
    }

    /// One period of a vector.
    pub fn get(&self, id: PlaintextId) -> &[f64] {
        self.vectors.get(id.0).map_or(&[], |v| v)
    }

    /// The plan that was kept for the map called `key` between two layouts.
    pub fn plan(&self, key: &[u64], from: &Arc<Layout>, to: &Arc<Layout>) -> Option<&KnownPlan> {
        let same = |p: &&KnownPlan| Arc::ptr_eq(&p.from, from) && Arc::ptr_eq(&p.to, to);
        self.plans.get(key)?.iter().find(same)
    }

    /// Keeps a plan for [`Plaintexts::plan`].
    pub fn keep_plan(&mut self, key: Vec<u64>, plan: KnownPlan) {
        self.plans.entry(key).or_default().push(plan);
    }

    /// The layout that was kept as made from `from` in the way called `key`.
    pub fn derived(&self, key: &[u64], from: &[&Arc<Layout>]) -> Option<Arc<Layout>> {
        let same = |d: &&Derived| {
            d.from.len() == from.len() && d.from.iter().zip(from).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        let found = self.derived.get(key)?.iter().find(same)?;
        Some(Arc::clone(&found.layout))
    }

    /// Keeps a layout for [`Plaintexts::derived`].
    pub fn keep_derived(&mut self, key: Vec<u64>, from: &[&Arc<Layout>], layout: &Arc<Layout>) {
        self.derived.entry(key).or_default().push(Derived {
            from: from.iter().map(|l| Arc::clone(l)).collect(),
            layout: Arc::clone(layout),
        });
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.vectors.len()
    }

    /// Whether there is no vector.
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }
}

/// Cuts a vector that repeats down to one period.
pub fn reduce_period(vector: &mut Vec<f64>) {
    while vector.len() > 1 && vector.len().is_multiple_of(2) {
        let half = vector.len() / 2;
        if vector[..half] != vector[half..] {
            break;
        }
        vector.truncate(half);
    }
}

/// One product of a linear map: plaintext × rotated source ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearTerm {
    /// Number of the source ciphertext: ciphertexts of all operands, in order.
    pub source: usize,
    /// Left rotation of the source, in virtual slots.
    pub baby: i64,
    /// The vector it is multiplied by.
    pub plaintext: PlaintextId,
    /// Whether that vector repeats within a ciphertext so often that it is cheap to encode and to multiply by ([`is_compact`]).
    pub compact: bool,
}

/// Repetitions from which on a plaintext is cheap: the runtime then makes it in a small ring, and multiplies words by runs of words.
const COMPACT: usize = 16;

/// Whether a vector of this period is compact in a ciphertext of so many virtual slots.
pub fn is_compact(period: usize, virtual_slots: usize) -> bool {
    COMPACT * period <= virtual_slots
}

/// Σ_g rot_g(Σ_t plaintext_t · rot_baby(source_t)) + bias.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinearOut {
    /// Left rotations in virtual slots, ascending, each with its terms.
    pub giants: Vec<(i64, Vec<LinearTerm>)>,
    /// Added at the end.
    pub bias: Option<PlaintextId>,
}

/// A ciphertext of an operand: (number of the operand, number of the ciphertext in its bundle).
pub type Part = (usize, usize);

/// What is computed. Rotations are left rotations in virtual slots: rot_k(x)\[i\] = x\[i + k\].
#[derive(Clone, Debug, PartialEq)]
pub enum Kernel {
    /// Ciphertexts from the client: number in [`PackedGraph::ports`].
    Input {
        /// Number of the port.
        port: usize,
    },
    /// A plaintext-linear map, one entry per ciphertext of the result. One level.
    Linear(Arc<Vec<LinearOut>>),
    /// Every ciphertext of the operand rotated by each step; result ciphertext step_number · n + k. A step 0 is the operand.
    Rotate {
        /// Steps.
        steps: Vec<i64>,
    },
    /// Result ciphertext o is factor · Σ a·b + constant over the pairs of o. One relinearisation each; one level.
    MulSum {
        /// Pairs of ciphertexts of operands.
        pairs: Vec<Vec<(Part, Part)>>,
        /// Small integer.
        factor: i32,
        /// Added afterwards.
        constant: f64,
    },
    /// Σ coefficient · operand + constant, ciphertext by ciphertext (an operand of one ciphertext serves all).
    /// One level for an operand whose coefficient is no small integer.
    Combine {
        /// One per operand.
        coefficients: Vec<f64>,
        /// Added afterwards.
        constant: f64,
    },
}

/// Largest integer coefficient that costs no level.
pub const FREE_INTEGER: f64 = 256.0;

/// Whether multiplying by `c` in a combine costs no level.
pub fn is_free(c: f64) -> bool {
    c.fract() == 0.0 && c.abs() <= FREE_INTEGER
}

/// The operation of a packed value.
#[derive(Clone, Debug)]
pub struct PackedOp {
    /// What is computed.
    pub kernel: Kernel,
    /// Where the elements sit.
    pub layout: Arc<Layout>,
    /// Largest magnitude in any slot over the calibrated inputs, as far as known; `None` where partial results
    /// have no bound. Only values of at most about 1 may be bootstrapped.
    pub bound: Option<f64>,
}

/// What the client does for one graph input.
#[derive(Clone, Debug)]
pub struct InputPort {
    /// Name of the ONNX graph input.
    pub name: String,
    /// How the client makes the elements.
    pub client: ClientInput,
    /// Slot = factor × element.
    pub factor: f64,
}

/// Graph, slots and constants of the packed rung.
#[derive(Clone, Debug)]
pub struct PackedGraph {
    /// The values.
    pub graph: Graph<PackedOp>,
    /// How slots are cut up.
    pub geometry: Geometry,
    /// Plaintext vectors.
    pub plaintexts: Plaintexts,
    /// Inputs in the order of their ports.
    pub ports: Vec<InputPort>,
    /// The client divides output number i by this.
    pub output_factors: Vec<f64>,
    /// Approximations by layer, for the report.
    pub approximations: Vec<(usize, Approximation)>,
    /// Layouts given out by [`PackedGraph::shared`].
    pub layouts: Vec<Arc<Layout>>,
    /// Names of poly values with the values that hold them, where known: for `heron bisect`.
    pub origins: Vec<(String, ValueId)>,
}

impl PackedGraph {
    /// The lowest level each value can have when nothing is bootstrapped and outputs are at level 0. Absent: values nobody reads.
    pub fn lowest_levels(&self) -> BTreeMap<ValueId, u32> {
        let mut levels: BTreeMap<ValueId, u32> =
            self.graph.outputs.iter().map(|(_, v)| (*v, 0)).collect();
        for v in self.graph.topological().into_iter().rev() {
            let Some(&level) = levels.get(&v) else {
                continue;
            };
            let kernel = &self.graph.node(v).op.kernel;
            for (i, operand) in self.graph.operands(v).into_iter().enumerate() {
                let least = levels.entry(operand).or_insert(0);
                *least = (*least).max(level + kernel.levels(i));
            }
        }
        levels
    }

    /// Levels of the longest path from an input to an output.
    pub fn depth(&self) -> u32 {
        self.lowest_levels().values().copied().max().unwrap_or(0)
    }
}

impl Kernel {
    /// Levels used between operand number `operand` and the result.
    pub fn levels(&self, operand: usize) -> u32 {
        match self {
            Kernel::Input { .. } | Kernel::Rotate { .. } => 0,
            Kernel::Linear(_) | Kernel::MulSum { .. } => 1,
            Kernel::Combine { coefficients, .. } => coefficients
                .get(operand)
                .map_or(0, |&c| u32::from(!is_free(c))),
        }
    }

    /// Name in printed graphs.
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Input { .. } => "input",
            Kernel::Linear(_) => "linear",
            Kernel::Rotate { .. } => "rotate",
            Kernel::MulSum { .. } => "mul_sum",
            Kernel::Combine { .. } => "combine",
        }
    }
}
