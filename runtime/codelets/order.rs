//! The order of a block's operations, and their registers.
//!
//! List scheduling: cycle by cycle, of the operations whose operands are there, the one with the longest chain of latencies after it goes next.
//! Only the first few in the order of writing are looked at, and an operation that needs one more register waits while there is none, so the
//! order of writing must itself do with the registers there are.

use super::block::{Block, Operation, Tied, Value, Vectors};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Operations a cycle. Four can be executed, but two in the model left the shortest times of 1 to 5, measured on Zen 3 for passes and squares:
/// what is near in the chain stays near in the code.
const WIDTH: usize = 2;
/// Operations looked at, the earliest in the order of writing; fewer where registers do not suffice for what is begun early.
const WINDOW: usize = 48;
/// Cycles without an operation after which registers do not suffice.
const PATIENCE: usize = 64;

/// The operations of a block and who reads whom.
struct Graph<'a> {
    operations: &'a [Operation],
    /// Latencies from the start of an operation to the end of the block.
    heights: Vec<usize>,
    /// How often a value is still read.
    readers: HashMap<Value, usize>,
}

impl<'a> Graph<'a> {
    fn new(block: &'a Block) -> Self {
        let operations = &block.operations;
        let mut readers = HashMap::new();
        for value in operations.iter().flat_map(Operation::values) {
            *readers.entry(value).or_insert(0) += 1;
        }
        let mut above: HashMap<Value, usize> = HashMap::new();
        let mut heights = vec![0; operations.len()];
        for (height, operation) in heights.iter_mut().zip(operations).rev() {
            let after = operation.result.and_then(|r| above.get(&r).copied());
            *height = operation.latency() + after.unwrap_or(0);
            for value in operation.values() {
                let longest = above.entry(value).or_insert(0);
                *longest = (*longest).max(*height);
            }
        }
        Self {
            operations,
            heights,
            readers,
        }
    }

    /// Registers that an operation takes, less those it frees.
    fn pressure(&self, operation: &Operation) -> isize {
        let reads = |value: &Value| operation.values().filter(|v| v == value).count();
        let last = |value: &Value| self.readers[value] == reads(value);
        let freed: HashSet<Value> = operation.values().filter(last).collect();
        isize::from(operation.result.is_some()) - freed.len() as isize
    }
}

/// The operations in their new order, for so many registers.
///
/// # Panics
/// If the order of writing itself needs more registers than there are.
pub fn order(block: &Block, registers: usize) -> Vec<&Operation> {
    let mut windows = (1..=WINDOW).rev();
    let found = windows.find_map(|window| order_within(block, registers, window));
    let found = found.expect("an order of writing that the registers suffice for");
    spread(found, &block.prefetches)
}

/// Operations with others between them, as far apart as there is room: lines that are asked for all at once wait for each other.
fn spread<'a>(operations: Vec<&'a Operation>, others: &'a [Operation]) -> Vec<&'a Operation> {
    let count = operations.len();
    let mut left = others.iter().enumerate().peekable();
    let mut spread = Vec::with_capacity(count + others.len());
    for (index, operation) in operations.into_iter().enumerate() {
        spread.push(operation);
        let due =
            |&(k, _): &(usize, &Operation)| (2 * k + 1) * count <= 2 * others.len() * (index + 1);
        while let Some((_, other)) = left.next_if(due) {
            spread.push(other);
        }
    }
    spread
}

/// The order that looks at so many operations, if there is one.
fn order_within(block: &Block, registers: usize, window: usize) -> Option<Vec<&Operation>> {
    let mut graph = Graph::new(block);
    let mut waiting: Vec<usize> = (0..block.operations.len()).collect();
    let mut ready_at: HashMap<Value, usize> = HashMap::new();
    let mut ordered = Vec::with_capacity(waiting.len());
    let (mut live, mut idle) = (0isize, 0);
    for cycle in 0.. {
        let mut begun = 0;
        while begun < WIDTH {
            let candidate = |(place, &index): (usize, &usize)| {
                let operation = &graph.operations[index];
                let times = operation.values().map(|v| ready_at.get(&v).copied());
                let start = times.collect::<Option<Vec<usize>>>()?.into_iter().max();
                // Nothing else to do: the first in the order of writing need not wait.
                let waits = start > Some(cycle) && (place > 0 || idle == 0);
                let fits = live + graph.pressure(operation) <= registers as isize;
                (fits && !waits).then_some((graph.heights[index], Reverse(place)))
            };
            let seen = waiting.iter().take(window).enumerate();
            let Some((_, Reverse(place))) = seen.filter_map(candidate).max() else {
                break;
            };
            let operation = &graph.operations[waiting.remove(place)];
            live += graph.pressure(operation);
            for value in operation.values() {
                graph.readers.entry(value).and_modify(|n| *n -= 1);
            }
            if let Some(result) = operation.result {
                ready_at.insert(result, cycle + operation.latency());
            }
            begun += 1;
            ordered.push(operation);
        }
        if waiting.is_empty() {
            break;
        }
        idle = if begun == 0 { idle + 1 } else { 0 };
        if idle == PATIENCE {
            return None;
        }
    }
    Some(ordered)
}

/// The instructions of an order, each value in one of so many registers.
///
/// # Panics
/// If more values are live at once, or a value that is written over is read later.
pub fn print(vectors: Vectors, ordered: &[&Operation], registers: usize) -> Vec<String> {
    let mut last: HashMap<Value, usize> = HashMap::new();
    for (index, operation) in ordered.iter().enumerate() {
        last.extend(operation.values().map(|value| (value, index)));
    }
    let mut free: Vec<usize> = (0..registers).rev().collect();
    let mut holds: HashMap<Value, usize> = HashMap::new();
    let instruction = |(index, operation): (usize, &&Operation)| {
        let dead: BTreeSet<Value> = operation.values().filter(|v| last[v] == index).collect();
        free.extend(dead.iter().map(|v| holds[v]));
        if let Some(Tied { value, .. }) = operation.tied {
            assert!(dead.contains(&value), "{operation:?} is not the last");
            free.retain(|&register| register != holds[&value]);
            free.push(holds[&value]);
        }
        if let Some(result) = operation.result {
            let register = free.pop();
            holds.insert(result, register.expect("a register for every live value"));
        }
        operation.print(|value| vectors.register(holds[&value]))
    };
    ordered.iter().enumerate().map(instruction).collect()
}
