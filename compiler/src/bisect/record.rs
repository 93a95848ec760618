//! What `X.heron` keeps for `heron bisect`.

use std::collections::BTreeMap;
use std::sync::Arc;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::levelled::{LevelledGraph, LevelledKernel};
use heron_passes::ir::packed::layout::Layout;
use heron_passes::ir::shape::Interval;
use heron_passes::ir::tensor::{ClientInput, TensorGraph, TensorOp};
use heron_passes::ir::weight::{Bind, Numbered, Numbers};
use heron_passes::sites::SiteRanges;
use heron_schedule::base::Base;
use serde::{Deserialize, Serialize};

use super::matching::Match;
use super::View;
use crate::numbers::{base_of, ModelNumbers};

/// Version of the record; others are refused.
const VERSION: u32 = 2;

/// What is known before packing: the plaintext model, and which poly value is which of its values.
#[derive(Clone, Debug, Default)]
pub struct Plain {
    graph: Vec<u8>,
    /// What the graph's weights are numbered by.
    bases: Vec<Base>,
    sites: Vec<(String, Interval)>,
    matches: Vec<Match>,
}

/// A value of the model in a run: after which instructions, in which slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Name of the value in the tensor graph.
    pub value: String,
    /// What of it.
    pub view: View,
    /// Index of the layer.
    pub layer: u32,
    /// Slot = scale · value + offset.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// Whether a bootstrap made these ciphertexts.
    pub bootstrapped: bool,
    /// For each ciphertext the instruction and the number of its result.
    pub places: Vec<(u32, u32)>,
    /// Index into [`Record::layouts`].
    pub layout: u32,
}

/// The record as read.
#[derive(Clone, Debug)]
pub struct Record {
    /// The plaintext model with its calibrated ranges.
    pub graph: TensorGraph,
    /// Calibrated ranges of denominators and arguments, by value.
    pub sites: Vec<(String, Interval)>,
    /// In the order in which a run makes them.
    pub checkpoints: Vec<Checkpoint>,
    /// For each ciphertext and virtual slot of a period the element held, -1 for none.
    pub layouts: Vec<Vec<Vec<i32>>>,
}

/// The part of the record before the graph.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    sites: Vec<(String, Interval)>,
    checkpoints: Vec<Checkpoint>,
    layouts: Vec<Vec<Vec<i32>>>,
}

/// Why a record was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// The schedule was written without one.
    #[error("the schedule holds no plaintext model to compare with; compile the model again with this version of heron")]
    Missing,
    /// Its bytes do not decode, or contradict the schedule.
    #[error("the plaintext model inside the schedule is damaged: {0}; compile the model again")]
    Damaged(String),
}

impl Plain {
    /// Keeps the model and what was matched. A model that cannot be stored (there is none) leaves an empty record.
    pub fn new(graph: &TensorGraph, sites: &SiteRanges, matches: Vec<Match>) -> Plain {
        let name = |v: &ValueId| graph.node(*v).name.clone();
        let mut bases: Vec<Base> = Vec::new();
        let mut numbered = graph.clone();
        let mut number = |numbers: &Arc<dyn Numbers>| -> Option<Arc<dyn Numbers>> {
            let base = base_of(numbers);
            let place = |b: &Base| (b.bytes().as_ptr(), b.len());
            let known = bases.iter().position(|b| place(b) == place(&base));
            let index = known.unwrap_or(bases.len());
            if known.is_none() {
                bases.push(base);
            }
            Some(Arc::new(Numbered {
                index: u32::try_from(index).ok()?,
                len: numbers.len(),
            }))
        };
        // There are fewer than 2^32.
        let _ = rebase(&mut numbered, &mut number);
        Plain {
            graph: postcard::to_stdvec(&numbered).unwrap_or_default(),
            bases,
            sites: sites.0.iter().map(|(v, r)| (name(v), *r)).collect(),
            matches,
        }
    }

    /// The numbers that the model is made of: a schedule lists them first, in this order.
    pub fn bases(&self) -> &[Base] {
        &self.bases
    }

