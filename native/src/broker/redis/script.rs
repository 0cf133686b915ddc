//! The Lua scripts, each atomic on the server. Every file says what it takes and returns.

/// One script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Fetch,
    Requeue,
    Undo,
    Rescore,
    Heartbeat,
    Reclaim,
    Visible,
    Restore,
}

const COMMON: &str = include_str!("scripts/common.lua");

impl Script {
    pub(super) const ALL: [Script; 8] = [
        Script::Fetch,
        Script::Requeue,
        Script::Undo,
        Script::Rescore,
        Script::Heartbeat,
        Script::Reclaim,
        Script::Visible,
        Script::Restore,
    ];

    fn body(self) -> (&'static str, &'static str) {
        match self {
            Script::Fetch => ("", include_str!("scripts/fetch.lua")),
            Script::Requeue => (COMMON, include_str!("scripts/requeue.lua")),
            Script::Undo => (COMMON, include_str!("scripts/undo.lua")),
            Script::Rescore => ("", include_str!("scripts/rescore.lua")),
            Script::Heartbeat => ("", include_str!("scripts/heartbeat.lua")),
            Script::Reclaim => (COMMON, include_str!("scripts/reclaim.lua")),
            Script::Visible => (COMMON, include_str!("scripts/visible.lua")),
            Script::Restore => (COMMON, include_str!("scripts/restore.lua")),
        }
    }

    /// The text for a server of this major version. All scripts must run on a server whose memory is
    /// full, since they are what empties it: from version 7 a script says so in its first line; before,
    /// a script that has begun to write is not refused any more, so it begins with a harmless DEL.
    pub(super) fn source(self, server_major: u32) -> String {
        let (common, body) = self.body();
        let first = if server_major >= 7 {
            "#!lua flags=allow-oom\n"
        } else {
            "redis.call('DEL', KEYS[1] .. ':pyworker:none')\n"
        };
        [first, common, body].concat()
    }
}

/// The digests under which the server knows the scripts, as it told us when they were loaded.
#[derive(Debug, Default)]
pub(super) struct ScriptDigests([Vec<u8>; Script::ALL.len()]);

impl ScriptDigests {
    pub(super) fn get(&self, script: Script) -> &[u8] {
        &self.0[script as usize]
    }

    pub(super) fn set(&mut self, script: Script, digest: Vec<u8>) {
        self.0[script as usize] = digest;
    }
}
