//! The ways to run a model, each priced by the cost table.

use heron_passes::cost::CostTable;
use heron_passes::ir::packed::PackedGraph;
use heron_passes::lower_packed::LowerPacked;
use heron_passes::pass::{Manager, PassError};
use heron_passes::place_bootstraps;
use heron_schedule::params::{LevelBits, LevelledShape, ParameterSet, Profile};

use super::{Model, Objective, Wish};
use crate::pipeline::{cost_table, CompileError};

/// Estimates this close are equal: the table is no better. The smaller keys win.
const EQUAL: f64 = 1.15;

/// The same for chains that bootstrap on one packing, whose prices share what is uncertain.
const CLOSE: f64 = 1.03;

/// One way to run the model.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) params: ParameterSet,
    pub(super) batch: usize,
    pub(super) seconds: f64,
    /// What is minimised.
    pub(super) score: f64,
}

impl Candidate {
    pub(super) fn describe(&self) -> String {
        let n = self.params.log_n();
        match self.params.levelled_shape() {
            Some(shape) => format!(
                "N = 2^{n} without bootstrapping ({} levels of {} bits, digits of {} limbs)",
                self.params.top_usable().0,
                shape.bits.log2(),
                shape.digit_limbs
            ),
            None => format!(
                "N = 2^{n} with bootstrapping ({} levels between bootstraps, {} digits)",
                self.params.levels_between_bootstraps(),
                self.params.digits().len()
            ),
        }
    }
}

/// Seconds of one run without bootstraps, every value at its lowest level.
fn levelled_seconds(packed: &PackedGraph, costs: &CostTable) -> f64 {
    let levels = packed.lowest_levels();
    let price = |(v, level): (&_, &u32)| {
        let op = &packed.graph.node(*v).op;
        costs.kernel(&op.kernel, op.layout.ciphertexts(), *level)
    };
    levels.iter().map(price).sum()
}

impl Wish {
    fn score(&self, seconds: f64, batch: usize) -> f64 {
        match (self.objective, self.inputs) {
            (Objective::Latency, _) => seconds,
            (Objective::Throughput, None) => seconds / batch.max(1) as f64,
            (Objective::Throughput, Some(n)) => seconds * n.div_ceil(batch.max(1)) as f64,
        }
    }

    /// Batches worth trying: what the user says, or one input, as many as there are, and as many as fit.
    fn batches(&self, most: usize) -> Vec<usize> {
        if let Some(batch) = self.batch {
            return vec![batch];
        }
        let mut found = match (self.objective, self.inputs) {
            (Objective::Latency, _) => vec![1],
            (Objective::Throughput, Some(n)) => vec![n.next_power_of_two().min(most), most],
            (Objective::Throughput, None) => vec![most],
        };
        found.dedup();
        found
    }
}

fn pack(model: &Model<'_>, slots: usize, batch: Option<usize>) -> Result<PackedGraph, PassError> {
    Manager::new().lower(&LowerPacked { slots, batch }, model.graph)
}

/// Every chain without bootstrapping that bears the depth, priced.
pub(super) fn levelled_candidates(model: &Model<'_>, wish: &Wish, least: u32) -> Vec<Candidate> {
    let rings = match wish.profile {
        Profile::ToyLevelled => 11..=12,
        _ => 13..=17,
    };
    let mut found = Vec::new();
    for log_n in rings {
        let sets: Vec<ParameterSet> = LevelledShape::all()
            .filter_map(|shape| ParameterSet::levelled(wish.profile, log_n, shape).ok())
            .filter(|set| u32::from(set.top_usable().0) >= least)
            .collect();
        if sets.is_empty() {
            continue;
        }
        let slots = 1usize << (log_n - 1);
        // The largest batch says how many inputs fit; a model too wide for the ring is refused here.
        let Ok(widest) = pack(model, slots, wish.batch) else {
            continue;
        };
        for batch in wish.batches(widest.geometry.batch) {
            let packed = match batch == widest.geometry.batch {
                true => Ok(widest.clone()),
                false => pack(model, slots, Some(batch)),
            };
            let Ok(packed) = packed else { continue };
            let depth = packed.depth();
            let mut priced = Vec::new();
            for params in sets
                .iter()
                .filter(|set| u32::from(set.top_usable().0) >= depth)
            {
                let seconds = levelled_seconds(&packed, &cost_table(params, model.facts.target));
                priced.push(Candidate {
                    params: params.clone(),
                    batch,
                    seconds,
                    score: wish.score(seconds, batch),
                });
            }
            for bits in [LevelBits::TwentySeven, LevelBits::Forty] {
                found.extend(smallest_of_the_fast(&priced, bits, depth));
            }
        }
    }
    found
}

