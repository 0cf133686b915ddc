//! Raw bytes in, frames out; then anything in, and never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

fn all(bytes: &[u8]) -> Frame {
    let (frame, used) = decode(bytes, &Limits::default()).unwrap().expect("complete");
    assert_eq!(used, bytes.len());
    assert_eq!(FrameScanner::new(Limits::default()).advance(bytes).unwrap(), Some(used));
    frame
}

fn refused(bytes: &[u8]) -> ErrorKind {
    let kind = decode(bytes, &Limits::default()).unwrap_err().kind();
    // The scanner looks at outlines only; what it lets through, decoding refuses.
    if let Err(error) = FrameScanner::new(Limits::default()).advance(bytes) {
        assert_eq!(error.kind(), kind);
    }
    kind
}

#[test]
fn every_type_is_read() {
    assert_eq!(all(b"+OK\r\n"), Frame::Simple(b"OK".to_vec()));
    assert_eq!(all(b"-ERR no\r\n"), Frame::Error("ERR no".into()));
    assert_eq!(all(b"!6\r\nERR\r\n!\r\n"), Frame::Error("ERR\r\n!".into()));
    assert_eq!(all(b":-42\r\n"), Frame::Integer(-42));
    assert_eq!(all(b":9223372036854775807\r\n"), Frame::Integer(i64::MAX));
    assert_eq!(all(b":-9223372036854775808\r\n"), Frame::Integer(i64::MIN));
    assert_eq!(all(b"$4\r\n\r\n\0x\r\n"), Frame::Bulk(b"\r\n\0x".to_vec()));
    assert_eq!(all(b"$0\r\n\r\n"), Frame::Bulk(vec![]));
    for null in [b"$-1\r\n".as_slice(), b"*-1\r\n", b"_\r\n"] {
        assert_eq!(all(null), Frame::Null);
    }
    assert_eq!(all(b"#t\r\n"), Frame::Boolean(true));
    assert_eq!(all(b"#f\r\n"), Frame::Boolean(false));
    assert_eq!(all(b",3.25\r\n"), Frame::Double(3.25));
    assert_eq!(all(b",-inf\r\n"), Frame::Double(f64::NEG_INFINITY));
    assert!(matches!(all(b",nan\r\n"), Frame::Double(value) if value.is_nan()));
    assert_eq!(
        all(b"(-123456789012345678901234567890\r\n"),
        Frame::BigNumber(b"-123456789012345678901234567890".to_vec())
    );
    assert_eq!(all(b"=8\r\ntxt:text\r\n"), Frame::Verbatim { format: *b"txt", text: b"text".to_vec() });
    assert_eq!(all(b"*2\r\n:1\r\n*0\r\n"), Frame::Array(vec![Frame::Integer(1), Frame::Array(vec![])]));
    assert_eq!(all(b"~1\r\n+a\r\n"), Frame::Set(vec![Frame::Simple(b"a".to_vec())]));
    assert_eq!(all(b">1\r\n+a\r\n"), Frame::Push(vec![Frame::Simple(b"a".to_vec())]));
    let map = all(b"%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n");
    assert_eq!(map.get(b"a"), Some(&Frame::Integer(1)));
    assert_eq!(map.get(b"b"), Some(&Frame::Map(vec![])));
}

#[test]
fn attributes_are_dropped_wherever_they_stand() {
    assert_eq!(all(b"|1\r\n+ttl\r\n:3600\r\n:7\r\n"), Frame::Integer(7));
    assert_eq!(
        all(b"*2\r\n|1\r\n+a\r\n*1\r\n:0\r\n:1\r\n:2\r\n"),
        Frame::Array(vec![Frame::Integer(1), Frame::Integer(2)])
    );
    assert_eq!(all(b"|0\r\n|0\r\n_\r\n"), Frame::Null);
}

