//! What messages between ranks are about.

use std::fmt;

use super::packed::{Packed, Unpacking};

/// What a message is about. Together with sender and receiver it is unique within a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Rows that enter a stage.
    Activations {
        /// The micro-batch, by its number in the sender's data.
        micro_batch: usize,
        /// The stage.
        stage: usize,
    },
    /// The gradient of the rows that leave a stage.
    Gradients {
        /// The micro-batch.
        micro_batch: usize,
        /// The stage.
        stage: usize,
    },
    /// Rows on their way to experts or back.
    Experts {
        /// The micro-batch.
        micro_batch: usize,
        /// The MoE layer.
        layer: usize,
        /// The exchange of the layer.
        leg: Leg,
        /// The number of the message where rows take two hops; 1 where they take one.
        hop: u8,
    },
    /// A gradient on its way to the owner of the parameter, by the parameter's place in the order
    /// of the model.
    ParameterGradient(usize),
    /// An updated parameter on its way from its owner.
    Parameter(usize),
    /// What a rank in another process is to do.
    Task,
    /// What came of it.
    Answer,
}

/// The exchanges of a MoE layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leg {
    /// Tokens to experts.
    Dispatch,
    /// Results back to tokens.
    Combine,
    /// Gradients of results to experts.
    CombineBackward,
    /// Gradients of tokens back.
    DispatchBackward,
    /// Gate values to experts, where rows are summed on their way back.
    Gates,
    /// Gradients of gate values back.
    GatesBackward,
}

/// All legs, each at its own number.
const LEGS: [Leg; 6] = [
    Leg::Dispatch,
    Leg::Combine,
    Leg::CombineBackward,
    Leg::DispatchBackward,
    Leg::Gates,
    Leg::GatesBackward,
];

impl Subject {
    /// The kinds of subjects that there are.
    pub const KINDS: u8 = 7;

    /// The number of the kind, below [`KINDS`](Self::KINDS).
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Activations { .. } => 0,
            Self::Gradients { .. } => 1,
            Self::Experts { .. } => 2,
            Self::ParameterGradient(_) => 3,
            Self::Parameter(_) => 4,
            Self::Task => 5,
            Self::Answer => 6,
        }
    }
}

impl Packed for Subject {
    fn pack(&self, into: &mut Vec<u8>) {
        self.kind().pack(into);
        match self {
            Self::Activations { micro_batch, stage } | Self::Gradients { micro_batch, stage } => {
                (*micro_batch, *stage).pack(into);
            }
            Self::Experts { micro_batch, layer, leg, hop } => {
                (*micro_batch, *layer).pack(into);
                (*leg as u8, *hop).pack(into);
            }
            Self::ParameterGradient(index) | Self::Parameter(index) => index.pack(into),
            Self::Task | Self::Answer => {}
        }
    }

    fn unpack(from: &mut Unpacking) -> Option<Self> {
        Some(match u8::unpack(from)? {
            kind @ (0 | 1) => {
                let (micro_batch, stage) = Packed::unpack(from)?;
                match kind {
                    0 => Self::Activations { micro_batch, stage },
                    _ => Self::Gradients { micro_batch, stage },
                }
            }
            2 => {
                let (micro_batch, layer) = Packed::unpack(from)?;
                let (leg, hop): (u8, u8) = Packed::unpack(from)?;
                Self::Experts { micro_batch, layer, leg: *LEGS.get(usize::from(leg))?, hop }
            }
            3 => Self::ParameterGradient(usize::unpack(from)?),
            4 => Self::Parameter(usize::unpack(from)?),
            5 => Self::Task,
            6 => Self::Answer,
            _ => return None,
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activations { micro_batch, stage } => {
                write!(f, "activations of micro-batch {micro_batch} for stage {stage}")
            }
            Self::Gradients { micro_batch, stage } => {
                write!(f, "gradients of micro-batch {micro_batch} for stage {stage}")
            }
            Self::Experts { micro_batch, layer, leg, hop } => {
                write!(f, "{leg:?} (hop {hop}) of micro-batch {micro_batch} in layer {layer}")
            }
            Self::ParameterGradient(index) => write!(f, "the gradient of parameter {index}"),
            Self::Parameter(index) => write!(f, "parameter {index}"),
            Self::Task => f.write_str("what is to be done"),
            Self::Answer => f.write_str("what came of it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn subjects_of_every_kind_travel() {
        let device = Device::flex();
        let mut subjects = vec![
            Subject::Activations { micro_batch: 3, stage: 9 },
            Subject::Gradients { micro_batch: 0, stage: usize::MAX },
            Subject::ParameterGradient(5),
            Subject::Parameter(0),
            Subject::Task,
            Subject::Answer,
        ];
        subjects.extend(LEGS.map(|leg| Subject::Experts {
            micro_batch: 1,
            layer: 60,
            leg,
            hop: 2,
        }));
        let mut kinds = [0; Subject::KINDS as usize];
        for subject in subjects {
            kinds[usize::from(subject.kind())] += 1;
            assert_eq!(Subject::unpacked(&subject.packed(), &device), Some(subject));
        }
        assert_eq!(kinds, [1, 1, LEGS.len(), 1, 1, 1, 1]);
        assert_eq!(Subject::unpacked(&[Subject::KINDS], &device), None);
        assert_eq!(Subject::unpacked(&[2, 0], &device), None);
    }
}
