//! Which rows go where, on a device: checked on the host and uploaded, or made there by a routing
//! decision that the host has not seen.

use crate::definition::{KernelError, RowSums, check_index};
use crate::device::{addressable, argument, check_handle};
use cubecl::prelude::*;
use cubecl::server::Handle;
use std::sync::{Arc, OnceLock};

fn upload(client: &Client, words: &[u32]) -> Handle {
    client.create_from_slice(u32::as_bytes(if words.is_empty() { &[0] } else { words }))
}

/// The rows of slots on a device ([`route`](crate::route::route)): slots in their order are the
/// tokens', rows in theirs the experts'.
#[derive(Debug, Clone)]
pub struct SlotTables {
    /// Tokens.
    pub tokens: usize,
    /// Slots of each.
    pub top_k: usize,
    /// The row of each slot, `[tokens * top_k]`.
    pub row_of_slot: Handle,
    /// The token of each row, `[tokens * top_k]`.
    pub token_of_row: Handle,
    /// The slot of each row, `[tokens * top_k]`.
    pub slot_of_row: Handle,
}

impl SlotTables {
    fn check(&self) -> Result<(), KernelError> {
        for (argument, table) in [
            ("row_of_slot", &self.row_of_slot),
            ("token_of_row", &self.token_of_row),
            ("slot_of_row", &self.slot_of_row),
        ] {
            check_handle("slot_tables", argument, table, 4, &[self.tokens, self.top_k])?;
        }
        Ok(())
    }
}

/// Rows by number, all of them known to be there.
#[derive(Debug, Clone)]
pub struct DeviceIndex {
    /// What the host knows of it.
    index: Option<Vec<u32>>,
    len: usize,
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
        let (table, len) = (upload(client, index), index.len());
        Ok(Self { table, index: Some(index.to_vec()), len, rows, sums: Arc::default() })
    }

    /// The token of each row of a routing decision. The experts of a token ascend, so that its
    /// gradient, which sums rows in their order, sums the slots of a token in theirs.
    ///
    /// # Errors
    /// [`KernelError::Length`] where a table is too small.
    pub fn of_slots(tables: &SlotTables) -> Result<Self, KernelError> {
        let sums = OnceLock::from(DeviceSums::of_slots(tables)?);
        Ok(Self {
            table: tables.token_of_row.clone(),
            index: None,
            len: tables.tokens * tables.top_k,
            rows: tables.tokens,
            sums: Arc::new(sums),
        })
    }

    /// How many rows are named.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows that there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn argument(&self) -> BufferArg {
        argument(&self.table, self.len)
    }

    /// The sums of its gradient.
    pub(crate) fn sums(&self, client: &Client) -> Result<&DeviceSums, KernelError> {
        if let Some(sums) = self.sums.get() {
            return Ok(sums);
        }
        let index = self.index.as_ref().expect("invariant: an index of slots has its sums");
        let sums = DeviceSums::new(client, &RowSums::of_gather(index, self.rows)?)?;
        Ok(self.sums.get_or_init(|| sums))
    }
}

/// Where the terms of each result begin.
#[derive(Debug, Clone)]
pub(crate) enum Starts {
    /// By a table, and at its end the number of terms.
    Table(Handle),
    /// Every result has so many.
    Each(usize),
}

impl Starts {
    /// The table for a kernel, or `other`, which it does not read, where there is none.
    pub(crate) fn argument(&self, results: usize, other: &Handle) -> BufferArg {
        match self {
            Self::Table(table) => argument(table, results + 1),
            Self::Each(_) => argument(other, 1),
        }
    }

    /// Terms of each result, or 0 where a table has them.
    pub(crate) fn each(&self) -> u32 {
        match self {
            Self::Table(_) => 0,
            Self::Each(terms) => *terms as u32,
        }
    }
}

/// [`RowSums`] on a device.
#[derive(Debug, Clone)]
pub struct DeviceSums {
    results: usize,
    terms: usize,
    bound: usize,
    starts: Starts,
    rows: Handle,
    /// What the host knows of them.
    known: Option<RowSums>,
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
            results: sums.results(),
            terms: sums.terms(),
            bound: sums.bound(),
            starts: Starts::Table(upload(client, sums.starts())),
            rows: upload(client, sums.rows()),
            known: Some(sums.clone()),
            transposed: Arc::default(),
        })
    }

    /// The rows of each token of a routing decision, slot by slot.
    ///
    /// # Errors
    /// [`KernelError::Length`] where a table is too small.
    pub fn of_slots(tables: &SlotTables) -> Result<Self, KernelError> {
        tables.check()?;
        let rows = tables.tokens * tables.top_k;
        // Each row is the term of one result.
        let transposed = Transposed {
            starts: Starts::Each(1),
            results: tables.token_of_row.clone(),
            terms: tables.slot_of_row.clone(),
            result_of_term: None,
        };
        Ok(Self {
            results: tables.tokens,
            terms: rows,
            bound: rows,
            starts: Starts::Each(tables.top_k),
            rows: tables.row_of_slot.clone(),
            known: None,
            transposed: Arc::new(OnceLock::from(transposed)),
        })
    }

    /// Results.
    pub fn results(&self) -> usize {
        self.results
    }

    /// Terms of all results.
    pub fn terms(&self) -> usize {
        self.terms
    }

    /// Rows that there are.
    pub fn bound(&self) -> usize {
        self.bound
    }

    pub(crate) fn starts(&self) -> &Starts {
        &self.starts
    }

    pub(crate) fn rows(&self) -> BufferArg {
        argument(&self.rows, self.terms)
    }

    /// For each row the results that it is a term of, the number of the term beside it, and the
    /// result of every term in its own order.
    pub(crate) fn transposed(&self, client: &Client) -> &Transposed {
        self.transposed.get_or_init(|| {
            let known = self.known.as_ref().expect("invariant: sums of slots have their gradient");
            let transposed = known.transposed();
            let terms = transposed.terms.rows();
            let results: Vec<u32> =
                terms.iter().map(|&term| transposed.result_of_term[term as usize]).collect();
            Transposed {
                starts: Starts::Table(upload(client, transposed.terms.starts())),
                results: upload(client, &results),
                terms: upload(client, terms),
                result_of_term: Some(upload(client, &transposed.result_of_term)),
            }
        })
    }
}

/// What the gradient of a sum goes by.
#[derive(Debug)]
pub(crate) struct Transposed {
    pub(crate) starts: Starts,
    pub(crate) results: Handle,
    pub(crate) terms: Handle,
    /// None where every result has as many terms.
    result_of_term: Option<Handle>,
}

impl Transposed {
    /// The result of every term for a kernel, or a table that it does not read.
    pub(crate) fn result_of_term(&self, terms: usize) -> BufferArg {
        argument(self.result_of_term.as_ref().unwrap_or(&self.terms), terms)
    }
}
