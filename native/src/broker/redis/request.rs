//! What we ask of the server, and how each question is put. A request holds all that is needed to put it
//! again: after a lost connection, a busy server, or a server that forgot its scripts.

use super::keys::{Keys, ListIndex};
use super::leases::DEAD_AFTER_S;
use super::script::{Script, ScriptDigests};
use super::sweeping::SWEEP_BATCH;
use crate::broker::DeliveryTag;
use crate::clock::MonotonicNs;
use crate::wire::resp::{CommandWriter, write_command};

/// Most bytes of messages in one batch; a single larger message still comes.
const BATCH_MAX_BYTES: u64 = 1 << 20;
/// A counted digest is forgotten after a day without a redelivery.
const DELIVERIES_LIFE_S: u64 = 86_400;
/// Life of the lock on a dead node's reclaim, renewed with every batch.
const RECLAIM_LOCK_S: u64 = 30;
/// kombu's `unacked_mutex_expire`.
const MUTEX_LIFE_S: u64 = 300;
/// How many index entries one step of a scan looks at.
const SCAN_STEP: u64 = 1000;

/// A fetch on its way.
#[derive(Debug, Clone)]
pub(super) struct FetchTicket {
    /// The first counter of the range set aside for it.
    pub(super) first_counter: u64,
    /// The size of the range: most messages wanted.
    pub(super) want: u32,
    /// The queues in reading order.
    pub(super) order: Box<[u16]>,
    /// Whether each queue gets its share.
    pub(super) fair: bool,
}

/// A question to the server.
#[derive(Debug, Clone)]
pub(super) enum Request {
    /// Make a script known.
    Load(Script),
    /// Close our previous connection, should the server still have it.
    KillPrevious {
        client_id: i64,
        address: String,
    },
    /// Switch invalidation pushes on (or, without RESP3, just answer). Ends the preparations.
    Track {
        resp3: bool,
    },
    /// The next command's keys are to be tracked.
    Caching,
    /// Whether any list exists; arms the tracking of all of them.
    Exists {
        order: Box<[u16]>,
    },
    Fetch(FetchTicket),
    /// Drop entries; `Ack` of the same tags follows and is what counts.
    Forget(Vec<DeliveryTag>),
    Ack(Vec<DeliveryTag>),
    /// Messages that had come back before are settled: stop counting.
    ForgetDeliveries(Vec<Vec<u8>>),
    Requeue {
        list: ListIndex,
        counted: bool,
        tags: Vec<DeliveryTag>,
    },
    Park(Vec<(DeliveryTag, f64)>),
    Renew {
        now_s: f64,
        tags: Vec<DeliveryTag>,
    },
    Recall(Vec<DeliveryTag>),
    Undo {
        first_counter: u64,
        want: u32,
    },
    Heartbeat {
        sent_ns: MonotonicNs,
    },
    /// Look for a dead owner's tags.
    Scan {
        owner: Vec<u8>,
        cursor: Vec<u8>,
        found: Vec<Vec<u8>>,
    },
    Reclaim {
        owner: Vec<u8>,
        tags: Vec<Vec<u8>>,
        last: bool,
    },
    Visible {
        ceiling_s: f64,
        /// Tags at the head that are not looked at.
        passed: u64,
    },
    /// The bindings of an exchange, to know where a stock worker's message belongs.
    Bindings {
        restore: Box<Restore>,
        exchange: String,
        routing_key: String,
    },
    Restore(Box<Restore>),
    /// Leave the list of nodes; `abandoned` if something is still leased.
    SignOff {
        abandoned: bool,
    },
}

/// A stock worker's message on its way back.
#[derive(Debug, Clone)]
pub(super) struct Restore {
    pub(super) tag: Vec<u8>,
    pub(super) ceiling_s: f64,
    pub(super) message: Vec<u8>,
    pub(super) priority: Option<i64>,
    pub(super) queues: Vec<String>,
}

/// What the encoding of requests needs to know beside them.
#[derive(Debug)]
pub(super) struct Phrasebook<'a> {
    pub(super) keys: &'a Keys,
    pub(super) digests: &'a ScriptDigests,
    pub(super) server_major: u32,
    pub(super) owner: &'a str,
    /// The wall clock's time.
    pub(super) now_s: f64,
}

