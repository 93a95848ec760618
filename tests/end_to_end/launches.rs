//! What the digits model would start on a GPU, counted on a device that computes nothing.

use crate::support::{repository, Folder};
use heron_runtime::exec::rehearse::imagined_run;
use heron_schedule::Schedule;

/// A change of these numbers is a change of what a run costs to start, or of what it reads and writes: read it.
#[test]
fn the_digits_model_launches_as_often_on_a_gpu_as_is_known() {
    let folder = Folder::new();
    let model = repository("models/digits-vit/digits-vit.onnx");
    let model = model.to_str().expect("a path in UTF-8");
    let call = [
        "compile",
        model,
        "-o",
        "digits.heron",
        "--target",
        "cuda",
        "--quiet",
    ];
    folder.heron(&call).ok();
    let schedule = Schedule::open(&folder.path("digits.heron")).expect("opens");
    let (needs, launches) = imagined_run(&schedule).expect("fits an H200");
    println!("{needs}");
    for k in &launches {
        println!(
            "{} {} times, {:.3} GB",
            k.kernel,
            k.launches,
            k.moves as f64 / 1e9
        );
    }
    let all: u64 = launches.iter().map(|k| k.launches).sum();
    let moves: u64 = launches.iter().map(|k| k.moves).sum();
    println!("{all} launches move {:.2} GB", moves as f64 / 1e9);
    // Four of six bootstraps are like an earlier one: recorded, and both halves of one ciphertext copied there and back.
    assert_eq!(all, 4198);
}
