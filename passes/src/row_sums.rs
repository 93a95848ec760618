//! row-sums: sums over the columns of a row, or over the keys of a head and row, in every lane that held one of them.
//! before   %s = column_sum %y                 after   %s = mul_sum of the products of all ciphertexts of a row of %y at once,
//!                                                     then rotations by 1, 2, 4 … lanes, a mask of one lane, rotations by -1, -2, -4 …
//! Needs    products, with rows that fill whole blocks of lanes; other sums are linear maps.
//! Error    none.    Depth  one, like a linear map.
//! Why      a map from all lanes to all lanes takes two products and a share of a rotation for each lane; rotations that double take two for each
//!          doubling.
//! Source   rotate-and-sum: eprint 2014/873, 2018/1041.

use std::sync::Arc;

use crate::attention_plan::LEVEL;
use crate::cost::folding::{parts, seconds};
use crate::cost::{CostTable, Work};
use crate::ir::graph::ValueId;
use crate::ir::packed::build::Scope;
use crate::ir::packed::layout::{Geometry, Layout};
use crate::ir::packed::{Kernel, PackedGraph};
use crate::linear_lowering::{lower_linear, Contribution, ElementMap};
use crate::lower_attention::linear;

/// A sum of elements row · items + item.
#[derive(Clone, Copy, Debug)]
pub struct RowSum {
    /// Elements of a row.
    pub items: usize,
    /// Factor.
    pub scale: f64,
    /// Added afterwards.
    pub shift: f64,
}

/// The factor and what is added, of sums that are made.
impl ElementMap for RowSum {
    fn contributions(&self, element: u32, out: &mut Vec<Contribution>) {
        out.push(Contribution {
            source: 0,
            element,
            coefficient: self.scale,
        });
    }

    fn bias(&self, _: u32) -> f64 {
        self.shift
    }
}

/// The rows of a value, block by block: `ciphertexts` ciphertexts hold a row together, in `lanes` lanes each.
struct Blocks {
    ciphertexts: usize,
    lanes: usize,
    /// For each ciphertext of the sums the row of each block.
    rows: Vec<Vec<u32>>,
}

impl Blocks {
    /// The blocks of a layout of which `results` ciphertexts of sums are made, if each holds all items of one row.
    fn of(layout: &Layout, g: Geometry, items: usize, results: usize) -> Option<Blocks> {
        let n = layout.ciphertexts();
        let ciphertexts = n / results;
        let lanes = items / ciphertexts.max(1);
        let whole = n.is_multiple_of(results) && items == lanes * ciphertexts;
        if !whole || !lanes.is_power_of_two() || lanes > g.lanes || layout.period() < lanes {
            return None;
        }
        let row = |result: usize, block: usize| {
            let row = layout.cell(result * ciphertexts, block * lanes)? / items as u32;
            let mut met = vec![false; items];
            for k in result * ciphertexts..(result + 1) * ciphertexts {
                for slot in block * lanes..(block + 1) * lanes {
                    let e = layout.cell(k, slot)?;
                    let again = std::mem::replace(&mut met[e as usize % items], true);
                    if e / items as u32 != row || again {
                        return None;
                    }
                }
            }
            Some(row)
        };
        let blocks = layout.period() / lanes;
        let rows = (0..results)
            .map(|result| (0..blocks).map(|b| row(result, b)).collect())
            .collect::<Option<_>>()?;
        Some(Blocks {
            ciphertexts,
            lanes,
            rows,
        })
    }

    /// Whether every slot of `target` that holds something holds the row of its block.
    fn serve(&self, target: &Layout) -> bool {
        let same = |(k, rows): (usize, &Vec<u32>)| {
            (0..target.period().max(rows.len() * self.lanes)).all(|slot| {
                let row = rows[slot / self.lanes % rows.len()];
                target.cell(k, slot).is_none_or(|e| e == row)
            })
        };
        self.rows.iter().enumerate().all(same)
    }

