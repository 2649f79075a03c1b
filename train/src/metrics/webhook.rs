//! Alerts posted to an address that the user names, by a thread of its own: the run never waits for
//! it and never fails because of it.

use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::time::Duration;

use serde_json::json;
use ureq::Agent;
use ureq::http::Uri;

use super::Notes;
use crate::config::told_address;
use crate::failure::{Context, Result};
use crate::record::AlertLine;

/// Alerts that wait to be posted at most; others are dropped.
const WAITING: usize = 64;
/// What a post may take, from the look-up of the name to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is waited for at the end of a run, where alerts are still to be posted.
const GRACE: Duration = Duration::from_secs(3);

/// Posts alerts. When it is dropped, the last ones are waited for, but not long.
#[derive(Debug)]
pub struct Webhook {
    run: String,
    queue: Option<SyncSender<String>>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
    notes: Notes,
    /// As it may be told: without path, query or user.
    name: String,
    dropped: bool,
}

impl Webhook {
    /// Posts alerts of the run of this name to `address`; what goes wrong is said in `notes`, once.
    ///
    /// # Errors
    /// No address of http or https; no thread can be started.
    pub fn start(address: &str, run: &str, notes: Notes) -> Result<Self> {
        let uri: Uri = address.parse().ok().context("alerts.webhook is no address")?;
        let name = told_address(&uri);
        let (queue, waiting) = sync_channel::<String>(WAITING);
        let (alive, ended) = channel::<()>();
        let (notes_of_thread, name_of_thread) = (notes.clone(), name.clone());
        let work = move || {
            let _alive = alive;
            post_all(&waiting, &uri, &name_of_thread, &notes_of_thread);
        };
        std::thread::Builder::new()
            .name("webhook".into())
            .spawn(work)
            .context("alerts cannot be posted")?;
        Ok(Self { run: run.into(), queue: Some(queue), ended, notes, name, dropped: false })
    }

    /// Has an alert posted; never waits.
    pub fn post(&mut self, alert: &AlertLine) {
        let Some(queue) = &self.queue else { return };
        let full = matches!(queue.try_send(body(&self.run, alert)), Err(TrySendError::Full(_)));
        if full && !self.dropped {
            self.dropped = true;
            self.notes.say(format!("webhook {}: it is too slow: alerts are left out", self.name));
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.queue = None; // ends the thread's loop, once all are posted
        if self.ended.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
            self.notes
                .say(format!("webhook {}: the last alerts were not posted in time", self.name));
        }
    }
}

/// What is posted of an alert: its keys, and a sentence under the names that chat rooms want it.
fn body(run: &str, alert: &AlertLine) -> String {
    let AlertLine { stamp, level, rule, message, value, threshold } = alert;
    let text = format!("{run}: {}: step {}: {message}", level.name(), stamp.step);
    json!({
        "run": run,
        "time": stamp.time,
        "step": stamp.step,
        "tokens": stamp.tokens,
        "level": level,
        "rule": rule,
        "message": message,
        "value": value,
        "threshold": threshold,
        "text": text,
        "content": text,
    })
    .to_string()
}

