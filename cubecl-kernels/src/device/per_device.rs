//! What is found out about a device once.

use cubecl::device::DeviceId;
use cubecl::prelude::*;
use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What was found out about the devices of this process, by their numbers and runtimes.
pub(crate) struct PerDevice<T>(Mutex<Option<HashMap<(DeviceId, TypeId), T>>>);

impl<T: Clone> PerDevice<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// What is known of a device; the first call for it finds it out, and others wait meanwhile.
    pub(crate) fn get(&self, client: &Client, find_out: impl FnOnce() -> T) -> T {
        let id = client.service_id();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get_or_insert_default()
            .entry((id.device, id.service))
            .or_insert_with(find_out)
            .clone()
    }
}
