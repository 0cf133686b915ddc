//! The same over TCP, and addresses where nobody answers.

use std::net::TcpListener;

use pyworker_native::broker::Settlement;
use pyworker_native::config::RedisAddress;
use pyworker_native::error::ErrorKind;

use super::{RedisFactory, make};
use crate::scenarios::Setup;
use crate::support::driver::Driver;
use crate::support::message::envelope;
use crate::support::redis_server::RedisServer;

fn setup() -> Setup {
    Setup::new(&["q"], "one")
}

fn tcp(address: RedisAddress, host: &str, port: u16) -> RedisAddress {
    RedisAddress { unix_path: None, host: host.into(), port, ..address }
}

/// The first thing that a broker says about an address that leads nowhere.
fn failure(host: &str, port: u16) -> (ErrorKind, Option<f64>) {
    let factory = RedisFactory::new("");
    let mut config = factory.config(&setup());
    config.address = tcp(RedisAddress { connect_timeout_s: 0.2, ..config.address }, host, port);
    let mut driver = Driver::start(make(config));
    driver.until("the failure", |driver| !driver.disconnects.is_empty());
    let (error, retry_in_s) = driver.disconnects[0].clone();
    driver.stop();
    (error.kind(), retry_in_s)
}

#[test]
fn broken_tcp_connections_lose_and_repeat_nothing() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = RedisServer::start(&["--port", &free.to_string(), "--bind", "127.0.0.1"]);
    let factory = RedisFactory { server, prefix: String::new() };
    let mut config = factory.config(&setup());
    config.address = tcp(config.address, "localhost", free);
    let mut client = factory.client();
    for nth in 0..500 {
        client.ok(&[b"LPUSH".as_slice(), b"q", &envelope(&format!("m{nth}"), 0)]);
    }
    let mut driver = Driver::connected(make(config));
    for round in 1..=5 {
        driver.broker.set_demand(100);
        if round % 2 == 0 {
            driver.turn(std::time::Duration::ZERO);
            client.ok(&[b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"]);
        }
        driver.until("a hundred more", |driver| driver.delivered.len() == round * 100);
    }
    assert!(driver.connects >= 2);
    let mut ids = driver.ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 500);
    driver.settle_all(Settlement::Ack);
    assert_eq!(client.integer(&[b"HLEN", b"unacked"]), 0);
    driver.stop();
}

#[test]
fn a_refused_connection_is_tried_again() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(failure("127.0.0.1", free), (ErrorKind::Connection, Some(0.02)));
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(failure("127.0.0.1", silent.local_addr().unwrap().port()), (ErrorKind::Timeout, Some(0.02)));
}

#[test]
fn an_unknown_name_is_reported() {
    assert_eq!(failure("no-such-host.invalid", 6399), (ErrorKind::Connection, Some(0.02)));
}
