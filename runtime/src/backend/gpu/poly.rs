//! A polynomial on a device: a handle that is cheap to clone, because residues are shared until one of the clones changes.

use super::device::{Address, DeviceError};
use super::memory::Buffer;
use crate::ring::{Form, LimbId};
use std::sync::{Arc, Mutex};

/// Residues of one polynomial on the device, `[limb][N]` in one run, canonical.
#[derive(Clone)]
pub struct GpuPoly {
    /// None after a failure of the device.
    pub(super) buffer: Option<Arc<Buffer>>,
    /// First word within the buffer, which several polynomials may share.
    pub(super) offset: usize,
    pub(super) limbs: Arc<[LimbId]>,
    pub(super) form: Form,
    /// Words per limb: N, or fewer for a compressed polynomial.
    pub(super) degree: usize,
    /// What has still to be done before its residues are there.
    pub(super) pending: Option<Arc<Pending>>,
}

/// The digits of one decomposition when the columns of their transforms are done and the rows are not: a key product may do those in passing.
pub(super) struct Pending {
    /// First digit's first limb; the other limbs of all digits follow.
    pub address: Address,
    /// All limbs.
    pub limbs: Vec<LimbId>,
    pub state: Mutex<Progress>,
}

/// How far pending digits are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing has read them.
    Fresh,
    /// One key product did their rows in passing and kept nothing. The next one finishes them: two would do the same work again.
    Passed,
    /// The residues are there.
    Finished,
}

impl GpuPoly {
    /// Where its residues are, or will be: see [`super::Gpu::place`].
    pub(super) fn address(&self) -> Result<Address, DeviceError> {
        let buffer = self.buffer.as_ref().ok_or(DeviceError::Lost)?;
        Ok(buffer.address().plus(self.offset))
    }

    /// Position in storage of a limb.
    pub(super) fn position_of(&self, limb: LimbId) -> Option<usize> {
        self.limbs.iter().position(|&l| l == limb)
    }

    /// Position of a limb that must be there.
    pub(super) fn require(&self, limb: LimbId) -> usize {
        match self.position_of(limb) {
            Some(position) => position,
            None => panic!("limb {limb:?} is not among {:?}", self.limbs),
        }
    }

    /// Whether nothing else holds its residues, so that they may change in place.
    pub(super) fn is_alone(&mut self) -> bool {
        self.buffer
            .as_mut()
            .is_some_and(|b| Arc::get_mut(b).is_some())
    }
}

impl std::fmt::Debug for GpuPoly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuPoly({:?}, limbs {:?})", self.form, self.limbs)
    }
}
