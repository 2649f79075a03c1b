//! Which rows belong to which expert: one routing decision, shared by permute, grouped linear and
//! combine, on the host or on a device.

use std::sync::{Arc, OnceLock};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use cubecl_kernels::definition::{DispatchPlan, GroupedColumns};

use super::Kept;
use crate::to_host::to_host;

/// Rows of a batch sorted by expert.
///
/// A token chosen by `k` experts owns `k` slots; slot `token * k + j` is the `j`-th choice of
/// `token`. Sorting the slots by expert (stable, so by token inside an expert) gives the *rows*
/// that the experts compute. Nothing is dropped and nothing is padded: `rows == tokens * k`.
///
/// The decision is made on the host ([`ExpertGroups::new`]) or by a device
/// ([`ExpertGroups::chosen_on_device`]). Either way operations take it as [`GroupTables`] of their
/// device. Of a device's decision the host knows sizes alone until somebody asks for more, which
/// reads it: [`plan`](Self::plan) and whatever is made of it.
///
/// ```
/// use burn_deepseek::definition::ExpertGroups;
///
/// // Two of three experts for each of two tokens: (0, 2) and (0, 1).
/// let groups = ExpertGroups::new(&[0, 2, 0, 1], 2, 3);
/// assert_eq!(groups.offsets(), [0, 2, 3, 4]); // expert 0 has rows 0 and 1
/// assert_eq!(groups.token_of_row(), [0, 1, 1, 0]);
/// assert_eq!(groups.row_of_slot(), [0, 3, 1, 2]);
/// assert_eq!(groups.loads(), [2, 1, 1]);
/// ```
#[derive(Clone, Debug)]
pub struct ExpertGroups(Arc<Decision>);

#[derive(Debug)]
struct Decision {
    tokens: usize,
    top_k: usize,
    experts: usize,
    /// The host's view.
    plan: OnceLock<DispatchPlan>,
    /// What a device has chosen.
    chosen: Option<ChosenExperts>,
    /// Tables on other devices.
    kept: Kept,
}

/// A routing decision's tables on a device, without autodiff, all of 32-bit words.
#[derive(Clone, Debug)]
pub struct GroupTables {
    /// First row, first word and first tile of each expert, the latter two once rows are transposed
    /// (`cubecl_kernels::definition::GroupedColumns`), and the totals: `[3, experts + 1]`.
    pub bounds: Tensor<2, Int>,
    /// The row of each slot, `[tokens, top_k]`.
    pub row_of_slot: Tensor<2, Int>,
    /// The token of each row, `[rows]`.
    pub token_of_row: Tensor<1, Int>,
    /// The slot of each row, `[rows]`.
    pub slot_of_row: Tensor<1, Int>,
}

/// What a device has chosen, without autodiff, all of 32-bit words.
#[derive(Clone, Debug)]
pub struct ChosenExperts {
    /// Experts of each token in ascending order, `[tokens, top_k]`.
    pub choices: Tensor<2, Int>,
    /// Tokens that chose each expert, `[experts]`.
    pub loads: Tensor<1, Int>,
    /// Rows by expert.
    pub tables: GroupTables,
}

/// Tables of one device.
struct OnDevice {
    device: Device,
    tables: GroupTables,
}

impl ExpertGroups {
    /// Sorts the choices of every token by expert.
    ///
    /// `choices` holds `tokens * top_k` expert numbers, token by token. A counting sort: O(tokens *
    /// top_k + experts).
    ///
    /// # Panics
    ///
    /// When a choice is not below `experts`, or `choices` is not a multiple of `top_k` (both are
    /// the router's own invariants).
    pub fn new(choices: &[u32], top_k: usize, experts: usize) -> Self {
        let plan = plan_of(choices, top_k, experts);
        Self(Arc::new(Decision {
            tokens: plan.tokens(),
            top_k,
            experts,
            plan: OnceLock::from(plan),
            chosen: None,
            kept: Kept::default(),
        }))
    }

    /// What a device has chosen.
    pub fn chosen_on_device(chosen: ChosenExperts) -> Self {
        let ([tokens, top_k], [experts]) = (chosen.choices.dims(), chosen.loads.dims());
        Self(Arc::new(Decision {
            tokens,
            top_k,
            experts,
            plan: OnceLock::new(),
            chosen: Some(chosen),
            kept: Kept::default(),
        }))
    }

    /// The host's view; of a device's decision it is made of the choices, read when it is first
    /// asked for (one of the [`host_reads`](crate::ops::host_reads)).
    pub fn plan(&self) -> &DispatchPlan {
        self.0.plan.get_or_init(|| {
            let chosen = self.0.chosen.as_ref().expect("invariant: somebody has decided");
            let choices: Vec<u32> = to_host(chosen.choices.clone()).iter::<u32>().collect();
            plan_of(&choices, self.0.top_k, self.0.experts)
        })
    }

    /// What a device has chosen, where the host has not.
    pub fn chosen(&self) -> Option<&ChosenExperts> {
        self.0.chosen.as_ref()
    }

