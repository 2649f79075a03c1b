//! A reader of event files that owes nothing to the writer: frames with their checksums, and the
//! messages by the numbers that TensorBoard's `.proto` files give.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost::Message;

/// CRC32C, bit by bit, masked.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[derive(Clone, PartialEq, Message)]
pub struct Event {
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    pub session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    #[prost(int32, tag = "1")]
    pub status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
    #[prost(message, optional, tag = "5")]
    pub histo: Option<Histogram>,
    #[prost(message, optional, tag = "8")]
    pub tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(double, tag = "3")]
    pub num: f64,
    #[prost(double, repeated, tag = "6")]
    pub bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub bucket: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub string_val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PluginData {
    #[prost(string, tag = "1")]
    pub plugin_name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
}

/// The events of the one event file in a folder; every checksum holds, and nothing is left over.
pub fn events(folder: &Path) -> Vec<Event> {
    let bytes = fs::read(only_file(folder)).unwrap();
    let (mut rest, mut events) = (&bytes[..], Vec::new());
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(number(&rest[8..12]), checksum(&rest[..8]), "of a length");
        let message = &rest[12..12 + length];
        assert_eq!(number(&rest[12 + length..16 + length]), checksum(message), "of a message");
        events.push(Event::decode(message).unwrap());
        rest = &rest[16 + length..];
    }
    events
}

/// The path of the only file in a folder that is not empty.
pub fn only_file(folder: &Path) -> std::path::PathBuf {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).collect();
    entries.retain(|entry| entry.metadata().unwrap().len() > 0);
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.pop().unwrap().path()
}

/// Values by tag and step.
pub type Found<T> = BTreeMap<(String, i64), T>;

/// What the events of a file say.
#[derive(Debug, Default)]
pub struct Contents {
    pub scalars: Found<f32>,
    pub histograms: Found<Histogram>,
    pub texts: Found<String>,
    pub plugins: BTreeMap<String, Vec<u8>>,
    /// Time of the last event of each step.
    pub times: BTreeMap<i64, f64>,
}

pub fn contents(events: &[Event]) -> Contents {
    let mut found = Contents::default();
    for event in events {
        found.times.insert(event.step, event.wall_time);
        for value in event.summary.iter().flat_map(|summary| &summary.value) {
            let place = (value.tag.clone(), event.step);
            let plugin = value.metadata.as_ref().and_then(|found| found.plugin_data.as_ref());
            match (value.simple_value, &value.histo, &value.tensor, plugin) {
                (Some(number), None, None, None) => {
                    assert_eq!(found.scalars.insert(place, number), None, "twice: {value:?}");
                }
                (None, Some(histogram), None, None) => {
                    found.histograms.insert(place, histogram.clone());
                }
                (None, None, Some(tensor), Some(plugin)) if plugin.plugin_name == "text" => {
                    assert_eq!(tensor.dtype, 7, "DT_STRING");
                    let text = String::from_utf8(tensor.string_val[0].clone()).unwrap();
                    found.texts.insert(place, text);
                }
                (None, None, Some(_), Some(plugin)) => {
                    assert_eq!(plugin.plugin_name, "hparams");
                    found.plugins.insert(value.tag.clone(), plugin.content.clone());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    found
}
