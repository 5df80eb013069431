//! The verbs, one file each.

mod completion;
mod create;
mod delete;
mod events;
mod exec;
mod failure;
mod features;
mod find;
mod kill;
mod list;
mod pause;
mod preparation;
mod ps;
mod query;
mod removal;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

use crate::cli::{Cli, Verb};
use crate::stage::Stages;

pub(crate) use failure::Failure;

/// Carries out a command line; the result is the exit status.
pub(crate) fn run(cli: &Cli, stages: &mut Stages) -> Result<u8, Failure> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Create(args) => create::create(global, args, stages),
        Verb::Start(args) => start::start(global, args),
        Verb::State(args) => state::state(global, args),
        Verb::Kill(args) => kill::kill(global, args),
        Verb::Delete(args) => delete::delete(global, args),
        Verb::Run(args) => run::run(global, args, stages),
        Verb::Exec(args) => exec::exec(global, args),
        Verb::Ps(args) => ps::ps(global, args),
        Verb::List(args) => list::list(global, args),
        Verb::Pause(args) => pause::pause(global, args),
        Verb::Resume(args) => resume::resume(global, args),
        Verb::Events(args) => events::events(global, args),
        Verb::Update(args) => update::update(global, args),
        Verb::Features(args) => features::features(global, args),
        Verb::Spec(args) => spec::spec(global, args),
        Verb::Completion(args) => Ok(completion::print(args.shell)),
    }
}
