//! Messages between ranks of one process and of several.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::Tensor;

use super::*;
use crate::parallel::{Leg, Packed};

impl Message for String {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn moved(self, _: &Device) -> Self {
        self
    }

    fn write(self, into: &mut Contents) {
        self.pack(&mut into.head);
    }

    fn read(from: &mut Reading) -> Option<Self> {
        Self::unpack(&mut from.head)
    }
}

impl Message for Vec<f32> {
    fn bytes(&self) -> u64 {
        4 * self.len() as u64
    }

    fn moved(self, _: &Device) -> Self {
        self
    }

    fn write(self, into: &mut Contents) {
        self.pack(&mut into.head);
    }

    fn read(from: &mut Reading) -> Option<Self> {
        Self::unpack(&mut from.head)
    }
}

impl Message for () {
    fn bytes(&self) -> u64 {
        0
    }

    fn moved(self, _: &Device) -> Self {}

    fn write(self, _: &mut Contents) {}

    fn read(_: &mut Reading) -> Option<Self> {
        Some(())
    }
}

fn subject(micro_batch: usize) -> Subject {
    Subject::Activations { micro_batch, stage: 1 }
}

fn send<T: Message>(post: &Post, from: usize, to: usize, subject: Subject, message: T) {
    post.send(from, to, subject, message, &Device::flex());
}

fn receive<T: Message>(
    post: &Post,
    from: usize,
    to: usize,
    subject: Subject,
) -> Result<T, PostError> {
    post.receive(from, to, subject, &Device::flex())
}

/// What a rank sends to itself crosses nothing; only rows of experts are told apart.
#[test]
fn mail_is_counted_by_rank() {
    let post = Post::new(Duration::from_secs(5));
    let rows = || Subject::Experts { micro_batch: 0, layer: 1, leg: Leg::Dispatch, hop: 1 };
    send(&post, 0, 1, subject(0), "four".to_owned());
    send(&post, 0, 0, subject(1), "not counted".to_owned());
    send(&post, 1, 0, rows(), vec![0.5f32; 3]);
    assert_eq!(receive::<String>(&post, 0, 1, subject(0)).unwrap(), "four");
    assert_eq!(receive::<Vec<f32>>(&post, 1, 0, rows()), Ok(vec![0.5; 3]));
    assert_eq!(post.take_mail(1), Mail { sent_bytes: 12, ..Mail::default() });
    let mail = post.mail(0);
    assert!(mail.sent_bytes == 4 && mail.waited_for_experts < Duration::from_secs(1));
    assert_eq!((post.take_mail(0), post.mail(0)), (mail, Mail::default()));
    let tensor = Tensor::<2>::zeros([3, 5], &Device::flex());
    assert_eq!((tensor.bytes(), None::<Tensor<2>>.bytes()), (60, 0));
}

#[test]
fn messages_are_found_by_their_subject_in_any_order() {
    let post = Post::new(Duration::from_secs(1));
    send(&post, 0, 1, subject(1), "b".to_owned());
    send(&post, 0, 1, subject(0), "a".to_owned());
    assert!(post.has(0, 1, &subject(1)));
    assert_eq!(receive::<String>(&post, 0, 1, subject(0)).unwrap(), "a");
    assert_eq!(receive::<String>(&post, 0, 1, subject(1)).unwrap(), "b");
    assert!(!post.has(0, 1, &subject(1)));
}

#[test]
fn a_receiver_waits_for_a_sender_on_another_thread() {
    let post = Arc::new(Post::new(Duration::from_secs(10)));
    let sender = post.clone();
    let thread = std::thread::spawn(move || send(&sender, 2, 0, subject(7), vec![1.5f32]));
    assert_eq!(receive::<Vec<f32>>(&post, 2, 0, subject(7)), Ok(vec![1.5]));
    thread.join().unwrap();
}

#[test]
fn who_did_not_send_is_named() {
    let post = Post::new(Duration::from_millis(20));
    let error = receive::<()>(&post, 3, 1, subject(4)).unwrap_err().to_string();
    assert_eq!(
        error,
        "rank 1 waited 0 s for rank 3: activations of micro-batch 4 for stage 1 did not come \
         (parallel.timeout_s)"
    );
}

