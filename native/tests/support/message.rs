//! Messages as stock clients publish them.

/// An envelope of kombu's virtual transports around a version 2 message; `id` is what tests look for.
pub fn envelope(id: &str, priority: u8) -> Vec<u8> {
    format!(
        concat!(
            r#"{{"body": "W1sxLCAyXSwge30sIHt9XQ==", "content-encoding": "utf-8", "#,
            r#""content-type": "application/json", "headers": {{"lang": "py", "task": "tasks.add", "#,
            r#""id": "{id}", "retries": 0, "eta": null, "expires": null, "big": 9007199254740993, "#,
            r#""empty": [], "none": {{}}, "argsrepr": "(1, 2)", "timelimit": [null, null]}}, "#,
            r#""properties": {{"correlation_id": "{id}", "delivery_mode": 2, "#,
            r#""delivery_info": {{"exchange": "", "routing_key": "celery"}}, "priority": {priority}, "#,
            r#""body_encoding": "base64", "delivery_tag": "{id}"}}}}"#
        ),
        id = id,
        priority = priority
    )
    .into_bytes()
}
