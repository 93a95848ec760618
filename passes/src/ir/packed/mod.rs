//! The packed graph: a value is a bundle of ciphertexts with a layout; the operations are those of the schedule.
//!
//! Slots, rotations and the kernel of each matrix product are decided here; levels are not.

pub mod build;
pub mod eval;
pub mod layout;
pub(in crate::ir) mod parse;
pub mod print;
pub(in crate::ir) mod verify;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::graph::{Graph, ValueId};
use super::poly::Approximation;
use super::tensor::ClientInput;
use super::weight::Weight;
use layout::{Geometry, Layout};

/// Index of a matrix in [`Plaintexts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatrixId(pub usize);

/// Index into [`Plaintexts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaintextId(pub usize);

/// Plaintext vectors over virtual slots, one period each, no two equal. A clone shares the vectors.
#[derive(Clone, Debug, Default)]
pub struct Plaintexts {
    vectors: Vec<Vector>,
    /// Hash → vectors with it.
    known: HashMap<u64, Vec<usize>>,
    elements: HashMap<Arc<Elements>, PlaintextId>,
    matrices: Vec<Arc<Weight>>,
    plans: HashMap<Vec<u64>, Vec<KnownPlan>>,
    derived: HashMap<Vec<u64>, Vec<Derived>>,
}

/// A plaintext vector, one period.
#[derive(Clone, Debug)]
enum Vector {
    /// Its numbers.
    Numbers(Arc<[f64]>),
    /// Elements of a matrix, which the linear map names.
    Elements(Arc<Elements>),
}

/// Slots `slot`, `slot + 1`, … hold elements `element`, `element + step`, … of a matrix, numbered row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Run {
    /// The first slot.
    pub slot: u32,
    /// How many slots.
    pub count: u32,
    /// The element in the first slot.
    pub element: u32,
    /// From element to element.
    pub step: i32,
}

/// Which elements of a matrix a vector takes; 0 in every other slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Elements {
    /// Slots, a power of two.
    pub period: usize,
    /// Slots ascending.
    pub runs: Vec<Run>,
}

impl Elements {
    /// Of one number per slot: an element counted from 1, or 0 for none.
    fn of(numbers: &[f64]) -> Elements {
        let mut runs: Vec<Run> = Vec::new();
        for (number, slot) in numbers.iter().zip(0u32..) {
            if *number < 1.0 {
                continue;
            }
            let element = *number as u32 - 1;
            if let Some(run) = runs.last_mut().filter(|r| r.slot + r.count == slot) {
                let step = i64::from(element) - i64::from(run.element);
                let next = i64::from(run.step) * i64::from(run.count);
                if run.count == 1 {
                    if let Ok(step) = i32::try_from(step) {
                        (run.step, run.count) = (step, 2);
                        continue;
                    }
                } else if step == next {
                    run.count += 1;
                    continue;
                }
            }
            runs.push(Run {
                slot,
                count: 1,
                element,
                step: 0,
            });
        }
        Elements {
            period: numbers.len(),
            runs,
        }
    }

    /// (slot, element) of the first and the last slot of every run.
    pub fn ends(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.runs.iter().flat_map(|r| {
            let last = r.count.saturating_sub(1);
            let element = i64::from(r.element) + i64::from(r.step) * i64::from(last);
            let element = usize::try_from(element).unwrap_or(usize::MAX);
            let first = (r.slot as usize, r.element as usize);
            [first, ((r.slot + last) as usize, element)]
        })
    }

    /// (slot, element) of every slot that holds one.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.runs.iter().flat_map(|r| {
            let element = move |i: u32| i64::from(r.element) + i64::from(r.step) * i64::from(i);
            (0..r.count).map(move |i| ((r.slot + i) as usize, element(i) as usize))
        })
    }
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
        let same = |id: &&usize| match &self.vectors[**id] {
            Vector::Numbers(known) => **known == *vector,
            Vector::Elements(_) => false,
        };
        if let Some(id) = alike.iter().find(same) {
            return PlaintextId(*id);
        }
        let id = self.vectors.len();
        alike.push(id);
        self.vectors.push(Vector::Numbers(vector.into()));
        PlaintextId(id)
    }

    /// Stores one period of a vector of elements, counted from 1 with 0 for none, or finds it.
    pub(crate) fn insert_elements(&mut self, numbers: &[f64]) -> PlaintextId {
        self.insert_runs(Elements::of(numbers))
    }

    /// The same by runs.
    pub(in crate::ir) fn insert_runs(&mut self, elements: Elements) -> PlaintextId {
        let id = PlaintextId(self.vectors.len());
        let elements = Arc::new(elements);
        let known = *self.elements.entry(Arc::clone(&elements)).or_insert(id);
        if known == id {
            self.vectors.push(Vector::Elements(elements));
        }
        known
    }

    /// Keeps a matrix. Equal ones are kept again: maps of different layers are different.
    pub fn insert_matrix(&mut self, weight: &Weight) -> MatrixId {
        self.matrices.push(Arc::new(weight.clone()));
        MatrixId(self.matrices.len() - 1)
    }

    /// The matrices.
    pub fn matrices(&self) -> &[Arc<Weight>] {
        &self.matrices
    }

    /// A matrix.
    pub fn matrix(&self, id: MatrixId) -> Option<&Weight> {
        self.matrices.get(id.0).map(|m| &**m)
    }

    /// Slots after which a vector repeats; 0 for one that does not exist.
    pub fn period(&self, id: PlaintextId) -> usize {
        match self.vectors.get(id.0) {
            Some(Vector::Numbers(v)) => v.len(),
            Some(Vector::Elements(e)) => e.period,
            None => 0,
        }
    }

    /// The elements that a vector takes, if it is made of elements.
    pub fn elements(&self, id: PlaintextId) -> Option<&Elements> {
        match self.vectors.get(id.0) {
            Some(Vector::Elements(e)) => Some(e),
            _ => None,
        }
    }

    /// One period of a vector; of one made of elements, those of `matrix`.
    pub fn get(&self, id: PlaintextId, matrix: Option<MatrixId>) -> Cow<'_, [f64]> {
        match self.vectors.get(id.0) {
            Some(Vector::Numbers(v)) => Cow::Borrowed(v),
            Some(Vector::Elements(elements)) => {
                let mut made = vec![0.0; elements.period];
                let Some(weight) = matrix.and_then(|m| self.matrix(m)) else {
                    return Cow::Owned(made);
                };
                let cols = weight.cols().max(1);
                for (slot, element) in elements.places() {
                    made[slot] = weight.at(element / cols, element % cols);
                }
                Cow::Owned(made)
            }
            None => Cow::Borrowed(&[]),
        }
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
    /// Left rotations in virtual slots, ascending, each with its terms. Maps of one shape share them.
    pub giants: Arc<Vec<(i64, Vec<LinearTerm>)>>,
    /// The matrix that vectors take their elements from, where they are made of elements.
    pub matrix: Option<MatrixId>,
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
