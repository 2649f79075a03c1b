//! Rows on the wire between ranks whose devices are a server's: they are packed, unpacked and
//! summed there.

use std::sync::Arc;

use burn::backend::Remote;
use burn::server::CustomOpRegistry;
use burn::tensor::DType;
use burn_ir::BackendIr;
use cubecl_kernels::definition::{RowSums, WireFormat};

use super::arguments::{Argument, Words};
use super::client::{Call, RemoteTensor, dims};
use super::server::serve;
use crate::backend::WireOps;

impl WireOps for Remote {
    fn wire_pack(x: RemoteTensor, index: Arc<[u32]>, format: WireFormat) -> RemoteTensor {
        let [_, width] = dims(&x);
        let call = Call::new("deepseek/wire_pack", x).given(&index).given(&format);
        call.gives([index.len(), format.row_words(width)], DType::U32).one()
    }

    fn wire_unpack(
        wire: RemoteTensor,
        index: Arc<[u32]>,
        width: usize,
        format: WireFormat,
    ) -> RemoteTensor {
        let call =
            Call::new("deepseek/wire_unpack", wire).given(&index).given(&width).given(&format);
        call.floats([index.len(), width]).one()
    }

    fn wire_sum(
        wire: RemoteTensor,
        sums: Arc<RowSums>,
        width: usize,
        format: WireFormat,
    ) -> RemoteTensor {
        let call = Call::new("deepseek/wire_sum", wire).given(&sums).given(&width).given(&format);
        call.floats([sums.results(), width]).one()
    }

    fn wire_combine(
        wire: RemoteTensor,
        weights: RemoteTensor,
        sums: Arc<RowSums>,
        width: usize,
        format: WireFormat,
    ) -> RemoteTensor {
        let call = Call::new("deepseek/wire_combine", wire)
            .with(weights)
            .given(&sums)
            .given(&width)
            .given(&format);
        call.floats([sums.results(), width]).one()
    }

    fn wire_sum_values(x: RemoteTensor, sums: Arc<RowSums>) -> RemoteTensor {
        let [_, width] = dims(&x);
        Call::new("deepseek/wire_sum_values", x).given(&sums).floats([sums.results(), width]).one()
    }
}

/// The operations on the backend of a server.
pub(super) fn register<B: BackendIr + WireOps>(operations: &mut CustomOpRegistry<B>) {
    serve(operations, "deepseek/wire_pack", |r| {
        let wire = B::wire_pack(r.float(), r.argument(), r.argument());
        r.give_int(wire);
    });
    serve(operations, "deepseek/wire_unpack", |r| {
        let values = B::wire_unpack(r.int(), r.argument(), r.argument(), r.argument());
        r.give_float(values);
    });
    serve(operations, "deepseek/wire_sum", |r| {
        let sums = B::wire_sum(r.int(), r.argument(), r.argument(), r.argument());
        r.give_float(sums);
    });
    serve(operations, "deepseek/wire_combine", |r| {
        let sums = B::wire_combine(r.int(), r.float(), r.argument(), r.argument(), r.argument());
        r.give_float(sums);
    });
    serve(operations, "deepseek/wire_sum_values", |r| {
        let sums = B::wire_sum_values(r.float(), r.argument());
        r.give_float(sums);
    });
}

/// Their number, then two a word.
impl Argument for Arc<[u32]> {
    fn put(&self, words: &mut Vec<u64>) {
        self.len().put(words);
        words.extend(
            self.chunks(2).map(|pair| {
                u64::from(pair[0]) | u64::from(pair.get(1).copied().unwrap_or(0)) << 32
            }),
        );
    }

    fn take(words: &mut Words) -> Self {
        let count = usize::take(words);
        let mut values = Vec::new(); // not of the length that is claimed: that may be anything
        while values.len() < count {
            let pair = u64::take(words);
            values.extend([pair as u32, (pair >> 32) as u32]);
        }
        values.truncate(count);
        values.into()
    }
}

impl Argument for Arc<RowSums> {
    fn put(&self, words: &mut Vec<u64>) {
        Arc::<[u32]>::from(self.starts()).put(words);
        Arc::<[u32]>::from(self.rows()).put(words);
        self.bound().put(words);
    }

    fn take(words: &mut Words) -> Self {
        let (starts, rows): (Arc<[u32]>, Arc<[u32]>) =
            (Argument::take(words), Argument::take(words));
        let sums = RowSums::from_parts(starts.to_vec(), rows.to_vec(), Argument::take(words));
        Arc::new(sums.unwrap_or_else(|error| panic!("{error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_sums_arrive_as_they_were_sent() {
        for index in [&[][..], &[7], &[u32::MAX, 0, 3]] {
            let (index, mut words) = (Arc::<[u32]>::from(index), Vec::new());
            index.put(&mut words);
            assert_eq!(Arc::<[u32]>::take(&mut Words::new(&words)), index);
            let sums = Arc::new(RowSums::of_gather(&[1, 0, 1], 3).expect("sums"));
            let mut words = Vec::new();
            sums.put(&mut words);
            assert_eq!(Arc::<RowSums>::take(&mut Words::new(&words)), sums);
        }
    }
}
