//! Messages between the ranks of one process: tensors under an address, fetched by whoever they are
//! for.
//!
//! A tensor crosses devices by Burn's own copy
//! ([`Tensor::to_device`](burn::tensor::Tensor::to_device)), made by the sender. Sending never
//! waits, so no order of messages can deadlock; a receiver that waits too long, or whose run has
//! failed elsewhere, gets an error that names the sender.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use crate::failure::blamed;

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
        }
    }
}

/// A message that has not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The sender is late.
    #[error(
        "rank {to} waited {seconds} s for rank {from}: {subject} did not come (parallel.timeout_s)"
    )]
    Late {
        /// Who should have sent it.
        from: usize,
        /// Who waited.
        to: usize,
        /// What did not come.
        subject: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Another rank has failed; its own error says how.
    #[error("rank {rank} has failed")]
    Failed {
        /// Which.
        rank: usize,
    },
}

/// What can be sent.
pub trait Message: Send + 'static {
    /// Bytes of the tensors in it.
    fn bytes(&self) -> u64;
}

impl<const D: usize> Message for Tensor<D> {
    fn bytes(&self) -> u64 {
        (self.shape().num_elements() * self.dtype().size()) as u64
    }
}

impl<T: Message> Message for Option<T> {
    fn bytes(&self) -> u64 {
        self.as_ref().map_or(0, Message::bytes)
    }
}

/// What a rank's messages came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Bytes of tensors that it sent to others.
    pub sent_bytes: u64,
    /// How long it waited for rows of experts.
    pub waited_for_experts: Duration,
}

type Payload = Box<dyn Any + Send>;
type Address = (usize, usize, Subject);

struct Boxes {
    waiting: HashMap<Address, Payload>,
    failed: Option<usize>,
    last_sign: Instant,
    /// What came of the ranks' messages, by rank.
    mail: BTreeMap<usize, Mail>,
}

/// The post office of a run.
pub struct Post {
    boxes: Mutex<Boxes>,
    arrived: Condvar,
    timeout: Duration,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post({} waiting)", self.boxes().waiting.len())
    }
}

blamed!(Run: PostError);