    /// The bytes for the file. `places`: for each levelled value the instructions and results that make its ciphertexts.
    pub fn record(
        &self,
        graph: &LevelledGraph,
        places: &BTreeMap<ValueId, Vec<(u32, u32)>>,
    ) -> Vec<u8> {
        if self.graph.is_empty() {
            return Vec::new();
        }
        let mut layouts: Vec<Vec<Vec<i32>>> = Vec::new();
        let mut checkpoints = Vec::new();
        for m in &self.matches {
            let found = graph.origins.iter().find(|(name, _)| *name == m.poly);
            let Some(&(_, v)) = found else { continue };
            let mut values = vec![v];
            let is_bootstrap = |v| {
                matches!(
                    graph.graph.node(v).op.kernel,
                    LevelledKernel::Bootstrap { .. }
                )
            };
            if is_bootstrap(v) {
                values.extend(graph.graph.operands(v));
            }
            for v in values {
                let node = graph.graph.node(v);
                let Some(made) = places.get(&v) else { continue };
                checkpoints.push(Checkpoint {
                    value: m.value.clone(),
                    view: m.view,
                    layer: node.layer as u32,
                    scale: m.scale,
                    offset: m.offset,
                    bootstrapped: is_bootstrap(v),
                    places: made.clone(),
                    layout: known(&mut layouts, &node.op.layout),
                });
            }
        }
        let last = |c: &Checkpoint| c.places.iter().copied().max();
        checkpoints.sort_by_key(last);
        let head = Head {
            version: VERSION,
            sites: self.sites.clone(),
            checkpoints,
            layouts,
        };
        let head = postcard::to_stdvec(&head).unwrap_or_default();
        let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.graph);
        bytes
    }
}

fn known(layouts: &mut Vec<Vec<Vec<i32>>>, layout: &Layout) -> u32 {
    let element = |cell: &Option<u32>| cell.map_or(-1, |e| i32::try_from(e).unwrap_or(-1));
    let cells: Vec<Vec<i32>> = (0..layout.ciphertexts())
        .map(|c| layout.cells(c).iter().map(element).collect())
        .collect();
    let at = layouts.iter().position(|l| *l == cells);
    at.unwrap_or_else(|| {
        layouts.push(cells);
        layouts.len() - 1
    }) as u32
}

/// Puts other numbers in place of those that weights and tables are made of; fails with those that `bind` does not know.
fn rebase(graph: &mut TensorGraph, bind: &mut Bind<'_>) -> Result<(), Arc<dyn Numbers>> {
    for v in graph.topological() {
        match &mut graph.node_mut(v).op {
            TensorOp::Linear(linear) => {
                for term in &mut linear.terms {
                    term.weight.rebase(bind)?;
                }
            }
            TensorOp::Input {
                client: ClientInput::Embedding { table, .. },
                ..
            } => table.rebase(bind)?,
            _ => {}
        }
    }
    Ok(())
}

impl Record {
    /// Reads a record of a schedule with these bases; empty bytes are a missing one.
    pub fn read(bytes: &[u8], bases: &[Base]) -> Result<Record, RecordError> {
        if bytes.is_empty() {
            return Err(RecordError::Missing);
        }
        let damaged = |what: &str| RecordError::Damaged(what.into());
        let (length, rest) = bytes
            .split_first_chunk::<8>()
            .ok_or_else(|| damaged("it is too short"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let head = rest.get(..length).ok_or_else(|| damaged("it ends early"))?;
        let decode = |e: postcard::Error| RecordError::Damaged(e.to_string());
        let head: Head = postcard::from_bytes(head).map_err(decode)?;
        if head.version != VERSION {
            return Err(RecordError::Damaged(format!(
                "it has version {}, this heron reads {VERSION}",
                head.version
            )));
        }
        let mut graph: TensorGraph =
            postcard::from_bytes(rest.get(length..).unwrap_or(&[])).map_err(decode)?;
        let mut bind = |numbers: &Arc<dyn Numbers>| -> Option<Arc<dyn Numbers>> {
            let numbered = numbers.as_any().downcast_ref::<Numbered>()?;
            let base = bases.get(numbered.index as usize)?;
            (base.len() == numbered.len).then(|| Arc::new(ModelNumbers(base.clone())) as _)
        };
        rebase(&mut graph, &mut bind)
            .map_err(|_| damaged("its weights are not those of the schedule"))?;
        graph
            .verify()
            .map_err(|e| RecordError::Damaged(e.to_string()))?;
        for c in &head.checkpoints {
            let layout = head.layouts.get(c.layout as usize);
            if layout.is_none_or(|l| l.len() != c.places.len() || l.iter().any(Vec::is_empty)) {
                return Err(RecordError::Damaged(format!(
                    "value `%{}` has no layout",
                    c.value
                )));
            }
        }
        Ok(Record {
            graph,
            sites: head.sites,
            checkpoints: head.checkpoints,
            layouts: head.layouts,
        })
    }
}