impl Phrasebook<'_> {
    /// Appends the command.
    pub(super) fn write(&self, request: &Request, out: &mut Vec<u8>) {
        let keys = self.keys;
        match request {
            Request::Load(script) => {
                write_command(out, &[b"SCRIPT", b"LOAD", script.source(self.server_major).as_bytes()]);
            }
            Request::KillPrevious { client_id, address } => {
                let id = client_id.to_string();
                write_command(out, &[b"CLIENT", b"KILL", b"ID", id.as_bytes(), b"ADDR", address.as_bytes()]);
            }
            Request::Track { resp3: true } => write_command(out, &[b"CLIENT", b"TRACKING", b"ON", b"OPTIN", b"NOLOOP"]),
            Request::Track { resp3: false } => write_command(out, &[b"PING"]),
            Request::Caching => write_command(out, &[b"CLIENT", b"CACHING", b"YES"]),
            Request::Exists { order } => self.write_exists(order, out),
            Request::Fetch(ticket) => self.write_fetch(ticket, out),
            Request::Forget(tags) => self.write_tags(b"HDEL", &keys.unacked, tags, out),
            Request::Ack(tags) => self.write_tags(b"ZREM", &keys.unacked_index, tags, out),
            Request::ForgetDeliveries(digests) => {
                let mut command = CommandWriter::new(out, 2 + digests.len());
                command.arg(b"HDEL").arg(&keys.deliveries);
                command.args(digests);
            }
            Request::Requeue { list, counted, tags } => self.write_requeue(*list, *counted, tags, out),
            Request::Park(tags) => {
                self.write_rescore(tags.iter().map(|(tag, until_s)| (*tag, until_s.max(self.now_s))), out);
            }
            Request::Renew { now_s, tags } => self.write_rescore(tags.iter().map(|tag| (*tag, *now_s)), out),
            Request::Recall(tags) => self.write_tags(b"HMGET", &keys.unacked, tags, out),
            Request::Undo { first_counter, want } => self.write_undo(*first_counter, *want, out),
            Request::Heartbeat { .. } => {
                let mut command = self.evalsha(Script::Heartbeat, &[&keys.nodes], 5, out);
                command.arg(self.owner).arg_f64(DEAD_AFTER_S).arg_u64(DELIVERIES_LIFE_S);
                command.arg(&keys.reclaim_lock_prefix).arg_u64(RECLAIM_LOCK_S);
            }
            Request::Scan { owner, cursor, .. } => {
                let pattern = [b"pyw:", glob_escape(owner).as_slice(), b":*"].concat();
                let mut command = CommandWriter::new(out, 7);
                command.arg(b"ZSCAN").arg(&keys.unacked_index).arg(cursor);
                command.arg(b"MATCH").arg(&pattern).arg(b"COUNT").arg_u64(SCAN_STEP);
            }
            Request::Reclaim { owner, tags, last } => self.write_reclaim(owner, tags, *last, out),
            Request::Visible { ceiling_s, passed } => self.write_visible(*ceiling_s, *passed, out),
            Request::Bindings { exchange, .. } => {
                let key = [&keys.prefix, b"_kombu.binding.".as_slice(), exchange.as_bytes()].concat();
                write_command(out, &[b"SMEMBERS", &key]);
            }
            Request::Restore(restore) => self.write_restore(restore, out),
            Request::SignOff { abandoned: true } => {
                write_command(out, &[b"ZADD", &keys.nodes, b"XX", b"0", self.owner.as_bytes()]);
            }
            Request::SignOff { abandoned: false } => write_command(out, &[b"ZREM", &keys.nodes, self.owner.as_bytes()]),
        }
    }

    fn evalsha<'b>(&self, script: Script, keys: &[&[u8]], arguments: usize, out: &'b mut Vec<u8>) -> CommandWriter<'b> {
        let mut command = CommandWriter::new(out, 3 + keys.len() + arguments);
        command.arg(b"EVALSHA").arg(self.digests.get(script)).arg_u64(keys.len() as u64);
        command.args(keys);
        command
    }

    fn write_tags(&self, name: &[u8], key: &[u8], tags: &[DeliveryTag], out: &mut Vec<u8>) {
        let mut command = CommandWriter::new(out, 2 + tags.len());
        command.arg(name).arg(key);
        for tag in tags {
            self.keys.write_tag(&mut command, *tag);
        }
    }

    fn write_exists(&self, order: &[u16], out: &mut Vec<u8>) {
        let steps = self.keys.steps.len();
        let mut command = CommandWriter::new(out, 1 + order.len() * steps);
        command.arg(b"EXISTS");
        for step in 0..steps {
            for queue in order {
                command.arg(self.keys.list(self.keys.list_index(step, *queue)));
            }
        }
    }

    fn write_fetch(&self, ticket: &FetchTicket, out: &mut Vec<u8>) {
        let keys = self.keys;
        let (steps, queues) = (keys.steps.len(), ticket.order.len());
        let mut command = CommandWriter::new(out, 3 + 3 + steps * queues + 7 + queues + steps);
        command.arg(b"EVALSHA").arg(self.digests.get(Script::Fetch)).arg_u64((3 + steps * queues) as u64);
        command.arg(&keys.unacked).arg(&keys.unacked_index).arg(&keys.deliveries);
        for step in 0..steps {
            for queue in &ticket.order {
                command.arg(keys.list(keys.list_index(step, *queue)));
            }
        }
        command.arg(&keys.tag_prefix).arg_u64(ticket.first_counter).arg_u64(u64::from(ticket.want));
        command.arg_u64(BATCH_MAX_BYTES).arg_f64(self.now_s).arg_u64(queues as u64);
        command.arg(if ticket.fair { b"1" } else { b"0" });
        command.args(ticket.order.iter().map(|queue| keys.tail(*queue)));
        command.args(keys.steps.iter().map(u8::to_string));
    }

    fn write_requeue(&self, list: ListIndex, counted: bool, tags: &[DeliveryTag], out: &mut Vec<u8>) {
        let keys = self.keys;
        let names: [&[u8]; 4] = [&keys.unacked, &keys.unacked_index, &keys.deliveries, keys.list(list)];
        let mut command = self.evalsha(Script::Requeue, &names, 2 + tags.len(), out);
        command.arg(if counted { b"1" } else { b"0" }).arg_u64(DELIVERIES_LIFE_S);
        for tag in tags {
            keys.write_tag(&mut command, *tag);
        }
    }

    fn write_rescore(&self, scores: impl ExactSizeIterator<Item = (DeliveryTag, f64)>, out: &mut Vec<u8>) {
        let mut command = self.evalsha(Script::Rescore, &[&self.keys.unacked_index], 2 * scores.len(), out);
        for (tag, score_s) in scores {
            command.arg_f64(score_s);
            self.keys.write_tag(&mut command, tag);
        }
    }

    fn write_undo(&self, first_counter: u64, want: u32, out: &mut Vec<u8>) {
        let keys = self.keys;
        let mut command = self.evalsha(Script::Undo, &[&keys.unacked, &keys.unacked_index], 5 + keys.steps.len(), out);
        command.arg(&keys.prefix).arg(&keys.separator).arg(&keys.tag_prefix);
        command.arg_u64(first_counter).arg_u64(u64::from(want));
        command.args(keys.steps.iter().map(u8::to_string));
    }

    fn write_reclaim(&self, owner: &[u8], tags: &[Vec<u8>], last: bool, out: &mut Vec<u8>) {
        let keys = self.keys;
        let lock = [keys.reclaim_lock_prefix.as_slice(), owner].concat();
        let names: [&[u8]; 5] = [&keys.unacked, &keys.unacked_index, &keys.deliveries, &keys.nodes, &lock];
        let mut command = self.evalsha(Script::Reclaim, &names, 7 + tags.len(), out);
        command.arg(&keys.prefix).arg(&keys.separator).arg_u64(DELIVERIES_LIFE_S).arg(owner);
        command.arg_f64(DEAD_AFTER_S).arg_u64(RECLAIM_LOCK_S).arg(if last { b"1" } else { b"0" });
        command.args(tags);
    }

    fn write_visible(&self, ceiling_s: f64, passed: u64, out: &mut Vec<u8>) {
        let keys = self.keys;
        let names: [&[u8]; 5] = [&keys.unacked, &keys.unacked_index, &keys.deliveries, &keys.nodes, &keys.mutex];
        let mut command = self.evalsha(Script::Visible, &names, 10, out);
        command.arg(&keys.prefix).arg(&keys.separator).arg_u64(DELIVERIES_LIFE_S).arg_f64(ceiling_s);
        command.arg_u64(SWEEP_BATCH as u64).arg(self.owner).arg_u64(MUTEX_LIFE_S).arg_f64(DEAD_AFTER_S).arg(self.owner);
        command.arg_u64(passed);
    }

    fn write_restore(&self, restore: &Restore, out: &mut Vec<u8>) {
        let keys = self.keys;
        let lists: Vec<_> = restore.queues.iter().map(|queue| keys.list_for(queue, restore.priority)).collect();
        let mut names: Vec<&[u8]> = vec![&keys.unacked, &keys.unacked_index, &keys.deliveries];
        names.extend(lists.iter().map(Vec::as_slice));
        let mut command = self.evalsha(Script::Restore, &names, 4, out);
        command.arg(&restore.tag).arg_f64(restore.ceiling_s).arg(&restore.message).arg_u64(DELIVERIES_LIFE_S);
    }
}

fn glob_escape(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text {
        if b"*?[]^-\\".contains(byte) {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}
