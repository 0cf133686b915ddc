//! The fork server and the children: greetings, deaths, successors.

use crate::engine::jobs::End;
use crate::engine::node::{FORK_SERVER, Node};
use crate::engine::notice::{Notice, NoticeKind};
use crate::pool::parent::Greeting;
use crate::pool::supervisor::reap;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use crate::error::Result;
use crate::pool::supervisor::ForkServer;

/// Watches the active fork server's socket.
pub(super) fn watch(server: &ForkServer, registry: &Registry) -> Result<()> {
    registry.register(&mut SourceFd(&server.socket()), FORK_SERVER, Interest::READABLE)?;
    Ok(())
}

impl Node {
    pub(super) fn on_fork_server_event(&mut self) {
        if !self.server.is_gone() || self.lifecycle.ends_children() {
            return;
        }
        self.counters.fork_server_deaths += 1;
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&self.server.socket()));
        let replaced = self.server.promote().and_then(|()| watch(&self.server, registry));
        let replaced = replaced.and_then(|()| {
            self.places.iter().enumerate().try_for_each(|(index, place)| place.spawn_again(index, &mut self.server))
        });
        match replaced {
            Ok(()) => self.notices.push(Notice::log(30, "The fork server died; its spare took over.")),
            Err(error) => self.notices.push(Notice::log(50, format!("Cannot replace the fork server: {error}"))),
        }
    }

    pub(super) fn on_child_socket(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else { return };
        let Some(child) = &mut place.child else { return };
        match child.link.drain_socket() {
            Ok(Greeting::Alive(pid)) => {
                if let Err(error) = place.on_greeting(index, pid, self.poll.registry()) {
                    self.notices.push(Notice::log(50, format!("Cannot watch child {pid}: {error}")));
                }
                let notice = Notice { pid, index: index as u32, ..Notice::new(NoticeKind::ChildStarted) };
                self.notices.push(notice);
            }
            Ok(Greeting::Closed) if child.pid == 0 => self.on_child_death(index),
            Ok(Greeting::None | Greeting::Closed) => {}
            Err(error) => self.notices.push(Notice::log(40, format!("A pool link failed: {error}"))),
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
