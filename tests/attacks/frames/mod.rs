//! Mutated messages to a running worker: those of a real training, recorded on their way, of which
//! one is changed. The worker stays up, small, and serves the next training.

mod recorded;
mod worker;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::mutation::{Draw, Form, draw_of, mutated};
use crate::options::Frames;
use crate::program::MUCH_BYTES;
use recorded::{Message, Session, record};
use worker::Worker;

/// Messages that are sent before the one that is changed, at most.
const BEFORE: usize = 6;
/// Connections between two looks at the worker.
const LOOK_EVERY: u64 = 250;
/// What a socket of ours waits for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Descriptors that a worker may have more than at first.
const DESCRIPTORS: usize = 32;

/// Sends so many; how much was found.
pub fn run(options: &Frames) -> Result<usize> {
    let scratch = tempfile::tempdir()?;
    let worker = Worker::start(scratch.path())?;
    let sessions = record(&worker, scratch.path())?;
    println!("{} sessions, messages: {:?}", sessions.len(), lengths(&sessions));
    std::thread::sleep(Duration::from_secs(2));
    let (before, started) = (worker.descriptors()?, Instant::now());
    let mut found = BTreeSet::new();
    for index in 0..options.count {
        let mut draw = draw_of(options.seed, "frames", index);
        attack(&worker, &sessions, &mut draw);
        if index % LOOK_EVERY == LOOK_EVERY - 1
            && let Some(end) = worker.end()?
        {
            found.insert(format!("by connection {index}: {end}"));
            break;
        }
    }
    // Sessions take a moment to end.
    let settled = Instant::now() + Duration::from_secs(20);
    while worker.descriptors().unwrap_or(0) > before + DESCRIPTORS && Instant::now() < settled {
        std::thread::sleep(Duration::from_millis(200));
    }
    found.extend(worker.panics());
    if worker.end()?.is_none() {
        let after = worker.descriptors()?;
        if after > before + DESCRIPTORS {
            found.insert(format!("{after} descriptors are open, {before} were at first"));
        }
        let peak = worker.peak_bytes();
        if peak > MUCH_BYTES {
            found.insert(format!("it took {} MB", peak >> 20));
        }
        if let Err(error) = worker.serves(scratch.path()) {
            found.insert(format!("the next training: {error:#}"));
        }
    }
    for fault in &found {
        println!("found: worker: {}", fault.escape_debug());
    }
    println!(
        "{} connections, seed {}, peak {} MB, {:.0} s",
        options.count,
        options.seed,
        worker.peak_bytes() >> 20,
        started.elapsed().as_secs_f64()
    );
    Ok(found.len())
}

fn lengths(sessions: &[Session]) -> Vec<(usize, usize)> {
    let bytes = |session: &Session| session.messages.iter().map(|m| m.payload.len()).sum();
    sessions.iter().map(|session| (session.messages.len(), bytes(session))).collect()
}

/// One connection; that the worker ends it is its right.
fn attack(worker: &Worker, sessions: &[Session], draw: &mut Draw) {
    let _ = attacked(worker, sessions, draw);
}

fn attacked(worker: &Worker, sessions: &[Session], draw: &mut Draw) -> Result<()> {
    let session = sessions.choose(draw).context("a training has sessions")?;
    let mut stream = TcpStream::connect_timeout(&worker.address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let head = session.head_for(&worker.address.to_string());
    if draw.random_ratio(1, 10) {
        stream.write_all(&mutated(Form::Bytes, &[head.into_bytes()], draw))?;
        let _ = stream.read(&mut [0; 64]);
        return Ok(());
    }
    stream.write_all(head.as_bytes())?;
    read_head(&mut stream)?;
    let last = session.messages.len().min(BEFORE);
    // Mostly the first, which is read before anything is known of who sends it.
    let chosen = if draw.random() { 0 } else { draw.random_range(0..last.max(1)) };
    for message in session.messages.iter().take(chosen) {
        stream.write_all(&message.framed(draw.random()))?;
    }
    let Some(message) = session.messages.get(chosen) else { return Ok(()) };
    let other = sessions.choose(draw).and_then(|other| other.messages.choose(draw));
    let seeds = [&message.payload, &other.unwrap_or(message).payload];
    let seeds: Vec<Vec<u8>> =
        seeds.iter().map(|bytes| bytes[..bytes.len().min(4_000)].to_vec()).collect();
    let changed = Message { payload: mutated(Form::Bytes, &seeds[..1], draw), ..message.clone() };
    let mut frame = changed.framed(draw.random());
    if draw.random_ratio(1, 5) {
        // Its first bytes say what it is and how long.
        let at = draw.random_range(0..frame.len().min(10));
        frame[at] = [0, 0x7e, 0x7f, 0xfe, 0xff, draw.random()][draw.random_range(0..6)];
    }
    stream.write_all(&frame)?;
    match draw.random_range(0..3) {
        0 => stream.shutdown(Shutdown::Write)?,
        1 => {}
        _ => {
            stream.set_read_timeout(Some(Duration::from_millis(20)))?;
            let _ = stream.read(&mut [0; 256]);
        }
    }
    Ok(())
}

/// Reads the answer to a handshake.
fn read_head(stream: &mut TcpStream) -> Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(())
}
