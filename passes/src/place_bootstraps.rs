//! place-bootstraps: packed graph → which values are bootstrapped, and the level of every value.
//! before   %r = mul_sum …              after   level 3
//!          %o = mul_sum %u, %r                 level 2, bootstrapped: readers see level 9
//! Needs    some value within every `top` levels that is known to lie in [-1, 1].
//! Error    none here; a bootstrap adds about 2^-22.    Depth  unchanged.
//! Why      a bootstrap costs as much as all the rest of a layer.
//! Source   the frontier dynamic program of Fhelipe (PLDI 2024) run backwards on single values with prices by level and kind, so that
//!          skip connections are part of the state; regions with one way in and out as in Orion (ASPLOS 2025).
//!
//! Values are visited in reverse topological order. What is still to come depends on the past only through the level that each
//! value of the frontier must have (values with a reader already visited, not yet visited themselves; inputs come at any level). A
//! partial plan that costs no more than another and needs no higher level anywhere is never worse, so that keeping the
//! others only is exact, until [`STATES`] are kept; then the cheapest are, and the report says so.
//!
//! Where the frontier is one value the graph is cut. The region between two cuts is a table (level wanted of its result, level it wants)
//! → price; the tables are chained by a min-plus product. Regions with equal prices and wiring, as the layers of a transformer, share one.

use std::collections::BTreeMap;

use crate::cost::CostTable;
use crate::ir::packed::PackedGraph;
use crate::pass::PassError;
use crate::placement::prune::prune as prune_bootstraps;
use crate::placement::{Levels, Objective, Problem};

/// Name of the pass.
pub const NAME: &str = "place-bootstraps";
/// Most partial plans kept.
pub const STATES: usize = 600;

/// Seconds of the levels and bootstraps that are chosen.
pub fn price(packed: &PackedGraph, costs: &CostTable) -> Result<f64, PassError> {
    let problem = Problem::new(packed, costs);
    let solution = solve(&problem, Objective::Seconds).map_err(|at| stuck(packed, &problem, at))?;
    Ok(problem.seconds(&prune_bootstraps(&problem, solution.levels)))
}

/// The refusal where no plan gets past a value of the problem.
pub fn stuck(packed: &PackedGraph, problem: &Problem, at: usize) -> PassError {
    let site = problem.sites.get(at);
    let name = site.map_or("?", |s| packed.graph.node(s.value).name.as_str());
    PassError::Resource {
        pass: NAME,
        what: format!("levels between bootstraps at value `%{name}`"),
        needed: format!("more than {}", problem.top - problem.from),
        available: (problem.top - problem.from).to_string(),
        remedy: "no value before it is known to lie in [-1, 1]: normalise ranges, lower the degree of approximations, or choose a parameter set with more levels".into(),
    }
}

/// What [`solve`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// The levels and bootstraps.
    pub levels: Levels,
    /// Whether no partial plan was dropped that could have been better.
    pub exact: bool,
    /// Regions between cuts, and how many of them were solved; the others are copies.
    pub regions: (usize, usize),
}

/// Levels and bootstraps of the least price; where no plan gets past a value, its number.
pub fn solve(problem: &Problem, objective: Objective) -> Result<Solution, usize> {
    let mut tables = Tables::default();
    let mut exact = true;
    let mut regions = 0;
    // Level wanted at the cut → (price, last step).
    let mut front: BTreeMap<u8, (f64, usize)> = BTreeMap::from([(0, (0.0, usize::MAX))]);
    let mut steps: Vec<Step> = Vec::new();
    for region in cut(problem) {
        regions += 1;
        let table = tables.of(problem, &region);
        let mut next: BTreeMap<u8, (f64, usize)> = BTreeMap::new();
        let mut furthest = region.sites.first().copied().unwrap_or(0);
        for (&wanted, &(before, last)) in &front {
            let row = tables.row(problem, objective, &region, table, wanted);
            exact &= row.exact;
            furthest = furthest.min(row.furthest(&region));
            for (number, exit) in row.exits.iter().enumerate() {
                let price = before + exit.price;
                let found = next.get(&exit.need);
                if found.is_none_or(|(best, _)| price < *best) {
                    steps.push(Step {
                        first: region.first,
                        table,
                        wanted,
                        exit: number,
                        before: last,
                    });
                    next.insert(exit.need, (price, steps.len() - 1));
                }
            }
        }
        if next.is_empty() {
            return Err(furthest);
        }
        front = next;
    }
    let best = front.values().min_by(|a, b| a.0.total_cmp(&b.0));
    let levels = tables.levels(problem, &steps, best.map_or(usize::MAX, |b| b.1));
    Ok(Solution {
        levels,
        exact,
        regions: (regions, tables.numbers.len()),
    })
}

