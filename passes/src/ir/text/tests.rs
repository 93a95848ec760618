//! Reading and writing of what all rungs share.

use super::notation::{write_integers, write_runs};
use super::read::{integers, numbers};
use super::{name, number, Cursor};
use crate::ir::poly::PolyGraph;
use crate::ir::tensor::TensorGraph;

#[test]
fn numbers_read_back_to_the_same_bits() {
    let mut bits = 0x9E37_79B9_7F4A_7C15u64;
    let mut all = vec![0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, f64::MAX, f64::INFINITY];
    for _ in 0..2000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        all.push(f64::from_bits(bits));
    }
    for x in all.into_iter().filter(|x| !x.is_nan()) {
        let text = number(x);
        let mut at = Cursor::new(&text);
        let read = at.number("a number").unwrap();
        assert_eq!(read.to_bits(), x.to_bits(), "{text}");
        assert!(at.end().is_ok(), "{text}");
    }
}

#[test]
fn runs_read_back() {
    let x = [0.0, 0.0, 0.0, 0.0, -0.0, 1.5, 1.5, 1.5, 1.5, 1.5, 2.0];
    let mut text = String::new();
    write_runs(&mut text, &x);
    assert_eq!(text, " 0*4 -0 1.5*5 2");
    assert_eq!(numbers(&mut Cursor::new(&text), x.len()).unwrap(), x);
    let n = [5, 6, 7, 8, -1, -1, -1, 3, 4, 9, 9, 0];
    let mut text = String::new();
    write_integers(&mut text, &n);
    assert_eq!(text, " 5..8 -1*3 3 4 9 9 0");
    assert_eq!(integers(&mut Cursor::new(&text), n.len()).unwrap(), n);
}

#[test]
fn names_of_any_characters_read_back() {
    for n in [
        "x",
        "a.b/c-1",
        "",
        "two words",
        "\"quoted\"\n\\",
        "é:0",
        "%@{}#",
    ] {
        let text = name(n);
        assert_eq!(Cursor::new(&text).name("a name").unwrap(), n, "{text}");
    }
}

/// The head of STYLE's example, written by hand.
const HEAD: &str = "tensor head {   # one head
  %x = input x [4, 4] as given : [4,4] in [-1.00, 1.00]
  %q = linear %x, @W : [4,4]
  %p = square_root %q : [4,4]
  output q = %q
}
constants { @W = matrix 4x4 0*15 1 }
";

#[test]
fn an_error_names_place_expected_and_found() {
    let error = HEAD.parse::<TensorGraph>().unwrap_err();
    assert_eq!((error.line, error.column), (4, 8));
    assert_eq!(error.found, "`square_root`");
    let error = HEAD
        .replace("square_root %q", "add %q, %y")
        .parse::<TensorGraph>();
    let error = error.unwrap_err();
    assert_eq!((error.line, error.column), (4, 16));
    assert_eq!(error.expected, "a value that is defined above");
    let error = HEAD
        .replace("15 1", "15")
        .parse::<TensorGraph>()
        .unwrap_err();
    assert_eq!((error.line, error.column), (7, 34));
    let error = HEAD.parse::<PolyGraph>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 1, column 1: expected `poly`, found `tensor`; graphs are written by --dump-ir, compare with such a file"
    );
}

#[test]
fn a_small_file_needs_no_constants_section_for_what_has_none() {
    let text = HEAD.replace("  %p = square_root %q : [4,4]\n", "");
    let graph: TensorGraph = text.parse().unwrap();
    graph.verify().unwrap();
    assert_eq!(graph.len(), 2);
    let text = "poly t { %x = input x [2] as given, factor 1 : [1,2]
      %y = square %x : [1,2] output y = %y, factor 0.5 }";
    let graph: PolyGraph = text.parse().unwrap();
    graph.verify().unwrap();
    assert_eq!(graph.output_factors, [0.5]);
}
