//! fsx: random operations on one file, each read compared with what must be there.

use crate::case::{Case, is_soak};
use crate::container::Container;
use crate::disk::Disk;
use crate::stage::Stage;
use crate::{TOOLS, TOOLS_INSIDE, VOLUME_INSIDE, is_full, with_tools};

/// A run ends before it counts as hung, on a slow machine too.
const OPERATIONS_PER_RUN: u32 = 5_000;

/// Runs of each configuration: a sample, 10^5 operations, 10^6 operations.
const RUNS: [u32; 3] = [1, 20, 200];

pub(crate) fn cases() -> Vec<Case> {
    let configurations = [
        ("buffered", include_str!("fsx/buffered.toml")),
        ("mmap", include_str!("fsx/mmap.toml")),
        ("aligned", include_str!("fsx/aligned.toml")),
        ("mixed", include_str!("fsx/mixed.toml")),
    ];
    let case = |(name, text): (&'static str, &'static str)| {
        Case::new(format!("fsx::{name}"), move |stage| fsx(stage, text))
            .needs_variable(TOOLS)
            .cost(10 * runs())
    };
    configurations.map(case).into()
}

fn runs() -> u32 {
    let [sample, full, soak] = RUNS;
    match (is_soak(), is_full()) {
        (true, _) => soak,
        (false, true) => full,
        (false, false) => sample,
    }
}

fn fsx(stage: &Stage, configuration: &str) {
    let disk = Disk::new(stage, 64);
    let volume = disk.directory("volume");
    let bundle = with_tools(stage, &volume);
    std::fs::write(bundle.rootfs().join("fsx.toml"), configuration).expect("a file");
    let container = Container::started(bundle);
    let (program, file) = (format!("{TOOLS_INSIDE}/fsx"), format!("{VOLUME_INSIDE}/file"));
    for seed in 1..=runs() {
        let (seed, operations) = (seed.to_string(), OPERATIONS_PER_RUN.to_string());
        let words: [&str; 10] =
            [&program, "-f", "/fsx.toml", "-S", &seed, "-N", &operations, "-P", "/tmp", &file];
        let output = container.exec(&words);
        let right = output.status == 0 && output.stdout_text().contains("All operations completed A-OK!");
        assert!(right, "seed {seed}: {output:?}");
    }
    container.end();
}
