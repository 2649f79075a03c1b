//! The processes of a run, each of which is a rank, or several: rank 0 leads, the others do what they
//! are told and answer.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use burn::tensor::Device;

use super::hosting::Hosting;
use super::joint::Joint;
use super::launch::{LaunchError, launched};
use super::library::Library;
use super::link::Link;
use super::message::PostError;
use super::packed::{Packed, Unpacking};
use super::post::Post;
use super::subject::Subject;
use crate::failure::{Blame, Context, Failure, Result, UsageError, line_of};

/// How long the others are waited for until the run's own limit is known.
const UNTIL_CONFIGURED: Duration = Duration::from_secs(600);

/// The processes of this run, as one of them sees them.
#[derive(Debug)]
pub struct Processes {
    /// The number of this process.
    pub number: usize,
    /// How many there are.
    pub count: usize,
    /// What they write to each other by.
    pub post: Arc<Post>,
    hosting: Hosting,
    /// None where another carrier than a library's holds them together.
    link: Option<Link>,
}

/// Those of this process, once it has joined: a library of which there is one a process.
static JOINED: OnceLock<Arc<Processes>> = OnceLock::new();

impl Processes {
    /// Joins those that mpirun or srun started together with this one; none where it was started
    /// alone.
    ///
    /// # Errors
    ///
    /// A build without MPI; a launcher that is not the library's.
    pub fn join() -> Result<Option<Arc<Self>>, LaunchError> {
        let Some(launched) = launched() else { return Ok(None) };
        if let Some(joined) = JOINED.get() {
            return Ok(Some(joined.clone()));
        }
        let post = Arc::new(Post::new(UNTIL_CONFIGURED));
        let hosting = Hosting::default();
        let link = Some(Link::start(&post, &hosting, launched.ranks)?);
        let processes = Self { number: launched.rank, count: launched.ranks, post, hosting, link };
        Ok(Some(JOINED.get_or_init(|| Arc::new(processes)).clone()))
    }

    /// Processes whose letters `post` has carried by something else: a test, in which threads play
    /// them, a rank each.
    pub fn played(number: usize, count: usize, post: Arc<Post>) -> Arc<Self> {
        Arc::new(Self { number, count, post, hosting: Hosting::default(), link: None })
    }

    /// From now on each process is so many consecutive ranks instead of one, and is told things by
    /// its first. What was told before must have arrived.
    pub fn host(&self, ranks_a_process: usize) {
        self.hosting.set(ranks_a_process);
    }

    /// The ranks of this process.
    pub fn own(&self) -> Range<usize> {
        self.hosting.ranks_of(self.number)
    }

    /// How many ranks all processes have together.
    pub fn ranks(&self) -> usize {
        self.count * self.hosting.ranks_a_process()
    }

    /// The first rank of each other process.
    pub fn others(&self) -> impl Iterator<Item = usize> {
        let others = (0..self.count).filter(|&number| number != self.number);
        others.map(|number| self.hosting.ranks_of(number).start)
    }

    /// The library that holds the processes together, where one does.
    pub fn library(&self) -> Option<&Library> {
        self.link.as_ref().map(Link::library)
    }

    /// Lets the others go, which end then.
    pub fn dismiss(&self) {
        for rank in 0..self.ranks() {
            if self.hosting.process_of(rank) != self.number {
                self.tell(rank, Vec::new());
            }
        }
    }

    /// Has a rank do something, and waits for its answer.
    ///
    /// # Errors
    ///
    /// What the rank answers instead; no sign of life from it; another rank that has failed.
    pub fn ask(&self, rank: usize, task: Vec<u8>) -> Result<Vec<u8>> {
        self.tell(rank, task);
        self.answer_of(rank)
    }

    /// Has a rank do something, and waits for nothing.
    pub fn tell(&self, rank: usize, task: Vec<u8>) {
        self.post.tell(0, rank, Subject::Task, task);
    }

