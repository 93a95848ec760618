use std::collections::BTreeSet;

use heron_schedule::body::all_giants;

use super::*;

fn instruction(op: Op) -> Instruction {
    Instruction {
        layer: 0,
        op: Some(op),
        free: Vec::new(),
    }
}

/// Attention over `tokens` tokens as bundles: all rotations, then all products, then one map of groups of 16.
fn attention(tokens: u32) -> (Vec<Instruction>, Bodies, u32) {
    let mut program = Vec::new();
    let mut bodies = Bodies::default();
    for dst in 0..2 {
        program.push(instruction(Op::Input(proto::Input {
            port: dst,
            ciphertext: 0,
            dst,
            level: 3,
        })));
    }
    let rotated = |t: u32| 2 + t;
    let product = |t: u32| 2 + tokens + t;
    let result = |g: u32| 2 + 2 * tokens + g;
    program.push(instruction(Op::Rotate(proto::Rotate {
        src: 1,
        level: 3,
        out: (0..tokens)
            .map(|t| proto::Rotated {
                step: 1 + t as i32,
                dst: rotated(t),
            })
            .collect(),
    })));
    for t in 0..tokens {
        program.push(instruction(Op::MulSum(proto::MulSum {
            dst: product(t),
            level_in: 3,
            pair: vec![proto::Pair {
                a: 0,
                b: rotated(t),
            }],
            factor: 1,
            constant: 0.0,
        })));
    }
    let groups = tokens / 16;
    program.push(instruction(Op::Linear(proto::Linear {
        folding: 0,
        src: (0..tokens).map(product).collect(),
        level_in: 2,
        out: (0..groups)
            .map(|g| proto::LinearOut {
                matrix: 0,
                dst: result(g),
                body: bodies.number(vec![proto::Giant {
                    step: 0,
                    term: (0..16)
                        .map(|i| proto::Term {
                            src: 16 * g + i,
                            baby: 0,
                            plaintext: i,
                        })
                        .collect(),
                }]),
                bias: None,
            })
            .collect(),
    })));
    for g in 0..groups {
        program.push(instruction(Op::Output(proto::Output {
            port: 0,
            ciphertext: g,
            src: result(g),
        })));
    }
    (program, bodies, result(groups))
}

/// Insists that every wire is written once, before it is read; returns the most alive at once.
fn most_alive(program: &[Instruction]) -> usize {
    let mut last = BTreeMap::new();
    let mut written = BTreeSet::new();
    for (i, instruction) in program.iter().enumerate() {
        if let Some(op) = &instruction.op {
            reads(op, &mut |w| {
                assert!(
                    written.contains(&w),
                    "wire {w} is read before it is written"
                );
                last.insert(w, i);
            });
        }
        for (w, _) in writes(instruction) {
            assert!(written.insert(w), "wire {w} is written twice");
            last.entry(w).or_insert(i);
        }
    }
    let (mut alive, mut most) = (BTreeSet::new(), 0);
    for (i, instruction) in program.iter().enumerate() {
        alive.extend(writes(instruction).into_iter().map(|(w, _)| w));
        most = most.max(alive.len());
        alive.retain(|w| last.get(w) > Some(&i));
    }
    most
}

#[test]
fn attention_keeps_one_group_alive_instead_of_all_tokens() {
    let (bundles, mut bodies, next) = attention(128);
    let before = most_alive(&bundles);
    let after = most_alive(&order(bundles, &mut bodies, next));
    println!("{before} ciphertexts alive before, {after} after (bound 60)");
    assert!(before > 128 && after <= 60);
}

#[test]
fn what_is_computed_stays() {
    let (bundles, mut bodies, next) = attention(32);
    let count = |program: &[Instruction], bodies: &Bodies| {
        let (mut products, mut terms, mut rotations) = (Vec::new(), Vec::new(), Vec::new());
        for op in program.iter().filter_map(|x| x.op.as_ref()) {
            match op {
                Op::MulSum(m) => products.extend(m.pair.iter().map(|p| (p.a, p.b))),
                Op::Linear(l) => {
                    for t in all_giants(bodies.list(), l).flat_map(|g| &g.term) {
                        terms.push((l.src[t.src as usize], t.plaintext));
                    }
                }
                Op::Rotate(r) => rotations.extend(r.out.iter().map(|o| (o.step, o.dst))),
                _ => {}
            }
        }
        products.sort_unstable();
        terms.sort_unstable();
        rotations.sort_unstable();
        (products, terms, rotations)
    };
    let before = count(&bundles, &bodies);
    let mut ordered = order(bundles, &mut bodies, next);
    assert_eq!(before, count(&ordered, &bodies));
    // Cut apart, both groups multiply the first to the last of their own sources alike.
    assert_eq!(bodies.finish(&mut ordered).len(), 1);
}

#[test]
fn a_long_sum_of_products_becomes_parts_and_their_sum() {
    let inputs = (0..4).map(|dst| {
        instruction(Op::Input(proto::Input {
            port: dst,
            ciphertext: 0,
            dst,
            level: 2,
        }))
    });
    let sum = Op::MulSum(proto::MulSum {
        dst: 4,
        level_in: 2,
        pair: (0..130)
            .map(|i| proto::Pair {
                a: i % 4,
                b: (i + 1) % 4,
            })
            .collect(),
        factor: 2,
        constant: 0.5,
    });
    let output = Op::Output(proto::Output {
        port: 0,
        ciphertext: 0,
        src: 4,
    });
    let program: Vec<Instruction> = inputs
        .chain([instruction(sum), instruction(output)])
        .collect();
    let found = order(program, &mut Bodies::default(), 5);
    let sums: Vec<&proto::MulSum> = found
        .iter()
        .filter_map(|i| match &i.op {
            Some(Op::MulSum(m)) => Some(m),
            _ => None,
        })
        .collect();
    let sizes: Vec<usize> = sums.iter().map(|m| m.pair.len()).collect();
    assert_eq!(sizes, [64, 64, 2]);
    assert!(sums.iter().all(|m| m.factor == 2 && m.constant == 0.0));
    let combined = found.iter().find_map(|i| match &i.op {
        Some(Op::Combine(c)) => Some(c),
        _ => None,
    });
    let combined = combined.expect("a sum of the parts");
    assert_eq!(
        (
            combined.dst,
            combined.term.len(),
            combined.constant,
            combined.level_out
        ),
        (4, 3, 0.5, 1)
    );
    most_alive(&found);
}
