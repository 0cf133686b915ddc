-- Who consumes which queue. `exchange` is that of a queue bound to a fan-out exchange, whose messages are in `fanout`.
CREATE TABLE consumers (
    queue INTEGER NOT NULL, owner INTEGER NOT NULL, exchange TEXT, PRIMARY KEY (queue, owner)
) WITHOUT ROWID;
