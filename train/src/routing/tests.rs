//! Files of saved routings: what is written is read, whatever the micro-batches; what is damaged,
//! foreign or not there is refused by name; a resumed run goes on with its file.

use std::fs;
use std::path::{Path, PathBuf};

use burn_deepseek::routing::LayerRecord;
use proptest::prelude::*;

use super::*;
use crate::data::Window;
use crate::failure::{Blame, Blamed};

fn shape() -> RoutingShape {
    RoutingShape { hidden_layers: 3, layers: vec![1, 2, 3], experts: 5, chosen: 2 }
}

/// Windows of `seq_len + 1` tokens that say their own number.
fn windows(first: u64, count: usize, seq_len: usize) -> Vec<Window> {
    let window = |sample: u64| Window {
        tokens: (0..=seq_len as u32).map(|token| token + 100 * sample as u32).collect(),
        sample,
    };
    (first..first + count as u64).map(window).collect()
}

/// Some choice that a token's place decides.
fn chosen(shape: &RoutingShape, layer: usize, sample: u64, token: usize) -> [u32; 2] {
    let first = (layer + sample as usize + token) % (shape.experts - 1);
    [first as u32, shape.experts as u32 - 1]
}

fn records(
    shape: &RoutingShape,
    windows: &[Window],
    seq_len: usize,
    mtp: bool,
) -> Vec<LayerRecord> {
    let layers = shape.layers.iter().take(shape.layers_run(seq_len, mtp));
    let record = |&layer: &usize| {
        let seq = shape.tokens_of(layer, seq_len);
        let tokens = windows.iter().flat_map(|window| (0..seq).map(|token| (window.sample, token)));
        let chosen =
            tokens.flat_map(|(sample, token)| chosen(shape, layer, sample, token)).collect();
        LayerRecord { layer, batch: windows.len(), seq, chosen, detail: None }
    };
    layers.map(record).collect()
}

fn write(writer: &mut RoutingWriter, shape: &RoutingShape, place: Place, windows: &[Window]) {
    let seq_len = windows[0].tokens.len() - 1;
    writer.write(place, windows, seq_len, &records(shape, windows, seq_len, true)).unwrap();
}

/// Three steps of four samples in micro-batches of two, evaluations after steps 2 and 3.
fn saved(folder: &Path) -> PathBuf {
    let path = folder.join("run.routing");
    let at = WriteAt { step: 0, samples: 0 };
    let mut writer = RoutingWriter::of_run(&path, &shape(), at).unwrap();
    for step in 1..=3 {
        for half in 0..2 {
            let first = 4 * (step - 1) + 2 * half;
            write(&mut writer, &shape(), Place::training(step), &windows(first, 2, 6));
        }
        if step > 1 {
            write(&mut writer, &shape(), Place::evaluation(step), &windows(0, 3, 6));
        }
    }
    writer.finish().unwrap();
    path
}

fn open(path: &Path) -> Result<SavedRouting, RoutingFileError> {
    SavedRouting::open(path, &shape(), MadeBy::Train)
}

proptest! {
    /// Whatever the sizes, and however windows are put together when they are read.
    #[test]
    fn what_is_written_is_read(
        experts in prop_oneof![2usize..6, 255usize..260, 1000usize..1002],
        seq_len in 1usize..9,
        sizes in prop::collection::vec(1usize..4, 1..5),
        again in 1usize..5,
        mtp: bool,
    ) {
        let shape = RoutingShape { experts, ..shape() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut writer = RoutingWriter::create(&path, &shape, MadeBy::Eval).unwrap();
        let (mut first, place) = (0, Place::evaluation(0));
        for size in sizes {
            let batch = windows(first, size, seq_len);
            let records = records(&shape, &batch, seq_len, mtp);
            writer.write(place, &batch, seq_len, &records).unwrap();
            first += size as u64;
        }
        prop_assert!(!path.exists(), "a file is there when it is whole");
        prop_assert_eq!(writer.finish().unwrap(), fs::metadata(&path).unwrap().len());
        let mut saved = SavedRouting::open(&path, &shape, MadeBy::Eval).unwrap();
        for batch in windows(0, first as usize, seq_len).chunks(again) {
            let choices = saved.choices(place, batch, seq_len, mtp).unwrap();
            for record in records(&shape, batch, seq_len, mtp) {
                prop_assert_eq!(choices.of_layer(record.layer), Some(&record.chosen[..]));
            }
        }
    }

    /// No byte of a file can change unnoticed, and none can be missing from its end.
    #[test]
    fn damage_is_refused_when_a_file_is_opened(at in 0usize..10_000, bit in 0u32..8, cut: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path());
        let mut bytes = fs::read(&path).unwrap();
        let whole = bytes.len();
        let at = at % whole;
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        fs::write(&path, &bytes).unwrap();
        match open(&path) {
            // A file that ends where a chunk does may be one that a run was stopped at.
            Ok(saved) => {
                let short = saved.check_samples(0, 12).is_err() || at + 250 > whole;
                prop_assert!(cut && short);
            }
            Err(error) => {
                prop_assert_eq!(error.blame(), Blame::User);
                prop_assert!(error.to_string().contains("run.routing"), "{}", error);
            }
        }
    }
}