#[test]
fn a_failure_ends_every_wait() {
    let post = Arc::new(Post::new(Duration::from_secs(60)));
    let (waiting, hearing) = (post.clone(), post.clone());
    let thread = std::thread::spawn(move || receive::<()>(&waiting, 0, 1, subject(0)));
    let other = std::thread::spawn(move || hearing.hear(2, 0, Subject::Answer));
    post.fail(2);
    assert_eq!(thread.join().unwrap(), Err(PostError::Failed { rank: 2 }));
    assert_eq!(other.join().unwrap(), Err(PostError::Failed { rank: 2 }));
}

/// Two offices, each with one rank, that carry to each other at once.
#[derive(Debug)]
struct Across(Arc<Post>, usize);

impl Carrier for Across {
    fn carries_to(&self, rank: usize) -> bool {
        rank == self.1
    }

    fn carry(&self, letter: Letter) {
        self.0.deliver(letter);
    }

    fn unheard(&self, _: Duration) -> Vec<usize> {
        vec![self.1]
    }
}

#[test]
fn what_another_process_is_sent_arrives_as_it_was() {
    let offices = [0, 1].map(|_| Arc::new(Post::new(Duration::from_millis(200))));
    offices[0].carry_by(Arc::new(Across(offices[1].clone(), 1)));
    offices[1].carry_by(Arc::new(Across(offices[0].clone(), 0)));
    let device = Device::flex();
    let x = Tensor::<2>::from_data([[1.5, f32::NAN], [-0.0, 3.0]], &device);
    send(&offices[0], 0, 1, subject(0), Some(x.clone()));
    send(&offices[0], 0, 0, subject(1), "kept".to_owned());
    let got: Option<Tensor<2>> = receive(&offices[1], 0, 1, subject(0)).unwrap();
    let bits = |x: Tensor<2>| x.into_data().as_bytes().to_vec();
    assert_eq!(bits(got.unwrap()), bits(x));
    assert_eq!(receive::<String>(&offices[0], 0, 0, subject(1)).unwrap(), "kept");
    assert_eq!(offices[0].take_mail(0).sent_bytes, 16);

    offices[1].tell(1, 0, Subject::Answer, vec![1, 2]);
    assert_eq!(offices[0].hear(1, 0, Subject::Answer), Ok(vec![1, 2]));
    offices[1].tell(1, 0, Subject::Parameter(3), vec![9]);
    let error = receive::<Option<Tensor<1>>>(&offices[0], 1, 0, Subject::Parameter(3));
    assert_eq!(
        error.unwrap_err().to_string(),
        "rank 1 sent rank 0 something else than parameter 3"
    );
    assert_eq!(offices[0].unheard(Duration::ZERO), [1]);
}

/// Carries nothing, and counts how often somebody began to wait.
#[derive(Debug, Default)]
struct Awaited(AtomicUsize);

impl Carrier for Awaited {
    fn carries_to(&self, rank: usize) -> bool {
        rank == 1
    }

    fn carry(&self, _: Letter) {}

    fn awaited(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn unheard(&self, _: Duration) -> Vec<usize> {
        Vec::new()
    }
}

/// Or what has come is looked for when the carrier thinks of it next, while the rank has nothing to
/// compute.
#[test]
fn who_carries_is_told_that_a_message_of_another_process_is_waited_for() {
    let (post, awaited) = (Post::new(Duration::from_millis(20)), Arc::new(Awaited::default()));
    post.carry_by(awaited.clone());
    send(&post, 0, 0, subject(0), ());
    assert_eq!(receive::<()>(&post, 0, 0, subject(0)), Ok(()));
    assert!(receive::<()>(&post, 0, 0, subject(1)).is_err());
    assert_eq!(awaited.0.load(Ordering::SeqCst), 0, "nothing of another process was waited for");
    assert!(receive::<()>(&post, 1, 0, subject(1)).is_err());
    assert!(awaited.0.load(Ordering::SeqCst) > 0);
}
