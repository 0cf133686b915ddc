-- What the last program that wrote schema 1 left in a file, dumped: results of two tasks, a chord of which one part is done,
-- tasks that wait, are scheduled, were due or have expired since, a message that was handed out to two processes that
-- died, bindings, a queue that expires, a broadcast, and the node of a process that was killed.
-- Changed afterwards: names of the machine, and times of expiry, which are far away.
PRAGMA application_id = 0x70797731;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE bindings (
    exchange TEXT NOT NULL, routing_key TEXT NOT NULL, pattern TEXT NOT NULL, queue TEXT NOT NULL,
    PRIMARY KEY (exchange, routing_key, pattern, queue)
) WITHOUT ROWID;
INSERT INTO "bindings" VALUES('media','video.#','^video\..*?$','video');
INSERT INTO "bindings" VALUES('straight','one','','one');
CREATE TABLE chord_parts (
    chord TEXT NOT NULL, position REAL NOT NULL, task TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (chord, task)
) WITHOUT ROWID;
INSERT INTO "chord_parts" VALUES('0b38c15c-b8f9-459f-aa62-0131f0d7d208',0.0,'part-done:0',CAST('[1, "part-done", "SUCCESS", 2]' AS BLOB));
CREATE TABLE chords (
    name TEXT PRIMARY KEY, size INTEGER, extra INTEGER NOT NULL DEFAULT 0, claimed_by TEXT, claimed_until_s REAL, expires_s REAL
) WITHOUT ROWID;
INSERT INTO "chords" VALUES('0b38c15c-b8f9-459f-aa62-0131f0d7d208',2,0,NULL,NULL,NULL);
CREATE TABLE fanout (
    id INTEGER PRIMARY KEY AUTOINCREMENT, exchange TEXT NOT NULL, at_s REAL NOT NULL, body BLOB NOT NULL
);
INSERT INTO "fanout" VALUES(1,'celery.pidbox',1.79528364770880436893e+09,CAST('{"body": "eyJtZXRob2QiOiAiaGVsbG8iLCAiYXJndW1lbnRzIjogeyJmcm9tX25vZGUiOiAib2xkQGhvc3QiLCAicmV2b2tlZCI6IFtdfSwgImRlc3RpbmF0aW9uIjogbnVsbCwgInBhdHRlcm4iOiBudWxsLCAibWF0Y2hlciI6IG51bGwsICJ0aWNrZXQiOiAiNjc2ZGZlZTAtZTQwOC00ZjJlLWI4NDItOTcxYjgyZThmYTc4IiwgInJlcGx5X3RvIjogeyJleGNoYW5nZSI6ICJyZXBseS5jZWxlcnkucGlkYm94IiwgInJvdXRpbmdfa2V5IjogIjg4M2RlZTUwLTY4M2YtMzg4Ni1iYmNhLWRhOWNmMWFlYTQxMiJ9fQ==", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"clock": 1, "expires": 1795283648.7082324}, "properties": {"delivery_mode": 2, "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}, "priority": 0, "body_encoding": "base64", "delivery_tag": "c329169d-e0f5-46e0-87b8-9822b72b691b"}}' AS BLOB));
CREATE TABLE held (id INTEGER PRIMARY KEY, owner INTEGER NOT NULL);
INSERT INTO "held" VALUES(5,4);
CREATE TABLE later (due_s REAL NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (due_s, id)) WITHOUT ROWID;
INSERT INTO "later" VALUES(1.79528365494872593874e+09,9);
INSERT INTO "later" VALUES(4102444800.0,10);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, step INTEGER NOT NULL, deliveries INTEGER NOT NULL DEFAULT 0,
    due_s REAL, expires_s REAL, body BLOB NOT NULL
);
INSERT INTO "messages" VALUES(4,3,0,0,NULL,NULL,CAST('{"body": "W1syLDJdLHt9LHsiY2FsbGJhY2tzIjpudWxsLCJlcnJiYWNrcyI6bnVsbCwiY2hhaW4iOm51bGwsImNob3JkIjp7InRhc2siOiJmaWxlZC50b3RhbCIsImFyZ3MiOltdLCJrd2FyZ3MiOnt9LCJvcHRpb25zIjp7InRhc2tfaWQiOiJib2R5IiwicmVwbHlfdG8iOiJiMDZlMGI0Zi03YTdmLTQwNzQtOGRjYS03M2Y2ODQ5NGYyNTIiLCJncm91cF9pZCI6IjBiMzhjMTVjLWI4ZjktNDU5Zi1hYTYyLTAxMzFmMGQ3ZDIwOCJ9LCJzdWJ0YXNrX3R5cGUiOm51bGwsImltbXV0YWJsZSI6ZmFsc2V9fV0=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang":"py","task":"filed.add","id":"part-waits","shadow":null,"eta":null,"expires":null,"group":"0b38c15c-b8f9-459f-aa62-0131f0d7d208","group_index":1,"retries":0,"timelimit":[null,null],"root_id":"part-waits","parent_id":null,"argsrepr":"(2, 2)","kwargsrepr":"{}","origin":"gen19203@host","ignore_result":null,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}, "properties": {"correlation_id":"part-waits","reply_to":"b06e0b4f-7a7f-4074-8dca-73f68494f252","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"waits"},"priority":0,"body_encoding":"base64","delivery_tag":"18b2f483-529f-4b01-b671-000000000003"}}' AS BLOB));
INSERT INTO "messages" VALUES(5,4,0,1,NULL,NULL,CAST('{"body": "W1s1LDVdLHt9LHsiY2FsbGJhY2tzIjpudWxsLCJlcnJiYWNrcyI6bnVsbCwiY2hhaW4iOm51bGwsImNob3JkIjpudWxsfV0=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang":"py","task":"filed.add","id":"held","shadow":null,"eta":null,"expires":null,"group":null,"group_index":null,"retries":0,"timelimit":[null,null],"root_id":"held","parent_id":null,"argsrepr":"(5, 5)","kwargsrepr":"{}","origin":"gen19203@host","ignore_result":null,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}, "properties": {"correlation_id":"held","reply_to":"b06e0b4f-7a7f-4074-8dca-73f68494f252","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"held"},"priority":0,"body_encoding":"base64","delivery_tag":"18b2f483-529f-4b01-b671-000000000004"}}' AS BLOB));
INSERT INTO "messages" VALUES(6,1,9,0,NULL,NULL,CAST('{"body": "W1sxLDJdLHt9LHsiY2FsbGJhY2tzIjpudWxsLCJlcnJiYWNrcyI6bnVsbCwiY2hhaW4iOm51bGwsImNob3JkIjpudWxsfV0=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang":"py","task":"filed.add","id":"last","shadow":null,"eta":null,"expires":null,"group":null,"group_index":null,"retries":0,"timelimit":[null,null],"root_id":"last","parent_id":null,"argsrepr":"(1, 2)","kwargsrepr":"{}","origin":"gen19203@host","ignore_result":null,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}, "properties": {"correlation_id":"last","reply_to":"b06e0b4f-7a7f-4074-8dca-73f68494f252","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"filed"},"priority":9,"body_encoding":"base64","delivery_tag":"18b2f483-529f-4b01-b671-000000000005"}}' AS BLOB));
INSERT INTO "messages" VALUES(7,1,0,0,NULL,NULL,CAST('{"body": "W1szLDRdLHt9LHsiY2FsbGJhY2tzIjpudWxsLCJlcnJiYWNrcyI6bnVsbCwiY2hhaW4iOm51bGwsImNob3JkIjpudWxsfV0=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang":"py","task":"filed.add","id":"second","shadow":null,"eta":null,"expires":null,"group":null,"group_index":null,"retries":0,"timelimit":[null,null],"root_id":"second","parent_id":null,"argsrepr":"(3, 4)","kwargsrepr":"{}","origin":"gen19203@host","ignore_result":null,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}, "properties": {"correlation_id":"second","reply_to":"b06e0b4f-7a7f-4074-8dca-73f68494f252","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"filed"},"priority":0,"body_encoding":"base64","delivery_tag":"18b2f483-529f-4b01-b671-000000000006"}}' AS BLOB));
INSERT INTO "messages" VALUES(8,1,0,0,NULL,NULL,CAST('{"body": "W1s1LDZdLHt9LHsiY2FsbGJhY2tzIjpudWxsLCJlcnJiYWNrcyI6bnVsbCwiY2hhaW4iOm51bGwsImNob3JkIjpudWxsfV0=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang":"py","task":"filed.add","id":"third","shadow":null,"eta":null,"expires":null,"group":null,"group_index":null,"retries":0,"timelimit":[null,null],"root_id":"third","parent_id":null,"argsrepr":"(5, 6)","kwargsrepr":"{}","origin":"gen19203@host","ignore_result":null,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}, "properties": {"correlation_id":"third","reply_to":"b06e0b4f-7a7f-4074-8dca-73f68494f252","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"filed"},"priority":0,"body_encoding":"base64","delivery_tag":"18b2f483-529f-4b01-b671-000000000007"}}' AS BLOB));
INSERT INTO "messages" VALUES(9,1,0,0,1.79528365494872593874e+09,NULL,CAST('{"body": "W1s3LDhdLHt9LHsiY2FsbGJhY2tzIjpudWxsLCJlcnJiYWNrcyI6bnVsbCwiY2hhaW4iOm51bGwsImNob3JkIjpudWxsfV0=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang":"py","task":"filed.add","id":"due","shadow":null,"eta":"2026-11-21T17:54:14.948726+00:00","expires":null,"group":null,"group_index":null,"retries":0,"timelimit":[null,null],"root_id":"due","parent_id":null,"argsrepr":"(7, 8)","kwargsrepr":"{}","origin":"gen19203@host","ignore_result":null,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}, "properties": {"correlation_id":"due","reply_to":"b06e0b4f-7a7f-4074-8dca-73f68494f252","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"filed"},"priority":0,"body_encoding":"base64","delivery_tag":"18b2f483-529f-4b01-b671-000000000008"}}' AS BLOB));
INSERT INTO "messages" VALUES(10,1,0,0,4102444800.0,NULL,CAST('{"body": "W1s5LDEwXSx7fSx7ImNhbGxiYWNrcyI6bnVsbCwiZXJyYmFja3MiOm51bGwsImNoYWluIjpudWxsLCJjaG9yZCI6bnVsbH1d", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang":"py","task":"filed.add","id":"scheduled","shadow":null,"eta":"2100-01-01T00:00:00+00:00","expires":null,"group":null,"group_index":null,"retries":0,"timelimit":[null,null],"root_id":"scheduled","parent_id":null,"argsrepr":"(9, 10)","kwargsrepr":"{}","origin":"gen19203@host","ignore_result":null,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}, "properties": {"correlation_id":"scheduled","reply_to":"b06e0b4f-7a7f-4074-8dca-73f68494f252","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"filed"},"priority":0,"body_encoding":"base64","delivery_tag":"18b2f483-529f-4b01-b671-000000000009"}}' AS BLOB));
INSERT INTO "messages" VALUES(11,1,0,0,NULL,1.79528365494872593874e+09,CAST('{"body": "W1sxMSwxMl0se30seyJjYWxsYmFja3MiOm51bGwsImVycmJhY2tzIjpudWxsLCJjaGFpbiI6bnVsbCwiY2hvcmQiOm51bGx9XQ==", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"lang":"py","task":"filed.add","id":"expired","shadow":null,"eta":null,"expires":"2026-11-21T17:54:14.948726+00:00","group":null,"group_index":null,"retries":0,"timelimit":[null,null],"root_id":"expired","parent_id":null,"argsrepr":"(11, 12)","kwargsrepr":"{}","origin":"gen19203@host","ignore_result":null,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}}, "properties": {"correlation_id":"expired","reply_to":"b06e0b4f-7a7f-4074-8dca-73f68494f252","delivery_mode":2,"expiration":"4962","delivery_info":{"exchange":"","routing_key":"filed"},"priority":0,"body_encoding":"base64","delivery_tag":"18b2f483-529f-4b01-b671-00000000000a"}}' AS BLOB));
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, boot TEXT NOT NULL, seen_ns INTEGER NOT NULL,
    lease_ns INTEGER NOT NULL
);
INSERT INTO "nodes" VALUES(4,'doomed','00000000-0000-0000-0000-000000000000',50013564844937,3600000000000);
CREATE TABLE queues (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, expires_s REAL, used_s REAL NOT NULL DEFAULT 0
);
INSERT INTO "queues" VALUES(1,'filed',NULL,0.0);
INSERT INTO "queues" VALUES(2,'old@host.celery.pidbox',NULL,0.0);
INSERT INTO "queues" VALUES(3,'waits',NULL,0.0);
INSERT INTO "queues" VALUES(4,'held',NULL,0.0);
INSERT INTO "queues" VALUES(5,'video',NULL,0.0);
INSERT INTO "queues" VALUES(6,'one',NULL,0.0);
INSERT INTO "queues" VALUES(7,'short',3000000000.0,1795283650.0);
CREATE TABLE ready (
    queue INTEGER NOT NULL, step INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (queue, step, id)
) WITHOUT ROWID;
INSERT INTO "ready" VALUES(1,0,7);
INSERT INTO "ready" VALUES(1,0,8);
INSERT INTO "ready" VALUES(1,0,11);
INSERT INTO "ready" VALUES(1,9,6);
INSERT INTO "ready" VALUES(3,0,4);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
    is_success INTEGER NOT NULL, expires_s INTEGER
);
INSERT INTO "results" VALUES(1,21408334106078,CAST('celery-task-meta-done' AS BLOB),CAST('{"status": "SUCCESS", "result": 42, "traceback": null, "children": [], "date_done": "2026-11-21T17:54:08.760997+00:00", "task_id": "done"}' AS BLOB),1,4102444800);
INSERT INTO "results" VALUES(2,17553681836351,CAST('celery-task-meta-failed' AS BLOB),CAST('{"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["as it should"], "exc_module": "builtins"}, "traceback": "Traceback (most recent call last):\n  File \"pyworker/_native_trace.py\", line 600, in pyworker._native_trace.Tracer._run_between_signals\n  File \"tests/apps/filed.py\", line 33, in fail\n    raise ValueError(text)\nValueError: as it should\n", "children": [], "date_done": "2026-11-21T17:54:08.776876+00:00", "task_id": "failed"}' AS BLOB),0,4102444800);
INSERT INTO "results" VALUES(3,83442259557474,CAST('celery-task-meta-part-done' AS BLOB),CAST('{"status": "SUCCESS", "result": 2, "traceback": null, "children": [], "date_done": "2026-11-21T17:54:08.799284+00:00", "group_id": "0b38c15c-b8f9-459f-aa62-0131f0d7d208", "task_id": "part-done"}' AS BLOB),1,4102444800);
CREATE TABLE sequence (next INTEGER NOT NULL);
INSERT INTO "sequence" VALUES(12);
CREATE INDEX results_hash ON results (hash);
CREATE INDEX results_expiry ON results (expires_s) WHERE expires_s IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('fanout',1);
INSERT INTO "sqlite_sequence" VALUES('nodes',4);
COMMIT;
