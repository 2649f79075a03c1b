//! What the library says of itself, through its tools interface (MPI 3.0), which need not wait for
//! its start.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use ::mpi::ffi::{
    MPI_T_cvar_get_index, MPI_T_cvar_handle, MPI_T_cvar_handle_alloc, MPI_T_cvar_handle_free,
    MPI_T_cvar_read, MPI_T_finalize, MPI_T_init_thread,
};

use super::super::library::Library;

/// The variables that say whether the library takes the memory of CUDA devices: Open MPI's, under
/// the names that its releases have for it.
const CUDA_AWARE: [&CStr; 2] = [c"mpi_built_with_cuda_support", c"opal_built_with_cuda_support"];

/// What MPI's calls return where nothing is wrong, and the level of threads of which one calls.
const SUCCESS: c_int = 0;
const THREAD_SINGLE: c_int = 0;

/// A value of a variable is at most so many numbers here; others are not read.
const MOST: usize = 4;

/// What the library says of itself; it is asked once.
pub(super) fn library() -> Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(asked).clone()
}

fn asked() -> Library {
    let whole = ::mpi::environment::library_version().unwrap_or_default();
    // The first part is name and version; what follows is where and how it was built.
    let name = whole.split([',', '\n', '\0']).next().unwrap_or_default().trim();
    let name = if name.is_empty() { "an MPI library" } else { name }.to_owned();
    Library { name, cuda_aware: cuda_aware() }
}

fn cuda_aware() -> Option<bool> {
    let mut provided = 0;
    // SAFETY: the level that is provided is written to a number; allowed at any time.
    if unsafe { MPI_T_init_thread(THREAD_SINGLE, &raw mut provided) } != SUCCESS {
        return None;
    }
    let said = CUDA_AWARE.into_iter().find_map(is_set);
    // SAFETY: the interface was begun above, and nothing of it is used behind this.
    unsafe { MPI_T_finalize() };
    said
}

/// Whether a variable that is a yes or no is set; none where there is no such variable.
fn is_set(name: &CStr) -> Option<bool> {
    let (mut index, mut count) = (0, 0);
    // SAFETY: the name ends with a zero, and the index is written to a number.
    if unsafe { MPI_T_cvar_get_index(name.as_ptr(), &raw mut index) } != SUCCESS {
        return None;
    }
    let mut handle: MPI_T_cvar_handle = ptr::null_mut();
    // SAFETY: the variable is of no object; handle and count are written to what is theirs.
    let made =
        unsafe { MPI_T_cvar_handle_alloc(index, ptr::null_mut(), &raw mut handle, &raw mut count) };
    if made != SUCCESS {
        return None;
    }
    let mut value = [0 as c_int; MOST];
    let fits = usize::try_from(count).is_ok_and(|count| (1..=MOST).contains(&count));
    // SAFETY: the buffer has room for so many numbers, of which a yes or no takes one; the handle is
    // the one that was made.
    let read =
        fits && unsafe { MPI_T_cvar_read(handle, value.as_mut_ptr().cast::<c_void>()) } == SUCCESS;
    // SAFETY: as above; it is not used again.
    unsafe { MPI_T_cvar_handle_free(&raw mut handle) };
    read.then(|| value != [0; MOST])
}
