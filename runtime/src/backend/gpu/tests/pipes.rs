//! The yardsticks run.

use super::super::pipes::Effort;
use super::Both;

const EFFORT: Effort = Effort {
    blocks: 2,
    steps: 5,
    copied: 1 << 16,
};

#[test]
fn every_pipe_is_measured_on_the_device() {
    let both = Both::new(8, 1);
    let pipes = both.gpu.pipes(EFFORT).expect("measures");
    assert_eq!(pipes.len(), 5);
    for pipe in &pipes {
        let rate = pipe.per_second;
        assert!(rate.is_finite() && rate > 0.0, "{pipe:?}");
    }
}
