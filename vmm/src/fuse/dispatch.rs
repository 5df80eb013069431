//! One request: its header, the method that serves it, its reply.

use rustix::io::Errno;

use super::FuseServer;
use super::wire::{Body, Fields, Header, IN_HEADER, INTERRUPT, OUT_HEADER, Opcode, WRITE_IN};
use crate::buffers::Buffers;

/// The longest request but for the data of a write: an extended attribute with its name.
const MAX_REQUEST: usize = 128 << 10;

/// What a served request gives.
pub(super) enum Reply {
    /// These bytes behind the header.
    Body(Body),
    /// So many bytes, which stand behind the header already.
    Data(usize),
    /// Nothing, not even a header.
    Silent,
    /// What a job gives, behind so many bytes of data that stand there already.
    Later(usize, Job),
}

/// What may wait for the host's disk for long. It runs on another thread, touches no guest memory, and gives the bytes
/// of the reply.
pub(super) type Job = Box<dyn FnOnce() -> Result<Vec<u8>, Errno> + Send>;

/// A request that is answered, or will be.
pub(crate) enum Answer {
    /// So many bytes were written to the reply's buffers.
    Done(usize),
    /// A job has to be run first.
    Later(Pending),
}

/// A request whose job has to be run.
pub(crate) struct Pending {
    pub(crate) ticket: Ticket,
    job: Job,
}

/// By which the result of a job finds the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    unique: u64,
    prefix: usize,
}

/// What a job gave.
pub(crate) struct JobResult(Result<Vec<u8>, Errno>);

impl Pending {
    /// What does `job` when it is run.
    #[cfg(test)]
    pub(crate) fn of(job: impl FnOnce() + Send + 'static) -> Self {
        let job = Box::new(|| {
            job();
            Ok(Vec::new())
        });
        Self { ticket: Ticket { unique: 0, prefix: 0 }, job }
    }

    /// Runs the job.
    pub(crate) fn run(self) -> JobResult {
        JobResult((self.job)())
    }
}

impl Reply {
    /// A header alone.
    pub(super) fn done() -> Self {
        Self::Body(Body::default())
    }
}

/// A request while it is served.
#[derive(Debug)]
pub(super) struct Request<'a, 'm> {
    pub(super) header: Header,
    /// What follows the header, but for the data of a write.
    pub(super) body: Fields<'a>,
    /// All of it.
    pub(super) buffers: &'a Buffers<'m>,
    /// Room for the data of a reply, behind its header.
    pub(super) room: Buffers<'m>,
}

impl FuseServer {
    /// Answers a request. Gives the number of bytes that were written to `reply`: none for what is no request, and for
    /// those that never have a reply.
    pub(crate) fn answer(&mut self, request: &Buffers<'_>, reply: &Buffers<'_>) -> Answer {
        let mut head = [0; IN_HEADER];
        request.copy_to(&mut head);
        let header = Header::parse(&head).filter(|_| request.len() >= IN_HEADER);
        let Some(header) = header else { return Answer::Done(0) };
        let opcode = Opcode::of(header.opcode);
        self.stats.request(opcode);
        if header.opcode == INTERRUPT {
            return Answer::Done(0);
        }
        let result = match opcode {
            Some(opcode) => self.read_and_serve(opcode, header, request, reply),
            None => Err(Errno::NOSYS),
        };
        self.count_held();
        let written = match result {
            Ok(Reply::Later(prefix, job)) => {
                return Answer::Later(Pending { ticket: Ticket { unique: header.unique, prefix }, job });
            }
            Ok(Reply::Silent) => 0,
            Ok(Reply::Body(body)) => finish(reply, header.unique, Ok(body.0.len()), &body.0),
            Ok(Reply::Data(length)) => finish(reply, header.unique, Ok(length), &[]),
            // Nobody waits for a reply.
            Err(_) if matches!(opcode, Some(Opcode::Forget | Opcode::BatchForget)) => 0,
            Err(errno) => {
                self.stats.error();
                finish(reply, header.unique, Err(errno), &[])
            }
        };
        Answer::Done(written)
    }

