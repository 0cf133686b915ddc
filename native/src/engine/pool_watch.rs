//! The fork server and the children: greetings, deaths, successors.

use crate::engine::children::Place;
use crate::engine::jobs::End;
use crate::engine::node::{FORK_SERVER, FORK_SPARE, Node};
use crate::engine::notice::{Notice, NoticeKind};
use crate::pool::supervisor::{reap, signal};

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use crate::error::Result;
use crate::pool::supervisor::ForkServer;

/// Watches the sockets of the fork server and its spare.
pub(super) fn watch(server: &ForkServer, registry: &Registry) -> Result<()> {
    registry.register(&mut SourceFd(&server.socket()), FORK_SERVER, Interest::READABLE)?;
    if let Some(spare) = server.spare_socket() {
        registry.register(&mut SourceFd(&spare), FORK_SPARE, Interest::READABLE)?;
    }
    Ok(())
}

fn unwatch(server: &ForkServer, registry: &Registry) {
    // What is not registered, or closed already, needs no unwatching.
    let _ = registry.deregister(&mut SourceFd(&server.socket()));
    if let Some(spare) = server.spare_socket() {
        let _ = registry.deregister(&mut SourceFd(&spare));
    }
}

impl Node {
    /// One of the two fork servers died: the spare takes over, and there is a spare again.
    pub(super) fn on_fork_server_event(&mut self) {
        let (server_gone, spare_gone) = (self.server.is_gone(), self.server.spare_is_gone());
        if self.lifecycle.ends_children() || !(server_gone || spare_gone) {
            return;
        }
        self.counters.fork_server_deaths += 1;
        let registry = self.poll.registry();
        unwatch(&self.server, registry);
        let replaced = if server_gone { self.server.promote() } else { self.server.replace_spare() };
        // A child that was asked for and not forked any more is missed by its link, as one that died young.
        match replaced.and_then(|()| watch(&self.server, registry)) {
            Ok(()) if server_gone => {
                self.notices.push(Notice::log(30, "The fork server died; its spare took over."));
            }
            Ok(()) => self.notices.push(Notice::log(30, "The spare fork server died and was replaced.")),
            Err(error) => self.notices.push(Notice::log(50, format!("Cannot replace the fork server: {error}"))),
        }
    }

    pub(super) fn on_child_socket(&mut self, index: usize) {
        let Some(child) = self.places.get_mut(index).and_then(|place| place.child.as_mut()) else { return };
        let heard = match child.link.drain_socket() {
            Ok(heard) => heard,
            Err(error) => {
                self.notices.push(Notice::log(40, format!("A pool link failed: {error}")));
                return;
            }
        };
        child.is_up |= heard.is_up;
        if let Some(pid) = heard.pid {
            self.on_greeting(index, pid);
        } else if heard.is_closed && child.pid == 0 {
            self.on_child_death(index);
        }
        if heard.is_up {
            // What waits behind running jobs may start here at once, and in its order.
            for other in 0..self.places.len() {
                self.take_back_all(other);
            }
        }
    }

    fn on_greeting(&mut self, index: usize, pid: i32) {
        let now_ns = self.clock.monotonic_ns();
        let up_until_ns = self.config.pool.up_timeout_s.map(|seconds| now_ns.saturating_add((seconds * 1e9) as u64));
        if let Err(error) = self.places[index].on_greeting(index, pid, self.poll.registry(), up_until_ns) {
            // A child whose end would not be seen is none; another one may do.
            self.notices.push(Notice::log(40, format!("Cannot watch child {pid}: {error}")));
            signal(pid, libc::SIGKILL);
            self.on_child_death(index);
            return;
        }
        let notice = Notice { pid, index: index as u32, ..Notice::new(NoticeKind::ChildStarted) };
        self.notices.push(notice);
    }

    /// Ends the children that took too long to initialise themselves; others may do better.
    pub(super) fn end_late_starters(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        for (index, place) in self.places.iter_mut().enumerate() {
            let Some(child) = &mut place.child else { continue };
            if child.up_until_ns.is_none_or(|until_ns| until_ns > now_ns) {
                continue;
            }
            child.up_until_ns = None;
            if !child.is_up {
                // Celery's words.
                let text = format!(
                    "Timed out waiting for UP message from <ForkProcess(ForkPoolWorker-{}, started daemon)>",
                    index + 1
                );
                self.notices.push(Notice::log(40, text));
                signal(child.pid, libc::SIGKILL);
            }
        }
    }

    /// A child is dead: its last frames count, what it ran is lost, what it did not start goes on.
    pub(super) fn on_child_death(&mut self, index: usize) {
        // A dead process's descriptor also says so before anybody reaped it; nothing else is lost by asking.
        self.collect_from(index);
        let registry = self.poll.registry();
        let now_ns = self.clock.monotonic_ns();
        let Some(place) = self.places.get_mut(index) else { return };
        let Some(mut child) = place.vacate(registry, now_ns) else { return };
        if self.lifecycle.ends_children() {
            place.respawn_at_ns = None;
        }
        let status = if child.pid == 0 { -libc::SIGKILL } else { reap(child.pid).unwrap_or(-libc::SIGKILL) };
        self.counters.children_ended += 1;
        if place.note_end(&child, status) && self.consuming && self.places.iter().all(Place::is_hopeless) {
            // Celery's words; Python ends the worker at this level.
            let text = "Unrecoverable error: WorkerLostError('Could not start worker processes')";
            self.notices.push(Notice::log(50, text));
        }
        let remains = child.link.remains();
        for handed in remains.unstarted.iter().rev() {
            self.return_to_ready(handed.job);
        }
        if let Some(running) = remains.running {
            self.counters.children_lost += 1;
            self.on_end(running.job, End::Lost(status));
            if let Some(notice) = self.notices.last_mut().filter(|notice| notice.handle == running.job) {
                notice.pid = child.pid;
            }
        }
        let notice = Notice { pid: child.pid, index: index as u32, status, ..Notice::new(NoticeKind::ChildExited) };
        self.notices.push(notice);
    }

    /// Asks for the successors whose time has come.
    pub(super) fn respawn(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        if self.lifecycle.ends_children() {
            return;
        }
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            if place.child.is_some() || place.respawn_at_ns.is_none_or(|at_ns| at_ns > now_ns) {
                continue;
            }
            let capacity = self.config.pool.link_capacity_bytes as usize;
            if let Err(error) = place.spawn(index, capacity, &mut self.server, self.poll.registry(), now_ns) {
                place.respawn_at_ns = Some(now_ns + 100_000_000);
                self.notices.push(Notice::log(40, format!("Cannot start a child: {error}")));
            }
        }
    }
}
