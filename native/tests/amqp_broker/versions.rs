//! What depends on the server's version, with a peer that calls itself what no server here is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use pyworker_native::config::amqp::{AmqpAddress, AmqpBrokerConfig, AmqpQueue, Failover};
use pyworker_native::wire::amqp::{FieldTable, FieldValue, METHOD, Reader, decode_frame, put_long_string};

use super::make;
use crate::support::driver::Driver;
use crate::support::rabbitmq_client::durable;
use crate::support::retries;

const QUORUM: &str = r#"{"x-queue-type": "quorum"}"#;

/// Agrees to everything; gives the arguments of each `basic.consume`.
fn agree(mut client: TcpStream, version: &str, consumed: &Sender<FieldTable>) -> std::io::Result<()> {
    let mut input = vec![0; 8];
    client.read_exact(&mut input)?;
    input.clear();
    let mut properties = FieldTable::default();
    properties.set("version", FieldValue::Text(version.as_bytes().to_vec()));
    let mut table = Vec::new();
    properties.encode(&mut table);
    let mut said = Vec::new();
    let mut start = [&[0, 9], table.as_slice()].concat();
    put_long_string(&mut start, b"PLAIN");
    put_long_string(&mut start, b"en_US");
    say(&mut said, 0, (10, 10), &start);
    let mut piece = [0; 4096];
    loop {
        client.write_all(&said)?;
        said.clear();
        let size = client.read(&mut piece)?;
        if size == 0 {
            return Ok(());
        }
        input.extend_from_slice(&piece[..size]);
        let mut used = 0;
        while let Ok(Some((frame, length))) = decode_frame(&input[used..], 131_072) {
            used += length;
            if frame.kind == METHOD {
                answer(frame.channel, frame.payload, &mut said, consumed);
            }
        }
        input.drain(..used);
    }
}

fn say(said: &mut Vec<u8>, channel: u16, (class, method): (u16, u16), arguments: &[u8]) {
    said.push(METHOD);
    said.extend_from_slice(&channel.to_be_bytes());
    said.extend_from_slice(&(arguments.len() as u32 + 4).to_be_bytes());
    said.extend_from_slice(&class.to_be_bytes());
    said.extend_from_slice(&method.to_be_bytes());
    said.extend_from_slice(arguments);
    said.push(0xCE);
}

fn answer(channel: u16, payload: &[u8], said: &mut Vec<u8>, consumed: &Sender<FieldTable>) {
    let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    match (number(0), number(2)) {
        // At most 2047 channels, frames of 128 KiB, no signs of life.
        (10, 11) => say(said, 0, (10, 30), &[7, 255, 0, 2, 0, 0, 0, 0]),
        (10, 40) => say(said, 0, (10, 41), &[0]),
        (20, 10) => say(said, channel, (20, 11), &[0; 4]),
        (50, 10) => say(said, channel, (50, 11), b"\x01q\0\0\0\0\0\0\0\0"),
        (60, 10) => say(said, channel, (60, 11), &[]),
        (60, 20) => {
            // Behind a reserved number: the queue, the tag, the flags and the arguments.
            let mut rest = Reader::new(&payload[6..]);
            rest.short_string().unwrap();
            let tag = rest.short_string().unwrap();
            rest.u8().unwrap();
            say(said, channel, (60, 21), &[&[tag.len() as u8], tag].concat());
            // Nobody waits for a second consumer.
            let _ = consumed.send(FieldTable::decode(&mut rest).unwrap());
        }
        _ => {}
    }
}

fn server(version: &'static str) -> (u16, Receiver<FieldTable>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (consumed, arguments) = channel();
    std::thread::spawn(move || {
        if let Ok((client, _)) = listener.accept() {
            // The broker hangs up when the test ends.
            let _ = agree(client, version, &consumed);
        }
    });
    (port, arguments)
}

fn config(port: u16, queue_arguments: &str) -> AmqpBrokerConfig {
    AmqpBrokerConfig {
        addresses: vec![AmqpAddress {
            host: "127.0.0.1".into(),
            port,
            virtual_host: "/".into(),
            username: "guest".into(),
            password: "guest".into(),
            login_method: "PLAIN".into(),
            connect_timeout_s: 20.0,
            heartbeat_s: 0,
            connection_name: String::new(),
            tls: None,
            credential_source: None,
        }],
        failover: Failover::RoundRobin,
        queues: vec![AmqpQueue { name: "q".into(), no_ack: false, arguments: Vec::new(), delay_key: None }],
        declarations: vec![durable("q", queue_arguments)],
        delay_declarations: Vec::new(),
        retry: retries::after_a_minute(),
        max_message_bytes: 1 << 20,
    }
}

/// The timeout that a consumer asks a server of this version for.
fn asked_ms(version: &'static str, queue_arguments: &str) -> Option<i64> {
    let (port, arguments) = server(version);
    let mut driver = Driver::connected(make(config(port, queue_arguments)));
    driver.broker.set_demand(1);
    let mut table = None;
    driver.until("consuming", |_| {
        table = arguments.try_recv().ok();
        table.is_some()
    });
    driver.stop();
    match table.unwrap().get("x-consumer-timeout") {
        Some(FieldValue::Integer(milliseconds)) => Some(*milliseconds),
        _ => None,
    }
}

#[test]
fn a_server_is_asked_for_patience_where_it_can_be_asked() {
    assert_eq!(asked_ms("4.3.0", QUORUM), Some(604_800_000));
    assert_eq!(asked_ms("4.3.0", ""), None);
    assert_eq!(asked_ms("4.2.5", QUORUM), None);
    assert_eq!(asked_ms("3.12.14", QUORUM), None);
    assert_eq!(asked_ms("3.10.8", QUORUM), None);
}