    /// Answers a request with what its job gave. Gives the number of bytes written to `reply`.
    pub(crate) fn complete(&mut self, ticket: Ticket, result: JobResult, reply: &Buffers<'_>) -> usize {
        match result.0 {
            Ok(body) if ticket.prefix == 0 => finish(reply, ticket.unique, Ok(body.len()), &body),
            Ok(body) => {
                reply.range(OUT_HEADER.saturating_add(ticket.prefix), body.len()).copy_from(&body);
                finish(reply, ticket.unique, Ok(ticket.prefix + body.len()), &[])
            }
            // The guest gets what there was before the error, and the error when it reads on.
            Err(_) if ticket.prefix > 0 => finish(reply, ticket.unique, Ok(ticket.prefix), &[]),
            Err(errno) => {
                self.stats.error();
                finish(reply, ticket.unique, Err(errno), &[])
            }
        }
    }

    fn read_and_serve(
        &mut self,
        opcode: Opcode,
        header: Header,
        buffers: &Buffers<'_>,
        reply: &Buffers<'_>,
    ) -> Result<Reply, Errno> {
        if header.length < IN_HEADER || header.length > buffers.len() {
            return Err(Errno::INVAL);
        }
        let length =
            if opcode == Opcode::Write { header.length.min(IN_HEADER + WRITE_IN) } else { header.length };
        if length > MAX_REQUEST {
            return Err(Errno::TOOBIG);
        }
        let mut bytes = vec![0; length];
        buffers.copy_to(&mut bytes);
        let body = Fields(bytes.get(IN_HEADER..).unwrap_or_default());
        let room = reply.range(OUT_HEADER, usize::MAX);
        self.serve(opcode, &Request { header, body, buffers, room })
    }

    fn serve(&mut self, opcode: Opcode, request: &Request<'_, '_>) -> Result<Reply, Errno> {
        let (header, body) = (&request.header, request.body);
        match opcode {
            Opcode::Init => self.init(body),
            Opcode::Destroy => {
                self.reset();
                Ok(Reply::done())
            }
            Opcode::Lookup => self.lookup(header, body),
            Opcode::Forget => self.forget(header, body),
            Opcode::BatchForget => self.batch_forget(body),
            Opcode::Getattr => self.getattr(header, body),
            Opcode::Setattr => self.setattr(header, body),
            Opcode::Statx => self.statx(header, body),
            Opcode::Statfs => self.statfs(header),
            Opcode::Readlink => self.readlink(header),
            Opcode::Symlink => self.symlink(header, body),
            Opcode::Mknod => self.mknod(header, body),
            Opcode::Mkdir => self.mkdir(header, body),
            Opcode::Link => self.link(header, body),
            Opcode::Create => self.create(header, body),
            Opcode::Tmpfile => self.tmpfile(header, body),
            Opcode::Unlink => self.unlink(header, body),
            Opcode::Rmdir => self.rmdir(header, body),
            Opcode::Rename => self.rename(header, body),
            Opcode::Rename2 => self.rename2(header, body),
            Opcode::Open => self.open(header, body),
            Opcode::Release | Opcode::Releasedir => self.release(header, body),
            Opcode::Read => self.read(request),
            Opcode::Write => self.write(request),
            Opcode::Fsync | Opcode::Fsyncdir => self.fsync(header, body),
            Opcode::Syncfs => self.syncfs(header),
            Opcode::Fallocate => self.fallocate(header, body),
            Opcode::Lseek => self.lseek(header, body),
            Opcode::CopyFileRange => self.copy_file_range(header, body),
            Opcode::Opendir => self.opendir(header),
            Opcode::Readdir => self.readdir(request, false),
            Opcode::Readdirplus => self.readdir(request, true),
            Opcode::Setxattr => self.setxattr(header, body),
            Opcode::Getxattr => self.getxattr(header, body),
            Opcode::Listxattr => self.listxattr(header, body),
            Opcode::Removexattr => self.removexattr(header, body),
        }
    }
}

/// Writes a reply's header, with `body` behind it. A body that does not fit is an error that does.
fn finish(reply: &Buffers<'_>, unique: u64, length: Result<usize, Errno>, body: &[u8]) -> usize {
    if reply.len() < OUT_HEADER {
        return 0;
    }
    let length = length.and_then(|length| match u32::try_from(OUT_HEADER.saturating_add(length)) {
        Ok(total) if OUT_HEADER.saturating_add(length) <= reply.len() => Ok(total),
        _ => Err(Errno::RANGE),
    });
    let (total, error, body) = match length {
        Ok(total) => (total, 0, body),
        Err(errno) => (16, -errno.raw_os_error(), &[][..]),
    };
    let mut bytes = Body::default();
    bytes.u32(total).u32(error.cast_unsigned()).u64(unique).bytes(body);
    reply.copy_from(&bytes.0);
    usize::try_from(total).unwrap_or(OUT_HEADER)
}
