//! Messages between ranks: tensors under an address, fetched by whoever they are for.
//!
//! Between ranks of this process a tensor crosses devices by Burn's own copy
//! ([`Tensor::to_device`](burn::tensor::Tensor::to_device)), made by the sender; to a rank of
//! another process it goes as bytes, by a [`Carrier`]. Sending never waits, so no order of messages
//! can deadlock; a receiver that waits too long, or whose run has failed elsewhere, gets an error
//! that names the sender.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::Device;

use super::carrier::{Carrier, Letter};
use super::contents::{Contents, Reading};
use super::message::{Message, PostError};
use super::subject::Subject;
use crate::failure::Failure;

/// What a rank's messages came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// Bytes of tensors that it sent to others.
    pub sent_bytes: u64,
    /// How long it waited for rows of experts.
    pub waited_for_experts: Duration,
    /// The part of that in which another micro-batch of it computed.
    pub hidden: Duration,
}

/// A message that waits for whoever it is for.
enum Payload {
    /// Of a rank of this process.
    Here(Box<dyn Any + Send>),
    /// Of a rank of another process: what it says.
    Written(Contents),
}

type Address = (usize, usize, Subject);

struct Boxes {
    waiting: HashMap<Address, Payload>,
    failed: Option<usize>,
    last_sign: Instant,
    timeout: Duration,
    /// Ranks that wait for a message of a step.
    awaiting: usize,
    /// What came of the ranks' messages, by rank.
    mail: BTreeMap<usize, Mail>,
}

/// The post office of a run.
pub struct Post {
    boxes: Mutex<Boxes>,
    arrived: Condvar,
    /// What carries messages to other processes, once there are any.
    carrier: OnceLock<Arc<dyn Carrier>>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post({} waiting)", self.boxes().waiting.len())
    }
}