impl Post {
    /// A post office in which nothing is waited for longer than `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let boxes = Boxes {
            waiting: HashMap::new(),
            failed: None,
            last_sign: Instant::now(),
            mail: BTreeMap::new(),
        };
        Self { boxes: Mutex::new(boxes), arrived: Condvar::new(), timeout }
    }

    /// How long a message is waited for.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Notes that some rank is alive; sending does so by itself.
    pub fn sign_of_life(&self) {
        self.boxes().last_sign = Instant::now();
    }

    /// Whether no rank has given a sign of life for longer than a message is waited for (and a
    /// little more: who waits for a message tells more of what is wrong).
    pub fn is_silent(&self) -> bool {
        self.boxes().last_sign.elapsed() > self.timeout + Duration::from_secs(2)
    }

    /// Leaves a message.
    pub fn send<T: Message>(&self, from: usize, to: usize, subject: Subject, message: T) {
        let bytes = if from == to { 0 } else { message.bytes() };
        let mut boxes = self.boxes();
        boxes.last_sign = Instant::now();
        boxes.mail.entry(from).or_default().sent_bytes += bytes;
        let before = boxes.waiting.insert((from, to, subject), Box::new(message));
        drop(boxes);
        assert!(before.is_none(), "invariant: a subject is sent once a step");
        self.arrived.notify_all();
    }

    /// Takes a message, and waits for it.
    ///
    /// # Errors
    ///
    /// It did not come in time, or some rank has failed.
    pub fn receive<T: Message>(
        &self,
        from: usize,
        to: usize,
        subject: Subject,
    ) -> Result<T, PostError> {
        let asked = Instant::now();
        let deadline = asked + self.timeout;
        let of_experts = matches!(subject, Subject::Experts { .. });
        let address = (from, to, subject);
        let mut boxes = self.boxes();
        loop {
            if let Some(message) = boxes.waiting.remove(&address) {
                if of_experts {
                    boxes.mail.entry(to).or_default().waited_for_experts += asked.elapsed();
                }
                return Ok(*message
                    .downcast::<T>()
                    .expect("invariant: a subject says what its message is"));
            }
            if let Some(rank) = boxes.failed {
                return Err(PostError::Failed { rank });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (from, to, subject) = address;
                return Err(PostError::Late {
                    from,
                    to,
                    subject: subject.to_string(),
                    seconds: self.timeout.as_secs(),
                });
            }
            boxes =
                self.arrived.wait_timeout(boxes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What came of a rank's messages since its mail was last taken.
    pub fn mail(&self, rank: usize) -> Mail {
        self.boxes().mail.get(&rank).copied().unwrap_or_default()
    }

    /// What came of a rank's messages since the last call.
    pub fn take_mail(&self, rank: usize) -> Mail {
        self.boxes().mail.remove(&rank).unwrap_or_default()
    }

    /// Whether a message is there.
    pub fn has(&self, from: usize, to: usize, subject: &Subject) -> bool {
        self.boxes().waiting.contains_key(&(from, to, subject.clone()))
    }

    /// Says that a rank has failed: whoever waits, now or later, gets an error.
    pub fn fail(&self, rank: usize) {
        self.boxes().failed.get_or_insert(rank);
        self.arrived.notify_all();
    }

    /// The first rank that failed.
    pub fn failed(&self) -> Option<usize> {
        self.boxes().failed
    }

    fn boxes(&self) -> MutexGuard<'_, Boxes> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    impl Message for &'static str {
        fn bytes(&self) -> u64 {
            self.len() as u64
        }
    }

    impl Message for Vec<f32> {
        fn bytes(&self) -> u64 {
            4 * self.len() as u64
        }
    }

    impl Message for () {
        fn bytes(&self) -> u64 {
            0
        }
    }

    /// What a rank sends to itself crosses nothing; only rows of experts are told apart.
    #[test]
    fn mail_is_counted_by_rank() {
        let post = Post::new(Duration::from_secs(5));
        let rows = || Subject::Experts { micro_batch: 0, layer: 1, leg: Leg::Dispatch, hop: 1 };
        post.send(0, 1, subject(0), "four");
        post.send(0, 0, subject(1), "not counted");
        post.send(1, 0, rows(), vec![0.5f32; 3]);
        assert_eq!(post.receive::<&str>(0, 1, subject(0)), Ok("four"));
        assert_eq!(post.receive::<Vec<f32>>(1, 0, rows()), Ok(vec![0.5; 3]));
        assert_eq!(post.take_mail(1), Mail { sent_bytes: 12, ..Mail::default() });
        let mail = post.mail(0);
        assert!(mail.sent_bytes == 4 && mail.waited_for_experts < Duration::from_secs(1));
        assert_eq!((post.take_mail(0), post.mail(0)), (mail, Mail::default()));
        let tensor = burn::tensor::Tensor::<2>::zeros([3, 5], &burn::tensor::Device::flex());
        assert_eq!((tensor.bytes(), None::<Tensor<2>>.bytes()), (60, 0));
    }

    fn subject(micro_batch: usize) -> Subject {
        Subject::Activations { micro_batch, stage: 1 }
    }

    #[test]
    fn messages_are_found_by_their_subject_in_any_order() {
        let post = Post::new(Duration::from_secs(1));
        post.send(0, 1, subject(1), "b");
        post.send(0, 1, subject(0), "a");
        assert!(post.has(0, 1, &subject(1)));
        assert_eq!(post.receive::<&str>(0, 1, subject(0)), Ok("a"));
        assert_eq!(post.receive::<&str>(0, 1, subject(1)), Ok("b"));
        assert!(!post.has(0, 1, &subject(1)));
    }

    #[test]
    fn a_receiver_waits_for_a_sender_on_another_thread() {
        let post = Arc::new(Post::new(Duration::from_secs(10)));
        let sender = post.clone();
        let thread = std::thread::spawn(move || sender.send(2, 0, subject(7), vec![1.5f32]));
        assert_eq!(post.receive::<Vec<f32>>(2, 0, subject(7)), Ok(vec![1.5]));
        thread.join().unwrap();
    }

    #[test]
    fn who_did_not_send_is_named() {
        let post = Post::new(Duration::from_millis(20));
        let error = post.receive::<()>(3, 1, subject(4)).unwrap_err().to_string();
        assert_eq!(
            error,
            "rank 1 waited 0 s for rank 3: activations of micro-batch 4 for stage 1 did not come \
             (parallel.timeout_s)"
        );
    }

    #[test]
    fn a_failure_ends_every_wait() {
        let post = Arc::new(Post::new(Duration::from_secs(60)));
        let waiting = post.clone();
        let thread = std::thread::spawn(move || waiting.receive::<()>(0, 1, subject(0)));
        post.fail(2);
        assert_eq!(thread.join().unwrap(), Err(PostError::Failed { rank: 2 }));
    }
}
