//! `drupe run`: the way of one container, top-down.

use std::io::Write;
use std::rc::Rc;

use super::find::Refused;
use super::preparation::{Place, Preparation};
use super::{Failure, create, removal, start};
use crate::cgroup::Origin;
use crate::cli::{CreateArgs, GlobalArgs, RunArgs};
use crate::container::lock::Held;
use crate::container::status::Refusal;
use crate::container::{Container, Entry};
use crate::files;
use crate::handover::{self, Handed};
use crate::launch::{self, Launch};
use crate::monitor::{Ending, MonitorError, Signals};
use crate::stage::Stages;

/// Runs a container; the result is its exit status, or 0 when it is left alone once it runs.
pub(crate) fn run(global: &GlobalArgs, args: &RunArgs, stages: &mut Stages) -> Result<u8, Failure> {
    let preparation = Preparation::new(global, &args.create, args.detach, stages)?;
    let place = preparation.place(global, stages)?;
    if args.detach {
        detached(global, args, preparation, place, stages)
    } else {
        foreground(global, args, preparation, place, stages)
    }
}

fn detached(
    global: &GlobalArgs,
    args: &RunArgs,
    preparation: Preparation,
    place: Place,
    stages: &mut Stages,
) -> Result<u8, Failure> {
    let id = preparation.id.clone();
    let entry = create::detach(global, &args.create, preparation, place, stages)?;
    let started = entry.try_clone().and_then(Container::look).map_err(Failure::from).and_then(|container| {
        match container {
            Some(container) => start::execute(&container),
            None => Err(Refused::new(Refusal::DoesNotExist, id.as_str()).into()),
        }
    });
    if started.is_err() {
        removal::clean_up(&entry);
    }
    started.map(|()| 0)
}

fn foreground(
    global: &GlobalArgs,
    args: &RunArgs,
    preparation: Preparation,
    place: Place,
    stages: &mut Stages,
) -> Result<u8, Failure> {
    let id = preparation.id.clone();
    let origin = Origin::of_process()?;
    let Place { entry, creating, signals } = place;
    let ended = attend(global, args, preparation, &entry, (creating, signals), stages);
    // A process cannot remove the cgroup that it is in.
    origin.restore(std::process::id());
    if !args.keep || ended.is_err() {
        removal::clean_up(&entry);
    }
    if global.debug {
        stages.mark("down");
        // The table is for who asked for it; a closed stderr is their choice.
        let _ = write!(std::io::stderr(), "drupe: start-up of {id}\n{stages}");
    }
    ended.map(launch::status)
}

/// Runs it to its end. The caller's terminal is as before afterwards.
fn attend(
    global: &GlobalArgs,
    args: &RunArgs,
    preparation: Preparation,
    entry: &Rc<Entry>,
    (creating, signals): (Held, Signals),
    stages: &mut Stages,
) -> Result<Ending, Failure> {
    let CreateArgs { machine, handover: handover_args, .. } = &args.create;
    let Preparation { mut plan, record, handover, .. } = preparation;
    let files = files::open(&plan.host, machine.kernel.as_deref(), machine.initramfs.as_deref())?;
    stages.mark("files");
    let handed = handover.open()?;
    handed.set_size(&mut plan.guest.process);
    handover::announce_pidfd(handover_args, rustix::process::getpid())?;
    let Handed { streams, own, .. } = handed;
    let entry = Rc::clone(entry);
    let launch = Launch { plan, record, entry, files, streams, signals, debug: global.debug };
    let ended = launch.foreground(creating, handover_args.pid_file.clone(), stages).map_err(failure);
    drop(own);
    ended
}

fn failure(error: MonitorError) -> Failure {
    let status = error.exit_status();
    Failure::with_status(error, status)
}
