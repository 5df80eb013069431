//! The file server behind the device: a pseudo filesystem whose root has one entry per share.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::api::{BackFileSystem, Vfs, VfsOptions};
use fuse_backend_rs::passthrough::{CachePolicy, Config, PassthroughFs};

use super::FsError;
use super::single_file::SingleFile;
use crate::config::ShareFile;

/// Answers FUSE requests.
pub(super) type FuseServer = Server<Arc<Vfs>>;

/// How long the guest may believe what it knows of a file. The host may change the tree while the container runs
/// (a copy into it, another container with the same volume), and is then seen after this time.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A server for `shares`.
pub(super) fn server(shares: &[ShareFile]) -> Result<FuseServer, FsError> {
    let vfs = Vfs::new(VfsOptions {
        no_open: false,
        no_opendir: false,
        no_writeback: true,
        killpriv_v2: true,
        ..VfsOptions::default()
    });
    for share in shares {
        mount(&vfs, share).map_err(|source| FsError::Share { name: share.name.clone(), source })?;
    }
    Ok(Server::new(Arc::new(vfs)))
}

fn mount(vfs: &Vfs, share: &ShareFile) -> io::Result<()> {
    let fs = PassthroughFs::<()>::new(Config {
        // The descriptor's own entry in /proc is followed once, now; a share is never reached by its path again.
        root_dir: format!("/proc/self/fd/{}/.", share.root.as_raw_fd()),
        entry_timeout: TIMEOUT,
        attr_timeout: TIMEOUT,
        cache_policy: CachePolicy::Auto,
        writeback: false,
        xattr: true,
        do_import: false,
        killpriv_v2: true,
        ..Config::default()
    })?;
    fs.import()?;
    let fs: BackFileSystem = match &share.only {
        Some(name) => Box::new(SingleFile::new(fs, name)?),
        None => Box::new(fs),
    };
    vfs.mount(fs, &format!("/{}", share.name)).map_err(io::Error::other)?;
    Ok(())
}