impl Post {
    /// A post office in which nothing is waited for longer than `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let boxes = Boxes {
            waiting: HashMap::new(),
            failed: None,
            last_sign: Instant::now(),
            timeout,
            awaiting: 0,
            mail: BTreeMap::new(),
        };
        Self { boxes: Mutex::new(boxes), arrived: Condvar::new(), carrier: OnceLock::new() }
    }

    /// Has messages to the ranks of other processes carried; of two carriers the first stays.
    pub fn carry_by(&self, carrier: Arc<dyn Carrier>) {
        let _ = self.carrier.set(carrier);
    }

    /// How long a message is waited for.
    pub fn timeout(&self) -> Duration {
        self.boxes().timeout
    }

    /// Waits so long for messages from now on.
    pub fn set_timeout(&self, timeout: Duration) {
        self.boxes().timeout = timeout;
    }

    /// The ranks of other processes that have not been heard of for so long.
    pub fn unheard(&self, patience: Duration) -> Vec<usize> {
        self.carrier.get().map_or_else(Vec::new, |carrier| carrier.unheard(patience))
    }

    /// Notes that some rank is alive; sending does so by itself.
    pub fn sign_of_life(&self) {
        self.boxes().last_sign = Instant::now();
    }

    /// Whether a rank of this process waits for a message of a step.
    pub fn is_awaiting(&self) -> bool {
        self.boxes().awaiting > 0
    }

    /// When a rank last gave a sign of life.
    pub fn last_sign(&self) -> Instant {
        self.boxes().last_sign
    }

    /// Whether no rank has given a sign of life for longer than a message is waited for (and a
    /// little more: who waits for a message tells more of what is wrong).
    pub fn is_silent(&self) -> bool {
        let boxes = self.boxes();
        boxes.last_sign.elapsed() > boxes.timeout + Duration::from_secs(2)
    }

    /// What is wrong with a rank that has given no sign of life for so long.
    pub fn silence(&self) -> Failure {
        let seconds = self.timeout().as_secs();
        Failure::new(format!("no sign of life for {seconds} s (parallel.timeout_s)"))
    }

    /// Counts bytes of tensors that a rank has sent otherwise than by messages.
    pub fn count_sent(&self, from: usize, bytes: u64) {
        self.boxes().mail.entry(from).or_default().sent_bytes += bytes;
    }

    /// Leaves a message for a rank, whose device is `device`.
    pub fn send<T: Message>(
        &self,
        from: usize,
        to: usize,
        subject: Subject,
        message: T,
        device: &Device,
    ) {
        let bytes = if from == to { 0 } else { message.bytes() };
        {
            let mut boxes = self.boxes();
            boxes.last_sign = Instant::now();
            boxes.mail.entry(from).or_default().sent_bytes += bytes;
        }
        match self.carrier_to(to) {
            Some(carrier) => {
                let mut contents = Contents::default();
                message.write(&mut contents);
                carrier.carry(Letter { from, to, subject, contents });
            }
            None => self.put((from, to, subject), Payload::Here(Box::new(message.moved(device)))),
        }
    }

    /// Leaves a message that has no tensors, and which is no part of a step: what is to be done, or
    /// what came of it.
    pub fn tell(&self, from: usize, to: usize, subject: Subject, bytes: Vec<u8>) {
        let contents = Contents { head: bytes, enclosed: Vec::new() };
        match self.carrier_to(to) {
            Some(carrier) => carrier.carry(Letter { from, to, subject, contents }),
            None => self.put((from, to, subject), Payload::Written(contents)),
        }
    }

    /// Takes in what another process has sent.
    pub fn deliver(&self, letter: Letter) {
        let Letter { from, to, subject, contents } = letter;
        self.sign_of_life();
        self.put((from, to, subject), Payload::Written(contents));
    }

    /// Takes a message, and waits for it; its tensors are on `device`, the receiver's.
    ///
    /// # Errors
    ///
    /// It did not come in time, or some rank has failed.
    pub fn receive<T: Message>(
        &self,
        from: usize,
        to: usize,
        subject: Subject,
        device: &Device,
    ) -> Result<T, PostError> {
        self.receive_timed(from, to, subject, device).map(|(message, _)| message)
    }

    /// Takes a message, and how long it was waited for.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn receive_timed<T: Message>(
        &self,
        from: usize,
        to: usize,
        subject: Subject,
        device: &Device,
    ) -> Result<(T, Duration), PostError> {
        let asked = Instant::now();
        let of_experts = matches!(subject, Subject::Experts { .. });
        let address = (from, to, subject);
        let payload = self.take(&address, Some(asked + self.timeout()))?;
        let waited = asked.elapsed();
        let message = match payload {
            Payload::Here(message) => {
                *message.downcast::<T>().expect("invariant: a subject says what its message is")
            }
            Payload::Written(Contents { head, enclosed }) => {
                let mut reading = Reading::new(&head, enclosed, device);
                let message = T::read(&mut reading).filter(|_| reading.is_over());
                message.ok_or_else(|| garbled(&address))?
            }
        };
        if of_experts {
            self.boxes().mail.entry(to).or_default().waited_for_experts += waited;
        }
        Ok((message, waited))
    }

    /// Notes how much of a rank's wait for rows of experts passed while it computed something else.
    pub fn note_hidden(&self, rank: usize, hidden: Duration) {
        self.boxes().mail.entry(rank).or_default().hidden += hidden;
    }

    /// Takes what a rank was [told](Self::tell), and waits for it as long as no rank has failed.
    ///
    /// # Errors
    ///
    /// Some rank has failed.
    pub fn hear(&self, from: usize, to: usize, subject: Subject) -> Result<Vec<u8>, PostError> {
        let address = (from, to, subject);
        match self.take(&address, None)? {
            Payload::Written(Contents { head, enclosed }) if enclosed.is_empty() => Ok(head),
            _ => Err(garbled(&address)),
        }
    }

    /// [`hear`](Self::hear), as long as there are signs of life: of this rank's or another one's.
    ///
    /// # Errors
    ///
    /// As `hear`; and [`PostError::Late`], where no rank has given a sign of life for as long as a
    /// message is waited for.
    pub fn hear_alive(
        &self,
        from: usize,
        to: usize,
        subject: Subject,
    ) -> Result<Vec<u8>, PostError> {
        let address = (from, to, subject);
        loop {
            {
                let boxes = self.boxes();
                if boxes.waiting.contains_key(&address) || boxes.failed.is_some() {
                    drop(boxes);
                    let (from, to, subject) = address;
                    return self.hear(from, to, subject);
                }
                let wait = Duration::from_millis(200);
                drop(
                    self.arrived.wait_timeout(boxes, wait).unwrap_or_else(PoisonError::into_inner),
                );
            }
            if self.is_silent() {
                return Err(late(&address, self.timeout()));
            }
        }
    }

    /// What carries messages to a rank; none where it is one of this process.
    fn carrier_to(&self, rank: usize) -> Option<&Arc<dyn Carrier>> {
        self.carrier.get().filter(|carrier| carrier.carries_to(rank))
    }

    fn put(&self, address: Address, payload: Payload) {
        let before = self.boxes().waiting.insert(address, payload);
        assert!(before.is_none(), "invariant: a subject is sent once a step");
        self.arrived.notify_all();
    }

    /// Takes a message, and waits for it until `deadline`, where there is one.
    fn take(&self, address: &Address, deadline: Option<Instant>) -> Result<Payload, PostError> {
        let mut boxes = self.boxes();
        loop {
            if let Some(payload) = boxes.waiting.remove(address) {
                return Ok(payload);
            }
            if let Some(rank) = boxes.failed {
                return Err(PostError::Failed { rank });
            }
            boxes = match deadline {
                None => self.arrived.wait(boxes).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(late(address, boxes.timeout));
                    }
                    boxes.awaiting += 1;
                    if boxes.awaiting == 1
                        && let Some(carrier) = self.carrier_to(address.0)
                    {
                        carrier.awaited();
                    }
                    let (mut boxes, _) = self
                        .arrived
                        .wait_timeout(boxes, left)
                        .unwrap_or_else(PoisonError::into_inner);
                    boxes.awaiting -= 1;
                    boxes
                }
            };
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

fn late((from, to, subject): &Address, waited: Duration) -> PostError {
    let (subject, seconds) = (subject.to_string(), waited.as_secs());
    PostError::Late { from: *from, to: *to, subject, seconds }
}

fn garbled((from, to, subject): &Address) -> PostError {
    PostError::Garbled { from: *from, to: *to, subject: subject.to_string() }
}

#[cfg(test)]
mod tests;
