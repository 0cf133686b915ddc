//! Raw bytes and properties of the whole layer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

fn value() -> impl Strategy<Value = FieldValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i64>().prop_map(FieldValue::Integer),
        any::<f64>().prop_filter("comparable", |value| !value.is_nan()).prop_map(FieldValue::Float),
        (any::<u8>(), any::<i32>()).prop_map(|(scale, unscaled)| FieldValue::Decimal(scale, unscaled)),
        ".{0,40}".prop_map(|text| FieldValue::Text(text.into_bytes())),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(FieldValue::Bytes),
        any::<u64>().prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(FieldValue::Array),
            table_of(inner).prop_map(FieldValue::Table),
        ]
    })
}

fn table_of(inner: impl Strategy<Value = FieldValue>) -> impl Strategy<Value = FieldTable> {
    proptest::collection::vec(("[a-z\\-]{1,20}", inner), 0..6)
        .prop_map(|pairs| FieldTable(pairs.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect()))
}

proptest! {
    #[test]
    fn tables_survive_the_wire(table in table_of(value())) {
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(FieldTable::decode(&mut reader).unwrap(), table);
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn every_table_has_a_form_in_json(table in table_of(value())) {
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        let mut text = Vec::new();
        table_to_json(&bytes[4..], &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        // Infinities are Python's, not JSON's.
        if !text.contains("Infinity") {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn json_survives_the_way_through_a_table(values in proptest::collection::vec((any::<i64>(), ".{0,30}", any::<bool>()), 0..8)) {
        let object: serde_json::Map<_, _> = values
            .iter()
            .enumerate()
            .map(|(nth, (number, text, flag))| (format!("k{nth}"), serde_json::json!([number, text, flag, null, {"t": text}])))
            .collect();
        let text = serde_json::Value::Object(object.clone()).to_string();
        let mut table = Vec::new();
        json_to_table(text.as_bytes(), &mut table).unwrap();
        let mut back = Vec::new();
        table_to_json(&table[4..], &mut back).unwrap();
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&back).unwrap(), serde_json::Value::Object(object));
    }

    #[test]
    fn nothing_that_comes_makes_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some((_, used))) = decode_frame(&bytes, 0) {
            prop_assert!(used <= bytes.len());
        }
        let _ = decode_method(&bytes);
        let _ = decode_header(&bytes);
        let _ = FieldTable::decode(&mut Reader::new(&bytes));
        let _ = table_to_json(&bytes, &mut Vec::new());
        let _ = json_to_table(&bytes, &mut Vec::new());
    }

    #[test]
    fn a_published_message_is_read_as_it_was_written(
        body in proptest::collection::vec(any::<u8>(), 0..10_000), priority in any::<Option<u8>>(), reply_to in "[a-z]{0,40}",
    ) {
        let properties = Properties {
            content_type: Some(b"application/json"), priority, reply_to: Some(reply_to.as_bytes()), timestamp: Some(7),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let publish =
            Publish { exchange: "", routing_key: "q", mandatory: true, properties: &encoded, body: &body };
        let mut bytes = Vec::new();
        write_publish(&mut bytes, 3, 4096, &publish);
        let mut rest = bytes.as_slice();
        let mut kinds = Vec::new();
        let mut read = Vec::new();
        while let Some((frame, used)) = decode_frame(rest, 4096).unwrap() {
            prop_assert_eq!(frame.channel, 3);
            kinds.push(frame.kind);
            match frame.kind {
                HEADER => {
                    let header = decode_header(frame.payload).unwrap();
                    prop_assert_eq!(header.body_size, body.len() as u64);
                    prop_assert_eq!(header.properties, properties);
                }
                BODY => read.extend_from_slice(frame.payload),
                _ => {}
            }
            rest = &rest[used..];
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(&kinds[..2], &[METHOD, HEADER]);
        prop_assert_eq!(read, body);
    }
}

#[test]
fn a_frame_in_pieces_is_incomplete_until_its_last_byte() {
    let mut bytes = Vec::new();
    write_ack(&mut bytes, 1, 7, true);
    for length in 0..bytes.len() {
        assert_eq!(decode_frame(&bytes[..length], 4096).unwrap(), None);
    }
    let (frame, used) = decode_frame(&bytes, 4096).unwrap().unwrap();
    assert_eq!((used, frame.kind), (bytes.len(), METHOD));
    assert_eq!(decode_method(frame.payload).unwrap(), Method::Ack { delivery: 7, multiple: true });
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let huge = [1, 0, 1, 0x40, 0, 0, 0];
    let cases: [(&[u8], &str); 4] = [
        (&huge, "a frame of 1073741824 bytes exceeds the negotiated maximum of 131072"),
        (b"AMQP\0\0\x09\x01", "another version of AMQP"),
        (&[7, 0, 0, 0, 0, 0, 0], "unknown frame type 7"),
        (&[1, 0, 0, 0, 0, 0, 0, 1], "ends with 0x01"),
    ];
    for (bytes, words) in cases {
        let error = decode_frame(bytes, 131_072).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.message().contains(words), "{error}");
    }
    let error = decode_method(&[0, 60, 0, 99]).unwrap_err();
    assert_eq!(error.message(), "amqp: unknown method 99 of class 60");
}

#[test]
fn deep_tables_are_refused() {
    let mut value = FieldValue::Void;
    for _ in 0..1000 {
        value = FieldValue::Array(vec![value]);
    }
    let mut bytes = Vec::new();
    FieldTable(vec![(b"deep".to_vec(), value)]).encode(&mut bytes);
    assert!(FieldTable::decode(&mut Reader::new(&bytes)).is_err());
    assert!(table_to_json(&bytes[4..], &mut Vec::new()).is_err());
    assert!(
        json_to_table(format!("{{\"deep\": {}{}}}", "[".repeat(200), "]".repeat(200)).as_bytes(), &mut Vec::new())
            .is_err()
    );
}

#[test]
fn what_json_lacks_is_kombus_typed_value() {
    let table = FieldTable(vec![
        (b"when".to_vec(), FieldValue::Timestamp(951_782_400)),
        (b"price".to_vec(), FieldValue::Decimal(2, 1050)),
        (b"raw".to_vec(), FieldValue::Text(vec![0xff, 0])),
    ]);
    let mut bytes = Vec::new();
    table.encode(&mut bytes);
    let mut text = Vec::new();
    table_to_json(&bytes[4..], &mut text).unwrap();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        concat!(
            r#"{"when": {"__type__": "datetime", "__value__": "2000-02-29T00:00:00"}, "#,
            r#""price": {"__type__": "decimal", "__value__": "1050E-2"}, "#,
            r#""raw": {"__type__": "base64", "__value__": "/wA="}}"#
        )
    );
}
