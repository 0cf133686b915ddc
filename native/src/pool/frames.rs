//! The frames of the pool link. Both sides are the same build, so there is no version and no padding.

use crate::error::{Error, ErrorKind, Result};

/// Flag of a job: the message was delivered before.
pub const FLAG_REDELIVERED: u32 = 1;
/// Flag of a job: its end is to come with the text of the result, or of the exception and its traceback.
pub const FLAG_RESULT_TEXT: u32 = 2;

/// A job as the engine sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobFrame<'a> {
    /// Number within the link, from 1.
    pub sequence: u64,
    /// Index of the registered task.
    pub task_index: u32,
    /// See `FLAG_*`.
    pub flags: u32,
    /// JSON object.
    pub headers: &'a [u8],
    /// JSON object.
    pub properties: &'a [u8],
    /// Body, base64 undone.
    pub body: &'a [u8],
    /// Content type.
    pub content_type: &'a [u8],
    /// Content encoding.
    pub content_encoding: &'a [u8],
}

/// Bytes of a job frame's fixed part.
pub const JOB_HEADER_LEN: usize = 36;

impl<'a> JobFrame<'a> {
    /// The fixed part; the variable parts follow in the order of the struct.
    #[must_use]
    pub fn header(&self) -> [u8; JOB_HEADER_LEN] {
        let mut bytes = [0; JOB_HEADER_LEN];
        bytes[0..8].copy_from_slice(&self.sequence.to_le_bytes());
        let words = [
            self.task_index,
            self.flags,
            self.headers.len() as u32,
            self.properties.len() as u32,
            self.body.len() as u32,
            self.content_type.len() as u32,
            self.content_encoding.len() as u32,
        ];
        for (index, word) in words.iter().enumerate() {
            bytes[8 + index * 4..12 + index * 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn len(&self) -> usize {
        JOB_HEADER_LEN
            + self.headers.len()
            + self.properties.len()
            + self.body.len()
            + self.content_type.len()
            + self.content_encoding.len()
    }

    /// Whether there is nothing but the fixed part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == JOB_HEADER_LEN
    }

    /// Reads a frame.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader { bytes };
        let sequence = reader.u64()?;
        let task_index = reader.u32()?;
        let flags = reader.u32()?;
        let lengths = [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?];
        Ok(Self {
            sequence,
            task_index,
            flags,
            headers: reader.take(lengths[0])?,
            properties: reader.take(lengths[1])?,
            body: reader.take(lengths[2])?,
            content_type: reader.take(lengths[3])?,
            content_encoding: reader.take(lengths[4])?,
        })
    }
}

/// How a job ended, as the child reports it. The numbers are `pyworker.worker.protocol.Outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Returned.
    Success,
    /// Raised.
    Failure,
    /// Asked to be retried.
    Retry,
    /// `Ignore`.
    Ignored,
    /// `Reject(requeue=False)`.
    Rejected,
    /// `Reject(requeue=True)`.
    RejectedRequeue,
    /// The tracer failed.
    InternalError,
    /// Headers or body could not be decoded.
    Undecodable,
}

impl Outcome {
    /// Every outcome, in the order of its number.
    pub const ALL: [Outcome; 8] = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Retry,
        Outcome::Ignored,
        Outcome::Rejected,
        Outcome::RejectedRequeue,
        Outcome::InternalError,
        Outcome::Undecodable,
    ];

    /// The outcome of a number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

/// What a child sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ChildFrame<'a> {
    /// A result write.
    Store {
        /// The job, 0 for another task's result.
        sequence: u64,
        /// The meta says SUCCESS.
        is_success: bool,
        /// Full key.
        key: &'a [u8],
        /// Encoded meta.
        value: &'a [u8],
    },
    /// A job ended.
    Finish {
        /// The job.
        sequence: u64,
        /// How.
        outcome: Outcome,
        /// Run time in seconds as the tracer measured it.
        runtime_s: f64,
        /// Repr of result or exception, may be empty.
        text: &'a [u8],
    },
    /// The child waits until all its writes before this are stored.
    Flush {
        /// Number of the request, from 1.
        number: u64,
    },
}

const KIND_STORE: u8 = 1;
const KIND_FINISH: u8 = 2;
const KIND_FLUSH: u8 = 3;

/// Bytes of the largest fixed part of a child frame.
pub const CHILD_HEADER_LEN: usize = 18;

