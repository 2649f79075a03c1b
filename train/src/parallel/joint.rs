//! What ranks in other processes can do together in one call of the library that joins them.

/// What a rank brings to a call that all ranks make, or some, and what it takes home.
#[derive(Clone, Debug, PartialEq)]
pub enum Joint {
    /// A parcel for each rank, by its number; home come those of each rank.
    Parcels(Vec<Vec<u8>>),
    /// Values, as many on every rank and a multiple of their number; home come the sums over the
    /// ranks, in whatever order the library adds.
    Values(Vec<f32>),
    /// Values of some ranks, in a part of so many for each; home comes the sum of this rank's part
    /// over the members, as [`Joint::Values`].
    Sums {
        /// The members, ascending; this rank is one.
        members: Vec<usize>,
        /// Values of each member's part.
        counts: Vec<usize>,
        /// This rank's values of all parts.
        values: Vec<f32>,
    },
    /// A part of values of each of some ranks; home come all parts, as [`Joint::Values`].
    Parts {
        /// The members, ascending; this rank is one.
        members: Vec<usize>,
        /// Values of each member's part.
        counts: Vec<usize>,
        /// This rank's part.
        values: Vec<f32>,
    },
}

impl Joint {
    /// The ranks that make the call, where they are some.
    pub fn members(&self) -> Option<&[usize]> {
        match self {
            Self::Parcels(_) | Self::Values(_) => None,
            Self::Sums { members, .. } | Self::Parts { members, .. } => Some(members),
        }
    }
}
