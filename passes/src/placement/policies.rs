//! Reference policies: what a placement would be without looking ahead, on the same kernels, packing, side chains and prices.
//!
//! `lazy`            Values keep the highest level they can have: inputs come at the top, an operation gives the least that its operands
//!                   leave, nothing is brought down early. Where an operation finds no level left, the operand at fault is
//!                   bootstrapped to the top; where that value may not be (it is not known to lie in [-1, 1]), the nearest values
//!                   before it that may.
//! `eva-waterline`   EVA (PLDI 2020) rescales whenever a product's scale passes the waterline, and switches moduli as early as readers
//!                   permit. With one scale per level the first is a rescaling after every product; the second puts every operation at
//!                   the lowest level its readers permit. EVA has no bootstraps; here the line that the first operation without
//!                   a level draws is one for all values: each value made before it and read after it is bootstrapped to the
//!                   top where it crosses, if it may be, its level left or not.
//!
//! Both are plans like that of `place-bootstraps`: `assign-levels` writes them, and the graph is verified.

use std::collections::BTreeSet;

use super::{Levels, Problem};

/// A way to place bootstraps without looking ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Bootstrap only when levels run out.
    Lazy,
    /// Bootstrap all that crosses where levels run out.
    EvaWaterline,
}

impl Policy {
    /// All policies, in the order of the report.
    pub const ALL: [Policy; 2] = [Policy::Lazy, Policy::EvaWaterline];

    /// Name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Lazy => "lazy",
            Policy::EvaWaterline => "eva-waterline",
        }
    }

    /// The levels of this policy; `None` where it finds none (some stretch without a value that may be bootstrapped is too long).
    pub fn levels(self, problem: &Problem) -> Option<Levels> {
        let mut chosen: BTreeSet<usize> = BTreeSet::new();
        // Every round adds a bootstrap.
        for _ in 0..=problem.sites.len() {
            let eager = Eager::new(problem, &chosen);
            let more = match (eager.stuck, self) {
                (Some(stuck), _) => eager.before(stuck)?,
                (None, Policy::Lazy) => BTreeSet::new(),
                (None, Policy::EvaWaterline) => eager.crossing(),
            };
            if more.is_empty() {
                return match (eager.stuck, self) {
                    (Some(_), _) => None,
                    (None, Policy::Lazy) => Some(Levels {
                        bootstraps: chosen.iter().map(|at| (*at, problem.top)).collect(),
                        operations: eager.levels,
                    }),
                    (None, Policy::EvaWaterline) => {
                        let mut levels = problem.lowest(&chosen)?;
                        let outs = levels.bootstraps.values_mut();
                        outs.for_each(|out| *out = problem.top);
                        Some(levels)
                    }
                };
            }
            chosen.extend(more);
        }
        None
    }
}

/// The highest levels for a choice of bootstraps.
struct Eager<'a> {
    problem: &'a Problem,
    chosen: &'a BTreeSet<usize>,
    /// Level of each operation's result, up to the first that has none.
    levels: Vec<u32>,
    /// Bootstraps on the way to each value, at most.
    epochs: Vec<u32>,
    /// The first value whose operands leave no level.
    stuck: Option<usize>,
}

impl<'a> Eager<'a> {
    fn new(problem: &'a Problem, chosen: &'a BTreeSet<usize>) -> Self {
        let mut eager = Eager {
            problem,
            chosen,
            levels: Vec::new(),
            epochs: Vec::new(),
            stuck: None,
        };
        for (at, site) in problem.sites.iter().enumerate() {
            // Below the level that bootstraps begin at nothing can be bootstrapped any more.
            let left = |(o, depth): &(usize, u32)| {
                let left = eager.read(*o).checked_sub(*depth);
                left.filter(|l| *l >= problem.from)
            };
            let mut operands = site.operands.iter();
            let level = operands.try_fold(problem.top, |l, o| Some(l.min(left(o)?)));
            let Some(level) = level else {
                eager.stuck = Some(at);
                break;
            };
            let epochs = site.operands.iter().map(|(o, _)| eager.epoch(*o));
            let epoch = epochs.max().unwrap_or(0);
            eager.epochs.push(epoch);
            eager.levels.push(level);
        }
        eager
    }

    /// Level that readers of a value find.
    fn read(&self, at: usize) -> u32 {
        match self.chosen.contains(&at) {
            true => self.problem.top,
            false => self.levels.get(at).copied().unwrap_or(0),
        }
    }

    /// Bootstraps on the way to readers of a value.
    fn epoch(&self, at: usize) -> u32 {
        self.epochs.get(at).copied().unwrap_or(0) + u32::from(self.chosen.contains(&at))
    }

    /// The values nearest before `at` that may be bootstrapped and whose levels are at fault; `None` if there is a way to it at
    /// fault without any.
    fn before(&self, at: usize) -> Option<BTreeSet<usize>> {
        let mut found = BTreeSet::new();
        // (value, level that its result must have)
        let mut waiting = vec![(at, self.problem.from)];
        let mut seen = BTreeSet::new();
        while let Some((at, level)) = waiting.pop() {
            for &(o, depth) in &self.problem.sites[at].operands {
                let wanted = level + depth;
                if self.read(o) >= wanted {
                    continue;
                }
                let site = &self.problem.sites[o];
                if self.chosen.contains(&o) || wanted > self.problem.top || site.is_input {
                    return None;
                }
                if !site.bootstrap.is_empty() {
                    found.insert(o);
                } else if seen.insert((o, wanted)) {
                    waiting.push((o, wanted));
                }
            }
        }
        Some(found)
    }

    /// Values read by an operation that has more bootstraps before it than they have, if they may be bootstrapped and are not.
    fn crossing(&self) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for (at, site) in self.problem.sites.iter().enumerate() {
            let epoch = self.epochs.get(at).copied().unwrap_or(0);
            for &(o, _) in &site.operands {
                let may = !self.problem.sites[o].bootstrap.is_empty();
                if may && !self.chosen.contains(&o) && self.epoch(o) < epoch {
                    found.insert(o);
                }
            }
        }
        found
    }
}
