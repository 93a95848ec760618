//! The text form of a program: for snapshots and for reading. Plaintexts are named by number, not printed.

use crate::body::giants;
use crate::folding::folding;
use crate::proto::{
    bootstrap::Kind, instruction::Op, linear::Folding, BiasRef, Body, Instruction, Port, Program,
};
use std::fmt::{self, Display, Formatter};

/// Prints a program; equal programs print equally on any machine.
pub struct Text<'a>(pub &'a Program);

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    items.join(",")
}

fn registers(items: &[u32]) -> String {
    list(items.iter().map(|r| format!("r{r}")))
}

fn bias(bias: &Option<BiasRef>) -> String {
    bias.as_ref()
        .map_or(String::new(), |b| format!(" + p{}", b.plaintext))
}

fn constant(c: f64) -> String {
    if c == 0.0 {
        String::new()
    } else {
        format!(" {c:+.6}")
    }
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let p = self.0;
        let (profile, log_n) = p
            .parameters
            .as_ref()
            .map_or(("none", 0), |x| (x.profile.as_str(), x.log_n));
        writeln!(
            f,
            "schedule {} profile {profile} N 2^{log_n} batch {} registers {} {{",
            p.name, p.batch, p.registers
        )?;
        for (word, ports) in [("input", &p.inputs), ("output", &p.outputs)] {
            for port in ports {
                write_port(f, word, port)?;
            }
        }
        for (i, step) in p.client.iter().flat_map(|c| &c.steps).enumerate() {
            let results = p.client.iter().flat_map(|c| &c.results);
            let feeds: Vec<&str> = results
                .filter(|r| r.value as usize == i)
                .map(|r| r.port.as_str())
                .collect();
            let feeds = if feeds.is_empty() {
                String::new()
            } else {
                format!(" feeds {}", feeds.join(", "))
            };
            let (what, numbers) = (&step.operation, &step.number);
            writeln!(
                f,
                "  client {i} {what} {numbers:?} of {:?}{feeds}",
                step.operand
            )?;
        }
        for key in &p.keys {
            let name = match (key.relinearisation, key.conjugation) {
                (true, _) => "relin".to_string(),
                (_, true) => "conj".to_string(),
                _ => format!("rot {}", key.step),
            };
            writeln!(f, "  key {name} @{}", list(&key.level))?;
        }
        for b in &p.bootstraps {
            writeln!(f, "  boot {}", kind_name(b.kind, b.log_slots))?;
        }
        let mut layer = None;
        for (index, instruction) in p.instructions.iter().enumerate() {
            if layer != Some(instruction.layer) {
                layer = Some(instruction.layer);
                if let Some(l) = p.layers.get(instruction.layer as usize) {
                    writeln!(f, " {} ({})", l.name, l.kind)?;
                }
            }
            write!(f, "  {index:03} ")?;
            write_instruction(f, &p.bodies, instruction)?;
            if !instruction.free.is_empty() {
                write!(f, "  free {}", registers(&instruction.free))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "}}")
    }
}

fn write_port(f: &mut Formatter<'_>, word: &str, port: &Port) -> fmt::Result {
    writeln!(
        f,
        "  {word} {} {} [{}] @{} ct {} factor {:.6e} fill {:.6}{}",
        port.name,
        port.dtype,
        list(&port.shape),
        port.level,
        port.ciphertexts.len(),
        port.factor,
        port.fill,
        port.embedding.as_ref().map_or(String::new(), |e| format!(
            " embedding {}x{} p{}",
            e.vocabulary, e.cols, e.plaintext
        ))
    )
}

fn kind_name(kind: i32, log_slots: u32) -> String {
    match Kind::try_from(kind) {
        Ok(Kind::Full) => "full".into(),
        Ok(Kind::ComplexPair) => "complex_pair".into(),
        Ok(Kind::Sparse) => format!("sparse 2^{log_slots}"),
        Err(_) => format!("kind {kind}"),
    }
}

fn write_instruction(
    f: &mut Formatter<'_>,
    bodies: &[Body],
    instruction: &Instruction,
) -> fmt::Result {
    match &instruction.op {
        None => write!(f, "nothing"),
        Some(Op::Input(op)) => write!(
            f,
            "input   r{} <- {}.{} @{}",
            op.dst, op.port, op.ciphertext, op.level
        ),
        Some(Op::Output(op)) => write!(f, "output  {}.{} <- r{}", op.port, op.ciphertext, op.src),
        Some(Op::Linear(op)) => {
            let out: Vec<u32> = op.out.iter().map(|o| o.dst).collect();
            write!(
                f,
                "linear  {} <- {} @{}>{}{}",
                registers(&out),
                registers(&op.src),
                op.level_in,
                op.level_in.saturating_sub(1),
                match folding(op) {
                    Folding::None => "",
                    Folding::Sources => " sources folded",
                    Folding::Results => " results folded",
                }
            )?;
            for out in &op.out {
                write!(f, "\n      r{} =", out.dst)?;
                for giant in giants(bodies, out) {
                    let terms = giant
                        .term
                        .iter()
                        .map(|t| format!("s{}<<{}*p{}", t.src, t.baby, t.plaintext));
                    write!(f, " [{}]<<{}", list(terms), giant.step)?;
                }
                write!(f, "{}", bias(&out.bias))?;
            }
            Ok(())
        }
        Some(Op::Combine(op)) => {
            let terms = op
                .term
                .iter()
                .map(|t| format!("{:.9}*r{}@{}", t.coefficient, t.src, t.level));
            write!(
                f,
                "combine r{} <- {}{}{} @{}",
                op.dst,
                list(terms),
                constant(op.constant),
                bias(&op.bias),
                op.level_out
            )
        }
        Some(Op::MulSum(op)) => {
            let pairs = op.pair.iter().map(|p| format!("r{}*r{}", p.a, p.b));
            let factor = if op.factor == 1 {
                String::new()
            } else {
                format!(" by {}", op.factor)
            };
            write!(
                f,
                "mulsum  r{} <- {}{factor}{} @{}>{}",
                op.dst,
                list(pairs),
                constant(op.constant),
                op.level_in,
                op.level_in.saturating_sub(1)
            )
        }
        Some(Op::Rotate(op)) => {
            let out = op.out.iter().map(|o| format!("r{}<<{}", o.dst, o.step));
            write!(f, "rotate  {} <- r{} @{}", list(out), op.src, op.level)
        }
        Some(Op::Bootstrap(op)) => write!(
            f,
            "boot    {} <- {} @{}>{} {}",
            registers(&op.dst),
            registers(&op.src),
            op.level_in,
            op.level_out,
            kind_name(op.kind, op.log_slots)
        ),
    }
}
