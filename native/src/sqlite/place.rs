//! Where a file may lie: what must be so of its folder before anything is done with it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// File systems on which locks or shared memory of several processes cannot be relied on.
const NETWORK_FILE_SYSTEMS: [(i64, &str); 14] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x517B, "SMB"),
    (0x5346_414F, "AFS"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x0102_1997, "9P"),
    (0x7461_636F, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x4750_4653, "GPFS"),
    (0x2003_0528, "OrangeFS"),
    (0x1983_0326, "BeeGFS"),
    (0x7375_7245, "Coda"),
];
/// File systems that a program serves have one number; the list of mounts has more to say about them.
const SERVED_BY_A_PROGRAM: i64 = 0x6573_5546;
/// Those of them whose files are on other machines, as the list of mounts names them after `fuse.`.
const NETWORK_PROGRAMS: [&str; 14] = [
    "sshfs",
    "glusterfs",
    "ceph",
    "ceph-fuse",
    "s3fs",
    "mountpoint-s3",
    "gcsfuse",
    "blobfuse",
    "blobfuse2",
    "rclone",
    "juicefs",
    "mfs",
    "curlftpfs",
    "davfs",
];
/// Links to links that are followed, as the kernel does.
const LINKS_MAX: usize = 40;

/// Refuses places where a file cannot work.
pub(crate) fn check_place(path: &Path) -> Result<()> {
    let target = target_of(path);
    let folder = folder_of(&target);
    if path.is_dir() {
        return Err(config(path, "is a folder, not a file"));
    }
    if !folder.is_dir() {
        return Err(config(path, "its folder does not exist"));
    }
    if let Some(kind) = network_name(folder)? {
        return Err(config(
            path,
            &format!(
                "lies on a network file system ({kind}), where SQLite's locks and shared memory cannot be relied on"
            ),
        ));
    }
    if !is_writable(folder) {
        return Err(config(path, "its folder is read-only for this user; SQLite keeps its log beside the file"));
    }
    if target.exists() && !is_writable(&target) {
        return Err(config(path, "is read-only for this user"));
    }
    Ok(())
}

/// The file that a path leads to, if it is a link: SQLite keeps its log beside that one, and so do we with the bell.
pub(crate) fn target_of(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&target) {
            Ok(next) => target = folder_of(&target).join(next),
            Err(_) => break,
        }
    }
    target
}

/// The folder of a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn config(path: &Path, text: &str) -> Error {
    Error::new(ErrorKind::Config, format!("sqlite: {}: {text}", path.display()))
}

/// What kind of network file system a folder is on, if it is on one.
fn network_name(folder: &Path) -> Result<Option<String>> {
    let kind = file_system(folder)?;
    if kind != SERVED_BY_A_PROGRAM {
        return Ok(name_of_number(kind).map(str::to_owned));
    }
    let device = std::fs::metadata(folder)?.dev();
    // Without the list it counts as a local one: most of them are.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Ok(program_of(&mounts, libc::major(device), libc::minor(device)).map(str::to_owned))
}

/// What the file system's number means, if it is one to be refused.
fn name_of_number(kind: i64) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
}

/// The program behind a device in the list of mounts, if its files are on other machines.
fn program_of(mounts: &str, major: u32, minor: u32) -> Option<&'static str> {
    let device = format!("{major}:{minor}");
    mounts.lines().filter(|line| line.split(' ').nth(2) == Some(&device)).find_map(|line| {
        let (_, source) = line.split_once(" - ")?;
        let program = source.split(' ').next()?.strip_prefix("fuse.")?;
        NETWORK_PROGRAMS.into_iter().find(|known| *known == program)
    })
}

/// The kernel's number of the kind of file system that a folder is on.
#[expect(unsafe_code, reason = "statfs has no wrapper")]
fn file_system(folder: &Path) -> Result<i64> {
    let path = c_path(folder)?;
    // SAFETY: all bytes zero is a valid structure; the path is terminated and lives during the call.
    let kind = unsafe {
        let mut status: libc::statfs = std::mem::zeroed();
        if libc::statfs(path.as_ptr(), &raw mut status) != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        status.f_type
    };
    // A signed word of the machine's width, of which only 32 bits mean something.
    Ok(kind & 0xFFFF_FFFF)
}

#[expect(unsafe_code, reason = "access has no wrapper")]
fn is_writable(path: &Path) -> bool {
    let Ok(path) = c_path(path) else { return false };
    // SAFETY: the path is terminated and lives during the call.
    unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(ErrorKind::Config, "sqlite: the path contains a zero byte"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_number() {
        assert_eq!(name_of_number(0x6969), Some("NFS"));
        assert_eq!(name_of_number(0xFE53_4D42), Some("SMB"));
        assert_eq!(name_of_number(0xEF53), None);
    }

    #[test]
    fn those_that_a_program_serves_are_known_by_the_list_of_mounts() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      61 22 0:51 / /home/me/far rw,nosuid shared:9 - fuse.sshfs me@host:/srv rw,user_id=1000\n\
                      62 22 0:52 / /mnt/stick rw shared:10 - fuseblk /dev/sdb1 rw\n\
                      63 22 0:53 / /mnt/open rw master:2 shared:11 - fuse.encfs encfs rw\n\
                      64 22 0:5 / /mnt/bucket rw - fuse.s3fs s3fs rw\n";
        assert_eq!(program_of(mounts, 0, 51), Some("sshfs"));
        assert_eq!(program_of(mounts, 0, 5), Some("s3fs"));
        for local in [52, 53, 1] {
            assert_eq!(program_of(mounts, 0, local), None);
        }
        assert_eq!(program_of("", 0, 51), None);
    }

    #[test]
    fn the_kernel_is_asked_for_that_number() {
        // There is no network file system here to ask about; of these it is known what they are.
        assert_eq!(file_system(Path::new("/proc")).unwrap(), 0x9FA0);
        assert_eq!(file_system(Path::new("/sys")).unwrap(), 0x6265_6572);
        assert!(file_system(Path::new("/nonexistent-folder")).is_err());
        // The list has the folder's own line.
        let device = std::fs::metadata("/proc").unwrap().dev();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = format!(" {}:{} / /proc ", libc::major(device), libc::minor(device));
        assert!(mounts.contains(&line), "{line} in {mounts}");
    }

    #[test]
    fn places_are_checked() {
        let text = |path: &str| check_place(Path::new(path)).unwrap_err().to_string();
        assert!(text("/nonexistent-folder/x.db").contains("folder does not exist"));
        assert!(text("/tmp").contains("is a folder"));
    }

    #[test]
    fn a_link_counts_as_the_file_that_it_leads_to() {
        let folder = std::env::temp_dir().join(format!("pyworker-place-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let link = |name: &str, to: &str| std::os::unix::fs::symlink(to, folder.join(name)).unwrap();
        link("one.db", "two.db");
        link("two.db", "/nonexistent-folder/x.db");
        link("round.db", "round.db");
        assert_eq!(target_of(&folder.join("one.db")), Path::new("/nonexistent-folder/x.db"));
        assert_eq!(target_of(&folder.join("none.db")), folder.join("none.db"));
        assert_eq!(target_of(&folder.join("round.db")), folder.join("round.db"));
        let refusal = check_place(&folder.join("one.db")).unwrap_err().to_string();
        assert!(refusal.contains("one.db: its folder does not exist"), "{refusal}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