    /// Waits for the answer of a rank that has been told to do something; whoever waits so has a
    /// limit of his own.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    fn answer_of(&self, rank: usize) -> Result<Vec<u8>> {
        self.answered(rank, self.post.hear(rank, 0, Subject::Answer))
    }

    /// Waits for the answers of all other processes, whose first ranks have been told to do the same:
    /// as long as there are signs of life.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask), with the rank, or the first one of a process that has, or will have,
    /// several: `ranks_a_process`; no sign of life in `parallel.timeout_s`.
    pub fn answers(&self, ranks_a_process: usize) -> Result<Vec<Vec<u8>>> {
        self.post.sign_of_life();
        let answer = |rank| {
            let heard = self.post.hear_alive(rank, 0, Subject::Answer);
            if let Err(PostError::Late { .. }) = heard {
                self.post.fail(rank);
                return Err(self.post.silence());
            }
            self.answered(rank, heard)
        };
        let name = |rank| match (self.hosting.process_of(rank), ranks_a_process) {
            (process, 1) => format!("rank {process}"),
            (process, several) => format!("the process of rank {}", process * several),
        };
        self.others().map(|rank| answer(rank).with_context(|| name(rank))).collect()
    }

    /// What a rank answered.
    fn answered(&self, rank: usize, heard: Result<Vec<u8>, PostError>) -> Result<Vec<u8>> {
        let mut answer = match heard {
            Err(PostError::Failed { rank: failed }) if failed == rank => {
                return Err(self.post.silence());
            }
            answer => answer?,
        };
        let garbled =
            || PostError::Garbled { from: rank, to: 0, subject: Subject::Answer.to_string() };
        let device = Device::flex();
        let mut from = Unpacking::new(&answer, &device);
        match bool::unpack(&mut from).ok_or_else(garbled)? {
            true => {
                let rest = answer.len() - from.rest().len();
                answer.drain(..rest); // in place: it may be long
                Ok(answer)
            }
            false => Err(Told::unpack(&mut from).ok_or_else(garbled)?.into()),
        }
    }

    /// Makes one of the library's own calls on a lane together with all ranks, and waits for it.
    /// Calls of one lane must come in the same order on every rank, those of different lanes need
    /// not. None where no library holds the processes together, or it has ended.
    pub fn together(&self, lane: usize, joint: Joint) -> Option<Joint> {
        self.link.as_ref()?.together(lane, joint)
    }

    /// Has the library get ready for calls among the members of each of these groups of ranks, once
    /// in a run, without waiting for it. Every rank must ask for the same groups in the same order.
    pub fn group(&self, groups: Vec<Vec<usize>>) {
        if let Some(link) = &self.link {
            link.group(groups);
        }
    }

    /// Makes one of the library's own calls together with the members of a
    /// [group](Self::group), and waits for it. Calls of one group must come in the same order on
    /// all of its ranks.
    ///
    /// # Errors
    ///
    /// [`PostError::Failed`] where a rank has failed meanwhile; no library that holds the processes
    /// together, or a group that was not asked for.
    pub fn among(&self, joint: Joint) -> Result<Joint> {
        let home = self.link.as_ref().and_then(|link| link.among(joint));
        if let (None, Some(rank)) = (&home, self.post.failed()) {
            return Err(PostError::Failed { rank }.into());
        }
        home.context("the library that joins the processes has ended")
    }

    /// What rank 0 has one of this process's ranks do next; nothing where the run is over.
    ///
    /// # Errors
    ///
    /// No sign of life from rank 0.
    pub fn next_task(&self, own: usize) -> Result<Option<Vec<u8>>> {
        match self.post.hear(0, own, Subject::Task) {
            Ok(task) => Ok(Some(task).filter(|task| !task.is_empty())),
            Err(PostError::Failed { rank }) => {
                let seconds = self.post.timeout().as_secs();
                Err(Failure::new(format!(
                    "rank {own} ends: rank {rank} has given no sign of life for {seconds} s \
                     (parallel.timeout_s)"
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells rank 0 what came of the task of one of this process's ranks.
    pub fn answer(&self, own: usize, outcome: Result<Vec<u8>>) {
        let bytes = match outcome {
            Ok(done) => [true.packed(), done].concat(),
            Err(failure) => [false.packed(), Told::of(&failure).packed()].concat(),
        };
        self.post.tell(own, 0, Subject::Answer, bytes);
    }
}

/// To be called last, with the exit code: lets the other processes go, or, where one of them has
/// failed, ends them all. Nothing of a process that was started alone.
pub fn end_processes(code: u8) {
    let Some(joined) = JOINED.get() else { return };
    let well = joined.post.failed().is_none();
    if well && joined.number == 0 {
        joined.dismiss();
    }
    if let Some(link) = &joined.link {
        link.close((!well).then_some(code));
    }
}

/// A failure, as it is told to another process.
#[derive(Debug)]
struct Told {
    /// What of it concerns messages between ranks.
    post: Option<PostError>,
    /// Whether it was the user's mistake.
    of_user: bool,
    /// All of it, on one line.
    text: String,
}

super::packed!(Told { post, of_user, text });

impl Told {
    fn of(failure: &Failure) -> Self {
        Self {
            post: failure.downcast_ref::<PostError>().cloned(),
            of_user: failure.blame() == Blame::User,
            text: line_of(failure),
        }
    }
}

impl From<Told> for Failure {
    fn from(told: Told) -> Self {
        match told {
            Told { post: Some(error), .. } => error.into(),
            Told { of_user: true, text, .. } => UsageError(text).into(),
            Told { text, .. } => Self::new(text),
        }
    }
}

impl Packed for PostError {
    fn pack(&self, into: &mut Vec<u8>) {
        match self {
            Self::Late { from, to, subject, seconds } => {
                0u8.pack(into);
                (*from, *to).pack(into);
                (subject.clone(), *seconds).pack(into);
            }
            Self::Failed { rank } => {
                1u8.pack(into);
                rank.pack(into);
            }
            Self::Garbled { from, to, subject } => {
                2u8.pack(into);
                (*from, *to).pack(into);
                subject.pack(into);
            }
        }
    }

    fn unpack(bytes: &mut Unpacking) -> Option<Self> {
        Some(match u8::unpack(bytes)? {
            0 => {
                let (from, to) = Packed::unpack(bytes)?;
                let (subject, seconds) = Packed::unpack(bytes)?;
                Self::Late { from, to, subject, seconds }
            }
            1 => Self::Failed { rank: usize::unpack(bytes)? },
            2 => {
                let (from, to) = Packed::unpack(bytes)?;
                Self::Garbled { from, to, subject: String::unpack(bytes)? }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A rank that neither answers nor works ends the start in time, and is named; one that works
    /// is waited for, however long it takes.
    #[test]
    fn a_start_waits_as_long_as_somebody_works() {
        let post = Arc::new(Post::new(Duration::from_millis(100)));
        let processes = Processes::played(0, 3, post.clone());
        let answer = |rank: usize| {
            let bytes = [true.packed(), vec![rank as u8]].concat();
            post.tell(rank, 0, Subject::Answer, bytes);
        };
        answer(1);
        let work = {
            let post = post.clone();
            move || {
                // Longer than the limit and its two seconds of grace.
                for _ in 0..26 {
                    std::thread::sleep(Duration::from_millis(100));
                    post.sign_of_life();
                }
                post.tell(2, 0, Subject::Answer, [true.packed(), vec![2]].concat());
            }
        };
        let worker = std::thread::spawn(work);
        assert_eq!(processes.answers(1).unwrap(), [[1], [2]]);
        worker.join().unwrap();

        answer(2);
        let (began, failure) = (Instant::now(), processes.answers(1).unwrap_err());
        assert_eq!(line_of(&failure), "rank 1: no sign of life for 0 s (parallel.timeout_s)");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!((failure.blame(), post.failed()), (Blame::Run, Some(1)));
    }

    /// What a failure tells, and whose mistake it was, are the same in another process.
    #[test]
    fn failures_travel() {
        let again = |failure: &Failure| {
            let bytes = Told::of(failure).packed();
            Failure::from(Told::unpacked(&bytes, &Device::flex()).expect("what was packed"))
        };
        let usage = Err::<(), _>(UsageError("no".into())).context("precision").unwrap_err();
        let got = again(&usage);
        assert_eq!((got.blame(), got.to_string()), (Blame::User, "precision: no".into()));
        let subject = Subject::Parameter(3).to_string();
        for error in [
            PostError::Late { from: 3, to: 1, subject: subject.clone(), seconds: 7 },
            PostError::Failed { rank: 2 },
            PostError::Garbled { from: 0, to: 1, subject },
        ] {
            let got = again(&Failure::from(error.clone()).context("rank 1"));
            assert_eq!(got.downcast_ref::<PostError>(), Some(&error));
            assert_eq!(got.blame(), Blame::Run);
        }
        let disk = Failure::new("disk full").context("runs/a");
        assert_eq!(again(&disk).to_string(), "runs/a: disk full");
        assert!(Told::unpacked(&[1], &Device::flex()).is_none());
    }
}
