//! What ranks in other processes can do together in one call of the library that joins them.

/// What a rank brings to a call that all ranks make, and what it takes home.
#[derive(Clone, Debug, PartialEq)]
pub enum Joint {
    /// A parcel for each rank, by its number; home come those of each rank.
    Parcels(Vec<Vec<u8>>),
    /// Values, as many on every rank and a multiple of their number; home come the sums over the
    /// ranks, in whatever order the library adds.
    Values(Vec<f32>),
}
