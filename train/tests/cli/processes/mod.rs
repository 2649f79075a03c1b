//! Ranks as processes that mpirun starts: the results of ranks on threads, to the bit, and runs
//! that end in time when a process does.

#[cfg(all(target_os = "linux", feature = "mpi"))]
mod over_mpi;

#[cfg(not(all(target_os = "linux", feature = "mpi")))]
#[test]
fn ranks_as_processes() {
    println!("skipped: this build has no MPI (Debian: libopenmpi-dev, openmpi-bin, libclang-dev)");
}