/// Posts what comes, one after the other, until nothing can come any more.
fn post_all(waiting: &Receiver<String>, uri: &Uri, name: &str, notes: &Notes) {
    // No other host than that of the address is asked: no proxy of the environment, no redirect.
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .http_status_as_error(false)
        .user_agent(concat!("deepseek/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut failed = false;
    while let Ok(body) = waiting.recv() {
        let answer = agent.post(uri.clone()).content_type("application/json").send(body);
        let problem = match answer {
            Ok(answer) if answer.status().is_success() => continue,
            Ok(answer) => format!("it answered {}", answer.status()),
            Err(ureq::Error::Timeout(_)) => "it did not answer in time".into(),
            Err(ureq::Error::Io(error)) => error.kind().to_string(),
            Err(ureq::Error::HostNotFound) => "its host is not known".into(),
            Err(ureq::Error::ConnectionFailed) => "there is no connection to it".into(),
            Err(ureq::Error::Rustls(error)) => format!("no TLS with it: {error}"),
            // In words of ours: another error's could have the whole address.
            Err(_) => "it cannot be posted to".into(),
        };
        if !failed {
            failed = true;
            notes.say(format!(
                "webhook {name}: {problem}: alerts are in the record (this is told once)"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use serde_json::Value;

    use super::*;
    use crate::record::{AlertLevel, Stamp};

    fn alert(step: u64) -> AlertLine {
        AlertLine {
            stamp: Stamp { step, ..Stamp::default() },
            level: AlertLevel::Warning,
            rule: "loss_spike".into(),
            message: "the loss is 9".into(),
            value: 9.0,
            threshold: f64::INFINITY,
        }
    }

    fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hook/s3cret?key=t0ken", listener.local_addr().unwrap());
        (listener, address)
    }

    /// The first line, the headers and the body of a request.
    fn request(stream: &TcpStream) -> (String, String, Value) {
        let mut reader = BufReader::new(stream);
        let (mut first, mut headers, mut length) = (String::new(), String::new(), 0);
        reader.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            headers += &(line + "\n");
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        (first, headers, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn each_alert_is_one_object() {
        let (listener, address) = listener();
        let server = std::thread::spawn(move || {
            let mut bodies = Vec::new();
            while bodies.len() < 2 {
                let (mut stream, _) = listener.accept().unwrap();
                let (first, headers, body) = request(&stream);
                assert!(first.starts_with("POST /hook/s3cret?key=t0ken HTTP/1.1"), "{first}");
                assert!(headers.contains("content-type: application/json\n"), "{headers}");
                bodies.push(body);
                let answer = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
                stream.write_all(answer.as_bytes()).unwrap();
            }
            bodies
        });
        let notes = Notes::default();
        let mut webhook = Webhook::start(&address, "tiny-001", notes.clone()).unwrap();
        webhook.post(&alert(7));
        webhook.post(&alert(8));
        drop(webhook);
        let bodies = server.join().unwrap();
        assert_eq!([&bodies[0]["step"], &bodies[1]["step"]], [7, 8]);
        let expected = "tiny-001: warning: step 7: the loss is 9";
        assert_eq!([&bodies[0]["text"], &bodies[0]["content"]], [expected, expected]);
        assert_eq!([&bodies[0]["rule"], &bodies[0]["run"]], ["loss_spike", "tiny-001"]);
        assert_eq!((&bodies[0]["threshold"], &bodies[0]["value"]), (&Value::Null, &json!(9.0)));
        assert!(notes.take().is_empty());
    }

    /// Nobody listens, or somebody who answers otherwise: it is told once, without what is secret.
    #[test]
    fn a_failure_is_told_once() {
        let (dead, address) = listener();
        drop(dead);
        let notes = Notes::default();
        let mut webhook = Webhook::start(&address, "tiny-001", notes.clone()).unwrap();
        (0..3).for_each(|step| webhook.post(&alert(step)));
        drop(webhook);
        let told: Vec<String> = notes.take().into_iter().map(|note| note.text).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("webhook http://127.0.0.1:"), "{told:?}");
        assert!(told[0].contains("connection refused"), "{told:?}");
        assert!(!told[0].contains("s3cret") && !told[0].contains("t0ken"), "{told:?}");

        let (listener, address) = listener();
        let (elsewhere, other) = self::listener();
        elsewhere.set_nonblocking(true).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            request(&stream);
            let answer = format!(
                "HTTP/1.1 302 Found\r\nLocation: {other}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let mut webhook = Webhook::start(&address, "tiny-001", notes.clone()).unwrap();
        webhook.post(&alert(1));
        drop(webhook);
        server.join().unwrap();
        let told: Vec<String> = notes.take().into_iter().map(|note| note.text).collect();
        assert!(told.len() == 1 && told[0].contains("it answered 302 Found"), "{told:?}");
        assert!(elsewhere.accept().is_err(), "a redirect is not followed");
    }

    /// Somebody who takes a connection and says nothing delays nobody for longer than the grace.
    #[test]
    fn one_that_stalls_is_left() {
        let (_listener, address) = listener();
        let notes = Notes::default();
        let begun = Instant::now();
        let mut webhook = Webhook::start(&address, "tiny-001", notes.clone()).unwrap();
        (0..3 * WAITING as u64).for_each(|step| webhook.post(&alert(step)));
        assert!(begun.elapsed() < Duration::from_secs(1), "posting does not wait");
        drop(webhook);
        assert!(begun.elapsed() < GRACE + Duration::from_secs(2));
        let told: Vec<String> = notes.take().into_iter().map(|note| note.text).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].ends_with("it is too slow: alerts are left out"), "{told:?}");
        assert!(told[1].ends_with("the last alerts were not posted in time"), "{told:?}");
    }
}
