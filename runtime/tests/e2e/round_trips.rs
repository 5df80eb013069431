//! What programs of every day ask of the shared filesystem: no request that the ones before it have answered.

use std::fs;

use serde_json::Value;

use crate::bundle::Image;
use crate::case::Case;
use crate::container::Container;
use crate::filesystem::{counts, host, number};
use crate::stage::Stage;

/// Files that a script works on.
const FILES: u64 = 100;

pub(crate) fn cases() -> Vec<Case> {
    let no_other = "other runtimes have no such filesystem";
    vec![
        Case::new("round_trips::unpacking_asks_only_for_what_it_makes", unpacking).drupe_only(no_other),
        Case::new("round_trips::a_directory_is_listed_by_one_request", listing).drupe_only(no_other),
        Case::new("round_trips::removing_a_tree_asks_only_for_what_it_removes", removing)
            .drupe_only(no_other),
        Case::new("round_trips::a_directory_that_is_read_in_part_goes_on_where_it_was", reading_in_parts),
        Case::new("round_trips::capabilities_of_files_are_seen_and_lost", capabilities),
    ]
}

/// Requests by opcode of a script in a Debian whose /data is shared.
fn requests(stage: &Stage, script: &str) -> impl Fn(&str) -> u64 {
    let data = stage.directory("data");
    let files = data.join("files");
    fs::create_dir(&files).expect("a directory");
    for file in 0..FILES {
        fs::write(files.join(format!("file-{file}")), "content\n").expect("a file");
    }
    let archive = data.join("files.tar");
    let from = data.to_str().expect("a path");
    host(
        "tar",
        &["-C", from, "--owner=1000", "--group=1000", "-cf", archive.to_str().expect("a path"), "files"],
    );
    let bundle = stage.shared(Image::Debian, &["sleep", "1000"]).bind(&data, "/data", &["rbind"]);
    let container = Container::started(bundle);
    let before = counts(&container);
    let output = container.exec(&["bash", "-c", script]);
    output.assert(0, "");
    let after = counts(&container);
    container.end();
    let of = |counts: &Value, opcode: &str| number(counts, &format!("/requests/{opcode}"));
    move |opcode| of(&after, opcode) - of(&before, opcode)
}

fn unpacking(stage: &Stage) {
    let requests = requests(stage, "mkdir /data/new && tar -C /data/new -xf /data/files.tar");
    assert_eq!(requests("CREATE"), FILES);
    // What is left is for bash, tar and the directories themselves.
    for opcode in ["GETATTR", "GETXATTR", "LOOKUP"] {
        assert!(requests(opcode) < FILES / 2 + 40, "{} of {opcode}", requests(opcode));
    }
    assert!(requests("GETXATTR") + requests("GETATTR") < FILES / 2, "{}", requests("GETXATTR"));
}

fn listing(stage: &Stage) {
    let requests = requests(stage, "ls -l /data/files >/dev/null");
    assert_eq!(requests("READDIRPLUS"), 1);
    assert_eq!(requests("OPENDIR") + requests("RELEASEDIR") + requests("READDIR"), 0);
    assert!(requests("LOOKUP") < FILES, "{}", requests("LOOKUP"));
}

fn removing(stage: &Stage) {
    let requests = requests(stage, "rm -r /data/files");
    assert_eq!(requests("UNLINK"), FILES);
    let others = ["GETATTR", "GETXATTR", "LOOKUP", "OPENDIR", "READDIRPLUS", "RELEASEDIR"];
    let others: u64 = others.into_iter().map(requests).sum();
    assert!(others < FILES, "{others} other requests");
}

/// perl reads 32 KiB at a time: most of the entries of the second directory come from later reads.
fn reading_in_parts(stage: &Stage) {
    let data = stage.directory("data");
    for (directory, files) in [("few", 300), ("many", 5000)] {
        let directory = data.join(directory);
        fs::create_dir(&directory).expect("a directory");
        for file in 0..files {
            fs::write(directory.join(format!("{file:0100}")), "").expect("a file");
        }
    }
    let script = r#"for my $name ("few", "many") {
        opendir my $dir, "/data/$name" or die;
        my (%seen, $place);
        for (1 .. 100) { $seen{readdir $dir} = 1; }
        $place = telldir $dir;
        my $next = readdir $dir;
        while (defined(my $entry = readdir $dir)) { die "twice: $entry" if $seen{$entry}++; }
        $seen{$next} = 1;
        my $all = keys %seen;
        seekdir $dir, $place;
        my $same = readdir($dir) eq $next ? "same" : "other";
        unlink "/data/$name/$next" or die;
        rewinddir $dir;
        my $rest = () = readdir $dir;
        print "$name: $all, $same, $rest\n";
    }"#;
    let output = stage.shared(Image::Debian, &["perl", "-e", script]).bind(&data, "/data", &["rbind"]).run();
    output.assert(0, "few: 302, same, 301\nmany: 5002, same, 5001\n");
}

/// What a file's capabilities were a moment ago is not what counts.
fn capabilities(stage: &Stage) {
    let data = stage.directory("data");
    let script = r#"use strict; my ($set, $get) = (188, 191);
        my $caps = pack "V5", 0x02000001, 1 << 10, 0, 0, 0;
        my ($path, $name, $room) = ("/data/file", "security.capability", "\0" x 20);
        my $has = sub { syscall($get, $path, $name, $room, 20) == 20 ? "y" : "n" };
        my $give = sub { syscall($set, $path, $name, $caps, 20, 0) == 0 or die $! };
        use Fcntl; sysopen my $file, "/data/file", O_WRONLY | O_CREAT | O_EXCL or die $!;
        print $has->(); $give->(); print $has->();
        syswrite $file, "x"; print $has->(); $give->(); print $has->();
        chown 1000, 1000, "/data/file" or die $!; print $has->(); $give->(); print $has->();
        truncate "/data/file", 0 or die $!; print $has->(), "\n";"#;
    let bundle = stage.shared(Image::Debian, &["perl", "-e", script]).bind(&data, "/data", &["rbind"]);
    bundle.run().assert(0, "nynynyn\n");
}