/// Of the digits whose estimates are nearly the least, those in the order of the size of a key at level `depth`.
fn smallest_of_the_fast(priced: &[Candidate], bits: LevelBits, depth: u32) -> Vec<Candidate> {
    let of_bits = |c: &&Candidate| c.params.levelled_shape().is_some_and(|s| s.bits == bits);
    let least = priced
        .iter()
        .filter(of_bits)
        .map(|c| c.score)
        .fold(f64::INFINITY, f64::min);
    let words = |c: &Candidate| {
        let digit = c
            .params
            .levelled_shape()
            .map_or(1, |s| usize::from(s.digit_limbs));
        let limbs = bits.limbs(depth);
        limbs.div_ceil(digit.max(1)) * (limbs + c.params.special().len())
    };
    let mut fast: Vec<Candidate> = priced
        .iter()
        .filter(of_bits)
        .filter(|c| c.score <= EQUAL * least)
        .cloned()
        .collect();
    fast.sort_by_key(words);
    // Equal scores keep this order in the sort of all candidates.
    fast.iter_mut().for_each(|c| c.score = least);
    fast
}

/// Inputs side by side where there is bootstrapping: one for latency, else as many as fit.
fn bootstrapped_batch(wish: &Wish) -> Option<usize> {
    match (wish.objective, wish.batch) {
        (Objective::Latency, None) => Some(1),
        (_, batch) => batch,
    }
}

/// Packs for the ring that bootstraps, and prices every chain of the profile with bootstrapping on it, the cheapest first: with fewer digits key
/// switches cost less and a bootstrap leaves fewer levels.
pub(super) fn bootstrapped_candidates(
    model: &Model<'_>,
    wish: &Wish,
    manager: &mut Manager<'_>,
) -> Result<(PackedGraph, Vec<Candidate>), CompileError> {
    let named =
        ParameterSet::new(wish.profile).map_err(|e| CompileError::Infeasible(e.to_string()))?;
    let slots = named.slots();
    let batch = bootstrapped_batch(wish);
    let packed = manager.lower(&LowerPacked { slots, batch }, model.graph)?;
    let batch = packed.geometry.batch;
    let mut candidates = Vec::new();
    let mut refused = None;
    for params in ParameterSet::bootstrapping(wish.profile, named.log_n()) {
        match place_bootstraps::price(&packed, &cost_table(&params, model.facts.target)) {
            Ok(seconds) => candidates.push(Candidate {
                params,
                batch,
                seconds,
                score: wish.score(seconds, batch),
            }),
            // The profile's own chain comes first: its refusal is the one to read.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    if let (true, Some(error)) = (candidates.is_empty(), refused) {
        return Err(error.into());
    }
    candidates.sort_by(|a, b| a.score.total_cmp(&b.score));
    // Fewer digits are smaller keys.
    let least = candidates.first().map_or(0.0, |c| c.score);
    let close = candidates.iter().take_while(|c| c.score <= CLOSE * least);
    let digits = |c: &Candidate| c.params.digits().len();
    let smallest = close.enumerate().min_by_key(|(_, c)| digits(c));
    if let Some((at, _)) = smallest {
        candidates[..=at].rotate_right(1);
    }
    Ok((packed, candidates))
}

/// Candidates other than the chosen one, for the report.
pub(super) fn others(candidates: &[Candidate], chosen: &Candidate) -> String {
    let others = candidates.iter();
    let others = others.filter(|c| c.params.id() != chosen.params.id());
    let text = |c: &Candidate| format!("; {} is estimated at {:.3} s", c.describe(), c.seconds);
    others.map(text).collect()
}
