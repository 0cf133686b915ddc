//! As much of HTTP as a probe needs: the first line of a request in, one whole response out.

/// A request that is longer is none of a probe.
pub const REQUEST_BYTES_MAX: usize = 8192;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// A resource, without its query.
    Get(&'a str),
    /// The same without the content.
    Head(&'a str),
    /// Something that is not done here.
    Other,
}

/// Reads a request; `None` while its end has not come.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Request<'_>> {
    if !bytes.windows(4).any(|window| window == b"\r\n\r\n") && !bytes.windows(2).any(|window| window == b"\n\n") {
        return None;
    }
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return Some(Request::Other) };
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next(), words.next());
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/"));
    let path = target.and_then(|target| target.split('?').next()).filter(|path| path.starts_with('/'));
    Some(match (method, path) {
        (Some("GET"), Some(path)) if is_http => Request::Get(path),
        (Some("HEAD"), Some(path)) if is_http => Request::Head(path),
        _ => Request::Other,
    })
}

/// Builds a response after which the connection is closed.
#[must_use]
pub fn respond(status: &str, content_type: &str, content: &str, has_content: bool) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        content.len()
    );
    if has_content {
        response.push_str(content);
    }
    response.into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_read_when_they_are_whole() {
        assert_eq!(parse(b"GET /livez HTTP/1.1\r\nHost: x\r\n"), None);
        assert_eq!(parse(b"GET /livez?verbose HTTP/1.1\r\nHost: x\r\n\r\n"), Some(Request::Get("/livez")));
        assert_eq!(parse(b"HEAD /metrics HTTP/1.0\n\n"), Some(Request::Head("/metrics")));
    }

    #[test]
    fn everything_else_is_refused() {
        for bytes in [
            &b"POST / HTTP/1.1\r\n\r\n"[..],
            b"\r\n\r\n",
            b"GET livez HTTP/1.1\r\n\r\n",
            b"GET /x\r\n\r\n",
            b"\xff\xfe\r\n\r\n",
        ] {
            assert_eq!(parse(bytes), Some(Request::Other));
        }
    }

    #[test]
    fn a_head_has_the_length_and_no_content() {
        let text = String::from_utf8(respond("200 OK", "text/plain", "ok\n", false)).unwrap();
        assert!(text.contains("Content-Length: 3\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_refused(method in "(GET|HEAD|PUT)?", target: String, rest: Vec<u8>) {
            let bytes = [method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n", &rest, b"\r\n\r\n"].concat();
            for length in [bytes.len(), bytes.len() / 2] {
                if let Some(Request::Get(path) | Request::Head(path)) = parse(&bytes[..length]) {
                    prop_assert!(path.starts_with('/') && target.contains(path));
                }
            }
            prop_assert!(parse(&bytes).is_some());
        }
    }
}
