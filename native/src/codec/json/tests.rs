#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

/// Scans one value with nothing after it.
fn scan(text: &[u8]) -> JsonResult<Value> {
    let mut scanner = Scanner::new(text, 0);
    scanner.skip_whitespace();
    let value = scanner.value()?;
    scanner.skip_whitespace();
    if scanner.position() == text.len() { Ok(value) } else { Err(scanner.error("trailing data")) }
}

#[test]
fn accepts_what_python_accepts() {
    let accepted = [
        "null",
        " [1, -0, 0.5e+3, 1E9] ",
        "[NaN, Infinity, -Infinity]",
        r#"{"a": {"b": [[], {}, "\ud800 \u00e9 \/ \b"]}}"#,
        "\"\u{7f}\u{e9}\u{1f600}\"",
        "{}",
        "[ ]",
        "\r\n\t 1",
    ];
    for text in accepted {
        assert!(scan(text.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn refuses_what_python_refuses() {
    let refused = [
        "",
        "nul",
        "nulls",
        "[1,]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "01",
        "1.",
        ".5",
        "-",
        "1e",
        "+1",
        "\"\t\"",
        "\"\\x41\"",
        "\"\\u12g4\"",
        "\"\\u12\"",
        "\"",
        "[",
        "{",
        "[1 2]",
        "{a: 1}",
        "{1: 2}",
        "[}",
        "{]",
        "nan",
        "-NaN",
        "'a'",
        "[1]]",
        "\u{feff}1",
        "\"\\",
        "Infinit",
        "tru e",
    ];
    for text in refused {
        assert!(scan(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn bounds_the_depth_without_recursion() {
    let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    assert!(scan(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(scan(&nested(MAX_DEPTH + 1)).unwrap_err().reason, "nested too deeply");
    assert!(scan(&b"{\"a\":".repeat(1_000_000)).is_err());
}

#[test]
fn tells_true_from_false_as_python_does() {
    let cases = [
        ("null", false),
        ("false", false),
        ("true", true),
        ("0", false),
        ("-0.0", false),
        ("0e9", false),
        ("1e-400", false),
        ("NaN", true),
        ("0.1", true),
        ("\"\"", false),
        ("\" \"", true),
        ("[ \n]", false),
        ("{}", false),
        ("[0]", true),
    ];
    for (text, expected) in cases {
        assert_eq!(scan(text.as_bytes()).unwrap().is_truthy(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn refuses_to_unescape_unpaired_surrogates() {
    for text in [r"\ud800", r"\udc00", r"\ud800\u0041", r"\ud800x", r"\udc00\ud800"] {
        assert!(unescape_into(text.as_bytes(), &mut Vec::new()).is_err(), "{text}");
    }
    let mut output = Vec::new();
    unescape_into(br"a\ud83d\ude00\u00e9\n\/", &mut output).unwrap();
    assert_eq!(output, "a\u{1f600}\u{e9}\n/".as_bytes());
}

#[test]
fn escapes_as_python_does() {
    let mut output = Vec::new();
    escape_into("a\"\\\n\r\t\u{8}\u{c}\u{1}\u{7f}\u{e9}\u{1f600}/", &mut output);
    assert_eq!(String::from_utf8(output).unwrap(), r#""a\"\\\n\r\t\b\f\u0001\u007f\u00e9\ud83d\ude00/""#);
}

proptest! {
    #[test]
    fn escaping_and_unescaping_is_the_identity(value in "\\PC*|[\\x00-\\x7f]*|.*") {
        let mut escaped = Vec::new();
        escape_into(&value, &mut escaped);
        prop_assert_eq!(&serde_json::from_slice::<String>(&escaped).unwrap(), &value);
        let token = Scanner::new(&escaped, 0).string().unwrap();
        let mut unescaped = Vec::new();
        unescape_into(&escaped[token.start..token.end], &mut unescaped).unwrap();
        prop_assert_eq!(unescaped, value.as_bytes());
    }

    #[test]
    fn agrees_with_serde_on_what_is_json(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"\\n\"", "\\", "1", "0", "-", ".", "e", "true", "null",
                " ", "\n", "\u{1}", "\u{e9}", "12.5", "\"k\":", "[1,2]", "{\"x\":[]}", "aaaaaaaaaaaa",
            ]),
            0..12,
        )
    ) {
        let text = tokens.concat();
        let oracle = serde_json::from_str::<serde_json::Value>(&text);
        prop_assert_eq!(scan(text.as_bytes()).is_ok(), oracle.is_ok(), "{:?}: {:?}", text, oracle);
    }

    #[test]
    fn never_panics_and_stays_inside(text in prop::collection::vec(any::<u8>(), 0..200), start in 0usize..200) {
        let mut scanner = Scanner::new(&text, start.min(text.len()));
        if let Ok(value) = scanner.value() {
            prop_assert!(value.start <= value.end && value.end <= text.len());
            let _ = value.is_truthy(&text);
        }
    }
}
