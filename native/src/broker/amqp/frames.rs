//! What the server says, frame by frame.

use super::assembly::{Announcement, Assembly, Delivered};
use super::consumers::CHANNEL;
use super::topology::subject;
use super::{AmqpBroker, DECLARING, REOPEN_FIRST_NS, Stage};
use crate::broker::adoption::Claim;
use crate::broker::{BrokerEvent, Settlement};
use crate::clock::MonotonicNs;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::amqp::{
    BODY, Frame, HEADER, HEARTBEAT, METHOD, Method, decode_frame, decode_method, write_channel_close_ok,
    write_channel_flow_ok, write_close_ok,
};

impl AmqpBroker {
    /// Handles every complete frame.
    pub(super) fn process_input(&mut self, now_ns: MonotonicNs, events: &mut Vec<BrokerEvent>) -> Result<()> {
        let mut input = std::mem::take(&mut self.connection.input);
        let outcome = loop {
            match decode_frame(input.pending(), self.server.frame_max) {
                Ok(Some((frame, used))) => {
                    if let Err(error) = self.on_frame(frame, now_ns, events) {
                        break Err(error);
                    }
                    input.consume(used);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.connection.input = input;
        outcome
    }

    fn on_frame(&mut self, frame: Frame<'_>, now_ns: MonotonicNs, events: &mut Vec<BrokerEvent>) -> Result<()> {
        match (frame.kind, frame.channel) {
            (HEARTBEAT, _) => Ok(()),
            (METHOD, 0) => self.on_connection_method(&decode_method(frame.payload)?, events),
            (METHOD, CHANNEL) => self.on_consuming_method(decode_method(frame.payload)?, now_ns, events),
            (METHOD, DECLARING) => self.on_declaring_method(&decode_method(frame.payload)?, events),
            (HEADER | BODY, CHANNEL) => self.on_content(frame),
            (_, channel) => Err(wrong(format!("a frame of type {} on channel {channel}", frame.kind))),
        }
    }

    fn on_connection_method(&mut self, method: &Method<'_>, events: &mut Vec<BrokerEvent>) -> Result<()> {
        match method {
            Method::Close(farewell) => {
                write_close_ok(&mut self.connection.output);
                // The server hangs up anyway if this does not arrive.
                let _ = self.connection.flush(self.clock.monotonic_ns());
                Err(farewell.to_error())
            }
            Method::Blocked(reason) => {
                let text = format!("The broker blocks publishers ({reason}); consuming goes on.");
                events.push(BrokerEvent::Degraded { text });
                Ok(())
            }
            Method::Unblocked => {
                events.push(BrokerEvent::Degraded { text: "The broker takes messages again.".into() });
                Ok(())
            }
            Method::CloseOk => Ok(()),
            other => Err(wrong(format!("{other:?} on an open connection"))),
        }
    }

    fn on_declaring_method(&mut self, method: &Method<'_>, events: &mut Vec<BrokerEvent>) -> Result<()> {
        match method {
            Method::ChannelOpenOk => {}
            Method::Done | Method::QueueDeclareOk { .. } => {
                if self.declaring.pop_front().is_none() {
                    return Err(wrong(format!("{method:?} without a question")));
                }
            }
            Method::ChannelClose(farewell) => {
                write_channel_close_ok(&mut self.connection.output, DECLARING);
                let declaration = self.declaring.front().and_then(|index| self.config.declarations.get(*index));
                let doing = declaration.map_or_else(|| "declaring".to_owned(), subject);
                let error = farewell.to_error();
                // What worked when the worker started may work again in a moment.
                let kind = if self.stage == Stage::Consuming { ErrorKind::Connection } else { error.kind() };
                return Err(Error::new(kind, format!("{doing}: {error}")));
            }
            other => return Err(wrong(format!("{other:?} on the declaring channel"))),
        }
        if self.declaring.is_empty() {
            self.on_declared(events);
        }
        Ok(())
    }

    fn on_consuming_method(
        &mut self,
        method: Method<'_>,
        now_ns: MonotonicNs,
        events: &mut Vec<BrokerEvent>,
    ) -> Result<()> {
        match method {
            Method::Deliver { tag, delivery, redelivered, exchange, routing_key } => {
                let Some((queue, consumer)) = self.consumers.parse_tag(tag) else {
                    return Err(wrong(format!("a delivery for the consumer {:?}", String::from_utf8_lossy(tag))));
                };
                if self.assembly.is_some() {
                    return Err(wrong("a delivery inside another one".into()));
                }
                let announced = Announcement { delivery, queue, consumer, redelivered, exchange, routing_key };
                self.assembly = Some(Assembly::new(announced));
                Ok(())
            }
            Method::ChannelOpenOk | Method::CancelOk { .. } => Ok(()),
            Method::QosOk => match self.consumers.limits_sent.pop_front() {
                Some(is_barrier) => {
                    if is_barrier {
                        self.counters.settled += self.unacked.on_barrier();
                    }
                    Ok(())
                }
                None => Err(wrong("a limit confirmed that was not asked for".into())),
            },
            Method::ConsumeOk { tag } => {
                if let Some((queue, serial)) = self.consumers.parse_tag(tag) {
                    self.consumers.on_consuming(queue, serial);
                }
                self.reopen_wait_ns = REOPEN_FIRST_NS;
                Ok(())
            }
            Method::Cancel { tag } => {
                let cancelled = self.consumers.parse_tag(tag);
                if let Some((queue, serial)) = cancelled
                    && self.consumers.on_cancelled(queue, serial)
                {
                    let name = self.consumers.name(queue).to_owned();
                    let text = format!("The broker cancelled the consumer of queue {name:?}; declaring it again.");
                    events.push(BrokerEvent::Degraded { text });
                    // The new consumer follows once the engine asks, behind the declarations on the other channel.
                    self.declare()?;
                }
                Ok(())
            }
            Method::ChannelFlow(active) => {
                write_channel_flow_ok(&mut self.connection.output, CHANNEL, active);
                Ok(())
            }
            Method::ChannelClose(farewell) => {
                write_channel_close_ok(&mut self.connection.output, CHANNEL);
                self.on_channel_closed(&farewell.to_error(), now_ns, events)
            }
            other => Err(wrong(format!("{other:?} on the consuming channel"))),
        }
    }

    fn on_content(&mut self, frame: Frame<'_>) -> Result<()> {
        let Some(assembly) = &mut self.assembly else {
            return Err(wrong("content without a delivery".into()));
        };
        let complete = if frame.kind == HEADER {
            let name = self.consumers.name(assembly.queue());
            assembly.on_header(frame.payload, name, self.config.max_message_bytes)?
        } else {
            assembly.on_body(frame.payload)?
        };
        if complete && let Some(assembly) = self.assembly.take() {
            self.on_message(assembly.finish());
        }
        Ok(())
    }

    fn on_message(&mut self, message: Delivered) {
        let (delivery, queue, consumer) = (message.delivery, message.queue, message.consumer);
        if self.consumers.is_no_ack(queue) {
            self.consumers.receive(message);
            return;
        }
        self.consumers.on_credit_used(queue, consumer);
        self.unacked.receive(delivery, queue, consumer, message.identity);
        if message.redelivered && !self.adoption.is_idle() {
            match self.adoption.claim(message.identity, delivery) {
                Some(Claim::Adopted(tag)) => {
                    self.counters.reclaimed += 1;
                    self.held += 1;
                    self.unacked.hand(delivery, tag);
                    return;
                }
                Some(Claim::Ended(how)) => {
                    self.unacked.settle(delivery, how);
                    return;
                }
                None => {}
            }
        }
        if self.consumers.receive(message).is_none() {
            self.unacked.settle(delivery, Settlement::Release);
        }
    }
}

fn wrong(text: String) -> Error {
    Error::new(ErrorKind::Protocol, format!("amqp: {text}"))
}