/// Part of the graph between two cuts.
struct Region {
    /// Number of the first (latest) value.
    first: usize,
    /// Values in the order in which they are visited, inputs left out.
    sites: Vec<usize>,
    /// The value at the next cut, if any.
    next: Option<usize>,
}

/// The regions in the order in which they are visited: outputs first.
fn cut(problem: &Problem) -> Vec<Region> {
    let sites = &problem.sites;
    let mut is_open = vec![false; sites.len()];
    let mut open = 0usize;
    let mut regions: Vec<Region> = Vec::new();
    for at in (0..sites.len()).rev() {
        if sites[at].is_input {
            continue;
        }
        let was_open = is_open[at];
        let narrow = open == usize::from(was_open);
        if narrow {
            if let Some(last) = regions.last_mut() {
                last.next = was_open.then_some(at);
            }
            regions.push(Region {
                first: at,
                sites: Vec::new(),
                next: None,
            });
        }
        open -= usize::from(was_open);
        if let Some(region) = regions.last_mut() {
            region.sites.push(at);
        }
        for &(o, _) in &sites[at].operands {
            if !sites[o].is_input && !is_open[o] {
                is_open[o] = true;
                open += 1;
            }
        }
    }
    regions
}

/// One region of a chain of regions.
struct Step {
    first: usize,
    table: usize,
    wanted: u8,
    exit: usize,
    before: usize,
}

/// Level of a value, and the level after its bootstrap if any.
type Choice = (u8, Option<u8>);

/// A cheapest plan of a region for one level wanted and one level needed.
struct Exit {
    need: u8,
    price: f64,
    /// By position in the region.
    choices: Vec<Choice>,
}

struct Row {
    exits: Vec<Exit>,
    exact: bool,
    /// Position of the first value that no plan gets past.
    stuck: usize,
}

impl Row {
    fn furthest(&self, region: &Region) -> usize {
        region
            .sites
            .get(self.stuck)
            .copied()
            .unwrap_or(region.first)
    }
}

/// Tables of regions by what they are, and rows by the level wanted.
#[derive(Default)]
struct Tables {
    numbers: BTreeMap<Vec<u64>, usize>,
    rows: BTreeMap<(usize, u8), Row>,
}

impl Tables {
    /// Number of the table of a region: equal for regions whose values have equal prices and wiring.
    fn of(&mut self, problem: &Problem, region: &Region) -> usize {
        let position: BTreeMap<usize, usize> = region
            .sites
            .iter()
            .enumerate()
            .map(|(i, at)| (*at, i))
            .collect();
        let mut text = Vec::new();
        for &at in &region.sites {
            let site = &problem.sites[at];
            text.push(site.operands.len() as u64);
            for &(o, depth) in &site.operands {
                let place = match position.get(&o) {
                    Some(i) => *i as u64,
                    None if problem.sites[o].is_input => u64::MAX,
                    // The value at the next cut.
                    None => u64::MAX - 1,
                };
                text.extend([place, u64::from(depth)]);
            }
            text.push((site.count * 2 + usize::from(site.bootstrap.is_empty())) as u64);
            text.extend(site.operation.iter().map(|p| p.to_bits()));
            text.extend(site.bootstrap.iter().map(|p| p.to_bits()));
        }
        let next = self.numbers.len();
        *self.numbers.entry(text).or_insert(next)
    }

    fn row(
        &mut self,
        problem: &Problem,
        objective: Objective,
        region: &Region,
        table: usize,
        wanted: u8,
    ) -> &Row {
        self.rows
            .entry((table, wanted))
            .or_insert_with(|| row(problem, objective, region, wanted))
    }

    /// The levels of a chain of steps.
    fn levels(&self, problem: &Problem, steps: &[Step], last: usize) -> Levels {
        let mut levels = Levels {
            operations: vec![0; problem.sites.len()],
            bootstraps: BTreeMap::new(),
        };
        let mut at = last;
        while let Some(step) = steps.get(at) {
            let exit = self
                .rows
                .get(&(step.table, step.wanted))
                .and_then(|row| row.exits.get(step.exit));
            let choices = exit.map_or(&[][..], |e| &e.choices);
            let sites = (0..=step.first).rev();
            let sites = sites.filter(|s| !problem.sites[*s].is_input);
            for (site, (level, out)) in sites.zip(choices) {
                levels.operations[site] = u32::from(*level);
                if let Some(out) = out {
                    levels.bootstraps.insert(site, u32::from(*out));
                }
            }
            at = step.before;
        }
        // Inputs come at the level that their readers want.
        for (at, site) in problem.sites.iter().enumerate() {
            for &(o, depth) in &site.operands {
                if problem.sites[o].is_input {
                    let wanted = levels.operations[at] + depth;
                    levels.operations[o] = levels.operations[o].max(wanted);
                }
            }
        }
        levels
    }
}

