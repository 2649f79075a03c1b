//! Which rows go where, checked and on a device.

use crate::definition::{KernelError, RowSums, check_index};
use crate::device::{addressable, argument};
use cubecl::prelude::*;
use cubecl::server::Handle;
use std::sync::{Arc, OnceLock};

fn upload(client: &Client, words: &[u32]) -> Handle {
    client.create_from_slice(u32::as_bytes(if words.is_empty() { &[0] } else { words }))
}

/// Rows by number, all of them known to be there.
#[derive(Debug, Clone)]
pub struct DeviceIndex {
    index: Vec<u32>,
    rows: usize,
    table: Handle,
    /// What its gradient sums, uploaded when it is first asked for.
    sums: Arc<OnceLock<DeviceSums>>,
}

impl DeviceIndex {
    /// Uploads numbers of rows, each below `rows`.
    ///
    /// # Errors
    /// [`KernelError::Index`] naming the place in `index`, [`KernelError::Overflow`] where there
    /// are more than 32 bits address.
    pub fn new(client: &Client, index: &[u32], rows: usize) -> Result<Self, KernelError> {
        const OP: &str = "device_index";
        addressable(OP, "index", &[index.len()])?;
        if let Some(position) = index.iter().position(|&i| i as usize >= rows) {
            check_index(OP, "index", position, index[position], rows)?;
        }
        let table = upload(client, index);
        Ok(Self { table, index: index.to_vec(), rows, sums: Arc::default() })
    }

    /// How many rows are named.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Rows that there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn argument(&self) -> BufferArg {
        argument(&self.table, self.index.len())
    }

    /// The sums of its gradient.
    pub(crate) fn sums(&self, client: &Client) -> Result<&DeviceSums, KernelError> {
        if let Some(sums) = self.sums.get() {
            return Ok(sums);
        }
        let sums = DeviceSums::new(client, &RowSums::of_gather(&self.index, self.rows)?)?;
        Ok(self.sums.get_or_init(|| sums))
    }
}

/// [`RowSums`] on a device.
#[derive(Debug, Clone)]
pub struct DeviceSums {
    sums: RowSums,
    starts: Handle,
    rows: Handle,
    /// What their gradient goes by, uploaded when it is first asked for.
    transposed: Arc<OnceLock<Transposed>>,
}

impl DeviceSums {
    /// Uploads sums.
    ///
    /// # Errors
    /// [`KernelError::Overflow`] where there are more of them than 32 bits address.
    pub fn new(client: &Client, sums: &RowSums) -> Result<Self, KernelError> {
        addressable("device_sums", "terms", &[sums.terms().max(sums.results()) + 1])?;
        Ok(Self {
            starts: upload(client, sums.starts()),
            rows: upload(client, sums.rows()),
            sums: sums.clone(),
            transposed: Arc::default(),
        })
    }

    /// The sums.
    pub fn sums(&self) -> &RowSums {
        &self.sums
    }

    pub(crate) fn starts(&self) -> BufferArg {
        argument(&self.starts, self.sums.starts().len())
    }

    pub(crate) fn rows(&self) -> BufferArg {
        argument(&self.rows, self.sums.terms())
    }

    /// For each row the results that it is a term of, the number of the term beside it, and the
    /// result of every term in its own order.
    pub(crate) fn transposed(&self, client: &Client) -> &Transposed {
        self.transposed.get_or_init(|| {
            let transposed = self.sums.transposed();
            let terms = transposed.terms.rows();
            let results: Vec<u32> =
                terms.iter().map(|&term| transposed.result_of_term[term as usize]).collect();
            Transposed {
                starts: upload(client, transposed.terms.starts()),
                results: upload(client, &results),
                terms: upload(client, terms),
                result_of_term: upload(client, &transposed.result_of_term),
            }
        })
    }
}

/// What the gradient of a sum goes by.
#[derive(Debug)]
pub(crate) struct Transposed {
    pub(crate) starts: Handle,
    pub(crate) results: Handle,
    pub(crate) terms: Handle,
    pub(crate) result_of_term: Handle,
}
