//! The verbs, one file each; what they do in each state is in `state_machine`.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

use crate::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    let verbs = [
        create::cases,
        start::cases,
        state::cases,
        kill::cases,
        delete::cases,
        run::cases,
        exec::cases,
        ps::cases,
        list::cases,
        pause::cases,
        resume::cases,
        events::cases,
        update::cases,
        features::cases,
        spec::cases,
    ];
    verbs.iter().flat_map(|verb| verb()).collect()
}
