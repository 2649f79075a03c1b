//! Sends and receives that are under way: the calls of MPI that the binding has no safe form of
//! for buffers which live as long as they must.

use std::ops::Range;
use std::sync::Arc;

use ::mpi::Count;
use ::mpi::ffi::{
    MPI_Imrecv, MPI_Isend, MPI_Request, MPI_Test, RSMPI_REQUEST_NULL, RSMPI_STATUS_IGNORE,
    RSMPI_UINT8_T,
};
use ::mpi::point_to_point::Message;
use ::mpi::raw::{AsRaw, AsRawMut};
use ::mpi::topology::SimpleCommunicator;
use burn::tensor::Bytes;

/// A request that MPI works on.
pub(super) struct Request(MPI_Request);

impl Request {
    /// One that is over.
    pub fn none() -> Self {
        // SAFETY: a constant of the library.
        Self(unsafe { RSMPI_REQUEST_NULL })
    }

    /// Where MPI writes the request of what begins.
    pub fn raw(&mut self) -> *mut MPI_Request {
        &raw mut self.0
    }

    /// Whether it is done. MPI works on what is under way meanwhile.
    pub fn is_done(&mut self) -> bool {
        let mut done = 0;
        // SAFETY: the request is one of this process's, or null, which is done; no status is asked
        // for.
        unsafe { MPI_Test(&raw mut self.0, &raw mut done, RSMPI_STATUS_IGNORE) };
        done != 0
    }

    /// Whether MPI has let go of it.
    pub fn is_over(&self) -> bool {
        // SAFETY: a constant of the library.
        self.0 == unsafe { RSMPI_REQUEST_NULL }
    }
}

/// Bytes on their way to a rank.
pub(super) struct Sending {
    request: Request,
    bytes: Option<Arc<Bytes>>,
}

impl Sending {
    /// Sends a range of `bytes`, at most `i32::MAX` long.
    pub fn start(
        world: &SimpleCommunicator,
        to: i32,
        tag: i32,
        bytes: Arc<Bytes>,
        range: Range<usize>,
    ) -> Self {
        let piece = &bytes[range];
        let count = Count::try_from(piece.len()).expect("invariant: a piece is short");
        let mut request = Request::none();
        // SAFETY: the piece stays where it is, and as it is, until the request is over: `bytes` is
        // kept beside it, and leaked where that never happens.
        unsafe {
            MPI_Isend(
                piece.as_ptr().cast(),
                count,
                RSMPI_UINT8_T,
                to,
                tag,
                world.as_raw(),
                request.raw(),
            );
        }
        Self { request, bytes: Some(bytes) }
    }

    /// Whether the bytes are no longer needed.
    pub fn is_done(&mut self) -> bool {
        self.request.is_done()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.request.is_over() {
            std::mem::forget(self.bytes.take()); // MPI may still read them
        }
    }
}

/// Bytes on their way from a rank.
pub(super) struct Receiving {
    /// The sender.
    pub from: i32,
    /// The tag that they came under.
    pub tag: i32,
    request: Request,
    /// Empty, with room for the message, until it is there.
    bytes: Vec<u8>,
    count: usize,
}

impl Receiving {
    /// Receives a message of so many bytes that was found.
    pub fn start(mut message: Message, from: i32, tag: i32, count: Count) -> Self {
        let length = usize::try_from(count).unwrap_or(0);
        let mut bytes = Vec::<u8>::with_capacity(length);
        let mut request = Request::none();
        // SAFETY: the buffer has room for the message, and stays where it is until the request is
        // over: it is kept beside it, and leaked where that never happens.
        unsafe {
            MPI_Imrecv(
                bytes.as_mut_ptr().cast(),
                count,
                RSMPI_UINT8_T,
                message.as_raw_mut(),
                request.raw(),
            );
        }
        Self { from, tag, request, bytes, count: length }
    }

    /// Whether all bytes are there.
    pub fn is_done(&mut self) -> bool {
        if !self.request.is_done() {
            return false;
        }
        // SAFETY: there is room for so many bytes, and MPI, which is done, has written all of them:
        // the message that was found is so long.
        unsafe { self.bytes.set_len(self.count) };
        true
    }

    /// The bytes, of what is done.
    pub fn take(mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.request.is_over() {
            std::mem::forget(std::mem::take(&mut self.bytes)); // MPI may still write there
        }
    }
}