#[test]
fn what_no_server_sends_is_refused() {
    let cases: [&[u8]; 17] = [
        b"?\r\n",
        b":\r\n",
        b":1x\r\n",
        b":99999999999999999999\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"$2\r\nabc\r\n",
        b"$?\r\n",
        b"*?\r\n",
        b"#x\r\n",
        b"_x\r\n",
        b",abc\r\n",
        b"(12a\r\n",
        b"=2\r\nab\r\n",
        b"%-1\r\n",
        b"+a\nb\r\n",
        b"~-1\r\n",
    ];
    for bytes in cases {
        assert_eq!(refused(bytes), ErrorKind::Protocol, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn bounds_are_checked_on_the_announcement() {
    assert_eq!(refused(b"$99999999999\r\n"), ErrorKind::TooLarge);
    assert_eq!(refused(b"*99999999999\r\n"), ErrorKind::TooLarge);
    assert_eq!(refused(b"%9999999999\r\n"), ErrorKind::TooLarge);
    assert_eq!(refused(&b"*1\r\n".repeat(9)), ErrorKind::TooLarge);
    assert_eq!(refused(&[b"+".as_slice(), &[b'a'; 70_000]].concat()), ErrorKind::Protocol);
    // A large announcement alone reserves nothing worth mentioning.
    assert_eq!(decode(b"*16000000\r\n", &Limits::default()).unwrap(), None);
}

#[test]
fn commands_are_written_as_arrays_of_strings() {
    let mut out = Vec::new();
    write_command(&mut out, &[b"SET", b"k", b""]);
    assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    out.clear();
    CommandWriter::new(&mut out, 5)
        .arg("X")
        .arg_u64(0)
        .arg_numbered(b"t:", u64::MAX)
        .arg_zero_padded(b"t:", 17, 6)
        .arg_f64(1_700_000_000.125);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        "*5\r\n$1\r\nX\r\n$1\r\n0\r\n$22\r\nt:18446744073709551615\r\n$8\r\nt:000017\r\n$14\r\n1700000000.125\r\n"
    );
}

/// Writes a frame as a server would.
fn encode(frame: &Frame, out: &mut Vec<u8>) {
    let mut line = |text: String| out.extend_from_slice(text.as_bytes());
    match frame {
        Frame::Simple(bytes) => line(format!("+{}\r\n", String::from_utf8_lossy(bytes))),
        Frame::Error(text) => line(format!("!{}\r\n{text}\r\n", text.len())),
        Frame::Integer(value) => line(format!(":{value}\r\n")),
        Frame::Null => line("_\r\n".into()),
        Frame::Double(value) => line(format!(",{value}\r\n")),
        Frame::Boolean(value) => line(format!("#{}\r\n", if *value { 't' } else { 'f' })),
        Frame::BigNumber(digits) => line(format!("({}\r\n", String::from_utf8_lossy(digits))),
        Frame::Bulk(bytes) => {
            line(format!("${}\r\n", bytes.len()));
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Frame::Verbatim { text, .. } => {
            line(format!("={}\r\ntxt:", text.len() + 4));
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        Frame::Map(pairs) => {
            line(format!("%{}\r\n", pairs.len()));
            pairs.iter().for_each(|(key, value)| {
                encode(key, out);
                encode(value, out);
            });
        }
        Frame::Array(items) | Frame::Set(items) | Frame::Push(items) => {
            let kind = match frame {
                Frame::Array(_) => '*',
                Frame::Set(_) => '~',
                _ => '>',
            };
            line(format!("{kind}{}\r\n", items.len()));
            items.iter().for_each(|item| encode(item, out));
        }
    }
}

fn frames() -> impl Strategy<Value = Frame> {
    let leaf = prop_oneof![
        "[a-zA-Z ]{0,20}".prop_map(|text| Frame::Simple(text.into_bytes())),
        "[A-Z]{3} [a-z\r\n]{0,20}".prop_map(Frame::Error),
        any::<i64>().prop_map(Frame::Integer),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Frame::Bulk),
        Just(Frame::Null),
        any::<bool>().prop_map(Frame::Boolean),
        (-1e9f64..1e9).prop_map(Frame::Double),
        "-?[0-9]{1,40}".prop_map(|digits| Frame::BigNumber(digits.into_bytes())),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|text| Frame::Verbatim { format: *b"txt", text }),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Frame::Array),
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Frame::Set),
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Frame::Push),
            proptest::collection::vec((inner.clone(), inner), 0..4).prop_map(Frame::Map),
        ]
    })
}

proptest! {
    #[test]
    fn frames_survive_any_split(
        sent in proptest::collection::vec(frames(), 1..5),
        splits in proptest::collection::vec(1usize..30, 1..40),
    ) {
        let mut bytes = Vec::new();
        sent.iter().for_each(|frame| encode(frame, &mut bytes));
        let (mut buffer, mut got, mut scanner) = (Vec::new(), Vec::new(), FrameScanner::new(Limits::default()));
        let mut sizes = splits.iter().copied().cycle();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            buffer.extend_from_slice(piece);
            rest = after;
            while let Some(size) = scanner.advance(&buffer).unwrap() {
                let (frame, used) = decode(&buffer, &Limits::default()).unwrap().unwrap();
                prop_assert_eq!(used, size);
                buffer.drain(..size);
                got.push(frame);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &Limits::default());
        let _ = FrameScanner::new(Limits::default()).advance(&bytes);
    }

    #[test]
    fn almost_resp_never_panics(bytes in "([+\\-:$*_#,(=!%~>|][0-9a-z\\-]{0,3}\r\n){0,30}") {
        let whole = decode(bytes.as_bytes(), &Limits::default());
        let outline = FrameScanner::new(Limits::default()).advance(bytes.as_bytes());
        if let (Ok(Some((_, used))), Ok(end)) = (&whole, &outline) {
            prop_assert_eq!(Some(*used), *end);
        }
        prop_assert!(!matches!((&whole, &outline), (Ok(Some(_)), Ok(None) | Err(_))));
    }
}
