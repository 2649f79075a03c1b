//! Plain values that every layer of the crate shares: what a routing decision, a table of rotary
//! angles, an optimizer step and a stored weight are, and how rows reach their experts. Nothing here
//! computes; what a device has chosen is read when the host asks for it.

mod adamw;
mod expert_dispatch;
mod groups;
mod kept;
mod rope;
mod stored;

pub use adamw::AdamWScalars;
pub use expert_dispatch::{DispatchedRows, ExpertCombine, ExpertDispatch};
pub use groups::{ChosenExperts, ExpertGroups, GroupTables};
pub use kept::Kept;
pub use rope::RopeTable;
pub use stored::{StoredPiece, StoredWeight};
