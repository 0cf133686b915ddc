//! A blocking client for arranging and inspecting, on the publisher's own connection and a raw one.

use std::io::{Read, Write};
use std::net::TcpStream;

use pyworker_native::config::amqp::{AmqpAddress, Declaration};
use pyworker_native::publish::amqp::{AmqpOutgoing, AmqpPublisher, AmqpPublisherOptions, build_message};
use pyworker_native::wire::amqp::{
    EMPTY_TABLE, FieldTable, METHOD, Method, PROTOCOL_HEADER, QueueFlags, decode_frame, decode_method,
    write_channel_open, write_open, write_queue_declare, write_queue_delete, write_start_ok, write_tune_ok,
};

/// Publishes confirmed and durable messages.
#[derive(Debug)]
pub struct RabbitmqClient {
    address: AmqpAddress,
    publisher: AmqpPublisher,
}

impl RabbitmqClient {
    pub fn new(address: AmqpAddress) -> Self {
        let options =
            AmqpPublisherOptions { addresses: vec![address.clone()], confirm: true, timeout_s: 20.0, max_idle: 2 };
        Self { address, publisher: AmqpPublisher::new(options).expect("the options are sound") }
    }

    pub fn declare(&self, queue: &str, arguments: &str) {
        self.publisher.declare(&[durable(queue, arguments)]).expect("declared");
    }

    /// Publishes a version 2 message; `headers` are members added to its own.
    pub fn publish(&self, queue: &str, id: &str, priority: u8, eta: Option<&str>) {
        let eta = eta.map_or("null".to_owned(), |eta| format!("\"{eta}\""));
        let headers = format!(
            r#"{{"lang": "py", "task": "tasks.add", "id": "{id}", "retries": 0, "eta": {eta}, "expires": null,
            "timelimit": [null, null]}}"#
        );
        let properties = format!(r#"{{"correlation_id": "{id}", "delivery_mode": 2, "priority": {priority}}}"#);
        self.send(queue, b"[[1, 2], {}, {}]", &headers, &properties);
    }

    /// Publishes a body under headers with values of many kinds.
    pub fn publish_body(&self, queue: &str, body: &[u8]) {
        let headers = concat!(
            r#"{"lang": "py", "task": "tasks.add", "id": "body", "retries": 0, "timelimit": [null, null], "#,
            r#""big": 9007199254740993, "empty": [], "none": {}, "float": 0.5}"#
        );
        self.send(queue, body, headers, r#"{"delivery_mode": 2}"#);
    }

    fn send(&self, queue: &str, body: &[u8], headers: &str, properties: &str) {
        let message = build_message(body, headers.as_bytes(), properties.as_bytes(), "application/json", "utf-8")
            .expect("a message");
        let outgoing = AmqpOutgoing { exchange: "", routing_key: queue, mandatory: true, message: &message };
        self.publisher.publish_many(&[outgoing], None).expect("published");
    }

    /// Messages ready in a queue that is there.
    pub fn waiting(&self, queue: &str) -> usize {
        self.look(queue).expect("the queue is there")
    }

    pub fn exists(&self, queue: &str) -> bool {
        self.look(queue).is_some()
    }

    fn look(&self, queue: &str) -> Option<usize> {
        let mut session = Session::open(&self.address);
        session.ask(|out| {
            let flags = QueueFlags { passive: true, ..QueueFlags::default() };
            write_queue_declare(out, 1, queue, flags, EMPTY_TABLE);
        })
    }

    /// Deletes a queue, whether it is there or not.
    pub fn delete(&self, queue: &str) {
        let answer = Session::open(&self.address).ask(|out| write_queue_delete(out, 1, queue));
        assert!(answer.is_some(), "the server refused to delete queue {queue:?}");
    }
}

pub fn durable(queue: &str, arguments: &str) -> Declaration {
    Declaration::Queue {
        name: queue.to_owned(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: arguments.as_bytes().to_vec(),
    }
}

/// A raw connection with one channel, for one question.
struct Session {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Session {
    fn open(address: &AmqpAddress) -> Self {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).expect("the server accepts");
        let mut session = Self { stream, input: Vec::new() };
        session.send(PROTOCOL_HEADER);
        session.receive();
        let mut out = Vec::new();
        let response = format!("\0{}\0{}", address.username, address.password);
        write_start_ok(&mut out, &FieldTable::default(), "PLAIN", response.as_bytes());
        session.send(&out);
        session.receive();
        out.clear();
        write_tune_ok(&mut out, 10, 131_072, 0);
        write_open(&mut out, &address.virtual_host);
        session.send(&out);
        session.receive();
        session.ask(|out| write_channel_open(out, 1));
        session
    }

    /// The number of messages that the answer names, if it names one.
    fn ask(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Option<usize> {
        let mut out = Vec::new();
        write(&mut out);
        self.send(&out);
        self.receive()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    fn receive(&mut self) -> Option<usize> {
        let mut piece = [0; 4096];
        loop {
            if let Some((frame, used)) = decode_frame(&self.input, 0).expect("a frame") {
                assert_eq!(frame.kind, METHOD);
                let count = match decode_method(frame.payload).expect("a method") {
                    Method::QueueDeclareOk { messages, .. } => Some(messages as usize),
                    Method::ChannelClose(_) => None,
                    Method::Close(farewell) => panic!("{farewell:?}"),
                    _ => Some(0),
                };
                self.input.drain(..used);
                return count;
            }
            let size = self.stream.read(&mut piece).expect("the server answers");
            assert_ne!(size, 0, "the server hung up");
            self.input.extend_from_slice(&piece[..size]);
        }
    }
}
