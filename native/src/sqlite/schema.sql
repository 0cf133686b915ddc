CREATE TABLE sequence (next INTEGER NOT NULL);
INSERT INTO sequence VALUES (1);
-- Queues by number. `used_s` and `expires_s` serve queues that were declared with an expiry.
CREATE TABLE queues (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, expires_s REAL, used_s REAL NOT NULL DEFAULT 0
);
-- Never changed between publishing and the end, but for the count of deliveries that came to nothing.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, step INTEGER NOT NULL, deliveries INTEGER NOT NULL DEFAULT 0,
    due_s REAL, expires_s REAL, body BLOB NOT NULL
);
-- Where a message is: in exactly one of these three.
CREATE TABLE ready (
    queue INTEGER NOT NULL, step INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (queue, step, id)
) WITHOUT ROWID;
CREATE TABLE later (due_s REAL NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (due_s, id)) WITHOUT ROWID;
CREATE TABLE held (id INTEGER PRIMARY KEY, owner INTEGER NOT NULL);
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, boot TEXT NOT NULL, seen_ns INTEGER NOT NULL,
    lease_ns INTEGER NOT NULL
);
-- Results and other values by key; `hash` is of the key, so that the index stays small.
CREATE TABLE results (
    id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
    is_success INTEGER NOT NULL, expires_s INTEGER
);
CREATE INDEX results_hash ON results (hash);
CREATE INDEX results_expiry ON results (expires_s) WHERE expires_s IS NOT NULL;
CREATE TABLE chord_parts (
    chord TEXT NOT NULL, position REAL NOT NULL, task TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (chord, task)
) WITHOUT ROWID;
CREATE TABLE chords (
    name TEXT PRIMARY KEY, size INTEGER, extra INTEGER NOT NULL DEFAULT 0, claimed_by TEXT, claimed_until_s REAL, expires_s REAL
) WITHOUT ROWID;
CREATE TABLE bindings (
    exchange TEXT NOT NULL, routing_key TEXT NOT NULL, pattern TEXT NOT NULL, queue TEXT NOT NULL,
    PRIMARY KEY (exchange, routing_key, pattern, queue)
) WITHOUT ROWID;
CREATE TABLE fanout (
    id INTEGER PRIMARY KEY AUTOINCREMENT, exchange TEXT NOT NULL, at_s REAL NOT NULL, body BLOB NOT NULL
);
