//! What holds processes together: MPI, in builds that have it; in others there are no such
//! processes.

use super::library::Library;
#[cfg(feature = "mpi")]
pub(super) use super::mpi::Mpi as Link;
#[cfg(not(feature = "mpi"))]
pub(super) use without::Link;

/// The MPI library that would join processes of this build; none of a build without. It need not have
/// been started. Whoever has joined processes asks [those](super::Processes::library): one thread
/// makes all calls then.
pub fn library() -> Option<Library> {
    Link::of_this_build()
}

#[cfg(not(feature = "mpi"))]
mod without {
    use std::sync::Arc;

    use super::super::hosting::Hosting;
    use super::super::joint::Joint;
    use super::super::launch::LaunchError;
    use super::super::library::Library;
    use super::super::post::Post;

    /// There is none: it cannot be started.
    #[derive(Debug)]
    pub(in super::super) enum Link {}

    impl Link {
        pub fn of_this_build() -> Option<Library> {
            None
        }

        pub fn start(_: &Arc<Post>, _: &Hosting, ranks: usize) -> Result<Self, LaunchError> {
            Err(LaunchError::NotBuilt { ranks })
        }

        pub fn library(&self) -> &Library {
            match *self {}
        }

        pub fn together(&self, _: usize, _: Joint) -> Option<Joint> {
            match *self {}
        }

        pub fn group(&self, _: Vec<Vec<usize>>) {
            match *self {}
        }

        pub fn among(&self, _: Joint) -> Option<Joint> {
            match *self {}
        }

        pub fn close(&self, _: Option<u8>) {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Open MPI says what it is and what it can, also where it has not been started.
    #[test]
    fn the_library_says_what_it_is() {
        let Some(library) = library() else {
            if cfg!(feature = "mpi") {
                panic!("a build with MPI has a library");
            }
            return println!("skipped: this build has no MPI");
        };
        assert!(!library.name.is_empty() && !library.name.contains([',', '\0']), "{library:?}");
        if library.name.starts_with("Open MPI") {
            assert!(library.cuda_aware.is_some(), "{library:?}");
        }
    }
}
