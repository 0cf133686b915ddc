//! Whatever a server or somebody in between sends: no panic, no hang, no allocation beyond a multiple of the input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyworker_native::wire::amqp::{
    FieldTable, HEADER, METHOD, Reader, decode_frame, decode_header, decode_method, json_to_table, table_to_json,
};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((frame, used))) = decode_frame(rest, 131_072) {
        match frame.kind {
            METHOD => drop(decode_method(frame.payload)),
            HEADER => {
                if let Ok(header) = decode_header(frame.payload) {
                    let mut text = Vec::new();
                    let _ = header.properties.write_headers_json(&mut text);
                    header.properties.write_json_members(&mut text);
                }
            }
            _ => {}
        }
        rest = &rest[used..];
    }
    if let Ok(table) = FieldTable::decode(&mut Reader::new(bytes)) {
        let mut again = Vec::new();
        table.encode(&mut again);
        assert!(FieldTable::decode(&mut Reader::new(&again)).is_ok());
        let mut text = Vec::new();
        // What is too deep for one is too deep for the other.
        assert!(table_to_json(&again[4..], &mut text).is_ok());
    }
    let _ = json_to_table(bytes, &mut Vec::new());
});