    /// The tables on a device: those that it has made, or uploaded when they are first asked for.
    pub fn tables(&self, device: &Device) -> GroupTables {
        let device = device.clone().without_autodiff();
        if let Some(chosen) = &self.0.chosen
            && chosen.choices.device() == device
        {
            return chosen.tables.clone();
        }
        let of_device = |kept: &OnDevice| kept.device == device;
        let upload = || OnDevice { tables: uploaded(self.plan(), &device), device: device.clone() };
        self.0.kept.get_or_make(of_device, upload).tables.clone()
    }

    /// Tokens routed.
    pub fn tokens(&self) -> usize {
        self.0.tokens
    }

    /// Experts a token.
    pub fn top_k(&self) -> usize {
        self.0.top_k
    }

    /// Number of experts.
    pub fn experts(&self) -> usize {
        self.0.experts
    }

    /// Number of rows that the experts compute, `tokens * top_k`.
    pub fn rows(&self) -> usize {
        self.0.tokens * self.0.top_k
    }

    /// First row of each expert, and the number of rows at the end: `experts + 1` entries; of the
    /// host's view.
    pub fn offsets(&self) -> &[usize] {
        self.plan().offsets()
    }

    /// The token that each row is a copy of; of the host's view.
    pub fn token_of_row(&self) -> &[u32] {
        self.plan().token_of_row()
    }

    /// The row of each slot, token by token; of the host's view.
    pub fn row_of_slot(&self) -> &[u32] {
        self.plan().row_of_slot()
    }

    /// Tokens that chose each expert; of the host's view.
    pub fn loads(&self) -> Vec<u64> {
        self.plan().counts().into_iter().map(u64::from).collect()
    }
}

impl PartialEq for ExpertGroups {
    /// By the host's views.
    fn eq(&self, other: &Self) -> bool {
        self.0.experts == other.0.experts && self.plan() == other.plan()
    }
}

impl Eq for ExpertGroups {}

fn plan_of(choices: &[u32], top_k: usize, experts: usize) -> DispatchPlan {
    DispatchPlan::new(choices, top_k, experts)
        .unwrap_or_else(|error| panic!("invariant: top_k experts a token: {error}"))
}

fn uploaded(plan: &DispatchPlan, device: &Device) -> GroupTables {
    let (tokens, top_k, rows) = (plan.tokens(), plan.top_k(), plan.rows());
    let layout = GroupedColumns::new("routing", plan.offsets(), rows)
        .unwrap_or_else(|error| panic!("invariant: a plan's offsets rise: {error}"));
    let bounds = [plan.offsets(), &layout.words, &layout.tiles].into_iter().flatten();
    let bounds: Vec<u32> = bounds.map(|&bound| bound as u32).collect();
    let mut slot_of_row = vec![0u32; rows];
    for (slot, &row) in (0u32..).zip(plan.row_of_slot()) {
        slot_of_row[row as usize] = slot;
    }
    let words = |words: Vec<u32>| {
        let count = words.len();
        Tensor::<1, Int>::from_data(TensorData::new(words, [count]), (device, DType::U32))
    };
    GroupTables {
        bounds: words(bounds).reshape([3, plan.experts() + 1]),
        row_of_slot: words(plan.row_of_slot().to_vec()).reshape([tokens, top_k]),
        token_of_row: words(plan.token_of_row().to_vec()),
        slot_of_row: words(slot_of_row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_expert_and_stable_by_token() {
        let groups = ExpertGroups::new(&[2, 0, 0, 2, 3, 0], 2, 4);
        assert_eq!(groups.offsets(), [0, 3, 3, 5, 6]);
        assert_eq!(groups.token_of_row(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(groups.row_of_slot(), [3, 0, 1, 4, 5, 2]);
        assert_eq!(groups.loads(), [3, 0, 2, 1]);
    }

    #[test]
    fn no_tokens_leave_every_expert_empty() {
        let groups = ExpertGroups::new(&[], 2, 3);
        assert_eq!((groups.tokens(), groups.rows(), groups.offsets()), (0, 0, &[0, 0, 0, 0][..]));
    }

    #[test]
    fn tables_are_made_once_for_all_who_share_the_decision() {
        let groups = ExpertGroups::new(&[2, 0, 0, 2, 3, 0], 2, 4);
        let device = Device::flex();
        let GroupTables { bounds, row_of_slot, token_of_row, slot_of_row } =
            groups.clone().tables(&device.clone().autodiff());
        let read = |data: TensorData| data.iter::<u32>().collect::<Vec<_>>();
        assert_eq!(read(bounds.to_data()), [0, 3, 3, 5, 6, 0, 1, 1, 2, 3, 0, 1, 1, 2, 3]);
        assert_eq!(read(row_of_slot.to_data()), [3, 0, 1, 4, 5, 2]);
        assert_eq!(read(token_of_row.to_data()), [0, 1, 2, 0, 1, 2]);
        assert_eq!(read(slot_of_row.to_data()), [1, 2, 5, 0, 3, 4]);
        assert!(!bounds.device().is_autodiff() && row_of_slot.dims() == [3, 2]);
        assert_eq!(format!("{:?}", groups.0.kept), "1 kept");
        groups.tables(&device);
        assert_eq!(format!("{:?}", groups.0.kept), "1 kept");
    }
}
