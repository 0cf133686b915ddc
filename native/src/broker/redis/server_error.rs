//! What a Redis server's error line means for us.

use crate::error::{Error, ErrorKind};

/// Turns an error line (code, space, text) into an error with a verdict.
#[must_use]
pub(crate) fn classify(line: &str) -> Error {
    let kind = match code_of(line) {
        "OOM" | "LOADING" | "READONLY" | "MASTERDOWN" | "BUSY" | "TRYAGAIN" | "NOREPLICAS" | "CLUSTERDOWN"
        | "MISCONF" => ErrorKind::ServerBusy,
        "WRONGPASS" | "NOAUTH" => ErrorKind::Authentication,
        // Servers before 6 have no code of their own for a wrong password.
        "ERR" if line.contains("invalid password") || line.contains("ERR AUTH") || line.contains("sent AUTH") => {
            ErrorKind::Authentication
        }
        "ERR" if line.contains("max number of clients") => ErrorKind::ServerBusy,
        _ => ErrorKind::ServerRefused,
    };
    match line.split_once(' ') {
        // The words that people know from redis-py and search for; HELLO's own are about HELLO.
        Some(("NOAUTH", _)) => Error::new(kind, "Authentication required"),
        Some((_, text)) if kind == ErrorKind::Authentication => Error::new(kind, text.trim_end_matches('.')),
        _ => Error::new(kind, format!("redis: {line}")),
    }
}

/// The code that a line begins with. Before Redis 7 a script passes on the error of the command that failed in it
/// inside one of its own, behind a dash.
fn code_of(line: &str) -> &str {
    let inner = line.starts_with("ERR Error running script").then(|| line.split_once(": -")).flatten();
    inner.map_or(line, |(_, inner)| inner).split(' ').next().unwrap_or_default()
}

/// Whether the server does not know the script that EVALSHA named.
#[must_use]
pub(crate) fn is_unknown_script(line: &str) -> bool {
    line.starts_with("NOSCRIPT")
}

/// Whether this connection leads to the wrong server: after a failover, only a new one helps.
#[must_use]
pub(crate) fn needs_reconnect(line: &str) -> bool {
    matches!(code_of(line), "READONLY" | "MASTERDOWN" | "UNBLOCKED")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_code_has_its_verdict() {
        let cases = [
            ("OOM command not allowed when used memory > 'maxmemory'.", ErrorKind::ServerBusy),
            ("LOADING Redis is loading the dataset in memory", ErrorKind::ServerBusy),
            ("READONLY You can't write against a read only replica.", ErrorKind::ServerBusy),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::ServerBusy),
            ("BUSY Redis is busy running a script.", ErrorKind::ServerBusy),
            ("TRYAGAIN Multiple keys request during rehashing of slot", ErrorKind::ServerBusy),
            ("ERR max number of clients reached", ErrorKind::ServerBusy),
            ("WRONGPASS invalid username-password pair or user is disabled.", ErrorKind::Authentication),
            ("NOAUTH Authentication required.", ErrorKind::Authentication),
            ("ERR invalid password", ErrorKind::Authentication),
            ("ERR AUTH <password> called without any password configured", ErrorKind::Authentication),
            ("NOPERM this user has no permissions to run the 'eval' command", ErrorKind::ServerRefused),
            ("ERR unknown command 'FOO'", ErrorKind::ServerRefused),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", ErrorKind::ServerRefused),
        ];
        for (line, kind) in cases {
            assert_eq!(classify(line).kind(), kind, "{line}");
        }
        let in_script =
            |inner| format!("ERR Error running script (call to f_0a): @user_script:7: @user_script: 7: {inner}");
        let full = in_script("-OOM command not allowed when used memory > 'maxmemory'.");
        assert_eq!(classify(&full).kind(), ErrorKind::ServerBusy);
        assert!(!needs_reconnect(&full));
        assert!(needs_reconnect(&in_script("-READONLY You can't write against a read only replica.")));
        assert_eq!(classify(&in_script("boom")).kind(), ErrorKind::ServerRefused);
        assert!(is_unknown_script("NOSCRIPT No matching script. Please use EVAL."));
    }
}
