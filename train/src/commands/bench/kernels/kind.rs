//! Which operations of a linear are timed, and what their rows are called.

use super::Sizes;

/// An operation of a linear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    QuantizeRows,
    QuantizeBoth,
    QuantizeWeight,
    Fprop,
    Dgrad,
    Wgrad,
    GroupedFprop,
    GroupedDgrad,
    GroupedWgrad,
}

/// The operations of a linear of so many experts.
pub(super) fn of(experts: usize) -> &'static [Kind] {
    use Kind::*;
    match experts {
        1 => &[QuantizeRows, QuantizeBoth, QuantizeWeight, Fprop, Dgrad, Wgrad],
        _ => &[GroupedFprop, GroupedDgrad, GroupedWgrad],
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::QuantizeRows => "quantize rows",
            Self::QuantizeBoth => "quantize both",
            Self::QuantizeWeight => "quantize weight",
            Self::Fprop => "fprop",
            Self::Dgrad => "dgrad",
            Self::Wgrad => "wgrad",
            Self::GroupedFprop => "grouped fprop",
            Self::GroupedDgrad => "grouped dgrad",
            Self::GroupedWgrad => "grouped wgrad",
        }
    }

    /// `fprop 1024x1024x1024`: m, n and k; of a cast the sizes of what is cast.
    pub fn row_name(self, Sizes { m, n, k, .. }: Sizes) -> String {
        match self {
            Self::QuantizeRows | Self::QuantizeBoth => format!("{} {m}x{k}", self.name()),
            Self::QuantizeWeight => format!("{} {n}x{k}", self.name()),
            _ => format!("{} {m}x{n}x{k}", self.name()),
        }
    }
}
