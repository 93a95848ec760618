//! Key-switching keys on the device: uploaded at first use, kept while there is room.

use super::core::Gpu;
use super::device::DeviceError;
use super::memory::Buffer;
use crate::rlwe::{KeySwitchingKey, RlweError, RowLimbs};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// By the keys' serial numbers.
#[derive(Default)]
pub(super) struct Keys(Mutex<BTreeMap<u64, Arc<Buffer>>>);

impl Keys {
    /// The key's words on the device, as [`KeySwitchingKey::words`] lays them out.
    pub(super) fn get(&self, gpu: &Gpu, key: &KeySwitchingKey) -> Result<Arc<Buffer>, DeviceError> {
        let words = self.words(gpu, key)?;
        gpu.hold_for_recording(&words);
        Ok(words)
    }

    fn words(&self, gpu: &Gpu, key: &KeySwitchingKey) -> Result<Arc<Buffer>, DeviceError> {
        if let Ok(map) = self.0.lock() {
            if let Some(found) = map.get(&key.serial()) {
                return Ok(Arc::clone(found));
            }
        }
        // Outside the lock: making room forgets keys.
        let made = Arc::new(gpu.filled(key.words())?);
        Ok(match self.0.lock() {
            Ok(mut map) => Arc::clone(map.entry(key.serial()).or_insert(made)),
            Err(_) => made,
        })
    }

    /// Bytes of all keys on the device.
    pub(super) fn bytes(&self) -> u64 {
        let map = self.0.lock();
        map.map_or(0, |map| map.values().map(|key| key.bytes()).sum())
    }

    /// Gives up all keys that are not being used right now. Whether there was any.
    pub(super) fn forget(&self) -> bool {
        let Ok(mut map) = self.0.lock() else {
            return false;
        };
        let before = map.len();
        map.retain(|_, key| Arc::strong_count(key) > 1);
        map.len() < before
    }
}

impl Gpu {
    /// Brings keys before they are used, so that no run waits for them. For keys that have room together with everything else.
    ///
    /// # Errors
    /// The first failure of the device.
    pub fn hold_keys<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a KeySwitchingKey>,
    ) -> Result<(), DeviceError> {
        for key in keys {
            self.keys().get(self, key)?;
        }
        self.settle()
    }
}

/// Where a row's digits and limbs are in a key: stored digit of each live digit, then stored position of each limb of QP.
pub(super) fn places(key: &KeySwitchingKey, row: &RowLimbs) -> Result<Vec<u16>, RlweError> {
    let digits = row
        .digits
        .iter()
        .filter_map(|d| d.limbs.first().and_then(|&l| key.digit_of(l)));
    let limbs = row.extended.iter().filter_map(|&l| key.position_of(l));
    let places: Vec<u16> = digits.chain(limbs).map(|p| p as u16).collect();
    // The special limbs a key was made with decide what it divides by: they must be the row's, not merely contain them.
    let special = row.extended.len() - row.limbs.len();
    let expected = row.digits.len() + row.extended.len();
    if places.len() != expected || key.special().len() != special {
        return Err(RlweError::KeyRow {
            kind: key.kind(),
            row: row.level,
            missing: expected - places.len(),
        });
    }
    Ok(places)
}