/// A partial plan: needs of the frontier, and the decisions so far as a linked list.
#[derive(Clone, Debug)]
struct State {
    price: f64,
    /// Level that each value of the frontier must have, by position in the list of open values.
    needs: Vec<u8>,
    /// Index of the last decision.
    last: usize,
}

/// The cheapest plans of a region whose first value is wanted at a level, one for each level that the next region must give.
fn row(problem: &Problem, objective: Objective, region: &Region, wanted: u8) -> Row {
    let mut decisions: Vec<(Choice, usize)> = Vec::new();
    let mut exact = true;
    // Open values, in the order in which they are visited (latest first).
    let mut open: Vec<usize> = vec![region.first];
    let mut states = vec![State {
        price: 0.0,
        needs: vec![wanted],
        last: usize::MAX,
    }];
    for (position, &at) in region.sites.iter().enumerate() {
        let site = &problem.sites[at];
        if open.first() != Some(&at) {
            // Nobody reads it: an output only.
            admit(&mut open, &mut states, at);
        }
        open.remove(0);
        let most = site.operands.iter().map(|(_, d)| *d).max().unwrap_or(0);
        let mut next = Vec::with_capacity(states.len() * 2);
        for state in &states {
            let Some((&need, rest)) = state.needs.split_first() else {
                continue;
            };
            let mut choices = vec![(need, None)];
            if u32::from(need) > problem.from && !site.bootstrap.is_empty() {
                choices.push((problem.from as u8, Some(need)));
            }
            for (level, out) in choices {
                if u32::from(level) + most > problem.top {
                    continue;
                }
                let mut price = state.price + problem.operation(objective, at, level.into());
                if let Some(out) = out {
                    price += problem.bootstrap(objective, at, out.into());
                }
                decisions.push(((level, out), state.last));
                next.push(State {
                    price,
                    needs: rest.to_vec(),
                    last: decisions.len() - 1,
                });
            }
        }
        if next.is_empty() {
            return Row {
                exits: Vec::new(),
                exact,
                stuck: position,
            };
        }
        states = next;
        for &(o, depth) in &site.operands {
            if problem.sites[o].is_input {
                continue;
            }
            let place = admit(&mut open, &mut states, o);
            for state in &mut states {
                let level = u32::from(decisions[state.last].0 .0) + depth;
                state.needs[place] = state.needs[place].max(level as u8);
            }
        }
        exact &= prune(&mut states);
    }
    let exits = states.into_iter().map(|state| {
        let mut choices = Vec::with_capacity(region.sites.len());
        let mut at = state.last;
        while let Some((choice, before)) = decisions.get(at) {
            choices.push(*choice);
            at = *before;
        }
        choices.reverse();
        Exit {
            need: match region.next {
                Some(_) => state.needs.first().copied().unwrap_or(0),
                None => 0,
            },
            price: state.price,
            choices,
        }
    });
    Row {
        exits: exits.collect(),
        exact,
        stuck: region.sites.len().saturating_sub(1),
    }
}

/// Makes a value an open one, if it is not yet; returns its position.
fn admit(open: &mut Vec<usize>, states: &mut [State], at: usize) -> usize {
    if let Some(place) = open.iter().position(|o| *o == at) {
        return place;
    }
    let place = open.iter().position(|o| *o < at).unwrap_or(open.len());
    open.insert(place, at);
    for state in states {
        state.needs.insert(place, 0);
    }
    place
}

/// Drops plans that another one beats in price and in every need; `false` if it had to drop more.
fn prune(states: &mut Vec<State>) -> bool {
    states.sort_by(|a, b| {
        a.price
            .total_cmp(&b.price)
            .then_with(|| a.needs.cmp(&b.needs))
    });
    let mut kept: Vec<State> = Vec::new();
    for state in states.drain(..) {
        let beaten = kept
            .iter()
            .any(|k| k.needs.iter().zip(&state.needs).all(|(a, b)| a <= b));
        if !beaten {
            kept.push(state);
        }
    }
    let exact = kept.len() <= STATES;
    kept.truncate(STATES);
    *states = kept;
    exact
}
