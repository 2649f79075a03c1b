//! Whether this process was started alone, or as one of several by mpirun or srun.

use crate::failure::{Blame, Blamed};

/// A process among those that a launcher started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are.
    pub ranks: usize,
    /// How many of them are in the same machine, where the launcher says so; else 1.
    pub on_this_machine: usize,
}

/// Why a process cannot be one rank of several.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The build has no MPI.
    #[error(
        "this is one of {ranks} processes that mpirun or srun started, but this build has no MPI: \
         build it with --features mpi, or start one process"
    )]
    NotBuilt {
        /// Processes that were started.
        ranks: usize,
    },
    /// The library does not see the others.
    #[error(
        "the launcher started {launched} processes, but this program's MPI library sees {seen}: \
         start it with the mpirun of that library, or with srun --mpi=pmix"
    )]
    Apart {
        /// Processes that were started.
        launched: usize,
        /// Processes that MPI knows.
        seen: usize,
    },
    /// A process does not come to where MPI starts.
    #[error(
        "the launcher started {launched} processes, but not all of them have come to where MPI \
         starts in {seconds} s"
    )]
    Late {
        /// Processes that were started.
        launched: usize,
        /// How long they were waited for.
        seconds: u64,
    },
    /// MPI does not start.
    #[error("MPI cannot be started: {problem}")]
    Start {
        /// Why.
        problem: String,
    },
}

impl Blamed for LaunchError {
    fn blame(&self) -> Blame {
        match self {
            Self::Late { .. } => Blame::Run,
            Self::NotBuilt { .. } | Self::Apart { .. } | Self::Start { .. } => Blame::User,
        }
    }
}

/// Where launchers say a process's number and how many there are: Open MPI; MPICH, Intel MPI and
/// Slurm's pmi2; Slurm's pmix.
const VARIABLES: [(&str, &str); 3] = [
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
];

/// Where they say how many of them are in this machine: Open MPI; MPICH and Intel MPI; Slurm, of all
/// machines, this one's among the like of `2(x3),1`.
const LOCAL_VARIABLES: [&str; 3] =
    ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_TASKS_PER_NODE"];

/// What this process was started as; none where it was started alone.
pub fn launched() -> Option<Launched> {
    launched_by(|name| std::env::var(name).ok())
}

fn launched_by(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name: &str| variable(name)?.parse().ok();
    let first = |name: &&str| {
        let list = variable(name)?;
        list.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    };
    let on_this_machine = LOCAL_VARIABLES.iter().find_map(first).unwrap_or(1);
    let found = VARIABLES.iter().find_map(|(rank, ranks)| {
        Some(Launched { rank: number(rank)?, ranks: number(ranks)?, on_this_machine })
    });
    found.filter(|launched| launched.ranks > 1 && launched.rank < launched.ranks)
}

impl Launched {
    /// Whether this process speaks for all of them: it prints, and writes the run.
    pub fn speaks(&self) -> bool {
        self.rank == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Option<Launched> {
        let value = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        launched_by(value)
    }

    #[test]
    fn launchers_are_known_by_their_variables() {
        for (rank, ranks) in VARIABLES {
            let found = with(&[(rank, "2"), (ranks, "4")]);
            assert_eq!(found, Some(Launched { rank: 2, ranks: 4, on_this_machine: 1 }), "{rank}");
            assert!(!found.is_some_and(|found| found.speaks()));
        }
        assert!(with(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]).is_some_and(|l| l.speaks()));
        for (variable, value) in LOCAL_VARIABLES.iter().zip(["3", "3", "3(x2),1"]) {
            let found = with(&[("PMI_RANK", "0"), ("PMI_SIZE", "4"), (variable, value)]);
            assert_eq!(found.map(|found| found.on_this_machine), Some(3), "{variable}");
        }
        // A batch script has Slurm's variables too, and is one process.
        assert_eq!(with(&[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")]), None);
        assert_eq!(with(&[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")]), None);
        assert_eq!(with(&[("PMI_RANK", "4"), ("PMI_SIZE", "4")]), None);
        assert_eq!(with(&[("PMI_RANK", "x"), ("PMI_SIZE", "4")]), None);
        assert_eq!(with(&[]), None);
    }

    /// A process that was stopped is nobody's mistake, a build without MPI is.
    #[test]
    fn whose_mistake_it_is() {
        let late = LaunchError::Late { launched: 4, seconds: 600 };
        assert_eq!(late.blame(), Blame::Run);
        assert!(late.to_string().contains("4 processes") && late.to_string().contains("600 s"));
        assert_eq!(LaunchError::NotBuilt { ranks: 2 }.blame(), Blame::User);
    }
}