    /// The row in the first lane of each block.
    fn first_lanes(&self) -> Layout {
        let first = |slot: usize| slot.is_multiple_of(self.lanes);
        let cells = |rows: &Vec<u32>| {
            let slots = 0..rows.len() * self.lanes;
            slots
                .map(|slot| first(slot).then(|| rows[slot / self.lanes]))
                .collect()
        };
        Layout::new(self.rows.iter().map(cells).collect(), "sums by block")
    }

    /// Rotations that double, up to the lanes of a block.
    fn doublings(&self, sign: i64) -> Vec<i64> {
        (0..self.lanes.ilog2()).map(|i| sign << i).collect()
    }

    /// The products of the ciphertexts of each row in one sum, where a value is products.
    fn products(&self, packed: &PackedGraph, v: ValueId) -> Option<(Kernel, Vec<ValueId>)> {
        let op = &packed.graph.node(v).op.kernel;
        let Kernel::MulSum {
            pairs,
            factor,
            constant,
        } = op
        else {
            return None;
        };
        let kernel = Kernel::MulSum {
            pairs: pairs
                .chunks(self.ciphertexts)
                .map(|row| row.concat())
                .collect(),
            factor: *factor,
            constant: constant * self.ciphertexts as f64,
        };
        Some((kernel, packed.graph.operands(v)))
    }

    /// Seconds of a linear map at least: a slot takes from every lane of its block, each at another rotation, and two products are one at best.
    fn least_of_a_map(&self) -> f64 {
        let products = self.rows.len() * self.ciphertexts * self.lanes;
        let work = Work {
            linear: [0.0, 0.0, products as f64 / 2.0, 0.0, 0.0, 0.0],
            ..Work::default()
        };
        CostTable::bootstrapped(16, 13).work(&work, LEVEL)
    }

    /// Seconds of rotations that double, at a level in the middle; `again`: whether the products are made for this only.
    fn seconds(&self, again: bool) -> f64 {
        let n = self.rows.len() as f64;
        let rotations = 2.0 * n * f64::from(self.lanes.ilog2());
        let made = if again { n } else { 0.0 };
        let work = Work {
            linear: [0.0, 0.0, n, 0.0, 0.0, n],
            multiplications: [made, made * (self.ciphertexts as f64 - 1.0)],
            rotations: [rotations, 0.0],
            combinations: [rotations, 0.0],
            ..Work::default()
        };
        CostTable::bootstrapped(16, 13).work(&work, LEVEL)
    }
}

/// The sums of `source` in the layout `target`; `map` is the same as a linear map. `alone`: whether nothing else reads `source`.
pub fn lower(
    (packed, scope): (&mut PackedGraph, &Scope),
    (source, alone): (ValueId, bool),
    target: &Arc<Layout>,
    (sum, map): (RowSum, &dyn ElementMap),
    bound: Option<f64>,
) -> Result<ValueId, String> {
    let g = packed.geometry;
    let layout = Arc::clone(packed.layout(source));
    let blocks = Blocks::of(&layout, g, sum.items, target.ciphertexts());
    let made = blocks
        .filter(|b| b.serve(target))
        .and_then(|b| Some((b.products(packed, source)?, b)));
    let Some(((products, operands), blocks)) = made else {
        return linear(packed, scope, source, target, map, bound);
    };
    let doubled = blocks.seconds(!alone);
    // Making a map of thousands of diagonals takes seconds.
    if blocks.least_of_a_map() < doubled {
        let plan = lower_linear(g, &[&layout], target, map, &mut packed.plaintexts);
        if plan.is_ok_and(|plan| seconds(&parts(&plan.outs)) <= doubled) {
            return linear(packed, scope, source, target, map, bound);
        }
    }
    let first = packed.shared(blocks.first_lanes());
    let nothing = Layout::new(vec![vec![None]; blocks.rows.len()], "partial sums");
    let nothing = packed.shared(nothing);
    let value = packed.add(scope, products, &operands, &nothing, None);
    let value = packed.fold(scope, value, &blocks.doublings(1), &first, None);
    let value = linear(packed, scope, value, &first, &sum, None)?;
    // Until the last of the rotations slots hold what they should or nothing.
    packed.graph.node_mut(value).op.layout = nothing;
    Ok(packed.fold(scope, value, &blocks.doublings(-1), target, bound))
}