#[test]
fn what_is_not_in_a_file_is_said_with_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut saved = open(&saved(folder.path())).unwrap();
    let mut refused = |place, windows: &[Window], seq_len| {
        saved.choices(place, windows, seq_len, true).unwrap_err().to_string()
    };
    let past = refused(Place::training(4), &windows(12, 1, 6), 6);
    assert!(
        past.contains("no routing of sample 12 (step 4); it has samples 0 to 11 (steps 1 to 3)"),
        "{past}"
    );
    let early = refused(Place::evaluation(1), &windows(0, 1, 6), 6);
    assert!(
        early.contains("window 0 of the evaluation after step 1; it has evaluations after steps 2"),
        "{early}"
    );
    let further = refused(Place::evaluation(2), &windows(3, 1, 6), 6);
    assert!(further.contains("window 3 of the evaluation after step 2"), "{further}");
    let mut other = windows(5, 1, 6);
    other[0].tokens[6] += 1;
    let other = refused(Place::training(2), &other, 6);
    assert!(other.contains("sample 5 (step 2) was saved of other tokens"), "{other}");
    let longer = refused(Place::training(2), &windows(5, 1, 7), 7);
    assert!(longer.contains("sample 5 (step 2) has 6 tokens there and 7 here"), "{longer}");
    assert!(saved.check_samples(3, 9).is_ok());
    let many = saved.check_samples(3, 10).unwrap_err().to_string();
    assert!(many.contains("no routing of sample 12"), "{many}");
}

#[test]
fn an_mtp_module_that_did_not_run_has_no_choices() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut writer = RoutingWriter::create(&path, &shape(), MadeBy::Train).unwrap();
    let (batch, place) = (windows(0, 2, 6), Place::training(1));
    writer.write(place, &batch, 6, &records(&shape(), &batch, 6, false)).unwrap();
    writer.finish().unwrap();
    let mut saved = open(&path).unwrap();
    assert!(saved.choices(place, &batch, 6, false).unwrap().of_layer(3).is_none());
    let error = saved.choices(place, &batch, 6, true).unwrap_err().to_string();
    assert!(error.contains("no choices of layer 3"), "{error}");
}

#[test]
fn files_of_something_else_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let refused = |path: &Path, shape: &RoutingShape, made_by| {
        let error = SavedRouting::open(path, shape, made_by).unwrap_err();
        assert_eq!(error.blame(), Blame::User);
        error.to_string()
    };
    let other = RoutingShape { experts: 6, ..shape() };
    let error = refused(&path, &other, MadeBy::Train);
    assert!(
        error
            .contains("another model (2 of 5 experts in layers 1, 2, 3 of 3); this one has 2 of 6"),
        "{error}"
    );
    let error = refused(&path, &shape(), MadeBy::Eval);
    assert!(error.contains("saved by `train --save-routing`"), "{error}");
    assert!(error.contains("`eval --save-routing`"), "{error}");
    let absent = folder.path().join("absent");
    assert!(refused(&absent, &shape(), MadeBy::Train).contains("absent: no such file"));
    assert!(refused(folder.path(), &shape(), MadeBy::Train).contains("a folder"));
    let text = folder.path().join("text");
    fs::write(&text, "a text that is longer than the start of a file").unwrap();
    assert!(refused(&text, &shape(), MadeBy::Train).contains("not a file of saved routings"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    fs::write(&text, &bytes).unwrap();
    assert!(refused(&text, &shape(), MadeBy::Train).contains("of version 9"));
}

/// A head that claims to be large allocates nothing.
#[test]
fn impossible_sizes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    let header = u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[12 + i])) as usize;
    let head = &mut bytes[20 + header..][..chunk::HEAD_BYTES];
    head[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    let crc32 = crc32fast::hash(&head[4..]);
    head[..4].copy_from_slice(&crc32.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert!(error.contains("sizes are impossible"), "{error}");
}

/// A run that was stopped anywhere goes on with its file, which then is that of a run that was not.
#[test]
fn a_resumed_run_goes_on_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(folder.path());
    let whole = fs::read(&path).unwrap();
    for (step, samples) in [(1, 4), (2, 8), (3, 12)] {
        // Killed while it wrote: the beginning of a chunk stands at the end.
        fs::write(&path, [&whole[..], &whole[..30]].concat()).unwrap();
        let at = WriteAt { step, samples };
        let mut writer = RoutingWriter::of_run(&path, &shape(), at).unwrap();
        // What the step owed is made again where it was not recorded.
        if step > 1 {
            write(&mut writer, &shape(), Place::evaluation(step), &windows(0, 3, 6));
        }
        for step in step + 1..=3 {
            for half in 0..2 {
                let first = 4 * (step - 1) + 2 * half;
                write(&mut writer, &shape(), Place::training(step), &windows(first, 2, 6));
            }
            write(&mut writer, &shape(), Place::evaluation(step), &windows(0, 3, 6));
        }
        writer.finish().unwrap();
        assert!(fs::read(&path).unwrap() == whole, "after step {step}");
    }
    let gap = WriteAt { step: 4, samples: 16 };
    let error = RoutingWriter::of_run(&path, &shape(), gap).unwrap_err().to_string();
    assert!(error.contains("its last sample is 11, and the run goes on with sample 16"), "{error}");
    let other = RoutingShape { experts: 6, ..shape() };
    let at = WriteAt { step: 3, samples: 12 };
    assert!(RoutingWriter::of_run(&path, &other, at).is_err());
    assert!(fs::read(&path).unwrap() == whole, "what is refused is left alone");
}

/// A file that is not finished leaves nothing, and the one that was there stays.
#[test]
fn an_unfinished_file_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "before").unwrap();
    let writer = RoutingWriter::create(&path, &shape(), MadeBy::Eval).unwrap();
    drop(writer);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
