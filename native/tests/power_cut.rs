//! The power fails while publishers, a worker and its result store use one SQLite file: what was promised is there.
//!
//! SQLite's own file layer is wrapped (`power/vfs.rs`), so that every write, truncation, deletion and sync is known to a
//! model of the disk (`power/disk.rs`). A cut leaves of each file what was synced, and of the rest nothing or any part.
//! `PYWORKER_POWER_CUTS` is how many cuts are made.

#![allow(missing_docs, unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod power;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use power::chance::Chance;
use power::traffic::{Seen, Traffic};
use power::vfs;
use pyworker_native::sqlite::client::SqliteClient;
use pyworker_native::sqlite::consumer::{Asked, SqliteConsumer};

const CUTS: u64 = 12;
/// Publishes before the cut, at most: past several checkpoints.
const MOST_PUBLISHED: u64 = 4000;

/// What a file has after a cut.
#[derive(Debug)]
struct Found {
    problems: Vec<String>,
    remaining: Vec<String>,
    missing_results: Vec<String>,
}

fn cuts() -> u64 {
    std::env::var("PYWORKER_POWER_CUTS").map_or(CUTS, |text| text.parse().expect("PYWORKER_POWER_CUTS is a number"))
}

/// Lets everybody work on a file for a while, cuts the power, and looks at what is left.
fn cut(chance: &mut Chance, durable: bool) -> (Seen, Found) {
    let folder = power::Folder::new("before");
    vfs::record(&folder.path);
    let traffic = Traffic::start(&folder.path, durable, chance.next());
    // Often at the very beginning, while the file is being made.
    let enough = if chance.one_in(4) { chance.below(3) } else { chance.below(MOST_PUBLISHED) };
    traffic.wait_for(enough as usize);
    // What is promised by now must be on the disk by now; what is tried by then may be.
    let promised = traffic.promised();
    let disk = vfs::disk();
    let seen = Seen { promised, ..traffic.everything() };
    vfs::stop_recording();
    traffic.stop();
    let left = power::Folder::new("after");
    disk.leave_in(&folder.path, &left.path, chance);
    let found = look(&left.path, &seen);
    (seen, found)
}

fn look(folder: &Path, seen: &Seen) -> Found {
    let client = SqliteClient::open(power::traffic::address(folder, true), vec![0, 3, 6, 9]).expect("the file opens");
    let problems = client.problems().expect("a report");
    let consumer = SqliteConsumer::new("heir".into(), Duration::from_secs(60));
    let mut remaining = Vec::new();
    loop {
        let asked = Asked { queue: power::traffic::QUEUE, forgets: false };
        let fetched = consumer.fetch(&client, &[asked], 1000).expect("fetched");
        if fetched.is_empty() {
            break;
        }
        remaining.extend(fetched.iter().map(|(_, _, _, body)| power::traffic::id_of(body)));
    }
    let missing_results = seen.promised.stored.iter().filter(|id| !has_result(&client, id)).cloned().collect();
    Found { problems, remaining, missing_results }
}

fn has_result(client: &SqliteClient, id: &str) -> bool {
    client.get_many(&[id.as_bytes()]).expect("read")[0].as_deref() == Some(id.as_bytes())
}

fn set(ids: &[String]) -> BTreeSet<&str> {
    ids.iter().map(String::as_str).collect()
}

#[test]
fn a_power_cut_takes_nothing_that_was_promised() {
    let _alone = vfs::alone();
    let mut total = 0;
    for seed in 0..cuts() {
        let (seen, found) = cut(&mut Chance::new(seed), true);
        let (remaining, executed) = (set(&found.remaining), set(&seen.executed));
        assert_eq!(found.problems, Vec::<String>::new(), "seed {seed}");
        assert_eq!(remaining.len(), found.remaining.len(), "seed {seed}: a message is there twice");
        let published = set(&seen.promised.published);
        let lost: Vec<_> = published.iter().filter(|id| !remaining.contains(*id) && !executed.contains(*id)).collect();
        assert!(lost.is_empty(), "seed {seed}: {} of {} lost, for example {}", lost.len(), published.len(), lost[0]);
        let again: Vec<_> = set(&seen.promised.acknowledged).intersection(&remaining).copied().collect();
        assert!(again.is_empty(), "seed {seed}: acknowledged and there again: {again:?}");
        assert!(remaining.is_subset(&set(&seen.tried)), "seed {seed}: messages that nobody sent");
        assert_eq!(found.missing_results, Vec::<String>::new(), "seed {seed}: stored results are gone");
        total += published.len();
    }
    println!("{} cuts, {total} promised publishes", cuts());
    assert!(total > 0);
}

/// The model is worth something: where nobody waits for the disk it finds what is missing.
#[test]
fn without_waiting_for_the_disk_a_power_cut_takes_something() {
    let _alone = vfs::alone();
    let took_something = (0..20).any(|seed| {
        let left = std::panic::catch_unwind(|| cut(&mut Chance::new(seed), false));
        // A file that does not even open is a loss as well.
        left.map_or(true, |(seen, found)| {
            let kept = set(&found.remaining);
            let executed = set(&seen.executed);
            seen.promised.published.iter().any(|id| !kept.contains(id.as_str()) && !executed.contains(id.as_str()))
        })
    });
    assert!(took_something);
}