impl<'a> ChildFrame<'a> {
    /// The fixed part and its length; the variable parts follow (key and value, or text).
    #[must_use]
    pub fn header(&self) -> ([u8; CHILD_HEADER_LEN], usize) {
        let mut bytes = [0; CHILD_HEADER_LEN];
        match *self {
            ChildFrame::Store { sequence, is_success, key, .. } => {
                bytes[0] = KIND_STORE;
                bytes[1] = u8::from(is_success);
                bytes[2..10].copy_from_slice(&sequence.to_le_bytes());
                bytes[10..14].copy_from_slice(&(key.len() as u32).to_le_bytes());
                (bytes, 14)
            }
            ChildFrame::Finish { sequence, outcome, runtime_s, .. } => {
                bytes[0] = KIND_FINISH;
                bytes[1] = outcome as u8;
                bytes[2..10].copy_from_slice(&sequence.to_le_bytes());
                bytes[10..18].copy_from_slice(&runtime_s.to_le_bytes());
                (bytes, 18)
            }
            ChildFrame::Flush { number } => {
                bytes[0] = KIND_FLUSH;
                bytes[2..10].copy_from_slice(&number.to_le_bytes());
                (bytes, 10)
            }
        }
    }

    /// Reads a frame.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader { bytes };
        let kind = reader.take(1)?[0];
        let detail = reader.take(1)?[0];
        let number = reader.u64()?;
        match kind {
            KIND_STORE => {
                let key_length = reader.u32()?;
                let key = reader.take(key_length)?;
                Ok(ChildFrame::Store { sequence: number, is_success: detail != 0, key, value: reader.bytes })
            }
            KIND_FINISH => {
                let runtime_s = f64::from_bits(reader.u64()?);
                let outcome = Outcome::from_number(u32::from(detail)).ok_or_else(damaged)?;
                Ok(ChildFrame::Finish { sequence: number, outcome, runtime_s, text: reader.bytes })
            }
            KIND_FLUSH => Ok(ChildFrame::Flush { number }),
            _ => Err(damaged()),
        }
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::Internal, "a pool link is damaged: frame cannot be read")
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: u32) -> Result<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(length as usize).ok_or_else(damaged)?;
        self.bytes = rest;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32> {
        let mut word = [0; 4];
        word.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(word))
    }

    fn u64(&mut self) -> Result<u64> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(word))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn outcome_numbers_are_positions() {
        for (number, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, number);
            assert_eq!(Outcome::from_number(number as u32), Some(*outcome));
        }
    }

    proptest! {
        #[test]
        fn a_job_survives_the_trip(sequence: u64, task_index: u32, headers: Vec<u8>, body: Vec<u8>, content_type in "[a-z/]{0,30}") {
            let job = JobFrame {
                sequence, task_index, flags: FLAG_REDELIVERED, headers: &headers, properties: b"{}", body: &body,
                content_type: content_type.as_bytes(), content_encoding: b"utf-8",
            };
            let mut bytes = job.header().to_vec();
            for part in [job.headers, job.properties, job.body, job.content_type, job.content_encoding] {
                bytes.extend_from_slice(part);
            }
            prop_assert_eq!(bytes.len(), job.len());
            prop_assert_eq!(JobFrame::decode(&bytes).unwrap(), job);
        }

        #[test]
        fn child_frames_survive_the_trip(sequence: u64, key: Vec<u8>, value: Vec<u8>, runtime_s in 0.0..1e9) {
            for frame in [
                ChildFrame::Store { sequence, is_success: true, key: &key, value: &value },
                ChildFrame::Finish { sequence, outcome: Outcome::Retry, runtime_s, text: &value },
                ChildFrame::Flush { number: sequence },
            ] {
                let (header, length) = frame.header();
                let mut bytes = header[..length].to_vec();
                match frame {
                    ChildFrame::Store { key, value, .. } => { bytes.extend_from_slice(key); bytes.extend_from_slice(value); }
                    ChildFrame::Finish { text, .. } => bytes.extend_from_slice(text),
                    ChildFrame::Flush { .. } => {}
                }
                prop_assert_eq!(ChildFrame::decode(&bytes).unwrap(), frame);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = JobFrame::decode(&bytes);
            let _ = ChildFrame::decode(&bytes);
        }
    }
}
