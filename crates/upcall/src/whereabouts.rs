//! Where a process that runs with a configuration is asked, whatever has become of the file since it was read.
//!
//! The process says so itself, on a socket in Linux's abstract namespace: that takes no folder to write in, is gone with the
//! process, and stays within its container. On other systems nobody says it, and the file has to do.

pub(crate) use imp::{ask, tell};

#[cfg(target_os = "linux")]
mod imp {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::io::{self, Read};
    use std::net::SocketAddr;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{self, UnixStream};
    use std::path::Path;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixListener;

    /// How long an answer is waited for. It is there as soon as the process has a moment.
    const ANSWER_TIME: Duration = Duration::from_secs(2);
    /// The longest address, such as `[1080::8:800:200c:417a%4294967295]:65535`, has fewer.
    const ADDRESS_BYTES_MAX: u64 = 128;
    /// How long it does nothing where no more can be accepted.
    const PAUSE: Duration = Duration::from_secs(1);

    /// Tells from now on where the admin pages of this process are, which runs with the file.
    pub(crate) fn tell(file: &Path, admin: SocketAddr) -> io::Result<()> {
        let listener = net::UnixListener::bind_addr(&name_of(file)?)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    // It fits into any socket's buffer: nobody who does not read is waited for.
                    Ok((mut asked, _)) => drop(asked.write_all(admin.to_string().as_bytes()).await),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        });
        Ok(())
    }

    /// Asks the process that runs with this file where its admin pages are. `None` if none says so.
    pub(crate) fn ask(file: &Path) -> Option<SocketAddr> {
        let asked = UnixStream::connect_addr(&name_of(file).ok()?).ok()?;
        asked.set_read_timeout(Some(ANSWER_TIME)).ok()?;
        let mut answer = String::new();
        asked.take(ADDRESS_BYTES_MAX).read_to_string(&mut answer).ok()?;
        answer.parse().ok()
    }

    /// A name that both sides find without the file's being there. Containers that share a network have the same paths: they are
    /// told apart by their processes' namespace.
    fn name_of(file: &Path) -> io::Result<net::SocketAddr> {
        let mut hasher = DefaultHasher::new();
        std::fs::read_link("/proc/self/ns/pid").ok().hash(&mut hasher);
        std::path::absolute(file)?.hash(&mut hasher);
        net::SocketAddr::from_abstract_name(format!("upcall/{:016x}", hasher.finish()))
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::net::SocketAddr;
    use std::path::Path;

    pub(crate) fn tell(_: &Path, _: SocketAddr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn ask(_: &Path) -> Option<SocketAddr> {
        None
    }
}
