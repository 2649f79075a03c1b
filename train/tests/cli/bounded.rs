//! Commands that a test waits for, but not for ever.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The most that a command of a test may take. What takes a second alone takes a minute on a busy
/// machine; what has not ended after this hangs, and fails its test by name instead of holding up
/// all that come after it.
const LIMIT: Duration = Duration::from_secs(300);

/// A command that ends in time, or fails the test.
pub trait Bounded {
    /// Runs it as [`Command::output`] does.
    fn ended(&mut self) -> Output;
}

impl Bounded for Command {
    fn ended(&mut self) -> Output {
        self.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What it has started is killed with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(self, 0);
        let child = self.spawn().unwrap();
        wait(child, LIMIT, &format!("{self:?}"))
    }
}

/// What a process that was begun leaves behind, if it ends in time.
pub fn outcome(child: Child, what: &str) -> Output {
    wait(child, LIMIT, what)
}

/// What a process, of a group of its own or not, leaves behind, if it ends within a time.
fn wait(mut child: Child, limit: Duration, what: &str) -> Output {
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let ended = ends_within(&mut child, limit);
    if !ended {
        kill(&mut child);
    }
    let [stdout, stderr] = [stdout, stderr].map(|reader| reader.join().unwrap());
    if !ended {
        let [stdout, stderr] = [&stdout, &stderr].map(|text| String::from_utf8_lossy(text));
        panic!("{what} has not ended in {limit:?}\n-- stdout\n{stdout}\n-- stderr\n{stderr}");
    }
    Output { status: child.wait().unwrap(), stdout, stderr }
}

/// Whether a process ends within a time, for which it is waited.
pub fn ends_within(child: &mut Child, limit: Duration) -> bool {
    let began = Instant::now();
    let mut pause = Duration::from_micros(200);
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(5));
    }
    true
}

fn reader(mut pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.as_mut().map(|pipe| pipe.read_to_end(&mut bytes)).transpose().unwrap();
        bytes
    })
}

/// Ends a group: asked first, for a launcher ends its processes only then.
fn kill(child: &mut Child) {
    if cfg!(unix) {
        let group = child.id();
        let script = format!("kill -TERM -{group}; sleep 3; kill -KILL -{group}");
        let _ = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(unix)]
#[test]
fn a_command_that_hangs_fails_its_test_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("child");
    let mut hangs = Command::new("sh");
    hangs.args(["-c", "sleep 600 & echo $! > \"$FILE\"; echo said; wait"]).env("FILE", &file);
    hangs.stdout(Stdio::piped()).stderr(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut hangs, 0);
    let child = hangs.spawn().unwrap();
    let hung = std::panic::catch_unwind(move || wait(child, Duration::from_secs(1), "sh"));
    let said = *hung.unwrap_err().downcast::<String>().unwrap();
    assert!(said.contains("sh has not ended in 1s") && said.contains("said"), "{said}");
    let sleeper = std::fs::read_to_string(&file).unwrap();
    let alive = Command::new("kill").args(["-0", sleeper.trim()]).stderr(Stdio::null()).status();
    assert!(!alive.unwrap().success(), "its child lives");
}
