//! The model: what a disk certainly has of each file, and what it may have.
//!
//! A file's content is certain once it was synced, a name (made or deleted) once its folder was. Of everything else a
//! cut leaves nothing, or any of the sectors.

use std::collections::BTreeMap;
use std::path::Path;

use super::chance::Chance;

const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    synced: Vec<u8>,
    pending: Vec<Change>,
    /// Its name is in the folder for certain.
    is_named: bool,
}

/// All files of one folder.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: BTreeMap<String, File>,
    /// Deleted, and back after a cut unless the folder was synced since.
    deleted: BTreeMap<String, File>,
}

impl Disk {
    /// A file was opened; it is made if it is not there.
    pub fn open(&mut self, path: &str) {
        self.files.entry(path.to_owned()).or_default();
    }

    pub fn write(&mut self, path: &str, offset: usize, data: &[u8]) {
        self.change(path, Change::Write { offset, data: data.to_vec() });
    }

    pub fn truncate(&mut self, path: &str, length: usize) {
        self.change(path, Change::Truncate(length));
    }

    fn change(&mut self, path: &str, change: Change) {
        self.files.entry(path.to_owned()).or_default().pending.push(change);
    }

    /// A file was synced; SQLite syncs the folder along when it made the file and it is not the database itself.
    pub fn sync(&mut self, path: &str) {
        let Some(file) = self.files.get_mut(path) else { return };
        for change in file.pending.drain(..) {
            apply(&mut file.synced, &change);
        }
        if !file.is_named && (path.ends_with("-wal") || path.ends_with("-journal")) {
            self.sync_folder();
        }
    }

    pub fn sync_folder(&mut self) {
        self.deleted.clear();
        self.files.values_mut().for_each(|file| file.is_named = true);
    }

    pub fn delete(&mut self, path: &str) {
        if let Some(file) = self.files.remove(path)
            && file.is_named
        {
            self.deleted.insert(path.to_owned(), file);
        }
    }

    /// Writes what a cut leaves of the files of one folder into another.
    pub fn leave_in(&self, from: &Path, folder: &Path, chance: &mut Chance) {
        // Half of the cuts leave nothing but what is certain.
        let is_strict = chance.one_in(2);
        let mut survives = || !is_strict && chance.one_in(2);
        let deleted = self.deleted.iter().filter(|(path, _)| !self.files.contains_key(*path));
        for (path, file) in self.files.iter().chain(deleted) {
            if !file.is_named && !survives() {
                continue;
            }
            let name = Path::new(path).strip_prefix(from).expect("a file of the folder");
            std::fs::write(folder.join(name), file.left(&mut survives)).expect("written");
        }
    }
}

impl File {
    fn left(&self, survives: &mut impl FnMut() -> bool) -> Vec<u8> {
        let mut content = self.synced.clone();
        for change in &self.pending {
            match change {
                Change::Truncate(_) if survives() => apply(&mut content, change),
                Change::Truncate(_) => {}
                Change::Write { offset, data } => {
                    for (nth, sector) in data.chunks(SECTOR).enumerate() {
                        if survives() {
                            let data = sector.to_vec();
                            apply(&mut content, &Change::Write { offset: offset + nth * SECTOR, data });
                        }
                    }
                }
            }
        }
        content
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate(length) => content.truncate(*length),
        Change::Write { offset, data } => {
            let end = offset + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(data);
        }
    }
}
