//! Frames of the pool link: any bytes are a frame or an error, and a frame that was read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyworker_native::pool::frames::{ChildFrame, JobFrame};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(job) = JobFrame::decode(bytes) {
        let mut again = job.header().to_vec();
        for part in [job.headers, job.properties, job.body, job.content_type, job.content_encoding] {
            again.extend_from_slice(part);
        }
        assert_eq!(again.len(), job.len());
        assert!(bytes.starts_with(&again));
    }
    if let Ok(frame) = ChildFrame::decode(bytes) {
        let (header, length) = frame.header();
        let mut again = header[..length].to_vec();
        match frame {
            ChildFrame::Store { key, value, .. } => {
                again.extend_from_slice(key);
                again.extend_from_slice(value);
            }
            ChildFrame::Finish { text, .. } => again.extend_from_slice(text),
            ChildFrame::Flush { .. } => {}
        }
        // The second byte is read for less than it can hold: any but zero is a success, and a flush does not look at it.
        assert_eq!(bytes[0], again[0]);
        assert!(bytes[2..].starts_with(&again[2..]));
    }
});
